//! Every element type on its way through files and engines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use vit_onnx::ir::{DType, Tensor};
use vit_onnx::onnx::{External, Graph, Initializer, Model, Node, ValueInfo, write};
use vit_onnx::runtime::{Engine, Interpreter, SessionOptions};
use vit_onnx::weights::{self, Stored, Writer};

/// Numbers that all types hold about as well as they can, and those at the edges of some.
fn numbers(dtype: DType) -> Tensor {
    let every = [0.0, 1.0, 2.5, 100.7, 127.0];
    let signed = [-1.5, -100.0];
    let floats = [0.1, 65504.0, 1e6, -1e-7, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    let mut all = every.to_vec();
    if dtype != DType::U8 {
        all.extend(signed);
    }
    if dtype.is_float() {
        all.extend(floats);
    }
    Tensor::new(&[all.len()], all).cast(dtype)
}

fn model(graph: Graph) -> Model {
    Model { ir_version: 10, opset_imports: vec![(String::new(), 21)], graph, ..Model::default() }
}

fn save(dir: &TempDir, graph: Graph) -> PathBuf {
    let path = dir.path().join("m.onnx");
    let none = |_: &Initializer, _: &mut dyn vit_onnx::files::Sink| Ok::<(), std::io::Error>(());
    write(&model(graph), &path, External::Never, none).expect("a file");
    path
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn run(engine: &dyn Engine, model: &Path, x: &Tensor) -> Tensor {
    let mut session = engine.load(model, &SessionOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(session.inputs()[0].dtype, x.dtype(), "{}", engine.name());
    let mut y = session.run(&[("x".to_owned(), x.clone())]).unwrap_or_else(|e| panic!("{e}"));
    y.remove(0).1
}

/// NaN is equal to NaN here.
fn same(a: &Tensor, b: &Tensor) -> bool {
    a.dtype() == b.dtype() && a.max_abs_diff(b) == Some(0.0)
}

/// `y = Cast(x)`.
fn cast(from: DType, to: DType) -> Graph {
    Graph {
        name: "g".into(),
        nodes: vec![Node::new("Cast", "c").inputs(["x"]).outputs(["y"]).attribute("to", i64::from(to.onnx()))],
        inputs: vec![ValueInfo::new("x", from, ["n".into()])],
        outputs: vec![ValueInfo::new("y", to, ["n".into()])],
        ..Graph::default()
    }
}

/// `y = Concat(x, w)` with `w` an initializer of twenty elements, too many to be a constant of the graph.
fn join(w: &Tensor) -> Graph {
    let node = Node::new("Concat", "c").inputs(["x", "w"]).outputs(["y"]).attribute("axis", 0i64);
    Graph {
        name: "g".into(),
        nodes: vec![node],
        inputs: vec![ValueInfo::new("x", w.dtype(), ["n".into()])],
        outputs: vec![ValueInfo::new("y", w.dtype(), ["m".into()])],
        initializers: vec![Initializer::inline("w", w.dtype(), &[w.len() as i64], w.to_le_bytes())],
        ..Graph::default()
    }
}

fn twenty(dtype: DType) -> Tensor {
    Tensor::new(&[20], (0..20).map(|i| f64::from(i) * 6.25).collect()).cast(dtype)
}

#[test]
fn the_interpreter_joins_and_casts_every_type() {
    for dtype in DType::ALL {
        let (dir, x, w) = (folder(), numbers(dtype), twenty(dtype));
        let y = run(&Interpreter, &save(&dir, join(&w)), &x);
        assert_eq!(y.to_le_bytes(), [x.to_le_bytes(), w.to_le_bytes()].concat(), "{dtype}");
        for to in DType::ALL {
            assert!(same(&run(&Interpreter, &save(&dir, cast(dtype, to)), &x), &x.cast(to)), "{dtype} to {to}");
        }
    }
}

/// The same numbers as ONNX Runtime's, where ONNX says what they are: within the range of the target.
#[cfg(feature = "runtime")]
#[test]
fn onnx_runtime_takes_and_gives_every_type() {
    let ort = crate::support::engines::ort();
    for dtype in DType::ALL {
        let (dir, x, w) = (folder(), numbers(dtype), twenty(dtype));
        let y = run(&ort, &save(&dir, join(&w)), &x);
        assert_eq!(y.to_le_bytes(), [x.to_le_bytes(), w.to_le_bytes()].concat(), "{dtype}");
        for to in DType::ALL {
            let x = if to.is_float() { x.clone() } else { numbers(DType::U8).cast(dtype) };
            let model = save(&dir, cast(dtype, to));
            let (theirs, ours) = (run(&ort, &model, &x), run(&Interpreter, &model, &x));
            assert!(same(&theirs, &ours), "{dtype} to {to}: {theirs:?}, not {ours:?}");
        }
    }
}

/// Arithmetic in the types that ONNX Runtime has it for on a CPU.
#[cfg(feature = "runtime")]
#[test]
fn sums_are_onnx_runtimes() {
    let ort = crate::support::engines::ort();
    for dtype in [DType::F64, DType::F32, DType::F16, DType::I64, DType::I32] {
        let (dir, x) = (folder(), numbers(dtype));
        let twice = Graph {
            nodes: vec![
                Node::new("Add", "a").inputs(["x", "x"]).outputs(["h"]),
                Node::new("Mul", "m").inputs(["h", "x"]).outputs(["y"]),
            ],
            ..cast(dtype, dtype)
        };
        let model = save(&dir, twice);
        let (theirs, ours) = (run(&ort, &model, &x), run(&Interpreter, &model, &x));
        assert!(same(&theirs, &ours), "{dtype}: {theirs:?}, not {ours:?}");
    }
}

/// Types that are not computed with are named, by the engine and by the reader.
#[test]
fn other_types_are_named() {
    let dir = folder();
    let graph = Graph {
        inputs: vec![ValueInfo::new("x", vit_onnx::onnx::ElemType::Other(4), ["n".into()])],
        ..cast(DType::F32, DType::F32)
    };
    let e = Interpreter.load(&save(&dir, graph), &SessionOptions::default()).err().expect("u16 is not known");
    assert!(e.to_string().contains("`x` has element type u16"), "{e}");
}

#[test]
fn safetensors_files_hold_every_type() {
    let dir = folder();
    let path = dir.path().join("x.safetensors");
    let all: Vec<(String, Tensor)> = DType::ALL.iter().map(|&d| (d.name().to_owned(), numbers(d))).collect();
    Writer::save(&path, &all, &BTreeMap::new()).expect("a file");
    let bytes = std::fs::read(&path).expect("a file");
    let theirs = safetensors::SafeTensors::deserialize(&bytes).expect("the reference reader reads it");
    let source = weights::open(&path, None).expect("a checkpoint");
    for (i, entry) in source.entries().iter().enumerate() {
        let (_, t) = all.iter().find(|(n, _)| *n == entry.name).expect("one that was written");
        assert_eq!(entry.stored, Stored::Known(t.dtype()));
        assert_eq!(weights::tensor(&*source, i, t.dtype()).expect("readable").to_le_bytes(), t.to_le_bytes());
        let view = theirs.tensor(&entry.name).expect("there");
        assert_eq!((view.dtype().to_string().as_str(), view.data()), (t.dtype().safetensors(), &*t.to_le_bytes()));
        // Integers are no floats, and floats no integers.
        for to in DType::ALL {
            let read = weights::tensor(&*source, i, to);
            if t.dtype().is_float() == to.is_float() {
                assert!(read.is_ok() || !to.is_float(), "{} as {to}: {read:?}", t.dtype());
            } else {
                let e = read.expect_err("no conversion").to_string();
                assert!(e.contains(&format!("is stored as {}, which does not convert to {to}", t.dtype())), "{e}");
            }
        }
    }
}

/// `run` reads and writes them, without converting what the model declares otherwise.
#[test]
fn the_command_line_runs_every_type() {
    let dir = folder();
    let node = |d: &DType| Node::new("Identity", format!("i{d}")).inputs([d.name()]).outputs([format!("y_{d}")]);
    let graph = Graph {
        name: "g".into(),
        nodes: DType::ALL.iter().map(node).collect(),
        inputs: DType::ALL.map(|d| ValueInfo::new(d.name(), d, [format!("n_{d}").as_str().into()])).to_vec(),
        outputs: DType::ALL.map(|d| ValueInfo::new(format!("y_{d}"), d, [format!("n_{d}").as_str().into()])).to_vec(),
        ..Graph::default()
    };
    save(&dir, graph);
    let given = |change: &dyn Fn(DType, Tensor) -> Tensor| {
        let all: Vec<_> = DType::ALL.iter().map(|&d| (d.name().to_owned(), change(d, numbers(d)))).collect();
        Writer::save(&dir.path().join("x.safetensors"), &all, &BTreeMap::new()).expect("a file");
        let args = ["run", "m.onnx", "--input", "x.safetensors", "-o", "y.safetensors", "--engine", "interpreter"];
        let out = Command::new(env!("CARGO_BIN_EXE_vit-onnx")).args(args).current_dir(dir.path()).output();
        let out = out.expect("the program starts");
        (out.status.code(), String::from_utf8(out.stderr).expect("UTF-8"))
    };
    let (code, said) = given(&|_, t| t);
    // NaN is written too, and said.
    assert!(code == Some(3) && said.contains("NaN in output `y_f64` (1 of 14 values), output `y_f32`"), "{said}");
    let source = weights::open(&dir.path().join("y.safetensors"), None).expect("a file");
    assert_eq!(source.entries().len(), DType::ALL.len());
    for (i, entry) in source.entries().iter().enumerate() {
        let d = DType::parse(entry.name.trim_start_matches("y_")).expect("a type");
        let y = weights::tensor(&*source, i, d).expect("readable");
        assert_eq!((entry.stored, y.to_le_bytes()), (Stored::Known(d), numbers(d).to_le_bytes()));
    }
    // A narrower float is widened; nothing is narrowed.
    let (code, said) = given(&|d, t| if d == DType::F32 { numbers(DType::F16) } else { t });
    assert!(code == Some(3) && said.contains("NaN in output") && said.contains("wrote y.safetensors"), "{said}");
    let (code, said) = given(&|d, t| if d == DType::F16 { numbers(DType::F32) } else { t });
    assert!(
        code == Some(3) && said.contains("input `f16`: expected f16[n_f16]") && said.contains("found f32[14]"),
        "{said}"
    );
    let (code, said) = given(&|d, t| if d == DType::I64 { numbers(DType::I32) } else { t });
    assert!(code == Some(3) && said.contains("found i32[7]"), "{said}");
}
