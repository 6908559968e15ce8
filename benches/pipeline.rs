//! How long each stage of a build takes, for the README-size ViT: declare, optimize, emit, and write
//! next to a plain copy of the same bytes.
//!
//! Run with `cargo bench`; `cargo bench -- declare` runs one stage.

use criterion::{Criterion, criterion_group, criterion_main};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};
use vit_onnx::compile::{Compiled, Options, compile};
use vit_onnx::ir::Tensor;
use vit_onnx::onnx::External;
use vit_onnx::ops::Program;
use vit_onnx::template::{Model, Source};
use vit_onnx::variants::{self, Declare};
use vit_onnx::weights::{Checkpoint, ImportOptions, Supply, Writer, specs};
use vit_onnx::{lower, passes, weights};

/// Copies and writes taken in turn; the ratio is of their medians.
const PAIRS: usize = 7;

fn model(preset: &str) -> Model {
    Model::resolve(&Source::Preset("vit", preset), &[]).expect("a shipped preset")
}

/// The stages that need no weights, one benchmark each, for the tests' and the README's size.
fn stages(c: &mut Criterion) {
    for preset in ["tiny", "readme"] {
        let m = model(preset);
        let declare = || variants::declare("vit", &*m.variant, m.release, &Declare::default()).expect("it types");
        let declared = Program::new(declare());
        let options = Options::default();
        let optimize = || {
            let run = passes::compile(&declared, options.target, None, &options.passes, &mut |_, _| ());
            run.expect("it passes").program
        };
        let program = optimize();
        let opset = options.target.default_opset;
        let emit = || lower::emit(&program.graph, options.target, opset, Vec::new()).expect("it is legal");

        let mut group = c.benchmark_group(preset);
        group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
        group.bench_function("declare", |b| b.iter(|| black_box(declare())));
        group.bench_function("optimize", |b| b.iter(|| black_box(optimize())));
        group.bench_function("emit", |b| b.iter(|| black_box(emit())));
        group.bench_function("compile", |b| b.iter(|| black_box(compile(&m, &options).expect("it compiles"))));
        group.finish();
    }
}

/// Stores the initial values of a declaration as a checkpoint.
fn store(path: &Path, c: &Compiled) {
    let (drawn, declared) = (Checkpoint::initial(0), Program::new(c.declared.clone()));
    let supply = Supply::new(&declared, &drawn);
    let tensors: Vec<(String, Tensor)> =
        specs(&c.declared).into_iter().map(|s| (s.path.clone(), supply.tensor(&s.path).expect("drawn"))).collect();
    Writer::save(path, &tensors, &BTreeMap::new()).expect("a checkpoint is written");
}

fn seconds(f: impl FnOnce()) -> f64 {
    let start = Instant::now();
    f();
    start.elapsed().as_secs_f64()
}

fn median(mut x: Vec<f64>) -> f64 {
    x.sort_by(f64::total_cmp);
    x[x.len() / 2]
}

/// Writing from a checkpoint should cost what copying its bytes costs.
fn write(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (stored, copied, written) =
        (dir.path().join("w.safetensors"), dir.path().join("copy"), dir.path().join("m.onnx"));
    let compiled = compile(&model("readme"), &Options::default()).expect("it compiles");
    store(&stored, &compiled);
    let source = weights::open(&stored, None).expect("the checkpoint opens");
    let checkpoint =
        Checkpoint::open(source, &compiled.declared, &ImportOptions::default(), 0).expect("every key matches");

    let write = || {
        compiled.write(&written, &checkpoint, External::Never, &mut |_| ()).expect("the model is written");
    };
    let copy = || {
        std::fs::copy(&stored, &copied).expect("the checkpoint is copied");
    };
    let mut group = c.benchmark_group("readme");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(5));
    group.bench_function("write", |b| b.iter(write));
    group.bench_function("copy", |b| b.iter(copy));
    group.finish();

    let (mut writes, mut copies) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        copies.push(seconds(copy));
        writes.push(seconds(write));
    }
    let (w, r) = (median(writes), median(copies));
    let mib = std::fs::metadata(&stored).map_or(0, |m| m.len()) as f64 / f64::from(1 << 20);
    report(&format!("writing {mib:.0} MiB takes {w:.3} s, {:.2} times a copy of the checkpoint ({r:.3} s)", w / r));
}

#[expect(clippy::print_stderr, reason = "a benchmark reports on stderr")]
fn report(line: &str) {
    eprintln!("{line}");
}

criterion_group!(benches, stages, write);
criterion_main!(benches);
