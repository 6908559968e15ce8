//! The one way a graph becomes another: its live nodes are emitted again, in order, and a hook may
//! emit something else in place of any of them.

use super::plan::{Plan, Rewrite};
use crate::build::{BuildErrors, Builder, T};
use crate::ir::{Entity, NodeId, Operands, Origin, Stage, ValueId};
use crate::ops::{Graph, Node};
use std::cell::RefCell;

/// The new graph while it is being made.
#[derive(Debug)]
pub struct Replay<'g, 'a> {
    /// The old graph.
    pub old: &'a Graph,
    /// Makes the new one.
    pub b: &'g Builder,
    map: RefCell<Vec<Option<T<'g>>>>,
}

impl<'g> Replay<'g, '_> {
    /// The new handle of an old value, once it was replayed. A parameter is declared when it is first read,
    /// so unread ones vanish and the others stand where they are used.
    pub fn get(&self, v: ValueId) -> T<'g> {
        let known = self.map.borrow()[v.index()];
        known.unwrap_or_else(|| {
            let p = self.old.as_param(v).expect("operands are replayed before their users");
            let t = self.b.copy_param(p, self.old.ty(v));
            self.set(v, t);
            t
        })
    }

    fn set(&self, v: ValueId, t: T<'g>) {
        self.map.borrow_mut()[v.index()] = Some(t);
    }

    /// New handles of a node's operands.
    pub fn operands(&self, n: &Node) -> Vec<T<'g>> {
        n.inputs.iter().map(|&v| self.get(v)).collect()
    }

    /// The new values of a node's operands; nothing after a mistake.
    pub fn inputs(&self, n: &Node) -> Option<Operands> {
        n.inputs.iter().map(|&v| self.get(v).id()).collect()
    }

    /// Copies a node; nothing after a mistake.
    pub fn copy(&self, n: &Node) -> Option<NodeId> {
        // Every value keeps its type, so the results of a copy have the types that they had.
        let copy = self.b.copy(self.old, n, n.origin, self.inputs(n)?);
        let first = self.b.read(|g| g.node(copy).first.index());
        for (i, v) in n.outputs().enumerate() {
            // A rule of several results may have given it already.
            self.map.borrow_mut()[v.index()].get_or_insert(self.b.value(ValueId::new(first + i)));
        }
        Some(copy)
    }
}

/// Replays `g` as a graph at `stage`. For every live node, `hook` returns its new results, or `None` to copy it.
/// Inputs, symbols, scopes and outputs stay as they are.
///
/// # Errors
/// What the hook emitted does not type.
pub fn replay<'a>(
    g: &'a Graph,
    stage: Stage,
    hook: &mut dyn for<'g> FnMut(&Replay<'g, 'a>, NodeId, &Node) -> Option<Vec<T<'g>>>,
) -> Result<Graph, BuildErrors> {
    let b = Builder::resume(g.empty_copy(stage));
    let live = g.live();
    let r = Replay { old: g, b: &b, map: RefCell::new(vec![None; g.value_count()]) };
    for i in g.inputs() {
        r.set(i.value, b.input(&i.name, g.ty(i.value).clone()));
    }
    for (id, n) in g.nodes().filter(|(_, n)| n.outputs().any(|v| live[v])) {
        let values: Operands = n.outputs().collect();
        let new = match b.with_origin(n.origin, || hook(&r, id, n)) {
            Some(new) if new.is_empty() => new,
            Some(new) => same_types(&r, n.op.mnemonic(), &values, new),
            None => {
                r.copy(n);
                Vec::new()
            }
        };
        for (i, v) in values.into_iter().enumerate() {
            r.map.borrow_mut()[v.index()].get_or_insert(new.get(i).copied().unwrap_or(b.poisoned()));
        }
    }
    for o in g.outputs() {
        b.output(&o.name, r.get(o.value));
    }
    drop(r);
    // What a rewrite left behind would count as a reader of its operands, and keep other rewrites from happening.
    Ok(b.finish()?.retain_live())
}

/// The new values, which must have the types of the old ones: a rewrite that changes one is a mistake of its author.
fn same_types<'g>(r: &Replay<'g, '_>, op: &str, values: &[ValueId], new: Vec<T<'g>>) -> Vec<T<'g>> {
    if new.len() != values.len() && !r.b.failed() {
        r.b.error(format!("a rewrite of {op} must give {} values, it gives {}", values.len(), new.len()), &[]);
    }
    for (&v, t) in values.iter().zip(&new) {
        let old = r.old.ty(v);
        if t.id().is_some_and(|id| r.b.read(|g| g.ty(id) != old)) {
            r.b.error(format!("a rewrite of {op} must give {old}, it gives {}", t.ty()), &[*t]);
        }
    }
    new
}

impl Plan<'_> {
    /// Emits the graph with every planned match replaced.
    pub fn apply(&self, g: &Graph) -> Result<Graph, BuildErrors> {
        replay(g, g.stage, &mut |r, id, _| {
            if let Some(Rewrite { rule, found, .. }) = self.at.get(&id) {
                let n = r.old.node(found.root);
                let var = |name: &str| r.get(found.value(name));
                let origin = Origin { rule: Some(rule.row.name), ..n.origin };
                let new = r.b.with_origin(origin, || (rule.rhs)(found, &var));
                let named = rule.results.iter().map(|name| found.value(name));
                let values: Vec<ValueId> = std::iter::once(n.first).chain(named).collect();
                let new = same_types(r, n.op.mnemonic(), &values, new);
                values.iter().zip(new).for_each(|(&v, t)| r.set(v, t));
            }
            // Covered nodes are not emitted; nothing outside their match reads them.
            self.covered.contains(&id).then(Vec::new)
        })
    }
}
