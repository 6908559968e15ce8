//! The numbers of a run graph's parameters, one tensor at a time.
//!
//! A parameter that the weight program does not compute, or only cuts out of others, is streamed from the checkpoint or
//! from the generator of initial values; where the file holds the bytes as they are wanted, the kernel copies them. A
//! transposed matrix is gathered band by band. Anything else is computed by [`Evaluation`]: op by op, each op once.
//!
//! Files are written in the order of their initializers, and values are computed as they are asked for: what a later
//! parameter needs too is kept until then. So that little is kept, [`order`] puts parameters that share computed
//! values one after the other. Memory is bounded by three times the largest tensor, whatever the size of the model: one
//! that is read, and one that is computed in double precision; most are computed in blocks of rows.

use super::WeightError;
use super::checkpoint::{Checkpoint, shape};
use super::evaluate::Evaluation;
use super::parts::elements;
use super::transpose::Matrix;
use crate::files::Sink;
use crate::ir::{Init, Param, Side, Tensor, TensorType, ValueId};
use crate::ops::Program;
use std::cell::RefCell;
use std::collections::BTreeMap;

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

/// The parameters of one program from one checkpoint.
#[derive(Debug)]
pub struct Supply<'a> {
    checkpoint: &'a Checkpoint,
    /// The checkpoint's parameters by path, with their types.
    stored: BTreeMap<&'a str, (&'a Param, &'a TensorType)>,
    /// Computed parameters by path.
    computed: BTreeMap<&'a str, (ValueId, &'a TensorType)>,
    evaluation: RefCell<Evaluation<'a>>,
}

impl<'a> Supply<'a> {
    /// Supplies `program` from `checkpoint`.
    pub fn new(program: &'a Program, checkpoint: &'a Checkpoint) -> Self {
        let w = &program.weights;
        let both = [&program.graph, w];
        let stored = both.iter().flat_map(|g| g.params().map(|p| (&*p.path, (p, g.ty(p.value)))));
        let stored = stored.filter(|(_, (p, _))| p.init != Init::Computed).collect();
        let computed = w.outputs().iter().map(|o| (o.name.as_str(), (o.value, w.ty(o.value)))).collect();
        Self { checkpoint, stored, computed, evaluation: RefCell::new(Evaluation::new(w, checkpoint)) }
    }

    /// The value of a parameter.
    pub fn tensor(&self, path: &str) -> Result<Tensor, SupplyError> {
        let mut bytes = Vec::new();
        self.write(path, &mut bytes)?;
        let computed = self.computed.get(path).map(|(_, ty)| *ty);
        let ty = computed.unwrap_or_else(|| self.stored[path].1);
        Ok(Tensor::from_le_bytes(ty.dtype, &shape(ty), &bytes).expect("as many bytes as the type says"))
    }

    /// Streams the little-endian bytes of a parameter.
    pub fn write(&self, path: &str, out: &mut dyn Sink) -> Result<(), SupplyError> {
        let Some(&(v, ty)) = self.computed.get(path) else {
            let (p, ty) = self
                .stored
                .get(path)
                .ok_or_else(|| SupplyError::Compute(path.to_owned(), "it was never declared".into()))?;
            let all = 0..elements(ty).expect("parameters have no symbolic sizes");
            return self.checkpoint.stream(p, ty, all, out);
        };
        let evaluation = &mut *self.evaluation.borrow_mut();
        let failed = |e: String| SupplyError::Compute(path.to_owned(), e);
        if let Some(parts) = evaluation.parts(v) {
            for part in parts {
                let (p, ty) = evaluation.param(part.param);
                self.checkpoint.stream(p, ty, part.elements.clone(), out)?;
            }
            return Ok(());
        }
        if let Some((from, rows, columns)) = evaluation.transposed(v) {
            let bytes = evaluation.gather(from, 0..rows * columns).map_err(|e| failed(e.to_string()))?;
            return Ok(Matrix { bytes: &bytes, size: ty.dtype.size(), rows, columns }.write(out)?);
        }
        let mut io = Ok(());
        let mut put = |t: Tensor| {
            io = out.write_all(&t.cast(ty.dtype).le_bytes());
            io.as_ref().map(drop).map_err(ToString::to_string)
        };
        let done = evaluation.give(v, &mut put);
        io?;
        done.map_err(failed)
    }

    /// How many ops were evaluated so far; an op whose results are only read from the checkpoint is not.
    pub fn evaluations(&self) -> usize {
        self.evaluation.borrow().evaluations()
    }
}

/// Positions for the live parameters of the run graph, by path: in order of first need, but for those that share a
/// computed value, which stand one after the other.
pub fn order(program: &Program) -> BTreeMap<&str, usize> {
    let (g, w) = (&program.graph, &program.weights);
    let live = g.live();
    let paths: Vec<&str> = g.params().filter(|p| live[p.value]).map(|p| &*p.path).collect();
    let need: BTreeMap<&str, usize> = paths.iter().enumerate().map(|(i, &path)| (path, i)).collect();
    // The first parameter that needs each value, then the first that needs anything it is made of.
    let mut first = Side::new(w.value_count(), usize::MAX);
    for o in w.outputs() {
        let rank = need.get(o.name.as_str()).copied().unwrap_or(usize::MAX);
        first[o.value] = first[o.value].min(rank);
    }
    for (_, n) in w.nodes().rev() {
        let rank = n.outputs().map(|v| first[v]).min().unwrap_or(usize::MAX);
        n.inputs.iter().for_each(|&v| first[v] = first[v].min(rank));
    }
    let made = |v: ValueId| w.producer(v).is_some();
    for (_, n) in w.nodes().filter(|(_, n)| !n.inputs.is_empty()) {
        let of = n.inputs.iter().filter(|&&v| made(v)).map(|&v| first[v]).min().unwrap_or(usize::MAX);
        n.outputs().for_each(|v| first[v] = first[v].min(of));
    }
    let groups: BTreeMap<&str, usize> = w.outputs().iter().map(|o| (o.name.as_str(), first[o.value])).collect();
    let mut sorted = paths;
    sorted.sort_by_key(|path| groups.get(path).copied().unwrap_or(need[path]).min(need[path]));
    sorted.into_iter().enumerate().map(|(i, path)| (path, i)).collect()
}

#[cfg(test)]
mod tests;
