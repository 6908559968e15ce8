//! Agreement with the original PyTorch packages, case by case: through the interpreter at every stage,
//! and of the written file through ONNX Runtime, the interpreter that reads it back, and `OpenVINO`.

use crate::support::reference::{Case, cases, deviation};
use std::collections::BTreeMap;
use vit_onnx::compile::{Compiled, Options, compile};
use vit_onnx::ir::{Tensor, TensorType};
use vit_onnx::onnx::External;
use vit_onnx::ops::{Graph, Program};
use vit_onnx::target::Target;
use vit_onnx::template::{Model, Source};
use vit_onnx::variants::Declare;
use vit_onnx::weights::Checkpoint;
use vit_onnx::{eval, passes, weights};

/// Targets whose files run here as they would elsewhere. The GPU targets use a subset of their forms, and are held to
/// the official checker below.
const MEASURED: [&Target; 2] = [Target::PORTABLE, Target::ORT_CPU];

/// The interpreter's outputs of a program, its parameters computed by its weight program.
fn interpret(p: &Program, weights: &BTreeMap<String, Tensor>, img: &Tensor) -> Vec<(String, Tensor)> {
    let mut stored = |path: &str, _: &TensorType| weights.get(path).cloned().ok_or_else(|| "not stored".to_owned());
    let made: BTreeMap<String, Tensor> =
        eval::run(&p.weights, &mut stored, &[]).expect("weights").into_iter().collect();
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
        assert!(
            used <= 1.0,
            "{}/{} {stage}: {name} differs by {diff:e}, {used:.2} times the tolerance",
            case.set,
            case.name
        );
        worst.max(used)
    })
}

fn taps(case: &Case) -> Vec<String> {
    if case.config["kind"] == "recorder" { vec!["attentions".to_owned()] } else { Vec::new() }
}

fn build(case: &Case) -> Graph {
    let declare = Declare { taps: taps(case), ..Declare::default() };
    (case.model().declaration.declare(&declare)).unwrap_or_else(|e| panic!("{}/{}: {e}", case.set, case.name))
}

/// Weights import with no missing and no unexpected key, and the numbers agree at every stage.
fn agree(case: &Case) -> f64 {
    let graph = build(case);
    let weights = case.weights(&graph);
    let img = case.io()["input"].clone();
    let built = Program::new(graph);
    let mut worst = compare(case, "built", &interpret(&built, &weights, &img));
    let mut last = String::new();
    passes::compile(&built, Target::ORT_CPU, None, &passes::Options::default(), &mut |pass, p| {
        // The same text has the same numbers.
        let text = format!("{}{}", p.graph, p.weights);
        if text != last {
            worst = worst.max(compare(case, pass.name, &interpret(p, &weights, &img)));
            last = text;
        }
    })
    .unwrap_or_else(|e| panic!("{}/{}: {e}", case.set, case.name));
    worst
}

#[test]
fn the_interpreter_agrees_with_pytorch_at_every_stage() {
    let (mut n, mut worst) = (0, 0.0f64);
    for case in cases() {
        worst = worst.max(agree(&case));
        n += 1;
    }
    eprintln!("{n} cases, at most {worst:.3} of the tolerance used");
}

/// The compiled case and its checkpoint.
fn compiled(case: &Case, target: &'static Target) -> (Compiled, Checkpoint) {
    let options = Options { target, taps: taps(case), ..Options::default() };
    let c = compile(&case.model().declaration, &options).unwrap_or_else(|e| panic!("{}/{}: {e}", case.set, case.name));
    let source = weights::open(&case.dir.join("weights.safetensors"), None).expect("a checkpoint");
    let checkpoint = Checkpoint::open(source, &c.declared, &weights::ImportOptions::default(), 0).expect("it fits");
    (c, checkpoint)
}

#[cfg(feature = "runtime")]
/// Models whose mathematics couples the images of a batch: every image alone gives other numbers.
fn couples_images(case: &Case) -> bool {
    case.config["kwargs"]["inner"]["kind"] == "nystrom"
}

#[cfg(feature = "runtime")]
#[test]
fn files_agree_with_pytorch_in_both_engines() {
    use crate::support::engines::ort;
    use vit_onnx::runtime::{Engine, Interpreter, SessionOptions};
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("m.onnx");
    let engines: [&dyn Engine; 2] = [&ort(), &Interpreter];
    let (mut n, mut worst) = (0, 0.0f64);
    for case in cases() {
        let img = case.io()["input"].clone();
        for target in MEASURED {
            let (c, checkpoint) = compiled(&case, target);
            c.write(&path, &checkpoint, External::Auto, &mut |_| ()).expect("a file");
            for engine in engines {
                let label = format!("{target} in {}", engine.name());
                let mut session = engine
                    .load(&path, &SessionOptions { threads: Some(1), ..SessionOptions::default() })
                    .unwrap_or_else(|e| panic!("{}/{} {label}: {e}", case.set, case.name));
                let mut run = |x: Tensor| {
                    let got = session.run(&[("pixel_values".to_owned(), x)]);
                    got.unwrap_or_else(|e| panic!("{}/{} {label}: {e}", case.set, case.name))
                };
                let got = run(img.clone());
                worst = worst.max(compare(&case, &label, &got));
                if couples_images(&case) {
                    continue;
                }
                // The batch is symbolic: 1 and 7 images give the rows that 2 gave.
                for batch in [1, 7] {
                    let rows: Vec<usize> = (0..batch).map(|i| i % img.shape()[0]).collect();
                    for ((name, t), (_, whole)) in run(take(&img, &rows)).iter().zip(&got) {
                        let (used, _) = deviation(t, &take(whole, &rows), case.tolerance("output"));
                        assert!(used <= 1.0, "{}/{} {label}: {name} depends on the batch", case.set, case.name);
                    }
                }
            }
            n += 1;
        }
    }
    eprintln!("{n} files, at most {worst:.3} of the tolerance used");
}

#[cfg(feature = "runtime")]
/// Rows of the first axis.
fn take(t: &Tensor, rows: &[usize]) -> Tensor {
    let one: usize = t.shape()[1..].iter().product();
    let all = t.to_vec::<f32>().expect("floats");
    let data: Vec<f32> = rows.iter().flat_map(|&r| all[r * one..(r + 1) * one].iter().copied()).collect();
    let mut shape = t.shape().to_vec();
    shape[0] = rows.len();
    Tensor::new(&shape, data)
}

/// A file of numpy's `.npy` format, version 1.0.
fn npy(t: &Tensor) -> Vec<u8> {
    let shape: Vec<String> = t.shape().iter().map(|d| format!("{d},")).collect();
    let shape = shape.join(" ");
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}");
    header.push_str(&" ".repeat(63 - (header.len() + 10) % 64));
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.extend(t.to_le_bytes());
    out
}

#[test]
fn the_official_checker_accepts_every_file_and_openvino_agrees() {
    use crate::support::python::{python, run};
    let dir = tempfile::tempdir().expect("a folder");
    let mut tolerances = BTreeMap::new();
    // OpenVINO runs the files that have no op of ONNX Runtime's own domain.
    let mut runnable = 0;
    for case in cases() {
        for target in MEASURED {
            let name = format!("{}-{}-{target}", case.set, case.name);
            let (c, checkpoint) = compiled(&case, target);
            let file = |ext: &str| dir.path().join(format!("{name}.{ext}"));
            c.write(&file("onnx"), &checkpoint, External::Auto, &mut |_| ()).expect("a file");
            runnable += usize::from(c.model.opset_imports.iter().all(|(domain, _)| domain != "com.microsoft"));
            let io = case.io();
            std::fs::write(file("in.npy"), npy(&io["input"])).expect("an input");
            std::fs::write(file("out.npy"), npy(&io["output"])).expect("an output");
            tolerances.insert(name, case.tolerance("output"));
        }
    }
    // Every opset that can be asked for, on a model with convolutions and one without.
    for (variant, target, opset) in ["vit", "levit"]
        .into_iter()
        .flat_map(|v| Target::ALL.into_iter().flat_map(move |t| vit_onnx::onnx::OPSETS.map(move |o| (v, t, o))))
    {
        let m = Model::resolve(&Source::Preset(variant, "tiny"), &[]).expect("a preset");
        let c = compile(&m.declaration, &Options { target, opset: Some(opset), ..Options::default() })
            .expect("it compiles");
        let name = format!("{variant}-{target}-opset{opset}");
        let checkpoint = Checkpoint::initial(0);
        c.write(&dir.path().join(format!("{name}.onnx")), &checkpoint, External::Auto, &mut |_| ()).expect("a file");
        tolerances.insert(name, (0.0, 0.0));
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/check.py");
    let report = run(std::process::Command::new(python()).arg(script).arg(dir.path()));
    let (mut checked, mut compared) = (0, 0);
    for line in report.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("a JSON line");
        let name = line["name"].as_str().expect("a name");
        checked += 1;
        if let (Some(d), Some(largest)) = (line["difference"].as_f64(), line["largest"].as_f64()) {
            let (atol, rtol) = tolerances[name];
            assert!(d <= atol + rtol * largest, "{name}: OpenVINO differs by {d:e}");
            compared += 1;
        }
    }
    eprintln!("{checked} files checked, {compared} of them run by OpenVINO");
    assert_eq!(checked, tolerances.len());
    assert_eq!(compared, runnable);
    assert!(runnable >= cases().len(), "every portable file is one");
}
