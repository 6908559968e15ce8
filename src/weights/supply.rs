//! Runs the weight program: the numbers of a run graph's parameters, one tensor at a time.
//!
//! A parameter that the weight program does not compute is streamed from the checkpoint's memory map
//! or from the generator of initial values; a computed one is evaluated, written and dropped. So
//! memory is bounded by a few of the largest tensors, whatever the size of the model.

use super::transpose;
use super::{Generator, ImportOptions, Matching, Source, WeightError, fill, import, read, specs, tensor};
use crate::eval;
use crate::ir::{DType, Param, Tensor, TensorType, ValueId};
use crate::ops::{Graph, Op, Program};
use std::collections::BTreeMap;
use std::io::Write;

/// Where the checkpoint's tensors come from.
pub struct Checkpoint {
    source: Option<(Box<dyn Source>, Matching)>,
    seed: u64,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoint").field("file", &self.source.is_some()).field("seed", &self.seed).finish()
    }
}

/// Why a parameter's numbers could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SupplyError {
    /// The checkpoint failed.
    #[error(transparent)]
    Weight(#[from] WeightError),
    /// The weight program failed.
    #[error("computing `{0}`: {1}")]
    Compute(String, String),
    /// The file could not be written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
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
        let p = declared.params().find(|p| p.path == path);
        let p = p.ok_or_else(|| SupplyError::Compute(path.to_owned(), "it was never declared".into()))?;
        Ok(self.tensor(p, declared.ty(p.value))?)
    }

    fn found(&self, path: &str) -> Option<(&dyn Source, usize)> {
        let (source, matching) = self.source.as_ref()?;
        Some((&**source, matching.get(path)?))
    }

    fn tensor(&self, p: &Param, ty: &TensorType) -> Result<Tensor, WeightError> {
        match self.found(&p.path) {
            Some((source, i)) => tensor(source, i, ty.dtype),
            None => fill(&p.init, self.seed, &p.path, &shape(ty), ty.dtype),
        }
    }
}

fn shape(ty: &TensorType) -> Vec<usize> {
    ty.shape.known().expect("parameters have no symbolic sizes")
}

/// The parameters of one program from one checkpoint.
#[derive(Debug)]
pub struct Supply<'a> {
    program: &'a Program,
    checkpoint: &'a Checkpoint,
    /// Checkpoint parameters by path, with their types.
    declared: BTreeMap<&'a str, (&'a Param, &'a TensorType)>,
}

impl<'a> Supply<'a> {
    /// Supplies `program` from `checkpoint`.
    pub fn new(program: &'a Program, checkpoint: &'a Checkpoint) -> Self {
        let both = [&program.graph, &program.weights];
        let declared = both.iter().flat_map(|g| g.params().map(|p| (p.path.as_str(), (p, g.ty(p.value))))).collect();
        Self { program, checkpoint, declared }
    }

    /// The value of a run parameter.
    pub fn tensor(&self, path: &str) -> Result<Tensor, SupplyError> {
        let stored = |path: &str| {
            let (p, ty) = self.declared.get(path).ok_or_else(|| "it was never declared".to_owned())?;
            self.checkpoint.tensor(p, ty).map_err(|e| e.to_string())
        };
        let w = &self.program.weights;
        match w.outputs().iter().find(|o| o.name == path) {
            Some(o) => eval::value(w, o.value, &mut |path, _| stored(path))
                .map_err(|e| SupplyError::Compute(path.to_owned(), e.to_string())),
            None => stored(path).map_err(|e| SupplyError::Compute(path.to_owned(), e)),
        }
    }

    /// The checkpoint's matrix that a value of the weight program is the transpose of: by far the commonest
    /// computation, and one that needs no second copy of the matrix.
    fn transposed(&self, v: ValueId) -> Option<(&dyn Source, usize)> {
        let w = &self.program.weights;
        let n = w.node(w.producer(v)?);
        let Op::Transpose(t) = &n.op else { return None };
        let p = w.as_param(n.inputs[0])?;
        let (source, i) = self.checkpoint.found(&p.path)?;
        let f32_matrix = t.perm == [1, 0] && w.ty(v).dtype == DType::F32 && source.entries()[i].shape.len() == 2;
        f32_matrix.then_some((source, i))
    }

    /// Streams the little-endian bytes of a run parameter.
    pub fn write(&self, path: &str, out: &mut dyn Write) -> Result<(), SupplyError> {
        let w = &self.program.weights;
        if let Some(o) = w.outputs().iter().find(|o| o.name == path) {
            if let Some((source, i)) = self.transposed(o.value) {
                let bytes = read(source, i, DType::F32)?;
                let &[rows, columns] = source.entries()[i].shape.as_slice() else { unreachable!("a matrix") };
                if let Ok(elements) = bytemuck::try_cast_slice(&bytes) {
                    return Ok(transpose::write(elements, rows, columns, out)?);
                }
            }
            out.write_all(&self.tensor(path)?.le_bytes())?;
            return Ok(());
        }
        let Some((p, ty)) = self.declared.get(path) else {
            return Err(SupplyError::Compute(path.to_owned(), "it was never declared".into()));
        };
        if let Some((source, i)) = self.checkpoint.found(path) {
            out.write_all(&read(source, i, ty.dtype)?)?;
            return Ok(());
        }
        /// Elements drawn at a time.
        const PIECE: usize = 1 << 18;
        let generator = Generator::new(&p.init, self.checkpoint.seed, path, &shape(ty), ty.dtype)?;
        let mut buffer = Vec::new();
        let mut at = 0;
        while at < generator.elements() {
            let count = PIECE.min(generator.elements() - at);
            buffer.clear();
            generator.write(at, count, &mut buffer);
            out.write_all(&buffer)?;
            at += count;
        }
        Ok(())
    }
}
