//! The contract of engines, held by ONNX Runtime and by the interpreter, and what only ONNX Runtime has.

use crate::support::engines::ort;
use crate::support::models::{floats, node, port, write};
use ndarray::{ArrayD, IxDyn};
use std::path::{Path, PathBuf};
use tempfile::tempdir;
use vit_onnx::ir::{DType, Tensor};
use vit_onnx::onnx::ElemType;
use vit_onnx::runtime::ort::OrtEngine;
use vit_onnx::runtime::{Engine, ErrorKind, Interpreter, Provider, SessionOptions};

fn engines() -> [Box<dyn Engine>; 2] {
    [Box::new(ort()), Box::new(Interpreter)]
}

/// `y = x w + b` with x of `[batch, 2]`.
fn affine(folder: &Path) -> PathBuf {
    let nodes = vec![node("MatMul", &["x", "w"], "xw"), node("Add", &["xw", "b"], "y")];
    let weights = vec![floats("w", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), floats("b", &[3], &[0.5, 0.0, -0.5])];
    let (x, y) = (port("x", ElemType::Float, &["batch", "2"]), port("y", ElemType::Float, &["batch", "3"]));
    write(folder, nodes, weights, vec![x], vec![y])
}

fn identity(folder: &Path, elem: ElemType, shape: &[&str]) -> PathBuf {
    write(
        folder,
        vec![node("Identity", &["x"], "y")],
        vec![],
        vec![port("x", elem, shape)],
        vec![port("y", elem, shape)],
    )
}

#[test]
fn a_model_declares_its_ports_and_computes() {
    let dir = tempdir().expect("a temporary folder");
    let model = affine(dir.path());
    let options = SessionOptions { threads: Some(1), providers: vec![Provider::Cpu], ..SessionOptions::default() };
    for engine in engines() {
        let mut session = engine.load(&model, &options).expect("a model");
        assert_eq!(session.inputs()[0].signature(), "f32[batch, 2]");
        assert_eq!(session.outputs()[0].signature(), "f32[batch, 3]");
        // Column-major elements: the same matrix must come out of another memory order.
        let columns =
            ArrayD::from_shape_vec(IxDyn(&[2, 2]), vec![1.0f32, 0.0, 2.0, -1.0]).expect("four").reversed_axes();
        let x = Tensor::F32(columns.into_shared());
        assert_eq!(x, Tensor::new(&[2, 2], vec![1.0f32, 2.0, 0.0, -1.0]));
        let y = session.run(&[("x".to_owned(), x)]).expect("a result");
        let expected = Tensor::new(&[2, 3], vec![9.5f32, 12.0, 14.5, -3.5, -5.0, -6.5]);
        assert_eq!(y, [("y".to_owned(), expected)]);
        let none = session.run(&[("x".to_owned(), Tensor::zeros(DType::F32, &[0, 2]))]).expect("an empty result");
        assert_eq!(none[0].1.shape(), [0, 3]);
    }
}

#[test]
fn every_element_type_passes_through() {
    let values = [
        (ElemType::Float, Tensor::new(&[2], vec![1.5f32, f32::INFINITY])),
        (ElemType::Double, Tensor::new(&[2], vec![1e300f64, -0.0])),
        (ElemType::Int64, Tensor::new(&[2], vec![i64::MIN, i64::MAX])),
        (ElemType::Bool, Tensor::new(&[2], vec![true, false])),
        (ElemType::Float, Tensor::scalar(3.0f32)),
    ];
    for (elem, tensor) in values {
        let dir = tempdir().expect("a temporary folder");
        let model = identity(dir.path(), elem, if tensor.rank() == 0 { &[] } else { &["n"] });
        for engine in engines() {
            let mut session = engine.load(&model, &SessionOptions::default()).expect("a model");
            let y = session.run(&[("x".to_owned(), tensor.clone())]).expect("a result");
            assert_eq!(y[0].1, tensor);
        }
    }
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let dir = tempdir().expect("a temporary folder");
    let model = affine(dir.path());
    for engine in engines() {
        let mut session = engine.load(&model, &SessionOptions::default()).expect("a model");
        let e = session.run(&[("z".to_owned(), Tensor::scalar(1.0f32))]).expect_err("there is no z");
        assert_eq!(e.kind(), ErrorKind::BadFile);
        assert!(e.to_string().contains("missing input `x`") && e.to_string().contains("unknown input `z`"), "{e}");
    }
}

#[test]
fn a_file_that_is_no_model_is_a_bad_file() {
    let dir = tempdir().expect("a temporary folder");
    let text = dir.path().join("text.onnx");
    std::fs::write(&text, "this is not a model").expect("a folder of the test");
    let unsigned = identity(dir.path(), ElemType::Uint16, &["1"]);
    for engine in engines() {
        for path in [&text, dir.path(), &dir.path().join("absent.onnx"), &unsigned] {
            let e = engine.load(path, &SessionOptions::default()).err().expect("no model");
            assert_eq!(e.kind(), ErrorKind::BadFile, "{e}");
            assert!(e.to_string().contains(&path.display().to_string()), "{e}");
        }
    }
    let e = ort().load(&unsigned, &SessionOptions::default()).err().expect("such numbers cannot be passed");
    assert!(e.to_string().contains("`x` has element type"), "{e}");
}

#[test]
fn a_provider_that_is_not_there_is_never_replaced() {
    let dir = tempdir().expect("a temporary folder");
    let model = affine(dir.path());
    let engine = ort();
    let absent = |p: &Provider| !engine.providers().contains(p);
    for provider in Provider::ALL.into_iter().filter(absent) {
        for providers in [vec![provider], vec![Provider::Cpu, provider]] {
            let options = SessionOptions { providers, ..SessionOptions::default() };
            let e = engine.load(&model, &options).err().expect("it is not built in");
            assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
            assert!(e.to_string().contains(provider.name()), "{e}");
        }
    }
}

#[test]
fn a_second_library_cannot_be_loaded() {
    let engine = ort();
    assert!(OrtEngine::open(engine.library()).is_ok());
    let mut other = engine.library().clone();
    other.path = PathBuf::from("/another/libonnxruntime.so");
    assert_eq!(OrtEngine::open(&other).err().map(|e| e.kind()), Some(ErrorKind::Unavailable));
}

#[test]
fn a_profile_records_every_node() {
    let dir = tempdir().expect("a temporary folder");
    let model = affine(dir.path());
    let start = dir.path().join("profile");
    let options = SessionOptions { profile: Some(start.clone()), ..SessionOptions::default() };
    let mut session = ort().load(&model, &options).expect("a model");
    for _ in 0..3 {
        session.run(&[("x".to_owned(), Tensor::zeros(DType::F32, &[1, 2]))]).expect("a result");
    }
    let path = session.end_profile().expect("a profile").expect("one was asked for");
    assert!(path.to_string_lossy().starts_with(&*start.to_string_lossy()), "{}", path.display());
    let events: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).expect("a file")).expect("valid JSON");
    let events = events.as_array().expect("a list of events");
    // The runtime makes one Gemm of the two nodes; releases before 1.20 or so also record fences around it.
    let products = events.iter().filter(|e| {
        e["name"].as_str().is_some_and(|n| n.ends_with("_kernel_time"))
            && e["args"]["op_name"] == "Gemm"
            && e["dur"].is_u64()
    });
    assert_eq!(products.count(), 3, "{events:?}");
    assert_eq!(session.end_profile().expect("it has ended"), None);
    let e = Interpreter.load(&model, &options).err().expect("it writes none");
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
}
