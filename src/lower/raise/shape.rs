//! Arithmetic on shapes: int64 scalars and vectors computed from sizes are followed as polynomials, not as values.
//!
//! These are the forms in which exporters write a target shape: `Shape`, picks of it, arithmetic, their concatenation, and
//! the `Where(Equal(…, -1), …)` around the target of an `Expand`. What is no such form, or is not the same for every value
//! of the symbols, is left to the ops.

use crate::ir::{Dim, Tensor};
use crate::ops::{Operand, Site, Slice, ranges};

/// Longer vectors are data.
const LONGEST: usize = 64;

/// Numbers, and whether they are a scalar.
type Sizes = (Vec<Dim>, bool);

/// The result of a node that computes sizes from sizes; `None` when it is none. A result without symbols is a constant.
pub(super) fn read<'g>(s: &Site<'_, 'g>) -> Option<Operand<'g>> {
    if !s.domain.is_empty() || s.results != 1 {
        return None;
    }
    let short = |i: usize| s.get(i).sizes().filter(|x| x.0.len() <= LONGEST);
    let constant = |shape: Sizes, of: fn(&[usize], &[Dim]) -> Option<Tensor>| {
        let axes: &[usize] = if shape.1 { &[] } else { &[shape.0.len()] };
        of(axes, &shape.0).map(|t| Operand::Value(s.builder.constant(t)))
    };
    if s.op_type == "Equal" {
        let truths = elementwise(&short(0)?, &short(1)?, |a, b| Some(Dim::known(equal(a, b)?.into())))?;
        return constant(truths, |axes, v| Some(Tensor::new(axes, v.iter().map(|d| d.is(1)).collect())));
    }
    let all = || (0..s.operands()).map(short).collect::<Option<Vec<Sizes>>>();
    let (dims, scalar) = match s.op_type {
        "Shape" => (shape(s)?, false),
        "Where" => chosen(s, &short(1)?, &short(2)?)?,
        _ => compute(s, &all()?)?,
    };
    if s.overlooked().is_some() {
        return None;
    }
    let known =
        |axes: &[usize], v: &[Dim]| Some(Tensor::new(axes, v.iter().map(Dim::value).collect::<Option<Vec<_>>>()?));
    Some(constant((dims.clone(), scalar), known).unwrap_or(Operand::Sizes { dims, scalar }))
}

/// The sizes of a value, from `start` to `end` from opset 15 on.
fn shape(s: &Site<'_, '_>) -> Option<Vec<Dim>> {
    let dims = match s.get(0) {
        Operand::Value(t) => t.dims().to_vec(),
        Operand::Sizes { scalar: true, .. } => Vec::new(),
        Operand::Sizes { dims, .. } => vec![Dim::from(dims.len())],
        Operand::Absent => return None,
    };
    if s.opset < 15 {
        return Some(dims);
    }
    let n = dims.len() as i64;
    let at = |i: i64| (if i < 0 { i.saturating_add(n) } else { i }).clamp(0, n) as usize;
    let (from, to) = (at(s.int("start", 0).ok()?), at(s.int("end", n).ok()?));
    Some(dims.get(from..to).unwrap_or_default().to_vec())
}

fn compute(s: &Site<'_, '_>, x: &[Sizes]) -> Option<Sizes> {
    // Of a scalar or a vector, the only axis is the first and the last.
    let first = |axis: i64| (axis == 0 || axis == -1).then_some(());
    let only = |axes: Option<Vec<i64>>| axes.is_none_or(|a| a == [0] || a == [-1]).then_some(());
    let integers = |x: &Sizes| x.0.iter().map(Dim::value).collect::<Option<Vec<i64>>>();
    match (s.op_type, x) {
        ("Identity", [x]) => Some(x.clone()),
        // 7 is int64.
        ("Cast", [x]) if s.int("to", 0) == Ok(7) => Some(x.clone()),
        ("Concat", parts) if parts.iter().all(|p| !p.1) => {
            first(s.int("axis", 0).ok()?)?;
            Some((parts.iter().flat_map(|p| p.0.iter().cloned()).collect(), false))
        }
        ("Gather", [(dims, false), at]) => {
            first(s.int("axis", 0).ok()?)?;
            let place =
                |i: i64| dims.get(usize::try_from(if i < 0 { i + dims.len() as i64 } else { i }).ok()?).cloned();
            Some((integers(at)?.into_iter().map(place).collect::<Option<_>>()?, at.1))
        }
        ("Slice", [(dims, false), ..]) => {
            let cut = |v: Vec<Dim>, r: &Slice| {
                let part = v.get(r.start.size()?..r.end.size()?)?;
                Some(part.iter().step_by(r.step).cloned().collect())
            };
            let ranges = ranges(s, &[Dim::from(dims.len())]).ok()?;
            Some((ranges.iter().try_fold(dims.clone(), cut)?, false))
        }
        ("Squeeze", [(dims, false), ..]) if dims.len() == 1 => {
            only(s.axes(13).ok()?)?;
            Some((dims.clone(), true))
        }
        ("Unsqueeze", [(dims, true), ..]) => {
            only(s.axes(13).ok()?)?;
            Some((dims.clone(), false))
        }
        ("Reshape", [(dims, _), (to, false)]) => match to.as_slice() {
            [] if dims.len() == 1 => Some((dims.clone(), true)),
            [n] if n.is(-1) || *n == Dim::from(dims.len()) => Some((dims.clone(), false)),
            _ => None,
        },
        ("ReduceProd", [(dims, false), ..]) => {
            only(s.axes(18).ok()?)?;
            finite((vec![dims.iter().product()], s.int("keepdims", 1) == Ok(0)))
        }
        ("Add", [a, b]) => finite(elementwise(a, b, |a, b| Some(a + b))?),
        ("Sub", [a, b]) => finite(elementwise(a, b, |a, b| Some(a - b))?),
        ("Mul", [a, b]) => finite(elementwise(a, b, |a, b| Some(a * b))?),
        ("Div", [a, b]) => elementwise(a, b, quotient),
        _ => None,
    }
}

/// Nothing where a number overflows.
fn finite(x: Sizes) -> Option<Sizes> {
    (!x.0.contains(&Dim::OVERFLOW)).then_some(x)
}

/// `f` of two scalars or vectors, of which a single number broadcasts.
fn elementwise(a: &Sizes, b: &Sizes, f: impl Fn(&Dim, &Dim) -> Option<Dim>) -> Option<Sizes> {
    let n = if a.0.len() == 1 { b.0.len() } else { a.0.len() };
    let one = |x: &Sizes, i: usize| x.0.get(if x.0.len() == 1 { 0 } else { i }).cloned();
    let fits = |x: &Sizes| x.0.len() == 1 || x.0.len() == n;
    let each = |i: usize| f(&one(a, i)?, &one(b, i)?);
    if fits(a) && fits(b) { Some(((0..n).map(each).collect::<Option<_>>()?, a.1 && b.1)) } else { None }
}

/// The quotient rounded towards zero, where that is one polynomial for all sizes.
fn quotient(a: &Dim, b: &Dim) -> Option<Dim> {
    if let (Some(a), Some(b)) = (a.value(), b.value()) {
        return a.checked_div(b).map(Dim::known);
    }
    a.exact_div(b).or_else(|| if never_negative(a) { a.floor_div(b.value()?) } else { None })
}

/// Whether no values of the symbols, which are sizes, make this negative, as far as signs tell.
fn never_negative(d: &Dim) -> bool {
    let (mut terms, constant) = d.parts();
    constant >= 0 && terms.all(|(_, c)| c > 0)
}

/// Whether two numbers are equal, when that is decided for all sizes.
fn equal(a: &Dim, b: &Dim) -> Option<bool> {
    let apart = |d: Dim| never_negative(&(d - 1));
    if a == b { Some(true) } else { (apart(a - b) || apart(b - a)).then_some(false) }
}

/// `Where` of a constant condition.
fn chosen(s: &Site<'_, '_>, a: &Sizes, b: &Sizes) -> Option<Sizes> {
    let c = s.get(0).constant()?;
    let mask = c.to_vec::<bool>()?.into_iter().map(|c| Dim::known(c.into())).collect();
    let mask = (mask, c.rank() == 0);
    let (a, b) = (elementwise(&mask, a, |_, a| Some(a.clone()))?, elementwise(&mask, b, |_, b| Some(b.clone()))?);
    let wide = elementwise(&a, &b, |a, _| Some(a.clone()))?;
    let pick = |i: usize| {
        let of = |x: &Sizes| x.0.get(if x.0.len() == 1 { 0 } else { i }).cloned();
        if of(&mask)?.is(1) { of(&a) } else { of(&b) }
    };
    (c.rank() <= 1).then(|| (0..wide.0.len()).map(pick).collect::<Option<_>>())?.map(|dims| (dims, wide.1))
}
