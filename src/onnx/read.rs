//! Reads an `.onnx` file by mapping it into memory.
//!
//! Tensor bytes stay in the file until they are used. Memory is bounded by a small multiple of the size of the file
//! without its tensor bytes.

use super::external::Folder;
use super::{Attribute, DecodeError, ExternalError, Model, decode};
use crate::weights::map::map;
use std::io;
use std::path::{Path, PathBuf};

/// An error of [`read`].
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {kind}", path.display())]
pub struct ReadError {
    /// The model file.
    pub path: PathBuf,
    /// The kind of error.
    pub kind: ReadErrorKind,
}

/// The kinds of [`ReadError`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadErrorKind {
    /// The file cannot be read, or the path is not a file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is not a sound model.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The external data are missing or do not fit.
    #[error(transparent)]
    External(#[from] ExternalError),
}

/// Reads a model with all its tensors, external ones included.
pub fn read(path: &Path) -> Result<Model, ReadError> {
    let mut model = read_without_data(path)?;
    resolve(&mut model, path).map_err(|e| ReadError { path: path.to_path_buf(), kind: e.into() })?;
    Ok(model)
}

/// Reads the model file only: external tensors stay references, and their files need not exist.
pub fn read_without_data(path: &Path) -> Result<Model, ReadError> {
    let fail = |kind| ReadError { path: path.to_path_buf(), kind };
    let file = map(path).map_err(|e| fail(e.into()))?;
    decode::decode(file).map_err(|e| fail(e.into()))
}

/// Replaces references to external data by the bytes, for a model whose file is at `path`.
pub(super) fn resolve(model: &mut Model, path: &Path) -> Result<(), ExternalError> {
    let mut folder = Folder::of(path);
    let attributes = model.graph.nodes.iter_mut().flat_map(|node| &mut node.attributes);
    let constants = attributes.filter_map(|(_, value)| if let Attribute::Tensor(t) = value { Some(t) } else { None });
    model.graph.initializers.iter_mut().chain(constants).try_for_each(|tensor| folder.resolve(tensor))
}
