//! Chooses the engine and the providers that run a model, as the command line and the file ask.

use super::args::{EngineArgs, EngineChoice};
use super::{Exit, Failure, files, output};
use crate::compile::metadata;
use crate::ir::Tensor;
use crate::onnx;
use crate::runtime::{Engine, Interpreter, Provider, Session, SessionOptions};
use crate::target::Target;
use std::path::Path;

/// Loads a model with the requested engine. Returns the engine's name too.
pub(super) fn load(model: &Path, a: &EngineArgs) -> Result<(String, Box<dyn Session>), Failure> {
    files::model(model)?;
    let built_for = built_for(model, a);
    let providers = built_for.as_ref().map_or_else(|| a.provider.clone(), |(_, p)| p.to_vec());
    let loaded =
        choose(a, &providers).and_then(|engine| Ok((engine.name(), engine.load(model, &options(a, providers))?)));
    let (name, session) = loaded.map_err(|f| match &built_for {
        Some((target, _)) if f.exit == Exit::Unavailable && !f.message.contains(CPU) => {
            let at = model.display();
            Failure::new(f.exit, format!("{}\n{at} was built for {target}; run it on the CPU with {CPU}", f.message))
        }
        _ => f,
    })?;
    if let Some(placement) = session.placement() {
        output::say(format_args!("{}: {placement}", model.display()));
    }
    Ok((name, session))
}

/// Runs a model. NaN in an output is an error.
pub(super) fn run(session: &mut dyn Session, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, Failure> {
    let outputs = session.run(inputs)?;
    refuse_nan(&outputs)?;
    Ok(outputs)
}

/// Returns an error that names the outputs with NaN, if there are any.
pub(super) fn refuse_nan(outputs: &[(String, Tensor)]) -> Result<(), Failure> {
    let with_nan = outputs.iter().filter(|(_, t)| t.dtype().is_float()).filter_map(|(name, t)| {
        let n = t.to_f64_vec().into_iter().filter(|x| x.is_nan()).count();
        (n > 0).then(|| format!("output `{name}` ({n} of {} values)", t.len()))
    });
    let found = with_nan.collect::<Vec<_>>().join(", ");
    if found.is_empty() {
        return Ok(());
    }
    let next = "check the inputs and the weights for NaN and very large numbers";
    Err(Failure::bad_file(format!("NaN in {found}; {next}")))
}

/// A session with these providers, otherwise as asked.
pub(super) fn options(a: &EngineArgs, providers: Vec<Provider>) -> SessionOptions {
    SessionOptions { threads: a.threads, providers, allow_cpu_nodes: a.allow_cpu_nodes, ..SessionOptions::default() }
}

/// Runs any model on the CPU, as users type it.
const CPU: &str = "--provider cpu";

/// The target that the file names and its providers, where these decide: no `--provider` is given, the interpreter is
/// not asked for, and the target is of an accelerator.
fn built_for(model: &Path, a: &EngineArgs) -> Option<(&'static Target, &'static [Provider])> {
    if !a.provider.is_empty() || a.engine == EngineChoice::Interpreter {
        return None;
    }
    // A file that cannot be read here is the engine's to judge.
    let file = onnx::read_without_data(model).ok()?;
    let target = Target::find(files::metadata(&file, metadata::TARGET)?).ok()?;
    let providers: &[Provider] = match target {
        t if t == Target::ORT_CUDA => &[Provider::Cuda],
        t if t == Target::TENSORRT => &[Provider::TensorRt, Provider::Cuda],
        _ => return None,
    };
    Some((target, providers))
}

/// The engine: a library that was named must work, one that was looked for may be absent unless a provider needs it.
pub(super) fn choose(a: &EngineArgs, providers: &[Provider]) -> Result<Box<dyn Engine>, Failure> {
    match a.engine {
        EngineChoice::Interpreter => Ok(Box::new(Interpreter)),
        EngineChoice::Ort => ort(a),
        EngineChoice::Auto => {
            let named = a.ort_lib.is_some() || std::env::var_os("ORT_DYLIB_PATH").is_some_and(|v| !v.is_empty());
            let needed = named || providers.iter().any(|p| *p != Provider::Cpu);
            match ort(a) {
                Err(f) if needed || f.exit != Exit::Unavailable => Err(f),
                Err(_) => {
                    output::note("no ONNX Runtime was found (see `vit-onnx doctor`): using the built-in interpreter");
                    Ok(Box::new(Interpreter))
                }
                found => found,
            }
        }
    }
}

#[cfg(feature = "runtime")]
fn ort(a: &EngineArgs) -> Result<Box<dyn Engine>, Failure> {
    use crate::runtime::ort::{OrtEngine, Search};
    Ok(Box::new(OrtEngine::discover(&Search::new(a.ort_lib.clone()))?))
}

#[cfg(not(feature = "runtime"))]
fn ort(_: &EngineArgs) -> Result<Box<dyn Engine>, Failure> {
    Err(Failure::new(Exit::Unavailable, "this program was built without ONNX Runtime; use --engine interpreter"))
}
