//! Recognises composites in the formulas that variants spell out. One rule a file; what a target
//! cannot run as one op is decomposed again by legalisation, so nothing is lost by recognising.

mod attention;
mod conv_bias;
mod gelu;
mod hard_swish;
mod layer_norm;

use super::{Ctx, Pass};
use crate::build::BuildErrors;
use crate::ops::Program;
use crate::rewrite::Rule;

/// Attaches biases to convolutions.
pub const CONV_BIAS: Pass =
    Pass { name: "fuse-conv-bias", doc: conv_bias::RULE.doc, run: |p, ctx| fuse(p, ctx, &[conv_bias::RULE]) };
/// Recognises LayerNormalization.
pub const LAYER_NORM: Pass = Pass {
    name: "fuse-layer-norm",
    doc: "(x − μ)/√(σ² + ε)·w [+ b] over the last axis becomes LayerNormalization",
    run: |p, ctx| fuse(p, ctx, layer_norm::RULES),
};
/// Recognises Gelu.
pub const GELU: Pass = Pass { name: "fuse-gelu", doc: gelu::RULE.doc, run: |p, ctx| fuse(p, ctx, &[gelu::RULE]) };
/// Recognises HardSwish.
pub const HARD_SWISH: Pass =
    Pass { name: "fuse-hard-swish", doc: hard_swish::RULE.doc, run: |p, ctx| fuse(p, ctx, &[hard_swish::RULE]) };
/// Recognises Attention.
pub const ATTENTION: Pass = Pass {
    name: "fuse-attention",
    doc: "softmax(q·kᵀ·scale [+ bias])·v becomes Attention",
    run: |p, ctx| fuse(p, ctx, attention::RULES),
};

/// Every fusion rule.
pub fn rules() -> Vec<Rule> {
    let mut all = vec![conv_bias::RULE, gelu::RULE, hard_swish::RULE];
    all.extend(layer_norm::RULES.iter().chain(attention::RULES));
    all
}

fn fuse(p: &Program, ctx: &mut Ctx, rules: &[Rule]) -> Result<Program, BuildErrors> {
    ctx.rewrite(p, rules)
}
