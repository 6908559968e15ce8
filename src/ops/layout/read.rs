//! The ONNX ops that are data movement, read: shapes, axes, bounds and pads are attributes in old opsets and operands in new ones.

use super::{Pad, Slice};
use crate::build::T;
use crate::ir::{Dim, Real, Shape};
use crate::ops::{Site, Unread};

type Results<'g> = Result<Vec<T<'g>>, Unread>;

/// `Reshape`, `Squeeze`, `Unsqueeze`, `Flatten`.
pub(super) fn reshape<'g>(s: &Site<'_, 'g>) -> Results<'g> {
    let x = s.x(0)?;
    let to = match s.op_type {
        "Squeeze" => squeezed(s, x)?,
        "Unsqueeze" => unsqueezed(s, x)?,
        "Flatten" => {
            // The last axis may be followed by nothing: 0 to the rank, or negative.
            let at = s.int("axis", 1)?;
            let at = if at == x.rank() as i64 { x.rank() } else { s.place(at, x.rank())? };
            let dims = x.dims();
            vec![dims[..at].iter().product(), dims[at..].iter().product()]
        }
        _ => target(s, x)?,
    };
    Ok(vec![x.reshape(to)])
}

/// The shape that `Reshape` asks for: 0 copies the size of the same place (unless `allowzero`, of opset 14), one -1 is what remains.
fn target(s: &Site<'_, '_>, x: T<'_>) -> Result<Vec<Dim>, Unread> {
    let (from, mut to) = (x.dims(), s.dims(1)?);
    let copies = s.opset < 14 || !s.flag("allowzero")?;
    let mut free = None;
    for (i, d) in to.iter_mut().enumerate() {
        match (d.value(), from.get(i)) {
            (Some(0), Some(old)) if copies => *d = old.clone(),
            (Some(0), None) if copies => return s.refuse("a 0 in the shape has no axis to copy"),
            (Some(-1), _) if free.is_none() => free = Some(i),
            (Some(..0), _) => return s.refuse(format!("{} is no shape", Shape::from(to))),
            _ => {}
        }
    }
    let Some(i) = free else { return Ok(to) };
    // Sizes on both sides cancel: what remains divides exactly even where sizes are sums, such as `h*w + 1`.
    let (mut all, mut rest) = (from.to_vec(), Vec::new());
    for (_, d) in to.iter().enumerate().filter(|(j, _)| *j != i) {
        match all.iter().position(|a| a == d) {
            Some(at) => drop(all.remove(at)),
            None => rest.push(d.clone()),
        }
    }
    let (all, rest): (Dim, Dim) = (all.iter().product(), rest.iter().product());
    let Some(d) = all.exact_div(&rest) else { return s.refuse(format!("{all} elements are not divisible by {rest}")) };
    to[i] = d;
    Ok(to)
}

/// Without the axes given, or without all of size 1 where none are.
fn squeezed(s: &Site<'_, '_>, x: T<'_>) -> Result<Vec<Dim>, Unread> {
    let dims = x.dims().to_vec();
    let gone = match s.axes(13)? {
        Some(axes) => axes.into_iter().map(|a| s.place(a, dims.len())).collect::<Result<Vec<_>, _>>()?,
        None if dims.iter().all(|d| d.value().is_some()) => (0..dims.len()).filter(|&i| dims[i].is(1)).collect(),
        None => return s.refuse(format!("without axes, sizes must be known, found {}", x.ty())),
    };
    if let Some(&a) = gone.iter().find(|&&a| !dims[a].is(1)) {
        return s.refuse(format!("axis {a} of {} is not of size 1", x.ty()));
    }
    Ok(dims.into_iter().enumerate().filter(|(i, _)| !gone.contains(i)).map(|(_, d)| d).collect())
}

/// With axes of size 1 at the places given, which are places of the result.
fn unsqueezed(s: &Site<'_, '_>, x: T<'_>) -> Result<Vec<Dim>, Unread> {
    let Some(axes) = s.axes(13)? else { return s.refuse("the axes are missing") };
    let rank = x.rank() + axes.len();
    let mut new = axes.into_iter().map(|a| s.place(a, rank)).collect::<Result<Vec<_>, _>>()?;
    new.sort_unstable();
    if new.windows(2).any(|w| w[0] == w[1]) {
        return s.refuse("an axis is given twice");
    }
    let mut to = x.dims().to_vec();
    for a in new {
        to.insert(a, Dim::known(1));
    }
    Ok(to)
}

/// `Expand`, which broadcasts both ways: a size of 1 in the target keeps the operand's. `Tile` by way of it.
pub(super) fn expand<'g>(s: &Site<'_, 'g>) -> Results<'g> {
    let (x, to) = (s.x(0)?, s.dims(1)?);
    if s.op_type == "Expand" {
        let Some(shape) = x.ty().shape.broadcast(&to.clone().into()) else {
            return s.refuse(format!("{} does not broadcast to {}", x.ty(), Shape::from(to)));
        };
        return Ok(vec![x.expand(shape)]);
    }
    let dims = x.dims();
    if to.len() != dims.len() {
        return s.refuse(format!("{} repeats are given for {}", to.len(), x.ty()));
    }
    let one = Dim::known(1);
    let pairs = || to.iter().zip(&dims);
    let split: Vec<Dim> = pairs().flat_map(|(_, d)| [one.clone(), d.clone()]).collect();
    let wide: Vec<Dim> = pairs().flat_map(|(n, d)| [n.clone(), d.clone()]).collect();
    Ok(vec![x.reshape(split).expand(wide).reshape(pairs().map(|(n, d)| n * d).collect::<Vec<_>>())])
}

/// The ranges of a `Slice` of sizes `dims`, one for each axis that it names: attributes up to opset 9, operands after.
/// Bounds count from the end when negative and are limited to the axis.
pub(crate) fn ranges(s: &Site<'_, '_>, dims: &[Dim]) -> Result<Vec<Slice>, Unread> {
    let attribute = |name: &str| Ok(s.ints(name)?.map(|v| v.into_iter().map(Dim::known).collect::<Vec<_>>()));
    let (starts, ends, axes, steps) = if s.opset < 10 {
        let (Some(starts), Some(ends)) = (attribute("starts")?, attribute("ends")?) else {
            return s.refuse("the attributes `starts` and `ends` are missing");
        };
        (starts, ends, s.ints("axes")?, None)
    } else {
        let optional = |i: usize| if s.has(i) { s.known(i).map(Some) } else { Ok(None) };
        (s.dims(1)?, s.dims(2)?, optional(3)?, optional(4)?)
    };
    let n = starts.len();
    let axes = axes.unwrap_or_else(|| (0..n as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; n]);
    if [ends.len(), axes.len(), steps.len()] != [n; 3] {
        return s.refuse("starts, ends, axes and steps differ in length");
    }
    let range = |i: usize| {
        let axis = s.place(axes[i], dims.len())?;
        let Some(step) = usize::try_from(steps[i]).ok().filter(|&step| step > 0) else {
            return s.refuse(format!("a step of {} is not supported; positive ones are", steps[i]));
        };
        let size = &dims[axis];
        let place = |d: &Dim| match (d.value(), size.value()) {
            // The largest number stands for the end of any axis.
            _ if *d == Dim::OVERFLOW => size.clone(),
            (Some(v @ ..0), Some(n)) => Dim::known(n.saturating_add(v).max(0)),
            (Some(v @ ..0), None) => size + v,
            (Some(v), Some(n)) => Dim::known(v.min(n)),
            (Some(v), None) if v >= i64::from(i32::MAX) => size.clone(),
            _ => d.clone(),
        };
        let (start, end) = (place(&starts[i]), place(&ends[i]));
        let empty = (&end - &start).value().is_some_and(|n| n < 0);
        Ok(Slice { axis, end: if empty { start.clone() } else { end }, start, step })
    };
    let found = (0..n).map(range).collect::<Result<Vec<_>, _>>()?;
    let twice = |i: usize| found[..i].iter().any(|r| r.axis == found[i].axis);
    if (0..n).any(twice) { s.refuse("an axis is given twice") } else { Ok(found) }
}

/// `Slice`.
pub(super) fn slice<'g>(s: &Site<'_, 'g>) -> Results<'g> {
    let x = s.x(0)?;
    let whole = |r: &Slice| r.start.is(0) && r.step == 1 && r.end == x.dim(r.axis as i64);
    let ranges = ranges(s, &x.dims())?.into_iter().filter(|r| !whole(r));
    Ok(vec![ranges.fold(x, |x, r| s.builder.apply(r, &[x]))])
}

/// `Split`, by sizes (an attribute up to opset 12, an operand after) or into as many parts as there are results.
pub(super) fn split<'g>(s: &Site<'_, 'g>) -> Results<'g> {
    let x = s.x(0)?;
    let axis = s.axis(0, x)?;
    let size = x.dim(axis as i64);
    let given = match s.opset >= 13 {
        true if s.has(1) => Some(s.dims(1)?),
        true => None,
        false => s.ints("split")?.map(|v| v.into_iter().map(Dim::known).collect()),
    };
    let parts = match given {
        Some(parts) => parts,
        None => {
            let n = s.results;
            if s.opset >= 18 && s.maybe_int("num_outputs")? != i64::try_from(n).ok() {
                return s.refuse(format!("num_outputs must be the number of results, {n}"));
            }
            match (size.exact_div(&Dim::from(n)), size.size()) {
                (Some(part), _) => vec![part; n],
                // Whole parts, and what is left: none where the axis is too short.
                (None, Some(size)) if s.opset >= 18 => {
                    let part = size.div_ceil(n.max(1));
                    (0..n).map(|i| Dim::from(size.saturating_sub(i * part).min(part))).collect()
                }
                _ => return s.refuse(format!("axis {axis} of {} does not split into {n} equal parts", x.ty())),
            }
        }
    };
    if parts.iter().fold(Dim::known(0), |sum, p| sum + p) != size || parts.iter().any(|p| !p.is_valid()) {
        return s.refuse(format!("{} are not the sizes of parts of axis {axis} of {}", Shape::from(parts), x.ty()));
    }
    let mut start = Dim::known(0);
    let part = |len: Dim| {
        let part = x.narrow(axis as i64, start.clone(), len.clone());
        start = &start + len;
        part
    };
    Ok(parts.into_iter().map(part).collect())
}

/// `Pad` with a constant: attributes up to opset 10, operands after; negative numbers cut off.
pub(super) fn pad<'g>(s: &Site<'_, 'g>) -> Results<'g> {
    let x = s.x(0)?;
    let mode = s.str("mode", "constant")?;
    if mode != "constant" {
        return s.refuse(format!("mode = {mode} is not supported; constant is"));
    }
    let rank = x.rank();
    let mut axes: Vec<i64> = (0..rank as i64).collect();
    let (pads, value) = if s.opset < 11 {
        let Some(pads) = s.ints("pads")? else { return s.refuse("the attribute `pads` is missing") };
        (pads, s.float("value", 0.0)?)
    } else {
        if s.opset >= 18 && s.has(3) {
            axes = s.known(3)?;
        }
        (s.known(1)?, if s.has(2) { s.number(2)? } else { 0.0 })
    };
    let n = axes.len();
    if pads.len() != 2 * n {
        return s.refuse(format!("{} pads are given for {n} axes; two for each are needed", pads.len()));
    }
    let mut y = x;
    for (i, &axis) in axes.iter().enumerate() {
        let (axis, before, after) = (s.place(axis, rank)?, pads[i], pads[n + i]);
        let (more, less) = (|p: i64| usize::try_from(p).unwrap_or(0), |p: i64| Dim::known(p.min(0).saturating_neg()));
        if before < 0 || after < 0 {
            let (start, end) = (less(before), y.dim(axis as i64) - less(after));
            y = s.builder.apply(Slice { axis, start, end, step: 1 }, &[y]);
        }
        if before > 0 || after > 0 {
            y = s.builder.apply(Pad { axis, before: more(before), after: more(after), value: Real(value) }, &[y]);
        }
    }
    Ok(vec![y])
}
