//! Where parameter values come from and where they go: checkpoints read, names matched,
//! initial values generated, safetensors written.
//!
//! Invariant: one tensor at a time. Opening a checkpoint reads its table of contents only;
//! values are produced when asked for, and never more than a few of the largest are held.
//! This room knows nothing of graphs, variants or ONNX: a parameter is a path, a shape and a type.
mod checkpoint;
mod conclusion;
mod convert;
mod error;
mod evaluate;
mod import;
mod init;
mod open;
mod parts;
mod philox;
mod prefix;
mod pytorch;
mod report;
mod safetensors;
mod source;
mod state_dict;
mod stored_zip;
mod supply;
mod transpose;
mod write;

pub use checkpoint::Checkpoint;
pub use error::WeightError;
pub use import::{ImportOptions, Matching, ParamSpec, import};
pub use init::{Generator, fill};
pub use open::open;
pub use prefix::Announcement;
pub use pytorch::PyTorch;
pub use report::{Mismatch, Report};
pub use safetensors::Safetensors;
pub use source::{Entry, Place, Source, Stored, read, read_part, tensor};
pub use supply::{Supply, SupplyError, order};
pub use write::Writer;

/// What a graph wants of a checkpoint.
pub fn specs(g: &crate::ops::Graph) -> Vec<ParamSpec> {
    let spec = |p: &crate::ir::Param| {
        let ty = g.ty(p.value);
        let shape = ty.shape.known().expect("parameters have no symbolic sizes");
        ParamSpec { path: p.path.to_string(), shape, dtype: ty.dtype }
    };
    g.params().map(spec).collect()
}
