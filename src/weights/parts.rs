//! Values of a weight program that are elements of parameters as they stand, one range after the other: slices of
//! packed weights, reshaped or joined. They are never computed, only read.

use crate::ir::{Side, TensorType, ValueId};
use crate::ops::{Graph, Op};
use std::ops::Range;

/// A range of a parameter's elements, in row-major order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The parameter.
    pub(super) param: ValueId,
    /// Its elements.
    pub(super) elements: Range<usize>,
}

/// Ranges that one value may consist of: more are copied as any other value.
const MOST: usize = 64;

/// For every value, the parts that it is, if it is such a value.
pub(super) fn parts(w: &Graph) -> Side<ValueId, Option<Vec<Part>>> {
    let mut out: Side<ValueId, Option<Vec<Part>>> = Side::new(w.value_count(), None);
    for p in w.params() {
        let elements = elements(w.ty(p.value));
        out[p.value] = elements.map(|n| vec![Part { param: p.value, elements: 0..n }]);
    }
    for (_, n) in w.nodes() {
        let contiguous = |axis: usize, ty: &TensorType| ty.shape[..axis].iter().all(|d| d.is(1));
        out[n.first] = match &n.op {
            Op::Reshape(_) => out[n.inputs[0]].clone(),
            Op::Slice(s) if s.step == 1 && contiguous(s.axis, w.ty(n.inputs[0])) => {
                let row = w.ty(n.inputs[0]).shape[s.axis + 1..].iter().try_fold(1, |n, d| Some(n * d.size()?));
                let range = row.zip(s.start.size()).zip(s.end.size()).map(|((n, a), b)| a * n..b * n);
                out[n.inputs[0]].as_deref().zip(range).map(|(parts, range)| cut(parts, &range))
            }
            Op::Concat(c) if contiguous(c.axis, w.ty(n.first)) => {
                let all = n.inputs.iter().map(|&v| out[v].as_deref()).collect::<Option<Vec<_>>>();
                all.filter(|all| all.iter().map(|p| p.len()).sum::<usize>() <= MOST).map(|all| all.concat())
            }
            _ => None,
        };
    }
    out
}

/// The number of elements of a type, where it is known.
pub(super) fn elements(ty: &TensorType) -> Option<usize> {
    ty.shape.elements().value().and_then(|n| usize::try_from(n).ok())
}

/// The elements `range` of the parts taken together.
pub(super) fn cut(parts: &[Part], range: &Range<usize>) -> Vec<Part> {
    let mut before = 0;
    let mut out = Vec::new();
    for p in parts {
        let inside = |at: usize| at.saturating_sub(before).min(p.elements.len()) + p.elements.start;
        let elements = inside(range.start)..inside(range.end);
        if !elements.is_empty() {
            out.push(Part { param: p.param, elements });
        }
        before += p.elements.len();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Builder;
    use crate::ir::{DType, Init, Stage};

    #[test]
    fn slices_and_joins_along_the_first_axis_are_ranges() {
        let b = Builder::new("w", Stage::Legal);
        let ty = TensorType::new(DType::F32, [6, 4]);
        let w = b.param("w", ty.clone(), Init::ONES, true);
        let v = b.param("v", ty, Init::ONES, true);
        let rows = w.narrow(0, 2, 3);
        let joined = [
            rows,
            rows.reshape([1, 12]).narrow(1, 1, 10),
            b.apply(crate::ops::Concat { axis: 0 }, &[rows.narrow(0, 1, 2), v]).narrow(0, 1, 2),
            w.narrow(1, 0, 2),
            w.t(),
            -w,
        ];
        let ids = joined.map(|t| t.id().expect("well typed"));
        let (w, v) = (w.id().expect("well typed"), v.id().expect("well typed"));
        let g = b.finish().expect("well typed");
        let parts = parts(&g);
        let part = |param, elements| Part { param, elements };
        assert_eq!(parts[ids[0]], Some(vec![part(w, 8..20)]));
        assert_eq!(parts[ids[1]], Some(vec![part(w, 9..19)]));
        assert_eq!(parts[ids[2]], Some(vec![part(w, 16..20), part(v, 0..4)]));
        assert!(ids[3..].iter().all(|&i| parts[i].is_none()));
    }
}
