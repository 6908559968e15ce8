//! A model loaded into ONNX Runtime.
//!
//! A provider that was asked for is registered or loading fails, and it runs every node or loading fails; the CPU is
//! never a silent substitute.

use super::OrtEngine;
use super::bound::Kept;
use super::carry::{port, tensor, value};
use super::placement::Listener;
use crate::ir::Tensor;
use crate::runtime::bound::Plan;
use crate::runtime::placement::counts;
use crate::runtime::{
    Bound, Engine as _, EngineError, Placement, Port, Provider, Session, SessionOptions, check_inputs,
};
use ::ort::ep::{CUDA, ExecutionProviderDispatch, TensorRT};
use ::ort::logging::LogLevel;
use ::ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ::ort::session::{RunOptions, Session as Native};
use ::ort::value::Outlet;
use std::path::{Path, PathBuf};

pub(super) struct OrtSession {
    pub(super) native: Native,
    /// Name of the engine, for messages.
    pub(super) engine: String,
    /// Whether a provider other than the CPU runs the model.
    pub(super) accelerated: bool,
    /// Keeps the log of a session whose placement was read from being written at every run.
    pub(super) quiet: RunOptions,
    placement: Option<Placement>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    profiled: bool,
}

impl OrtSession {
    /// Loads with the providers asked for, in order; the CPU runs what they cannot.
    pub(super) fn load(engine: &OrtEngine, model: &Path, options: &SessionOptions) -> Result<Self, EngineError> {
        for &provider in &options.providers {
            if !engine.providers().contains(&provider) {
                let reason = format!("{} was built without it", engine.library().path.display());
                return Err(EngineError::Provider { provider, engine: engine.name(), reason });
            }
        }
        if !model.is_file() {
            let reason = if model.exists() { "not a regular file" } else { "no such file" };
            return Err(model_error(model, reason));
        }
        // The CPU can run everything, so nothing after it in the order of preference is ever reached.
        let accelerators = || options.providers.iter().copied().take_while(|p| *p != Provider::Cpu);
        let listener = (!options.providers.is_empty()).then(Listener::default);
        let mut builder = base(engine, options, listener.as_ref())?;
        for provider in accelerators() {
            builder = builder.with_execution_providers([dispatch(provider)]).map_err(|e| EngineError::Provider {
                provider,
                engine: engine.name(),
                reason: said(&e),
            })?;
        }
        let loads_on_cpu = || {
            let plain = base(engine, &SessionOptions::default(), None);
            plain.is_ok_and(|mut b| b.commit_from_file(model).is_ok())
        };
        let native = builder.commit_from_file(model).map_err(|e| {
            let reason = said(&e);
            match accelerators().next() {
                // The runtime reports a missing device and a bad model alike; a model that loads on
                // the CPU is not at fault.
                Some(provider) if loads_on_cpu() => EngineError::Provider { provider, engine: engine.name(), reason },
                _ => model_error(model, reason),
            }
        })?;
        let ports = |outlets: &[Outlet]| {
            outlets.iter().map(|o| port(o).map_err(|reason| model_error(model, reason))).collect::<Result<Vec<_>, _>>()
        };
        let (inputs, outputs) = (ports(native.inputs())?, ports(native.outputs())?);
        let placement = listener.and_then(Listener::placement);
        let (accelerated, profiled) = (accelerators().next().is_some(), options.profile.is_some());
        if accelerated && !options.allow_cpu_nodes && !options.providers.contains(&Provider::Cpu) {
            let asked: Vec<&str> = options.providers.iter().map(|p| p.name()).collect();
            refuse_cpu_nodes(placement.as_ref(), &asked.join(", "))
                .map_err(|reason| EngineError::CpuNodes { engine: engine.name(), reason })?;
        }
        let quiet = || -> Result<RunOptions, ::ort::Error> {
            let mut options = RunOptions::new()?;
            options.set_log_level(LogLevel::Fatal)?;
            Ok(options)
        };
        let quiet = quiet().map_err(|e| unavailable(engine, &e))?;
        Ok(Self { native, engine: engine.name(), accelerated, quiet, placement, inputs, outputs, profiled })
    }

    pub(super) fn failed(&self, e: &::ort::Error) -> EngineError {
        EngineError::Run { engine: self.engine.clone(), reason: said(e) }
    }
}

impl Session for OrtSession {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn placement(&self) -> Option<&Placement> {
        self.placement.as_ref()
    }

    fn run(&mut self, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, EngineError> {
        check_inputs(&self.inputs, inputs)?;
        let engine = &self.engine;
        let failed = |e: ::ort::Error| EngineError::Run { engine: engine.clone(), reason: said(&e) };
        let values = inputs
            .iter()
            .map(|(name, tensor)| Ok((name.as_str(), value(tensor)?)))
            .collect::<Result<Vec<_>, ::ort::Error>>()
            .map_err(failed)?;
        let mut results = self.native.run_with_options(values, &self.quiet).map_err(failed)?;
        self.outputs
            .iter()
            .map(|port| {
                let value = results.remove(&port.name).ok_or_else(|| EngineError::Run {
                    engine: engine.clone(),
                    reason: format!("it gave no output `{}`", port.name),
                })?;
                Ok((port.name.clone(), tensor(port.dtype, &value).map_err(failed)?))
            })
            .collect()
    }

    fn bind(self: Box<Self>, carried: &[(&str, &str)], start: &[(String, Tensor)]) -> Result<Bound, EngineError> {
        let (plan, values) = Plan::new(&self.inputs, &self.outputs, carried, start)?;
        let kept = Kept::new(*self, &plan, &values)?;
        Ok(Bound::new(plan, Box::new(kept)))
    }

    fn end_profile(&mut self) -> Result<Option<PathBuf>, EngineError> {
        if !std::mem::take(&mut self.profiled) {
            return Ok(None);
        }
        self.native.end_profiling().map(|path| Some(path.into())).map_err(|e| self.failed(&e))
    }
}

fn base(
    engine: &OrtEngine,
    options: &SessionOptions,
    listener: Option<&Listener>,
) -> Result<SessionBuilder, EngineError> {
    let set_up = || -> Result<SessionBuilder, ::ort::Error> {
        let mut builder =
            Native::builder(engine.environment())?.with_optimization_level(GraphOptimizationLevel::All)?;
        if let Some(n) = options.threads {
            builder = builder.with_intra_threads(n)?;
        }
        if options.shares_processors {
            builder = builder.with_config_entry("session.force_spinning_stop", "1")?;
        }
        if let Some(path) = &options.profile {
            builder = builder.with_profiling(path)?;
        }
        if let Some(listener) = listener {
            builder = builder.with_logger(listener.logger())?.with_log_level(LogLevel::Verbose)?;
        }
        Ok(builder)
    };
    set_up().map_err(|e| unavailable(engine, &e))
}

/// Why a session must not run as it is placed, if it must not.
fn refuse_cpu_nodes(placement: Option<&Placement>, asked: &str) -> Result<(), String> {
    let Some(placement) = placement else {
        return Err(format!("the runtime does not say which nodes {asked} cannot run"));
    };
    match placement.only_on_cpu() {
        (0, _) => Ok(()),
        (n, ops) => {
            let which = if ops.is_empty() { String::new() } else { format!(" ({})", counts(&ops)) };
            Err(format!("{asked} cannot run {n} of the {} nodes{which}", placement.nodes()))
        }
    }
}

fn unavailable<R>(engine: &OrtEngine, e: &::ort::Error<R>) -> EngineError {
    EngineError::Unavailable { engine: engine.name(), reason: said(e) }
}

fn dispatch(provider: Provider) -> ExecutionProviderDispatch {
    match provider {
        Provider::Cpu => ::ort::ep::CPU::default().build(),
        Provider::Cuda => CUDA::default().build(),
        Provider::TensorRt => TensorRT::default().build(),
    }
    .error_on_failure()
}

/// What the runtime says, which may end in empty lines.
pub(super) fn said<R>(e: &::ort::Error<R>) -> String {
    e.message().trim().to_owned()
}

fn model_error(path: &Path, reason: impl Into<String>) -> EngineError {
    EngineError::Model { path: path.to_path_buf(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Placed;

    fn placed(provider: &str, ops: &[(&str, usize)], chosen: &[(&str, usize)]) -> Placed {
        let map = |l: &[(&str, usize)]| l.iter().map(|(op, n)| ((*op).to_owned(), *n)).collect();
        let nodes = ops.iter().map(|(_, n)| n).sum();
        Placed { provider: provider.to_owned(), nodes, ops: map(ops), chosen: map(chosen) }
    }

    #[test]
    fn nodes_that_only_the_cpu_can_run_are_refused() {
        let cuda = placed("cuda", &[("MatMul", 40), ("Add", 9)], &[]);
        let refused = |placed: Vec<Placed>| refuse_cpu_nodes(Some(&Placement { placed }), "cuda");
        assert_eq!(refused(vec![cuda.clone()]), Ok(()));
        assert_eq!(refused(vec![cuda.clone(), placed("cpu", &[("Gather", 2)], &[("Gather", 2)])]), Ok(()));
        let cpu = placed("cpu", &[("Gather", 2), ("Det", 1), ("Einsum", 3)], &[("Gather", 2)]);
        let e = refused(vec![cuda, cpu]).expect_err("Det and Einsum");
        assert_eq!(e, "cuda cannot run 4 of the 55 nodes (3 Einsum, 1 Det)");
        let all = Placed { provider: "cpu".to_owned(), nodes: 6, ..Placed::default() };
        assert_eq!(refused(vec![all]), Err("cuda cannot run 6 of the 6 nodes".to_owned()));
        assert!(refuse_cpu_nodes(None, "cuda").is_err());
    }
}
