//! vit-onnx: an ONNX graph compiler and exporter for Vision Transformers.
pub mod image;
pub mod ir;
pub mod runtime;
