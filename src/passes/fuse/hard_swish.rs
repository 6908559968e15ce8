//! `x·clamp(x + 3, 0, 6)/6` becomes `HardSwish`.

use crate::ops::{Activation, ActivationKind, composite};
use crate::rewrite::{Row, Rule};

/// Hard swish (Howard et al. 2019, arXiv 1905.02244).
pub(super) const RULE: Rule = Rule {
    row: Row { name: "hard-swish", doc: "x·clamp(x + 3, 0, 6)/6 becomes HardSwish" },
    lhs: |x| composite::hard_swish(x.any("x")),
    when: |_, _| Ok(()),
    rhs: |_, var| var("x").builder().apply_all(Activation { kind: ActivationKind::HardSwish }, &[var("x")]),
    results: &[],
    hint: None,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{Builder, T};
    use crate::ir::Stage;
    use crate::passes::fuse;
    use crate::passes::testing::{Done, batched, check, filled, graph, input};

    fn on(formula: impl for<'g> FnOnce(&'g Builder) -> T<'g>) -> Done {
        check(&fuse::HARD_SWISH, &graph(Stage::Specialized, formula))
    }

    #[test]
    fn the_formula_becomes_the_op() {
        let done = on(|b| composite::hard_swish(batched(b, "x", [4])));
        assert_eq!((done.fired("hard-swish"), done.ops()), (1, vec!["hard_swish"]));
    }

    #[test]
    fn other_formulas_do_not_match() {
        let stays = |done: Done| assert_eq!(done.ctx.rewrites(), 0, "{}", done.program.graph);
        // ReLU6, a mean instead of a sixth, a shift of two, and the order of the limits swapped.
        stays(on(|b| input(b, "x", [4]).clamp(0.0, 6.0)));
        stays(on(|b| {
            let x = input(b, "x", [4]);
            x * (x + 3.0).clamp(0.0, 6.0) * 0.5
        }));
        stays(on(|b| {
            let x = input(b, "x", [4]);
            x * (x + 2.0).clamp(0.0, 6.0) * (1.0 / 6.0)
        }));
        stays(on(|b| {
            let x = input(b, "x", [4]);
            x * (x + 3.0).minimum(x.scalar(6.0)).maximum(x.scalar(0.0)) * (1.0 / 6.0)
        }));
    }

    #[test]
    fn limits_that_widen_are_refused() {
        let done = on(|b| {
            let x = input(b, "x", [4]);
            x * (x + 3.0).maximum(filled(b, &[2, 1], 0.0)).minimum(x.scalar(6.0)) * (1.0 / 6.0)
        });
        assert_eq!(done.fired("hard-swish"), 0);
    }

    #[test]
    fn an_interior_value_that_is_read_outside_stays() {
        let done = on(|b| {
            let x = input(b, "x", [4]);
            let gate = (x + 3.0).clamp(0.0, 6.0);
            b.output("gate", gate);
            x * gate * (1.0 / 6.0)
        });
        done.refused("hard-swish", "read outside the pattern too");
    }
}
