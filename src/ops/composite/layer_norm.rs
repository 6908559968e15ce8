//! Layer normalisation over the last axis.

use super::super::check::{equal, operands, rank, rank_at_least};
use super::super::{EvalError, Grad, OpDef, Sample, Spell, Traits, Unspellable, Vjp, Vocab, op};
use super::{evaluate, infer};
use crate::build::T;
use crate::ir::{Bindings, Dim, Real, Tensor, TensorType, TypeError};

/// `c / √(mean(c²) + ε) · weight + bias` with `c = x − mean(x)`, means over the last axis (Ba et al., 1607.06450).
pub fn layer_norm<V: Vocab>(x: V, weight: V, bias: V, epsilon: V) -> V {
    let c = x.clone() - x.mean_last();
    c.clone() / ((c.clone() * c).mean_last() + epsilon).sqrt() * weight + bias
}

op! {
    /// [`layer_norm`] of `x: […, d]`; weight and bias are `[d]`.
    pub struct LayerNormalization = "layer_normalization" {
        /// Added to the variance.
        pub epsilon: Real,
    }
}

impl OpDef for LayerNormalization {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [first, rest @ ..] = operands::<3>(x)?;
        rank_at_least(first, 1)?;
        for t in rest {
            rank(t, 1)?;
            equal(&format!("last axes of {first} and {t}"), &first.shape[first.rank() - 1], &t.shape[0])?;
        }
        infer(self, x)
    }
    fn eval(&self, x: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        evaluate(self, x)
    }
    fn vjp<'g>(&self, _: &Vjp<'g, '_>) -> Grad<'g> {
        Grad::ByDecomposition
    }
    fn onnx(&self, s: &mut Spell<'_>) -> Result<(), Unspellable> {
        s.since("LayerNormalization", 17)?;
        s.node("LayerNormalization").int("axis", -1).float("epsilon", self.epsilon.0).done()
    }
    fn traits(&self) -> Traits {
        Traits::ROUNDING
    }
    fn flops(&self, x: &[&TensorType], _: &[&TensorType]) -> Dim {
        x[0].shape.elements() * 7
    }
    fn definition<'g>(&self, x: &[T<'g>]) -> Option<Vec<T<'g>>> {
        let [x, weight, bias] = *x else { return None };
        Some(vec![layer_norm(x, weight, bias, x.scalar(self.epsilon.0))])
    }
    fn samples() -> Vec<Sample> {
        let op = |e| Self { epsilon: Real(e) };
        vec![Sample::new(op(1e-5), [&[2, 3, 4], &[4], &[4]]), Sample::new(op(0.1), [&[5], &[5], &[5]])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval;
    use crate::ir::DType;

    #[test]
    fn normalises_scales_and_shifts() {
        let t = |v: &[f64]| Tensor::new(&[v.len()], v.to_vec());
        let op = LayerNormalization { epsilon: Real(0.0) };
        // Mean 2, biased variance 4.
        let x = Tensor::new(&[1, 2], vec![0.0f64, 4.0]);
        let y = eval::op(&op.into(), &[x, t(&[3.0, 5.0]), t(&[0.25, -1.0])]).expect("runs");
        assert_eq!(y[0], Tensor::new(&[1, 2], vec![-2.75, 4.0]));
    }

    #[test]
    fn weight_and_bias_are_as_long_as_the_last_axis() {
        let t = |s: &[i64]| TensorType::new(DType::F32, s);
        let op = LayerNormalization { epsilon: Real(1e-5) };
        assert!(op.infer(&[&t(&[2, 4]), &t(&[4]), &t(&[1])]).expect_err("bias is short").0.contains("last axes"));
        assert!(op.infer(&[&t(&[2, 4]), &t(&[2, 4]), &t(&[4])]).is_err());
        assert!(op.infer(&[&t(&[]), &t(&[4]), &t(&[4])]).is_err());
    }
}
