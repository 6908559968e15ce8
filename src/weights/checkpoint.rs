//! The parameters of a graph as declared: from a checkpoint file, or drawn.

use super::source::{Source, read_part, tensor};
use super::{Generator, ImportOptions, Matching, SupplyError, WeightError, fill, import, specs};
use crate::files::Sink;
use crate::ir::{DType, Param, Tensor, TensorType};
use crate::ops::Graph;
use bytes::Bytes;
use std::io::ErrorKind;
use std::ops::Range;

/// Elements converted or drawn at a time.
const PIECE: usize = 1 << 18;

/// Where the checkpoint's tensors come from.
#[derive(Debug)]
pub struct Checkpoint {
    source: Option<(Box<dyn Source>, Matching)>,
    seed: u64,
}

impl Checkpoint {
    /// Initial values, drawn from a seed.
    pub fn initial(seed: u64) -> Self {
        Self { source: None, seed }
    }

    /// A checkpoint file, matched with the parameters of the graph as declared.
    /// What may be missing is drawn from `seed`.
    pub fn open(
        source: Box<dyn Source>,
        declared: &Graph,
        options: &ImportOptions,
        seed: u64,
    ) -> Result<Self, WeightError> {
        let matching = import(&*source, &specs(declared), options)?;
        Ok(Self { source: Some((source, matching)), seed })
    }

    /// How the file was matched, if there is one.
    pub fn matching(&self) -> Option<&Matching> {
        self.source.as_ref().map(|(_, m)| m)
    }

    /// The value of a parameter of `declared`.
    pub fn parameter(&self, declared: &Graph, path: &str) -> Result<Tensor, SupplyError> {
        let p = declared.params().find(|p| *p.path == *path);
        let p = p.ok_or_else(|| SupplyError::Compute(path.to_owned(), "it was never declared".into()))?;
        let ty = declared.ty(p.value);
        Ok(match self.found(path) {
            Some((source, i)) => tensor(source, i, ty.dtype)?,
            None => fill(&p.init, self.seed, path, &shape(ty), ty.dtype)?,
        })
    }

    fn found(&self, path: &str) -> Option<(&dyn Source, usize)> {
        let (source, matching) = self.source.as_ref()?;
        Some((&**source, matching.get(path)?))
    }

    /// Whether a part of a parameter is had without the rest of it.
    pub(super) fn has_parts(&self, p: &Param) -> bool {
        self.found(&p.path).is_none_or(|(source, i)| source.place(i).is_some())
    }

    /// Elements `range` of a parameter, little-endian.
    pub(super) fn elements(&self, p: &Param, ty: &TensorType, range: Range<usize>) -> Result<Bytes, WeightError> {
        if let Some((source, i)) = self.found(&p.path) {
            return read_part(source, i, range, ty.dtype);
        }
        let mut out = Vec::with_capacity(range.len() * ty.dtype.size());
        Generator::new(&p.init, self.seed, &p.path, &shape(ty), ty.dtype)?.write(range.start, range.len(), &mut out);
        Ok(out.into())
    }

    /// Streams elements `range` of a parameter, little-endian; those that a file holds as they are wanted are copied by
    /// the kernel.
    pub(super) fn stream(
        &self,
        p: &Param,
        ty: &TensorType,
        range: Range<usize>,
        out: &mut dyn Sink,
    ) -> Result<(), SupplyError> {
        if let Some((source, i)) = self.found(&p.path) {
            // A byte of a truth value may be any but zero in a file; it is made one.
            let as_stored = source.entries()[i].stored.dtype() == Some(ty.dtype) && ty.dtype != DType::Bool;
            let bytes = (range.start * ty.dtype.size()) as u64..(range.end * ty.dtype.size()) as u64;
            if let Some(place) = source.place(i).filter(|_| as_stored)
                && let Some(part) = place.part(&bytes)
            {
                let mut file = place.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                return out.copy(&mut file, part).map_err(|e| match e.kind() {
                    ErrorKind::UnexpectedEof => cut_short(source, i).into(),
                    _ => e.into(),
                });
            }
        }
        let piece = if self.has_parts(p) { PIECE } else { range.len().max(1) };
        for start in range.clone().step_by(piece) {
            out.write_all(&self.elements(p, ty, start..(start + piece).min(range.end))?)?;
        }
        Ok(())
    }
}

/// The file ends before a tensor that was there when it was opened.
fn cut_short(source: &dyn Source, i: usize) -> WeightError {
    let what = "the file ends before it does; was it changed since it was opened?".to_owned();
    WeightError::tensor(source.origin(), &source.entries()[i].name, what)
}

/// The sizes of a parameter's or computed parameter's axes.
pub(super) fn shape(ty: &TensorType) -> Vec<usize> {
    ty.shape.known().expect("parameters have no symbolic sizes")
}
