//! How axes of operands become axes of results: which elements of an operand an element of a result may read.
//!
//! Links bound what is read from above. Element `i` of a result may read element `j` of an operand only if every link
//! between the two allows it; an axis that no link joins to that result may be read as a whole.

use crate::ir::{Dim, TensorType};

/// How the index `i` along an axis of a result decides which indices `j` along an axis of an operand are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Along {
    /// `j = i`.
    Each,
    /// All of the axis may be read.
    Whole,
    /// All of the axis is read and summed up, with factors that do not depend on this operand: the result is linear.
    Sum,
    /// `start + i·step ≤ j < start + i·step + extent`; indices outside of the operand are padding.
    Window {
        /// The first index of the first window; negative where there is padding.
        start: Dim,
        /// From one window to the next.
        step: Dim,
        /// The length of a window, gaps included.
        extent: Dim,
    },
    /// `j = i − at`: the operand is a part of the result (`at ≥ 0`), or the result one of the operand.
    Part {
        /// Where the operand begins on the axis of the result.
        at: Dim,
    },
    /// `j = ⌊i / inner⌋ mod n`, where `n` is the size of the operand's axis: one factor of a merged axis.
    Merged {
        /// The product of the factors to the right.
        inner: Dim,
    },
    /// `i = ⌊j / inner⌋ mod n`, where `n` is the size of the result's axis: the axis becomes one factor of the
    /// operand's axis.
    Split {
        /// The product of the factors to the right.
        inner: Dim,
    },
}

/// What becomes of one axis of one operand. Every axis of every operand has at least one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Which operand.
    pub operand: usize,
    /// Which of its axes.
    pub axis: usize,
    /// Which result, and which of its axes; `None` when no axis corresponds: it is reduced, or broadcast.
    pub result: Option<(usize, usize)>,
    /// How the two correspond.
    pub how: Along,
}

impl Link {
    /// An axis that becomes an axis of the first result.
    pub(super) fn to(operand: usize, axis: usize, result: usize, how: Along) -> Self {
        Self { operand, axis, result: Some((0, result)), how }
    }
    /// An axis that vanishes.
    pub(super) fn gone(operand: usize, axis: usize, how: Along) -> Self {
        Self { operand, axis, result: None, how }
    }
}

/// Elementwise with broadcasting.
pub(super) fn elementwise(x: &[&TensorType], y: &[&TensorType]) -> Vec<Link> {
    x.iter().enumerate().flat_map(|(i, t)| broadcast(i, &t.shape, &y[0].shape)).collect()
}

/// The leading axes `from` of operand `i`, broadcast to `to`, the leading axes of the result.
pub(super) fn broadcast(i: usize, from: &[Dim], to: &[Dim]) -> Vec<Link> {
    let ahead = to.len() - from.len();
    let one = |(a, d): (usize, &Dim)| {
        if *d == to[a + ahead] { Link::to(i, a, a + ahead, Along::Each) } else { Link::gone(i, a, Along::Whole) }
    };
    from.iter().enumerate().map(one).collect()
}

/// An op of one operand whose axis `a` becomes axis `to(a)` of the first result.
pub(super) fn unary(x: &[&TensorType], to: impl Fn(usize) -> (Option<usize>, Along)) -> Vec<Link> {
    let one = |a| {
        let (result, how) = to(a);
        Link { operand: 0, axis: a, result: result.map(|r| (0, r)), how }
    };
    (0..x[0].rank()).map(one).collect()
}

/// An op of one operand that keeps its axes; what happens along `axis` is `how`.
pub(super) fn only(x: &[&TensorType], axis: usize, how: Along) -> Vec<Link> {
    unary(x, |a| (Some(a), if a == axis { how.clone() } else { Along::Each }))
}

/// A product over the last two axes of `x[0]` and `x[1]`; `inner[i]` is the axis of operand `i` that is summed over,
/// counted from the end.
pub(super) fn product(x: &[&TensorType], y: &[&TensorType], inner: [usize; 2]) -> Vec<Link> {
    let rank = y[0].rank();
    let mut links = Vec::new();
    for (i, t) in x.iter().enumerate() {
        let n = t.rank();
        links.extend(broadcast(i, &t.shape[..n - 2], &y[0].shape[..rank - 2]));
        links.push(Link::gone(i, n - inner[i], Along::Sum));
        links.push(Link::to(i, n - (3 - inner[i]), rank - 2 + i, Along::Each));
    }
    links
}

/// The row-major elements of `from` under the shape `to`, factor by factor.
pub(super) fn reshape(from: &[Dim], to: &[Dim]) -> Vec<Link> {
    let kept = |s: &[Dim]| (0..s.len()).filter(|&a| !s[a].is(1)).collect::<Vec<_>>();
    let mut links: Vec<Link> =
        (0..from.len()).filter(|&a| from[a].is(1)).map(|a| Link::gone(0, a, Along::Whole)).collect();
    let (kept_from, kept_to) = (kept(from), kept(to));
    let (mut a, mut b) = (&kept_from[..], &kept_to[..]);
    while !a.is_empty() || !b.is_empty() {
        let (m, n) = group(from, a, to, b);
        factors(from, &a[..m], to, &b[..n], &mut links);
        (a, b) = (&a[m..], &b[n..]);
    }
    links
}

/// How many of the leading axes `a` of one shape and `b` of another have the same product: as few as can be told.
fn group(from: &[Dim], a: &[usize], to: &[Dim], b: &[usize]) -> (usize, usize) {
    let (mut m, mut n) = (a.len().min(1), b.len().min(1));
    loop {
        let product = |s: &[Dim], axes: &[usize]| axes.iter().map(|&a| &s[a]).product::<Dim>();
        let (p, q) = (product(from, &a[..m]), product(to, &b[..n]));
        if p == q || (m == a.len() && n == b.len()) {
            return (m, n);
        }
        let (less, more) = (q.exact_div(&p).is_some(), p.exact_div(&q).is_some());
        let (less, more) = match (p.value(), q.value()) {
            (Some(p), Some(q)) => (p < q, p > q),
            _ => (less || !more, more || !less),
        };
        // The shorter side takes one more axis, both when it cannot be told.
        let (more_a, more_b) = (less && m < a.len(), more && n < b.len());
        if !more_a && !more_b {
            return (a.len(), b.len());
        }
        (m, n) = (m + usize::from(more_a), n + usize::from(more_b));
    }
}

/// Links of the axes `a` to the axes `b`, which hold the same elements.
fn factors(from: &[Dim], a: &[usize], to: &[Dim], b: &[usize], links: &mut Vec<Link>) {
    let inner = |s: &[Dim], axes: &[usize]| axes.iter().map(|&x| &s[x]).product::<Dim>();
    match (a, b) {
        (&[a], &[b]) => links.push(Link::to(0, a, b, Along::Each)),
        (&[a], [_, ..]) => {
            let split = |(i, &r)| Link::to(0, a, r, Along::Split { inner: inner(to, &b[i + 1..]) });
            links.extend(b.iter().enumerate().map(split));
        }
        ([_, ..], &[b]) => {
            let merged = |(i, &x)| Link::to(0, x, b, Along::Merged { inner: inner(from, &a[i + 1..]) });
            links.extend(a.iter().enumerate().map(merged));
        }
        ([first, ..], [lead, ..]) => {
            for &x in a {
                for &r in b {
                    let outermost = (x, r) == (*first, *lead);
                    let how = match (from[x].exact_div(&to[r]), to[r].exact_div(&from[x])) {
                        (Some(inner), _) if outermost => Along::Split { inner },
                        (_, Some(inner)) if outermost => Along::Merged { inner },
                        _ => Along::Whole,
                    };
                    links.push(Link::to(0, x, r, how));
                }
            }
        }
        // Of an empty tensor, whose sizes have nothing to do with each other.
        (a, _) => links.extend(a.iter().map(|&x| Link::gone(0, x, Along::Whole))),
    }
}
