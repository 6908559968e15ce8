//! ONNX models as plain structs, and the files they come from and go to.
//!
//! [`Model`] and its parts are plain structs. [`write()`] streams a model into an `.onnx` file, tensor by tensor; [`read`]
//! maps a file into memory; [`check`] lists the problems of a model; `Display` prints it for review. A file appears whole
//! or not at all, and the same model gives the same bytes.
//!
//! This is the only room that knows protobuf, and it knows nothing of our own graphs or of Vision Transformers.

mod check;
mod decode;
mod elem;
mod encode;
mod external;
mod model;
mod print;
mod proto;
mod read;
mod scan;
mod sink;
mod tensor;
#[cfg(test)]
mod tests;
mod version;
mod write;

pub use check::{Problem, check};
pub use decode::DecodeError;
pub use elem::ElemType;
pub use encode::EncodeError;
pub use external::{ExternalError, check_external};
pub use model::{Attribute, DimValue, Graph, Model, Node, ValueInfo};
pub use read::{ReadError, ReadErrorKind, read, read_without_data};
pub use tensor::{Initializer, TensorData};
pub use version::{OPSETS, ir_version_for};
pub use write::{External, WriteError, Written, write};
