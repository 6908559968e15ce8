//! Values that move out of the run graph, and values that stay.

use super::super::testing::{Done, batched, check, filled, graph, input, once, param, same_meaning, text};
use super::*;
use crate::ir::{Stage, TensorType};
use crate::ops::{Gather, Slice};
use std::collections::BTreeSet;

fn on(formula: impl for<'g> FnOnce(&'g Builder) -> T<'g>) -> Done {
    check(&PASS, &graph(Stage::Specialized, formula))
}

fn paths(g: &Graph) -> BTreeSet<&str> {
    g.params().map(|p| &*p.path).collect()
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
    let before = folded.program.with_graph(b.finish().expect("well typed"));
    let after = once(&PASS, &before, u64::MAX);
    same_meaning(&before, &after.program);
    assert_eq!(paths(&after.program.graph), BTreeSet::from(["w.transpose.exp", "w.transpose.2"]));
}

/// The same graph with `w` read through a transpose, as a pass might leave it.
fn replay_transposed(g: &Graph, b: &Builder) {
    let mut y = b.input("x", g.ty(g.inputs()[0].value).clone());
    for p in g.params() {
        let w = b.param(&p.path, g.ty(p.value).clone(), p.init.clone(), p.trainable);
        y = y.matmul(if *p.path == *"w" { w.t() } else { w });
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
    let before = first.program.with_graph(b.finish().expect("well typed"));
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
        x.matmul(constant).matmul(param(b, "v", [8, 8]).matmul(param(b, "w", [8, 8])).exp()) + param(b, "b", [8]).exp()
    }));
    let with = |compile_budget: f64| {
        let mut ctx = Ctx::default();
        ctx.compile_budget = compile_budget;
        let out = run(&p, &mut ctx).expect("well typed");
        out.verify().expect("valid");
        same_meaning(&p, &out);
        let rules: Vec<_> = ctx.refusals.iter().map(|r| r.rule).collect();
        (ctx.rewrites(), rules, ctx.refusals.first().map(|r| r.reason.clone()).unwrap_or_default())
    };
    // Two products of 2 × 8³ operations and little besides.
    assert_eq!(with(3000.0).0, 3);
    assert_eq!(with(1100.0).1, [MOVE_OUT.name]);
    let (fired, rules, reason) = with(1000.0);
    assert_eq!((fired, rules), (1, vec![FOLD_CONSTANT.name, MOVE_OUT.name]));
    assert_eq!(reason, "matmul takes 1.0e3 operations before the run; less than that is left of --compile-budget 1e3");
    assert_eq!(with(0.0).0, 0);
}

/// Forty-five lines: a walk along every path through them would not end.
#[test]
fn doubled_constants_are_folded_at_once() {
    let mut source = "graph g  stage specialized\n\n[]\n  param w : f32[] normal(1.0)\n".to_owned();
    source.push_str("  %0 = const {value = f32[] 1.0} : f32[]\n");
    source.extend((1..=45).map(|i| format!("  %{i} = mul %{0}, %{0} : f32[]\n", i - 1)));
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
