//! Data movement: reshape, transpose, expand, slice, pad, concat. Each is another's gradient.

mod read;
mod window;

pub(crate) use read::ranges;

use super::Arg;
use super::check::{axis, equal, fail, operands, resized, same_dtype};
use super::prelude::*;
use crate::ir::transpose_band;
use crate::with_array;
use ndarray::{Axis, IxDyn, Slice as Range};

/// The known sizes under `env`.
pub(super) fn bound(to: &[Dim], env: &Bindings) -> Result<Vec<usize>, EvalError> {
    Shape::from(to).eval(env).ok_or_else(|| EvalError(format!("a symbol of {} is unbound", Shape::from(to))))
}

fn bound1(d: &Dim, env: &Bindings) -> Result<usize, EvalError> {
    Ok(bound(std::slice::from_ref(d), env)?[0])
}

op! {
    /// The same elements in row-major order under another shape.
    pub struct Reshape = "reshape" {
        /// The new shape; its product equals the old one's.
        pub to: Shape,
    }
}

impl OpDef for Reshape {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(x)?;
        let to = self.to.clone();
        if x.shape.elements() != to.elements() || !to.elements().is_valid() {
            return fail(format!("{x} has {} elements, {to} has {}", x.shape.elements(), to.elements()));
        }
        Ok(vec![TensorType { dtype: x.dtype, shape: to }])
    }
    fn eval(&self, x: &[Tensor], env: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        let to = bound(&self.to, env)?;
        if to.iter().product::<usize>() != x[0].len() {
            return Err(EvalError(format!("{:?} does not reshape to {to:?}", x[0].shape())));
        }
        Ok(vec![x[0].reshape(&to)])
    }
    fn vjp<'g>(&self, v: &Vjp<'g, '_>) -> Grad<'g> {
        Grad::one(v.grad(0).reshape(v.x[0].dims()))
    }
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        Ok(s.node("Reshape").arg(Arg::ReshapeTo(self.to.clone())))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        ["Reshape", "Squeeze", "Unsqueeze", "Flatten"].map(|name| ("", name, 7)).to_vec()
    }
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        read::reshape(s)
    }
    fn traits(&self) -> Traits {
        Traits::MOVES
    }
    /// The elements stay in their order, so none is moved.
    fn cost(&self, _: &[&TensorType], _: &[&TensorType]) -> Cost {
        Cost::FREE
    }
    fn axes(&self, x: &[&TensorType], _: &[&TensorType]) -> Vec<Link> {
        axes::reshape(&x[0].shape, &self.to)
    }
    fn linear_in(&self, _: &[&TensorType]) -> Vec<Vec<usize>> {
        vec![vec![0]]
    }
    /// A window of the outermost factor of a merged or split axis; of inner factors the operand's elements lie apart.
    fn restricted<'g>(&self, w: &Wanted<'g, '_>) -> Option<T<'g>> {
        window::reshape(self, w)
    }
    fn samples() -> Vec<Sample> {
        let to = |d: &[i64]| Self { to: d.iter().map(|&d| Dim::known(d)).collect() };
        let of = |to: [Dim; 3], x: &[i64]| Sample::new(Self { to: to.into() }, [x]).batched([0]);
        vec![
            Sample::new(to(&[3, 2, 2]), [&[2, 6]]),
            Sample::new(to(&[]), [&[1, 1]]),
            Sample::new(to(&[1, 4]), [&[4]]),
            Sample::new(to(&[2, 6, 4, 2]), [&[2, 3, 2, 8]]),
            Sample::new(to(&[4, 6]), [&[8, 3]]),
            of([Sample::batch(), 3.into(), 4.into()], &[2, 12]),
            of([Sample::batch() * 3, 4.into(), 1.into()], &[2, 3, 4]),
            of([1.into(), Sample::batch() * 12, 1.into()], &[2, 3, 4]),
        ]
    }
}

op! {
    /// Axis `i` of the result is axis `perm[i]` of the operand.
    pub struct Transpose = "transpose" {
        /// A permutation of the axes.
        pub perm: Vec<usize>,
    }
}

impl Transpose {
    /// The permutation that undoes this one.
    pub fn inverse(&self) -> Vec<usize> {
        let mut inv = vec![0; self.perm.len()];
        for (i, &p) in self.perm.iter().enumerate() {
            inv[p] = i;
        }
        inv
    }
}

impl OpDef for Transpose {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(x)?;
        let mut sorted = self.perm.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..x.rank()) {
            return fail(format!("{:?} is not a permutation of the axes of {x}", self.perm));
        }
        Ok(vec![TensorType { dtype: x.dtype, shape: self.perm.iter().map(|&p| x.shape[p].clone()).collect() }])
    }
    fn eval(&self, x: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        fn go<A: Element>(a: &Array<A>, perm: &[usize]) -> Tensor {
            if let (&[rows, columns], &[1, 0], Some(from)) = (a.shape(), perm, a.as_slice()) {
                let mut to = vec![A::default(); from.len()];
                transpose_band(from, rows, columns, 0..columns, &mut to);
                return Tensor::new(&[columns, rows], to);
            }
            A::wrap(a.clone().permuted_axes(IxDyn(perm)).as_standard_layout().into_owned().into_shared())
        }
        Ok(vec![with_array!(&x[0], a => go(a, &self.perm))])
    }
    fn vjp<'g>(&self, v: &Vjp<'g, '_>) -> Grad<'g> {
        Grad::one(v.grad(0).transpose(&self.inverse()))
    }
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        Ok(s.node("Transpose").ints("perm", self.perm.iter().copied()))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![("", "Transpose", 7)]
    }
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        let x = s.x(0)?;
        let perm = match s.ints("perm")? {
            Some(p) => p.into_iter().map(|a| usize::try_from(a).unwrap_or(usize::MAX)).collect(),
            None => (0..x.rank()).rev().collect(),
        };
        s.apply(Self { perm }, &[x])
    }
    fn traits(&self) -> Traits {
        Traits::MOVES
    }
    fn cost(&self, x: &[&TensorType], y: &[&TensorType]) -> Cost {
        Cost::moves(x, y)
    }
    fn axes(&self, x: &[&TensorType], _: &[&TensorType]) -> Vec<Link> {
        let to = self.inverse();
        axes::unary(x, |a| (Some(to[a]), Along::Each))
    }
    fn linear_in(&self, _: &[&TensorType]) -> Vec<Vec<usize>> {
        vec![vec![0]]
    }
    fn samples() -> Vec<Sample> {
        vec![
            Sample::new(Self { perm: vec![1, 0] }, [&[2, 3]]),
            Sample::new(Self { perm: vec![2, 0, 3, 1] }, [&[2, 3, 4, 2]]),
            Sample::new(Self { perm: vec![1, 2, 0] }, [&[2, 3, 4]]).batched([0]),
        ]
    }
}

op! {
    /// Broadcasts to a shape by numpy's rules.
    pub struct Expand = "expand" {
        /// The result's shape.
        pub to: Shape,
    }
}

impl OpDef for Expand {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(x)?;
        let to = self.to.clone();
        if x.shape.broadcast(&to).as_ref() != Some(&to) {
            return fail(format!("{x} does not broadcast to {to}"));
        }
        Ok(vec![TensorType { dtype: x.dtype, shape: to }])
    }
    fn eval(&self, x: &[Tensor], env: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        let to = bound(&self.to, env)?;
        let y =
            with_array!(&x[0], a => a.broadcast(IxDyn(&to)).map(|view| Element::wrap(view.to_owned().into_shared())));
        Ok(vec![y.ok_or_else(|| EvalError(format!("{:?} does not broadcast to {to:?}", x[0].shape())))?])
    }
    /// The autodiff driver sums over what was broadcast.
    fn vjp<'g>(&self, v: &Vjp<'g, '_>) -> Grad<'g> {
        Grad::one(v.grad(0))
    }
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        Ok(s.node("Expand").arg(Arg::Dims(self.to.clone())))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![("", "Expand", 8), ("", "Tile", 7)]
    }
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        read::expand(s)
    }
    fn traits(&self) -> Traits {
        Traits::MOVES
    }
    fn cost(&self, x: &[&TensorType], y: &[&TensorType]) -> Cost {
        Cost::moves(x, y)
    }
    fn axes(&self, x: &[&TensorType], y: &[&TensorType]) -> Vec<Link> {
        axes::elementwise(x, y)
    }
    fn linear_in(&self, _: &[&TensorType]) -> Vec<Vec<usize>> {
        vec![vec![0]]
    }
    fn restricted<'g>(&self, w: &Wanted<'g, '_>) -> Option<T<'g>> {
        let mut n = w.narrowed(&[]);
        n.rest.axes.fill(None);
        n.apply(Self { to: w.to.shape(&self.to) })
    }
    fn samples() -> Vec<Sample> {
        let to = |d: &[i64]| Self { to: d.iter().map(|&d| Dim::known(d)).collect() };
        vec![
            Sample::new(to(&[2, 3, 4]), [&[3, 1]]),
            Sample::new(to(&[2, 2]), [&[]]),
            Sample::new(Self { to: [Sample::batch(), 4.into()].into() }, [&[2, 1]]).batched([0]),
        ]
    }
}

op! {
    /// Elements `start, start + step, … < end` of one axis.
    pub struct Slice = "slice" {
        /// The axis.
        pub axis: usize,
        /// First element.
        pub start: Dim,
        /// One past the last element, at most the axis' size.
        pub end: Dim,
        /// Distance between elements, at least 1.
        pub step: usize,
    }
}

impl Slice {
    fn length(&self) -> Option<Dim> {
        let len = &self.end - &self.start;
        if self.step == 1 { Some(len) } else { (len + (self.step - 1)).floor_div(self.step as i64) }
    }
}

impl OpDef for Slice {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(x)?;
        let size = axis(x, self.axis)?;
        let bad =
            || TypeError(format!("{}..{} step {} is not a range of {size} elements", self.start, self.end, self.step));
        // Symbolic bounds are compared by their differences: known and not negative, or symbolic and trusted to `is_valid`.
        let ordered = |a: &Dim, b: &Dim| (b - a).is_valid() && (b - a).value().is_none_or(|d| d >= 0);
        if self.step == 0 || !self.start.is_valid() || !ordered(&self.start, &self.end) || !ordered(&self.end, size) {
            return Err(bad());
        }
        Ok(vec![resized(x, self.axis, self.length().ok_or_else(bad)?)])
    }
    fn eval(&self, x: &[Tensor], env: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        let (start, end) = (bound1(&self.start, env)?, bound1(&self.end, env)?);
        if start > end || end > x[0].shape()[self.axis] {
            return Err(EvalError(format!(
                "{start}..{end} is not a range of axis {} of {:?}",
                self.axis,
                x[0].shape()
            )));
        }
        let r = Range::new(start as isize, Some(end as isize), self.step as isize);
        Ok(vec![with_array!(&x[0], a => Element::wrap(a.slice_axis(Axis(self.axis), r).to_owned().into_shared()))])
    }
    /// Zeros around (and, for steps, between) the cotangent.
    fn vjp<'g>(&self, v: &Vjp<'g, '_>) -> Grad<'g> {
        let (x, mut g) = (v.x[0], v.grad(0));
        let size = x.dims()[self.axis].clone();
        let (Some(start), Some(after)) = (self.start.size(), (&size - &self.end).size()) else {
            return Grad::Never("a slice with symbolic bounds has no gradient");
        };
        let mut after = after;
        if self.step > 1 {
            let (Some(len), Some(span)) = (g.dims()[self.axis].size(), (&self.end - &self.start).size()) else {
                return Grad::Never("a strided slice of symbolic length has no gradient");
            };
            // [g0, g1, …] → [g0, 0, …, g1, 0, …]: a new axis padded to the step and merged.
            let mut spread = g.dims().to_vec();
            spread.insert(self.axis + 1, 1.into());
            let mut merged = g.dims();
            merged[self.axis] = Dim::from(len * self.step);
            g = g.reshape(spread).pad(self.axis as i64 + 1, 0, self.step - 1).reshape(merged);
            let have = len * self.step;
            if have > span {
                g = g.narrow(self.axis as i64, 0, span);
            } else {
                after += span - have;
            }
        }
        Grad::one(g.pad(self.axis as i64, start, after))
    }
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        let one = |d: &Dim| Arg::Dims([d].into());
        let call = s.node("Slice").arg(one(&self.start)).arg(one(&self.end)).ints_arg(&[self.axis as i64]);
        Ok(if self.step == 1 { call } else { call.ints_arg(&[self.step as i64]) })
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![("", "Slice", 7), ("", "Split", 7)]
    }
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        if s.op_type == "Split" { read::split(s) } else { read::slice(s) }
    }
    fn traits(&self) -> Traits {
        Traits::MOVES
    }
    fn cost(&self, x: &[&TensorType], y: &[&TensorType]) -> Cost {
        Cost::picks(x, y)
    }
    fn axes(&self, x: &[&TensorType], _: &[&TensorType]) -> Vec<Link> {
        let how = match self.step {
            1 => Along::Part { at: &self.start * -1 },
            step => Along::Window { start: self.start.clone(), step: step.into(), extent: 1.into() },
        };
        axes::only(x, self.axis, how)
    }
    fn linear_in(&self, _: &[&TensorType]) -> Vec<Vec<usize>> {
        vec![vec![0]]
    }
    fn restricted<'g>(&self, w: &Wanted<'g, '_>) -> Option<T<'g>> {
        window::slice(self, w)
    }
    fn samples() -> Vec<Sample> {
        let s = |axis, start: i64, end: i64, step| Self { axis, start: start.into(), end: end.into(), step };
        vec![
            Sample::new(s(1, 1, 4, 1), [&[2, 5]]),
            Sample::new(s(0, 0, 5, 2), [&[5, 2]]),
            Sample::new(s(1, 1, 6, 3), [&[2, 7]]),
            Sample::new(s(1, 0, 6, 2), [&[2, 6]]),
            Sample::new(s(1, 1, 4, 1), [&[2, 5]]).batched([0]),
        ]
    }
}

op! {
    /// Adds constant elements before and after one axis.
    pub struct Pad = "pad" {
        /// The axis.
        pub axis: usize,
        /// How many before.
        pub before: usize,
        /// How many after.
        pub after: usize,
        /// Their value.
        pub value: Real,
    }
}

impl OpDef for Pad {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(x)?;
        Ok(vec![resized(x, self.axis, axis(x, self.axis)? + self.before + self.after)])
    }
    fn eval(&self, x: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        fn go<A: Element>(a: &Array<A>, p: &Pad) -> Tensor {
            let mut shape = a.shape().to_vec();
            let n = shape[p.axis];
            shape[p.axis] += p.before + p.after;
            let mut out = ndarray::ArrayD::from_elem(IxDyn(&shape), A::from_number(p.value.0.into()));
            let inside = Range::new(p.before as isize, Some((p.before + n) as isize), 1);
            out.slice_axis_mut(Axis(p.axis), inside).assign(a);
            A::wrap(out.into_shared())
        }
        Ok(vec![with_array!(&x[0], a => go(a, self))])
    }
    fn vjp<'g>(&self, v: &Vjp<'g, '_>) -> Grad<'g> {
        let len = v.x[0].dims()[self.axis].clone();
        Grad::one(v.grad(0).narrow(self.axis as i64, self.before, len))
    }
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        let rank = s.x[0].rank();
        let mut pads = vec![0i64; 2 * rank];
        pads[self.axis] = self.before as i64;
        pads[rank + self.axis] = self.after as i64;
        let value = Tensor::scalar_of(s.x[0].dtype, self.value.0);
        Ok(s.node("Pad").ints_arg(&pads).arg(Arg::Const(value)).str("mode", "constant"))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![("", "Pad", 7)]
    }
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        read::pad(s)
    }
    fn traits(&self) -> Traits {
        Traits::MOVES
    }
    fn cost(&self, x: &[&TensorType], y: &[&TensorType]) -> Cost {
        Cost::moves(x, y)
    }
    fn axes(&self, x: &[&TensorType], _: &[&TensorType]) -> Vec<Link> {
        axes::only(x, self.axis, Along::Part { at: self.before.into() })
    }
    fn linear_in(&self, _: &[&TensorType]) -> Vec<Vec<usize>> {
        if self.value.0 == 0.0 { vec![vec![0]] } else { Vec::new() }
    }
    fn restricted<'g>(&self, w: &Wanted<'g, '_>) -> Option<T<'g>> {
        window::pad(self, w)
    }
    fn samples() -> Vec<Sample> {
        vec![
            Sample::new(Self { axis: 1, before: 1, after: 2, value: Real(0.0) }, [&[2, 3]]),
            Sample::new(Self { axis: 0, before: 0, after: 1, value: Real(-1.5) }, [&[2]]),
            Sample::new(Self { axis: 0, before: 1, after: 1, value: Real(0.0) }, [&[2, 3]]).batched([0]),
        ]
    }
}

op! {
    /// Joins tensors along one axis; the other axes agree.
    pub struct Concat = "concat" {
        /// The axis.
        pub axis: usize,
    }
}

impl OpDef for Concat {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [first, rest @ ..] = x else { return fail("takes at least one operand, none were given") };
        let mut size = axis(first, self.axis)?.clone();
        for t in rest {
            same_dtype(first, t)?;
            if t.rank() != first.rank() {
                return fail(format!("ranks differ: {first} and {t}"));
            }
            for (i, (a, b)) in first.shape.iter().zip(t.shape.iter()).enumerate() {
                if i != self.axis {
                    equal(format_args!("sizes of axis {i} of {first} and {t}"), a, b)?;
                }
            }
            size = size + &t.shape[self.axis];
        }
        Ok(vec![resized(first, self.axis, size)])
    }
    fn eval(&self, x: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        fn go<A: Element>(_: &Array<A>, x: &[Tensor], axis: usize) -> Result<Tensor, EvalError> {
            let views: Option<Vec<_>> = x.iter().map(|t| t.array::<A>().map(|a| a.view())).collect();
            let views = views.ok_or_else(|| EvalError("concat of different element types".into()))?;
            let joined = ndarray::concatenate(Axis(axis), &views).map_err(|e| EvalError(format!("concat: {e}")))?;
            Ok(A::wrap(joined.as_standard_layout().into_owned().into_shared()))
        }
        Ok(vec![with_array!(&x[0], a => go(a, x, self.axis))?])
    }
    fn vjp<'g>(&self, v: &Vjp<'g, '_>) -> Grad<'g> {
        let g = v.grad(0);
        let mut start = Dim::known(0);
        let part = |x: &T<'g>| {
            let len = x.dims()[self.axis].clone();
            let part = g.narrow(self.axis as i64, &start, &len);
            start = &start + len;
            Some(part)
        };
        Grad::To(v.x.iter().map(part).collect())
    }
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        Ok(s.node("Concat").int("axis", self.axis as i64))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![("", "Concat", 7)]
    }
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        let x = s.all()?;
        let Some(axis) = s.maybe_int("axis")? else { return s.refuse("the attribute `axis` is missing") };
        let axis = s.place(axis, x[0].rank())?;
        if x.len() == 1 { Ok(x) } else { s.apply(Self { axis }, &x) }
    }
    fn traits(&self) -> Traits {
        Traits::MOVES
    }
    fn cost(&self, x: &[&TensorType], y: &[&TensorType]) -> Cost {
        Cost::moves(x, y)
    }
    fn axes(&self, x: &[&TensorType], _: &[&TensorType]) -> Vec<Link> {
        let mut at = Dim::known(0);
        let mut links = Vec::new();
        for (operand, t) in x.iter().enumerate() {
            let here = axes::only(&[t], self.axis, Along::Part { at: at.clone() });
            links.extend(here.into_iter().map(|l| Link { operand, ..l }));
            at = at + &t.shape[self.axis];
        }
        links
    }
    fn linear_in(&self, x: &[&TensorType]) -> Vec<Vec<usize>> {
        vec![(0..x.len()).collect()]
    }
    /// Operands outside of the window are left out.
    fn restricted<'g>(&self, w: &Wanted<'g, '_>) -> Option<T<'g>> {
        window::concat(self, w)
    }
    fn samples() -> Vec<Sample> {
        vec![
            Sample::new(Self { axis: 1 }, [&[2, 1], &[2, 3], &[2, 2]]),
            Sample::new(Self { axis: 0 }, [&[1, 2, 2], &[2, 2, 2]]),
            Sample::new(Self { axis: 1 }, [&[2, 1], &[2, 3]]).batched([0, 1]),
            Sample::new(Self { axis: 0 }, [&[1, 2], &[2, 2]]).batched([1]),
        ]
    }
}
