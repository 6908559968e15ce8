//! Merges adjacent transposes.
//!
//! After legalization only: the fusion rules read `kᵀ` as a transpose of its own, which a merge with
//! the head split before it would hide.

use super::canonicalize::definition;
use super::{Ctx, Pass, PassError, rows};
use crate::ops::{Op, Program};
use crate::rewrite::replay;

rows! { MERGE_TRANSPOSES = "merge-transposes": "a transpose of a transpose becomes one"; }

/// Merges adjacent transposes.
pub(super) const PASS: Pass =
    Pass { name: "layout", doc: "adjacent transposes become one", rules: ROWS, required: false, run };

fn run(p: &Program, ctx: &mut Ctx) -> Result<Program, PassError> {
    let graph = replay(&p.graph, p.graph.stage, &mut |r, _, n| {
        let Op::Transpose(outer) = &n.op else { return None };
        let (Op::Transpose(inner), x) = definition(r.get(n.inputs[0]))? else { return None };
        let perm: Vec<usize> = outer.perm.iter().map(|&i| inner.perm[i]).collect();
        ctx.spend(&MERGE_TRANSPOSES).then(|| vec![x[0].transpose(&perm)])
    });
    Ok(p.with_graph(graph?))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{batched, check, graph, input};
    use super::*;
    use crate::ir::Stage;

    #[test]
    fn adjacent_transposes_become_one() {
        let done = check(
            &PASS,
            &graph(Stage::Legal, |b| batched(b, "x", [3, 4, 5]).transpose(&[0, 2, 1, 3]).t().transpose(&[3, 0, 1, 2])),
        );
        assert_eq!(done.fired("merge-transposes"), 2);
        insta::assert_snapshot!(done.program.graph, @r"
        graph g  stage legal
          symbol batch
          input x : f32[batch, 3, 4, 5]

        []
          %0 = transpose x {perm = [1, 0, 2, 3]} : f32[3, batch, 4, 5]

          output y = %/0
        ");
    }

    #[test]
    fn the_inner_one_stays_for_its_other_readers() {
        let done = check(
            &PASS,
            &graph(Stage::Legal, |b| {
                let t = input(b, "x", [2, 3, 4]).transpose(&[1, 2, 0]);
                b.output("z", t);
                t.t()
            }),
        );
        assert_eq!((done.fired("merge-transposes"), done.ops().len()), (1, 2));
    }

    #[test]
    fn what_stands_between_keeps_them_apart() {
        let done = check(
            &PASS,
            &graph(Stage::Legal, |b| input(b, "x", [2, 3]).t().reshape([2, 3]).t().exp().transpose(&[1, 0])),
        );
        assert_eq!(done.ctx.rewrites(), 0);
    }
}
