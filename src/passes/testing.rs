//! What the tests of passes share: graphs of one formula, and a check that a pass keeps what they mean.
//!
//! [`check`] holds every pass to the same promises on every graph it is given: the result verifies, has no dead
//! nodes, has the
//! same inputs and outputs and computes the same numbers (parameters through the weight program), a second run
//! changes nothing, and a run with less fuel makes exactly that many rewrites and keeps the meaning too.

use super::{Ctx, Options, Pass};
use crate::build::{Builder, T};
use crate::eval;
use crate::ir::{Bindings, DType, Dim, Init, Stage, Tensor, TensorType};
use crate::ops::{Exactness, Graph, Op, Program};
use crate::target::Target;
use std::collections::BTreeMap;

/// What every symbol is when a graph is run.
const SYMBOL: i64 = 3;

/// A graph of one formula.
pub(super) fn graph(stage: Stage, formula: impl for<'g> FnOnce(&'g Builder) -> T<'g>) -> Graph {
    let b = Builder::new("g", stage);
    let y = formula(&b);
    b.output("y", y);
    b.finish().unwrap_or_else(|e| panic!("{e}"))
}

/// An f32 input.
pub(super) fn input<'g, const N: usize>(b: &'g Builder, name: &str, shape: [i64; N]) -> T<'g> {
    b.input(name, TensorType::new(DType::F32, shape))
}

/// An f32 input `[batch, …]`.
pub(super) fn batched<'g, const N: usize>(b: &'g Builder, name: &str, shape: [i64; N]) -> T<'g> {
    let shape: Vec<Dim> = std::iter::once(b.symbol("batch")).chain(shape.map(Dim::from)).collect();
    b.input(name, TensorType::new(DType::F32, shape))
}

/// An f32 parameter, drawn from both sides of zero.
pub(super) fn param<'g, const N: usize>(b: &'g Builder, path: &str, shape: [i64; N]) -> T<'g> {
    b.param(path, TensorType::new(DType::F32, shape), Init::NORMAL, true)
}

/// An f32 parameter drawn around one, as gains and variances are.
pub(super) fn positive<'g, const N: usize>(b: &'g Builder, path: &str, shape: [i64; N]) -> T<'g> {
    b.param(path, TensorType::new(DType::F32, shape), Init::ONES, true)
}

/// An f32 constant all of whose elements are `x`.
pub(super) fn filled<'g>(b: &'g Builder, shape: &[usize], x: f32) -> T<'g> {
    b.constant(Tensor::new(shape, vec![x; shape.iter().product()]))
}

/// Numbers that depend on the name and the type only (Steele's `SplitMix64`).
fn numbers(name: &str, ty: &TensorType, init: Option<&Init>) -> Tensor {
    let env: Bindings = ty.shape.iter().flat_map(|d| d.symbols().cloned()).map(|s| (s, SYMBOL)).collect();
    let shape = ty.shape.eval(&env).expect("every symbol is bound");
    let mut state = xxhash_rust::xxh3::xxh3_64(name.as_bytes());
    let mut unit = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    let (lo, hi) = if init == Some(&Init::ONES) { (0.5, 1.5) } else { (-2.0, 2.0) };
    let data: Vec<f64> = (0..shape.iter().product()).map(|_| lo + (hi - lo) * unit()).collect();
    Tensor::new(&shape, data).cast(ty.dtype)
}

/// The outputs of a program on numbers that depend on names only.
pub(super) fn outputs(p: &Program) -> Vec<(String, Tensor)> {
    let inits: BTreeMap<&str, &Init> =
        p.graph.params().chain(p.weights.params()).map(|q| (&*q.path, &q.init)).collect();
    let mut stored = |path: &str, ty: &TensorType| match inits.get(path) {
        Some(Init::Value(v)) => Ok(v.tensor().clone()),
        init => Ok(numbers(path, ty, init.copied())),
    };
    let made: BTreeMap<String, Tensor> =
        eval::run(&p.weights, &mut stored, &[]).expect("the weight program runs").into_iter().collect();
    let inputs: Vec<(&str, Tensor)> =
        p.graph.inputs().iter().map(|i| (i.name.as_str(), numbers(&i.name, p.graph.ty(i.value), None))).collect();
    let mut param = |path: &str, ty: &TensorType| match made.get(path) {
        Some(t) => Ok(t.clone()),
        None => stored(path, ty),
    };
    eval::run(&p.graph, &mut param, &inputs).expect("the graph runs")
}

/// Asserts that two programs take the same inputs and give the same outputs: bit for bit (but for the sign of
/// zero) when every op of both moves data only, else within a few roundings.
pub(super) fn same_meaning(a: &Program, b: &Program) {
    let ports = |p: &Program| -> Vec<(String, String)> {
        let g = &p.graph;
        let inputs = g.inputs().iter().map(|i| (i.name.clone(), g.ty(i.value).to_string()));
        inputs.chain(g.outputs().iter().map(|o| (o.name.clone(), g.ty(o.value).to_string()))).collect()
    };
    assert_eq!(ports(a), ports(b), "inputs and outputs stay\n{}", text(b));
    // Rules may round elsewhere, so arithmetic is never exact.
    let moves =
        |op: &Op| op.def().traits().exactness == Exactness::Exact && !matches!(op, Op::Binary(_) | Op::Unary(_));
    let graphs = [&a.graph, &a.weights, &b.graph, &b.weights];
    let exact = graphs.iter().all(|g| g.nodes().all(|(_, n)| moves(&n.op)));
    for ((name, x), (_, y)) in outputs(a).iter().zip(outputs(b)) {
        let size = x.to_f64_vec().into_iter().filter(|x| x.is_finite()).fold(1.0f64, |m, x| m.max(x.abs()));
        let bound = if exact { 0.0 } else { 1e-6 * size };
        let off = x.max_abs_diff(&y).expect("one shape");
        assert!(off <= bound, "{name} is off by {off:e} (at most {bound:e})\n{}\nbecame\n{}", text(a), text(b));
    }
}

/// Both graphs of a program.
pub(super) fn text(p: &Program) -> String {
    let run = p.graph.to_string();
    if p.weights.outputs().is_empty() { run } else { format!("{run}\n{}", p.weights) }
}

/// Asserts that two programs are the same text, but for the order in which parameters are declared: each is
/// where the pass first met it.
pub(super) fn same_text(what: &str, a: &Program, b: &Program) {
    let parts = |p: &Program| {
        let declares = |line: &&str| line.starts_with("  param ") || line.starts_with("  buffer ");
        let text = text(p);
        let (mut declared, code): (Vec<_>, Vec<_>) =
            text.lines().map(str::to_owned).partition(|l| declares(&l.as_str()));
        declared.sort_unstable();
        [code, declared].concat()
    };
    let (a, b) = (parts(a), parts(b));
    let differ = a.iter().zip(&b).find(|(a, b)| a != b);
    assert!(a.len() == b.len() && differ.is_none(), "{what}: {} and {} lines, {differ:?}", a.len(), b.len());
}

/// What a pass did.
pub(super) struct Done {
    pub(super) program: Program,
    pub(super) ctx: Ctx,
}

impl Done {
    /// How often a rule fired.
    pub(super) fn fired(&self, rule: &str) -> u64 {
        self.ctx.count(rule)
    }

    /// Mnemonics of the run graph, constants left out.
    pub(super) fn ops(&self) -> Vec<&'static str> {
        self.program.graph.nodes().map(|(_, n)| n.op.mnemonic()).filter(|m| *m != "const").collect()
    }

    /// Asserts that the rule refused for a reason with these words, and did not fire.
    pub(super) fn refused(&self, rule: &str, words: &str) {
        let reasons: Vec<&str> =
            self.ctx.refusals.iter().filter(|r| r.rule == rule).map(|r| r.reason.as_str()).collect();
        assert!(reasons.iter().any(|r| r.contains(words)), "{rule} gave the reasons {reasons:?}");
        assert_eq!(self.fired(rule), 0, "{}", text(&self.program));
    }
}

/// Runs a pass once and verifies.
pub(super) fn once(pass: &Pass, p: &Program, fuel: u64) -> Done {
    let options = Options { fuel: Some(fuel), explain: true, ..Options::default() };
    once_in(Ctx::new(Target::PORTABLE, None, &options), pass, p)
}

/// Runs a pass once in a context and verifies.
pub(super) fn once_in(mut ctx: Ctx, pass: &Pass, p: &Program) -> Done {
    ctx.rows = Some(pass.rules);
    let mut program = (pass.run)(p, &mut ctx).unwrap_or_else(|e| panic!("{}: {e}", pass.name));
    program.forget_unread();
    program.verify().unwrap_or_else(|e| panic!("{}: {e}", pass.name));
    let live = program.graph.live();
    let read = program.graph.nodes().all(|(_, n)| n.outputs().any(|v| live[v]));
    assert!(read, "{} leaves nodes that nothing reads\n{}", pass.name, program.graph);
    Done { program, ctx }
}

/// Runs a pass and holds it to the promises of this module.
pub(super) fn check(pass: &Pass, g: &Graph) -> Done {
    let before = Program::new(g.clone());
    let done = once(pass, &before, u64::MAX);
    same_meaning(&before, &done.program);
    let again = once(pass, &done.program, u64::MAX);
    same_text(&format!("a second run of {} changes something", pass.name), &again.program, &done.program);
    for fuel in 0..done.ctx.rewrites() {
        let part = once(pass, &before, fuel);
        assert_eq!(part.ctx.rewrites(), fuel, "{} with fuel for {fuel}", pass.name);
        same_meaning(&before, &part.program);
    }
    done
}
