//! Scaled dot-product attention, with and without an additive bias, becomes Attention.

use crate::build::T;
use crate::ops::{Attention, Op, composite};
use crate::rewrite::{Match, Refuse, Rule};

/// Plain and biased.
pub(super) const RULES: &[Rule] = &[SDPA, SDPA_BIAS];

const SDPA: Rule = Rule {
    name: "sdpa",
    doc: "softmax(q·kᵀ·scale)·v becomes Attention (arXiv 1706.03762)",
    lhs: |x| composite::sdpa(x.any("q"), x.any("k"), x.any("v"), x.scalar("scale"), None),
    when: one_batch,
    rhs: |m, var| emit(m, &[var("q"), var("k"), var("v")], false),
    hint: Some(|op| matches!(op, Op::Softmax(_))),
};

const SDPA_BIAS: Rule = Rule {
    name: "sdpa-bias",
    doc: "softmax(q·kᵀ·scale + bias)·v becomes Attention with a bias",
    lhs: |x| composite::sdpa(x.any("q"), x.any("k"), x.any("v"), x.scalar("scale"), Some(x.any("bias"))),
    when: bias_broadcasts,
    rhs: |m, var| emit(m, &[var("q"), var("k"), var("v"), var("bias")], true),
    hint: None,
};

fn emit<'g>(m: &Match<'_>, x: &[T<'g>], bias: bool) -> T<'g> {
    x[0].builder().apply(Attention { scale: m.number("scale").into(), bias }, x)
}

/// Queries, keys and values agree in every leading axis: no broadcasting among them.
fn one_batch(m: &Match<'_>) -> Result<(), Refuse> {
    let ty = |name| m.graph.ty(m.value(name));
    let (q, k, v) = (ty("q"), ty("k"), ty("v"));
    if q.rank() != 4 || k.rank() != 4 || v.rank() != 4 {
        return Err(Refuse(format!("q, k, v are not [batch, heads, tokens, width]: {q}, {k}, {v}")));
    }
    if q.shape[..2] != k.shape[..2] || q.shape[..2] != v.shape[..2] {
        return Err(Refuse(format!("q, k, v differ in batch or heads: {q}, {k}, {v}")));
    }
    Ok(())
}

fn bias_broadcasts(m: &Match<'_>) -> Result<(), Refuse> {
    one_batch(m)?;
    let ty = |name| m.graph.ty(m.value(name));
    let (q, k, bias) = (ty("q"), ty("k"), ty("bias"));
    let scores = [q.shape[0].clone(), q.shape[1].clone(), q.shape[2].clone(), k.shape[2].clone()];
    let scores = crate::ir::Shape::from(scores.as_slice());
    if bias.shape.broadcast(&scores).as_ref() != Some(&scores) {
        return Err(Refuse(format!("bias {bias} does not broadcast to the scores {scores}")));
    }
    Ok(())
}
