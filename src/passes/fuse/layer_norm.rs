//! `(x − μ)/√(σ² + ε)·w + b` over the last axis becomes LayerNormalization.

use crate::ops::{LayerNormalization, composite};
use crate::rewrite::{Match, Refuse, Rule};

/// Layer normalisation with gain and bias (Ba et al. 2016, arXiv 1607.06450).
pub(super) const RULE: Rule = Rule {
    name: "layer-norm",
    doc: "(x − μ)/√(σ² + ε)·w + b over the last axis becomes LayerNormalization",
    lhs: |x| composite::layer_norm(x.any("x"), x.any("w"), x.any("b"), x.scalar("eps")),
    when: gain_and_bias_are_vectors,
    rhs: |m, var| {
        let op = LayerNormalization { epsilon: m.number("eps").into() };
        var("x").builder().apply(op, &[var("x"), var("w"), var("b")])
    },
    hint: None,
};

fn gain_and_bias_are_vectors(m: &Match<'_>) -> Result<(), Refuse> {
    let width = m.graph.ty(m.value("x")).shape.last().cloned();
    for name in ["w", "b"] {
        let ty = m.graph.ty(m.value(name));
        if ty.rank() != 1 || ty.shape.first() != width.as_ref() {
            return Err(Refuse(format!("`{name}` is {ty}, not a vector along the last axis")));
        }
    }
    if m.number("eps") < 0.0 {
        return Err(Refuse("eps is negative".into()));
    }
    Ok(())
}
