//! Moves work out of the run graph: constants are evaluated now, what depends on parameters goes
//! into the weight program.
//!
//! A value may move when its op is deterministic and its shape has no symbol. What the run graph reads of these values
//! is judged by size: it is stored when it takes no more than what it is made of (or [`SMALL`]), so that a broadcast is
//! never written out to a file; else its op stays and reads what stands before it. Values in between may be larger, up
//! to [`LARGEST`]. A resampled table may be larger too: to resample it in every run would cost more than to store it.
//! Arithmetic in all is bounded by [`Ctx::compile_budget`].
//!
//! Before `y = x @ transpose @w`, after `y = x @ @w.transpose` and `w.transpose = transpose @w`
//! in the weight program. Every analysis is one loop over the nodes: chains may be long and values shared.

use super::{Ctx, Pass, Refusal, canonicalize::is_static};
use crate::build::{BuildErrors, Builder, T};
use crate::eval;
use crate::ir::{Def, Init, NodeId, Side, Tensor, TensorType, ValueId};
use crate::ops::{AttrValue, Exactness, Graph, Node, Op, Program};
use crate::rewrite::replay;
use std::collections::{BTreeMap, BTreeSet};

/// Folds constants and parameter arithmetic.
pub(super) const PASS: Pass =
    Pass { name: "fold", doc: "constants are evaluated, parameter arithmetic is moved out", run };
/// The same after fusion.
pub(super) const AGAIN: Pass = Pass { name: "fold-fused", doc: "folding once more, after fusion", run };
/// The same after legalisation.
pub(super) const LAST: Pass = Pass { name: "fold-legal", doc: "folding once more, after legalisation", run };

/// Results up to this many elements are stored even when larger than what they are made of: 1 MiB of f32.
const SMALL: i64 = 1 << 18;
/// Elements of the largest value that is computed before the run, unless its operands have as many: 32 MiB of f64.
const LARGEST: i64 = 1 << 22;

const CONSTANT: &str = "fold-constant";
const MOVE: &str = "move-to-weight-program";

#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    AtWrite,
    AtRun,
}

fn size(ty: &TensorType) -> i64 {
    ty.shape.elements().value().unwrap_or(i64::MAX)
}

/// The arithmetic of one evaluation of a node; an element that is only moved counts as one operation.
fn work(g: &Graph, n: &Node) -> f64 {
    let x: Vec<&TensorType> = n.inputs.iter().map(|&v| g.ty(v)).collect();
    let y: Vec<&TensorType> = n.outputs().map(|v| g.ty(v)).collect();
    let flops = n.op.def().flops(&x, &y).value().unwrap_or(i64::MAX);
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
        let fits = n.outputs().all(|v| is_static(&g.ty(v).shape) && size(g.ty(v)) <= operands) && !symbolic(&n.op);
        let pure = n.op.def().traits().exactness != Exactness::Random;
        let at = if matches!(n.op, Op::Const(_)) {
            When::Now
        } else if !fits || !pure || n.inputs.iter().any(|&v| when[v] == When::AtRun) {
            When::AtRun
        } else {
            let work = work(g, n);
            if work > budget {
                refused.push((id, work));
                When::AtRun
            } else {
                budget -= work;
                let now = n.inputs.iter().all(|&v| when[v] == When::Now);
                if now { When::Now } else { When::AtWrite }
            }
        };
        n.outputs().for_each(|v| when[v] = at);
    }
    (when, refused)
}

/// Whether an attribute depends on a size that is known only when the graph runs, as the bounds of a slice may
/// even where all shapes are known.
fn symbolic(op: &Op) -> bool {
    op.attrs().iter().any(|(_, a)| match a {
        AttrValue::Dim(d) => d.value().is_none(),
        AttrValue::Dims(d) => !is_static(d),
        _ => false,
    })
}

/// What becomes of the values that are known before the run.
struct Plan {
    when: Side<ValueId, When>,
    /// Read by something that runs, and worth storing.
    wanted: Side<ValueId, bool>,
    /// Evaluated now: wanted constants and what they are made of.
    constants: Side<ValueId, bool>,
    /// Part of the weight program: wanted values and what they are made of.
    weights: Side<ValueId, bool>,
}

impl Plan {
    fn new(g: &Graph, when: Side<ValueId, When>) -> Self {
        // What would have to be stored for a value: itself, or what it is made of where that is less.
        let mut stored = Side::new(g.value_count(), 0i64);
        let mut worth = Side::new(g.value_count(), true);
        for (v, value) in g.values().filter(|(_, value)| !matches!(value.def, Def::Result { .. })) {
            stored[v] = size(&value.ty);
        }
        for (_, n) in g.nodes() {
            let made_of = n.inputs.iter().map(|&v| stored[v]).fold(0i64, i64::saturating_add);
            for v in n.outputs() {
                let size = size(g.ty(v));
                worth[v] = size <= made_of.max(SMALL) || store_grown(&n.op) || matches!(n.op, Op::Const(_));
                stored[v] = if worth[v] { size } else { made_of };
            }
        }
        let [mut wanted, mut constants, mut weights] = [(); 3].map(|()| Side::new(g.value_count(), false));
        let mut read = Side::new(g.value_count(), false);
        g.outputs().iter().for_each(|o| read[o.value] = true);
        let live = g.live();
        for (_, n) in g.nodes().rev().filter(|(_, n)| n.outputs().any(|v| live[v])) {
            // A node runs when it must, or when something that runs reads of it what is not worth storing.
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

/// Whether the results of an op are stored even where they are larger than its operands.
fn store_grown(op: &Op) -> bool {
    matches!(op, Op::Resize(_))
}

fn run(p: &Program, ctx: &mut Ctx) -> Result<Program, BuildErrors> {
    let g = &p.graph;
    let spent: f64 = p.weights.nodes().map(|(_, n)| work(&p.weights, n)).sum();
    let (when, refused) = classify(g, ctx.compile_budget - spent);
    for (id, work) in refused {
        let n = g.node(id);
        let rule = if n.inputs.iter().all(|&v| when[v] == When::Now) { CONSTANT } else { MOVE };
        let reason = format!(
            "{} takes {work:.1e} operations before the run, more than what is left of --compile-budget {:e}",
            n.op.mnemonic(),
            ctx.compile_budget,
        );
        ctx.refusals.push(Refusal { rule, scope: g.scope_path(n.origin.scope).to_owned(), reason });
    }
    let plan = Plan::new(g, when);
    let mut out = WeightWriter::new(p);
    let mut constants = Constants::new(g, &plan);
    let b = Builder::new(&g.name, g.stage);
    replay(g, &b, &mut |r, _, n| {
        if plan.when[n.first] == When::AtRun {
            return None;
        }
        // What is not wanted is copied; it is dead unless the fuel runs out before its reader is folded.
        let wanted = n.outputs().any(|v| plan.wanted[v]) && !matches!(n.op, Op::Const(_));
        if ctx.fuel > 0 && n.outputs().any(|v| plan.constants[v]) {
            constants.evaluate(n);
        }
        if ctx.fuel > 0 && n.outputs().any(|v| plan.weights[v]) {
            out.import(g, n);
        }
        if !wanted {
            return None;
        }
        if plan.when[n.first] == When::Now {
            // An index out of range stays where it is: the runtime says so when it gets there.
            let y: Vec<Tensor> = n.outputs().map(|v| constants.value(v)).collect::<Option<_>>()?;
            let folded = ctx.spend(CONSTANT);
            ctx.compile_budget -= if folded { work(g, n) } else { 0.0 };
            return folded.then(|| y.into_iter().map(|t| r.b.constant(t)).collect());
        }
        ctx.spend(MOVE).then(|| n.outputs().map(|v| out.export(g, v, r.b)).collect())
    });
    let graph = b.finish()?;
    let weights = out.finish(&graph)?;
    // What was folded is dead in the new graph; a replay drops it.
    let b = Builder::new(&graph.name, graph.stage);
    replay(&graph, &b, &mut |_, _, _| None);
    Ok(Program { graph: b.finish()?, weights })
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
    computed: BTreeMap<String, ValueId>,
    /// What was appended, by run value.
    done: BTreeMap<ValueId, ValueId>,
    names: BTreeSet<String>,
    exports: Vec<(String, ValueId)>,
    /// The first parameter each run value depends on.
    first: Side<ValueId, Option<ValueId>>,
}

impl WeightWriter {
    fn new(p: &Program) -> Self {
        let mut weights = p.weights.clone();
        let exports: Vec<_> = weights.outputs().iter().map(|o| (o.name.clone(), o.value)).collect();
        let computed: BTreeMap<_, _> = exports.iter().cloned().collect();
        weights.clear_outputs();
        let paths = p.graph.params().chain(weights.params()).map(|q| q.path.clone());
        let names = paths.chain(computed.keys().cloned()).collect();
        let mut first = Side::new(p.graph.value_count(), None);
        p.graph.params().for_each(|q| first[q.value] = Some(q.value));
        for (_, n) in p.graph.nodes() {
            let from = n.inputs.iter().find_map(|&v| first[v]);
            n.outputs().for_each(|v| first[v] = from);
        }
        Self { b: Builder::resume(weights), computed, done: BTreeMap::new(), names, exports, first }
    }

    /// The weight program's value for an operand, a parameter of the run graph or imported before.
    fn operand(&mut self, g: &Graph, v: ValueId) -> ValueId {
        let Some(p) = g.as_param(v).filter(|_| !self.done.contains_key(&v)) else { return self.done[&v] };
        let w = match self.computed.get(&p.path) {
            Some(&w) => w,
            None => id(self.b.param(&p.path, g.ty(v).clone(), p.init.clone(), p.trainable)),
        };
        self.done.insert(v, w);
        w
    }

    /// Appends a node whose operands were appended.
    fn import(&mut self, g: &Graph, n: &Node) {
        let x: Vec<ValueId> = n.inputs.iter().map(|&v| self.operand(g, v)).collect();
        if let Some(w) = self.reshaped_back(&n.op, &x) {
            self.done.insert(n.first, w);
            return;
        }
        let scope = g.scope_path(n.origin.scope);
        let b = &self.b;
        let y = b.with_origin(scope, n.origin.at, n.origin.rule, || {
            b.apply_all(n.op.clone(), &x.iter().map(|&v| b.value(v)).collect::<Vec<_>>())
        });
        self.done.extend(n.outputs().zip(y.into_iter().map(id)));
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

    /// A run parameter that stands for the value `v`, which was imported.
    fn export<'g>(&mut self, g: &Graph, v: ValueId, run: &'g Builder) -> T<'g> {
        let w = self.done[&v];
        let stored = self.b.read(|wg| wg.as_param(w).map(|p| (p.path.clone(), p.init.clone(), p.trainable)));
        if let Some((path, init, trainable)) = stored {
            return run.param(&path, g.ty(v).clone(), init, trainable);
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
    let (when, _) = classify(g, f64::INFINITY);
    let mut out = Side::new(g.value_count(), false);
    g.values().for_each(|(v, _)| out[v] = when[v] == When::AtRun);
    out
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Done, batched, check, filled, graph, input, once, param, same_meaning, text};
    use super::*;
    use crate::ir::{Stage, TensorType};
    use crate::ops::{Gather, Slice};

    fn on(formula: impl for<'g> FnOnce(&'g Builder) -> T<'g>) -> Done {
        check(&PASS, &graph(Stage::Specialized, formula))
    }

    fn paths(g: &Graph) -> BTreeSet<&str> {
        g.params().map(|p| p.path.as_str()).collect()
    }

    #[test]
    fn constants_are_evaluated() {
        let done = on(|b| input(b, "x", [2]) * (filled(b, &[2, 1], 3.0).exp() + 1.0).sum(&[0]).sqrt());
        assert_eq!((done.fired("fold-constant"), done.ops()), (1, vec!["mul"]));
        // A result that is given out too, of an op with two results.
        let done = on(|b| {
            let (values, indices) = b.constant(Tensor::new(&[3], vec![1.0f32, 3.0, 2.0])).top_k(2, 0);
            b.output("indices", indices);
            values + input(b, "x", [1])
        });
        assert_eq!((done.fired("fold-constant"), done.ops()), (1, vec!["add"]));
    }

    #[test]
    fn what_depends_on_parameters_moves_to_the_weight_program() {
        let done = on(|b| batched(b, "x", [3]).matmul(param(b, "w", [4, 3]).t() * 2.0));
        assert_eq!(done.fired("move-to-weight-program"), 1);
        insta::assert_snapshot!(text(&done.program), @r"
        graph g  stage specialized
          symbol batch
          input x : f32[batch, 3]

        []
          buffer w.mul : f32[3, 4] computed
          %0 = matmul x, @w.mul : f32[batch, 4]

          output y = %/0

        graph g.weights  stage legal

        []
          param w : f32[4, 3] normal(1.0)
          %0 = transpose @w {perm = [1, 0]} : f32[3, 4]
          %1 = const {value = f32[] 2.0} : f32[]
          %2 = mul %0, %1 : f32[3, 4]

          output w.mul = %/2
        ");
    }

    /// The constant beside the parameter goes along; nothing is evaluated that nothing at run time reads.
    #[test]
    fn an_output_that_is_arithmetic_of_parameters_is_a_parameter() {
        let done = on(|b| {
            let w = param(b, "w", [4]);
            b.output("as it is", w);
            b.output("negative", -w);
            w * filled(b, &[4], 3.0).exp()
        });
        assert_eq!((done.ctx.rewrites(), done.ops().len()), (2, 0));
        assert_eq!(paths(&done.program.graph), BTreeSet::from(["w", "w.neg", "w.mul"]));
    }

    #[test]
    fn one_parameter_may_feed_several_results() {
        let done = on(|b| {
            let w = param(b, "w", [3, 3]);
            let x = input(b, "x", [3, 3]);
            let twice = w * 2.0;
            x.matmul(w.t()) + x.matmul(twice.t()) + x.matmul(twice.exp()) + x * w
        });
        assert_eq!(done.fired("move-to-weight-program"), 3);
        assert_eq!(paths(&done.program.graph), BTreeSet::from(["w", "w.transpose", "w.transpose.2", "w.exp"]));
        // The shared factor is computed once.
        let muls = done.program.weights.nodes().filter(|(_, n)| n.op.mnemonic() == "mul").count();
        assert_eq!(muls, 1);
    }

    /// A checkpoint may use any name, and a parameter may have moved out of the run graph before its name is wanted.
    #[test]
    fn computed_parameters_never_take_a_name_of_the_checkpoint() {
        let g = graph(Stage::Specialized, |b| {
            let x = input(b, "x", [3, 3]);
            x.matmul(param(b, "w.transpose", [3, 3]).exp()).matmul(param(b, "w", [3, 3]).t())
        });
        let done = check(&PASS, &g);
        assert_eq!(paths(&done.program.graph), BTreeSet::from(["w.transpose.exp", "w.transpose.2"]));

        let b = Builder::new("g", Stage::Specialized);
        let folded = once(
            &PASS,
            &Program::new(graph(Stage::Specialized, |b| {
                let y = input(b, "x", [3, 3]).matmul(param(b, "w.transpose", [3, 3]).exp());
                y.matmul(param(b, "w", [3, 3]))
            })),
            u64::MAX,
        );
        assert_eq!(paths(&folded.program.graph), BTreeSet::from(["w.transpose.exp", "w"]));
        replay_transposed(&folded.program.graph, &b);
        let before = Program { graph: b.finish().expect("well typed"), weights: folded.program.weights };
        let after = once(&PASS, &before, u64::MAX);
        same_meaning(&before, &after.program);
        assert_eq!(paths(&after.program.graph), BTreeSet::from(["w.transpose.exp", "w.transpose.2"]));
    }

    /// The same graph with `w` read through a transpose, as a pass might leave it.
    fn replay_transposed(g: &Graph, b: &Builder) {
        let mut y = b.input("x", g.ty(g.inputs()[0].value).clone());
        for p in g.params() {
            let w = b.param(&p.path, g.ty(p.value).clone(), p.init.clone(), p.trainable);
            y = y.matmul(if p.path == "w" { w.t() } else { w });
        }
        b.output("y", y);
    }

    /// What was computed before is built upon, not computed again, and what nothing reads any more is forgotten.
    #[test]
    fn folding_goes_on_from_an_earlier_weight_program() {
        let first = once(
            &PASS,
            &Program::new(graph(Stage::Specialized, |b| input(b, "x", [3]) + param(b, "w", [3]).exp())),
            u64::MAX,
        );
        let b = Builder::new("g", Stage::Specialized);
        let g = &first.program.graph;
        let w = g.params().next().expect("one");
        let y = b.input("x", g.ty(g.inputs()[0].value).clone())
            + b.param(&w.path, g.ty(w.value).clone(), w.init.clone(), w.trainable).sqrt();
        b.output("y", y);
        let before = Program { graph: b.finish().expect("well typed"), weights: first.program.weights.clone() };
        let after = once(&PASS, &before, u64::MAX);
        same_meaning(&before, &after.program);
        assert_eq!(paths(&after.program.graph), BTreeSet::from(["w.exp.sqrt"]));
        let given: Vec<&str> = after.program.weights.outputs().iter().map(|o| o.name.as_str()).collect();
        assert_eq!((given, after.program.weights.nodes().len()), (vec!["w.exp.sqrt"], 2));
    }

    /// Without memory of what was computed this would take a trillion steps.
    #[test]
    fn shared_values_are_computed_once() {
        let doubled = |x: T<'_>| (0..40).fold(x, |x, _| x + x).id().expect("well typed");
        let done = once(
            &PASS,
            &Program::new(graph(Stage::Specialized, |b| {
                b.output("constant", b.value(doubled(filled(b, &[1], 1.0))));
                b.value(doubled(param(b, "w", [1])))
            })),
            u64::MAX,
        );
        assert_eq!((done.fired("fold-constant"), done.fired("move-to-weight-program")), (1, 1));
    }

    #[test]
    fn broadcasts_are_not_written_out() {
        let stays = |done: Done| assert_eq!(done.ctx.rewrites(), 0, "{}", done.program.graph);
        // To a symbolic size, and to one larger than the budget.
        stays(on(|b| batched(b, "x", [4]) * param(b, "cls", [1, 4]).expand([b.symbol("batch"), 4.into()])));
        stays(on(|b| param(b, "w", [513, 1]).expand([513, 512])));
        stays(on(|b| filled(b, &[513, 1], 2.0).expand([513, 512])));
        // What is smaller, or no larger than what it is made of, is.
        assert_eq!(on(|b| param(b, "w", [511, 1]).expand([511, 512])).fired("move-to-weight-program"), 1);
        let done = on(|b| param(b, "w", [513, 512]) * param(b, "s", [512]));
        assert_eq!(done.fired("move-to-weight-program"), 1);
    }

    /// Shapes are known, the elements are not.
    #[test]
    fn bounds_that_are_symbolic_stay() {
        let done = on(|b| {
            let n = b.symbol("n");
            let op = Slice { axis: 0, start: n.clone(), end: &n + 2, step: 1 };
            let x = b.input("x", TensorType::new(crate::ir::DType::F32, vec![n, 1.into()]));
            b.apply(op, &[param(b, "w", [8])]) + x
        });
        assert_eq!((done.ctx.rewrites(), done.ops()), (0, vec!["slice", "add"]));
    }

    #[test]
    fn random_ops_and_what_inputs_decide_stay() {
        let g = graph(Stage::Built, |b| b.root().dropout(param(b, "w", [4]), 0.5) * filled(b, &[4], 0.5));
        assert_eq!(check(&PASS, &g).ctx.rewrites(), 0);
        assert_eq!(on(|b| input(b, "x", [4]) * param(b, "w", [4])).ctx.rewrites(), 0);
    }

    /// The op refuses its operands: it stays, for the runtime to say so, and is not counted.
    #[test]
    fn an_index_out_of_range_is_left_to_the_runtime() {
        let g = graph(Stage::Specialized, |b| {
            b.apply(Gather { axis: 0 }, &[filled(b, &[3], 1.0), b.constant(Tensor::new(&[1], vec![7i64]))])
        });
        let done = once(&PASS, &Program::new(g), u64::MAX);
        assert_eq!((done.ctx.rewrites(), done.ops()), (0, vec!["gather"]));
    }

    #[test]
    fn readers_that_nothing_reads_want_nothing() {
        let done = on(|b| {
            let w = param(b, "w", [3]).exp();
            let _unread = input(b, "x", [3]) * w;
            w.sqrt()
        });
        assert_eq!(done.fired("move-to-weight-program"), 1);
    }

    /// What is stored is judged, not what it passes through: a map of 401 k elements, as in `LeViT`.
    #[test]
    fn values_in_between_may_be_large() {
        let done = on(|b| {
            let wide = param(b, "w", [634, 1]) * filled(b, &[1, 634], 2.0);
            b.output("rows", wide.sum(&[1]));
            batched(b, "x", [634]) * wide.sum(&[0])
        });
        assert_eq!((done.fired("move-to-weight-program"), done.ops()), (2, vec!["mul"]));
        // Read by the run graph too, the map itself is computed there, from what is small.
        let done = on(|b| {
            let wide = param(b, "w", [634, 1]).exp() * filled(b, &[1, 634], 2.0).exp();
            b.output("map", wide);
            batched(b, "x", [634]) * wide.sum(&[0])
        });
        assert_eq!(paths(&done.program.graph), BTreeSet::from(["w.exp", "w.reduce_sum"]));
        assert_eq!(done.ops(), ["mul", "mul"]);
    }

    #[test]
    fn arithmetic_before_the_run_is_bounded() {
        let p = Program::new(graph(Stage::Specialized, |b| {
            let x = batched(b, "x", [8]);
            let constant = filled(b, &[8, 8], 1.0).matmul(filled(b, &[8, 8], 2.0));
            x.matmul(constant).matmul(param(b, "v", [8, 8]).matmul(param(b, "w", [8, 8])).exp())
                + param(b, "b", [8]).exp()
        }));
        let with = |compile_budget: f64| {
            let mut ctx = Ctx { compile_budget, ..Ctx::default() };
            let out = run(&p, &mut ctx).expect("well typed");
            out.verify().expect("valid");
            same_meaning(&p, &out);
            let rules: Vec<_> = ctx.refusals.iter().map(|r| r.rule).collect();
            (ctx.rewrites(), rules, ctx.refusals.first().map(|r| r.reason.clone()).unwrap_or_default())
        };
        // Two products of 2 × 8³ operations and little besides.
        assert_eq!(with(3000.0).0, 3);
        assert_eq!(with(1100.0).1, [MOVE]);
        let (fired, rules, reason) = with(1000.0);
        assert_eq!((fired, rules), (1, vec![CONSTANT, MOVE]));
        assert_eq!(
            reason,
            "matmul takes 1.0e3 operations before the run, more than what is left of --compile-budget 1e3"
        );
        assert_eq!(with(0.0).0, 0);
    }

    /// Forty-five lines: a walk along every path through them would not end.
    #[test]
    fn doubled_constants_are_folded_at_once() {
        let mut source = "graph g  stage specialized\n\n[]\n  param w : f32[] normal(1.0)\n".to_owned();
        source.push_str("  %0 = const {value = f32[] 1.0} : f32[]\n");
        (1..=45).for_each(|i| source.push_str(&format!("  %{i} = mul %{0}, %{0} : f32[]\n", i - 1)));
        source.push_str("  %46 = mul %45, @w : f32[]\n\n  output y = %/46\n");
        let p = Program::new(crate::text::parse(&source).expect("well formed"));
        let done = once(&PASS, &p, u64::MAX);
        assert_eq!((done.fired("move-to-weight-program"), done.ops().len()), (1, 0));
        assert_eq!(paths(&done.program.graph), BTreeSet::from(["w.mul"]));
    }

    /// Longer than any stack is deep.
    #[test]
    fn long_chains_are_folded() {
        const LENGTH: usize = 100_000;
        let p = Program::new(graph(Stage::Specialized, |b| {
            let long = |x: T<'_>| (0..LENGTH).fold(x, |x, _| -x).id().expect("well typed");
            b.output("constant", b.value(long(filled(b, &[2], 1.0))));
            b.value(long(param(b, "w", [2])))
        }));
        let done = once(&PASS, &p, u64::MAX);
        assert_eq!((done.fired("fold-constant"), done.fired("move-to-weight-program")), (1, 1));
        same_meaning(&p, &done.program);
    }
}
