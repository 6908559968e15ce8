//! Photographs as inputs of models, and pictures of their attention.
//!
//! Preprocessing agrees with Pillow and torchvision pixel by pixel, because models are trained with
//! them. The settings ([`Preprocessing`]) are part of the model file.
//!
//! This room knows no graphs and no engines, only pixels and [`crate::ir::Tensor`].

mod colormap;
mod decode;
mod heat;
mod preprocess;
mod resample;
mod saliency;

pub use decode::{MAX_PIXELS, PhotoError, decode, open};
pub use heat::{HeatOptions, draw, format, write};
pub use preprocess::{Interpolation, Prepared, Preprocessing, PreprocessingError, ResizeMode, Resizing};
pub use saliency::{AttentionError, AttentionLayout, Tokens, rollout, split_layers};
