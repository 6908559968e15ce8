//! Recognises composites in the formulas that variants spell out. One rule a file; what a target
//! cannot run as one op is decomposed again by legalisation, so nothing is lost by recognising.

mod attention;
mod gelu;
mod hard_swish;
mod layer_norm;

use super::{Ctx, Pass};
use crate::build::BuildErrors;
use crate::ops::Program;
use crate::rewrite::Rule;

/// Recognises LayerNormalization.
pub const LAYER_NORM: Pass =
    Pass { name: "fuse-layer-norm", doc: layer_norm::RULE.doc, run: |p, ctx| fuse(p, ctx, &[layer_norm::RULE]) };
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
    let mut all = vec![layer_norm::RULE, gelu::RULE, hard_swish::RULE];
    all.extend(attention::RULES);
    all
}

fn fuse(p: &Program, ctx: &mut Ctx, rules: &[Rule]) -> Result<Program, BuildErrors> {
    ctx.rewrite(p, rules)
}
