//! Everything that reads a file made elsewhere, on inputs nobody made: no panic, and no more memory
//! than a small multiple of the input.
//!
//! Each target is a function of bytes. `cargo test` runs it on its corpus
//! (`__fuzz__/fuzz__<target>/corpus`), on damaged copies of the corpus and on random bytes, for a
//! second or so; `cargo bolero test` runs the same function guided by coverage, for as long as one
//! likes (CONTRIBUTING.md says how). What a coverage-guided run finds becomes a file of the corpus.

use std::path::{Path, PathBuf};
use vit_onnx::compile::{Options, compile};
use vit_onnx::ir::verify::verify;
use vit_onnx::ops::Program;
use vit_onnx::passes::PassError;
use vit_onnx::target::Target;
use vit_onnx::template::{Model, Source};
use vit_onnx::variants::{self, Declare};
use vit_onnx::{lower, onnx, passes, template, text, weights};

/// Memory any input may take.
const ALLOWANCE: u64 = 64 << 20;
/// Memory a byte of input may take besides: tables of contents are decoded in several forms.
const PER_BYTE: u64 = 1024;

/// Inputs are cut at this many bytes; the default of the engine, 4096, would cut the corpus.
const LONGEST: usize = 1 << 16;

/// Runs a target on one input and judges the memory it took on this thread.
fn within_memory(input: &[u8], target: impl FnOnce(&[u8])) {
    let peak = allocation_counter::measure(|| target(input)).bytes_max;
    let limit = ALLOWANCE + PER_BYTE * input.len() as u64;
    assert!(peak <= limit, "{} bytes of input took {peak} bytes of memory, more than {limit}", input.len());
}

/// Readers take paths: the input as a file, for as long as the target runs.
fn with_file(input: &[u8], name: &str, target: impl FnOnce(&Path)) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join(name);
    std::fs::write(&path, input).expect("written");
    target(&path);
}

/// A model file resolves to a model, or names what is wrong; a small model compiles, or says why not.
fn model_file_target(input: &[u8]) {
    let Ok(toml) = std::str::from_utf8(input) else { return };
    let Ok(model) = Model::resolve(&Source::Text("m.toml", toml), &[]) else { return };
    let table = model.to_table();
    let again = Model::resolve(&Source::Text("again.toml", &table.to_string()), &[]);
    assert_eq!(again.expect("a resolved model resolves").to_table(), table);
    if largest(&toml::Value::Table(table)) <= 64 {
        // What only the type rules of ops refuse is a diagnostic.
        drop(compile(&model.declaration, &Options::default()));
    }
}

fn largest(v: &toml::Value) -> i64 {
    match v {
        toml::Value::Integer(n) => *n,
        toml::Value::Array(a) => a.iter().map(largest).max().unwrap_or(0).max(a.len() as i64),
        toml::Value::Table(t) => t.values().map(largest).max().unwrap_or(0),
        _ => 0,
    }
}

/// A checkpoint opens and gives every tensor it lists, or says what is wrong.
fn checkpoint_target(input: &[u8], name: &str) {
    with_file(input, name, |path| {
        if let Ok(source) = weights::open(path, None) {
            for i in 0..source.entries().len() {
                drop(source.bytes(i));
            }
        }
    });
}

fn safetensors_target(input: &[u8]) {
    checkpoint_target(input, "w.safetensors");
}

fn pytorch_target(input: &[u8]) {
    checkpoint_target(input, "w.pt");
}

/// Operations that passes may do on a graph of the text form before it runs.
const COMPILE_BUDGET: f64 = 1e6;
/// Lines of the longest text that passes are run on: a sweep of rules over it takes some milliseconds.
const LINES: usize = 400;

/// What reads is valid, and prints as text that reads as the same graph; every pass leaves it valid.
fn text_target(input: &[u8]) {
    let Ok(source) = std::str::from_utf8(input) else { return };
    let Ok(graphs) = text::parse_all(source) else { return };
    let short = source.lines().count() <= LINES;
    for g in graphs {
        let program = Program::new(g.clone());
        if short && program.verify().is_ok() {
            let options = passes::Options { compile_budget: Some(COMPILE_BUDGET), ..passes::Options::default() };
            for pass in passes::all() {
                let ctx = passes::Ctx::new(Target::PORTABLE, None, &options);
                match passes::drive(&program, &[*pass], ctx, &mut |_, _| ()) {
                    // An op that the target cannot say.
                    Ok(_) | Err(PassError::Unspellable { .. } | PassError::Opset(_)) => {}
                    Err(e) => panic!("{e}\n{g}"),
                }
            }
        }
        verify(&g).expect("what was read is valid");
        let printed = g.to_string();
        let back = text::parse(&printed).unwrap_or_else(|e| panic!("{e}\n{printed}"));
        assert!(back.to_string() == g.to_string(), "{printed}\nreads back as\n{back}");
    }
}

/// What the reader takes, the checker judges and the raiser understands or refuses; what it raised is valid.
fn onnx_target(input: &[u8]) {
    with_file(input, "m.onnx", |path| {
        let Ok(model) = onnx::read(path) else { return };
        drop(onnx::check(&model));
        drop(model.to_string());
        if let Ok(raised) = lower::raise(&model) {
            verify(&raised.graph).expect("what was raised is valid");
        }
    });
}

#[test]
fn model_file() {
    bolero::check!()
        .with_max_len(LONGEST)
        .with_iterations(200)
        .for_each(|input| within_memory(input, model_file_target));
}

#[test]
fn safetensors_file() {
    bolero::check!()
        .with_max_len(LONGEST)
        .with_iterations(200)
        .for_each(|input| within_memory(input, safetensors_target));
}

#[test]
fn pytorch_file() {
    bolero::check!().with_max_len(LONGEST).with_iterations(200).for_each(|input| within_memory(input, pytorch_target));
}

#[test]
fn text_form() {
    bolero::check!().with_max_len(LONGEST).with_iterations(200).for_each(|input| within_memory(input, text_target));
}

#[test]
fn onnx_file() {
    bolero::check!().with_max_len(LONGEST).with_iterations(200).for_each(|input| within_memory(input, onnx_target));
}

/// The corpus of a target, sorted.
fn corpus(target: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/__fuzz__").join(format!("fuzz__{target}/corpus"));
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut files: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    files.sort();
    files
}

/// Copies of a file with one to four bytes changed, a piece cut out or a piece repeated; the same on every machine.
fn damaged(file: &[u8], seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut below = |n: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % n.max(1)
    };
    let mut out = file.to_vec();
    for _ in 0..=below(4) {
        if out.is_empty() {
            break;
        }
        let (from, kind) = (below(out.len()), below(8));
        let to = (from + 1 + below(16)).min(out.len());
        match kind {
            0 => drop(out.drain(from..to)),
            1 => out.extend_from_within(from..to),
            2 => out.truncate(from),
            3 => out[from] = b"\0\x01\x7f\x80\xff09-"[below(8)],
            _ => out[from] = below(256) as u8,
        }
    }
    out
}

#[test]
fn damaged_files_are_errors_at_worst() {
    let targets: [(&str, fn(&[u8])); 5] = [
        ("model_file", model_file_target),
        ("safetensors_file", safetensors_target),
        ("pytorch_file", pytorch_target),
        ("text_form", text_target),
        ("onnx_file", onnx_target),
    ];
    for (name, target) in targets {
        let files = corpus(name);
        assert!(!files.is_empty(), "{name} has a corpus");
        for path in &files {
            let file = std::fs::read(path).expect("a file of the corpus");
            for seed in 0..1500 / files.len() as u64 {
                let input = damaged(&file, seed);
                let run = std::panic::AssertUnwindSafe(|| within_memory(&input, target));
                if let Err(e) = std::panic::catch_unwind(run) {
                    eprintln!("{name} on {}, damaged with seed {seed}", path.display());
                    std::panic::resume_unwind(e);
                }
            }
        }
    }
}

/// Sizes at the ends of what a model file may say, alone and all at once, are declared or refused.
/// Layer counts are left as they are: memory is in proportion to those.
#[test]
fn extreme_sizes_are_declared_or_refused() {
    let (mut declared, mut wrong) = (0, Vec::new());
    for v in variants::VARIANTS {
        for preset in template::presets(v).iter().filter(|p| p.starts_with("tiny")) {
            let base = Model::resolve(&Source::Preset(v.name, preset), &[]).expect("a shipped preset").to_table();
            let keys: Vec<String> = base.iter().flat_map(|(k, v)| numbers(k, v)).collect();
            let alone = keys.iter().flat_map(|k| EXTREMES.map(|n| vec![(k.clone(), n.into())]));
            let together = EXTREMES.map(|n| keys.iter().map(|k| (k.clone(), n.into())).collect());
            let sets: Vec<Vec<(String, toml::Value)>> = alone.chain(together).collect();
            for (mut set, r) in
                sets.into_iter().flat_map(|s| v.eras.list.iter().map(move |e| (s.clone(), e.releases[1])))
            {
                set.push(("release".to_owned(), r.into()));
                let Ok(m) = Model::resolve(&Source::Preset(v.name, preset), &set) else { continue };
                let declare = |_: &[u8]| drop(m.declaration.declare(&Declare::default()));
                let run = std::panic::AssertUnwindSafe(|| within_memory(&[], declare));
                if std::panic::catch_unwind(run).is_err() {
                    wrong.push(format!("{} {preset} with {set:?}", v.name));
                }
                declared += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(declared > 200, "only {declared} models were declared");
}

const EXTREMES: [i64; 5] = [1, 2, 3, 997, 1 << 20];

/// The paths of the sizes of a value, as `--set` names them.
fn numbers(path: &str, v: &toml::Value) -> Vec<String> {
    match v {
        toml::Value::Integer(_) if ["depth", "stages", "iterations"].iter().any(|r| path.contains(r)) => Vec::new(),
        toml::Value::Integer(_) => vec![path.to_owned()],
        toml::Value::Table(t) => t.iter().flat_map(|(k, v)| numbers(&format!("{path}.{k}"), v)).collect(),
        _ => Vec::new(),
    }
}
