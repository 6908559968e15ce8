//! Moves work out of the run graph: constants are evaluated now, what depends on parameters goes
//! into the weight program.
//!
//! A value moves when its op is deterministic, its shape has no symbol and it is no larger than what
//! it is made of (or [`SMALL`]), so that a broadcast is never written out to a file. A resampled table may be larger:
//! to resample it in every run would cost more than to store it.
//! Before `y = x @ transpose @w`, after `y = x @ @w.transpose` and `w.transpose = transpose @w`
//! in the weight program.

use super::{Ctx, Pass, canonicalize::is_static};
use crate::build::{BuildErrors, Builder, T};
use crate::eval;
use crate::ir::{Def, Entity, Init, Side, ValueId};
use crate::ops::{Exactness, Graph, Op, Program};
use crate::rewrite::replay;
use std::collections::{BTreeMap, BTreeSet};

/// Folds constants and parameter arithmetic.
pub(super) const PASS: Pass =
    Pass { name: "fold", doc: "constants are evaluated, parameter arithmetic is moved out", run };
/// The same after fusion.
pub(super) const AGAIN: Pass = Pass { name: "fold-fused", doc: "folding once more, after fusion", run };
/// The same after legalisation.
pub(super) const LAST: Pass = Pass { name: "fold-legal", doc: "folding once more, after legalisation", run };

/// Results up to this many elements are folded even when larger than their operands: 1 MiB of f32.
const SMALL: i64 = 1 << 18;

#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    AtWrite,
    AtRun,
}

fn classify(g: &Graph) -> Side<ValueId, When> {
    let mut when = Side::new(g.value_count(), When::AtRun);
    for (v, value) in g.values() {
        if matches!(value.def, Def::Param(_)) {
            when[v] = When::AtWrite;
        }
    }
    for (_, n) in g.nodes() {
        let size = |v: ValueId| g.ty(v).shape.elements().value().unwrap_or(i64::MAX);
        let budget = n.inputs.iter().map(|&v| size(v)).fold(0i64, i64::saturating_add).max(SMALL);
        let grows = matches!(n.op, Op::Resize(_));
        let fits = n.outputs().all(|v| is_static(&g.ty(v).shape) && (grows || size(v) <= budget));
        let pure = n.op.def().traits().exactness != Exactness::Random;
        let at = if matches!(n.op, Op::Const(_)) {
            When::Now
        } else if !fits || !pure || n.inputs.iter().any(|&v| when[v] == When::AtRun) {
            When::AtRun
        } else if n.inputs.iter().all(|&v| when[v] == When::Now) {
            When::Now
        } else {
            When::AtWrite
        };
        n.outputs().for_each(|v| when[v] = at);
    }
    when
}

/// Values that something at run time reads.
fn wanted(g: &Graph, when: &Side<ValueId, When>) -> BTreeSet<ValueId> {
    let reads = g.nodes().filter(|(_, n)| when[n.first] == When::AtRun).flat_map(|(_, n)| n.inputs.iter().copied());
    reads.chain(g.outputs().iter().map(|o| o.value)).collect()
}

fn run(p: &Program, ctx: &mut Ctx) -> Result<Program, BuildErrors> {
    let g = &p.graph;
    let when = classify(g);
    let wanted = wanted(g, &when);
    let mut out = WeightWriter::new(p);
    let b = Builder::new(&g.name, g.stage);
    replay(g, &b, &mut |r, _, n| {
        if when[n.first] == When::AtRun || matches!(n.op, Op::Const(_)) {
            return None;
        }
        if !n.outputs().any(|v| wanted.contains(&v)) {
            // Stays only if the fuel runs out before its reader is folded; dead otherwise.
            return None;
        }
        match when[n.first] {
            When::Now => {
                let rule = "fold-constant";
                if !ctx.spend(rule) {
                    return None;
                }
                let x: Vec<_> = n.inputs.iter().map(|&v| evaluate(g, v)).collect::<Option<_>>()?;
                let y = eval::op(&n.op, &x).ok()?;
                Some(y.into_iter().map(|t| r.b.constant(t)).collect())
            }
            _ => {
                if !ctx.spend("move-to-weight-program") {
                    return None;
                }
                Some(n.outputs().map(|v| out.export(g, v, r.b)).collect())
            }
        }
    });
    let graph = b.finish()?;
    let weights = out.finish(&graph)?;
    // What was folded is dead in the new graph; a replay drops it.
    let b = Builder::new(&graph.name, graph.stage);
    replay(&graph, &b, &mut |_, _, _| None);
    Ok(Program { graph: b.finish()?, weights })
}

fn evaluate(g: &Graph, v: ValueId) -> Option<crate::ir::Tensor> {
    let n = g.node(g.producer(v)?);
    let x: Vec<_> = n.inputs.iter().map(|&v| evaluate(g, v)).collect::<Option<_>>()?;
    let index = v.index() - n.first.index();
    eval::op(&n.op, &x).ok()?.into_iter().nth(index)
}

/// Appends parameter arithmetic of a run graph to its weight program.
struct WeightWriter {
    b: Builder,
    /// Run parameters that the weight program computes: where, in the old weight graph's ids (kept by `resume`).
    computed: BTreeMap<String, ValueId>,
    /// What was appended, by run value.
    done: BTreeMap<ValueId, ValueId>,
    names: BTreeSet<String>,
    exports: Vec<(String, ValueId)>,
}

impl WeightWriter {
    fn new(p: &Program) -> Self {
        let mut weights = p.weights.clone();
        let computed: BTreeMap<_, _> = weights.outputs().iter().map(|o| (o.name.clone(), o.value)).collect();
        weights.clear_outputs();
        let names = p.graph.params().map(|q| q.path.clone()).chain(computed.keys().cloned()).collect();
        let exports = computed.iter().map(|(n, v)| (n.clone(), *v)).collect();
        Self { b: Builder::resume(weights), computed, done: BTreeMap::new(), names, exports }
    }

    fn import(&mut self, g: &Graph, v: ValueId) -> ValueId {
        if let Some(&w) = self.done.get(&v) {
            return w;
        }
        let w = if let Some(p) = g.as_param(v) {
            match self.computed.get(&p.path) {
                Some(&w) => w,
                None => id(self.b.param(&p.path, g.ty(v).clone(), p.init.clone(), p.trainable)),
            }
        } else {
            let n = g.node(g.producer(v).expect("inputs are never folded")).clone();
            let x: Vec<ValueId> = n.inputs.iter().map(|&v| self.import(g, v)).collect();
            if let Some(w) = self.reshaped_back(&n.op, &x) {
                self.done.insert(v, w);
                return w;
            }
            let scope = g.scope_path(n.origin.scope);
            let b = &self.b;
            let y = b.with_origin(scope, n.origin.at, n.origin.rule, || {
                b.apply_all(n.op.clone(), &x.iter().map(|&v| b.value(v)).collect::<Vec<_>>())
            });
            for (old, new) in n.outputs().zip(&y) {
                self.done.insert(old, id(*new));
            }
            return self.done[&v];
        };
        self.done.insert(v, w);
        w
    }

    /// What a reshape of a reshape gives back, when that is what went in: a bias lined up with an axis and then
    /// attached to the op before it is the stored parameter again.
    fn reshaped_back(&self, op: &Op, x: &[ValueId]) -> Option<ValueId> {
        let (Op::Reshape(outer), [x]) = (op, x) else { return None };
        self.b.read(|w| {
            let inner = w.node(w.producer(*x)?);
            let source = *inner.inputs.first()?;
            (matches!(inner.op, Op::Reshape(_)) && w.ty(source).shape.0 == outer.to).then_some(source)
        })
    }

    /// A run parameter that stands for the value `v`.
    fn export<'g>(&mut self, g: &Graph, v: ValueId, run: &'g Builder) -> T<'g> {
        let w = self.import(g, v);
        let stored = self.b.read(|wg| wg.as_param(w).map(|p| (p.path.clone(), p.init.clone(), p.trainable)));
        if let Some((path, init, trainable)) = stored {
            return run.param(&path, g.ty(v).clone(), init, trainable);
        }
        let name = self.name(g, v);
        self.exports.push((name.clone(), w));
        run.param(&name, g.ty(v).clone(), Init::ZEROS, false)
    }

    /// `<the first parameter it depends on>.<op>`, numbered when taken.
    fn name(&mut self, g: &Graph, v: ValueId) -> String {
        fn first_param(g: &Graph, v: ValueId) -> Option<&str> {
            match g.producer(v) {
                None => g.as_param(v).map(|p| p.path.as_str()),
                Some(n) => g.node(n).inputs.iter().find_map(|&v| first_param(g, v)),
            }
        }
        let op = g.node(g.producer(v).expect("a node is exported")).op.mnemonic();
        let base = format!("{}.{op}", first_param(g, v).expect("it depends on a parameter"));
        let name = (1..).map(|i| if i == 1 { base.clone() } else { format!("{base}.{i}") });
        let name = name.into_iter().find(|n| !self.names.contains(n)).expect("names do not run out");
        self.names.insert(name.clone());
        name
    }

    /// The weight program, giving out exactly the parameters that the new run graph reads.
    fn finish(self, run: &Graph) -> Result<Graph, BuildErrors> {
        let live = run.live();
        let read: BTreeSet<&str> = run.params().filter(|p| live[p.value]).map(|p| p.path.as_str()).collect();
        for (name, v) in &self.exports {
            if read.contains(name.as_str()) {
                self.b.output(name, self.b.value(*v));
            }
        }
        let weights = self.b.finish()?;
        let b = Builder::new(&weights.name, weights.stage);
        replay(&weights, &b, &mut |_, _, _| None);
        b.finish()
    }
}

fn id(t: T<'_>) -> ValueId {
    t.id().expect("what typed in the run graph types in the weight program")
}

/// Which values can only be known when the graph runs.
pub(super) fn at_run(g: &Graph) -> Side<ValueId, bool> {
    let when = classify(g);
    let mut out = Side::new(g.value_count(), false);
    g.values().for_each(|(v, _)| out[v] = when[v] == When::AtRun);
    out
}
