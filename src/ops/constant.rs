//! A tensor known when the graph is built.

use super::check::operands;
use super::prelude::*;
use super::{Expand, OnnxAttr, Slice};
use crate::ir::Literal;

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

    /// The number that every element is: the shortest decimal that rounds to it in its type, so that what an author
    /// wrote as `1e-5` is `1e-5` again.
    pub(crate) fn number(&self) -> Option<f64> {
        let t = self.value.tensor();
        Some(t.dtype().decimal(t.uniform()?))
    }
}

/// `ConstantOfShape`: few elements are a constant, so that they can be sizes; many are expanded.
fn filled<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
    const FEW: usize = 16;
    let value = s.tensor("value")?.unwrap_or_else(|| Tensor::zeros(DType::F32, &[1]));
    if value.len() != 1 {
        return s.refuse(format!("`value` must have one element, it has {}", value.len()));
    }
    let (to, scalar) = (s.dims(0)?, value.reshape(&[]));
    let few = to.iter().try_fold(1, |n: usize, d| n.checked_mul(d.size()?)).is_some_and(|n| n <= FEW);
    let op = Expand { to: to.into() };
    if few {
        let filled = op.eval(std::slice::from_ref(&scalar), &Bindings::new()).map_err(|e| Unread(e.0))?;
        return Ok(filled.into_iter().map(|t| s.builder.constant(t)).collect());
    }
    s.apply(op, &[s.builder.constant(scalar)])
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
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        Ok(s.node("Constant").attr("value", OnnxAttr::Tensor(self.value.tensor().clone())))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![("", "Constant", 7), ("", "ConstantOfShape", 9)]
    }
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        if s.op_type == "ConstantOfShape" {
            return filled(s);
        }
        let new = s.opset >= 12;
        let t = if let Some(t) = s.tensor("value")? {
            t
        } else if let (true, Some(v)) = (new, s.maybe_int("value_int")?) {
            Tensor::scalar(v)
        } else if let (true, Some(v)) = (new, s.ints("value_ints")?) {
            Tensor::new(&[v.len()], v)
        } else if let (true, Some(v)) = (new, s.maybe_float("value_float")?) {
            Tensor::scalar(v as f32)
        } else if let (true, Some(v)) = (new, s.floats("value_floats")?) {
            Tensor::new(&[v.len()], v)
        } else {
            return s.refuse("only `value` and, from opset 12 on, `value_int`, `value_ints`, `value_float` and `value_floats` are supported");
        };
        s.apply(Self::new(t), &[])
    }
    fn traits(&self) -> Traits {
        Traits::MOVES
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
