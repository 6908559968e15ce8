//! Moves work out of the run graph: constants are evaluated now, arithmetic on parameters goes
//! into the weight program.
//!
//! A value may move when its op is deterministic and its shape has no symbol. Those that the run graph reads are judged
//! by size: one is stored when it takes no more than the values it is made of (or [`SMALL`]), so that a broadcast is
//! never written out to a file; else its op stays and reads its operands. Values in between may be larger, up
//! to [`LARGEST`]. A resampled table may be larger too: to resample it in every run would cost more than to store it.
//! Arithmetic in all is bounded by [`Ctx::compile_budget`].
//!
//! Before `y = x @ transpose @w`, after `y = x @ @w.transpose` and `w.transpose = transpose @w`
//! in the weight program. Every analysis is one loop over the nodes: chains may be long and values shared.

use super::{Ctx, Pass, PassError, Refusal, rows};
use crate::build::{BuildErrors, Builder, T};
use crate::eval;
use crate::ir::{Def, Init, NodeId, Operands, Origin, Side, Tensor, TensorType, ValueId};
use crate::ops::{Graph, Node, Op, Program};
use crate::rewrite::{When, replay};
use hashbrown::{HashMap, HashSet};
use std::collections::BTreeMap;
use std::sync::Arc;

rows! {
    FOLD_CONSTANT = "fold-constant": "an op on constants becomes its value";
    MOVE_OUT = "move-to-weight-program": "an op on parameters and constants becomes a parameter that the weight program computes";
}

/// Folds constants and parameter arithmetic.
pub(super) const PASS: Pass = Pass {
    name: "fold",
    doc: "constants are evaluated, parameter arithmetic is moved out",
    rules: ROWS,
    required: false,
    run,
};
/// The same after fusion.
pub(super) const AGAIN: Pass = Pass { name: "fold-fused", doc: "folding once more, after fusion", ..PASS };
/// The same after legalization.
pub(super) const LAST: Pass = Pass { name: "fold-legal", doc: "folding once more, after legalization", ..PASS };

/// Results up to this many elements are stored even when larger than the values they are made of: 1 MiB of f32.
const SMALL: i64 = 1 << 18;
/// Elements of the largest value that is computed before the run, unless its operands have as many: 32 MiB of f64.
const LARGEST: i64 = 1 << 22;

fn size(ty: &TensorType) -> i64 {
    ty.shape.count().unwrap_or(i64::MAX)
}

/// The arithmetic of one evaluation of a node; an element that is only moved counts as one operation.
fn work(g: &Graph, n: &Node) -> f64 {
    let x: Vec<&TensorType> = n.inputs.iter().map(|&v| g.ty(v)).collect();
    let y: Vec<&TensorType> = n.outputs().map(|v| g.ty(v)).collect();
    let flops = n.op.def().cost(&x, &y).flops.value().unwrap_or(i64::MAX);
    y.iter().fold(flops as f64, |most, ty| most.max(size(ty) as f64))
}

/// The earliest time each value can be known, when at most `budget` operations are done before the run; with the
/// nodes for which too little of it was left, and how many they take.
fn classify(g: &Graph, mut budget: f64) -> (Side<ValueId, When>, Vec<(NodeId, f64)>) {
    let mut when = Side::new(g.value_count(), When::AtRun);
    for (v, value) in g.values() {
        if matches!(value.def, Def::Param(_)) {
            when[v] = When::AtWrite;
        }
    }
    let live = g.live();
    let mut refused = Vec::new();
    for (id, n) in g.nodes().filter(|(_, n)| n.outputs().any(|v| live[v])) {
        let operands = n.inputs.iter().map(|&v| size(g.ty(v))).fold(LARGEST, i64::max);
        let fits = n.outputs().all(|v| size(g.ty(v)) <= operands) && n.op.is_settled();
        let at = if matches!(n.op, Op::Const(_)) {
            When::Now
        } else if !fits || n.inputs.iter().any(|&v| when[v] == When::AtRun) {
            When::AtRun
        } else {
            let work = work(g, n);
            if work > budget {
                refused.push((id, work));
                When::AtRun
            } else {
                budget -= work;
                n.inputs.iter().map(|&v| when[v]).max().unwrap_or(When::Now)
            }
        };
        n.outputs().for_each(|v| when[v] = at);
    }
    (when, refused)
}

/// Decides about the values that are known before the run.
struct Plan {
    when: Side<ValueId, When>,
    /// Read by something that runs, and worth storing.
    wanted: Side<ValueId, bool>,
    /// Evaluated now: wanted constants and their operands.
    constants: Side<ValueId, bool>,
    /// Part of the weight program: wanted values and their operands.
    weights: Side<ValueId, bool>,
}

impl Plan {
    fn new(g: &Graph, when: Side<ValueId, When>) -> Self {
        // Elements to store for a value: its own, or those of its operands where it is not worth storing.
        let mut stored = Side::new(g.value_count(), 0i64);
        let mut worth = Side::new(g.value_count(), true);
        for (v, value) in g.values().filter(|(_, value)| !matches!(value.def, Def::Result { .. })) {
            stored[v] = size(&value.ty);
        }
        for (_, n) in g.nodes() {
            let made_of = n.inputs.iter().map(|&v| stored[v]).fold(0i64, i64::saturating_add);
            for v in n.outputs() {
                let size = size(g.ty(v));
                worth[v] =
                    size <= made_of.max(SMALL) || n.op.def().traits().store_grown || matches!(n.op, Op::Const(_));
                stored[v] = if worth[v] { size } else { made_of };
            }
        }
        let [mut wanted, mut constants, mut weights] = [(); 3].map(|()| Side::new(g.value_count(), false));
        let mut read = Side::new(g.value_count(), false);
        g.outputs().iter().for_each(|o| read[o.value] = true);
        let live = g.live();
        for (_, n) in g.nodes().rev().filter(|(_, n)| n.outputs().any(|v| live[v])) {
            // A node runs when it must, or when a running node reads a result that is not worth storing.
            let runs = when[n.first] == When::AtRun || n.outputs().any(|v| read[v] && !worth[v]);
            for v in n.outputs() {
                wanted[v] = read[v] && !runs;
                let into = if when[v] == When::Now { &mut constants } else { &mut weights };
                into[v] |= wanted[v];
            }
            let now = n.outputs().any(|v| constants[v]);
            let later = n.outputs().any(|v| weights[v]);
            for &v in &n.inputs {
                read[v] |= runs;
                constants[v] |= now;
                weights[v] |= later;
            }
        }
        Self { when, wanted, constants, weights }
    }
}

fn run(p: &Program, ctx: &mut Ctx) -> Result<Program, PassError> {
    let g = &p.graph;
    let spent: f64 = p.weights.nodes().map(|(_, n)| work(&p.weights, n)).sum();
    let (when, refused) = classify(g, ctx.compile_budget - spent);
    for (id, work) in refused {
        let n = g.node(id);
        let rule = if n.inputs.iter().all(|&v| when[v] == When::Now) { &FOLD_CONSTANT } else { &MOVE_OUT };
        let reason = format!(
            "{} takes {work:.1e} operations before the run; less than that is left of --compile-budget {:e}",
            n.op.mnemonic(),
            ctx.compile_budget,
        );
        ctx.refusals.push(Refusal { rule: rule.name, scope: g.scope_path(n.origin.scope).to_owned(), reason });
    }
    let plan = Plan::new(g, when);
    let wanted = |n: &Node| n.outputs().any(|v| plan.wanted[v]) && !matches!(n.op, Op::Const(_));
    if !g.nodes().any(|(_, n)| wanted(n)) {
        return Ok(p.clone());
    }
    let mut out = WeightWriter::new(p);
    let mut constants = Constants::new(g, &plan);
    let graph = replay(g, g.stage, &mut |r, _, n| {
        if plan.when[n.first] == When::AtRun {
            return None;
        }
        // A value that is not wanted is copied: dead, unless the fuel runs out before its reader is folded.
        if ctx.fuel > 0 && n.outputs().any(|v| plan.constants[v]) {
            constants.evaluate(n);
        }
        if ctx.fuel > 0 && n.outputs().any(|v| plan.weights[v]) {
            out.import(g, n);
        }
        if !wanted(n) {
            return None;
        }
        if plan.when[n.first] == When::Now {
            // An index out of range stays where it is: the runtime says so when it gets there.
            let y: Vec<Tensor> = n.outputs().map(|v| constants.value(v)).collect::<Option<_>>()?;
            let folded = ctx.spend(&FOLD_CONSTANT);
            ctx.compile_budget -= if folded { work(g, n) } else { 0.0 };
            return folded.then(|| y.into_iter().map(|t| r.b.constant(t)).collect());
        }
        ctx.spend(&MOVE_OUT).then(|| n.outputs().map(|v| out.export(g, v, r.b)).collect())
    })?;
    let weights = out.finish(&graph)?;
    Ok(Program { graph: graph.into(), weights: weights.into() })
}

/// Constant values of a graph, each computed once and dropped after its last reader.
struct Constants<'a> {
    plan: &'a Plan,
    values: BTreeMap<ValueId, Tensor>,
    readers: Side<ValueId, u32>,
}

impl<'a> Constants<'a> {
    fn new(g: &Graph, plan: &'a Plan) -> Self {
        let mut readers = Side::new(g.value_count(), 0);
        for (_, n) in g.nodes().filter(|(_, n)| n.outputs().any(|v| plan.constants[v])) {
            n.inputs.iter().for_each(|&v| readers[v] += 1);
        }
        Self { plan, values: BTreeMap::new(), readers }
    }

    /// Computes a node, unless it or an earlier op refuses its operands.
    fn evaluate(&mut self, n: &Node) {
        let x: Option<Vec<Tensor>> = n.inputs.iter().map(|v| self.values.get(v).cloned()).collect();
        for &v in &n.inputs {
            self.readers[v] -= 1;
            if self.readers[v] == 0 && !self.plan.wanted[v] {
                self.values.remove(&v);
            }
        }
        if let Some(y) = x.and_then(|x| eval::op(&n.op, &x).ok()) {
            self.values.extend(n.outputs().zip(y));
        }
    }

    fn value(&self, v: ValueId) -> Option<Tensor> {
        self.values.get(&v).cloned()
    }
}

/// Appends parameter arithmetic of a run graph to its weight program.
struct WeightWriter {
    b: Builder,
    /// Run parameters that the weight program computes: where, in the old weight graph's ids (kept by `resume`).
    computed: HashMap<Arc<str>, ValueId>,
    /// Values of the weight program, by run value.
    done: Side<ValueId, Option<ValueId>>,
    names: HashSet<Arc<str>>,
    exports: Vec<(String, ValueId)>,
    /// The first parameter each run value depends on.
    first: Side<ValueId, Option<ValueId>>,
}

impl WeightWriter {
    fn new(p: &Program) -> Self {
        let mut weights = Graph::clone(&p.weights);
        let exports: Vec<_> = weights.outputs().iter().map(|o| (o.name.clone(), o.value)).collect();
        let computed: HashMap<Arc<str>, _> = exports.iter().map(|(name, v)| (name.as_str().into(), *v)).collect();
        weights.retain_outputs(|_| false);
        let paths = p.graph.params().chain(weights.params()).map(|q| q.path.clone());
        let names = paths.chain(computed.keys().cloned()).collect();
        let mut first = Side::new(p.graph.value_count(), None);
        p.graph.params().for_each(|q| first[q.value] = Some(q.value));
        for (_, n) in p.graph.nodes() {
            let from = n.inputs.iter().find_map(|&v| first[v]);
            n.outputs().for_each(|v| first[v] = from);
        }
        Self {
            b: Builder::resume(weights),
            computed,
            done: Side::new(p.graph.value_count(), None),
            names,
            exports,
            first,
        }
    }

    /// The weight program's value for an operand, a parameter of the run graph or imported before.
    fn operand(&mut self, g: &Graph, v: ValueId) -> ValueId {
        if let Some(w) = self.done[v] {
            return w;
        }
        let p = g.as_param(v).expect("results are imported before their readers");
        let w = self.computed.get(&p.path).copied().unwrap_or_else(|| id(self.b.copy_param(p, g.ty(v))));
        self.done[v] = Some(w);
        w
    }

    /// Appends a node whose operands were appended.
    fn import(&mut self, g: &Graph, n: &Node) {
        let x: Operands = n.inputs.iter().map(|&v| self.operand(g, v)).collect();
        if let Some(w) = self.reshaped_back(&n.op, &x) {
            self.done[n.first] = Some(w);
            return;
        }
        let origin = Origin { scope: self.b.scope_id(g.scope_path(n.origin.scope)), ..n.origin };
        let y = self.b.results(self.b.copy(g, n, origin, x));
        n.outputs().zip(y).for_each(|(v, w)| self.done[v] = w.id());
    }

    /// The operand of two reshapes that undo each other: a bias lined up with an axis and then
    /// attached to the op before it is the stored parameter again.
    fn reshaped_back(&self, op: &Op, x: &[ValueId]) -> Option<ValueId> {
        let (Op::Reshape(outer), [x]) = (op, x) else { return None };
        self.b.read(|w| {
            let inner = w.node(w.producer(*x)?);
            let source = *inner.inputs.first()?;
            (matches!(inner.op, Op::Reshape(_)) && w.ty(source).shape == outer.to).then_some(source)
        })
    }

    /// A run parameter that stands for the value `v`, which was imported.
    fn export<'g>(&mut self, g: &Graph, v: ValueId, run: &'g Builder) -> T<'g> {
        let w = self.done[v].expect("what is exported was imported");
        if let Some(stored) = self.b.read(|wg| wg.as_param(w).map(|p| run.copy_param(p, g.ty(v)))) {
            return stored;
        }
        let name = self.name(g, v);
        self.exports.push((name.clone(), w));
        run.param(&name, g.ty(v).clone(), Init::Computed, false)
    }

    /// `<the first parameter it depends on>.<op>`, numbered when taken.
    fn name(&mut self, g: &Graph, v: ValueId) -> String {
        let op = g.node(g.producer(v).expect("a node is exported")).op.mnemonic();
        let first = self.first[v].and_then(|p| g.as_param(p)).expect("it depends on a parameter");
        let base = format!("{}.{op}", first.path);
        let name = (1..).map(|i| if i == 1 { base.clone() } else { format!("{base}.{i}") });
        let name = name.into_iter().find(|n| !self.names.contains(n.as_str())).expect("names do not run out");
        self.names.insert(name.as_str().into());
        name
    }

    /// The weight program, giving out exactly the parameters that the new run graph reads.
    fn finish(self, run: &Graph) -> Result<Graph, BuildErrors> {
        let read: HashSet<&str> = run.params().map(|p| &*p.path).collect();
        for (name, v) in &self.exports {
            if read.contains(name.as_str()) {
                self.b.output(name, self.b.value(*v));
            }
        }
        Ok(self.b.finish()?.retain_live())
    }
}

fn id(t: T<'_>) -> ValueId {
    t.id().expect("what typed in the run graph types in the weight program")
}

#[cfg(test)]
mod tests;
