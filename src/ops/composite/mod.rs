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

use super::{EvalError, OpDef};
use crate::build::{Builder, T};
use crate::eval;
use crate::ir::{Stage, Tensor, TensorType};

/// The value of a definition, as a graph with operands `0, 1, …` as inputs.
pub(super) fn evaluate(op: &dyn OpDef, x: &[Tensor]) -> Result<Vec<Tensor>, EvalError> {
    let b = Builder::new("", Stage::Built);
    let names: Vec<String> = (0..x.len()).map(|i| i.to_string()).collect();
    let inputs: Vec<(&str, Tensor)> = names.iter().map(String::as_str).zip(x.iter().cloned()).collect();
    let handles: Vec<T<'_>> =
        inputs.iter().map(|(name, t)| b.input(name, TensorType::new(t.dtype(), t.shape()))).collect();
    let y = op.definition(&handles).ok_or_else(|| EvalError(format!("does not take {} operands", x.len())))?;
    y.iter().enumerate().for_each(|(i, &y)| b.output(&i.to_string(), y));
    let g = b.finish().map_err(|e| EvalError(e.0.first().map_or_else(String::new, |d| d.message.clone())))?;
    let no_param = &mut |path: &str, _: &TensorType| Err(format!("definitions have no parameters, found `{path}`"));
    let y = eval::run(&g, no_param, &inputs).map_err(|e| EvalError(e.to_string()))?;
    Ok(y.into_iter().map(|(_, t)| t).collect())
}
