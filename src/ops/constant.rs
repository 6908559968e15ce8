//! A tensor known when the graph is built.

use super::check::operands;
use super::{Cost, EvalError, Grad, Link, OnnxAttr, OpDef, Sample, Slice, Spell, Traits, Unspellable, Vjp, Wanted, op};
use crate::build::T;
use crate::ir::{Bindings, Dim, Literal, Shape, Tensor, TensorType, TypeError};

op! {
    /// A tensor known when the graph is built.
    pub struct Const = "const" {
        /// The tensor.
        pub value: Literal,
    }
}

impl Const {
    /// A constant of this value.
    pub fn new(t: Tensor) -> Self {
        Self { value: Literal::new(t) }
    }
}

impl OpDef for Const {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [] = operands(x)?;
        let t = self.value.tensor();
        Ok(vec![TensorType { dtype: t.dtype(), shape: Shape::from(t.shape()) }])
    }
    fn eval(&self, _: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![self.value.tensor().clone()])
    }
    fn vjp<'g>(&self, _: &Vjp<'g, '_>) -> Grad<'g> {
        Grad::To(Vec::new())
    }
    /// The emitter writes constants as initializers; this is the spelling for those who want a node.
    fn onnx(&self, s: &mut Spell<'_>) -> Result<(), Unspellable> {
        s.node("Constant").attr("value", OnnxAttr::Tensor(self.value.tensor().clone())).done()
    }
    fn traits(&self) -> Traits {
        Traits::EXACT
    }
    /// A constant is in memory before the run.
    fn cost(&self, _: &[&TensorType], _: &[&TensorType]) -> Cost {
        Cost::FREE
    }
    fn axes(&self, _: &[&TensorType], _: &[&TensorType]) -> Vec<Link> {
        Vec::new()
    }
    fn linear_in(&self, _: &[&TensorType]) -> Vec<Vec<usize>> {
        Vec::new()
    }
    /// The window itself, where its bounds are numbers.
    fn restricted<'g>(&self, w: &Wanted<'g, '_>) -> Option<T<'g>> {
        w.to.axes.iter().find(|window| window.is_some())?;
        let tensor = self.value.tensor().clone();
        let cut = |t: Tensor, (axis, window): (usize, &Option<(Dim, Dim)>)| {
            let Some((start, size)) = window else { return Some(t) };
            let slice = Slice { axis, start: start.clone(), end: start + size, step: 1 };
            slice.eval(&[t], &Bindings::new()).ok()?.pop()
        };
        Some(w.b.constant(w.to.axes.iter().enumerate().try_fold(tensor, cut)?))
    }
    fn samples() -> Vec<Sample> {
        [
            Tensor::scalar(0.5f32),
            Tensor::new(&[2, 3], vec![1.0f32, -2.0, 3.5, f32::MIN_POSITIVE, 1e30, -0.0]),
            Tensor::new(&[2], vec![-1i64, 7]),
            Tensor::new(&[2], vec![true, false]),
        ]
        .into_iter()
        .map(|t| Sample::new(Self::new(t), []))
        .collect()
    }
}
