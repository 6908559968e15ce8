//! Moves work out of the run graph: constants are evaluated now, what depends on parameters goes
//! into the weight program.
//!
//! A value moves when its op is deterministic, its shape has no symbol and it is no larger than what
//! it is made of (or [`SMALL`]), so that a broadcast is never written out to a file. A resampled table may be larger:
//! to resample it in every run would cost more than to store it.
//! Before `y = x @ transpose @w`, after `y = x @ @w.transpose` and `w.transpose = transpose @w`
//! in the weight program.

use super::{Ctx, Pass, PassError, canonicalize::is_static, rows};
use crate::build::{BuildErrors, Builder, T};
use crate::eval;
use crate::ir::{Def, Init, Side, Tensor, ValueId};
use crate::ops::{AttrValue, Graph, Op, Program};
use crate::rewrite::replay;
use std::collections::{BTreeMap, BTreeSet};

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
        let traits = n.op.def().traits();
        let small = |v: ValueId| is_static(&g.ty(v).shape) && (traits.store_grown || size(v) <= budget);
        let fits = n.outputs().all(small) && !symbolic(&n.op);
        let at = if matches!(n.op, Op::Const(_)) {
            When::Now
        } else if !fits || !traits.pure || n.inputs.iter().any(|&v| when[v] == When::AtRun) {
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

/// Whether an attribute depends on a size that is known only when the graph runs, as the bounds of a slice may
/// even where all shapes are known.
fn symbolic(op: &Op) -> bool {
    op.attrs().iter().any(|(_, a)| match a {
        AttrValue::Dim(d) => d.value().is_none(),
        AttrValue::Dims(d) => !is_static(d),
        _ => false,
    })
}

/// Values that something at run time reads.
fn wanted(g: &Graph, when: &Side<ValueId, When>) -> BTreeSet<ValueId> {
    let live = g.live();
    let at_run = g.nodes().filter(|(_, n)| when[n.first] == When::AtRun && n.outputs().any(|v| live[v]));
    let reads = at_run.flat_map(|(_, n)| n.inputs.iter().copied());
    reads.chain(g.outputs().iter().map(|o| o.value)).collect()
}

fn run(p: &Program, ctx: &mut Ctx) -> Result<Program, PassError> {
    let g = &p.graph;
    let when = classify(g);
    let wanted = wanted(g, &when);
    let mut out = WeightWriter::new(p);
    let mut constants = Constants { g, done: BTreeMap::new() };
    let b = Builder::new(&g.name, g.stage);
    replay(g, &b, &mut |r, _, n| {
        if when[n.first] == When::AtRun || matches!(n.op, Op::Const(_)) {
            return None;
        }
        if !n.outputs().any(|v| wanted.contains(&v)) {
            // Stays only if the fuel runs out before its reader is folded; dead otherwise.
            return None;
        }
        if when[n.first] == When::Now {
            if ctx.fuel == 0 {
                return None;
            }
            // An index out of range stays where it is: the runtime says so when it gets there.
            let y: Vec<Tensor> = n.outputs().map(|v| constants.value(v)).collect::<Option<_>>()?;
            return ctx.spend(&FOLD_CONSTANT).then(|| y.into_iter().map(|t| r.b.constant(t)).collect());
        }
        ctx.spend(&MOVE_OUT).then(|| n.outputs().map(|v| out.export(g, v, r.b)).collect())
    });
    let graph = b.finish()?;
    let weights = out.finish(&graph)?;
    // What was folded is dead in the new graph; a replay drops it.
    let b = Builder::new(&graph.name, graph.stage);
    replay(&graph, &b, &mut |_, _, _| None);
    Ok(Program { graph: b.finish()?, weights })
}

/// Constant values of a graph, each computed once.
struct Constants<'a> {
    g: &'a Graph,
    done: BTreeMap<ValueId, Tensor>,
}

impl Constants<'_> {
    /// `None` when its op refuses its operands.
    fn value(&mut self, v: ValueId) -> Option<Tensor> {
        if let Some(t) = self.done.get(&v) {
            return Some(t.clone());
        }
        let n = self.g.node(self.g.producer(v)?);
        let x: Vec<Tensor> = n.inputs.iter().map(|&v| self.value(v)).collect::<Option<_>>()?;
        self.done.extend(n.outputs().zip(eval::op(&n.op, &x).ok()?));
        self.done.get(&v).cloned()
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
}

impl WeightWriter {
    fn new(p: &Program) -> Self {
        let mut weights = p.weights.clone();
        let exports: Vec<_> = weights.outputs().iter().map(|o| (o.name.clone(), o.value)).collect();
        let computed: BTreeMap<_, _> = exports.iter().cloned().collect();
        weights.clear_outputs();
        let paths = p.graph.params().chain(weights.params()).map(|q| q.path.clone());
        let names = paths.chain(computed.keys().cloned()).collect();
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
          buffer w.mul : f32[3, 4] constant(0.0)
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

    /// What was computed before is built upon, not computed anew, and what nothing reads any more is forgotten.
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
}
