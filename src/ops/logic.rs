//! Comparisons, selection, conversion of element types.

use super::binary::{common, zip};
use super::check::{broadcast, dtype, fail, operands, same_dtype};
use super::kinds;
use super::prelude::*;
use crate::with_array;
use ndarray::{IxDyn, Zip};

kinds! {
    /// The comparison.
    pub enum CompareKind {
        /// a = b
        Equal = "equal", "Equal";
        /// a > b
        Greater = "greater", "Greater";
        /// a < b
        Less = "less", "Less";
    }
    /// `y = a kind b`, elementwise with broadcasting, numbers to bool.
    pub struct Compare {}
}

impl OpDef for Compare {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [a, b] = operands(x)?;
        same_dtype(a, b)?;
        if a.dtype == DType::Bool {
            return fail(format!("compares numbers, found {a}"));
        }
        Ok(vec![TensorType { dtype: DType::Bool, shape: broadcast(a, b)? }])
    }
    fn eval(&self, x: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        macro_rules! by_kind {
            ($a:expr, $b:expr) => {
                match self.kind {
                    CompareKind::Equal => zip($a, $b, |x, y| x == y),
                    CompareKind::Greater => zip($a, $b, |x, y| x > y),
                    CompareKind::Less => zip($a, $b, |x, y| x < y),
                }
            };
        }
        Ok(vec![match (&x[0], &x[1]) {
            (Tensor::F32(a), Tensor::F32(b)) => by_kind!(a, b),
            (Tensor::F64(a), Tensor::F64(b)) => by_kind!(a, b),
            (Tensor::I64(a), Tensor::I64(b)) => by_kind!(a, b),
            _ => return Err(EvalError("comparison of different element types".into())),
        }])
    }
    fn vjp<'g>(&self, _: &Vjp<'g, '_>) -> Grad<'g> {
        Grad::Zero
    }
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        Ok(s.node(self.kind.onnx()))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        CompareKind::ALL.iter().map(|&k| ("", k.onnx(), 7)).collect()
    }
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        s.apply(Self { kind: s.kind(CompareKind::ALL, CompareKind::onnx)? }, &[s.x(0)?, s.x(1)?])
    }
    fn traits(&self) -> Traits {
        Traits { commutative: self.kind == CompareKind::Equal, ..Traits::EXACT }
    }
    fn cost(&self, x: &[&TensorType], y: &[&TensorType]) -> Cost {
        Cost::each(1, x, y)
    }
    fn axes(&self, x: &[&TensorType], y: &[&TensorType]) -> Vec<Link> {
        axes::elementwise(x, y)
    }
    fn linear_in(&self, _: &[&TensorType]) -> Vec<Vec<usize>> {
        Vec::new()
    }
    fn samples() -> Vec<Sample> {
        let one = |&kind: &CompareKind| {
            let given = |v: &[i64]| Tensor::new(&[v.len()], v.to_vec());
            [
                Sample::new(Self { kind }, [&[2, 3], &[3]]),
                Sample::new(Self { kind }, []).given(given(&[1, 2, 3])).given(given(&[3, 2, 1])),
            ]
        };
        CompareKind::ALL.iter().flat_map(one).collect()
    }
}

op! {
    /// `y = if c { a } else { b }`, elementwise with broadcasting of all three.
    pub struct Where = "where" {}
}

impl OpDef for Where {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [c, a, b] = operands(x)?;
        dtype(c, DType::Bool)?;
        same_dtype(a, b)?;
        let inner = TensorType { dtype: a.dtype, shape: broadcast(a, b)? };
        let shape = broadcast(c, &inner)?;
        Ok(vec![TensorType { dtype: a.dtype, shape }])
    }
    fn eval(&self, x: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        fn go<A: Element>(c: &Array<bool>, a: &Array<A>, b: &Tensor) -> Result<Tensor, EvalError> {
            let b = b.array::<A>().ok_or_else(|| EvalError("where of different element types".into()))?;
            let shape = common(c.shape(), &common(a.shape(), b.shape()));
            let to = IxDyn(&shape);
            let checked = || EvalError("where of shapes that do not broadcast".into());
            let c = c.broadcast(to.clone()).ok_or_else(checked)?;
            let a = a.broadcast(to.clone()).ok_or_else(checked)?;
            let b = b.broadcast(to).ok_or_else(checked)?;
            Ok(A::wrap(Zip::from(&c).and(&a).and(&b).map_collect(|&c, &a, &b| if c { a } else { b }).into_shared()))
        }
        let c = x[0].array::<bool>().ok_or_else(|| EvalError("where takes a bool condition".into()))?;
        Ok(vec![with_array!(&x[1], a => go(c, a, &x[2]))?])
    }
    fn vjp<'g>(&self, v: &Vjp<'g, '_>) -> Grad<'g> {
        let (c, g) = (v.x[0], v.grad(0));
        let zero = g.scalar(0.0);
        Grad::To(vec![None, Some(c.select(g, zero)), Some(c.select(zero, g))])
    }
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        Ok(s.node("Where"))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![("", "Where", 9)]
    }
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        Ok(vec![s.x(0)?.select(s.x(1)?, s.x(2)?)])
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
        vec![vec![1, 2]]
    }
    fn samples() -> Vec<Sample> {
        let c = Tensor::new(&[2, 3], vec![true, false, false, true, true, false]);
        let mut s = Sample::new(Self {}, []).given(c);
        s.operands.extend(Sample::new(Self {}, [&[2, 3], &[3]]).operands);
        vec![s]
    }
}

op! {
    /// The same numbers in another element type.
    pub struct Cast = "cast" {
        /// The new element type.
        pub to: DType,
    }
}

impl OpDef for Cast {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(x)?;
        Ok(vec![TensorType { dtype: self.to, shape: x.shape.clone() }])
    }
    fn eval(&self, x: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![x[0].cast(self.to)])
    }
    fn vjp<'g>(&self, v: &Vjp<'g, '_>) -> Grad<'g> {
        let from = v.x[0].dtype();
        if self.to.is_float() && from.is_float() { Grad::one(v.grad(0).cast(from)) } else { Grad::Zero }
    }
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        Ok(s.node("Cast").int("to", self.to.onnx().into()))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![("", "Cast", 7), ("", "CastLike", 15)]
    }
    /// `saturate` concerns 8-bit floats only.
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        let x = s.x(0)?;
        if s.opset >= 19 {
            s.int("saturate", 1)?;
        }
        if s.op_type == "CastLike" {
            return s.apply(Self { to: s.x(1)?.dtype() }, &[x]);
        }
        let Some(to) = s.maybe_int("to")? else { return s.refuse("the attribute `to` is missing") };
        match i32::try_from(to).ok().and_then(DType::from_onnx) {
            Some(to) => s.apply(Self { to }, &[x]),
            None => s.refuse(format!("casts to {} are supported, not to element type {to} of ONNX", DType::names())),
        }
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
    fn linear_in(&self, x: &[&TensorType]) -> Vec<Vec<usize>> {
        if self.to.is_float() && x[0].dtype.is_float() { vec![vec![0]] } else { Vec::new() }
    }
    fn samples() -> Vec<Sample> {
        vec![
            Sample::new(Self { to: DType::F64 }, [&[2, 3]]),
            Sample::new(Self { to: DType::I64 }, [&[2, 3]]).batched([0]),
            Sample::new(Self { to: DType::F32 }, []).given(Tensor::new(&[3], vec![true, false, true])),
            Sample::new(Self { to: DType::F32 }, []).given(Tensor::new(&[2], vec![-3i64, 9])),
        ]
    }
}
