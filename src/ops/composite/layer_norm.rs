//! Layer normalization over the last axis.

use super::super::Vocab;
use super::super::check::{equal, fail, float, operands_and_bias, rank, rank_at_least, same_dtype};
use super::evaluate;
use crate::ops::prelude::*;

/// `c / √(mean(c²) + ε) · weight [+ bias]` with `c = x − mean(x)`, means over the last axis (Ba et al., 1607.06450).
pub fn layer_norm<V: Vocab>(x: V, weight: V, bias: Option<V>, epsilon: V) -> V {
    let c = x.clone() - x.mean_last();
    let y = c.clone() / ((c.clone() * c).mean_last() + epsilon).sqrt() * weight;
    match bias {
        Some(bias) => y + bias,
        None => y,
    }
}

op! {
    /// [`layer_norm`] of `x: […, d]`; the weight, and the bias if there is one, are `[d]`.
    pub struct LayerNormalization = "layer_normalization" {
        /// Added to the variance.
        pub epsilon: Real,
        /// Whether there is a bias, the third operand.
        pub bias: bool,
    }
}

/// A vector along the last axis of `x`.
fn along_last(x: &TensorType, t: &TensorType) -> Result<(), TypeError> {
    same_dtype(x, t)?;
    rank_at_least(x, 1)?;
    rank(t, 1)?;
    equal(format_args!("last axes of {x} and {t}"), &x.shape[x.rank() - 1], &t.shape[0])
}

impl OpDef for LayerNormalization {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let ([first, weight], bias) = operands_and_bias(x, self.bias)?;
        float(first)?;
        along_last(first, weight)?;
        bias.map_or(Ok(()), |bias| along_last(first, bias))?;
        if first.shape.last().is_some_and(|d| d.is(0)) {
            return fail(format!("the last axis of {first} is empty"));
        }
        Ok(vec![first.clone()])
    }
    fn eval(&self, x: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        evaluate(self, x)
    }
    fn vjp<'g>(&self, _: &Vjp<'g, '_>) -> Grad<'g> {
        Grad::ByDecomposition
    }
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        s.since("LayerNormalization", 17)?;
        Ok(s.node("LayerNormalization").int("axis", -1).float("epsilon", self.epsilon.0))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![("", "LayerNormalization", 17)]
    }
    /// Several axes are normalized as one.
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        let (x, bias) = (s.x(0)?, s.has(2));
        let from = s.axis(-1, x)?;
        let op = Self { epsilon: s.float("epsilon", 1e-5)?.into(), bias };
        if s.int("stash_type", 1)? != 1 {
            return s.refuse("stash_type must be 1");
        }
        let mut all = vec![x, s.x(1)?];
        if bias {
            all.push(s.x(2)?);
        }
        if from + 1 == x.rank() {
            return s.apply(op, &all);
        }
        let dims = x.dims();
        if all[1..].iter().any(|t| *t.dims() != dims[from..]) {
            let found = x.ty();
            return s.refuse(format!("weight and bias must have the shape of axes {from} and later of {found}"));
        }
        let flat = |t: T<'g>, kept: usize| {
            let dims = t.dims();
            t.reshape(dims[..kept].iter().cloned().chain([dims[kept..].iter().product()]).collect::<Vec<_>>())
        };
        let all: Vec<T<'g>> = all.iter().enumerate().map(|(i, &t)| flat(t, if i == 0 { from } else { 0 })).collect();
        Ok(vec![s.builder.apply(op, &all).reshape(dims)])
    }
    fn traits(&self) -> Traits {
        Traits::ROUNDING
    }
    fn cost(&self, x: &[&TensorType], y: &[&TensorType]) -> Cost {
        Cost::each(if self.bias { 7 } else { 6 }, x, y)
    }
    fn axes(&self, x: &[&TensorType], _: &[&TensorType]) -> Vec<Link> {
        let last = x[0].rank() - 1;
        let vectors = (1..x.len()).map(|i| Link::to(i, 0, last, Along::Each));
        axes::only(&x[..1], last, Along::Whole).into_iter().chain(vectors).collect()
    }
    fn linear_in(&self, x: &[&TensorType]) -> Vec<Vec<usize>> {
        vec![(1..x.len()).collect()]
    }
    fn definition<'g>(&self, x: &[T<'g>]) -> Option<Vec<T<'g>>> {
        let [x, weight, ref bias @ ..] = *x else { return None };
        Some(vec![layer_norm(x, weight, bias.first().copied(), x.scalar(self.epsilon.0))])
    }
    fn samples() -> Vec<Sample> {
        let op = |e, bias| Self { epsilon: Real(e), bias };
        vec![
            Sample::new(op(1e-5, true), [&[2, 3, 4], &[4], &[4]]),
            Sample::new(op(0.1, true), [&[5], &[5], &[5]]),
            Sample::new(op(1e-5, false), [&[2, 3, 4], &[4]]),
            Sample::new(op(1e-5, true), [&[2, 3, 4], &[4], &[4]]).batched([0]),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval;
    use crate::ir::DType;

    #[test]
    fn normalizes_scales_and_shifts() {
        let t = |v: &[f64]| Tensor::new(&[v.len()], v.to_vec());
        let op = LayerNormalization { epsilon: Real(0.0), bias: true };
        // Mean 2, biased variance 4.
        let x = Tensor::new(&[1, 2], vec![0.0f64, 4.0]);
        let y = eval::op(&op.into(), &[x, t(&[3.0, 5.0]), t(&[0.25, -1.0])]).expect("runs");
        assert_eq!(y[0], Tensor::new(&[1, 2], vec![-2.75, 4.0]));
    }

    #[test]
    fn weight_and_bias_are_as_long_as_the_last_axis() {
        let t = |s: &[i64]| TensorType::new(DType::F32, s);
        let op = LayerNormalization { epsilon: Real(1e-5), bias: true };
        assert!(op.infer(&[&t(&[2, 4]), &t(&[4]), &t(&[1])]).expect_err("bias is short").0.contains("last axes"));
        assert!(op.infer(&[&t(&[2, 4]), &t(&[2, 4]), &t(&[4])]).is_err());
        assert!(op.infer(&[&t(&[]), &t(&[4]), &t(&[4])]).is_err());
        assert!(op.infer(&[&t(&[2, 4]), &t(&[4])]).expect_err("no bias").0.contains("takes 3 operands"));
        let plain = LayerNormalization { bias: false, ..op };
        assert!(plain.infer(&[&t(&[2, 4]), &t(&[4]), &t(&[4])]).is_err());
        assert!(plain.infer(&[&t(&[2, 0]), &t(&[0])]).expect_err("no mean").0.contains("is empty"));
    }
}
