//! The one way a graph becomes another: its live nodes are emitted again, in order, and a hook may
//! emit something else in place of any of them.

use super::plan::{Plan, Rewrite};
use crate::build::{BuildErrors, Builder, T};
use crate::ir::{Entity, NodeId, ScopeId, Side, Stage, ValueId};
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
    let mut scopes: Side<ScopeId, Option<ScopeId>> = Side::new(g.scopes().len(), None);
    for i in g.inputs() {
        r.set(i.value, b.input(&i.name, g.ty(i.value).clone()));
    }
    for (id, n) in g.nodes() {
        if !n.outputs().any(|v| live[v]) {
            continue;
        }
        let scope = &mut scopes[n.origin.scope];
        let scope = *scope.get_or_insert_with(|| b.scope_id(g.scope_path(n.origin.scope)));
        let results = b.in_scope(scope, n.origin.at, n.origin.rule, || match hook(&r, id, n) {
            Some(new) if new.is_empty() => new,
            Some(new) => same_types(&r, n.op.mnemonic(), &n.outputs().collect::<Vec<_>>(), new),
            // Every value keeps its type, so the results of a copy have the types that they had.
            None => b.copy(n.op.clone(), &r.operands(n), n.outputs().map(|v| g.ty(v).clone())),
        });
        let mut results = results.into_iter();
        for v in n.outputs() {
            let new = results.next().unwrap_or(b.poisoned());
            // A rule of several results may have given it already.
            if r.map.borrow()[v.index()].is_none() {
                r.set(v, new);
            }
        }
    }
    for o in g.outputs() {
        b.output(&o.name, r.get(o.value));
    }
}

/// The graph that was built, without what a rewrite left behind: nodes and parameters that nothing reads.
/// They would count as readers of their operands, and keep other rewrites from happening.
pub fn finish(b: Builder) -> Result<Graph, BuildErrors> {
    let g = b.finish()?;
    let live = g.live();
    if g.nodes().all(|(_, n)| n.outputs().any(|v| live[v])) && g.params().all(|p| live[p.value]) {
        return Ok(g);
    }
    let b = Builder::new(&g.name, g.stage);
    replay(&g, &b, &mut |_, _, _| None);
    b.finish()
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
    pub fn apply(&self, g: &Graph, stage: Stage) -> Result<Graph, BuildErrors> {
        let b = Builder::new(&g.name, stage);
        replay(g, &b, &mut |r, id, _| {
            if let Some(Rewrite { rule, found, .. }) = self.at.get(&id) {
                let n = r.old.node(found.root);
                let scope = r.old.scope_path(n.origin.scope);
                let var = |name: &str| r.get(found.value(name));
                let new = r.b.with_origin(scope, n.origin.at, Some(rule.row.name), || (rule.rhs)(found, &var));
                let named = rule.results.iter().map(|name| found.value(name));
                let values: Vec<ValueId> = std::iter::once(n.first).chain(named).collect();
                let new = same_types(r, n.op.mnemonic(), &values, new);
                values.iter().zip(new).for_each(|(&v, t)| r.set(v, t));
            }
            // Covered nodes are not emitted; nothing outside their match reads them.
            self.covered.contains(&id).then(Vec::new)
        });
        finish(b)
    }
}
