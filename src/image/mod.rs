//! Photographs in, pictures out: what a model is shown, and what it looked at.
//!
//! Preprocessing agrees with Pillow and torchvision pixel by pixel, because that is what models were
//! trained with; how an image is prepared ([`Preprocessing`]) travels inside the model file.
//!
//! Knows no graphs and no engines: its currency is pixels and [`crate::ir::Tensor`].

mod colormap;
mod decode;
mod heat;
mod preprocess;
mod resample;
mod saliency;

pub use decode::{MAX_PIXELS, PhotoError, decode, open};
pub use heat::{HeatOptions, draw, write_png};
pub use preprocess::{Interpolation, Prepared, Preprocessing, PreprocessingError, ResizeMode, Resizing};
pub use saliency::{AttentionError, AttentionLayout, Tokens, rollout, split_layers};
