//! Ops that are formulas in the vocabulary of primitives.
//!
//! Each formula is written once, as a generic function over [`Vocab`](super::Vocab), and serves as
//! decomposition, value, gradient and left-hand side of the fusion rule. The type rule is written out, because every
//! node that is added asks for it; the conformance suite compares it with the types of the formula.

mod activation;
mod attention;
mod fused_matmul;
mod layer_norm;

pub use activation::{Activation, ActivationKind, gelu, hard_swish};
pub use attention::{Attention, sdpa};
pub use fused_matmul::{FusedMatMul, fused_matmul};
pub use layer_norm::{LayerNormalization, layer_norm};

use super::{EvalError, Graph, OpDef};
use crate::build::Builder;
use crate::eval;
use crate::ir::{Stage, Tensor, TensorType, TypeError};

/// The definition as a graph, with operands `0, 1, …` as inputs.
fn graph(op: &dyn OpDef, x: impl Iterator<Item = TensorType>) -> Result<Graph, TypeError> {
    let b = Builder::new("", Stage::Built);
    let x: Vec<_> = x.enumerate().map(|(i, t)| b.input(&i.to_string(), t)).collect();
    let y = op.definition(&x).ok_or_else(|| TypeError(format!("does not take {} operands", x.len())))?;
    for (i, &y) in y.iter().enumerate() {
        b.output(&i.to_string(), y);
    }
    b.finish().map_err(|e| TypeError(e.0.first().map_or_else(String::new, |d| d.message.clone())))
}

/// The value of a definition.
pub(super) fn evaluate(op: &dyn OpDef, x: &[Tensor]) -> Result<Vec<Tensor>, EvalError> {
    let g = graph(op, x.iter().map(|t| TensorType::new(t.dtype(), t.shape()))).map_err(|e| EvalError(e.0))?;
    let names: Vec<String> = (0..x.len()).map(|i| i.to_string()).collect();
    let inputs: Vec<(&str, Tensor)> = names.iter().map(String::as_str).zip(x.iter().cloned()).collect();
    let no_param = &mut |path: &str, _: &TensorType| Err(format!("definitions have no parameters, found `{path}`"));
    let y = eval::run(&g, no_param, &inputs).map_err(|e| EvalError(e.to_string()))?;
    Ok(y.into_iter().map(|(_, t)| t).collect())
}
