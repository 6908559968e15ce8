//! What a graph is. Knows no ONNX, no files, no passes.
mod dtype;
mod init;
mod real;
mod tensor;
pub use dtype::DType;
pub use init::Init;
pub use real::Real;
pub use tensor::{Array, Element, Literal, Tensor};
