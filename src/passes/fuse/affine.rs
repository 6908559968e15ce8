//! Folds an affine map along channels into the convolution or linear map before it.
//!
//! After `specialize` turned batch norm into `·s + t` with stored values, its work moves to the weight program. The same
//! rules take `LayerScale` and a position table added to a bias.

use crate::ir::Dim;
use crate::ops::{Conv, MatMul, Op};
use crate::rewrite::{Facts, Match, Pat, Refuse, Row, Rule, Vars};

/// Two additions of stored values are one.
pub(super) const BIASES: Rule = Rule {
    row: Row { name: "merge-biases", doc: "(y + c) + t becomes y + (c + t), for stored c and t" },
    lhs: |x| (x.any("y") + x.stored("c")) + x.stored("t"),
    when: |m, facts| same_shape(m, facts, "y"),
    rhs: |_, var| vec![var("y") + (var("c") + var("t"))],
    results: &[],
    hint: None,
};

/// A factor for each channel moves into the weights and the bias of the map before it.
pub(super) const SCALE: Rule = Rule {
    row: Row {
        name: "scale-into-weights",
        doc: "(x @ w + c)·s becomes x @ (w·s) + c·s, for stored w, c and s; likewise conv",
    },
    lhs: |x| {
        let map = || x.either([product(x), convolution(x, &[]), convolution(x, &["b"])]);
        x.either([x.named("y", x.named("map", map()) + x.stored("c")), x.named("y", map())]) * x.stored("s")
    },
    when: |m, facts| {
        same_shape(m, facts, "y")?;
        if m.get("map").is_some_and(|map| facts.graph.ty(map) != facts.graph.ty(m.value("y"))) {
            return Err(Refuse("the bias widens the map".into()));
        }
        channels(m).map(|_| ())
    },
    rhs: |m, var| {
        let (x, w, s) = (var("x"), var("w"), var("s"));
        let channels = channels(m).unwrap_or(Dim::known(1));
        let map = match m.op(conv) {
            Some(op) => {
                let mut operands = vec![x, w * s.reshape([channels.clone(), 1.into(), 1.into(), 1.into()])];
                operands.extend(m.get("b").map(|_| var("b") * s.reshape([channels])));
                x.builder().apply(op, &operands)
            }
            None => x.matmul(w * s.reshape([channels])),
        };
        vec![if m.get("c").is_some() { map + var("c") * s } else { map }]
    },
    results: &[],
    hint: None,
};

fn product(x: Vars) -> Pat {
    x.op(MatMul {}, vec![x.any("x"), x.stored("w")])
}

fn convolution(x: Vars, bias: &[&'static str]) -> Pat {
    let mut args = vec![x.any("x"), x.stored("w")];
    args.extend(bias.iter().map(|name| x.stored(name)));
    x.any_op("a linear map or a convolution", |op| conv(op).is_some(), args)
}

fn conv(op: &Op) -> Option<Conv> {
    if let Op::Conv(c) = op { Some(c.clone()) } else { None }
}

/// The result is as large as the named value: the stored operand does not widen it. And it is known only in a run:
/// everything else is folded.
fn same_shape(m: &Match<'_>, facts: &Facts<'_>, name: &str) -> Result<(), Refuse> {
    let (g, y) = (facts.graph, m.value(name));
    if facts.stored(y) {
        return Err(Refuse("everything is known before the run".into()));
    }
    let widens = |v| g.ty(v) != g.ty(g.node(m.root).first);
    let inner = m.nodes.iter().filter(|&&n| n != m.root && g.node(n).inputs.contains(&y));
    if widens(y) || inner.map(|&n| g.node(n).first).any(widens) {
        return Err(Refuse("a stored value widens the result".into()));
    }
    Ok(())
}

/// The number of channels that the factor is given for, 1 for one number. Every axis of the factor but that of the
/// channels must have size 1.
fn channels(m: &Match<'_>) -> Result<Dim, Refuse> {
    let (s, w) = (m.graph.ty(m.value("s")), m.graph.ty(m.value("w")));
    let axis = if m.op(conv).is_some() { 2 } else { 0 };
    if axis == 0 && w.rank() != 2 {
        return Err(Refuse(format!("the weight {w} is not a matrix")));
    }
    if s.shape.iter().rev().enumerate().any(|(i, d)| i != axis && !d.is(1)) {
        return Err(Refuse(format!("the factor {s} is not along the channels")));
    }
    Ok(s.shape.elements())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{Builder, T};
    use crate::ir::Stage;
    use crate::passes::testing::{Done, batched, check, filled, graph, input, param};
    use crate::passes::{fold, fuse};

    fn on(formula: impl for<'g> FnOnce(&'g Builder) -> T<'g>) -> Done {
        check(&fuse::AFFINE, &graph(Stage::Specialized, formula))
    }

    /// A formula from which nothing moves.
    fn stays(formula: impl for<'g> FnOnce(&'g Builder) -> T<'g>) {
        let done = on(formula);
        assert!(done.ctx.rules.is_empty(), "{:?}\n{}", done.ctx.rules, done.program.graph);
    }

    /// Four channels in two groups.
    fn conv(b: &Builder) -> T<'_> {
        batched(b, "x", [2, 5, 5]).conv(Conv::new().stride(2).groups(2), param(b, "w", [4, 1, 2, 2]), None)
    }

    fn linear(b: &Builder) -> T<'_> {
        batched(b, "x", [3, 5]).matmul(param(b, "w", [5, 4]))
    }

    /// The last op of the run graph is the map: what followed it is arithmetic on parameters.
    fn ends_in_the_map(done: &Done) {
        let g = &done.program.graph;
        let out = g.node(g.producer(g.outputs()[0].value).expect("a node"));
        assert!(matches!(out.op, Op::Conv(_) | Op::MatMul(_)), "{g}");
    }

    #[test]
    fn a_scale_moves_into_the_weights() {
        for shape in [vec![4, 1, 1], vec![1, 4, 1, 1], vec![1, 1, 1], vec![1], vec![]] {
            let done = on(|b| conv(b) * b.param("s", of(&shape), crate::ir::Init::NORMAL, true));
            assert_eq!(done.fired("scale-into-weights"), 1, "{shape:?}");
            ends_in_the_map(&done);
        }
        for shape in [vec![4], vec![1, 4], vec![1, 1, 4], vec![1], vec![]] {
            let done = on(|b| b.param("s", of(&shape), crate::ir::Init::NORMAL, true) * linear(b));
            assert_eq!(done.fired("scale-into-weights"), 1, "{shape:?}");
            ends_in_the_map(&done);
        }
    }

    fn of(shape: &[i64]) -> crate::ir::TensorType {
        crate::ir::TensorType::new(crate::ir::DType::F32, shape)
    }

    #[test]
    fn a_scale_along_another_axis_stays() {
        stays(|b| conv(b) * param(b, "s", [2]));
        stays(|b| conv(b) * param(b, "s", [2, 1]));
        stays(|b| conv(b) * param(b, "s", [4, 2, 2]));
        stays(|b| linear(b) * param(b, "s", [3, 1]));
        stays(|b| linear(b) * param(b, "s", [3, 4]));
        stays(|b| input(b, "x", [1, 3, 5]).matmul(param(b, "w", [5, 4])) * param(b, "s", [2, 1, 1]));
    }

    #[test]
    fn a_scale_stays_where_the_map_is_not_one_of_weights_for_one_reader() {
        stays(|b| linear(b) * input(b, "s", [4]));
        stays(|b| batched(b, "x", [3, 5]).matmul(input(b, "z", [5, 4])) * param(b, "s", [4]));
        // The weight is on the left: its columns are no channels of the result.
        stays(|b| param(b, "w", [4, 3]).matmul(batched(b, "x", [3, 4])) * param(b, "s", [4]));
        stays(|b| input(b, "x", [2, 3, 5]).matmul(param(b, "w", [2, 5, 4])) * param(b, "s", [4]));
        stays(|b| linear(b).exp() * param(b, "s", [4]));
        stays(|b| linear(b) / param(b, "s", [4]));
        stays(|b| {
            let y = linear(b);
            b.output("z", y);
            y * param(b, "s", [4])
        });
        stays(|b| {
            let y = conv(b) + param(b, "c", [4, 1, 1]);
            y * param(b, "s", [4, 1, 1]) + y
        });
        // The sum has one reader, the product under it two.
        stays(|b| {
            let y = linear(b);
            (y + param(b, "c", [4])) * param(b, "s", [4]) + y
        });
    }

    #[test]
    fn an_affine_map_after_a_biased_one_folds_whole() {
        let done = on(|b| {
            let y = conv(b) + param(b, "c", [4, 1, 1]);
            y * param(b, "s", [4, 1, 1]) + param(b, "t", [4, 1, 1])
        });
        assert_eq!((done.fired("scale-into-weights"), done.fired("merge-biases")), (1, 1));
        let folded = check(&fold::PASS, &done.program.graph);
        assert_eq!(folded.ops(), ["conv", "add"]);
    }

    #[test]
    fn chains_fold_to_the_end() {
        let done = on(|b| (0..6).fold(linear(b), |y, i| y * param(b, &format!("s{i}"), [4])));
        assert_eq!(done.fired("scale-into-weights"), 6);
        ends_in_the_map(&done);
        let done = on(|b| (0..6).fold(linear(b), |y, i| y + param(b, &format!("t{i}"), [4])));
        let folded = check(&fold::PASS, &done.program.graph);
        assert_eq!(folded.ops(), ["matmul", "add"]);
        let done = on(|b| {
            (0..3).fold(linear(b), |y, i| y * param(b, &format!("s{i}"), [4]) + param(b, &format!("t{i}"), [3, 1]))
        });
        let folded = check(&fold::PASS, &done.program.graph);
        assert_eq!(folded.ops(), ["matmul", "add"]);
    }

    #[test]
    fn biases_merge_whatever_their_shapes() {
        let done = on(|b| batched(b, "x", [3, 4]) + param(b, "c", [4]) + param(b, "t", [3, 1]));
        assert_eq!(done.fired("merge-biases"), 1);
        // The second makes the sum wider than what the first was added to.
        stays(|b| input(b, "x", [1, 4]) + param(b, "c", [4]) + param(b, "t", [3, 1]));
        stays(|b| input(b, "x", [1, 4]) + param(b, "t", [3, 1]) + param(b, "c", [4]));
        stays(|b| input(b, "x", [3, 4]) + param(b, "c", [4]) + input(b, "t", [3, 1]));
        stays(|b| {
            let y = input(b, "x", [3, 4]) + filled(b, &[4], 1.0);
            b.output("z", y);
            y + param(b, "t", [3, 1])
        });
        stays(|b| input(b, "x", [3, 4]) + param(b, "c", [4]) - param(b, "t", [4]));
    }
}
