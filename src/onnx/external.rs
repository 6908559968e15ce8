//! External data: tensors whose bytes are in other files.
//!
//! Models are not trusted, so the files that a model names must be in its folder or below: relative paths without `..`,
//! and no symbolic link that leaves the folder. Each file is mapped once, however many tensors it holds.

use super::{Initializer, Model, TensorData};
use crate::files::{map, open};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};

/// An error in the external data of a tensor.
#[allow(missing_docs, reason = "the message of a variant names its fields")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExternalError {
    /// The path is outside the folder of the model.
    #[error("the external data of `{tensor}` is in {location:?}, which {why}; it must be in the folder of the model")]
    Outside { tensor: String, location: String, why: &'static str },
    /// The file is missing or cannot be read.
    #[error("the external data of `{tensor}` is in {}: {source}; keep this file beside the model, under the same name", path.display())]
    Io { tensor: String, path: PathBuf, source: io::Error },
    /// The file is too short.
    #[error("the external data of `{tensor}` is {length} bytes from byte {offset} of {}, which has {found} bytes: is it from another model, or truncated?", path.display())]
    Short { tensor: String, path: PathBuf, offset: u64, length: u64, found: u64 },
    /// The length contradicts type and extents.
    #[error("`{tensor}` has {found} bytes of external data, but its type and shape require {expected}")]
    Length { tensor: String, expected: u64, found: u64 },
}

/// Checks the external data of a model whose file is at `path` and returns the first problem with each file that it
/// names. Reads only the sizes of files.
pub fn check_external(model: &Model, path: &Path) -> Vec<ExternalError> {
    let folder = Folder::of(path);
    let mut seen = BTreeSet::new();
    let mut problems = Vec::new();
    for tensor in model.tensors() {
        if let TensorData::External { location, .. } = &tensor.data
            && !seen.contains(location)
            && let Err(e) = folder.find(tensor)
        {
            seen.insert(location);
            problems.push(e);
        }
    }
    problems
}

/// The bytes of a tensor in a file.
struct Extent {
    path: PathBuf,
    offset: u64,
    length: u64,
}

impl Extent {
    fn short(self, tensor: &Initializer, found: u64) -> ExternalError {
        let Self { path, offset, length } = self;
        ExternalError::Short { tensor: tensor.name.clone(), path, offset, length, found }
    }
}

/// The folder of a model, and the files mapped so far.
pub(super) struct Folder {
    path: PathBuf,
    mapped: BTreeMap<PathBuf, Bytes>,
}

impl Folder {
    /// Creates the folder of the model file at `model`.
    pub(super) fn of(model: &Path) -> Self {
        let path = model.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self { path: path.to_path_buf(), mapped: BTreeMap::new() }
    }

    /// Replaces a reference to external data by the bytes. Other tensors stay as they are.
    pub(super) fn resolve(&mut self, tensor: &mut Initializer) -> Result<(), ExternalError> {
        let Some(at) = self.find(tensor)? else { return Ok(()) };
        let file = if let Some(file) = self.mapped.get(&at.path) {
            file.clone()
        } else {
            let io = |source| ExternalError::Io { tensor: tensor.name.clone(), path: at.path.clone(), source };
            let file = map(&at.path).map_err(io)?;
            self.mapped.insert(at.path.clone(), file.clone());
            file
        };
        let (start, end) = (at.offset as usize, (at.offset + at.length) as usize);
        if end > file.len() {
            return Err(at.short(tensor, file.len() as u64));
        }
        tensor.data = TensorData::Inline(file.slice(start..end));
        Ok(())
    }

    /// Finds the external bytes of a tensor, which end within the file. Returns `None` if its bytes are in the model.
    fn find(&self, tensor: &Initializer) -> Result<Option<Extent>, ExternalError> {
        let TensorData::External { location, offset, length } = &tensor.data else { return Ok(None) };
        let path = self.locate(&tensor.name, location)?;
        let Some(expected) = tensor.byte_len() else { return Ok(None) };
        if let Some(found) = length.filter(|&found| found != expected) {
            return Err(ExternalError::Length { tensor: tensor.name.clone(), expected, found });
        }
        let io = |source| ExternalError::Io { tensor: tensor.name.clone(), path: path.clone(), source };
        let found = open(&path).and_then(|f| f.metadata()).map_err(io)?.len();
        let at = Extent { path, offset: *offset, length: expected };
        match offset.checked_add(expected) {
            Some(end) if end <= found => Ok(Some(at)),
            _ => Err(at.short(tensor, found)),
        }
    }

    /// Resolves `location` to a file and follows all links.
    fn locate(&self, tensor: &str, location: &str) -> Result<PathBuf, ExternalError> {
        let outside = |why| ExternalError::Outside { tensor: tensor.to_owned(), location: location.to_owned(), why };
        let relative = Path::new(location);
        if location.is_empty() {
            return Err(outside("is empty"));
        }
        for component in relative.components() {
            match component {
                Component::Normal(_) | Component::CurDir => {}
                Component::ParentDir => return Err(outside("leads upwards")),
                Component::RootDir | Component::Prefix(_) => return Err(outside("is an absolute path")),
            }
        }
        let joined = self.path.join(relative);
        let io = |source| ExternalError::Io { tensor: tensor.to_owned(), path: joined.clone(), source };
        let path = joined.canonicalize().map_err(io)?;
        if path.starts_with(self.path.canonicalize().map_err(io)?) {
            Ok(path)
        } else {
            Err(outside("is a symbolic link that leaves the folder"))
        }
    }
}
