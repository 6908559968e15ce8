//! Scaled dot-product attention.

use super::super::Vocab;
use super::super::check::{equal, fail, float, operands_and_bias, rank_at_least, same_dtype};
use super::evaluate;
use crate::ops::prelude::*;

/// `softmax(q·kᵀ·scale + bias)·v`, the softmax over keys (Vaswani et al., 1706.03762).
pub fn sdpa<V: Vocab>(q: V, k: V, v: V, scale: V, bias: Option<V>) -> V {
    let scores = q.matmul(k.t()) * scale;
    let scores = match bias {
        Some(bias) => scores + bias,
        None => scores,
    };
    scores.softmax_last().matmul(v)
}

op! {
    /// [`sdpa`] of `q: […, S, D]`, `k: […, L, D]`, `v: […, L, E]` to `[…, S, E]`, leading axes equal; a bias, if any,
    /// is the fourth operand and broadcasts to the scores `[…, S, L]`.
    pub struct Attention = "attention" {
        /// What scores are multiplied by.
        pub scale: Real,
        /// Whether there is a bias.
        pub bias: bool,
    }
}

impl OpDef for Attention {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let ([q, k, v], bias) = operands_and_bias(x, self.bias)?;
        float(q)?;
        for t in x {
            same_dtype(q, t)?;
        }
        for t in [q, k, v] {
            rank_at_least(t, 2)?;
        }
        let lead = |t: &TensorType| Shape::from(&t.shape[..t.rank() - 2]);
        if lead(q) != lead(k) || lead(q) != lead(v) {
            return fail(format!("leading axes differ: {q}, {k} and {v}"));
        }
        let n = q.rank();
        equal(format_args!("sizes of queries {q} and keys {k}"), &q.shape[n - 1], &k.shape[n - 1])?;
        equal(format_args!("numbers of keys {k} and values {v}"), &k.shape[n - 2], &v.shape[n - 2])?;
        if k.shape[n - 2].is(0) {
            return fail(format!("there are no keys in {k}"));
        }
        let rows = |last: &Dim| q.shape[..n - 1].iter().chain([last]).cloned().collect::<Shape>();
        let scores = rows(&k.shape[n - 2]);
        if let Some(bias) = bias.filter(|bias| bias.shape.broadcast(&scores).as_ref() != Some(&scores)) {
            return fail(format!("the bias {bias} does not broadcast to the scores {scores}"));
        }
        Ok(vec![TensorType { dtype: q.dtype, shape: rows(&v.shape[n - 1]) }])
    }
    fn eval(&self, x: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        evaluate(self, x)
    }
    fn vjp<'g>(&self, _: &Vjp<'g, '_>) -> Grad<'g> {
        Grad::ByDecomposition
    }
    /// `ai.onnx` takes `[batch, heads, tokens, size]` when heads are not an attribute.
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        if s.x[0].rank() != 4 {
            return Err(Unspellable(format!("Attention takes tensors of 4 axes, found {}; decompose it", s.x[0])));
        }
        s.since("Attention", 23)?;
        Ok(s.node("Attention").float("scale", self.scale.0))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![("", "Attention", 23)]
    }
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        let mut x = vec![s.x(0)?, s.x(1)?, s.x(2)?];
        let bias = s.has(3);
        if bias {
            x.push(s.x(3)?);
        }
        if s.has(4) || s.has(5) || s.results > 1 {
            return s.refuse("a cache of keys and values, and results besides the first, are not supported");
        }
        if x.iter().take(3).any(|t| t.rank() != 4) || x.iter().any(|t| !t.dtype().is_float()) {
            return s
                .refuse(format!("queries, keys and values of four axes and a float mask are supported, found {x:?}"));
        }
        if s.flag("is_causal")? || s.float("softcap", 0.0)? != 0.0 {
            return s.refuse("is_causal and softcap are not supported; a causal mask can be operand 3");
        }
        let scale = match (s.maybe_float("scale")?, x[0].dim(3).size()) {
            (Some(scale), _) => scale,
            (None, Some(size @ 1..)) => (size as f64).sqrt().recip(),
            _ => return s.refuse("without scale, the last axis of the queries must have a known size"),
        };
        s.int("qk_matmul_output_mode", 0)?;
        s.apply(Self { scale: scale.into(), bias }, &x)
    }
    fn traits(&self) -> Traits {
        Traits::ROUNDING
    }
    /// Two products, and six operations for each score.
    fn cost(&self, x: &[&TensorType], y: &[&TensorType]) -> Cost {
        let (n, [q, k, v]) = (x[0].rank(), [x[0], x[1], x[2]].map(|t| &t.shape));
        let scores = q[..n - 1].iter().product::<Dim>() * &k[n - 2];
        Cost::new(scores * (&q[n - 1] * 2 + &(&v[n - 1] * 2) + 6), x, y)
    }
    fn axes(&self, x: &[&TensorType], y: &[&TensorType]) -> Vec<Link> {
        let (n, y) = (x[0].rank(), &y[0].shape);
        let mut links: Vec<Link> = (0..3).flat_map(|i| axes::broadcast(i, &x[i].shape[..n - 2], &y[..n - 2])).collect();
        links.push(Link::to(0, n - 2, n - 2, Along::Each));
        links.push(Link::to(2, n - 1, n - 1, Along::Each));
        links.push(Link::gone(2, n - 2, Along::Sum));
        links.extend([(0, n - 1), (1, n - 2), (1, n - 1)].map(|(i, a)| Link::gone(i, a, Along::Whole)));
        if let Some((_, rows)) = x.get(3).and_then(|bias| bias.shape.split_last()) {
            links.extend(axes::broadcast(3, rows, &y[..n - 1]));
            links.push(Link::gone(3, rows.len(), Along::Whole));
        }
        links
    }
    fn linear_in(&self, _: &[&TensorType]) -> Vec<Vec<usize>> {
        vec![vec![2]]
    }
    fn definition<'g>(&self, x: &[T<'g>]) -> Option<Vec<T<'g>>> {
        let [q, k, v, ref bias @ ..] = *x else { return None };
        Some(vec![sdpa(q, k, v, q.scalar(self.scale.0), bias.first().copied())])
    }
    fn samples() -> Vec<Sample> {
        let op = |bias| Self { scale: Real(0.5), bias };
        let (q, k, v): (&[i64], &[i64], &[i64]) = (&[2, 2, 3, 4], &[2, 2, 5, 4], &[2, 2, 5, 3]);
        vec![
            Sample::new(op(false), [q, k, v]).since(23),
            Sample::new(op(true), [q, k, v, &[2, 3, 5]]).since(23),
            Sample::new(op(true), [q, k, v, &[2, 1, 1, 5]]).since(23),
            Sample::new(op(true), [q, k, v, &[2, 3, 5]]).since(23).batched([0, 1, 2]),
            // Any rank has a value; only four axes have a spelling.
            Sample::new(op(true), [&[3, 4], &[5, 4], &[5, 2], &[5]]),
            Sample::new(op(false), [&[2, 3, 4], &[2, 5, 4], &[2, 5, 1]]),
            Sample::new(op(true), [&[2, 1, 2, 3, 4], &[2, 1, 2, 5, 4], &[2, 1, 2, 5, 2], &[2, 1, 5]]),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval;
    use crate::ir::DType;

    #[test]
    fn the_bias_masks_keys() {
        let q = Tensor::new(&[1, 1], vec![1.0f64]);
        let k = Tensor::new(&[3, 1], vec![3.0f64, -4.0, 2.0]);
        let v = Tensor::new(&[3, 2], vec![1.0f64, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let mask = Tensor::new(&[3], vec![f64::NEG_INFINITY, 0.0, f64::NEG_INFINITY]);
        let y = eval::op(&Attention { scale: Real(1.0), bias: true }.into(), &[q, k, v, mask]).expect("runs");
        assert_eq!(y[0], Tensor::new(&[1, 2], vec![3.0, 4.0]));
    }

    #[test]
    fn other_ranks_than_four_have_no_spelling() {
        let op = Attention { scale: Real(0.5), bias: false };
        for lead in [&[][..], &[2], &[2, 2], &[2, 2, 2]] {
            let t = |last: [i64; 2]| TensorType::new(DType::F32, [lead, &last[..]].concat().as_slice());
            let x = [t([3, 4]), t([5, 4]), t([5, 6])];
            let x: Vec<&TensorType> = x.iter().collect();
            assert_eq!(op.infer(&x).expect("any rank"), [t([3, 6])]);
            let spelled = op.onnx(&Spell { opset: 23, contrib: true, x: &x });
            match lead.len() {
                2 => assert!(spelled.is_ok()),
                _ => assert!(spelled.expect_err("not four axes").0.contains("takes tensors of 4 axes")),
            }
        }
    }

    #[test]
    fn scores_are_scaled() {
        let q = Tensor::new(&[1, 1], vec![2.0f64]);
        let k = Tensor::new(&[2, 1], vec![0.0f64, 3f64.ln()]);
        let v = Tensor::new(&[2, 1], vec![0.0f64, 1.0]);
        let y = eval::op(&Attention { scale: Real(0.5), bias: false }.into(), &[q, k, v]).expect("runs");
        assert!((y[0].to_f64_vec()[0] - 0.75).abs() < 1e-15);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let t = |s: &[i64]| TensorType::new(DType::F32, s);
        let (q, k, v) = (t(&[2, 3, 4]), t(&[2, 5, 4]), t(&[2, 5, 6]));
        let plain = Attention { scale: Real(1.0), bias: false };
        let biased = Attention { scale: Real(1.0), bias: true };
        assert_eq!(plain.infer(&[&q, &k, &v]).expect("fits"), [t(&[2, 3, 6])]);
        assert!(plain.infer(&[&q, &v, &k]).is_err());
        assert!(plain.infer(&[&q, &t(&[5, 4]), &v]).expect_err("no batch").0.contains("leading axes"));
        assert!(biased.infer(&[&q, &k, &v]).is_err());
        assert!(biased.infer(&[&q, &k, &v, &t(&[7, 2, 3, 5])]).expect_err("wider").0.contains("bias"));
    }
}
