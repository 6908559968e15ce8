//! Facts about a graph that rules ask for, each computed once, when it is first asked for.

use crate::ir::{Bindings, Def, NodeId, Side, TensorType, ValueId};
use crate::ops::{Cost, Graph, Node};
use crate::target::{Machine, Target};
use std::cell::OnceCell;
use std::ops::{Add, AddAssign};

/// When a value can be known at the earliest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// Now: it depends on constants only.
    Now,
    /// When a file is written: it depends on parameters and constants only.
    AtWrite,
    /// When the graph runs.
    AtRun,
}

/// What a piece of a graph costs in one run. Values known before the run are free.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes read and written.
    pub bytes: f64,
    /// Nodes dispatched.
    pub nodes: f64,
}

impl Estimate {
    /// Seconds on a machine: for each node arithmetic and memory overlap, so this is a lower bound for their sum.
    pub fn seconds(&self, m: &Machine) -> f64 {
        (self.flops / m.flops).max(self.bytes / m.bytes) + self.nodes * m.dispatch
    }
}

impl Add for Estimate {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Self { flops: self.flops + o.flops, bytes: self.bytes + o.bytes, nodes: self.nodes + o.nodes }
    }
}
impl AddAssign for Estimate {
    fn add_assign(&mut self, o: Self) {
        *self = *self + o;
    }
}
impl std::iter::Sum for Estimate {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), Add::add)
    }
}

/// What costs are compared under: the target's machine, and sizes for symbols.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The target.
    pub target: &'static Target,
    /// Sizes of symbols; a symbol that is not here counts as 1.
    pub assume: Bindings,
}

impl Default for Setting {
    fn default() -> Self {
        Self { target: Target::PORTABLE, assume: Bindings::new() }
    }
}

/// Facts about one graph.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// What costs are compared under.
    pub setting: &'a Setting,
    uses: OnceCell<Side<ValueId, u32>>,
    live: OnceCell<Side<ValueId, bool>>,
    when: OnceCell<Side<ValueId, When>>,
    env: OnceCell<Bindings>,
}

impl<'a> Facts<'a> {
    /// Nothing computed yet.
    pub fn new(graph: &'a Graph, setting: &'a Setting) -> Self {
        let (uses, live, when, env) = Default::default();
        Self { graph, setting, uses, live, when, env }
    }

    /// How often a value is read, by nodes and by outputs.
    pub fn uses(&self, v: ValueId) -> u32 {
        self.uses.get_or_init(|| self.graph.uses())[v]
    }

    /// Whether an output depends on a value.
    pub fn live(&self, v: ValueId) -> bool {
        self.live.get_or_init(|| self.graph.live())[v]
    }

    /// When a value can be known at the earliest.
    pub fn when(&self, v: ValueId) -> When {
        self.when.get_or_init(|| known_when(self.graph))[v]
    }

    /// Whether a value is known before the graph runs: it is a constant, a parameter or made of such.
    pub fn stored(&self, v: ValueId) -> bool {
        self.when(v) < When::AtRun
    }

    /// What one node costs.
    pub fn cost(&self, n: NodeId) -> Estimate {
        let node = self.graph.node(n);
        if self.stored(node.first) { Estimate::default() } else { self.estimate(node) }
    }

    /// What all nodes that an output depends on cost together.
    pub fn total(&self) -> Estimate {
        let live = self.graph.nodes().filter(|(_, n)| n.outputs().any(|v| self.live(v)));
        live.map(|(id, _)| self.cost(id)).sum()
    }

    fn estimate(&self, n: &Node) -> Estimate {
        let env = self.env.get_or_init(|| {
            let mut env: Bindings = self.graph.symbols().iter().map(|s| (s.clone(), 1)).collect();
            env.extend(self.setting.assume.clone());
            env
        });
        let x: Vec<&TensorType> = n.inputs.iter().map(|&v| self.graph.ty(v)).collect();
        let y: Vec<&TensorType> = n.outputs().map(|v| self.graph.ty(v)).collect();
        let cost = n.op.def().cost(&x, &y);
        // Another view of the same bytes is no work at all.
        let nodes = if cost == Cost::FREE { 0.0 } else { 1.0 };
        let [flops, read, written] = cost.eval(env).unwrap_or([u64::MAX; 3]).map(|n| n as f64);
        Estimate { flops, bytes: read + written, nodes }
    }
}

/// When every value of a graph can be known: a value of symbolic size, or drawn at random, only in a run.
fn known_when(g: &Graph) -> Side<ValueId, When> {
    let mut when = Side::new(g.value_count(), When::AtRun);
    for (v, value) in g.values() {
        if matches!(value.def, Def::Param(_)) {
            when[v] = When::AtWrite;
        }
    }
    for (_, n) in g.nodes() {
        let latest = n.inputs.iter().map(|&v| when[v]).max().unwrap_or(When::Now);
        let known = |v: ValueId| g.ty(v).shape.iter().all(|d| d.value().is_some());
        let settled = latest < When::AtRun && n.outputs().all(known) && n.op.is_settled();
        let at = if settled { latest } else { When::AtRun };
        n.outputs().for_each(|v| when[v] = at);
    }
    when
}
