//! vit-onnx: an ONNX graph compiler and exporter for Vision Transformers.
pub mod autodiff;
pub mod build;
pub mod eval;
pub mod image;
pub mod ir;
pub mod nn;
pub mod ops;
pub mod passes;
pub mod rewrite;
pub mod runtime;
pub mod template;
pub mod text;
pub mod variants;
pub mod weights;
