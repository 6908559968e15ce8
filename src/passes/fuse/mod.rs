//! Pattern rules, one idea in a file: composites recognized in the formulas that variants write out, and affine maps
//! folded into the weights before them. `legalize` decomposes a composite that a target cannot run as one op, so
//! recognizing loses nothing.

mod affine;
mod attention;
mod conv_bias;
mod gelu;
mod hard_swish;
mod layer_norm;

use super::Pass;

macro_rules! passes {
    ($($(#[$doc:meta])* $id:ident = $name:literal, $about:expr, [$($rule:expr),*];)*) => {$(
        $(#[$doc])*
        pub const $id: Pass = Pass {
            name: $name,
            doc: $about,
            rules: &[$($rule.row),*],
            required: false,
            run: |p, ctx| ctx.rewrite(p, &[$($rule),*]),
        };
    )*};
}

passes! {
    /// Recognizes LayerNormalization.
    LAYER_NORM = "fuse-layer-norm", "(x − μ)/√(σ² + ε)·w [+ b] over the last axis becomes LayerNormalization", [layer_norm::BIASED, layer_norm::PLAIN];
    /// Recognizes Gelu.
    GELU = "fuse-gelu", gelu::RULE.row.doc, [gelu::RULE];
    /// Recognizes HardSwish.
    HARD_SWISH = "fuse-hard-swish", hard_swish::RULE.row.doc, [hard_swish::RULE];
    /// Folds affine maps into convolutions and linear maps.
    AFFINE = "fold-affine", "affine maps move into the weights before them", [affine::BIASES, affine::SCALE];
    /// Attaches biases to convolutions.
    CONV_BIAS = "fuse-conv-bias", conv_bias::RULE.row.doc, [conv_bias::RULE];
    /// Recognizes Attention.
    ATTENTION = "fuse-attention", "softmax(q·kᵀ·scale [+ bias])·v becomes Attention", [attention::SDPA, attention::SDPA_BIAS];
}
