//! Layers used by two or more variants: functions from a scope and handles to a handle.
//!
//! A layer's parameters are named below its scope as the newest release of the original package names them; the scope
//! knows the names of older ones. Formulas are spelled in primitives; passes recognize fused ops in them.

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

pub use attention::{Heads, attention, attention_to_out, merge_heads, scaled_dot_product, split_heads};
pub use chunked_feed_forward::chunked_feed_forward;
pub use context::context_qkv;
pub use conv::{conv2d, conv2d_no_bias, depthwise, depthwise_no_bias, map_to_tokens, pointwise, pointwise_no_bias};
pub use embedding::class_and_positions;
pub use feed_forward::{feed_forward, gelu};
pub use linear::{linear, linear_no_bias, normed_linear};
pub use norm::{batch_norm2d, channel_norm, deviation_norm, layer_norm};
pub use patch::{patch_embedding, patches, prepend_class_token};
pub use positions::{Fit, patch_grid, positions, resample};
pub use rotary::{axial_angles, linspace, rotate};
pub use transformer::{Transformer, transformer};
pub use unfold::unfold;
