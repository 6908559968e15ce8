//! Decides for inference: dropout and stop-gradient vanish, batch norm becomes the affine map that
//! its running statistics say.
//!
//! First, because undecided ops hide the neighbours that later rules look for.
//! Before `y = batch_normalization x …`, after `y = x * (w / sqrt(var + eps)) + (b - mean * …)`,
//! whose factors depend on parameters only and so end in the weight program.

use super::{Ctx, Pass};
use crate::build::{BuildErrors, Builder, T};
use crate::ir::{Dim, Stage};
use crate::ops::{Op, Program};
use crate::rewrite::replay;

/// Decides for inference.
pub(super) const INFERENCE: Pass =
    Pass { name: "specialize", doc: "decides for inference: no dropout, batch norm as an affine map", run };

fn run(p: &Program, ctx: &mut Ctx) -> Result<Program, BuildErrors> {
    let b = Builder::new(&p.graph.name, Stage::Specialized);
    replay(&p.graph, &b, &mut |r, _, n| match &n.op {
        Op::Dropout(_) | Op::StopGradient(_) => {
            *ctx.counts.entry("inference-identity").or_default() += 1;
            Some(r.operands(n))
        }
        Op::BatchNormalization(bn) if !bn.training => {
            *ctx.counts.entry("batch-norm-affine").or_default() += 1;
            let [x, w, bias, mean, var] = r.operands(n).try_into().ok()?;
            Some(vec![affine(x, w, bias, mean, var, bn.epsilon.0)])
        }
        _ => None,
    });
    Ok(Program { graph: b.finish()?, weights: p.weights.clone() })
}

/// `x·s + (b − mean·s)` with `s = w / √(var + ε)` along axis 1.
fn affine<'g>(x: T<'g>, w: T<'g>, bias: T<'g>, mean: T<'g>, var: T<'g>, eps: f64) -> T<'g> {
    let scale = w / (var + eps).sqrt();
    let shift = bias - mean * scale;
    let mut to = vec![Dim::known(1); x.rank() - 1];
    to[0] = w.dim(0);
    x * scale.reshape(to.clone()) + shift.reshape(to)
}
