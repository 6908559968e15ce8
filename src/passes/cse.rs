//! Common subexpressions: equal nodes (same op, same operands) become one. Random ops are never equal.

use super::{Ctx, Pass, PassError, rows};
use crate::ir::NodeId;
use crate::ops::{Graph, Program};
use crate::rewrite::replay;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher as _;

rows! { COMMON = "common-subexpression": "a node equal to an earlier one (same op, same operands) becomes that one"; }

/// Equal nodes become one.
pub(super) const PASS: Pass = Pass { name: "cse", doc: "equal nodes become one", rules: ROWS, required: false, run };
/// The same after legalization.
pub(super) const AGAIN: Pass = Pass { name: "cse-legal", doc: "equal nodes become one, after legalization", ..PASS };

fn run(p: &Program, ctx: &mut Ctx) -> Result<Program, PassError> {
    let hasher = DefaultHashBuilder::default();
    // The first nodes of their kind in the new graph, by the hash of op and operands.
    let mut seen: HashTable<(u64, NodeId)> = HashTable::with_capacity(p.graph.nodes().len());
    let graph = replay(&p.graph, p.graph.stage, &mut |r, _, n| {
        if !n.op.def().traits().pure {
            return None;
        }
        let x = r.inputs(n)?;
        let hash = hasher.hash_one((&n.op, &x));
        let same = |g: &Graph, other: NodeId| g.node(other).op == n.op && g.node(other).inputs == x;
        let first = r.b.read(|g| seen.find(hash, |&(h, other)| h == hash && same(g, other)).copied());
        if let Some((_, first)) = first {
            return ctx.spend(&COMMON).then(|| r.b.results(first));
        }
        seen.insert_unique(hash, (hash, r.copy(n)?), |&(h, _)| h);
        Some(Vec::new())
    })?;
    Ok(p.with_graph(graph))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, graph, input, once, param};
    use super::*;
    use crate::build::Builder;
    use crate::ir::Stage;

    #[test]
    fn equal_nodes_become_one() {
        let done = check(
            &PASS,
            &graph(Stage::Specialized, |b| {
                let (x, w) = (input(b, "x", [2, 4]), param(b, "w", [4]));
                let twice = (x * w).exp() + (x * w).exp();
                let top = [x.top_k(2, 1), x.top_k(2, 1)];
                b.output("values", top[1].0 - top[0].0);
                b.output("indices", top[1].1 - top[0].1);
                twice * 2.0 + 2.0
            }),
        );
        // The product, the exponential, top-k and the constant 2.
        assert_eq!(done.fired("common-subexpression"), 4);
        assert_eq!(done.ops(), ["mul", "exp", "add", "top_k", "sub", "sub", "mul", "add"]);
    }

    #[test]
    fn nodes_that_differ_stay() {
        let done = check(
            &PASS,
            &graph(Stage::Specialized, |b| {
                let (x, z) = (input(b, "x", [3, 3]), input(b, "z", [3, 3]));
                let parts = [x - z, z - x, x.softmax(0), x.softmax(1), x.t(), x * 1.0, x * filled(b), x.sum(&[0])];
                parts.into_iter().reduce(|a, b| a + b).expect("not empty")
            }),
        );
        assert_eq!(done.ctx.rewrites(), 0);
    }

    /// The number one of another shape is another constant.
    fn filled(b: &Builder) -> crate::build::T<'_> {
        super::super::testing::filled(b, &[1], 1.0)
    }

    /// Two draws are two values.
    #[test]
    fn random_ops_are_never_shared() {
        let b = Builder::new("g", Stage::Built);
        let (s, x) = (b.root(), input(&b, "x", [4]));
        b.output("y", s.dropout(x, 0.5) + s.dropout(x, 0.5));
        let p = Program::new(b.finish().expect("well typed"));
        assert_eq!(once(&PASS, &p, u64::MAX).ops(), ["dropout", "dropout", "add"]);
    }
}
