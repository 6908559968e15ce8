//! Softmax.

use super::check::{axis, fail, float, operands};
use super::prelude::*;
use ndarray::Axis;

op! {
    /// Softmax over one axis; the maximum is subtracted first.
    pub struct Softmax = "softmax" {
        /// The axis along which results sum to one.
        pub axis: usize,
    }
}

fn softmax<A: Element + num_traits::Float + std::ops::DivAssign>(a: &Array<A>, axis: usize) -> Tensor {
    let mut y = a.to_owned();
    for mut lane in y.lanes_mut(Axis(axis)) {
        let max = lane.fold(A::neg_infinity(), |m, &x| m.max(x));
        lane.mapv_inplace(|x| (x - max).exp());
        let sum = lane.fold(A::zero(), |s, &x| s + x);
        lane.mapv_inplace(|x| x / sum);
    }
    A::wrap(y.into_shared())
}

impl OpDef for Softmax {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(x)?;
        float(x)?;
        if axis(x, self.axis)?.is(0) {
            return fail(format!("axis {} of {x} is empty", self.axis));
        }
        Ok(vec![x.clone()])
    }
    fn eval(&self, x: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![match &x[0] {
            Tensor::F32(a) => softmax(a, self.axis),
            Tensor::F64(a) => softmax(a, self.axis),
            t => return Err(EvalError(format!("softmax of a {} tensor", t.dtype()))),
        }])
    }
    fn vjp<'g>(&self, v: &Vjp<'g, '_>) -> Grad<'g> {
        let (y, g) = (v.y[0], v.grad(0));
        Grad::one(y * (g - (g * y).sum_keep(&[self.axis as i64])))
    }
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        // The default axis, -1, keeps pattern-matching runtimes happy.
        let last = self.axis + 1 == s.x[0].rank();
        let axis = if last { -1 } else { self.axis as i64 };
        Ok(s.node("Softmax").int("axis", axis))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![("", "Softmax", 7), ("", "LogSoftmax", 7)]
    }
    /// Up to opset 12 the axes from `axis` (default 1) on are one axis; from opset 13 on `axis` (default −1) is alone.
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        let x = s.x(0)?;
        let from = s.axis(if s.opset < 13 { 1 } else { -1 }, x)?;
        let dims = x.dims();
        let joined = s.opset < 13 && from + 1 < x.rank();
        let sizes: [Dim; 2] = [dims[..from].iter().product(), dims[from..].iter().product()];
        let (lanes, axis) = if joined { (x.reshape(sizes), 1) } else { (x, from as i64) };
        let y = if s.op_type == "Softmax" {
            lanes.softmax(axis)
        } else {
            let shifted = lanes - lanes.max_keep(&[axis]);
            shifted - shifted.exp().sum_keep(&[axis]).log()
        };
        Ok(vec![y.reshape(dims)])
    }
    fn traits(&self) -> Traits {
        Traits::ROUNDING
    }
    /// Subtract, exponentiate, add, divide, and the maximum.
    fn cost(&self, x: &[&TensorType], y: &[&TensorType]) -> Cost {
        Cost::each(5, x, y)
    }
    fn axes(&self, x: &[&TensorType], _: &[&TensorType]) -> Vec<Link> {
        axes::only(x, self.axis, Along::Whole)
    }
    fn linear_in(&self, _: &[&TensorType]) -> Vec<Vec<usize>> {
        Vec::new()
    }
    fn samples() -> Vec<Sample> {
        let s = |axis, shape: &[i64]| Sample::new(Self { axis }, [shape]);
        vec![s(2, &[2, 3, 4]), s(0, &[3, 2]), s(1, &[2, 3]).batched([0])]
    }
}
