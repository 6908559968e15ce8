//! Decides, for every op, how a target says it: as it is, in the target's better form, or decomposed.

use super::{LowerError, Target};
use crate::build::Builder;
use crate::ir::{Stage, TensorType};
use crate::ops::{Graph, Node, Op, Program, Spell};
use crate::passes::PassError;
use crate::rewrite::replay;

/// The program with every op spellable by `target` under `opset`.
pub fn legalize(p: &Program, target: Target, opset: i64) -> Result<Program, LowerError> {
    let b = Builder::new(&p.graph.name, Stage::Legal);
    let mut failed = None;
    replay(&p.graph, &b, &mut |r, _, n| {
        let x = r.operands(n);
        if let Some(better) = target.replace(&n.op, &x) {
            return Some(better);
        }
        let reason = spellable(r.old, n, target, opset).err()?;
        let parts = n.op.def().definition(&x);
        if parts.is_none() {
            let scope = r.old.scope_path(n.origin.scope).to_owned();
            failed.get_or_insert(LowerError::Unspellable { op: n.op.mnemonic(), scope, reason });
        }
        parts
    });
    if let Some(e) = failed {
        return Err(e);
    }
    let graph = b.finish().map_err(|source| PassError::Emit { pass: "legalize", source })?;
    Ok(Program { graph, weights: p.weights.clone() })
}

fn spellable(g: &Graph, n: &Node, target: Target, opset: i64) -> Result<(), String> {
    if matches!(n.op, Op::Const(_)) {
        return Ok(());
    }
    let x: Vec<&TensorType> = n.inputs.iter().map(|&v| g.ty(v)).collect();
    let y: Vec<&TensorType> = n.outputs().map(|v| g.ty(v)).collect();
    let mut s = Spell::new(opset, target.contrib(), &x, &y);
    n.op.def().onnx(&mut s).map_err(|e| e.to_string())
}
