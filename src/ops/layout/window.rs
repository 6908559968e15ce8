//! Windows of what data movement makes: the same movement of less.

use super::super::region::overlap;
use super::{Concat, Pad, Reshape, Slice};
use crate::build::T;
use crate::ir::Dim;
use crate::ops::{Along, Link, OpDef, Wanted};

pub(super) fn reshape<'g>(op: &Reshape, w: &Wanted<'g, '_>) -> Option<T<'g>> {
    let mut to = op.to.clone();
    let mut n = w.narrowed(&[]);
    let types = [&w.x[0].ty()];
    for Link { axis, result, how, .. } in op.axes(&types, &[]) {
        let Some((_, r)) = result else { continue };
        let size = &types[0].shape[axis];
        match (how, &w.to.axes[r]) {
            (Along::Each, Some((_, size))) => to[r] = size.clone(),
            (Along::Split { inner }, Some((start, taken))) if &inner * &op.to[r] == *size => {
                n.narrow(0, axis, start * &inner, taken * &inner);
                to[r] = taken.clone();
                n.rest.axes[r] = None;
            }
            (Along::Merged { inner }, Some((start, taken))) if &inner * size == op.to[r] => {
                let Some([first, end]) = cover(start, taken, &inner) else { continue };
                n.narrow(0, axis, &first, &end - &first);
                to[r] = (&end - &first) * &inner;
                let left = (start - &first * &inner, taken.clone());
                n.rest.axes[r] = (left != (0.into(), to[r].clone())).then_some(left);
            }
            _ => {}
        }
    }
    n.apply(Reshape { to })
}

pub(super) fn slice<'g>(op: &Slice, w: &Wanted<'g, '_>) -> Option<T<'g>> {
    let mut n = w.narrowed(&[]);
    let Some((start, size)) = n.rest.axes[op.axis].take() else { return n.apply(op.clone()) };
    let start = &op.start + start * op.step;
    let end = if size.is(0) { start.clone() } else { &start + (&size - 1) * op.step + 1 };
    n.apply(Slice { start, end, ..op.clone() })
}

pub(super) fn pad<'g>(op: &Pad, w: &Wanted<'g, '_>) -> Option<T<'g>> {
    let (mut n, size) = (w.narrowed(&[]), w.x[0].dim(op.axis as i64));
    let met = n.rest.axes[op.axis].as_ref().and_then(|window| overlap(window, &op.before.into(), &size));
    let Some(met) = met else { return n.apply(op.clone()) };
    let Some(met) = met else { return Some(n.x[0].scalar(op.value.0).expand(w.to.shape(&w.y[0].shape))) };
    let (Some(before), Some(after)) = (met.before.size(), met.after.size()) else { return n.apply(op.clone()) };
    n.narrow(0, op.axis, met.start, met.size);
    n.rest.axes[op.axis] = None;
    if before + after == 0 { Some(n.rest.of(n.x[0])) } else { n.apply(Pad { before, after, ..op.clone() }) }
}

pub(super) fn concat<'g>(op: &Concat, w: &Wanted<'g, '_>) -> Option<T<'g>> {
    let mut n = w.narrowed(&[]);
    if let Some(window) = &n.rest.axes[op.axis] {
        let (mut at, mut parts) = (Dim::known(0), Some(Vec::new()));
        for x in &n.x {
            let size = x.dim(op.axis as i64);
            match (overlap(window, &at, &size), &mut parts) {
                (Some(Some(met)), Some(parts)) => parts.push(x.narrow(op.axis as i64, met.start, met.size)),
                (Some(None), _) => {}
                _ => parts = None,
            }
            at = at + size;
        }
        if let Some(parts) = parts.filter(|p| !p.is_empty()) {
            (n.x, n.rest.axes[op.axis]) = (parts, None);
        }
    }
    if let ([x], true) = (&n.x[..], n.rest != *w.to) { Some(n.rest.of(*x)) } else { n.apply(op.clone()) }
}

/// The fewest runs of `inner` elements, `[first, end)`, that cover a window; `None` when it depends on a symbol.
fn cover(start: &Dim, size: &Dim, inner: &Dim) -> Option<[Dim; 2]> {
    let (exact, end) = (|d: &Dim| d.exact_div(inner), start + size);
    match (exact(start), exact(&end)) {
        (Some(first), Some(end)) => Some([first, end]),
        _ => {
            let (start, end, inner) = (start.size()?, end.size()?, inner.size()?);
            Some([Dim::from(start / inner), end.div_ceil(inner).into()])
        }
    }
}
