//! Patterns: the left-hand sides of rules.
//!
//! A pattern is made by running a formula of [`Vocab`] on `Pat`s, so the fused op and the rule that
//! recognizes it are one function and cannot drift apart. Variables of one name bind one value.
//! Commutative ops match both ways and [`Vars::either`] lists alternatives; the matcher goes back to the next
//! way when a later part does not fit. Associativity is the canonicalizer's business. A constant stands for one
//! number, so one that widens the value it is combined with does not match.

use super::facts::Facts;
use crate::ir::{DType, NodeId, ValueId};
use crate::ops::{Binary, BinaryKind, Graph, MatMul, Op, ReduceKind, Unary, UnaryKind, Vocab};
use std::collections::BTreeSet;
use std::ops::{Add, Div, Mul, Sub};
use std::sync::Arc;

/// A pattern over values.
#[derive(Clone, Debug)]
pub enum Pat {
    /// Any value; one name, one value.
    Var(&'static str),
    /// Any value that is known before the graph runs: a parameter, a constant, or arithmetic of such.
    Stored(&'static str),
    /// A constant all of whose elements are one number, which is bound.
    Scalar(&'static str),
    /// A constant all of whose elements are this number (rounded to the constant's type).
    Number(f64),
    /// A node.
    Node(Arc<NodePat>),
    /// A value under a name, and what computes it.
    Named(&'static str, Arc<Pat>),
    /// The first of these that fits.
    Either(Arc<[Pat]>),
}

/// A node of a pattern.
#[derive(Debug)]
pub struct NodePat {
    wants: Wants,
    args: Vec<Pat>,
}

/// What op a pattern node wants. Axis-dependent ops are said relative to the rank.
#[derive(Clone, Debug)]
enum Wants {
    Op(Op),
    Any(&'static str, fn(&Op) -> bool),
    SwapLastTwo,
    SoftmaxLast,
    MeanLast,
}

impl Wants {
    fn name(&self) -> &'static str {
        match self {
            Self::Op(op) => op.mnemonic(),
            Self::Any(name, _) => name,
            Self::SwapLastTwo => "a transpose of the last two axes",
            Self::SoftmaxLast => "a softmax over the last axis",
            Self::MeanLast => "a mean over the last axis",
        }
    }

    fn accepts(&self, op: &Op, rank: usize) -> bool {
        match (self, op) {
            (Self::Op(want), op) => want == op,
            (Self::Any(_, fits), op) => fits(op),
            (Self::SwapLastTwo, Op::Transpose(t)) => {
                rank >= 2
                    && t.perm[..rank - 2].iter().enumerate().all(|(i, &p)| i == p)
                    && t.perm[rank - 2..] == [rank - 1, rank - 2]
            }
            (Self::SoftmaxLast, Op::Softmax(s)) => s.axis + 1 == rank,
            (Self::MeanLast, Op::Reduce(r)) => {
                r.kind == ReduceKind::Mean && r.keepdims && r.axes == [rank.saturating_sub(1)]
            }
            _ => false,
        }
    }
}

/// Makes the leaves of a pattern.
#[derive(Clone, Copy, Debug)]
pub struct Vars;

impl Vars {
    /// Any value.
    pub fn any(self, name: &'static str) -> Pat {
        Pat::Var(name)
    }
    /// Any value that is known before the graph runs.
    pub fn stored(self, name: &'static str) -> Pat {
        Pat::Stored(name)
    }
    /// A value of the pattern under a name, for [`Match::value`] and [`Rule::results`](super::Rule::results).
    pub fn named(self, name: &'static str, p: Pat) -> Pat {
        Pat::Named(name, Arc::new(p))
    }
    /// Alternatives, tried in order.
    pub fn either(self, alternatives: impl IntoIterator<Item = Pat>) -> Pat {
        Pat::Either(alternatives.into_iter().collect())
    }
    /// A uniform constant, whose number is bound.
    pub fn scalar(self, name: &'static str) -> Pat {
        Pat::Scalar(name)
    }
    /// This op, of these arguments.
    pub fn op(self, op: impl Into<Op>, args: Vec<Pat>) -> Pat {
        node(Wants::Op(op.into()), args)
    }
    /// Any op that `fits`, of these arguments, whatever its attributes; `name` says in words what is wanted.
    pub fn any_op(self, name: &'static str, fits: fn(&Op) -> bool, args: Vec<Pat>) -> Pat {
        node(Wants::Any(name, fits), args)
    }
}

fn node(wants: Wants, args: Vec<Pat>) -> Pat {
    Pat::Node(Arc::new(NodePat { wants, args }))
}
fn unary(kind: UnaryKind, x: Pat) -> Pat {
    node(Wants::Op(Unary { kind }.into()), vec![x])
}
fn binary(kind: BinaryKind, a: Pat, b: Pat) -> Pat {
    node(Wants::Op(Binary { kind }.into()), vec![a, b])
}

macro_rules! operators {
    ($($tr:ident $f:ident $kind:ident;)*) => {$(
        impl $tr for Pat {
            type Output = Self;
            fn $f(self, rhs: Self) -> Self { binary(BinaryKind::$kind, self, rhs) }
        }
        impl $tr<f64> for Pat {
            type Output = Self;
            fn $f(self, rhs: f64) -> Self { binary(BinaryKind::$kind, self, Pat::Number(rhs)) }
        }
    )*};
}
operators! { Add add Add; Sub sub Sub; Mul mul Mul; Div div Div; }

impl Vocab for Pat {
    fn erf(self) -> Self {
        unary(UnaryKind::Erf, self)
    }
    fn sqrt(self) -> Self {
        unary(UnaryKind::Sqrt, self)
    }
    fn matmul(self, rhs: Self) -> Self {
        node(Wants::Op(MatMul {}.into()), vec![self, rhs])
    }
    fn t(self) -> Self {
        node(Wants::SwapLastTwo, vec![self])
    }
    fn softmax_last(self) -> Self {
        node(Wants::SoftmaxLast, vec![self])
    }
    fn mean_last(self) -> Self {
        node(Wants::MeanLast, vec![self])
    }
    fn clamp(self, lo: f64, hi: f64) -> Self {
        binary(BinaryKind::Min, binary(BinaryKind::Max, self, Pat::Number(lo)), Pat::Number(hi))
    }
}

/// Where and why a pattern did not match, after how many nodes that did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss {
    /// Nodes matched before.
    pub depth: usize,
    /// The value that did not fit.
    pub value: ValueId,
    /// In words.
    pub reason: String,
}

/// A match of a pattern.
#[derive(Clone, Debug)]
pub struct Match<'a> {
    /// The graph matched in.
    pub graph: &'a Graph,
    /// The node that computes the matched value.
    pub root: NodeId,
    values: Vec<(&'static str, ValueId)>,
    /// The numbers that scalar variables are bound to.
    pub(super) numbers: Vec<(&'static str, f64)>,
    /// Every node of the pattern, the root included.
    pub nodes: BTreeSet<NodeId>,
    /// The names in `values` that are of interior values.
    named: BTreeSet<&'static str>,
}

impl Match<'_> {
    /// The value that a variable or a name is bound to.
    ///
    /// # Panics
    /// When the pattern has no such name.
    pub fn value(&self, name: &str) -> ValueId {
        self.get(name).unwrap_or_else(|| panic!("the pattern binds `{name}`"))
    }
    /// The value that a variable or a name is bound to, when the alternative that matched has it.
    pub fn get(&self, name: &str) -> Option<ValueId> {
        self.values.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
    }
    /// The number that a scalar variable is bound to.
    ///
    /// # Panics
    /// When the pattern has no such scalar.
    pub fn number(&self, name: &str) -> f64 {
        let found = self.numbers.iter().find(|(n, _)| *n == name);
        found.unwrap_or_else(|| panic!("the pattern binds the number `{name}`")).1
    }
    /// The op of the first node that `read` knows: attributes of a node that the pattern left open.
    pub fn op<R>(&self, read: impl Fn(&Op) -> Option<R>) -> Option<R> {
        self.nodes.iter().find_map(|&n| read(&self.graph.node(n).op))
    }
    /// The variables and their values, without named interior values.
    pub(super) fn leaves(&self) -> impl Iterator<Item = (&'static str, ValueId)> + '_ {
        self.values.iter().copied().filter(|(n, _)| !self.named.contains(n))
    }
}

/// Whether both are one number of a float type.
fn rounds_to(dtype: DType, y: f64, x: f64) -> bool {
    dtype.is_float() && dtype.round(y) == dtype.round(x)
}

/// The number of a uniform constant.
fn number(g: &Graph, v: ValueId) -> Option<f64> {
    if let Op::Const(c) = &g.node(g.producer(v)?).op { c.number() } else { None }
}

struct Matcher<'f, 'a> {
    facts: &'f Facts<'a>,
    values: Vec<(&'static str, ValueId)>,
    numbers: Vec<(&'static str, f64)>,
    /// Nodes of the pattern, in order of visit; one may occur twice where the graph shares it.
    nodes: Vec<NodeId>,
    named: Vec<&'static str>,
    /// Whether the deepest miss is kept.
    explain: bool,
    miss: Option<Miss>,
    /// Steps left: alternatives inside alternatives could otherwise take exponential time.
    steps: u32,
}

/// What remains to be matched.
type Rest<'c, 'f, 'a> = &'c mut dyn FnMut(&mut Matcher<'f, 'a>) -> bool;

impl<'f, 'a> Matcher<'f, 'a> {
    fn new(facts: &'f Facts<'a>, explain: bool) -> Self {
        /// Far more than any match takes.
        const STEPS: u32 = 10_000;
        let (values, numbers, nodes, named, miss) = Default::default();
        Self { facts, values, numbers, nodes, named, explain, miss, steps: STEPS }
    }

    fn miss(&mut self, value: ValueId, reason: impl FnOnce() -> String) -> bool {
        let depth = self.nodes.len();
        if self.explain && self.miss.as_ref().is_none_or(|m| m.depth < depth) {
            self.miss = Some(Miss { depth, value, reason: reason() });
        }
        false
    }

    /// Goes on with `rest`; on failure everything is as it was.
    fn attempt(&mut self, change: impl FnOnce(&mut Self), rest: Rest<'_, 'f, 'a>) -> bool {
        let before = (self.values.len(), self.numbers.len(), self.nodes.len(), self.named.len());
        change(self);
        if rest(self) {
            return true;
        }
        self.values.truncate(before.0);
        self.numbers.truncate(before.1);
        self.nodes.truncate(before.2);
        self.named.truncate(before.3);
        false
    }

    fn bind(&mut self, name: &'static str, v: ValueId, rest: Rest<'_, 'f, 'a>) -> bool {
        match self.values.iter().find(|(n, _)| *n == name) {
            Some((_, old)) if *old != v => self.miss(v, || format!("`{name}` stands for two different values")),
            Some(_) => rest(self),
            None => self.attempt(|m| m.values.push((name, v)), rest),
        }
    }

    fn matches(&mut self, p: &Pat, v: ValueId, rest: Rest<'_, 'f, 'a>) -> bool {
        if self.steps == 0 {
            return false;
        }
        self.steps -= 1;
        let g = self.facts.graph;
        match p {
            Pat::Var(name) => self.bind(name, v, rest),
            Pat::Stored(name) if self.facts.stored(v) => self.bind(name, v, rest),
            Pat::Stored(name) => self.miss(v, || format!("`{name}` is known only when the graph runs")),
            Pat::Named(name, p) => {
                self.matches(p, v, &mut |m| m.attempt(|m| m.named.push(name), &mut |m| m.bind(name, v, rest)))
            }
            Pat::Either(all) => all.iter().any(|p| self.matches(p, v, rest)),
            Pat::Scalar(name) => match number(g, v) {
                Some(x) => match self.numbers.iter().find(|(n, _)| n == name) {
                    Some((_, old)) if *old == x => rest(self),
                    Some(&(_, old)) => self.miss(v, || format!("`{name}` is {old} here and {x} there")),
                    None => self.attempt(|m| m.numbers.push((name, x)), rest),
                },
                None => self.miss(v, || format!("`{name}` is not a constant number")),
            },
            // The number may have been rounded to a float type; nothing else counts as equal.
            Pat::Number(x) => match number(g, v) {
                Some(y) if y == *x || rounds_to(g.ty(v).dtype, y, *x) => rest(self),
                Some(y) => self.miss(v, || format!("wanted the constant {x}, found {y}")),
                None => self.miss(v, || format!("wanted the constant {x}")),
            },
            Pat::Node(n) => {
                let Some(id) = g.producer(v) else {
                    return self.miss(v, || format!("wanted {}, found an input or parameter", n.wants.name()));
                };
                let found = g.node(id);
                let rank = g.ty(v).rank();
                if !n.wants.accepts(&found.op, rank) || found.inputs.len() != n.args.len() {
                    return self.miss(v, || format!("wanted {}, found {}", n.wants.name(), found.op.mnemonic()));
                }
                let mut order =
                    |x: &[ValueId]| self.attempt(|m| m.nodes.push(id), &mut |m| m.arguments(&n.args, x, v, rest));
                let swaps = || n.args.len() == 2 && found.op.def().traits().commutative;
                order(&found.inputs) || swaps() && order(&[found.inputs[1], found.inputs[0]])
            }
        }
    }

    /// Arguments `x` of the node that computes `y`. A constant of several elements may be what gives `y` its
    /// shape; it is then more than a number.
    fn arguments(&mut self, p: &[Pat], x: &[ValueId], y: ValueId, rest: Rest<'_, 'f, 'a>) -> bool {
        let ([p, more @ ..], [first, others @ ..]) = (p, x) else { return rest(self) };
        let (g, first) = (self.facts.graph, *first);
        if matches!(p, Pat::Number(_) | Pat::Scalar(_)) && g.ty(first).rank() > 0 && number(g, first).is_some() {
            let node = g.producer(y).map(|n| g.node(n));
            let keeps = node.is_some_and(|n| n.inputs.iter().any(|&other| other != first && g.ty(other) == g.ty(y)));
            if !keeps {
                return self.miss(first, || format!("the constant {} widens what it is combined with", g.ty(first)));
            }
        }
        self.matches(p, first, &mut |m| m.arguments(more, others, y, rest))
    }
}

impl Pat {
    /// Matches the value computed by `root`.
    pub fn find<'a>(&self, facts: &Facts<'a>, root: NodeId) -> Option<Match<'a>> {
        let mut m = Matcher::new(facts, false);
        if !m.matches(self, facts.graph.node(root).first, &mut |_| true) {
            return None;
        }
        let (nodes, named) = (m.nodes.into_iter().collect(), m.named.into_iter().collect());
        Some(Match { graph: facts.graph, root, values: m.values, numbers: m.numbers, nodes, named })
    }

    /// Where and why the value computed by `root` does not match, when at least its own op does.
    pub fn miss(&self, facts: &Facts<'_>, root: NodeId) -> Option<Miss> {
        let (mut m, value) = (Matcher::new(facts, true), facts.graph.node(root).first);
        if m.matches(self, value, &mut |_| true) {
            return None;
        }
        let too_long = || "the search was given up, it has too many alternatives".to_owned();
        m.miss.or_else(|| Some(Miss { depth: 1, value, reason: too_long() })).filter(|m| m.depth > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::Setting;
    use super::*;
    use crate::text;

    fn found(body: &str, p: &Pat) -> Result<Vec<(&'static str, String)>, String> {
        let g = text::parse(&format!(
            "graph g  stage built\n  input x : f32[4]\n  input z : f32[4]\n[]\n  param w : f32[4] normal(1.0)\n{body}"
        ))
        .unwrap_or_else(|e| panic!("{e}"));
        let setting = Setting::default();
        let root = g.producer(g.outputs()[0].value).expect("a node");
        let facts = Facts::new(&g, &setting);
        let m = p.find(&facts, root).ok_or_else(|| p.miss(&facts, root).map_or(String::new(), |m| m.reason))?;
        let name = |v: ValueId| {
            let input = g.inputs().iter().find(|i| i.value == v).map(|i| i.name.clone());
            input.or_else(|| g.as_param(v).map(|p| p.path.to_string())).unwrap_or_else(|| v.to_string())
        };
        Ok(m.values.iter().map(|&(n, v)| (n, name(v))).collect())
    }

    fn exp(p: Pat) -> Pat {
        unary(UnaryKind::Exp, p)
    }

    /// The first order of the inner sum fits, but not with what follows: the second is tried.
    #[test]
    fn the_matcher_goes_back_to_the_other_order_of_an_inner_op() {
        let p = (Vars.any("a") + Vars.any("b")) * Vars.any("b");
        let body = "  %0 = add x, z : f32[4]\n  %1 = mul %0, x : f32[4]\n  output y = %/1\n";
        let names = found(body, &p).expect("it matches");
        assert_eq!(names, [("a", "z".to_owned()), ("b", "x".to_owned())]);
    }

    #[test]
    fn alternatives_are_tried_in_order_and_again_when_the_rest_does_not_fit() {
        let p = Vars.either([Vars.any("a"), exp(Vars.any("a"))]) - Vars.any("a");
        let body = "  %0 = exp x : f32[4]\n  %1 = sub %0, x : f32[4]\n  output y = %/1\n";
        assert_eq!(found(body, &p).expect("it matches"), [("a", "x".to_owned())]);
        let body = "  %0 = relu x : f32[4]\n  %1 = sub %0, x : f32[4]\n  output y = %/1\n";
        assert_eq!(found(body, &p).expect_err("no way fits"), "`a` stands for two different values");
    }

    #[test]
    fn stored_leaves_are_parameters_and_what_is_made_of_them() {
        let p = Vars.any("x") * Vars.stored("s");
        let body = "  %0 = exp @w : f32[4]\n  %1 = mul %0, x : f32[4]\n  output y = %/1\n";
        assert_eq!(found(body, &p).expect("it matches")[0], ("x", "x".to_owned()));
        let body = "  %0 = exp z : f32[4]\n  %1 = mul %0, x : f32[4]\n  output y = %/1\n";
        assert_eq!(found(body, &p).expect_err("both run"), "`s` is known only when the graph runs");
    }

    #[test]
    fn interior_values_have_names() {
        let p = Vars.named("inner", exp(Vars.any("x"))) + 1.0;
        let body = "  %0 = exp x : f32[4]\n  %1 = const {value = f32[] 1.0} : f32[]\n  %2 = add %0, %1 : f32[4]\n  output y = %/2\n";
        let names = found(body, &p).expect("it matches");
        assert_eq!(names.iter().map(|n| n.0).collect::<Vec<_>>(), ["x", "inner"]);
    }

    /// Sixteen levels of alternatives that all fit until the very end: the search gives up instead of hanging.
    #[test]
    fn a_search_ends() {
        let level = |p: Pat| Vars.either([exp(p.clone()), exp(p)]);
        let p = (0..16).fold(Vars.named("end", Pat::Number(3.0)), |p, _| level(p));
        let chain: Vec<String> = (1..16).map(|i| format!("  %{i} = exp %{} : f32[4]\n", i - 1)).collect();
        let body = format!("  %0 = exp x : f32[4]\n{}  output y = %/15\n", chain.concat());
        assert!(found(&body, &p).is_err());
    }
}
