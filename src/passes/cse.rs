//! Common subexpressions: equal nodes (same op, same operands) become one. Random ops are never equal.

use super::{Ctx, Pass, PassError, rows};
use crate::build::Builder;
use crate::ir::{Operands, ValueId};
use crate::ops::{Op, Program};
use crate::rewrite::replay;
use std::collections::HashMap;

rows! { COMMON = "common-subexpression": "a node equal to an earlier one (same op, same operands) becomes that one"; }

/// Equal nodes become one.
pub(super) const PASS: Pass = Pass { name: "cse", doc: "equal nodes become one", rules: ROWS, required: false, run };
/// The same after legalization.
pub(super) const AGAIN: Pass = Pass { name: "cse-legal", doc: "equal nodes become one, after legalization", ..PASS };

fn run(p: &Program, ctx: &mut Ctx) -> Result<Program, PassError> {
    let b = Builder::new(&p.graph.name, p.graph.stage);
    #[expect(clippy::mutable_key_type, reason = "what is mutable in a constant is when its digest is computed")]
    let mut seen: HashMap<(Op, Operands), Vec<ValueId>> = HashMap::new();
    replay(&p.graph, &b, &mut |r, _, n| {
        if !n.op.def().traits().pure {
            return None;
        }
        let x = r.operands(n);
        let key = (n.op.clone(), x.iter().map(|t| t.id()).collect::<Option<Operands>>()?);
        if let Some(first) = seen.get(&key) {
            return ctx.spend(&COMMON).then(|| first.iter().map(|&v| r.b.value(v)).collect());
        }
        let y = r.b.copy(n.op.clone(), &x, n.outputs().map(|v| r.old.ty(v).clone()));
        seen.insert(key, y.iter().filter_map(|t| t.id()).collect());
        Some(y)
    });
    Ok(Program { graph: b.finish()?, weights: p.weights.clone() })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, graph, input, once, param};
    use super::*;
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
