//! Batch normalization, undecided and in training.

use super::check::{equal, fail, float, operands, rank, rank_at_least, same_dtype};
use super::composite;
use super::prelude::*;
use crate::ir::Stage;

op! {
    /// Normalizes each channel (axis 1) of `x: [n, c, …]`; the other operands are weight, bias, running mean and
    /// running variance, each `[c]`.
    ///
    /// Not in training, one result: `(x − mean) / √(var + ε) · weight + bias` with the running statistics.
    /// A graph holds this form until a pass decides for inference or training.
    ///
    /// In training, three results: the same with the batch's mean and biased variance; then the new running mean and
    /// variance, `(1 − m)·old + m·batch`, the batch's variance unbiased there, as PyTorch does it.
    pub struct BatchNormalization = "batch_normalization" {
        /// Added to the variance.
        pub epsilon: Real,
        /// The weight of the batch in the running statistics: PyTorch's `momentum`, one minus ONNX's.
        pub momentum: Real,
        /// Whether the batch's statistics are used.
        pub training: bool,
    }
}

impl BatchNormalization {
    /// The batch's mean, biased variance, and number of elements over that number less one; per channel.
    fn statistics(x: T<'_>) -> [T<'_>; 3] {
        let axes: Vec<i64> = (0..x.rank() as i64).filter(|&a| a != 1).collect();
        let mean = x.mean_keep(&axes);
        let centered = x - mean;
        let mut places = x.dims();
        places[1] = Dim::known(1);
        // The batch may be symbolic, so the count is counted.
        let count = x.scalar(1.0).expand(places).sum_keep(&axes);
        [mean, (centered * centered).mean_keep(&axes), count / (count - 1.0)]
    }
}

impl OpDef for BatchNormalization {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, channel @ ..] = operands::<5>(x)?;
        float(x)?;
        rank_at_least(x, 2)?;
        for c in channel {
            same_dtype(x, c)?;
            rank(c, 1)?;
            equal(format_args!("channels of {x} and {c}"), &x.shape[1], &c.shape[0])?;
        }
        if !self.training {
            return Ok(vec![x.clone()]);
        }
        let count = &x.shape[0] * x.shape[2..].iter().product::<Dim>();
        if count.value().is_some_and(|n| n < 2) {
            return fail(format!("training needs more than one element for each channel, found {x}"));
        }
        Ok(vec![x.clone(), channel[2].clone(), channel[3].clone()])
    }
    fn eval(&self, x: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        composite::evaluate(self, x)
    }
    fn vjp<'g>(&self, _: &Vjp<'g, '_>) -> Grad<'g> {
        Grad::ByDecomposition
    }
    /// ONNX's training mode keeps a biased running variance, so training has no spelling of its own.
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        if self.training {
            return Err(Unspellable(
                "batch_normalization in training keeps an unbiased variance, which ONNX's does not; decompose it"
                    .into(),
            ));
        }
        Ok(s.node("BatchNormalization").float("epsilon", self.epsilon.0).float("momentum", 1.0 - self.momentum.0))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![("", "BatchNormalization", 7)]
    }
    /// Undecided batch norm is not legal in a graph that was read, so this is its definition.
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        let op = Self {
            epsilon: s.float("epsilon", 1e-5)?.into(),
            momentum: Real(1.0 - s.float("momentum", 0.9)?),
            training: false,
        };
        if s.opset < 9 && s.int("spatial", 1)? == 0 {
            return s.refuse("spatial = 0 is not supported; statistics for each channel are");
        }
        if s.results > 1 || (s.opset >= 14 && s.flag("training_mode")?) {
            return s.refuse("training is not supported: ONNX keeps a biased variance, this tool an unbiased one");
        }
        let x = (0..5).map(|i| s.x(i)).collect::<Result<Vec<_>, _>>()?;
        let (found, c) = (x[0].ty(), x[0].dim(1));
        if x[0].rank() < 2 || x[1..].iter().any(|t| *t.dims() != [c.clone()]) {
            return s.refuse(format!(
                "it takes two or more axes and four vectors of one element for each channel, found {found}"
            ));
        }
        op.definition(&x).map_or_else(|| s.unknown(), Ok)
    }
    fn traits(&self) -> Traits {
        Traits::ROUNDING
    }
    /// Subtract, multiply, add; in training also two means and a square.
    fn cost(&self, x: &[&TensorType], y: &[&TensorType]) -> Cost {
        Cost::each(if self.training { 7 } else { 4 }, x, y)
    }
    fn axes(&self, x: &[&TensorType], y: &[&TensorType]) -> Vec<Link> {
        let along = |r: usize, channels: usize| {
            let image = (0..x[0].rank()).map(move |a| match (a, r, self.training) {
                (1, ..) => (0, a, Some((r, channels)), Along::Each),
                (_, 0, true) => (0, a, Some((r, a)), Along::Whole),
                (_, 0, false) => (0, a, Some((r, a)), Along::Each),
                _ => (0, a, None, Along::Whole),
            });
            image.chain((1..5).map(move |i| (i, 0, Some((r, channels)), Along::Each)))
        };
        let links = (0..y.len()).flat_map(|r| along(r, usize::from(r == 0)));
        links.map(|(operand, axis, result, how)| Link { operand, axis, result, how }).collect()
    }
    fn linear_in(&self, _: &[&TensorType]) -> Vec<Vec<usize>> {
        if self.training { Vec::new() } else { vec![vec![0, 2, 3], vec![1, 2]] }
    }
    fn definition<'g>(&self, x: &[T<'g>]) -> Option<Vec<T<'g>>> {
        let [x, weight, bias, mean, var] = *x else { return None };
        let mut channels = vec![Dim::known(1); x.rank().saturating_sub(1)];
        *channels.first_mut()? = x.dim(1);
        let wide = |t: T<'g>| t.reshape(channels.clone());
        let normalize = |m: T<'g>, v: T<'g>| (x - m) / (v + self.epsilon.0).sqrt() * wide(weight) + wide(bias);
        if !self.training {
            return Some(vec![normalize(wide(mean), wide(var))]);
        }
        let [batch_mean, batch_var, unbias] = Self::statistics(x);
        let running =
            |old: T<'g>, new: T<'g>| old * (1.0 - self.momentum.0) + new.reshape([x.dim(1)]) * self.momentum.0;
        Some(vec![normalize(batch_mean, batch_var), running(mean, batch_mean), running(var, batch_var * unbias)])
    }
    fn until(&self) -> Stage {
        if self.training { Stage::Legal } else { Stage::Built }
    }
    fn samples() -> Vec<Sample> {
        [false, true]
            .into_iter()
            .flat_map(|training| {
                let op = Self { epsilon: Real(1e-5), momentum: Real(0.1), training };
                let c: &[i64] = &[3];
                // Variances are drawn from the same range, so it is positive.
                [
                    Sample::new(op.clone(), [&[2, 3, 4, 2], c, c, c, c]).range(0.2, 2.0),
                    Sample::new(op.clone(), [&[2, 3, 5], c, c, c, c]).range(0.2, 2.0),
                    Sample::new(op.clone(), [&[4, 3], c, c, c, c]).range(0.2, 2.0),
                    Sample::new(op, [&[2, 3, 2], c, c, c, c]).range(0.2, 2.0).batched([0]),
                ]
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval;
    use crate::ir::DType;

    fn op(training: bool) -> BatchNormalization {
        BatchNormalization { epsilon: Real(0.0), momentum: Real(0.25), training }
    }

    fn operands() -> Vec<Tensor> {
        let c = |v: f64| Tensor::new(&[1], vec![v]);
        vec![Tensor::new(&[2, 1, 2], vec![1.0, 3.0, 5.0, 7.0]), c(2.0), c(0.5), c(3.0), c(4.0)]
    }

    #[test]
    fn running_statistics_normalize_when_undecided() {
        let y = eval::op(&op(false).into(), &operands()).expect("runs");
        assert_eq!(y, [Tensor::new(&[2, 1, 2], vec![-1.5, 0.5, 2.5, 4.5])]);
    }

    #[test]
    fn training_normalizes_biased_and_keeps_unbiased() {
        let y = eval::op(&op(true).into(), &operands()).expect("runs");
        // Mean 4, squares 9 + 1 + 1 + 9 = 20: biased variance 5, unbiased 20/3.
        let by_hand = |x: f64| (x - 4.0) / 5f64.sqrt() * 2.0 + 0.5;
        let want = Tensor::new(&[2, 1, 2], [1.0, 3.0, 5.0, 7.0].map(by_hand).to_vec());
        assert!(y[0].max_abs_diff(&want).is_some_and(|d| d < 1e-12));
        assert_eq!(y[1], Tensor::new(&[1], vec![3.25]));
        assert!(y[2].max_abs_diff(&Tensor::new(&[1], vec![3.0 + 20.0 / 12.0])).is_some_and(|d| d < 1e-12));
    }

    #[test]
    fn undecided_may_only_be_in_built_graphs() {
        assert_eq!(op(false).until(), Stage::Built);
        assert_eq!(op(true).until(), Stage::Legal);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let t = |s: &[i64]| TensorType::new(DType::F32, s);
        let infer = |x: &[i64], c: &[i64]| op(true).infer(&[&t(x), &t(c), &t(c), &t(c), &t(c)]).expect_err("refused").0;
        assert!(infer(&[2, 3], &[4]).contains("channels"));
        assert!(infer(&[3], &[3]).contains("at least 2 axes"));
        assert!(infer(&[1, 3], &[3]).contains("more than one element"));
    }
}
