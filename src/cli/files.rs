//! Checks of paths before any work, and tensors read from safetensors files.

use super::{Failure, stream};
use crate::ir::{DType, Tensor};
use crate::onnx::{self, Model};
use crate::runtime::Port;
use crate::weights;
use std::path::Path;

/// Checks that a model file exists, is a file and is not empty.
pub(super) fn model(path: &Path) -> Result<(), Failure> {
    let at = path.display();
    let meta = std::fs::metadata(path).map_err(|e| Failure::bad_file(format!("{at}: {e}")))?;
    if meta.is_dir() {
        return Err(Failure::bad_file(format!("{at} is a directory; name the .onnx file inside it")));
    }
    if meta.is_file() && meta.len() == 0 {
        return Err(Failure::bad_file(format!("{at} is empty; expected an ONNX model")));
    }
    Ok(())
}

/// Reads the model file, without its external data.
pub(super) fn read_model(path: &Path) -> Result<Model, Failure> {
    model(path)?;
    onnx::read_without_data(path).map_err(Failure::bad_file)
}

/// Returns the value of a metadata key.
pub(super) fn metadata<'m>(m: &'m Model, key: &str) -> Option<&'m str> {
    m.metadata.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
}

/// Checks that a file can be written: it is a stream, or the path is not a directory and its folder exists.
pub(super) fn output(path: &Path) -> Result<(), Failure> {
    let at = path.display();
    if stream::is_stream(path) {
        return Ok(());
    }
    if path.is_dir() {
        return Err(Failure::usage(format!("{at} is a directory; name a file in it")));
    }
    if path.file_name().is_none() {
        return Err(Failure::usage(format!("`{at}` is not the name of a file")));
    }
    match path.parent().filter(|p| !p.as_os_str().is_empty()) {
        Some(folder) if !folder.is_dir() => {
            Err(Failure::usage(format!("{at}: there is no folder {}; create it first", folder.display())))
        }
        _ => Ok(()),
    }
}

/// Returns true if both paths name the same existing file.
pub(super) fn same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// A safetensors file, read tensor by tensor.
#[derive(Debug)]
pub(super) struct Tensors(Box<dyn weights::Source>);

impl Tensors {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        weights::open(path, None).map(Self).map_err(Failure::bad_file)
    }

    /// Returns the names, in the order of the file.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.entries().iter().map(|e| e.name.as_str())
    }

    /// Returns the tensor of this name in its own type.
    pub(super) fn get(&self, name: &str) -> Result<Option<Tensor>, Failure> {
        self.get_as(name, None)
    }

    fn get_as(&self, name: &str, wanted: Option<DType>) -> Result<Option<Tensor>, Failure> {
        let Some(i) = self.0.entries().iter().position(|e| e.name == name) else { return Ok(None) };
        let stored = self.0.entries()[i].stored;
        let Some(own) = stored.dtype() else {
            let what = format!("tensor `{name}` of {}: elements of type {stored} cannot be read", self.0.origin());
            return Err(Failure::bad_file(format!("{what}; expected one of {}", DType::names())));
        };
        // A narrower float is widened for a model; anything else must have the declared type.
        let widens = |d: &DType| d.is_float() && own.is_float() && d.size() > own.size();
        weights::tensor(&*self.0, i, wanted.filter(widens).unwrap_or(own)).map(Some).map_err(Failure::bad_file)
    }

    /// Returns the inputs for a model. A tensor has the port's name or `alias`; if the model has one input and the
    /// file one tensor, names do not matter. Other tensors are left out, or included with `all`, so that the engine's
    /// check reports them.
    pub(super) fn inputs(
        &self,
        ports: &[Port],
        alias: Option<&str>,
        all: bool,
    ) -> Result<Vec<(String, Tensor)>, Failure> {
        let names: Vec<&str> = self.names().collect();
        if let ([port], [name]) = (ports, names.as_slice()) {
            return Ok(self.get_as(name, Some(port.dtype))?.map(|t| (port.name.clone(), t)).into_iter().collect());
        }
        let mut out = Vec::new();
        for p in ports {
            let name = if names.contains(&p.name.as_str()) || ports.len() > 1 { Some(p.name.as_str()) } else { alias };
            if let Some(t) = name.map(|n| self.get_as(n, Some(p.dtype))).transpose()?.flatten() {
                out.push((p.name.clone(), t));
            }
        }
        if all {
            // A few say enough.
            for name in names.iter().filter(|n| ports.iter().all(|p| p.name != **n)).take(8) {
                out.extend(self.get(name)?.map(|t| ((*name).to_owned(), t)));
            }
        }
        Ok(out)
    }
}
