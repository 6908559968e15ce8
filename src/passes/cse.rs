//! Common subexpressions: equal nodes (same op, same operands) become one.

use super::{Ctx, Pass};
use crate::build::{BuildErrors, Builder};
use crate::ops::Program;
use crate::rewrite::replay;

/// Equal nodes become one.
pub(super) const PASS: Pass = Pass { name: "cse", doc: "equal nodes become one", run };
/// The same after legalisation.
pub(super) const AGAIN: Pass = Pass { name: "cse-legal", doc: "equal nodes become one, after legalisation", run };

fn run(p: &Program, ctx: &mut Ctx) -> Result<Program, BuildErrors> {
    let b = Builder::new(&p.graph.name, p.graph.stage);
    b.share_equal_nodes();
    let live = p.graph.live();
    let before = p.graph.nodes().filter(|(_, n)| live[n.first]).count();
    replay(&p.graph, &b, &mut |_, _, _| None);
    let graph = b.finish()?;
    *ctx.counts.entry("common-subexpression").or_default() += before.saturating_sub(graph.nodes().len()) as u64;
    Ok(Program { graph, weights: p.weights.clone() })
}
