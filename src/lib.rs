//! vit-onnx: an ONNX graph compiler and exporter for Vision Transformers.
pub mod ir;
pub mod onnx;
pub mod weights;
