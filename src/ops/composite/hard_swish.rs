//! The piecewise quadratic activation of `MobileNetV3` and LeViT.

use super::super::Vocab;
use super::super::check::{float, operands};
use super::evaluate;
use crate::ops::prelude::*;

/// `x · clamp(x + 3, 0, 6) / 6` (Howard et al., 1905.02244).
pub fn hard_swish<V: Vocab>(x: V) -> V {
    x.clone() * (x + 3.0).clamp(0.0, 6.0) * (1.0 / 6.0)
}

op! {
    /// [`hard_swish`] elementwise.
    pub struct HardSwish = "hard_swish" {}
}

impl OpDef for HardSwish {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(x)?;
        float(x)?;
        Ok(vec![x.clone()])
    }
    fn eval(&self, x: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        evaluate(self, x)
    }
    fn vjp<'g>(&self, _: &Vjp<'g, '_>) -> Grad<'g> {
        Grad::ByDecomposition
    }
    /// ONNX fixes `x · max(0, min(1, x/6 + 1/2))`, the same function.
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        s.bf16_since("HardSwish", 22)?;
        s.since("HardSwish", 14)?;
        Ok(s.node("HardSwish"))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![("", "HardSwish", 14)]
    }
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        s.apply(Self {}, &[s.x(0)?])
    }
    fn traits(&self) -> Traits {
        Traits::ROUNDING
    }
    fn cost(&self, x: &[&TensorType], y: &[&TensorType]) -> Cost {
        Cost::each(5, x, y)
    }
    fn axes(&self, x: &[&TensorType], y: &[&TensorType]) -> Vec<Link> {
        axes::elementwise(x, y)
    }
    fn linear_in(&self, _: &[&TensorType]) -> Vec<Vec<usize>> {
        Vec::new()
    }
    fn definition<'g>(&self, x: &[T<'g>]) -> Option<Vec<T<'g>>> {
        let [x] = *x else { return None };
        Some(vec![hard_swish(x)])
    }
    fn samples() -> Vec<Sample> {
        vec![
            Sample::new(Self {}, [&[2, 3, 4]]),
            Sample::new(Self {}, [&[5]]).range(3.5, 6.0),
            Sample::new(Self {}, [&[5]]).range(-6.0, -3.5),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval;

    #[test]
    fn is_flat_below_and_the_identity_above() {
        let x = Tensor::new(&[4], vec![-4.0f64, -1.0, 1.5, 7.0]);
        let y = eval::op(&HardSwish {}.into(), &[x]).expect("runs");
        let want = Tensor::new(&[4], vec![0.0, -1.0 / 3.0, 1.125, 7.0]);
        assert!(y[0].max_abs_diff(&want).is_some_and(|d| d < 1e-15));
    }
}
