//! Windows of results, and fragments that compute no more than them.

use super::Op;
use super::axes::{Along, Link};
use crate::build::{Builder, T};
use crate::ir::{Dim, Shape, TensorType};

/// A window of one result of an op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Which result.
    pub result: usize,
    /// For each axis its first element and its size, within the axis; `None` for all of it.
    pub axes: Vec<Option<(Dim, Dim)>>,
}

impl Region {
    /// All of a result of this rank.
    pub fn whole(result: usize, rank: usize) -> Self {
        Self { result, axes: vec![None; rank] }
    }
    /// Only `size` elements of an axis, from `start` on.
    pub fn narrow(mut self, axis: usize, start: impl Into<Dim>, size: impl Into<Dim>) -> Self {
        self.axes[axis] = Some((start.into(), size.into()));
        self
    }
    /// The shape of the window of a result of this shape.
    pub fn shape(&self, y: &[Dim]) -> Shape {
        let size = |(d, window): (&Dim, &Option<(Dim, Dim)>)| window.as_ref().map_or(d, |(_, size)| size).clone();
        y.iter().zip(&self.axes).map(size).collect()
    }
    /// The window cut out of the result `y`.
    pub fn of<'g>(&self, y: T<'g>) -> T<'g> {
        let windows = self.axes.iter().enumerate().filter_map(|(a, w)| Some((a, w.as_ref()?)));
        windows.fold(y, |y, (a, (start, size))| y.narrow(a as i64, start, size))
    }
}

/// What a fragment is asked for: a window of a result, of these operands.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'g, 'a> {
    /// Where to emit.
    pub b: &'g Builder,
    /// The op.
    pub op: &'a Op,
    /// Operands.
    pub x: &'a [T<'g>],
    /// Types of all results, unrestricted.
    pub y: &'a [TensorType],
    /// The window.
    pub to: &'a Region,
}

/// Operands made as small as the window allows.
pub(super) struct Narrowed<'g, 'a> {
    wanted: &'a Wanted<'g, 'a>,
    /// The operands.
    pub x: Vec<T<'g>>,
    /// What is left to be cut out of the result that they give.
    pub rest: Region,
}

impl<'g> Wanted<'g, '_> {
    /// Narrows operands along axes of the result whose every link is [`Along::Each`], but for the axes `except`.
    pub(super) fn narrowed(&self, except: &[usize]) -> Narrowed<'g, '_> {
        let types: Vec<TensorType> = self.x.iter().map(|x| x.ty()).collect();
        let links = self.op.def().axes(&types.iter().collect::<Vec<_>>(), &self.y.iter().collect::<Vec<_>>());
        let (mut x, mut rest) = (self.x.to_vec(), self.to.clone());
        for (axis, slot) in rest.axes.iter_mut().enumerate().filter(|(a, _)| !except.contains(a)) {
            let here: Vec<&Link> = links.iter().filter(|l| l.result == Some((self.to.result, axis))).collect();
            if here.is_empty() || here.iter().any(|l| l.how != Along::Each) {
                continue;
            }
            if let Some((start, size)) = slot.take() {
                for l in here {
                    x[l.operand] = x[l.operand].narrow(l.axis as i64, &start, &size);
                }
            }
        }
        Narrowed { wanted: self, x, rest }
    }
}

impl<'g> Narrowed<'g, '_> {
    /// The window of what `op` makes of the operands; `None` when they are as they were, and the op too.
    pub(super) fn apply(self, op: impl Into<Op>) -> Option<T<'g>> {
        let (op, wanted) = (op.into(), self.wanted);
        let same = self.x.iter().zip(wanted.x).all(|(new, old)| new.id() == old.id());
        if same && op == *wanted.op && self.rest == *wanted.to {
            return None;
        }
        wanted.b.apply_all(op, &self.x).get(self.rest.result).map(|&y| self.rest.of(y))
    }
    /// Narrows operand `i`.
    pub(super) fn narrow(&mut self, i: usize, axis: usize, start: impl Into<Dim>, size: impl Into<Dim>) {
        self.x[i] = self.x[i].narrow(axis as i64, start, size);
    }
}

/// Where a window meets a part of an axis.
pub(super) struct Overlap {
    /// What the window has before the part.
    pub before: Dim,
    /// Where on the part the window begins.
    pub start: Dim,
    /// How many elements both have.
    pub size: Dim,
    /// What the window has after the part.
    pub after: Dim,
}

/// Where the window, `(start, size)`, meets the `n` elements of an axis from `at` on; `Some(None)` when they have no
/// element in common, `None` when it depends on a symbol.
#[expect(clippy::option_option, reason = "undecided, apart, and meeting are three answers")]
pub(super) fn overlap((start, size): &(Dim, Dim), at: &Dim, n: &Dim) -> Option<Option<Overlap>> {
    let (end, stop) = (start + size, at + n);
    let first = if at_least(start, at)? { start } else { at };
    let last = if at_least(&end, &stop)? { &stop } else { &end };
    if at_least(first, last)? {
        return Some(None);
    }
    Some(Some(Overlap { before: first - start, start: first - at, size: last - first, after: &end - last }))
}

/// Whether `a ≥ b` for every size that symbols stand for; `None` when it depends on them.
fn at_least(a: &Dim, b: &Dim) -> Option<bool> {
    let sign = |d: &Dim, least: i64| {
        let (mut terms, constant) = d.parts();
        terms.all(|(_, c)| c >= 0) && constant >= least
    };
    if sign(&(a - b), 0) {
        Some(true)
    } else if sign(&(b - a), 1) {
        Some(false)
    } else {
        None
    }
}
