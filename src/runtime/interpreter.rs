//! The built-in engine: raises a file back into a graph and interprets it.
//!
//! It runs everything that this tool emits, slowly. It replaces ONNX Runtime where there is none and is the second
//! opinion in tests.

use super::bound::{Keep, Plan};
use super::{Bound, Engine, EngineError, Port, PortDim, Session, SessionOptions, check_inputs};
use crate::eval;
use crate::ir::Tensor;
use crate::lower;
use crate::onnx::{self, Model};
use crate::ops::Graph;
use std::collections::HashMap;
use std::path::Path;

/// The built-in interpreter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interpreter;

impl Engine for Interpreter {
    fn name(&self) -> String {
        format!("built-in interpreter {}", env!("CARGO_PKG_VERSION"))
    }

    fn load(&self, model: &Path, options: &SessionOptions) -> Result<Box<dyn Session>, EngineError> {
        if let Some(p) = options.providers.iter().find(|p| **p != super::Provider::Cpu) {
            let reason = "it runs on the CPU only".to_owned();
            return Err(EngineError::Provider { provider: *p, engine: self.name(), reason });
        }
        if options.profile.is_some() {
            let reason = "it writes no profiles; use ONNX Runtime (`--engine ort`)".to_owned();
            return Err(EngineError::Unavailable { engine: self.name(), reason });
        }
        let bad = |reason: String| EngineError::Model { path: model.to_owned(), reason };
        let file = onnx::read(model).map_err(|e| bad(e.to_string()))?;
        let raised = lower::raise(&file).map_err(|e| bad(e.to_string()))?;
        let (graph, params) = (raised.graph, raised.params);
        let port = |name: &str, v| {
            let ty = graph.ty(v);
            let dim = |d: &crate::ir::Dim| d.size().map_or_else(|| PortDim::Symbol(d.to_string()), PortDim::Known);
            Port { name: name.to_owned(), dtype: ty.dtype, shape: ty.shape.iter().map(dim).collect() }
        };
        let inputs = graph.inputs().iter().map(|i| port(&i.name, i.value)).collect();
        let outputs = graph.outputs().iter().map(|o| port(&o.name, o.value)).collect();
        Ok(Box::new(Loaded { file, graph, params, inputs, outputs }))
    }
}

struct Loaded {
    file: Model,
    graph: Graph,
    params: HashMap<String, usize>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

impl Session for Loaded {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }
    fn outputs(&self) -> &[Port] {
        &self.outputs
    }
    fn run(&mut self, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, EngineError> {
        check_inputs(&self.inputs, inputs)?;
        self.eval(inputs.iter().map(|(n, t)| (n.as_str(), t.clone())).collect())
    }

    fn bind(self: Box<Self>, carried: &[(&str, &str)], start: &[(String, Tensor)]) -> Result<Bound, EngineError> {
        let (plan, values) = Plan::new(&self.inputs, &self.outputs, carried, start)?;
        Ok(Bound::new(plan, Box::new(Kept { loaded: *self, values })))
    }
}

impl Loaded {
    fn eval(&self, given: Vec<(&str, Tensor)>) -> Result<Vec<(String, Tensor)>, EngineError> {
        let mut param = |path: &str, _: &crate::ir::TensorType| {
            let i = &self.file.graph.initializers[self.params[path]];
            lower::tensor(i).ok_or_else(|| "its bytes do not fit its shape".to_owned())
        };
        eval::run(&self.graph, &mut param, &given).map_err(|e| failed(e.to_string()))
    }
}

fn failed(reason: String) -> EngineError {
    EngineError::Run { engine: Interpreter.name(), reason }
}

/// A session with the values that it carries, in the order of the plan.
struct Kept {
    loaded: Loaded,
    values: Vec<Tensor>,
}

impl Keep for Kept {
    fn step(&mut self, plan: &Plan, data: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, EngineError> {
        let kept = plan.carried.iter().zip(&self.values).map(|(c, t)| (c.input.name.as_str(), t.clone()));
        let mut outputs = self.loaded.eval(kept.chain(data.iter().map(|(n, t)| (n.as_str(), t.clone()))).collect())?;
        let mut after = Vec::new();
        for (c, before) in plan.carried.iter().zip(&self.values) {
            let i = outputs.iter().position(|(n, _)| *n == c.output).expect("the plan names outputs of the model");
            let (_, value) = outputs.remove(i);
            if value.shape() != before.shape() {
                let (expected, found, name) = (before.shape(), value.shape(), &c.output);
                return Err(failed(format!("carried output `{name}`: expected shape {expected:?}, found {found:?}")));
            }
            after.push(value);
        }
        self.values = after;
        Ok(outputs)
    }

    fn get(&self, _: &Plan, i: usize) -> Result<Tensor, EngineError> {
        Ok(self.values[i].clone())
    }

    fn set(&mut self, i: usize, value: &Tensor) -> Result<(), EngineError> {
        self.values[i] = value.clone();
        Ok(())
    }
}
