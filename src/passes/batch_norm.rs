//! Folds an affine map along channels into the convolution or linear map before it.
//!
//! `conv(x, W)·s = conv(x, W·s)`, `(x @ W)·s = x @ (W·s)`, `(y + c)·s = y·s + c·s` and
//! `(y + c) + t = y + (c + t)` for parameter values `s`, `c`, `t`: after `specialize` turned batch norm
//! into `·s + t`, its work moves to the weight program. The same rule takes LayerScale.
//! Before fusion, because it removes the nodes between a convolution and its activation.

use super::{Ctx, Pass, fold};
use crate::build::{BuildErrors, Builder, T};
use crate::ir::{Side, ValueId};
use crate::ops::{Binary, BinaryKind, Graph, Node, Op, Program};
use crate::rewrite::{Replay, replay};

/// Folds affine maps into convolutions and linear maps.
pub(super) const PASS: Pass =
    Pass { name: "fold-batch-norm", doc: "affine maps move into the weights before them", run };

fn run(p: &Program, ctx: &mut Ctx) -> Result<Program, BuildErrors> {
    let mut graph = p.graph.clone();
    // (conv + c)·s + t takes two walks: the sum meets `t` only after the product moved.
    for _ in 0..2 {
        let facts = Facts { g: &graph, at_run: fold::at_run(&graph), uses: graph.uses() };
        let b = Builder::new(&graph.name, graph.stage);
        replay(&graph, &b, &mut |r, _, n| facts.affine(r, n, ctx).map(|t| vec![t]));
        graph = b.finish()?;
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
        match self.by_weight(y, BinaryKind::Add) {
            Some((inner, c)) => {
                let scaled = self.scaled(r, inner, s)?;
                ctx.spend("scale-into-weights").then(|| scaled + r.get(c) * r.get(s))
            }
            None => {
                let scaled = self.scaled(r, y, s)?;
                ctx.spend("scale-into-weights").then_some(scaled)
            }
        }
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
