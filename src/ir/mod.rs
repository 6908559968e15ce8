//! What a graph is. Knows no ONNX, no files, no passes.
mod dtype;
mod tensor;
pub use dtype::DType;
pub use tensor::{Array, Element, Literal, Tensor};
