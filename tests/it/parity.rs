//! Agreement with the original PyTorch packages, case by case.

use crate::support::reference::{Case, cases, deviation};
use std::collections::BTreeMap;
use vit_onnx::eval;
use vit_onnx::ir::{Tensor, TensorType};
use vit_onnx::ops::{Graph, Program};
use vit_onnx::{passes, variants};

/// The interpreter's outputs of a program, its parameters computed by its weight program.
fn interpret(p: &Program, weights: &BTreeMap<String, Tensor>, img: &Tensor) -> Vec<(String, Tensor)> {
    let mut stored = |path: &str, _: &TensorType| weights.get(path).cloned().ok_or_else(|| "not stored".to_owned());
    let made: BTreeMap<String, Tensor> = eval::run(&p.weights, &mut stored, &[]).expect("weights").into_iter().collect();
    let mut param = |path: &str, ty: &TensorType| match made.get(path) {
        Some(t) => Ok(t.clone()),
        None => stored(path, ty),
    };
    eval::run(&p.graph, &mut param, &[("pixel_values", img.clone())]).expect("a run")
}

/// Compares every stored output that the graph gives too; the largest fraction of the tolerance used.
fn compare(case: &Case, stage: &str, got: &[(String, Tensor)]) -> f64 {
    let io = case.io();
    let stored = |name: &str| match name {
        "attentions" => "attn",
        "distill_logits" => "output.1",
        _ => "output",
    };
    got.iter().fold(0.0, |worst: f64, (name, t)| {
        let key = stored(name);
        let want = io.get(key).unwrap_or_else(|| panic!("{}/{}: no `{key}`", case.set, case.name));
        let (used, diff) = deviation(t, want, case.tolerance(key));
        assert!(used <= 1.0, "{}/{} {stage}: {name} differs by {diff:e}, {used:.2} times the tolerance", case.set, case.name);
        worst.max(used)
    })
}

fn build(case: &Case) -> Graph {
    let m = case.model();
    let taps: &[&str] = if case.config["kind"] == "recorder" { &["attentions"] } else { &[] };
    variants::declare(&case.name, &*m.variant, m.release, &case.declare(taps))
        .unwrap_or_else(|e| panic!("{}/{}: {e}", case.set, case.name))
}

/// Weights import with no missing and no unexpected key, and the numbers agree at every stage.
fn agree(case: &Case) -> f64 {
    let graph = build(case);
    let weights = case.weights();
    for p in graph.params() {
        let t = weights.get(&p.path).unwrap_or_else(|| panic!("{}/{}: `{}` is missing", case.set, case.name, p.path));
        assert_eq!(Some(t.shape().to_vec()), graph.ty(p.value).shape.known(), "{}: {}", case.name, p.path);
    }
    let known: std::collections::BTreeSet<_> = graph.params().map(|p| p.path.as_str()).collect();
    let strange: Vec<_> =
        weights.keys().filter(|k| !known.contains(k.as_str()) && !k.ends_with("num_batches_tracked")).collect();
    assert!(strange.is_empty() || case.config["kind"] == "recorder", "{}: unexpected {strange:?}", case.name);

    let img = case.io()["input"].clone();
    let built = Program::new(graph);
    let mut worst = compare(case, "built", &interpret(&built, &weights, &img));
    let mut last = built.clone();
    passes::run(&built, passes::INFERENCE, &passes::Options::default(), &mut |pass, p| {
        worst = worst.max(compare(case, pass.name, &interpret(p, &weights, &img)));
        last = p.clone();
    })
    .unwrap_or_else(|e| panic!("{}/{}: {e}", case.set, case.name));
    worst
}

#[test]
fn the_interpreter_agrees_with_pytorch_at_every_stage() {
    let (mut n, mut worst) = (0, 0.0f64);
    for case in cases() {
        if variants::find(case.variant()).is_none() {
            continue;
        }
        worst = worst.max(agree(&case));
        n += 1;
    }
    eprintln!("{n} cases, at most {worst:.3} of the tolerance used");
    assert!(n >= 16, "only {n} cases were found");
}
