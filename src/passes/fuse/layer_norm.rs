//! `(x − μ)/√(σ² + ε)·w [+ b]` over the last axis becomes `LayerNormalization`.

use crate::build::T;
use crate::ops::{LayerNormalization, composite};
use crate::rewrite::{Match, Refuse, Row, Rule};

/// With a bias. One that is no vector is an addition after the norm.
pub(super) const BIASED: Rule = Rule {
    row: Row {
        name: "layer-norm",
        doc: "(x − μ)/√(σ² + ε)·w + b over the last axis becomes LayerNormalization (arXiv 1607.06450)",
    },
    lhs: |x| composite::layer_norm(x.any("x"), x.any("w"), Some(x.any("b")), x.scalar("eps")),
    when: |m, _| along_last(m, &["w", "b"]),
    rhs: |m, var| emit(m, &[var("x"), var("w"), var("b")]),
    results: &[],
    hint: None,
};

/// Without a bias.
pub(super) const PLAIN: Rule = Rule {
    row: Row {
        name: "layer-norm-no-bias",
        doc: "(x − μ)/√(σ² + ε)·w over the last axis becomes LayerNormalization without a bias",
    },
    lhs: |x| composite::layer_norm(x.any("x"), x.any("w"), None, x.scalar("eps")),
    when: |m, _| along_last(m, &["w"]),
    rhs: |m, var| emit(m, &[var("x"), var("w")]),
    results: &[],
    hint: None,
};

fn emit<'g>(m: &Match<'_>, x: &[T<'g>]) -> Vec<T<'g>> {
    let op = LayerNormalization { epsilon: m.number("eps").into(), bias: x.len() == 3 };
    x[0].builder().apply_all(op, x)
}

fn along_last(m: &Match<'_>, vectors: &[&str]) -> Result<(), Refuse> {
    let width = m.graph.ty(m.value("x")).shape.last().cloned();
    for name in vectors {
        let ty = m.graph.ty(m.value(name));
        if ty.rank() != 1 || ty.shape.first() != width.as_ref() {
            return Err(Refuse(format!("`{name}` is {ty}, not a vector along the last axis")));
        }
    }
    if m.number("eps") < 0.0 {
        return Err(Refuse("eps is negative".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{Builder, T};
    use crate::ir::Stage;
    use crate::passes::fuse;
    use crate::passes::testing::{Done, batched, check, filled, graph, input, param, positive};

    fn on(formula: impl for<'g> FnOnce(&'g Builder) -> T<'g>) -> Done {
        check(&fuse::LAYER_NORM, &graph(Stage::Specialized, formula))
    }

    /// The formula with the mean and the variance taken over `axis`.
    fn over(axis: i64, x: T<'_>, eps: f64) -> T<'_> {
        let c = x - x.mean_keep(&[axis]);
        c / ((c * c).mean_keep(&[axis]) + eps).sqrt()
    }

    #[test]
    fn the_formula_becomes_the_op() {
        let done = on(|b| {
            let x = batched(b, "x", [3, 4]);
            composite::layer_norm(x, positive(b, "w", [4]), Some(param(b, "b", [4])), x.scalar(1e-3))
        });
        assert_eq!(done.fired("layer-norm"), 1);
        assert_eq!(done.ops(), ["layer_normalization"]);
        // Operands of commutative ops in the other order, and gain and bias that are activations.
        let done = on(|b| {
            let x = input(b, "x", [3, 4]);
            input(b, "b", [4]) + input(b, "w", [4]) * over(-1, x, 1e-5)
        });
        assert_eq!((done.fired("layer-norm"), done.ops()), (1, vec!["layer_normalization"]));
    }

    #[test]
    fn another_axis_does_not_match() {
        let stays = |axis| {
            let done = on(|b| over(axis, input(b, "x", [4, 4]), 1e-5) * param(b, "w", [4]) + param(b, "b", [4]));
            assert_eq!(done.ctx.rewrites(), 0, "{}", done.program.graph);
        };
        stays(0);
        // The mean over one axis, the variance over another.
        let done = on(|b| {
            let x = input(b, "x", [4, 4]);
            let c = x - x.mean_keep(&[1]);
            c / ((c * c).mean_keep(&[0]) + 1e-5).sqrt() * param(b, "w", [4]) + param(b, "b", [4])
        });
        assert_eq!(done.ctx.rewrites(), 0);
    }

    #[test]
    fn gain_and_bias_of_other_shapes_are_refused() {
        let with = |w: Vec<i64>, bias: Vec<i64>| {
            let of = |s: Vec<i64>| crate::ir::TensorType::new(crate::ir::DType::F32, s.as_slice());
            on(|b| over(-1, input(b, "x", [3, 4]), 1e-5) * b.input("w", of(w)) + b.input("b", of(bias)))
        };
        with(vec![1], vec![4]).refused("layer-norm", "`w` is f32[1], not a vector along the last axis");
        with(vec![3, 1], vec![4]).refused("layer-norm", "`w` is f32[3, 1]");
        with(vec![2, 3, 4], vec![4]).refused("layer-norm", "`w` is f32[2, 3, 4]");
        with(vec![1], vec![1, 3, 4]).refused("layer-norm-no-bias", "`w` is f32[1], not a vector along the last axis");
        for bias in [vec![1, 3, 4], vec![3, 4], vec![1], vec![]] {
            let done = with(vec![4], bias);
            let fired = ["layer-norm", "layer-norm-no-bias"].map(|rule| done.fired(rule));
            assert_eq!((fired, done.ops()), ([0, 1], vec!["layer_normalization", "add"]));
        }
    }

    #[test]
    fn without_a_bias_the_op_has_none() {
        let done = on(|b| {
            let x = batched(b, "x", [3, 4]);
            composite::layer_norm(x, positive(b, "w", [4]), None, x.scalar(1e-5)).relu()
        });
        let text = done.program.graph.to_string();
        assert!(text.contains("layer_normalization x, @w {epsilon = 1e-5, bias = false}"), "{text}");
        // Read twice, the norm itself stays one op.
        let done = on(|b| {
            let y = over(-1, input(b, "x", [3, 4]), 1e-5) * param(b, "w", [4]);
            b.output("norm", y);
            y + param(b, "b", [4])
        });
        assert_eq!((done.fired("layer-norm-no-bias"), done.ops()), (1, vec!["layer_normalization", "add"]));
    }

    #[test]
    fn an_epsilon_that_is_negative_or_wide_is_refused() {
        let with = |eps: fn(&Builder) -> T<'_>| {
            on(|b| {
                let c = input(b, "x", [4]);
                let c = c - c.mean_keep(&[0]);
                let eps = eps(b);
                c / ((c * c).mean_keep(&[0]) + eps).sqrt() * input(b, "w", [4]) + input(b, "b", [4])
            })
        };
        with(|b| filled(b, &[], -1e-6)).refused("layer-norm", "eps is negative");
        assert_eq!(with(|b| filled(b, &[2, 1], 1e-5)).ctx.rewrites(), 0);
        assert_eq!(with(|b| input(b, "eps", [1])).ctx.rewrites(), 0);
        assert_eq!(with(|b| filled(b, &[1], 1e-5)).fired("layer-norm"), 1);
    }

    #[test]
    fn two_different_values_do_not_match() {
        let done = on(|b| {
            let (x, z) = (input(b, "x", [4]), input(b, "z", [4]));
            let (c, d) = (x - x.mean_keep(&[0]), x - z.mean_keep(&[0]));
            c / ((d * d).mean_keep(&[0]) + 1e-5).sqrt() * param(b, "w", [4]) + param(b, "b", [4])
        });
        assert_eq!(done.ctx.rewrites(), 0);
        let done = on(|b| {
            let (x, z) = (input(b, "x", [4]), input(b, "z", [4]));
            let c = x - z.mean_keep(&[0]);
            c / ((c * c).mean_keep(&[0]) + 1e-5).sqrt() * param(b, "w", [4]) + param(b, "b", [4])
        });
        assert_eq!(done.ctx.rewrites(), 0);
    }

    #[test]
    fn a_mean_that_is_read_outside_stays() {
        let done = on(|b| {
            let x = input(b, "x", [3, 4]);
            let mean = x.mean_keep(&[-1]);
            b.output("mean", mean);
            let c = x - mean;
            c / ((c * c).mean_keep(&[-1]) + 1e-5).sqrt() * param(b, "w", [4]) + param(b, "b", [4])
        });
        done.refused("layer-norm", "the reduce_mean in [] is read outside the pattern too");
    }
}
