//! Folds an affine map along channels into the convolution or linear map before it.
//!
//! `conv(x, W)·s = conv(x, W·s)`, `(x @ W)·s = x @ (W·s)`, `(y + c)·s = y·s + c·s` and
//! `(y + c) + t = y + (c + t)` for parameter values `s`, `c`, `t`: after `specialize` turned batch norm
//! into `·s + t`, its work moves to the weight program. The same rule takes `LayerScale`.
//! Before fusion, because it removes the nodes between a convolution and its activation.

use super::{Ctx, Pass, fold};
use crate::build::{BuildErrors, Builder, T};
use crate::ir::{Side, ValueId};
use crate::ops::{Binary, BinaryKind, Graph, Node, Op, Program};
use crate::rewrite::{Replay, finish, replay};

/// Folds affine maps into convolutions and linear maps.
pub(super) const PASS: Pass =
    Pass { name: "fold-batch-norm", doc: "affine maps move into the weights before them", run };

fn run(p: &Program, ctx: &mut Ctx) -> Result<Program, BuildErrors> {
    let mut graph = p.graph.clone();
    // (conv + c)·s + t takes two walks: the sum meets `t` only after the product moved. Longer chains take more.
    let mut before = None;
    while before != Some(ctx.rewrites()) {
        before = Some(ctx.rewrites());
        let facts = Facts { g: &graph, at_run: fold::at_run(&graph), uses: graph.uses() };
        let b = Builder::new(&graph.name, graph.stage);
        replay(&graph, &b, &mut |r, _, n| facts.affine(r, n, ctx).map(|t| vec![t]));
        graph = finish(b)?;
    }
    Ok(Program { graph, weights: p.weights.clone() })
}

struct Facts<'a> {
    g: &'a Graph,
    at_run: Side<ValueId, bool>,
    uses: Side<ValueId, u32>,
}

impl Facts<'_> {
    /// The operands of `v` when this binary op computes it from a run value and a parameter value, for one reader.
    fn by_weight(&self, v: ValueId, kind: BinaryKind) -> Option<(ValueId, ValueId)> {
        let n = self.g.node(self.g.producer(v)?);
        (self.uses[v] == 1).then(|| self.split(n, kind)).flatten()
    }

    fn split(&self, n: &Node, kind: BinaryKind) -> Option<(ValueId, ValueId)> {
        if n.op != Op::from(Binary { kind }) {
            return None;
        }
        let (a, b) = (n.inputs[0], n.inputs[1]);
        let (run, weight) = match (self.at_run[a], self.at_run[b]) {
            (true, false) => (a, b),
            (false, true) => (b, a),
            _ => return None,
        };
        (self.g.ty(n.first) == self.g.ty(run)).then_some((run, weight))
    }

    fn affine<'g>(&self, r: &Replay<'g, '_>, n: &Node, ctx: &mut Ctx) -> Option<T<'g>> {
        if let Some((y, t)) = self.split(n, BinaryKind::Add) {
            let (inner, c) = self.by_weight(y, BinaryKind::Add)?;
            return ctx.spend("merge-biases").then(|| r.get(inner) + (r.get(c) + r.get(t)));
        }
        let (y, s) = self.split(n, BinaryKind::Mul)?;
        let (map, bias) = self.by_weight(y, BinaryKind::Add).map_or((y, None), |(inner, c)| (inner, Some(c)));
        let scaled = self.scaled(r, map, s)?;
        ctx.spend("scale-into-weights").then(|| match bias {
            Some(c) => scaled + r.get(c) * r.get(s),
            None => scaled,
        })
    }

    /// `v·s` with the factor inside the weights of the map that computes `v`.
    fn scaled<'g>(&self, r: &Replay<'g, '_>, v: ValueId, s: ValueId) -> Option<T<'g>> {
        let n = self.g.node(self.g.producer(v)?);
        let [x, w, ref bias @ ..] = n.inputs[..] else { return None };
        if self.uses[v] != 1 || self.at_run[w] || bias.iter().any(|&c| self.at_run[c]) {
            return None;
        }
        let along = |axis: usize| {
            // Every axis of the factor but this one (counted from the end) has size 1.
            let shape = &self.g.ty(s).shape;
            let flat = shape.iter().rev().enumerate().all(|(i, d)| i == axis || d.is(1));
            flat.then(|| shape.elements())
        };
        match &n.op {
            Op::Conv(conv) => {
                let channels = along(2)?;
                let along_weight = r.get(s).reshape([channels.clone(), 1.into(), 1.into(), 1.into()]);
                let mut operands = vec![r.get(x), r.get(w) * along_weight];
                // A bias is there when fusion ran before: conv(x, W, c)·s = conv(x, W·s, c·s).
                operands.extend(bias.iter().map(|&c| r.get(c) * r.get(s).reshape([channels.clone()])));
                Some(r.b.apply(conv.clone(), &operands))
            }
            Op::MatMul(_) if self.g.ty(w).rank() == 2 => {
                let columns = along(0)?;
                Some(r.get(x).matmul(r.get(w) * r.get(s).reshape([columns])))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Done, batched, check, filled, graph, input, param};
    use super::*;
    use crate::ir::Stage;
    use crate::ops::Conv;

    fn on(formula: impl for<'g> FnOnce(&'g Builder) -> T<'g>) -> Done {
        check(&PASS, &graph(Stage::Specialized, formula))
    }

    /// A formula from which nothing moves.
    fn stays(formula: impl for<'g> FnOnce(&'g Builder) -> T<'g>) {
        let done = on(formula);
        assert!(done.ctx.counts.is_empty(), "{:?}\n{}", done.ctx.counts, done.program.graph);
    }

    /// Four channels in two groups.
    fn conv(b: &Builder) -> T<'_> {
        batched(b, "x", [2, 5, 5]).conv(Conv::new().stride(2).groups(2), param(b, "w", [4, 1, 2, 2]), None)
    }

    fn linear(b: &Builder) -> T<'_> {
        batched(b, "x", [3, 5]).matmul(param(b, "w", [5, 4]))
    }

    /// The last op of the run graph is the map: what followed it is arithmetic of parameters.
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
