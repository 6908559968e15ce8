//! Scaled dot-product attention, with and without an additive bias, becomes Attention.

use crate::build::T;
use crate::ir::{Shape, TensorType};
use crate::ops::{Attention, Op, Vocab as _, composite};
use crate::rewrite::{Facts, Match, Pat, Refuse, Row, Rule, Vars};

/// Attention without a bias.
pub(super) const SDPA: Rule = Rule {
    row: Row {
        name: "sdpa",
        doc: "softmax(q·kᵀ·scale)·v becomes Attention (arXiv 1706.03762); the scale may stand on q or k",
    },
    lhs: |x| sdpa(x, None),
    when: |m, _| one_batch(m),
    rhs: |m, var| emit(m, &[var("q"), var("k"), var("v")], false),
    results: &[],
    hint: Some(|op| matches!(op, Op::Softmax(_))),
};

/// Attention with a bias.
pub(super) const SDPA_BIAS: Rule = Rule {
    row: Row { name: "sdpa-bias", doc: "softmax(q·kᵀ·scale + bias)·v becomes Attention with a bias" },
    lhs: |x| sdpa(x, Some(x.any("bias"))),
    when: bias_broadcasts,
    rhs: |m, var| emit(m, &[var("q"), var("k"), var("v"), var("bias")], true),
    results: &[],
    hint: None,
};

/// The formula, and the two others that authors write.
fn sdpa(x: Vars, bias: Option<Pat>) -> Pat {
    let (q, k, v, scale) = (x.any("q"), x.any("k"), x.any("v"), x.scalar("scale"));
    let scores = |s: Pat| bias.iter().fold(s, |s, bias| s + bias.clone()).softmax_last().matmul(v.clone());
    x.either([
        composite::sdpa(q.clone(), k.clone(), v.clone(), scale.clone(), bias.clone()),
        scores((q.clone() * scale.clone()).matmul(k.clone().t())),
        scores(q.clone().matmul((k.clone() * scale.clone()).t())),
        scores(q.matmul(k.t() * scale)),
    ])
}

fn emit<'g>(m: &Match<'_>, x: &[T<'g>], bias: bool) -> Vec<T<'g>> {
    x[0].builder().apply_all(Attention { scale: m.number("scale").into(), bias }, x)
}

/// Queries, keys and values agree in every leading axis: no broadcasting among them.
fn one_batch(m: &Match<'_>) -> Result<(), Refuse> {
    let ty = |name| m.graph.ty(m.value(name));
    let (q, k, v) = (ty("q"), ty("k"), ty("v"));
    let lead = |t: &TensorType| Shape::from(&t.shape[..t.rank() - 2]);
    if lead(q) != lead(k) || lead(q) != lead(v) {
        return Err(Refuse(format!("q, k, v differ in their leading axes: {q}, {k}, {v}")));
    }
    Ok(())
}

fn bias_broadcasts(m: &Match<'_>, _: &Facts<'_>) -> Result<(), Refuse> {
    one_batch(m)?;
    let ty = |name| m.graph.ty(m.value(name));
    let (q, k, bias) = (ty("q"), ty("k"), ty("bias"));
    let (rows, keys) = (&q.shape[..q.rank() - 1], &k.shape[k.rank() - 2]);
    let scores: Shape = rows.iter().chain([keys]).cloned().collect();
    if bias.shape.broadcast(&scores).as_ref() != Some(&scores) {
        return Err(Refuse(format!("bias {bias} does not broadcast to the scores {scores}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Builder;
    use crate::ir::{DType, Stage, TensorType};
    use crate::passes::fuse;
    use crate::passes::testing::{Done, batched, check, filled, graph, input, param};

    fn on(formula: impl for<'g> FnOnce(&'g Builder) -> T<'g>) -> Done {
        check(&fuse::ATTENTION, &graph(Stage::Specialized, formula))
    }

    /// Queries, keys and values of two heads: 3 queries, 5 keys.
    fn qkv(b: &Builder) -> [T<'_>; 3] {
        [batched(b, "q", [2, 3, 4]), batched(b, "k", [2, 5, 4]), batched(b, "v", [2, 5, 6])]
    }

    /// Plain attention with what follows the scaled scores given.
    fn with(scores: impl for<'g> FnOnce(T<'g>) -> T<'g>) -> Done {
        on(|b| {
            let [q, k, v] = qkv(b);
            scores(q.matmul(k.t()) * 0.5).softmax(-1).matmul(v)
        })
    }

    fn tensor<'g>(b: &'g Builder, name: &str, shape: &[i64]) -> T<'g> {
        b.input(name, TensorType::new(DType::F32, shape))
    }

    #[test]
    fn the_formula_becomes_the_op() {
        let done = with(|s| s);
        assert_eq!(done.fired("sdpa"), 1);
        insta::assert_snapshot!(done.program.graph, @r"
        graph g  stage specialized
          symbol batch
          input q : f32[batch, 2, 3, 4]
          input k : f32[batch, 2, 5, 4]
          input v : f32[batch, 2, 5, 6]

        []
          %0 = attention q, k, v {scale = 0.5, bias = false} : f32[batch, 2, 3, 6]

          output y = %/0
        ");
    }

    #[test]
    fn a_bias_that_broadcasts_to_the_scores_is_taken() {
        for shape in [vec![1, 2, 3, 5], vec![2, 1, 5], vec![3, 5], vec![5], vec![1], vec![]] {
            let done = with(|s| s + tensor(s.builder(), "bias", &shape));
            assert_eq!((done.fired("sdpa-bias"), done.ops()), (1, vec!["attention"]), "{shape:?}");
        }
        let done = with(|s| param(s.builder(), "bias", [2, 3, 5]) + s);
        assert_eq!(done.fired("sdpa-bias"), 1);
    }

    #[test]
    fn a_bias_wider_than_the_scores_is_refused() {
        let done = on(|b| {
            let [q, k] = [input(b, "q", [1, 2, 3, 4]), input(b, "k", [1, 2, 5, 4])];
            let bias = input(b, "bias", [7, 1, 1, 5]);
            (q.matmul(k.t()) * 0.5 + bias).softmax(-1).matmul(input(b, "v", [1, 2, 5, 6]))
        });
        done.refused("sdpa-bias", "does not broadcast to the scores");
        let done = with(|s| s + tensor(s.builder(), "bias", &[2, 1, 2, 3, 5]));
        assert_eq!(done.fired("sdpa-bias"), 0);
    }

    #[test]
    fn values_that_broadcast_are_refused() {
        let shapes = |q: [i64; 4], k: [i64; 4], v: [i64; 4]| {
            on(|b| (input(b, "q", q).matmul(input(b, "k", k).t()) * 0.5).softmax(-1).matmul(input(b, "v", v)))
        };
        let refused = "q, k, v differ in their leading axes";
        shapes([2, 1, 3, 4], [2, 2, 5, 4], [2, 2, 5, 6]).refused("sdpa", refused);
        shapes([2, 2, 3, 4], [1, 2, 5, 4], [2, 2, 5, 6]).refused("sdpa", refused);
        shapes([1, 2, 3, 4], [1, 2, 5, 4], [3, 2, 5, 6]).refused("sdpa", refused);
        let done = on(|b| {
            let x = input(b, "x", [2, 3, 4]);
            (x.matmul(x.t()) * 0.5).softmax(-1).matmul(input(b, "v", [3, 4]))
        });
        done.refused("sdpa", refused);
    }

    /// Single matrices, one head, windows of heads.
    #[test]
    fn any_rank_is_taken() {
        fn attend<const N: usize>(lead: [i64; N]) -> Done {
            let of = |last: [i64; 2]| [lead.as_slice(), last.as_slice()].concat();
            on(|b| {
                let scores = tensor(b, "q", &of([3, 4])).matmul(tensor(b, "k", &of([5, 4])).t()) * 0.5;
                let scores = scores + tensor(b, "bias", &[3, 5]);
                scores.softmax(-1).matmul(tensor(b, "v", &of([5, 6])))
            })
        }
        for done in [attend([]), attend([2]), attend([2, 2, 1])] {
            assert_eq!((done.fired("sdpa-bias"), done.ops()), (1, vec!["attention"]));
        }
    }

    #[test]
    fn the_reason_says_where_the_pattern_stopped() {
        // Talking heads: something stands between the softmax and the values.
        on(|b| {
            let [q, k, v] = qkv(b);
            ((q.matmul(k.t()) * 0.5).softmax(-1) * input(b, "mix", [2, 1, 1])).matmul(v)
        })
        .refused("sdpa", "wanted a softmax over the last axis, found mul");
        // The softmax is over the queries.
        on(|b| {
            let [q, k, v] = qkv(b);
            (q.matmul(k.t()) * 0.5).softmax(-2).matmul(v)
        })
        .refused("sdpa", "wanted a softmax over the last axis, found softmax");
        // The keys are not transposed by their last two axes.
        on(|b| {
            let [q, k, v] = qkv(b);
            (q.matmul(k.reshape([b.symbol("batch"), 2.into(), 4.into(), 5.into()])) * 0.5).softmax(-1).matmul(v)
        })
        .refused("sdpa", "wanted a transpose of the last two axes, found reshape");
        // There is no scale, or it is learned.
        on(|b| {
            let [q, k, v] = qkv(b);
            q.matmul(k.t()).softmax(-1).matmul(v)
        })
        .refused("sdpa", "wanted mul, found an input or parameter");
        on(|b| {
            let [q, k, v] = qkv(b);
            (q.matmul(k.t()) * param(b, "temperature", [2, 1, 1])).softmax(-1).matmul(v)
        })
        .refused("sdpa", "`scale` is not a constant number");
        // The softmax is the end.
        on(|b| {
            let [q, k, _] = qkv(b);
            (q.matmul(k.t()) * 0.5).softmax(-1)
        })
        .refused("sdpa", "nothing that follows resembles the pattern");
    }

    #[test]
    fn a_scale_of_several_numbers_or_wider_than_the_scores_is_refused() {
        let done = on(|b| {
            let [q, k, v] = [[1, 2, 3, 4], [1, 2, 5, 4], [1, 2, 5, 6]]
                .map(|s| tensor(b, &s[2..].iter().map(i64::to_string).collect::<String>(), &s));
            (q.matmul(k.t()) * filled(b, &[3, 1, 1, 1], 0.5)).softmax(-1).matmul(v)
        });
        assert_eq!(done.ctx.rewrites(), 0, "{}", done.program.graph);
        let done = with(|s| s * 1.0);
        assert_eq!(done.ctx.rewrites(), 0, "canonicalization merges scales, not this rule");
    }

    /// Queries may be anything, a transpose of something else too.
    #[test]
    fn transposed_queries_and_values_are_operands_like_others() {
        let done = on(|b| {
            let [q, k, v] = [batched(b, "q", [2, 4, 3]), batched(b, "k", [2, 5, 4]), batched(b, "v", [2, 6, 5])];
            (q.t().matmul(k.t()) * 0.5).softmax(-1).matmul(v.t())
        });
        assert_eq!((done.fired("sdpa"), done.ops()), (1, vec!["transpose", "transpose", "attention"]));
    }

    #[test]
    fn scores_that_are_read_outside_stay() {
        for softmax in [false, true] {
            let done = on(|b| {
                let [q, k, v] = qkv(b);
                let scores = q.matmul(k.t()) * 0.5;
                let weights = scores.softmax(-1);
                b.output("attention", if softmax { weights } else { scores });
                weights.matmul(v)
            });
            let op = if softmax { "softmax" } else { "mul" };
            done.refused("sdpa", &format!("the {op} in [] is read outside the pattern too"));
        }
    }

    /// Keys of one attention are values of the next: neither match covers the other's operands.
    #[test]
    fn attention_upon_attention_is_recognized_twice() {
        let done = on(|b| {
            let x = input(b, "x", [1, 2, 3, 3]);
            let attend = |q: T<'_>, k: T<'_>, v: T<'_>| {
                let y = composite::sdpa(q, k, v, q.scalar(0.25), None);
                y.id().expect("well typed")
            };
            let y = b.value(attend(x, x, x));
            b.value(attend(x, y, y))
        });
        assert_eq!((done.fired("sdpa"), done.ops()), (2, vec!["attention", "attention"]));
    }
}
