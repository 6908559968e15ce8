//! Layers used by two or more variants: functions from a scope and handles to a handle.
//!
//! A layer's parameters are named by its scope exactly as the original package names them, so
//! importing a checkpoint is the identity. Formulas are spelled in primitives; recognising a fused
//! op in them is the passes' business.

mod attention;
mod chunked_feed_forward;
mod context;
mod conv;
mod embedding;
mod feed_forward;
mod linear;
mod norm;
mod patch;
mod positions;
mod rotary;
mod transformer;
mod unfold;

pub use attention::{Attention, attention, attention_to_out, merge_heads, scaled_dot_product, split_heads};
pub use chunked_feed_forward::chunked_feed_forward;
pub use context::context_qkv;
pub use conv::{conv2d, conv2d_no_bias, depthwise, depthwise_no_bias, map_to_tokens, pointwise, pointwise_no_bias};
pub use embedding::class_and_positions;
pub use feed_forward::{feed_forward, gelu};
pub use linear::{linear, linear_no_bias};
pub use norm::{batch_norm2d, channel_norm, layer_norm, unit_offset_norm};
pub use patch::{patch_embedding, patches, prepend_class_token};
pub use positions::{Fit, patch_grid, positions, resample};
pub use rotary::{axial_angles, linspace, rotate};
pub use transformer::{Transformer, transformer};
pub use unfold::unfold;

use crate::build::Scope;
use std::fmt;

/// Which vit-pytorch architecture: names and some formulas differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Release {
    /// vit-pytorch 0.16, the era of the original README.
    V0_16,
    /// Current releases (1.x).
    V1,
}

impl Release {
    /// Both, oldest first.
    pub const ALL: [Self; 2] = [Self::V0_16, Self::V1];

    /// As model files write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V0_16 => "0.16",
            Self::V1 => "1",
        }
    }

    /// Where the body of a pre-norm block lives: 0.16 wraps it (`PreNorm.fn`), 1 does not.
    pub fn body(self, s: Scope<'_>) -> Scope<'_> {
        match self {
            Self::V0_16 => s.at("fn"),
            Self::V1 => s,
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
