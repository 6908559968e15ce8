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
    /// Matches that a rule refused, and near misses once they were asked for: rule, node, reason.
    pub refused: Vec<(&'static str, NodeId, String)>,
    /// By rule: how far partial matches came.
    misses: Vec<BTreeMap<NodeId, Miss>>,
    /// By rule: nodes of matches that were refused, for which a reason is known already.
    told: Vec<BTreeSet<NodeId>>,
}

impl<'a> Plan<'a> {
    /// Plans `rules` on `g`, at most `fuel` rewrites. Later nodes come first, so an outer pattern wins over what it contains.
    pub fn new(g: &'a Graph, rules: &[Rule], fuel: &mut u64) -> Self {
        let (uses, live) = (g.uses(), g.live());
        let mut plan = Self {
            at: BTreeMap::new(),
            covered: BTreeSet::new(),
            refused: Vec::new(),
            misses: vec![BTreeMap::new(); rules.len()],
            told: vec![BTreeSet::new(); rules.len()],
        };
        let patterns: Vec<Pat> = rules.iter().map(|r| (r.lhs)(Vars)).collect();
        for (id, node) in g.nodes().rev() {
            if !live[node.first] || plan.covered.contains(&id) {
                continue;
            }
            for (i, (rule, pat)) in rules.iter().zip(&patterns).enumerate() {
                let m = match pat.find(g, id) {
                    Ok(m) => m,
                    Err(miss) => {
                        if miss.depth > 0 {
                            plan.misses[i].insert(id, miss);
                        }
                        continue;
                    }
                };
                let verdict = escape(g, &uses, &m).and_then(|()| (rule.when)(&m));
                let taken = m.nodes.iter().any(|n| plan.covered.contains(n));
                match verdict {
                    Err(Refuse(reason)) => {
                        plan.refused.push((rule.name, id, reason));
                        plan.told[i].extend(m.nodes.iter().copied());
                    }
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
        plan
    }

    /// Adds to the refusals, for every hint of a rule's idea that no match covers and no refusal explains, how the
    /// deepest partial match downstream of it failed. `rules` are those that were planned.
    pub fn near_misses(&mut self, g: &Graph, rules: &[Rule]) {
        let live = g.live();
        let mut readers = None;
        for (i, rule) in rules.iter().enumerate() {
            let Some(hint) = rule.hint else { continue };
            for (id, node) in g.nodes() {
                let explained = self.covered.contains(&id) || self.told[i].contains(&id);
                if !hint(&node.op) || !live[node.first] || explained {
                    continue;
                }
                let readers = readers.get_or_insert_with(|| readers_of(g));
                let found = downstream(readers, id, 10).into_iter().filter_map(|n| self.misses[i].get(&n));
                let reason = match found.max_by_key(|m| m.depth) {
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

/// By node: the nodes that read one of its results.
fn readers_of(g: &Graph) -> Vec<Vec<NodeId>> {
    let mut readers = vec![Vec::new(); g.nodes().len()];
    for (id, node) in g.nodes() {
        for from in node.inputs.iter().filter_map(|&v| g.producer(v)) {
            readers[from.index()].push(id);
        }
    }
    readers
}

/// Nodes that read a result of `from`, directly or through others, nearest first, at most `steps` away.
fn downstream(readers: &[Vec<NodeId>], from: NodeId, steps: usize) -> Vec<NodeId> {
    let mut seen: BTreeSet<NodeId> = BTreeSet::from([from]);
    let mut queue = VecDeque::from([(from, 0)]);
    let mut out = Vec::new();
    while let Some((n, d)) = queue.pop_front() {
        if d == steps {
            continue;
        }
        for &user in &readers[n.index()] {
            if seen.insert(user) {
                out.push(user);
                queue.push_back((user, d + 1));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{Builder, T};
    use crate::ir::{DType, Stage, TensorType};
    use crate::ops::{Op, Unary, UnaryKind};

    /// `sqrt(exp(x) + 1)` becomes `x`: not an identity, but plans are not asked for one.
    const RULE: Rule = Rule {
        name: "root-of-exp",
        doc: "",
        lhs: |x| {
            let inner = x.op(Unary { kind: UnaryKind::Exp }, vec![x.any("x")]) + 1.0;
            x.op(Unary { kind: UnaryKind::Sqrt }, vec![inner])
        },
        when: |m| {
            if m.graph.ty(m.value("x")).rank() == 1 { Ok(()) } else { Err(Refuse("x is not a vector".into())) }
        },
        rhs: |_, var| var("x"),
        hint: Some(|op| matches!(op, Op::Unary(u) if u.kind == UnaryKind::Exp)),
    };

    fn graph(formula: impl for<'g> FnOnce(&'g Builder, T<'g>) -> T<'g>) -> Graph {
        let b = Builder::new("g", Stage::Built);
        let x = b.input("x", TensorType::new(DType::F32, [4]));
        let y = formula(&b, x);
        b.output("y", y);
        b.finish().expect("well typed")
    }

    /// How many rewrites are planned, and what `--explain` says of the others.
    fn explain(g: &Graph, fuel: u64) -> (usize, Vec<String>) {
        let mut left = fuel;
        let mut plan = Plan::new(g, &[RULE], &mut left);
        assert_eq!(fuel - left, plan.at.len() as u64);
        plan.near_misses(g, &[RULE]);
        (plan.at.len(), plan.refused.into_iter().map(|(_, _, reason)| reason).collect())
    }

    fn inside<'g>(b: &'g Builder, scope: &str, f: impl FnOnce() -> T<'g>) -> T<'g> {
        let _in = b.root().at(scope).enter();
        f()
    }

    #[test]
    fn a_match_explains_itself() {
        assert_eq!(explain(&graph(|_, x| (x.exp() + 1.0).sqrt()), 9), (1, vec![]));
        assert_eq!(explain(&graph(|_, x| x.sqrt()), 9), (0, vec![]));
    }

    #[test]
    fn a_near_miss_says_what_was_wanted_found_and_where() {
        let g = graph(|b, x| inside(b, "head", || (x.exp() + 2.0).sqrt()));
        assert_eq!(explain(&g, 9), (0, vec!["wanted the constant 1, found 2 (in [head])".to_owned()]));
        let g = graph(|b, x| inside(b, "a", || x.exp() + 1.0).relu().sqrt());
        assert_eq!(explain(&g, 9), (0, vec!["wanted add, found relu (in [])".to_owned()]));
        let g = graph(|_, x| x.exp() + 1.0);
        assert_eq!(explain(&g, 9), (0, vec!["nothing that follows resembles the pattern".to_owned()]));
    }

    /// Of two partial matches downstream the one that came further is told.
    #[test]
    fn the_deepest_miss_is_told() {
        let g = graph(|_, x| {
            let y = x.exp();
            y.relu().sqrt() + (y + 2.0).sqrt()
        });
        assert_eq!(explain(&g, 9).1, ["wanted the constant 1, found 2 (in [])"]);
    }

    #[test]
    fn a_refusal_is_the_only_reason_given() {
        let g = graph(|_, x| (x.reshape([2, 2]).exp() + 1.0).sqrt());
        assert_eq!(explain(&g, 9), (0, vec!["x is not a vector".to_owned()]));
        let g = graph(|b, x| {
            let e = inside(b, "deep", || x.exp());
            b.output("z", e);
            (e + 1.0).sqrt()
        });
        assert_eq!(explain(&g, 9), (0, vec!["the exp in [deep] is read outside the pattern too".to_owned()]));
    }

    #[test]
    fn dead_hints_and_dead_matches_are_nothing() {
        let g = graph(|_, x| {
            let _unread = ((x.exp() + 1.0).sqrt(), x.exp());
            x
        });
        assert_eq!(explain(&g, 9), (0, vec![]));
    }

    #[test]
    fn fuel_limits_what_is_planned() {
        let g = graph(|_, x| {
            let once = (x.exp() + 1.0).sqrt();
            (once.exp() + 1.0).sqrt()
        });
        for fuel in 0..4 {
            assert_eq!(explain(&g, fuel).0, fuel.min(2) as usize);
        }
    }

    #[test]
    fn an_outer_match_wins_over_what_it_contains() {
        const OUTER: Rule = Rule {
            name: "negated",
            lhs: |x| x.op(Unary { kind: UnaryKind::Neg }, vec![(RULE.lhs)(x)]),
            hint: None,
            ..RULE
        };
        let g = graph(|_, x| -((x.exp() + 1.0).sqrt()));
        let plan = Plan::new(&g, &[RULE, OUTER], &mut 9);
        let names: Vec<&str> = plan.at.values().map(|(r, _)| r.name).collect();
        assert_eq!(names, ["negated"]);
    }
}
