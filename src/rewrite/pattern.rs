//! Patterns: the left-hand sides of rules.
//!
//! A pattern is made by running a formula of [`Vocab`] on `Pat`s, so the fused op and the rule that
//! recognises it are one function and cannot drift apart. Variables of one name bind one value.
//! Commutative ops match both ways; associativity is the canonicaliser's business. A constant stands for one
//! number, so one that widens what it is combined with does not match.

use crate::ir::{DType, NodeId, ValueId};
use crate::ops::{Binary, BinaryKind, Graph, MatMul, Op, ReduceKind, Unary, UnaryKind, Vocab};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Add, Div, Mul, Sub};
use std::sync::Arc;

/// A pattern over values.
#[derive(Clone, Debug)]
pub enum Pat {
    /// Any value; one name, one value.
    Var(&'static str),
    /// A constant all of whose elements are one number, which is bound.
    Scalar(&'static str),
    /// A constant all of whose elements are this number (rounded to the constant's type).
    Number(f64),
    /// A node.
    Node(Arc<NodePat>),
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
    /// In words; empty at depth 0.
    pub reason: String,
}

/// A match of a pattern.
#[derive(Clone, Debug)]
pub struct Match<'a> {
    /// The graph matched in.
    pub graph: &'a Graph,
    /// The node that computes the matched value.
    pub root: NodeId,
    values: BTreeMap<&'static str, ValueId>,
    numbers: BTreeMap<&'static str, f64>,
    /// Every node of the pattern, the root included.
    pub nodes: BTreeSet<NodeId>,
}

impl Match<'_> {
    /// The value a variable is bound to.
    pub fn value(&self, name: &str) -> ValueId {
        self.values[name]
    }
    /// The number a scalar variable is bound to.
    pub fn number(&self, name: &str) -> f64 {
        self.numbers[name]
    }
    /// The op of the first node that `read` knows: attributes of a node that the pattern left open.
    pub fn op<R>(&self, read: impl Fn(&Op) -> Option<R>) -> Option<R> {
        self.nodes.iter().find_map(|&n| read(&self.graph.node(n).op))
    }
    /// All bound values.
    pub fn bound(&self) -> impl Iterator<Item = (&'static str, ValueId)> + '_ {
        self.values.iter().map(|(n, v)| (*n, *v))
    }
}

/// Whether both are one number of a float type.
fn rounds_to(dtype: DType, y: f64, x: f64) -> bool {
    dtype.is_float() && dtype.round(y) == dtype.round(x)
}

struct Matcher<'a> {
    found: Match<'a>,
    miss: Option<Miss>,
}

/// The number of a uniform constant: the shortest decimal that rounds to it in its type, so that what an author wrote
/// as `1e-5` is `1e-5` again.
pub(crate) fn number(g: &Graph, v: ValueId) -> Option<f64> {
    let Op::Const(c) = &g.node(g.producer(v)?).op else { return None };
    let t = c.value.tensor();
    Some(t.dtype().decimal(t.uniform()?))
}

impl Matcher<'_> {
    fn miss(&mut self, value: ValueId, reason: impl FnOnce() -> String) -> bool {
        let depth = self.found.nodes.len();
        if self.miss.as_ref().is_none_or(|m| m.depth < depth) {
            // Most misses are of the root, which nobody asks about: they cost no message.
            let reason = if depth == 0 { String::new() } else { reason() };
            self.miss = Some(Miss { depth, value, reason });
        }
        false
    }

    fn matches(&mut self, p: &Pat, v: ValueId) -> bool {
        let g = self.found.graph;
        match p {
            Pat::Var(name) => match self.found.values.get(name) {
                Some(&old) if old != v => self.miss(v, || format!("`{name}` stands for two different values")),
                _ => {
                    self.found.values.insert(name, v);
                    true
                }
            },
            Pat::Scalar(name) => match number(g, v) {
                Some(x) => {
                    let old = *self.found.numbers.entry(name).or_insert(x);
                    old == x || self.miss(v, || format!("`{name}` is {old} here and {x} there"))
                }
                None => self.miss(v, || format!("`{name}` is not a constant number")),
            },
            // The number may have been rounded to a float type; nothing else counts as equal.
            Pat::Number(x) => match number(g, v) {
                Some(y) if y == *x || rounds_to(g.ty(v).dtype, y, *x) => true,
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
                self.found.nodes.insert(id);
                let before = self.found.clone();
                if n.args.iter().zip(&found.inputs).all(|(p, &x)| self.argument(p, x, v)) {
                    return true;
                }
                if n.args.len() == 2 && found.op.def().traits().commutative {
                    self.found = before;
                    return n.args.iter().zip(found.inputs.iter().rev()).all(|(p, &x)| self.argument(p, x, v));
                }
                false
            }
        }
    }

    /// An argument `x` of the node that computes `y`. A constant of several elements may be what gives `y` its
    /// shape; it is then more than a number.
    fn argument(&mut self, p: &Pat, x: ValueId, y: ValueId) -> bool {
        let g = self.found.graph;
        if !self.matches(p, x) {
            return false;
        }
        let number = matches!(p, Pat::Number(_) | Pat::Scalar(_));
        let widens = || {
            let node = g.producer(y).map(|n| g.node(n));
            !node.is_some_and(|n| n.inputs.iter().any(|&other| other != x && g.ty(other) == g.ty(y)))
        };
        if number && g.ty(x).rank() > 0 && widens() {
            return self.miss(x, || format!("the constant {} widens what it is combined with", g.ty(x)));
        }
        true
    }
}

impl Pat {
    /// Matches the value computed by `root`; when it does not fit, where it stopped. The reason is empty when
    /// not even the root fitted.
    pub fn find<'a>(&self, graph: &'a Graph, root: NodeId) -> Result<Match<'a>, Miss> {
        let found = Match { graph, root, values: BTreeMap::new(), numbers: BTreeMap::new(), nodes: BTreeSet::new() };
        let mut m = Matcher { found, miss: None };
        if m.matches(self, graph.node(root).first) {
            Ok(m.found)
        } else {
            Err(m.miss.expect("a failed match noted where it failed"))
        }
    }
}
