//! Runs the weight program on demand: each op once, each value dropped after its last reader.
//!
//! Where an op rounds, it computes in f64, and what it gives stays in f64 until a parameter is given out: that is
//! rounded once, to its own type. An f64 copy of the largest tensors would break the memory bound, so values are
//! computed in blocks of rows wherever a row of an operand gives a row of the result: elementwise chains over
//! parameters, the left side of a product. Only shared values and operands of other ops are held whole.

use super::WeightError;
use super::checkpoint::{Checkpoint, shape};
use super::parts::{self, Part, cut};
use super::transpose::Matrix;
use crate::eval;
use crate::ir::{Array, DType, Element, NodeId, Param, Side, Tensor, TensorType, ValueId};
use crate::ops::{Along, AttrValue, Graph, Link, Node, Op, Slice};
use crate::with_array;
use bytes::Bytes;
use ndarray::Axis;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Elements of a block of rows: 2 MiB of f64.
const BLOCK: usize = 1 << 18;

/// A weight program being run.
#[derive(Debug)]
pub(super) struct Evaluation<'a> {
    w: &'a Graph,
    checkpoint: &'a Checkpoint,
    parts: Side<ValueId, Option<Vec<Part>>>,
    /// How often each value is read, by nodes and outputs.
    readers: Side<ValueId, u32>,
    /// How often it is still to be read.
    left: Side<ValueId, u32>,
    done: Side<NodeId, bool>,
    given: BTreeSet<ValueId>,
    /// Whole values that are still to be read, now or later.
    held: BTreeMap<ValueId, Tensor>,
    evaluations: usize,
}

/// What one request needs: nodes evaluated by themselves, each with those that are evaluated along with it, block by
/// block, in order.
type Trees = BTreeMap<NodeId, Vec<NodeId>>;

impl<'a> Evaluation<'a> {
    pub(super) fn new(w: &'a Graph, checkpoint: &'a Checkpoint) -> Self {
        let (parts, nodes) = (parts::parts(w), w.nodes().len());
        let live = w.live();
        let mut readers = Side::new(w.value_count(), 0);
        for (_, n) in w.nodes().filter(|(_, n)| n.outputs().any(|v| live[v])) {
            n.inputs.iter().for_each(|&v| readers[v] += 1);
        }
        w.outputs().iter().for_each(|o| readers[o.value] += 1);
        Self {
            w,
            checkpoint,
            parts,
            left: readers.clone(),
            readers,
            done: Side::new(nodes, false),
            given: BTreeSet::new(),
            held: BTreeMap::new(),
            evaluations: 0,
        }
    }

    pub(super) fn evaluations(&self) -> usize {
        self.evaluations
    }

    /// The ranges of parameters that a value is.
    pub(super) fn parts(&self, v: ValueId) -> Option<&[Part]> {
        self.parts[v].as_deref()
    }

    /// The parameter that a part is of.
    pub(super) fn param(&self, v: ValueId) -> (&'a Param, &'a TensorType) {
        (self.w.as_param(v).expect("parts are of parameters"), self.w.ty(v))
    }

    /// The matrix of the checkpoint that a value is the transpose of, with its rows and columns: by far the commonest
    /// computation, and one that needs no second copy of the matrix.
    pub(super) fn transposed(&self, v: ValueId) -> Option<(ValueId, usize, usize)> {
        let n = self.w.node(self.w.producer(v)?);
        let (Op::Transpose(t), &[from]) = (&n.op, n.inputs.as_slice()) else { return None };
        let &[rows, columns] = self.w.ty(from).shape.known()?.as_slice() else { return None };
        (t.perm == [1, 0] && self.parts[from].is_some()).then_some((from, rows, columns))
    }

    /// Whether a value is read from the checkpoint, not computed.
    fn is_read(&self, v: ValueId) -> bool {
        self.parts[v].is_some() || self.transposed(v).is_some()
    }

    /// Elements `range` of a value that consists of parts, little-endian.
    pub(super) fn gather(&self, v: ValueId, range: Range<usize>) -> Result<Bytes, WeightError> {
        let parts = cut(self.parts[v].as_deref().expect("the caller asks for parts"), &range);
        let mut bytes = parts.into_iter().map(|part| {
            let (p, ty) = self.param(part.param);
            self.checkpoint.elements(p, ty, part.elements)
        });
        match (bytes.next(), bytes.len()) {
            (None, _) => Ok(Bytes::new()),
            (Some(one), 0) => one,
            (Some(first), _) => {
                let mut all = first?.to_vec();
                bytes.try_for_each(|next| next.map(|b| all.extend_from_slice(&b)))?;
                Ok(all.into())
            }
        }
    }

    /// Passes a value on, whole or in blocks of rows, perhaps in f64 where its type is narrower.
    pub(super) fn give(&mut self, v: ValueId, put: &mut dyn FnMut(Tensor) -> Result<(), String>) -> Result<(), String> {
        let first = self.given.insert(v);
        if let Some(t) = self.held.get(&v).cloned() {
            put(t)?;
        } else {
            self.compute(v, put)?;
        }
        if first {
            let outputs = self.w.outputs().iter().filter(|o| o.value == v).count() as u32;
            self.left[v] -= outputs.min(self.left[v]);
        }
        self.held.retain(|&v, _| self.left[v] > 0);
        Ok(())
    }

    fn compute(&mut self, target: ValueId, put: &mut dyn FnMut(Tensor) -> Result<(), String>) -> Result<(), String> {
        let root = self.w.producer(target).expect("a parameter is read, not computed");
        let trees = self.plan(root);
        let mut last = BTreeMap::new();
        for (&root, tree) in &trees {
            tree.iter().flat_map(|&id| &self.w.node(id).inputs).for_each(|&v| _ = last.insert(v, root));
        }
        for (&id, tree) in &trees {
            let n = self.w.node(id);
            let alone = id == root && self.readers[target] == 1 && n.results == 1;
            if alone {
                self.evaluate(tree, put)?;
            } else {
                let results = self.whole(tree)?;
                self.held.extend(n.outputs().zip(results));
            }
            self.evaluations += tree.len();
            for &id in tree {
                if !std::mem::replace(&mut self.done[id], true) {
                    self.w.node(id).inputs.iter().for_each(|&v| self.left[v] -= 1);
                }
            }
            self.held.retain(|v, _| self.left[*v] > 0 || *v == target || last.get(v).is_some_and(|&at| at > id));
            if id == root && !alone {
                put(self.held[&target].clone())?;
            }
        }
        Ok(())
    }

    /// The nodes that `root` needs and that are neither held nor read, in trees.
    fn plan(&self, root: NodeId) -> Trees {
        let mut needed = BTreeSet::from([root]);
        let mut open = vec![root];
        while let Some(id) = open.pop() {
            for &v in &self.w.node(id).inputs {
                if let Some(from) = self.w.producer(v).filter(|_| !self.held.contains_key(&v) && !self.is_read(v))
                    && needed.insert(from)
                {
                    open.push(from);
                }
            }
        }
        let mut roots: BTreeMap<NodeId, NodeId> = BTreeMap::new();
        let mut trees = Trees::new();
        for &id in needed.iter().rev() {
            let root = roots.get(&id).copied().unwrap_or(id);
            trees.entry(root).or_default().push(id);
            let n = self.w.node(id);
            for (&v, along) in n.inputs.iter().zip(self.along_rows(n).unwrap_or_default()) {
                let from = self.w.producer(v).filter(|from| needed.contains(from));
                if let Some(from) = from.filter(|_| along && self.readers[v] == 1)
                    && self.along_rows(self.w.node(from)).is_some()
                {
                    roots.insert(from, root);
                }
            }
        }
        for tree in trees.values_mut() {
            tree.reverse();
        }
        trees
    }

    /// For an op that computes each row of its result (index along the first axis) from the same rows of some
    /// operands: which those are. The others are needed whole.
    fn along_rows(&self, n: &Node) -> Option<Vec<bool>> {
        let sized = |(_, a): &(_, AttrValue)| matches!(a, AttrValue::Dim(_) | AttrValue::Dims(_));
        if n.results != 1 || self.w.ty(n.first).shape.first()?.size().is_none() || n.op.attrs().iter().any(sized) {
            return None;
        }
        let x: Vec<&TensorType> = n.inputs.iter().map(|&v| self.w.ty(v)).collect();
        let links = n.op.def().axes(&x, &[self.w.ty(n.first)]);
        let rows: Vec<&Link> = links.iter().filter(|l| l.result == Some((0, 0))).collect();
        let row_by_row = !rows.is_empty() && rows.iter().all(|l| l.axis == 0 && l.how == Along::Each);
        row_by_row.then(|| (0..x.len()).map(|i| rows.iter().any(|l| l.operand == i)).collect())
    }

    /// The results of the last node of a tree.
    fn whole(&self, tree: &[NodeId]) -> Result<Vec<Tensor>, String> {
        let n = self.w.node(*tree.last().expect("a tree has a root"));
        if self.along_rows(n).is_none() {
            let x = n.inputs.iter().map(|&v| self.fetch(v)).collect::<Result<_, _>>()?;
            return self.apply(n, x);
        }
        let mut blocks = Joined::new(shape(self.w.ty(n.first)));
        self.evaluate(tree, &mut |t| {
            blocks.push(t);
            Ok(())
        })?;
        Ok(vec![blocks.finish()])
    }

    /// The only result of the last node of a tree, in blocks of rows.
    fn evaluate(&self, tree: &[NodeId], put: &mut dyn FnMut(Tensor) -> Result<(), String>) -> Result<(), String> {
        let nodes: Vec<(&Node, Vec<bool>)> =
            (tree.iter().map(|&id| self.w.node(id))).map(|n| (n, self.along_rows(n).unwrap_or_default())).collect();
        let (root, along) = nodes.last().expect("a tree has a root");
        if along.is_empty() {
            return self.whole(tree)?.into_iter().try_for_each(put);
        }
        let inside: BTreeSet<ValueId> = nodes.iter().map(|(n, _)| n.first).collect();
        let mut fixed = BTreeMap::new();
        let mut reader = Reader { of: self, whole: BTreeMap::new() };
        let mut widest = row(self.w.ty(root.first));
        for (n, along) in &nodes {
            for (&v, along) in n.inputs.iter().zip(along) {
                if *along {
                    widest = widest.max(row(self.w.ty(v)));
                } else if let Entry::Vacant(free) = fixed.entry(v) {
                    let t = self.fetch(v)?;
                    let wide = self.rounds(n) && t.dtype().is_float();
                    free.insert(if wide { t.cast(DType::F64) } else { t });
                }
            }
        }
        let count = shape(self.w.ty(root.first))[0];
        let step = (BLOCK / widest.max(1)).max(1);
        // A result without rows is given once.
        for start in (0..count.max(1)).step_by(step) {
            let range = start..(start + step).min(count);
            let mut here: BTreeMap<ValueId, Tensor> = BTreeMap::new();
            for (n, along) in &nodes {
                let operand = |(&v, along): (&ValueId, &bool)| match *along {
                    false => Ok(fixed[&v].clone()),
                    true if inside.contains(&v) => Ok(here.remove(&v).expect("one reader, after it was computed")),
                    true => reader.rows(v, &range),
                };
                let x = n.inputs.iter().zip(along).map(operand).collect::<Result<Vec<_>, String>>()?;
                here.extend(n.outputs().zip(self.apply(n, x)?));
            }
            put(here.remove(&root.first).expect("the root comes last"))?;
        }
        Ok(())
    }

    /// A whole value: computed before, or read.
    fn fetch(&self, v: ValueId) -> Result<Tensor, String> {
        if let Some(t) = self.held.get(&v) {
            return Ok(t.clone());
        }
        let ty = self.w.ty(v);
        let mut blocks = Joined::new(shape(ty));
        let mut reader = Reader { of: self, whole: BTreeMap::new() };
        let (count, step) = (ty.shape.first().map_or(1, |d| d.size().unwrap_or(1)), (BLOCK / row(ty).max(1)).max(1));
        for start in (0..count.max(1)).step_by(step) {
            blocks.push(reader.rows(v, &(start..(start + step).min(count)))?);
        }
        Ok(blocks.finish())
    }

    /// Whether an op computes: anything else moves elements, and keeps their type.
    fn rounds(&self, n: &Node) -> bool {
        let x: Vec<&TensorType> = n.inputs.iter().map(|&v| self.w.ty(v)).collect();
        let y: Vec<&TensorType> = n.outputs().map(|v| self.w.ty(v)).collect();
        !n.op.def().cost(&x, &y).flops.is(0)
    }

    /// Evaluates one op; in f64 where it rounds, or an operand is wider than its type says.
    fn apply(&self, n: &Node, mut x: Vec<Tensor>) -> Result<Vec<Tensor>, String> {
        let widened = x.iter().zip(&n.inputs).any(|(t, &v)| t.dtype() != self.w.ty(v).dtype);
        if widened || self.rounds(n) {
            x.iter_mut().filter(|t| t.dtype().is_float()).for_each(|t| *t = t.cast(DType::F64));
        }
        let y = eval::op(&n.op, &x);
        y.map_err(|e| format!("{} in [{}]: {e}", n.op.mnemonic(), self.w.scope_path(n.origin.scope)))
    }
}

/// Elements of a row: of the whole value, when it has no axes.
fn row(ty: &TensorType) -> usize {
    let shape = shape(ty);
    shape.iter().skip(1).product()
}

/// Reads rows of values that are read or held.
struct Reader<'e, 'a> {
    of: &'e Evaluation<'a>,
    /// Bytes of values whose parts cannot be had alone.
    whole: BTreeMap<ValueId, Bytes>,
}

impl Reader<'_, '_> {
    fn rows(&mut self, v: ValueId, range: &Range<usize>) -> Result<Tensor, String> {
        let e = self.of;
        if let Some(t) = e.held.get(&v) {
            let op = Slice { axis: 0, start: range.start.into(), end: range.end.into(), step: 1 };
            let rows = eval::op(&op.into(), std::slice::from_ref(t)).map_err(|e| e.to_string())?;
            return Ok(rows.into_iter().next().expect("a slice has one result"));
        }
        let ty = e.w.ty(v);
        let mut shape = shape(ty);
        if let Some(rows) = shape.first_mut() {
            *rows = range.len();
        }
        let (row, size) = (row(ty), ty.dtype.size());
        let bytes: Bytes = if let Some((from, rows, columns)) = e.transposed(v) {
            Matrix { bytes: &self.all(from)?, size, rows, columns }.band(range.clone()).into()
        } else if e.parts[v].iter().flatten().all(|part| e.checkpoint.has_parts(e.param(part.param).0)) {
            e.gather(v, range.start * row..range.end * row).map_err(|e| e.to_string())?
        } else {
            self.all(v)?.slice(range.start * row * size..range.end * row * size)
        };
        Ok(Tensor::from_le_bytes(ty.dtype, &shape, &bytes).expect("rows of the value's type"))
    }

    /// All bytes of a value.
    fn all(&mut self, v: ValueId) -> Result<Bytes, String> {
        if let Entry::Vacant(free) = self.whole.entry(v) {
            let n = parts::elements(self.of.w.ty(v)).expect("a known size");
            free.insert(self.of.gather(v, 0..n).map_err(|e| e.to_string())?);
        }
        Ok(self.whole[&v].clone())
    }
}

/// Blocks of rows put together again, with room for all of them from the first on.
struct Joined {
    shape: Vec<usize>,
    all: Option<Tensor>,
    rows: usize,
}

impl Joined {
    fn new(shape: Vec<usize>) -> Self {
        Self { shape, all: None, rows: 0 }
    }

    fn push(&mut self, t: Tensor) {
        fn put<A: Element>(all: &mut Array<A>, t: &Tensor, at: usize) {
            let block = t.array::<A>().expect("blocks are of one type");
            all.slice_axis_mut(Axis(0), (at..at + block.len_of(Axis(0))).into()).assign(block);
        }
        if t.shape() == self.shape {
            self.all = Some(t);
            return;
        }
        let all = self.all.get_or_insert_with(|| Tensor::zeros(t.dtype(), &self.shape));
        with_array!(all, a => put(a, &t, self.rows));
        self.rows += t.shape()[0];
    }

    fn finish(self) -> Tensor {
        self.all.expect("there is a block")
    }
}
