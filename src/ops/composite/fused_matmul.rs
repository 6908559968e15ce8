//! A matrix product with transposed operands and a factor.

use super::super::check::{operands, rank_at_least};
use super::super::{MICROSOFT, MatMul, Vocab};
use super::evaluate;
use crate::ops::prelude::*;

/// `op(a)·op(b)·alpha`, where `op` swaps the last two axes if asked to.
pub fn fused_matmul<V: Vocab>(a: V, b: V, alpha: V, trans_a: bool, trans_b: bool) -> V {
    let a = if trans_a { a.t() } else { a };
    let b = if trans_b { b.t() } else { b };
    a.matmul(b) * alpha
}

op! {
    /// [`fused_matmul`] of `a` and `b`, which have at least two axes.
    pub struct FusedMatMul = "fused_matmul" {
        /// Swap the last two axes of `a`.
        pub trans_a: bool,
        /// Swap the last two axes of `b`.
        pub trans_b: bool,
        /// What the product is multiplied by.
        pub alpha: Real,
    }
}

impl OpDef for FusedMatMul {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [mut a, mut b] = operands(x)?.map(TensorType::clone);
        for (t, swap) in [(&mut a, self.trans_a), (&mut b, self.trans_b)] {
            rank_at_least(t, 2)?;
            let n = t.rank();
            if swap {
                t.shape.swap(n - 2, n - 1);
            }
        }
        MatMul {}.infer(&[&a, &b])
    }
    fn eval(&self, x: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        evaluate(self, x)
    }
    fn vjp<'g>(&self, _: &Vjp<'g, '_>) -> Grad<'g> {
        Grad::ByDecomposition
    }
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        s.microsoft("FusedMatMul")?;
        let call = s.node("FusedMatMul").domain(MICROSOFT).float("alpha", self.alpha.0);
        Ok(call.int("transA", self.trans_a.into()).int("transB", self.trans_b.into()))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![(MICROSOFT, "FusedMatMul", 1)]
    }
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        if s.flag("transBatchA")? || s.flag("transBatchB")? {
            return s.refuse("transBatchA and transBatchB are not supported");
        }
        let (trans_a, trans_b) = (s.flag("transA")?, s.flag("transB")?);
        s.apply(Self { trans_a, trans_b, alpha: s.float("alpha", 1.0)?.into() }, &[s.x(0)?, s.x(1)?])
    }
    fn traits(&self) -> Traits {
        Traits::ROUNDING
    }
    fn cost(&self, x: &[&TensorType], y: &[&TensorType]) -> Cost {
        let inner = &x[0].shape[x[0].rank() - if self.trans_a { 2 } else { 1 }];
        Cost::new(y[0].shape.elements() * inner * 2, x, y)
    }
    fn axes(&self, x: &[&TensorType], y: &[&TensorType]) -> Vec<Link> {
        axes::product(x, y, [1 + usize::from(self.trans_a), 2 - usize::from(self.trans_b)])
    }
    fn linear_in(&self, _: &[&TensorType]) -> Vec<Vec<usize>> {
        vec![vec![0], vec![1]]
    }
    fn definition<'g>(&self, x: &[T<'g>]) -> Option<Vec<T<'g>>> {
        let [a, b] = *x else { return None };
        Some(vec![fused_matmul(a, b, a.scalar(self.alpha.0), self.trans_a, self.trans_b)])
    }
    fn samples() -> Vec<Sample> {
        let op = |trans_a, trans_b| Self { trans_a, trans_b, alpha: Real(0.25) };
        vec![
            Sample::new(op(false, false), [&[3, 4], &[4, 2]]),
            Sample::new(op(true, false), [&[2, 4, 3], &[2, 4, 2]]),
            Sample::new(op(false, true), [&[2, 2, 3, 4], &[2, 2, 5, 4]]),
            Sample::new(op(true, true), [&[4, 3], &[2, 4]]),
            Sample::new(op(false, true), [&[2, 3, 4], &[2, 5, 4]]).batched([0, 1]),
            Sample::new(op(false, true), [&[2, 1, 2, 3, 4], &[2, 1, 2, 5, 4]]),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval;

    #[test]
    fn transposes_and_scales() {
        let a = Tensor::new(&[2, 1], vec![1.0f64, 2.0]);
        let b = Tensor::new(&[1, 2], vec![3.0f64, 4.0]);
        let op = FusedMatMul { trans_a: true, trans_b: true, alpha: Real(10.0) };
        assert_eq!(eval::op(&op.into(), &[a, b]).expect("fits")[0], Tensor::new(&[1, 1], vec![110.0]));
    }

    #[test]
    fn inner_sizes_must_agree_after_transposing() {
        let t = TensorType::new(crate::ir::DType::F32, [2, 3]);
        let op = |trans_a, trans_b| FusedMatMul { trans_a, trans_b, alpha: Real(1.0) };
        assert!(op(true, true).infer(&[&t, &t]).is_err());
        let e = op(false, false).infer(&[&t, &t]).expect_err("3 and 2");
        assert!(e.0.contains("inner sizes"), "{e}");
    }
}
