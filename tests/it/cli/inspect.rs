//! `inspect` on sound files, broken ones and those of other tools.

use super::{Place, cat};
use std::fs;
use std::path::Path;
use vit_onnx::ir::DType;
use vit_onnx::onnx::{External, Graph, Initializer, Model, Node, ValueInfo, write};

/// Writes a model of opset 17.
fn save(graph: Graph, path: &Path, external: External) {
    let model = Model { ir_version: 8, opset_imports: vec![(String::new(), 17)], graph, ..Model::default() };
    write(&model, path, external, |_, _| Ok::<(), std::io::Error>(())).expect("a file");
}

#[test]
fn external_data_stays_in_its_folder() {
    let p = Place::new();
    fs::create_dir(p.path("in")).expect("a folder");
    p.tiny("in/m.onnx", &["--external-data"]);
    fs::copy(p.path("in/m.onnx.data"), p.path("xx.on.data")).expect("a copy");
    let mut bytes = fs::read(p.path("in/m.onnx")).expect("a file");
    let (from, to) = (b"m.onnx.data", b"../x.n.data");
    let mut at = 0;
    while let Some(i) = bytes[at..].windows(from.len()).position(|w| w == from) {
        bytes[at + i..at + i + to.len()].copy_from_slice(to);
        at += i + to.len();
    }
    assert!(at > 0, "there is a reference");
    fs::copy(p.path("in/m.onnx.data"), p.path("x.n.data")).expect("a copy");
    p.write("in/evil.onnx", &bytes);
    let cat = cat();
    p.refuses(&["predict", "in/evil.onnx", &cat, "--engine", "interpreter"], 3, &["leads upwards"]);
    for how in [&[][..], &["--json"], &["--text"], &["--dot"]] {
        let args = [&["inspect", "in/evil.onnx"], how].concat();
        p.refuses(&args, 3, &["evil.onnx", "\"../x.n.data\"", "leads upwards"]);
        assert_eq!(p.vit(&args).out, "");
    }
    // Inspecting needs no tensors.
    let data = fs::read(p.path("in/m.onnx.data")).expect("a file");
    fs::remove_file(p.path("in/m.onnx.data")).expect("a file");
    let d = p.vit(&["inspect", "in/m.onnx"]).says(0, &["warning", "m.onnx.data", "keep this file beside the model"]);
    assert_eq!(d.err.lines().count(), 1, "one line for each file: {}", d.err);
    let json: serde_json::Value = serde_json::from_str(&p.vit(&["inspect", "in/m.onnx", "--json"]).out).expect("JSON");
    assert_eq!(json["problems"].as_array().map(Vec::len), Some(1), "{json}");
    assert!(d.out.contains("parameters  9.4 k") && d.out.contains("transformer.layers.0"), "{}", d.out);
    p.refuses(&["predict", "in/m.onnx", &cat, "--engine", "interpreter"], 3, &["m.onnx.data"]);
    p.write("in/m.onnx.data", &data[..data.len() / 2]);
    p.refuses(&["inspect", "in/m.onnx"], 3, &["m.onnx.data", "truncated"]);
    p.write("in/m.onnx.data", &data);
    assert_eq!(p.vit(&["inspect", "in/m.onnx"]).says(0, &[]).err, "");
}

/// Each way in which the external data of a model can be wrong.
#[test]
fn external_data_that_cannot_be_the_models_is_refused() {
    let p = Place::new();
    let info = |n: &str| ValueInfo::new(n, DType::F32, [4096.into()]);
    let graph = Graph {
        name: "g".into(),
        nodes: vec![Node::new("Add", "/Add").inputs(["x", "bias"]).outputs(["y"])],
        inputs: vec![info("x")],
        outputs: vec![info("y")],
        initializers: vec![Initializer::inline("bias", DType::F32, &[4096], vec![0; 4 * 4096])],
        value_info: Vec::new(),
    };
    fs::create_dir(p.path("in")).expect("a folder");
    save(graph, &p.path("in/abcd.onnx"), External::Always);
    let whole = fs::read(p.path("in/abcd.onnx")).expect("a file");
    p.vit(&["inspect", "in/abcd.onnx"]).says(0, &[]);
    fs::copy(p.path("in/abcd.onnx.data"), p.path("out.data")).expect("a copy");
    // Locations of one length, so that only the name changes in the file.
    let from = b"abcd.onnx.data";
    let at = whole.windows(from.len()).position(|w| w == from).expect("a reference");
    #[cfg(unix)]
    std::os::unix::fs::symlink("../out.data", p.path("in/link.onnx.data")).expect("a link");
    fs::create_dir(p.path("in/fold.onnx.data")).expect("a folder");
    for (location, what) in [
        ("//////out.data", "is an absolute path"),
        ("x/../../o.data", "leads upwards"),
        #[cfg(unix)]
        ("link.onnx.data", "is a symbolic link that leaves the folder"),
        ("fold.onnx.data", "is a directory"),
    ] {
        let mut bytes = whole.clone();
        bytes[at..at + from.len()].copy_from_slice(location.as_bytes());
        p.write("in/evil.onnx", &bytes);
        p.refuses(&["inspect", "in/evil.onnx"], 3, &["evil.onnx", "`bias`", what]);
    }
}

/// The checker's findings are warnings: the rest of the file can still be looked at.
#[test]
fn inspect_warns_of_what_the_checker_finds() {
    let p = Place::new();
    let info = |n: &str| ValueInfo::new(n, DType::F32, [4.into()]);
    let nodes =
        (0..30).map(|i| Node::new("Relu", format!("/{i}")).inputs([format!("h{i}")]).outputs([format!("h{i}")]));
    let graph = Graph {
        name: "g".into(),
        nodes: nodes.collect(),
        inputs: vec![info("h0")],
        outputs: vec![info("z")],
        ..Graph::default()
    };
    save(graph, &p.path("b.onnx"), External::Never);
    let d = p.vit(&["inspect", "b.onnx"]).says(0, &["warning: value `h0` is defined twice", "11 further problems"]);
    assert!(d.out.contains("Relu 30"), "{}", d.out);
    let json: serde_json::Value = serde_json::from_str(&p.vit(&["inspect", "b.onnx", "--json"]).out).expect("JSON");
    assert_eq!(json["problems"].as_array().map(Vec::len), Some(31), "{json}");
}

/// A model of another tool, with an op that is not known here.
#[test]
fn foreign_files_are_inspected_as_far_as_possible() {
    let p = Place::new();
    let info = |n: &str| ValueInfo::new(n, DType::F32, ["n".into(), 4.into()]);
    let graph = Graph {
        name: "g".into(),
        nodes: vec![
            Node::new("Celu", "/act/Celu").inputs(["x"]).outputs(["h"]),
            Node::new("Add", "/head/Add").inputs(["h", "head.bias"]).outputs(["y"]),
        ],
        inputs: vec![info("x")],
        outputs: vec![info("y")],
        initializers: vec![Initializer::inline("head.bias", DType::F32, &[4], vec![0; 16])],
        value_info: Vec::new(),
    };
    save(graph, &p.path("f.onnx"), External::Never);
    let d = p.vit(&["inspect", "f.onnx"]).says(0, &[]);
    assert!(d.out.contains("Add 1, Celu 1") && d.out.contains("the op Celu is not supported"), "{}", d.out);
    let json: serde_json::Value = serde_json::from_str(&p.vit(&["inspect", "f.onnx", "--json"]).out).expect("JSON");
    assert_eq!((json["parameters"].as_u64(), json["flops"].as_u64()), (Some(4), None));
    assert_eq!((&json["problems"], &json["cut_points"]), (&serde_json::json!([]), &serde_json::Value::Null));
    p.refuses(&["inspect", "f.onnx", "--text"], 3, &["Celu"]);
    p.refuses(&["inspect", "f.onnx", "--dot"], 3, &["Celu"]);
    p.refuses(&["predict", "f.onnx", &cat(), "--engine", "interpreter"], 3, &["Celu"]);
    p.refuses(&["build", "--config", "f.onnx"], 3, &["does not say which model"]);
}
