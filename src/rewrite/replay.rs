//! The one way a graph becomes another: its live nodes are emitted again, in order, and a hook may
//! emit something else in place of any of them.

use super::plan::Plan;
use crate::build::{BuildErrors, Builder, T};
use crate::ir::{Entity, NodeId, Stage, ValueId};
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
        if let Some(p) = self.old.as_param(v).filter(|_| self.map.borrow()[v.index()].is_none()) {
            let t = self.b.param(&p.path, self.old.ty(v).clone(), p.init.clone(), p.trainable);
            self.set(v, t);
        }
        self.map.borrow()[v.index()].expect("operands are replayed before their users")
    }

    fn set(&self, v: ValueId, t: T<'g>) {
        self.map.borrow_mut()[v.index()] = Some(t);
    }

    /// New handles of a node's operands.
    pub fn operands(&self, n: &Node) -> Vec<T<'g>> {
        n.inputs.iter().map(|&v| self.get(v)).collect()
    }
}

/// Replays `g` into the builder's graph. For every live node, `hook` returns its new results,
/// or `None` to copy it. Inputs, symbols and outputs stay as they are.
pub fn replay<'a>(
    g: &'a Graph,
    b: &Builder,
    hook: &mut dyn for<'g> FnMut(&Replay<'g, 'a>, NodeId, &Node) -> Option<Vec<T<'g>>>,
) {
    for s in g.symbols() {
        b.symbol(s.name());
    }
    let live = g.live();
    let r = Replay { old: g, b, map: RefCell::new(vec![None; g.value_count()]) };
    for i in g.inputs() {
        r.set(i.value, b.input(&i.name, g.ty(i.value).clone()));
    }
    for (id, n) in g.nodes() {
        if !n.outputs().any(|v| live[v]) {
            continue;
        }
        let scope = g.scope_path(n.origin.scope);
        let results = b.with_origin(scope, n.origin.at, n.origin.rule, || match hook(&r, id, n) {
            Some(new) => new,
            None => b.apply_all(n.op.clone(), &r.operands(n)),
        });
        let mut results = results.into_iter();
        for v in n.outputs() {
            r.set(v, results.next().unwrap_or(b.poisoned()));
        }
    }
    for o in g.outputs() {
        b.output(&o.name, r.get(o.value));
    }
}

impl Plan<'_> {
    /// Emits the graph with every planned match replaced.
    pub fn apply(&self, g: &Graph, stage: Stage) -> Result<Graph, BuildErrors> {
        let b = Builder::new(&g.name, stage);
        replay(g, &b, &mut |r, id, _| {
            if let Some((rule, m)) = self.at.get(&id) {
                let n = r.old.node(id);
                let scope = r.old.scope_path(n.origin.scope);
                let var = |name: &str| r.get(m.value(name));
                return Some(vec![r.b.with_origin(scope, n.origin.at, Some(rule.name), || (rule.rhs)(m, &var))]);
            }
            // Covered nodes are not emitted; nothing outside their match reads them.
            self.covered.contains(&id).then(Vec::new)
        });
        b.finish()
    }
}
