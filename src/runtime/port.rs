//! Declared inputs and outputs of a model, and the check of tensors against them.
//!
//! Every engine checks through [`check_inputs`], so all of them report the same problems in the same
//! words, all at once.

use super::{EngineError, InputProblem};
use crate::ir::{DType, Tensor};
use std::collections::BTreeMap;
use std::fmt;

/// One declared dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortDim {
    /// A fixed size.
    Known(usize),
    /// A size chosen at run time. Dimensions of one model with the same name have the same size; the
    /// empty name is anonymous and equal to nothing.
    Symbol(String),
}

/// A declared input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Name in the model.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Sizes of the axes.
    pub shape: Vec<PortDim>,
}

impl fmt::Display for PortDim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(n) => write!(f, "{n}"),
            Self::Symbol(s) if s.is_empty() => f.write_str("?"),
            Self::Symbol(s) => f.write_str(s),
        }
    }
}

impl Port {
    /// Type and shape for people: `f32[batch, 3, 224, 224]`.
    pub fn signature(&self) -> String {
        signature(self.dtype, &self.shape)
    }
}

fn signature<D: fmt::Display>(dtype: DType, shape: &[D]) -> String {
    let dims: Vec<String> = shape.iter().map(ToString::to_string).collect();
    format!("{dtype}[{}]", dims.join(", "))
}

/// Checks `inputs` against the inputs that a model declares.
///
/// # Errors
/// [`EngineError::Inputs`] with every missing, unknown, repeated and wrongly typed or shaped input.
pub fn check_inputs(ports: &[Port], inputs: &[(String, Tensor)]) -> Result<(), EngineError> {
    let (problems, _) = problems(ports, inputs);
    if problems.is_empty() { Ok(()) } else { Err(EngineError::Inputs(problems)) }
}

/// Every way in which `inputs` do not fit `ports`, and the sizes of the symbols that those which fit decide.
pub(super) fn problems<'p>(
    ports: &'p [Port],
    inputs: &[(String, Tensor)],
) -> (Vec<InputProblem>, BTreeMap<&'p str, usize>) {
    let mut problems = Vec::new();
    let mut bound: BTreeMap<&str, usize> = BTreeMap::new();
    for port in ports {
        let mut given = inputs.iter().filter(|(name, _)| *name == port.name);
        let Some((name, tensor)) = given.next() else {
            problems.push(InputProblem::Missing { name: port.name.clone(), expected: port.signature() });
            continue;
        };
        if given.next().is_some() {
            problems.push(InputProblem::Repeated { name: name.clone() });
        }
        if !fits(port, tensor, &mut bound) {
            problems.push(InputProblem::Mismatch {
                name: name.clone(),
                expected: signature(
                    port.dtype,
                    &port.shape.iter().map(|d| with_binding(d, &bound)).collect::<Vec<_>>(),
                ),
                found: signature(tensor.dtype(), tensor.shape()),
            });
        }
    }
    let known = || ports.iter().map(|p| format!("`{}`", p.name)).collect::<Vec<_>>().join(", ");
    for (name, _) in inputs.iter().filter(|(name, _)| ports.iter().all(|p| p.name != *name)) {
        problems.push(InputProblem::Unknown { name: name.clone(), known: known() });
    }
    (problems, bound)
}

/// Whether the tensor fits, binding the symbols it decides. A tensor that does not fit binds nothing,
/// so that one wrong input is not reported as several.
fn fits<'p>(port: &'p Port, tensor: &Tensor, bound: &mut BTreeMap<&'p str, usize>) -> bool {
    if tensor.dtype() != port.dtype || tensor.rank() != port.shape.len() {
        return false;
    }
    let mut binding = bound.clone();
    for (dim, &size) in port.shape.iter().zip(tensor.shape()) {
        let expected = match dim {
            PortDim::Known(n) => *n,
            PortDim::Symbol(s) if s.is_empty() => size,
            PortDim::Symbol(s) => *binding.entry(s).or_insert(size),
        };
        if expected != size {
            return false;
        }
    }
    *bound = binding;
    true
}

fn with_binding(dim: &PortDim, bound: &BTreeMap<&str, usize>) -> String {
    match dim {
        PortDim::Symbol(s) if bound.contains_key(s.as_str()) => format!("{s}={}", bound[s.as_str()]),
        _ => dim.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, shape: &[PortDim]) -> Port {
        Port { name: name.into(), dtype: DType::F32, shape: shape.to_vec() }
    }
    fn symbol(s: &str) -> PortDim {
        PortDim::Symbol(s.into())
    }
    fn zeros(name: &str, shape: &[usize]) -> (String, Tensor) {
        (name.into(), Tensor::zeros(DType::F32, shape))
    }

    #[test]
    fn a_symbol_is_one_size_in_all_inputs() {
        let ports = [port("a", &[symbol("batch"), PortDim::Known(3)]), port("b", &[symbol("batch")])];
        assert!(check_inputs(&ports, &[zeros("b", &[2]), zeros("a", &[2, 3])]).is_ok());
        let e = check_inputs(&ports, &[zeros("a", &[2, 3]), zeros("b", &[4])]).expect_err("2 and 4 differ");
        assert_eq!(e.to_string(), "the inputs do not fit the model\n  input `b`: expected f32[batch=2], found f32[4]");
    }

    #[test]
    fn anonymous_sizes_are_independent() {
        let ports = [port("a", &[symbol(""), symbol("")])];
        assert!(check_inputs(&ports, &[zeros("a", &[2, 3])]).is_ok());
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let ports = [port("a", &[PortDim::Known(1)]), port("b", &[PortDim::Known(1)]), port("c", &[])];
        let inputs = [zeros("a", &[2]), zeros("c", &[]), zeros("c", &[]), zeros("d", &[])];
        let Err(EngineError::Inputs(problems)) = check_inputs(&ports, &inputs) else { panic!("four problems") };
        let kinds: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            kinds,
            [
                "input `a`: expected f32[1], found f32[2]",
                "missing input `b`: expected f32[1]",
                "input `c` is given more than once",
                "unknown input `d`: the model takes `a`, `b`, `c`",
            ]
        );
    }

    #[test]
    fn element_types_are_not_converted() {
        let ports = [port("a", &[])];
        let inputs = [("a".to_owned(), Tensor::scalar(1i64))];
        assert!(check_inputs(&ports, &inputs).is_err());
    }
}
