//! Merges adjacent transposes.
//!
//! After legalisation only: the fusion rules read `kᵀ` as a transpose of its own, which a merge with
//! the head split before it would hide.

use super::{Ctx, Pass};
use crate::build::{BuildErrors, Builder, T};
use crate::ops::{Op, Program};
use crate::rewrite::replay;

/// Merges adjacent transposes.
pub(super) const PASS: Pass = Pass { name: "layout", doc: "adjacent transposes become one", run };

fn run(p: &Program, ctx: &mut Ctx) -> Result<Program, BuildErrors> {
    let b = Builder::new(&p.graph.name, p.graph.stage);
    replay(&p.graph, &b, &mut |r, _, n| {
        let Op::Transpose(outer) = &n.op else { return None };
        let x = r.get(n.inputs[0]);
        let (inner, y) = transposed(x)?;
        let perm: Vec<usize> = outer.perm.iter().map(|&i| inner[i]).collect();
        ctx.spend("merge-transposes").then(|| vec![y.transpose(&perm)])
    });
    Ok(Program { graph: b.finish()?, weights: p.weights.clone() })
}

/// The permutation and operand behind a handle, when a transpose computes it.
fn transposed(t: T<'_>) -> Option<(Vec<usize>, T<'_>)> {
    let (b, v) = (t.builder(), t.id()?);
    b.read(|g| {
        let n = g.node(g.producer(v)?);
        let Op::Transpose(inner) = &n.op else { return None };
        Some((inner.perm.clone(), b.value(n.inputs[0])))
    })
}
