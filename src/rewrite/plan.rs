//! What a set of rules will change in a graph, decided before anything is emitted.

use super::pattern::{Match, Miss, Pat, Vars};
use super::rule::{Refuse, Rule};
use crate::ir::{Entity, NodeId, Side, ValueId};
use crate::ops::Graph;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Matches that do not overlap.
#[derive(Debug)]
pub struct Plan<'a> {
    /// What to emit in place of a node.
    pub at: BTreeMap<NodeId, (Rule, Match<'a>)>,
    /// Nodes that vanish because a match covers them.
    pub covered: BTreeSet<NodeId>,
    /// Matches that a rule refused, and near misses: rule, node, reason.
    pub refused: Vec<(&'static str, NodeId, String)>,
}

impl<'a> Plan<'a> {
    /// Plans `rules` on `g`, at most `fuel` rewrites. Later nodes come first, so an outer pattern wins over what it contains.
    pub fn new(g: &'a Graph, rules: &[Rule], fuel: &mut u64) -> Self {
        let (uses, live) = (g.uses(), g.live());
        let mut plan = Self { at: BTreeMap::new(), covered: BTreeSet::new(), refused: Vec::new() };
        let patterns: Vec<Pat> = rules.iter().map(|r| (r.lhs)(Vars)).collect();
        let mut misses: Vec<BTreeMap<NodeId, Miss>> = vec![BTreeMap::new(); rules.len()];
        for (id, node) in g.nodes().rev() {
            if !live[node.first] || plan.covered.contains(&id) {
                continue;
            }
            for (i, (rule, pat)) in rules.iter().zip(&patterns).enumerate() {
                let m = match pat.find(g, id) {
                    Ok(m) => m,
                    Err(miss) => {
                        if miss.depth > 0 {
                            misses[i].insert(id, miss);
                        }
                        continue;
                    }
                };
                let verdict = escape(g, &uses, &m).and_then(|()| (rule.when)(&m));
                let taken = m.nodes.iter().any(|n| plan.covered.contains(n));
                match verdict {
                    Err(Refuse(reason)) => plan.refused.push((rule.name, id, reason)),
                    Ok(()) if taken => {}
                    Ok(()) if *fuel == 0 => {}
                    Ok(()) => {
                        *fuel -= 1;
                        plan.covered.extend(m.nodes.iter().copied());
                        plan.at.insert(id, (*rule, m));
                        break;
                    }
                }
            }
        }
        for (rule, misses) in rules.iter().zip(&misses) {
            plan.near_misses(g, &live, rule, misses);
        }
        plan
    }

    /// For every hint of the rule's idea that no match covers: the deepest partial match downstream of it.
    fn near_misses(&mut self, g: &Graph, live: &Side<ValueId, bool>, rule: &Rule, misses: &BTreeMap<NodeId, Miss>) {
        let Some(hint) = rule.hint else { return };
        for (id, node) in g.nodes() {
            let told = self.refused.iter().any(|(r, _, _)| *r == rule.name) && self.covered.contains(&id);
            if !hint(&node.op) || !live[node.first] || self.covered.contains(&id) || told {
                continue;
            }
            let best = downstream(g, id, 10).into_iter().filter_map(|n| misses.get(&n)).max_by_key(|m| m.depth);
            let reason = match best {
                Some(m) => {
                    let scope = g.producer(m.value).map_or("", |n| g.scope_path(g.node(n).origin.scope));
                    format!("{} (in [{scope}])", m.reason)
                }
                None => "nothing that follows resembles the pattern".to_owned(),
            };
            self.refused.push((rule.name, id, reason));
        }
    }
}

/// Interior values must have no reader outside the match and must not be outputs.
fn escape(g: &Graph, uses: &Side<ValueId, u32>, m: &Match<'_>) -> Result<(), Refuse> {
    for &n in &m.nodes {
        if n == m.root {
            continue;
        }
        for v in g.node(n).outputs() {
            let inside = m.nodes.iter().flat_map(|&n| &g.node(n).inputs).filter(|&&x| x == v).count() as u32;
            if uses[v] > inside {
                let scope = g.scope_path(g.node(n).origin.scope);
                let op = g.node(n).op.mnemonic();
                return Err(Refuse(format!("the {op} in [{scope}] is read outside the pattern too")));
            }
        }
    }
    Ok(())
}

/// Nodes that read a result of `from`, directly or through others, nearest first, at most `steps` away.
fn downstream(g: &Graph, from: NodeId, steps: usize) -> Vec<NodeId> {
    let mut seen: BTreeSet<NodeId> = BTreeSet::from([from]);
    let mut queue = VecDeque::from([(from, 0)]);
    let mut out = Vec::new();
    while let Some((n, d)) = queue.pop_front() {
        if d == steps {
            continue;
        }
        for (user, node) in g.nodes().skip(n.index() + 1) {
            if node.inputs.iter().any(|&v| g.producer(v) == Some(n)) && seen.insert(user) {
                out.push(user);
                queue.push_back((user, d + 1));
            }
        }
    }
    out
}
