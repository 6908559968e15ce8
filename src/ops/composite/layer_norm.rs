//! Layer normalisation over the last axis.

use super::super::check::{equal, operands, rank, rank_at_least};
use super::super::{EvalError, Grad, OnnxOp, OpDef, Sample, Site, Spell, Traits, Unread, Unspellable, Vjp, Vocab, op};
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
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![("", "LayerNormalization", 17)]
    }
    /// Several axes are normalized as one.
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        let (x, w) = (s.x(0)?, s.x(1)?);
        let from = s.axis(-1, x)?;
        let op = Self { epsilon: s.float("epsilon", 1e-5)?.into() };
        if s.int("stash_type", 1)? != 1 {
            return s.refuse("stash_type must be 1");
        }
        let bias = if s.has(2) { s.x(2)? } else { w.zeros_like() };
        if from + 1 == x.rank() {
            return s.apply(op, &[x, w, bias]);
        }
        let dims = x.dims();
        if w.dims() != dims[from..] || bias.dims() != dims[from..] {
            return s.refuse(format!(
                "weight and bias must be of the shape of the axes that are normalized, found {} for {}",
                w.ty(),
                x.ty()
            ));
        }
        let flat = |t: T<'g>, kept: usize| {
            let dims = t.dims();
            t.reshape(dims[..kept].iter().cloned().chain([dims[kept..].iter().product()]).collect::<Vec<_>>())
        };
        Ok(vec![s.builder.apply(op, &[flat(x, from), flat(w, 0), flat(bias, 0)]).reshape(dims)])
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
