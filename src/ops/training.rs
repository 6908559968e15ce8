//! Ops that mean something in training only.

use super::check::{float, operands};
use super::prelude::*;
use crate::ir::Stage;

op! {
    /// Marks where training drops elements. The identity until a pass decides between inference
    /// (where it vanishes) and training (where a mask that is a graph input takes its place).
    pub struct Dropout = "dropout" {
        /// The probability of an element to be dropped.
        pub ratio: Real,
    }
}

impl OpDef for Dropout {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(x)?;
        float(x)?;
        if !(0.0..1.0).contains(&self.ratio.0) {
            return super::check::fail(format!("ratio must be at least 0 and below 1, found {}", self.ratio));
        }
        Ok(vec![x.clone()])
    }
    fn eval(&self, x: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![x[0].clone()])
    }
    fn vjp<'g>(&self, _: &Vjp<'g, '_>) -> Grad<'g> {
        Grad::Never("dropout must be decided for inference or training before differentiating")
    }
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        Ok(s.node("Identity"))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![("", "Dropout", 7)]
    }
    /// The identity; what concerns training is skipped.
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        if s.opset < 12 {
            s.float("ratio", 0.5)?;
        } else if s.has(2) && s.number(2)? != 0.0 {
            return s.refuse("training_mode = true is not supported");
        } else {
            let _random = (s.has(1), s.int("seed", 0)?);
        }
        Ok(vec![s.x(0)?])
    }
    fn traits(&self) -> Traits {
        Traits { pure: false, ..Traits::MOVES }
    }
    fn cost(&self, _: &[&TensorType], _: &[&TensorType]) -> Cost {
        Cost::FREE
    }
    fn axes(&self, x: &[&TensorType], y: &[&TensorType]) -> Vec<Link> {
        axes::elementwise(x, y)
    }
    fn linear_in(&self, _: &[&TensorType]) -> Vec<Vec<usize>> {
        vec![vec![0]]
    }
    fn until(&self) -> Stage {
        Stage::Built
    }
    fn samples() -> Vec<Sample> {
        vec![Sample::new(Self { ratio: Real(0.1) }, [&[2, 3]])]
    }
}

op! {
    /// The identity, through which no gradient flows: teacher logits, targets.
    pub struct StopGradient = "stop_gradient" {}
}

impl OpDef for StopGradient {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(x)?;
        Ok(vec![x.clone()])
    }
    fn eval(&self, x: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![x[0].clone()])
    }
    fn vjp<'g>(&self, _: &Vjp<'g, '_>) -> Grad<'g> {
        Grad::Zero
    }
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        Ok(s.node("Identity"))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![("", "Identity", 7)]
    }
    /// ONNX knows no gradients, so this is its operand.
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        Ok(vec![s.x(0)?])
    }
    fn traits(&self) -> Traits {
        Traits::MOVES
    }
    fn cost(&self, _: &[&TensorType], _: &[&TensorType]) -> Cost {
        Cost::FREE
    }
    fn axes(&self, x: &[&TensorType], y: &[&TensorType]) -> Vec<Link> {
        axes::elementwise(x, y)
    }
    fn linear_in(&self, _: &[&TensorType]) -> Vec<Vec<usize>> {
        vec![vec![0]]
    }
    fn samples() -> Vec<Sample> {
        vec![Sample::new(Self {}, [&[2, 3]])]
    }
}
