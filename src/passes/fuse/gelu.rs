//! `x·(erf(x/√2) + 1)·½` becomes Gelu.

use crate::ops::{Activation, ActivationKind, Op, UnaryKind, composite};
use crate::rewrite::{Row, Rule};

/// Exact GELU.
pub(super) const RULE: Rule = Rule {
    row: Row { name: "gelu", doc: "x·(erf(x/√2) + 1)·½ becomes Gelu" },
    lhs: |x| composite::gelu(x.any("x")),
    when: |_, _| Ok(()),
    rhs: |_, var| var("x").builder().apply_all(Activation { kind: ActivationKind::Gelu }, &[var("x")]),
    results: &[],
    hint: Some(|op| matches!(op, Op::Unary(u) if u.kind == UnaryKind::Erf)),
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{Builder, T};
    use crate::ir::Stage;
    use crate::passes::fuse;
    use crate::passes::testing::{Done, batched, check, filled, graph, input};
    use std::f64::consts::FRAC_1_SQRT_2;

    fn on(formula: impl for<'g> FnOnce(&'g Builder) -> T<'g>) -> Done {
        check(&fuse::GELU, &graph(Stage::Specialized, formula))
    }

    #[test]
    fn the_formula_becomes_the_op() {
        let done = on(|b| composite::gelu(batched(b, "x", [4])));
        assert_eq!(done.fired("gelu"), 1);
        insta::assert_snapshot!(done.program.graph, @r"
        graph g  stage specialized
          symbol batch
          input x : f32[batch, 4]

        []
          %0 = gelu x : f32[batch, 4]

          output y = %/0
        ");
        let done = on(|b| {
            let x = input(b, "x", [4]);
            0.5 * ((1.0 + (FRAC_1_SQRT_2 * x).erf()) * x)
        });
        assert_eq!((done.fired("gelu"), done.ops()), (1, vec!["gelu"]));
        // Two, one after the other, and one that other ops read too.
        let done = on(|b| {
            let y = composite::gelu(composite::gelu(input(b, "x", [4])));
            y + y.exp()
        });
        assert_eq!((done.fired("gelu"), done.ops()), (2, vec!["gelu", "gelu", "exp", "add"]));
    }

    #[test]
    fn other_numbers_do_not_match() {
        let formula = |half: f64, one: f64, root: f64| {
            on(|b| {
                let x = input(b, "x", [4]);
                x * ((x * root).erf() + one) * half
            })
        };
        formula(0.49, 1.0, FRAC_1_SQRT_2).refused("gelu", "wanted the constant 0.5, found 0.49");
        formula(0.5, 1.5, FRAC_1_SQRT_2).refused("gelu", "wanted the constant 1, found 1.5");
        formula(0.5, 1.0, 0.707).refused("gelu", "wanted the constant 0.707106");
    }

    #[test]
    fn other_formulas_do_not_match() {
        // Two different values.
        on(|b| {
            let (x, z) = (input(b, "x", [4]), input(b, "z", [4]));
            x * ((z * FRAC_1_SQRT_2).erf() + 1.0) * 0.5
        })
        .refused("gelu", "`x` stands for two different values");
        // The approximation by tanh.
        let done = on(|b| {
            let x = input(b, "x", [4]);
            x * (((x + x * x * x * 0.044715) * 0.7978845608).tanh() + 1.0) * 0.5
        });
        assert_eq!(done.fired("gelu"), 0);
        on(|b| input(b, "x", [4]).erf()).refused("gelu", "nothing that follows resembles the pattern");
    }

    /// Each of these constants is the right number and makes the result wider than `x`.
    #[test]
    fn constants_that_widen_are_not_numbers() {
        for place in 0..3 {
            let done = on(|b| {
                let x = input(b, "x", [4]);
                let c = |i: usize, n: f32| filled(b, if i == place { &[2, 1] } else { &[] }, n);
                x * ((x * c(0, FRAC_1_SQRT_2 as f32)).erf() + c(1, 1.0)) * c(2, 0.5)
            });
            done.refused("gelu", "the constant f32[2, 1] widens what it is combined with");
        }
        // One that does not widen is as good as a number.
        let done = on(|b| {
            let x = input(b, "x", [2, 4]);
            x * ((x * FRAC_1_SQRT_2).erf() + filled(b, &[2, 1], 1.0)) * filled(b, &[4], 0.5)
        });
        assert_eq!(done.fired("gelu"), 1);
    }

    #[test]
    fn an_interior_value_that_is_read_outside_stays() {
        for output in [false, true] {
            let done = on(|b| {
                let x = input(b, "x", [4]);
                let inner = (x * FRAC_1_SQRT_2).erf();
                if output {
                    b.output("z", inner);
                } else {
                    b.output("z", inner.exp());
                }
                x * (inner + 1.0) * 0.5
            });
            done.refused("gelu", "the erf in [] is read outside the pattern too");
            // The refusal is the whole explanation: no near miss is told beside it.
            assert_eq!(done.ctx.refusals.len(), 1, "{:?}", done.ctx.refusals);
        }
    }
}
