//! Sums, means and maxima over axes.

use super::check::{axis, fail, number, operands};
use super::kinds;
use super::prelude::*;
use ndarray::Axis;

kinds! {
    /// What becomes of the elements.
    pub enum ReduceKind {
        /// Their sum.
        Sum = "reduce_sum", "ReduceSum";
        /// Their mean.
        Mean = "reduce_mean", "ReduceMean";
        /// The largest.
        Max = "reduce_max", "ReduceMax";
    }
    /// Reduces over `axes`; reduced axes have known, nonzero size where a mean or maximum needs it.
    pub struct Reduce {
        /// Axes, ascending, not empty.
        pub axes: Vec<usize>,
        /// Whether reduced axes stay with size 1.
        pub keepdims: bool,
    }
}

/// What a reduction does with elements of one type, given the lowest, a sum and a quotient by a count; integers wrap
/// around and their means are truncated.
fn reduce<A: Element>(a: &Array<A>, op: &Reduce, lowest: A, add: fn(A, A) -> A, over: fn(A, usize) -> A) -> Tensor {
    let mut out = a.to_owned();
    for &axis in op.axes.iter().rev() {
        let n = out.len_of(Axis(axis));
        let sum = |out: ndarray::ArrayD<A>| out.fold_axis(Axis(axis), A::default(), |&x, &y| add(x, y));
        out = match op.kind {
            ReduceKind::Sum => sum(out),
            ReduceKind::Mean => sum(out).mapv(|x| over(x, n)),
            ReduceKind::Max => {
                let nan = |y: &A| y.partial_cmp(y).is_none();
                out.fold_axis(Axis(axis), lowest, |&x, &y| if y > x || nan(&y) { y } else { x })
            }
        };
        if op.keepdims {
            out = out.insert_axis(Axis(axis));
        }
    }
    A::wrap(out.into_shared())
}

/// Reduces over `axes`, none of which leave a tensor as it is.
fn over(x: T<'_>, kind: ReduceKind, axes: Vec<usize>, keepdims: bool) -> T<'_> {
    if axes.is_empty() { x } else { x.builder().apply(Reduce { kind, axes, keepdims }, &[x]) }
}

impl OpDef for Reduce {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(x)?;
        number(x)?;
        if self.axes.is_empty() || !self.axes.is_sorted_by(|a, b| a < b) {
            return fail(format!("axes must be ascending and not empty, found {:?}", self.axes));
        }
        let mut shape = x.shape.to_vec();
        for &a in self.axes.iter().rev() {
            if axis(x, a)?.is(0) && self.kind != ReduceKind::Sum {
                return fail(format!("axis {a} of {x} is empty"));
            }
            if self.keepdims {
                shape[a] = Dim::known(1);
            } else {
                shape.remove(a);
            }
        }
        Ok(vec![TensorType::new(x.dtype, shape)])
    }
    fn eval(&self, x: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![match &x[0] {
            Tensor::F32(a) => reduce(a, self, f32::NEG_INFINITY, |x, y| x + y, |x, n| x / n as f32),
            Tensor::F64(a) => reduce(a, self, f64::NEG_INFINITY, |x, y| x + y, |x, n| x / n as f64),
            Tensor::I64(a) => reduce(a, self, i64::MIN, i64::wrapping_add, |x, n| x / n.max(1) as i64),
            t => return Err(EvalError(format!("reduction of a {} tensor", t.dtype()))),
        }])
    }
    fn vjp<'g>(&self, v: &Vjp<'g, '_>) -> Grad<'g> {
        let (x, y) = (v.x[0], v.y[0]);
        let mut kept = x.dims();
        self.axes.iter().for_each(|&a| kept[a] = Dim::known(1));
        let wide = v.grad(0).reshape(kept.clone()).expand(x.dims());
        let axes: Vec<i64> = self.axes.iter().map(|&a| a as i64).collect();
        Grad::one(match self.kind {
            ReduceKind::Sum => wide,
            ReduceKind::Mean => {
                let dims = x.dims();
                let n: Dim = self.axes.iter().map(|&a| &dims[a]).product();
                match n.value() {
                    Some(n) => wide * (1.0 / n as f64),
                    None => wide / x.ones_like().sum_keep(&axes),
                }
            }
            // Ties share the cotangent equally, as torch.amax does.
            ReduceKind::Max => {
                let hit = x.equal(y.reshape(kept)).cast(x.dtype());
                wide * hit / hit.sum_keep(&axes)
            }
        })
    }
    /// Axes are an attribute up to opset 17 (`ReduceSum`: 12) and an input after.
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        if s.x[0].dtype.size() == 1 && self.kind != ReduceKind::Max {
            return Err(Unspellable(format!("ONNX has no sum or mean of {}; cast to i32 first", s.x[0].dtype)));
        }
        let call = s.node(self.kind.onnx());
        let input_since = if self.kind == ReduceKind::Sum { 13 } else { 18 };
        let call = if s.opset >= input_since {
            call.ints_arg(&self.axes.iter().map(|&a| a as i64).collect::<Vec<_>>())
        } else {
            call.ints("axes", self.axes.iter().copied())
        };
        Ok(call.int("keepdims", self.keepdims.into()))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        let names = ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare"];
        names.into_iter().chain(["GlobalAveragePool"]).map(|name| ("", name, 7)).collect()
    }
    /// No axes given are all axes, or none with `noop_with_empty_axes`.
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        let x = s.x(0)?;
        if s.op_type == "GlobalAveragePool" {
            return Ok(vec![over(x, ReduceKind::Mean, (2..x.rank()).collect(), true)]);
        }
        let since = if s.op_type == "ReduceSum" { 13 } else { 18 };
        let axes = s.axes(since)?.unwrap_or_default();
        let keep = s.int("keepdims", 1)? != 0;
        if s.opset >= since && s.flag("noop_with_empty_axes")? && axes.is_empty() {
            return match s.op_type {
                "ReduceSum" | "ReduceMean" | "ReduceMax" | "ReduceMin" => Ok(vec![x]),
                _ => s.refuse("noop_with_empty_axes without axes is not supported"),
            };
        }
        let axes = if axes.is_empty() { (0..x.rank() as i64).collect() } else { axes };
        let mut axes = axes.into_iter().map(|a| s.place(a, x.rank())).collect::<Result<Vec<_>, _>>()?;
        axes.sort_unstable();
        let reduce = |x, kind| over(x, kind, axes, keep);
        Ok(vec![match s.op_type {
            "ReduceSum" => reduce(x, ReduceKind::Sum),
            "ReduceMean" => reduce(x, ReduceKind::Mean),
            "ReduceMax" => reduce(x, ReduceKind::Max),
            "ReduceMin" => -reduce(-x, ReduceKind::Max),
            "ReduceL1" => reduce(x.abs(), ReduceKind::Sum),
            "ReduceL2" => reduce(x * x, ReduceKind::Sum).sqrt(),
            "ReduceSumSquare" => reduce(x * x, ReduceKind::Sum),
            _ => return s.unknown(),
        }])
    }
    fn traits(&self) -> Traits {
        if self.kind == ReduceKind::Max { Traits::EXACT } else { Traits::ROUNDING }
    }
    fn cost(&self, x: &[&TensorType], y: &[&TensorType]) -> Cost {
        Cost::new(x[0].shape.elements(), x, y)
    }
    fn axes(&self, x: &[&TensorType], _: &[&TensorType]) -> Vec<Link> {
        let vanishes = if self.kind == ReduceKind::Max { Along::Whole } else { Along::Sum };
        axes::unary(x, |a| match self.axes.binary_search(&a) {
            Ok(_) => (None, vanishes.clone()),
            Err(before) => (Some(if self.keepdims { a } else { a - before }), Along::Each),
        })
    }
    fn linear_in(&self, _: &[&TensorType]) -> Vec<Vec<usize>> {
        if self.kind == ReduceKind::Max { Vec::new() } else { vec![vec![0]] }
    }
    fn samples() -> Vec<Sample> {
        let s = |kind, axes: &[usize], keepdims| Self { kind, axes: axes.to_vec(), keepdims };
        ReduceKind::ALL
            .iter()
            .flat_map(|&k| {
                [
                    Sample::new(s(k, &[1], false), [&[2, 3, 4]]),
                    Sample::new(s(k, &[0, 2], true), [&[2, 3, 4]]),
                    Sample::new(s(k, &[0, 1], false), [&[2, 3]]),
                    Sample::new(s(k, &[1], true), [&[2, 3]]).batched([0]),
                    Sample::new(s(k, &[0], false), [&[2, 3]]).batched([0]),
                ]
            })
            .collect()
    }
}
