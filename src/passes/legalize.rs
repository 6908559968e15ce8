//! Decides how every op is written for the target: as one op, in the form that the target prefers, or decomposed.
//!
//! Recognizing a composite costs nothing: one that the opset or the target cannot say is its definition again.
//! Fuel does not limit these decisions, without which no file can be written.

use super::{Ctx, Pass, PassError};
use crate::build::{Builder, T};
use crate::ir::{NodeId, Stage, TensorType};
use crate::ops::{Attention, FusedMatMul, Graph, Node, Op, Program, Spell};
use crate::rewrite::{Row, replay};
use crate::target::{AttentionForm, OPSETS, Target};
use hashbrown::HashMap;

const FORM: Row = Row { name: "target-form", doc: "an op becomes the form that the target prefers" };
const DECOMPOSE: Row =
    Row { name: "decompose", doc: "an op that the target or the opset lacks becomes its definition" };

/// Decides how every op is written.
pub(super) const PASS: Pass = Pass {
    name: "legalize",
    doc: "every op gets the form that the target and the opset have for it",
    rules: &[FORM, DECOMPOSE],
    required: true,
    run,
};

fn run(p: &Program, ctx: &mut Ctx) -> Result<Program, PassError> {
    let target = ctx.setting.target;
    let (opset, unspellable) = match ctx.opset {
        Some(n) if !OPSETS.contains(&n) => return Err(PassError::Opset(n)),
        Some(n) => (n, unspellable(&p.graph, target, n)),
        None => least_opset(&p.graph, target),
    };
    ctx.opset = Some(opset);
    let mut failed = None;
    let graph = replay(&p.graph, Stage::Legal, &mut |r, id, n| {
        if let Some(better) = form(target, &n.op, &|| r.operands(n)) {
            ctx.decide(&FORM);
            return Some(better);
        }
        let reason = unspellable.get(&id)?.clone();
        let parts = n.op.def().definition(&r.operands(n));
        if parts.is_none() {
            let scope = r.old.scope_path(n.origin.scope).to_owned();
            failed.get_or_insert(PassError::Unspellable { op: n.op.mnemonic(), scope, reason });
        } else {
            ctx.decide(&DECOMPOSE);
        }
        parts
    });
    match failed {
        Some(e) => Err(e),
        None => Ok(p.with_graph(graph?)),
    }
}

/// The form that a target prefers to the op itself and to its definition.
fn form<'g>(target: &Target, op: &Op, x: &dyn Fn() -> Vec<T<'g>>) -> Option<Vec<T<'g>>> {
    match (op, target.attention) {
        (Op::Attention(a), AttentionForm::FusedProducts) => Some(vec![fused_products(a, &x())]),
        (Op::Attention(_), AttentionForm::Formula) => op.def().definition(&x()),
        _ => None,
    }
}

/// Attention around a matrix product that transposes and scales by itself: no copy of the keys, no pass over the scores.
fn fused_products<'g>(a: &Attention, x: &[T<'g>]) -> T<'g> {
    let product = FusedMatMul { trans_a: false, trans_b: true, alpha: a.scale };
    let scores = x[0].builder().apply(product, &[x[0], x[1]]);
    let scores = if a.bias { scores + x[3] } else { scores };
    scores.softmax(-1).matmul(x[2])
}

/// The nodes that the opset cannot say as they are, with the reasons.
fn unspellable(g: &Graph, target: &Target, opset: i64) -> HashMap<NodeId, String> {
    g.nodes().filter_map(|(id, n)| Some((id, spellable(g, n, target, opset).err()?))).collect()
}

/// The lowest opset from the target's default on in which every op without a definition has a spelling, and what it
/// cannot say. An op that no opset has is reported by the caller.
fn least_opset(g: &Graph, target: &Target) -> (i64, HashMap<NodeId, String>) {
    let default = target.default_opset;
    let first = unspellable(g, target, default);
    let least = |&id: &NodeId| {
        let n = g.node(id);
        let later = (default + 1..=*OPSETS.end()).find(|&opset| spellable(g, n, target, opset).is_ok());
        later.filter(|_| !decomposes(g, n))
    };
    match first.keys().filter_map(least).max() {
        Some(opset) => (opset, unspellable(g, target, opset)),
        None => (default, first),
    }
}

fn decomposes(g: &Graph, n: &Node) -> bool {
    let b = Builder::new("", g.stage);
    let x: Vec<T<'_>> = n.inputs.iter().map(|&v| b.input(&v.to_string(), g.ty(v).clone())).collect();
    n.op.def().definition(&x).is_some()
}

fn spellable(g: &Graph, n: &Node, target: &Target, opset: i64) -> Result<(), String> {
    if matches!(n.op, Op::Const(_)) {
        return Ok(());
    }
    let x: Vec<&TensorType> = n.inputs.iter().map(|&v| g.ty(v)).collect();
    let s = Spell { opset, contrib: target.contrib, x: &x };
    n.op.def().onnx(&s).map(drop).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{batched, graph, input, once, same_meaning};
    use super::*;
    use crate::ops::{Activation, ActivationKind, Resize, composite};

    fn legal(
        g: Graph,
        target: &'static Target,
        opset: Option<i64>,
    ) -> Result<(Vec<&'static str>, Option<i64>), PassError> {
        let mut ctx = Ctx::new(target, opset, &crate::passes::Options::default());
        let before = Program::new(g);
        let after = (PASS.run)(&before, &mut ctx)?;
        same_meaning(&before, &after);
        let ops = after.graph.nodes().map(|(_, n)| n.op.mnemonic()).filter(|m| *m != "const").collect();
        Ok((ops, ctx.opset))
    }

    fn attention() -> Graph {
        graph(Stage::Specialized, |b| {
            let x = batched(b, "x", [2, 3, 4]);
            b.apply(Attention { scale: 0.5.into(), bias: false }, &[x, x, x])
        })
    }

    #[test]
    fn attention_takes_the_form_of_the_target() {
        let ops = |target, opset| legal(attention(), target, opset).expect("it has a form").0;
        assert_eq!(ops(Target::PORTABLE, None), ["transpose", "matmul", "mul", "softmax", "matmul"]);
        assert_eq!(ops(Target::ORT_CPU, None), ["fused_matmul", "softmax", "matmul"]);
        static OP: Target = Target { attention: AttentionForm::Op, ..*Target::PORTABLE };
        assert_eq!(ops(&OP, Some(23)), ["attention"]);
        assert_eq!(ops(&OP, Some(22)), ["transpose", "matmul", "mul", "softmax", "matmul"]);
    }

    /// Gelu has a definition, so it raises no opset; Resize to a
    /// symbolic size has none and exists antialiased from opset 18 on.
    #[test]
    fn the_opset_is_the_least_that_has_every_op() {
        let opset = |g, opset| legal(g, Target::PORTABLE, opset).map(|(_, opset)| opset);
        let gelu =
            || graph(Stage::Specialized, |b| b.apply(Activation { kind: ActivationKind::Gelu }, &[input(b, "x", [4])]));
        assert!(matches!(opset(gelu(), None), Ok(Some(17))));
        let resize = || {
            graph(Stage::Specialized, |b| {
                let to = [b.symbol("batch") * 2, 6.into()].into();
                b.apply(Resize { to }, &[composite::gelu(batched(b, "x", [1, 2, 3]))])
            })
        };
        assert!(matches!(opset(resize(), None), Ok(Some(18))));
        let e = opset(resize(), Some(17)).expect_err("17 has none").to_string();
        assert!(e.starts_with("resize in []: ") && e.contains("--opset 18"), "{e}");
        assert_eq!(
            opset(gelu(), Some(16)).expect_err("too old").to_string(),
            "opset 16 is not supported; 17 to 23 are"
        );
    }

    #[test]
    fn decisions_take_no_fuel() {
        let done = once(&PASS, &Program::new(attention()), 0);
        assert_eq!((done.fired("target-form"), done.ctx.rewrites()), (1, 0));
    }
}
