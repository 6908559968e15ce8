//! The largest elements along an axis, and where they are.

use super::check::{axis, fail, operands, resized};
use super::prelude::*;
use crate::with_array;
use ndarray::Axis;
use std::cmp::Ordering;

/// Larger first; NaN counts as largest, as in PyTorch. A total order, as sorting needs.
fn descending<A: PartialOrd>(a: &A, b: &A) -> Ordering {
    let nan = |x: &A| x.partial_cmp(x).is_none();
    b.partial_cmp(a).unwrap_or_else(|| nan(b).cmp(&nan(a)))
}

/// An axis of numbers that can have at least `least` elements.
fn long_enough(x: &TensorType, along: usize, least: usize) -> Result<(), TypeError> {
    if x.dtype == DType::Bool {
        return fail(format!("takes numbers, found {x}"));
    }
    let size = axis(x, along)?;
    if size.size().is_some_and(|n| n < least) {
        return fail(format!("axis {along} of {x} has fewer than {least} elements"));
    }
    Ok(())
}

op! {
    /// Two results: the `k` largest along an axis, largest first, and their positions (i64).
    /// Of equal elements the earlier comes first.
    pub struct TopK = "top_k" {
        /// The axis.
        pub axis: usize,
        /// How many.
        pub k: usize,
    }
}

impl OpDef for TopK {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(x)?;
        long_enough(x, self.axis, self.k)?;
        let values = resized(x, self.axis, self.k.into());
        Ok(vec![values.clone(), TensorType { dtype: DType::I64, ..values }])
    }
    fn eval(&self, x: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        fn go<A: Element>(a: &Array<A>, op: &TopK) -> Vec<Tensor> {
            let mut shape = a.raw_dim();
            shape[op.axis] = op.k;
            let mut values = ndarray::ArrayD::from_elem(shape.clone(), A::default());
            let mut indices = ndarray::ArrayD::from_elem(shape, 0i64);
            let targets = values.lanes_mut(Axis(op.axis)).into_iter().zip(indices.lanes_mut(Axis(op.axis)));
            for (lane, (mut values, mut indices)) in a.lanes(Axis(op.axis)).into_iter().zip(targets) {
                let mut order: Vec<usize> = (0..lane.len()).collect();
                order.sort_by(|&i, &j| descending(&lane[i], &lane[j]));
                for (slot, &i) in order[..op.k].iter().enumerate() {
                    values[slot] = lane[i];
                    indices[slot] = i as i64;
                }
            }
            vec![A::wrap(values.into_shared()), Tensor::I64(indices.into_shared())]
        }
        let size = x[0].shape()[self.axis];
        if size < self.k {
            return Err(EvalError(format!("the {} largest of {size} elements", self.k)));
        }
        Ok(with_array!(&x[0], a => go(a, self)))
    }
    fn vjp<'g>(&self, v: &Vjp<'g, '_>) -> Grad<'g> {
        Grad::one(v.x[0].zeros_like().scatter_add(self.axis as i64, v.y[1], v.grad(0)))
    }
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        s.bf16_since("TopK", 24)?;
        let call = s.node("TopK").ints_arg(&[self.k as i64]).int("axis", self.axis as i64);
        Ok(call.int("largest", 1).int("sorted", 1))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![("", "TopK", 7)]
    }
    /// Sorted is one of the orders that `sorted = 0` allows. The smallest are the largest of the negated.
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        let x = s.x(0)?;
        let k = if s.opset < 10 { s.maybe_int("k")? } else { s.known(1)?.first().copied() };
        let Some(k) = k.and_then(|k| usize::try_from(k).ok()) else {
            return s.refuse("k must be a number, not negative");
        };
        let op = Self { axis: s.axis(-1, x)?, k };
        let largest = s.opset < 11 || s.int("largest", 1)? != 0;
        if s.opset >= 11 {
            s.int("sorted", 1)?;
        }
        let y = s.apply(op, &[if largest { x } else { -x }])?;
        Ok(y.into_iter().enumerate().map(|(i, t)| if largest || i == 1 { t } else { -t }).collect())
    }
    fn traits(&self) -> Traits {
        Traits::MOVES
    }
    /// A comparison for each element, and those of a heap of `k`.
    fn cost(&self, x: &[&TensorType], y: &[&TensorType]) -> Cost {
        Cost::new(x[0].shape.elements() * (1 + self.k.max(1).ilog2() as usize), x, y)
    }
    fn axes(&self, x: &[&TensorType], _: &[&TensorType]) -> Vec<Link> {
        let links = (0..2).flat_map(|r| (0..x[0].rank()).map(move |a| (r, a)));
        let how = |a| if a == self.axis { Along::Whole } else { Along::Each };
        links.map(|(r, a)| Link { operand: 0, axis: a, result: Some((r, a)), how: how(a) }).collect()
    }
    fn linear_in(&self, _: &[&TensorType]) -> Vec<Vec<usize>> {
        Vec::new()
    }
    fn restricted<'g>(&self, w: &Wanted<'g, '_>) -> Option<T<'g>> {
        let mut n = w.narrowed(&[]);
        let end = n.rest.axes[self.axis].as_ref().and_then(|(start, size)| (start + size).size());
        let k = end.unwrap_or(self.k);
        if n.rest.axes[self.axis] == Some((0.into(), k.into())) {
            n.rest.axes[self.axis] = None;
        }
        n.apply(Self { k, ..self.clone() })
    }
    fn samples() -> Vec<Sample> {
        vec![
            Sample::new(Self { axis: 1, k: 2 }, [&[3, 5]]),
            Sample::new(Self { axis: 0, k: 3 }, [&[3, 2]]),
            Sample::new(Self { axis: 1, k: 1 }, [&[2, 4, 2]]),
            Sample::new(Self { axis: 1, k: 3 }, [&[2, 4]]).batched([0]),
            Sample::new(Self { axis: 0, k: 3 }, []).given(Tensor::new(&[5], vec![1i64, 7, 7, -2, 1])),
        ]
    }
}

op! {
    /// The position (i64) of the first maximum along an axis, which stays with size 1.
    pub struct ArgMax = "argmax" {
        /// The axis.
        pub axis: usize,
    }
}

impl OpDef for ArgMax {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(x)?;
        long_enough(x, self.axis, 1)?;
        Ok(vec![TensorType { dtype: DType::I64, ..resized(x, self.axis, 1.into()) }])
    }
    fn eval(&self, x: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        fn go<A: Element>(a: &Array<A>, axis: usize) -> Tensor {
            let first = a.map_axis(Axis(axis), |lane| {
                let best = (0..lane.len()).min_by(|&i, &j| descending(&lane[i], &lane[j]));
                best.map_or(0, |i| i as i64)
            });
            Tensor::I64(first.insert_axis(Axis(axis)).into_shared())
        }
        if x[0].shape()[self.axis] == 0 {
            return Err(EvalError("the maximum of no elements".into()));
        }
        Ok(vec![with_array!(&x[0], a => go(a, self.axis))])
    }
    fn vjp<'g>(&self, _: &Vjp<'g, '_>) -> Grad<'g> {
        Grad::Zero
    }
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        Ok(s.node("ArgMax").int("axis", self.axis as i64).int("keepdims", 1).int("select_last_index", 0))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![("", "ArgMax", 7), ("", "ArgMin", 7)]
    }
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        let x = s.x(0)?;
        let axis = s.axis(0, x)?;
        if s.opset >= 12 && s.flag("select_last_index")? {
            return s.refuse("select_last_index = 1 is not supported; of equal elements the first is taken");
        }
        let y = s.builder.apply(Self { axis }, &[if s.op_type == "ArgMin" { -x } else { x }]);
        if s.int("keepdims", 1)? != 0 {
            return Ok(vec![y]);
        }
        let mut to = x.dims().to_vec();
        to.remove(axis);
        Ok(vec![y.reshape(to)])
    }
    fn traits(&self) -> Traits {
        Traits::MOVES
    }
    fn cost(&self, x: &[&TensorType], y: &[&TensorType]) -> Cost {
        Cost::new(x[0].shape.elements(), x, y)
    }
    fn axes(&self, x: &[&TensorType], _: &[&TensorType]) -> Vec<Link> {
        axes::only(x, self.axis, Along::Whole)
    }
    fn linear_in(&self, _: &[&TensorType]) -> Vec<Vec<usize>> {
        Vec::new()
    }
    fn samples() -> Vec<Sample> {
        vec![
            Sample::new(Self { axis: 1 }, [&[3, 5]]),
            Sample::new(Self { axis: 1 }, [&[2, 5]]).batched([0]),
            Sample::new(Self { axis: 0 }, [&[3, 2, 2]]),
            Sample::new(Self { axis: 0 }, []).given(Tensor::new(&[5], vec![1i64, 7, 7, -2, 1])),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval;

    #[test]
    fn of_equal_elements_the_earlier_comes_first() {
        let x = Tensor::new(&[2, 4], vec![1.0f32, 3.0, 3.0, 2.0, -1.0, -1.0, -5.0, -1.0]);
        let y = eval::op(&TopK { axis: 1, k: 3 }.into(), std::slice::from_ref(&x)).expect("k fits");
        assert_eq!(y[0], Tensor::new(&[2, 3], vec![3.0f32, 3.0, 2.0, -1.0, -1.0, -1.0]));
        assert_eq!(y[1], Tensor::new(&[2, 3], vec![1i64, 2, 3, 0, 1, 3]));
        let y = eval::op(&ArgMax { axis: 1 }.into(), &[x]).expect("not empty");
        assert_eq!(y[0], Tensor::new(&[2, 1], vec![1i64, 0]));
    }

    #[test]
    fn other_axes_are_independent_and_nan_is_largest() {
        let x = Tensor::new(&[3, 2], vec![1.0f64, f64::NAN, 5.0, 2.0, 3.0, 9.0]);
        let y = eval::op(&TopK { axis: 0, k: 2 }.into(), std::slice::from_ref(&x)).expect("k fits");
        assert_eq!(y[1], Tensor::new(&[2, 2], vec![1i64, 0, 2, 2]));
        let y = eval::op(&ArgMax { axis: 0 }.into(), &[x]).expect("not empty");
        assert_eq!(y[0], Tensor::new(&[1, 2], vec![1i64, 0]));
    }

    #[test]
    fn refuses_more_than_there_are() {
        let x = TensorType::new(DType::F32, [2, 3]);
        assert!(TopK { axis: 1, k: 4 }.infer(&[&x]).expect_err("4 of 3").0.contains("fewer than 4"));
        assert!(TopK { axis: 2, k: 1 }.infer(&[&x]).is_err());
        assert!(ArgMax { axis: 0 }.infer(&[&TensorType::new(DType::F32, [0, 3])]).is_err());
        let e = eval::op(&TopK { axis: 0, k: 4 }.into(), &[Tensor::new(&[2], vec![1i64, 2])]);
        assert!(e.is_err());
    }
}
