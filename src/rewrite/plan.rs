//! Decides what a set of rules will change in a graph, before anything is emitted.

use super::facts::{Estimate, Facts};
use super::pattern::{Match, Miss, Pat, Vars};
use super::rule::{Refuse, Rule};
use crate::build::{BuildErrors, Builder, T};
use crate::ir::{Entity, Init, NodeId, ValueId};
use crate::ops::{Graph, Op};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One application of a rule.
#[derive(Debug)]
pub struct Rewrite<'a> {
    /// The rule.
    pub rule: Rule,
    /// Where it matched.
    pub found: Match<'a>,
    /// The cost of the nodes it replaces.
    pub before: Estimate,
    /// The cost of what it emits.
    pub after: Estimate,
}

/// Rewrites that do not overlap.
#[derive(Debug)]
pub struct Plan<'a> {
    /// By the node in whose place it is emitted: the root, or for a rule of several results the first node of the
    /// match by which all its variables are computed.
    pub at: BTreeMap<NodeId, Rewrite<'a>>,
    /// Nodes that vanish because a match covers them.
    pub covered: BTreeSet<NodeId>,
    /// Matches that were refused, and near misses once they were asked for: rule, node, reason.
    pub refused: Vec<(&'static str, NodeId, String)>,
    /// By rule: nodes of matches that were refused, for which a reason is known already.
    explained: Vec<BTreeSet<NodeId>>,
}

impl<'a> Plan<'a> {
    /// Plans `rules` on a graph, at most `fuel` rewrites. Later nodes come first, so an outer pattern wins over those
    /// that it contains.
    pub fn new(facts: &Facts<'a>, rules: &[Rule], fuel: &mut u64) -> Self {
        let g = facts.graph;
        let mut plan = Self {
            at: BTreeMap::new(),
            covered: BTreeSet::new(),
            refused: Vec::new(),
            explained: vec![BTreeSet::new(); rules.len()],
        };
        let patterns: Vec<Pat> = rules.iter().map(|r| (r.lhs)(Vars)).collect();
        let mut weighed = Vec::new();
        for (id, node) in g.nodes().rev() {
            if !facts.live(node.first) {
                continue;
            }
            for (i, (rule, pat)) in rules.iter().zip(&patterns).enumerate() {
                if plan.covered.contains(&id) {
                    break;
                }
                let Some(found) = pat.find(facts, id) else { continue };
                let taken = found.nodes.iter().any(|n| plan.covered.contains(n));
                match weigh(facts, rule, &found, &mut weighed) {
                    Err(Refuse(reason)) => {
                        plan.refused.push((rule.row.name, id, reason));
                        plan.explained[i].extend(found.nodes.iter().copied());
                    }
                    Ok(_) if taken || *fuel == 0 => {}
                    Ok((place, before, after)) => {
                        *fuel -= 1;
                        plan.covered.extend(found.nodes.iter().copied());
                        plan.at.insert(place, Rewrite { rule: *rule, found, before, after });
                    }
                }
            }
        }
        plan
    }

    /// Adds to the refusals, for every hint of a rule's idea that no match covers and no refusal explains, how the
    /// deepest partial match downstream of it failed. `rules` are those that were planned.
    pub fn near_misses(&mut self, facts: &Facts<'_>, rules: &[Rule]) {
        let g = facts.graph;
        let mut readers = None;
        for (i, rule) in rules.iter().enumerate() {
            let Some(hint) = rule.hint else { continue };
            let pattern = (rule.lhs)(Vars);
            let mut misses: BTreeMap<NodeId, Option<Miss>> = BTreeMap::new();
            for (id, node) in g.nodes() {
                let explained = self.covered.contains(&id) || self.explained[i].contains(&id);
                if !hint(&node.op) || !facts.live(node.first) || explained {
                    continue;
                }
                let readers = readers.get_or_insert_with(|| readers_of(g));
                let after = downstream(readers, id, 10);
                let found =
                    after.into_iter().filter_map(|n| misses.entry(n).or_insert_with(|| pattern.miss(facts, n)).clone());
                let reason = match found.max_by_key(|m| m.depth) {
                    Some(m) => {
                        let scope = g.producer(m.value).map_or("", |n| g.scope_path(g.node(n).origin.scope));
                        format!("{} (in [{scope}])", m.reason)
                    }
                    None => "nothing that follows resembles the pattern".to_owned(),
                };
                self.refused.push((rule.row.name, id, reason));
            }
        }
    }
}

/// A match, and the costs of its rule there, before and after.
type Weighed<'a> = (&'static str, Match<'a>, [Estimate; 2]);

/// Where a match is emitted, and the costs before and after; or why the rule does not apply. `weighed` are the matches
/// for which the costs are known: layers of a model match alike.
fn weigh<'a>(
    facts: &Facts<'a>,
    rule: &Rule,
    m: &Match<'a>,
    weighed: &mut Vec<Weighed<'a>>,
) -> Result<(NodeId, Estimate, Estimate), Refuse> {
    let place = place(facts.graph, rule, m);
    escape(facts, rule, m, place)?;
    (rule.when)(m, facts)?;
    let known = weighed.iter().find(|(name, other, _)| *name == rule.row.name && alike(facts, m, other));
    let [before, after] = match known {
        Some((_, _, costs)) => *costs,
        None => {
            let before: Estimate = m.nodes.iter().map(|&n| facts.cost(n)).sum();
            // An ill-typed fragment is reported when it is emitted.
            let fragment = fragment(facts, rule, m);
            let after = fragment.map_or(before, |fragment| Facts::new(&fragment, facts.setting).total());
            weighed.push((rule.row.name, m.clone(), [before, after]));
            [before, after]
        }
    };
    let machine = &facts.setting.target.machine;
    let (old, new) = (before.seconds(machine), after.seconds(machine));
    if new > old * (1.0 + 1e-9) {
        let (old, new) = (old * 1e6, new * 1e6);
        return Err(Refuse(format!("the result is estimated to take {new:.1} µs instead of {old:.1} µs")));
    }
    Ok((place, before, after))
}

/// Whether the nodes of two matches of one rule are the same ops, on operands of the same types and equally early known.
fn alike(facts: &Facts<'_>, a: &Match<'_>, b: &Match<'_>) -> bool {
    let g = facts.graph;
    let same_value = |(&v, &w): (&ValueId, &ValueId)| g.ty(v) == g.ty(w) && facts.when(v) == facts.when(w);
    let same_node = |(&n, &m): (&NodeId, &NodeId)| {
        let (n, m) = (g.node(n), g.node(m));
        n.op == m.op && n.inputs.len() == m.inputs.len() && n.inputs.iter().zip(&m.inputs).all(same_value)
    };
    let constant = |v: ValueId| g.producer(v).filter(|&n| matches!(g.node(n).op, Op::Const(_)));
    let leaves: Vec<_> = a.leaves().zip(b.leaves()).collect();
    let same_leaf = |&((name, v), (other, w)): &((&str, ValueId), (&str, ValueId))| {
        let same = match (constant(v), constant(w)) {
            (Some(n), Some(m)) => g.node(n).op == g.node(m).op,
            (None, None) => same_value((&v, &w)),
            _ => false,
        };
        // Variables that stand for one value there must do so here.
        same && name == other && leaves.iter().all(|((_, x), (_, y))| (*x == v) == (*y == w))
    };
    a.nodes.len() == b.nodes.len()
        && a.nodes.iter().zip(&b.nodes).all(same_node)
        && a.numbers == b.numbers
        && leaves.len() == a.leaves().count().max(b.leaves().count())
        && leaves.iter().all(same_leaf)
}

/// The right-hand side alone: run values are inputs, values known before the run parameters.
fn fragment(facts: &Facts<'_>, rule: &Rule, m: &Match<'_>) -> Result<Graph, BuildErrors> {
    let g = facts.graph;
    let b = Builder::new("", g.stage);
    let mut leaves: BTreeMap<ValueId, T<'_>> = BTreeMap::new();
    for (_, v) in m.leaves() {
        let constant = g.producer(v).and_then(|n| if let Op::Const(c) = &g.node(n).op { Some(c) } else { None });
        leaves.entry(v).or_insert_with(|| match constant {
            Some(c) => b.constant(c.value.tensor().clone()),
            None if facts.stored(v) => b.param(&v.to_string(), g.ty(v).clone(), Init::Computed, false),
            None => b.input(&v.to_string(), g.ty(v).clone()),
        });
    }
    let var = |name: &str| m.get(name).and_then(|v| leaves.get(&v).copied()).unwrap_or(b.poisoned());
    let results = (rule.rhs)(m, &var);
    results.iter().enumerate().for_each(|(i, t)| b.output(&i.to_string(), *t));
    drop(leaves);
    b.finish()
}

/// The first node of the match by which all its variables are computed; the root when it is the only result.
fn place(g: &Graph, rule: &Rule, m: &Match<'_>) -> NodeId {
    if rule.results.is_empty() {
        return m.root;
    }
    let last = m.leaves().filter_map(|(_, v)| g.producer(v)).max();
    m.nodes.iter().copied().find(|&n| last.is_none_or(|last| n > last)).unwrap_or(m.root)
}

/// Interior values must have no reader outside the match and must not be outputs, unless the rule gives them too and
/// their readers come after it.
fn escape(facts: &Facts<'_>, rule: &Rule, m: &Match<'_>, place: NodeId) -> Result<(), Refuse> {
    let g = facts.graph;
    let given: BTreeSet<ValueId> = rule.results.iter().filter_map(|name| m.get(name)).collect();
    for &n in m.nodes.iter().filter(|&&n| n != m.root) {
        let blame = || (g.node(n).op.mnemonic(), g.scope_path(g.node(n).origin.scope));
        for v in g.node(n).outputs() {
            let inside = m.nodes.iter().flat_map(|&n| &g.node(n).inputs).filter(|&&x| x == v).count() as u32;
            if facts.uses(v) > inside && !given.contains(&v) {
                let (op, scope) = blame();
                return Err(Refuse(format!("the {op} in [{scope}] is read outside the pattern too")));
            }
            let before = |(id, user): (NodeId, &crate::ops::Node)| {
                id < place && !m.nodes.contains(&id) && user.inputs.contains(&v)
            };
            if given.contains(&v) && g.nodes().take(place.index()).any(before) {
                let (op, scope) = blame();
                return Err(Refuse(format!(
                    "the {op} in [{scope}] is read before the pattern's variables are computed"
                )));
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
    use super::super::facts::Setting;
    use super::super::rule::Row;
    use super::*;
    use crate::ir::{DType, Stage, TensorType};
    use crate::ops::{Unary, UnaryKind};

    /// `sqrt(exp(x) + 1)` becomes `x`: not an identity, but plans are not asked for one.
    const RULE: Rule = Rule {
        row: Row { name: "root-of-exp", doc: "" },
        lhs: |x| {
            let inner = x.op(Unary { kind: UnaryKind::Exp }, vec![x.any("x")]) + 1.0;
            x.op(Unary { kind: UnaryKind::Sqrt }, vec![inner])
        },
        when: |m, _| {
            if m.graph.ty(m.value("x")).rank() == 1 { Ok(()) } else { Err(Refuse("x is not a vector".into())) }
        },
        rhs: |_, var| vec![var("x")],
        results: &[],
        hint: Some(|op| matches!(op, Op::Unary(u) if u.kind == UnaryKind::Exp)),
    };

    fn graph(formula: impl for<'g> FnOnce(&'g Builder, T<'g>) -> T<'g>) -> Graph {
        let b = Builder::new("g", Stage::Built);
        let x = b.input("x", TensorType::new(DType::F32, [4]));
        let y = formula(&b, x);
        b.output("y", y);
        b.finish().expect("well typed")
    }

    /// How many rewrites are planned, and the reasons that `--explain` gives for the others.
    fn explain(g: &Graph, fuel: u64) -> (usize, Vec<String>) {
        let mut left = fuel;
        let setting = Setting::default();
        let facts = Facts::new(g, &setting);
        let mut plan = Plan::new(&facts, &[RULE], &mut left);
        assert_eq!(fuel - left, plan.at.len() as u64);
        plan.near_misses(&facts, &[RULE]);
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

    /// Of two partial matches downstream the one that came further is reported.
    #[test]
    fn the_deepest_miss_is_reported() {
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
            row: Row { name: "negated", doc: "" },
            lhs: |x| x.op(Unary { kind: UnaryKind::Neg }, vec![(RULE.lhs)(x)]),
            hint: None,
            ..RULE
        };
        let g = graph(|_, x| -((x.exp() + 1.0).sqrt()));
        let setting = Setting::default();
        let plan = Plan::new(&Facts::new(&g, &setting), &[RULE, OUTER], &mut 9);
        let names: Vec<&str> = plan.at.values().map(|r| r.rule.row.name).collect();
        assert_eq!(names, ["negated"]);
    }

    /// `exp(x)` and `exp(x) + 1` become one formula that gives both.
    const BOTH: Rule = Rule {
        row: Row { name: "both", doc: "" },
        lhs: |x| x.named("e", x.op(Unary { kind: UnaryKind::Exp }, vec![x.any("x")])) + x.any("y"),
        when: |_, _| Ok(()),
        rhs: |_, var| {
            let e = var("x").exp();
            vec![var("y") + e, e]
        },
        results: &["e"],
        hint: None,
    };

    #[test]
    fn a_rule_may_give_interior_values_too() {
        let g = graph(|b, x| {
            let e = x.exp();
            b.output("e", e);
            e.relu() * (e + x)
        });
        let setting = Setting::default();
        let plan = Plan::new(&Facts::new(&g, &setting), &[BOTH], &mut 9);
        assert_eq!((plan.at.len(), plan.covered.len(), plan.refused.len()), (1, 2, 0));
        let new = plan.apply(&g).expect("well typed");
        let ops: Vec<&str> = new.nodes().map(|(_, n)| n.op.mnemonic()).collect();
        assert_eq!(ops, ["exp", "add", "relu", "mul"], "{new}");
        assert_eq!(new.node(new.producer(new.outputs()[0].value).expect("a node")).op.mnemonic(), "exp");
    }

    /// The sum's other operand is made of a reader of `e`: there is no place for a formula that gives both.
    #[test]
    fn an_interior_value_that_is_read_too_early_is_refused() {
        let g = graph(|_, x| {
            let e = x.exp();
            e + e.relu()
        });
        let setting = Setting::default();
        let plan = Plan::new(&Facts::new(&g, &setting), &[BOTH], &mut 9);
        assert_eq!(plan.at.len(), 0);
        assert_eq!(plan.refused[0].2, "the exp in [] is read before the pattern's variables are computed");
    }

    #[test]
    fn what_costs_more_is_refused_with_both_estimates() {
        const SLOW: Rule = Rule {
            row: Row { name: "slow", doc: "" },
            rhs: |_, var| vec![var("x").exp().sqrt().exp().relu()],
            when: |_, _| Ok(()),
            ..RULE
        };
        let g = graph(|_, x| (x.exp() + 1.0).sqrt());
        let setting = Setting::default();
        let plan = Plan::new(&Facts::new(&g, &setting), &[SLOW], &mut 9);
        assert_eq!(plan.at.len(), 0);
        assert_eq!(plan.refused[0].2, "the result is estimated to take 8.0 µs instead of 6.0 µs");
    }

    /// Arithmetic on values that are known before the run is free, however much of it there is.
    #[test]
    fn stored_values_cost_nothing() {
        const MOVE: Rule = Rule {
            row: Row { name: "move", doc: "" },
            lhs: |x| (x.any("x") + x.stored("a")) + x.stored("b"),
            when: |_, _| Ok(()),
            rhs: |_, var| vec![var("x") + (var("a").exp().sqrt() + var("b").exp().log().sqrt())],
            results: &[],
            hint: None,
        };
        let weight = |b: &Builder, name: &str| {
            b.param(name, TensorType::new(DType::F32, [4]), Init::NORMAL, true).id().expect("well typed")
        };
        let g = graph(|b, x| x + b.value(weight(b, "a")) + b.value(weight(b, "b")));
        let setting = Setting::default();
        let plan = Plan::new(&Facts::new(&g, &setting), &[MOVE], &mut 9);
        let rewrite = plan.at.values().next().expect("it is cheaper");
        assert_eq!((rewrite.before.nodes, rewrite.after.nodes), (2.0, 1.0));
    }
}
