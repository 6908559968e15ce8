//! Decides for inference: dropout and stop-gradient vanish, batch norm becomes the affine map that
//! its running statistics say.
//!
//! First, because undecided ops hide the neighbors that later rules look for.
//! Before `y = batch_normalization x …`, after `y = x * (w / sqrt(var + eps)) + (b - mean * …)`,
//! whose factors depend on parameters only and so end in the weight program.

use super::{Ctx, Pass, PassError, rows};
use crate::build::T;
use crate::ir::{Dim, Stage};
use crate::ops::{Op, Program};
use crate::rewrite::replay;

rows! {
    INFERENCE_IDENTITY = "inference-identity": "dropout and stop-gradient become their operand";
    BATCH_NORM_AFFINE = "batch-norm-affine": "batch norm becomes x·s + t, with s and t of its running statistics";
}

/// Decides for inference.
pub(super) const INFERENCE: Pass = Pass {
    name: "specialize",
    doc: "decides for inference: no dropout, batch norm as an affine map",
    rules: ROWS,
    required: true,
    run,
};

fn run(p: &Program, ctx: &mut Ctx) -> Result<Program, PassError> {
    let graph = replay(&p.graph, Stage::Specialized, &mut |r, _, n| match &n.op {
        Op::Dropout(_) | Op::StopGradient(_) => {
            ctx.decide(&INFERENCE_IDENTITY);
            Some(r.operands(n))
        }
        Op::BatchNormalization(bn) if !bn.training => {
            ctx.decide(&BATCH_NORM_AFFINE);
            let [x, w, bias, mean, var] = r.operands(n).try_into().ok()?;
            Some(vec![affine(x, w, bias, mean, var, bn.epsilon.0)])
        }
        _ => None,
    });
    Ok(p.with_graph(graph?))
}

/// `x·s + (b − mean·s)` with `s = w / √(var + ε)` along axis 1.
fn affine<'g>(x: T<'g>, w: T<'g>, bias: T<'g>, mean: T<'g>, var: T<'g>, eps: f64) -> T<'g> {
    let scale = w / (var + eps).sqrt();
    let shift = bias - mean * scale;
    let mut to = vec![Dim::known(1); x.rank() - 1];
    to[0] = w.dim(0);
    x * scale.reshape(to.clone()) + shift.reshape(to)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Done, batched, check, graph, input, param, positive};
    use super::*;
    use crate::build::Builder;
    use crate::ops::BatchNormalization;

    fn on(formula: impl for<'g> FnOnce(&'g Builder) -> T<'g>) -> Done {
        let g = graph(Stage::Built, formula);
        let p = Program::new(g);
        let done = super::super::testing::once(&INFERENCE, &p, 0);
        super::super::testing::same_meaning(&p, &done.program);
        assert_eq!(done.program.graph.stage, Stage::Specialized);
        done
    }

    fn normalized(b: &Builder, training: bool) -> T<'_> {
        let x = batched(b, "x", [3, 4, 4]);
        let op = BatchNormalization { epsilon: 1e-3.into(), momentum: 0.1.into(), training };
        let operands = [x, positive(b, "w", [3]), param(b, "b", [3]), param(b, "mean", [3]), positive(b, "var", [3])];
        b.apply(op, &operands)
    }

    /// Without fuel too: nothing lowers before this is decided.
    #[test]
    fn dropout_and_stop_gradient_vanish() {
        let done = on(|b| b.root().dropout(input(b, "x", [4]), 0.5).stop_gradient().exp());
        assert_eq!((done.fired("inference-identity"), done.ops()), (2, vec!["exp"]));
    }

    #[test]
    fn batch_norm_is_an_affine_map_of_its_running_statistics() {
        let done = on(|b| normalized(b, false));
        assert_eq!(done.fired("batch-norm-affine"), 1);
        assert_eq!(done.ops(), ["add", "sqrt", "div", "mul", "sub", "reshape", "mul", "reshape", "add"]);
        // On what is known before the run, all but one product and one sum.
        let folded = check(&super::super::fold::PASS, &done.program.graph);
        assert_eq!(folded.ops(), ["mul", "add"]);
    }

    #[test]
    fn batch_norm_in_training_stays() {
        let done = on(|b| normalized(b, true));
        assert_eq!((done.ctx.rewrites(), done.ops()), (0, vec!["batch_normalization"]));
    }
}
