//! Files of this room against a second reader, generated from the official schema.

mod broken;

use super::*;
use crate::files::Sink;
use crate::ir::DType;
use bytes::Bytes;
use onnx_protobuf as official;
use onnx_protobuf::Message as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

const NEVER: External = External::Never;
const ALWAYS: External = External::Always;

fn folder() -> (TempDir, PathBuf) {
    let dir = tempdir().expect("a temporary folder");
    let path = dir.path().join("m.onnx");
    (dir, path)
}

fn names(dir: &TempDir) -> Vec<String> {
    let entries = dir.path().read_dir().expect("the folder is there");
    let mut names: Vec<_> = entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Every kind of field there is, with three tensors large enough to go outside.
fn model() -> Model {
    Model {
        ir_version: 8,
        opset_imports: vec![(String::new(), 17), ("com.microsoft".to_owned(), 1)],
        producer_name: "vit-onnx".to_owned(),
        producer_version: "0.1".to_owned(),
        doc: "a doc".to_owned(),
        metadata: vec![("z".to_owned(), "last letter first".to_owned()), ("a".to_owned(), String::new())],
        graph: Graph {
            name: "g".to_owned(),
            nodes: vec![
                Node::new("Reshape", "r").inputs(["x", "shape"]).outputs(["flat"]).attribute("allowzero", 0i64),
                Node::new("Odd", "o")
                    .domain("com.microsoft")
                    .inputs(["flat", "", "w"])
                    .outputs(["y", ""])
                    .attribute("f", -0.0f32)
                    .attribute("s", "text")
                    .attribute("empty", "")
                    .attribute("ints", vec![1i64, -1])
                    .attribute("floats", vec![0.5f32, f32::INFINITY])
                    .attribute("strings", vec!["a".to_owned(), String::new()])
                    .attribute("t", Initializer::int64s("", &[3])),
            ],
            inputs: vec![ValueInfo::new("x", DType::F32, ["batch".into(), 3.into(), DimValue::Unknown])],
            outputs: vec![ValueInfo { name: "y".to_owned(), elem: DType::F32.into(), shape: None }],
            initializers: vec![
                Initializer::deferred("w", DType::F32, &[300, 5]),
                Initializer::int64s("shape", &[0, -1]),
                Initializer::inline("b", DType::U8, &[5000], vec![9; 5000]),
                Initializer::inline("none", DType::F32, &[0, 4], vec![]),
                Initializer::deferred("small", DType::Bool, &[7]),
                Initializer::deferred("last", DType::F64, &[128]),
            ],
            value_info: vec![ValueInfo::new("flat", DType::F32, [])],
        },
        not_carried: vec![],
    }
}

/// The bytes `supply` gives for a deferred tensor.
fn bytes(t: &Initializer) -> Vec<u8> {
    let n = t.byte_len().expect("sound extents");
    (0..n).map(|i| (i as u8).wrapping_mul(31).wrapping_add(t.name.len() as u8)).collect()
}

fn supply(t: &Initializer, out: &mut dyn Sink) -> io::Result<()> {
    bytes(t).chunks(1000).try_for_each(|piece| out.write_all(piece))
}

/// `model` as it is read back: with all bytes inline.
fn filled() -> Model {
    let mut model = model();
    for t in &mut model.graph.initializers {
        if t.data == TensorData::Deferred {
            t.data = TensorData::Inline(bytes(t).into());
        }
    }
    model
}

fn inline_bytes(t: &Initializer) -> &Bytes {
    if let TensorData::Inline(data) = &t.data { data } else { panic!("{} is not inline", t.name) }
}

/// An initializer of every type, by the second reader, and read back.
#[test]
fn initializers_of_every_type_are_what_they_say() {
    let (_dir, path) = folder();
    let mut model = model();
    let tensor = |d: DType| crate::ir::Tensor::new(&[3], vec![1.0, 0.0, 100.0]).cast(d);
    model.graph.initializers =
        DType::ALL.map(|d| Initializer::inline(d.name(), d, &[3], tensor(d).to_le_bytes())).to_vec();
    write(&model, &path, NEVER, supply).expect("written");
    let theirs = official::ModelProto::parse_from_bytes(&fs::read(&path).expect("a file")).expect("a model");
    for (d, t) in DType::ALL.into_iter().zip(&theirs.graph.initializer) {
        let by_name =
            <official::tensor_proto::DataType as protobuf::Enum>::from_i32(t.data_type).expect("a number of ONNX's");
        assert_eq!((t.name.as_str(), &t.raw_data), (d.name(), &tensor(d).to_le_bytes()));
        let bits: String = format!("{by_name:?}").chars().filter(char::is_ascii_digit).collect();
        assert!(bits.is_empty() || bits == (8 * d.size()).to_string(), "{d} is {by_name:?}");
    }
    assert_eq!(read(&path).expect("read back").graph.initializers, model.graph.initializers);
}

/// Compares an official tensor with ours; external bytes come from the file the entries name.
fn same_tensor(theirs: &official::TensorProto, ours: &Initializer, dir: &Path) -> bool {
    assert_eq!((theirs.name.as_str(), theirs.data_type), (ours.name.as_str(), ours.elem.number()));
    assert_eq!(theirs.dims, ours.dims);
    let ours = inline_bytes(ours);
    let external = theirs.data_location.value() == 1;
    if external {
        let get = |key: &str| &theirs.external_data.iter().find(|e| e.key == key).expect("an entry").value;
        let number = |key: &str| get(key).parse::<usize>().expect("a number");
        let (offset, length) = (number("offset"), number("length"));
        assert_eq!(offset % 4096, 0);
        let file = fs::read(dir.join(get("location"))).expect("the data file is beside the model");
        assert_eq!(&file[offset..offset + length], &ours[..]);
        assert!(theirs.raw_data.is_empty());
    } else {
        assert_eq!(theirs.raw_data, ours[..]);
        assert!(theirs.external_data.is_empty());
    }
    external
}

fn same_value(theirs: &official::ValueInfoProto, ours: &ValueInfo) {
    assert_eq!(theirs.name, ours.name);
    let tensor = theirs.type_.tensor_type();
    assert_eq!(tensor.elem_type, ours.elem.number());
    assert_eq!(tensor.shape.is_some(), ours.shape.is_some());
    let dim = |d: &official::tensor_shape_proto::Dimension| match &d.value {
        Some(official::tensor_shape_proto::dimension::Value::DimValue(n)) => DimValue::Known(*n),
        Some(official::tensor_shape_proto::dimension::Value::DimParam(s)) => DimValue::Symbol(s.clone()),
        _ => DimValue::Unknown,
    };
    let dims: Vec<_> = tensor.shape.dim.iter().map(dim).collect();
    assert_eq!(&dims, ours.shape.as_ref().unwrap_or(&vec![]));
}

fn same_attribute(theirs: &official::AttributeProto, ours: &Attribute, dir: &Path) {
    let text = |s: &[u8]| String::from_utf8(s.to_vec()).expect("UTF-8");
    let kind = match ours {
        Attribute::Float(v) => {
            assert_eq!(theirs.f.to_bits(), v.to_bits());
            1
        }
        Attribute::Int(v) => {
            assert_eq!(theirs.i, *v);
            2
        }
        Attribute::String(v) => {
            assert_eq!(text(&theirs.s), *v);
            3
        }
        Attribute::Tensor(v) => {
            assert!(!same_tensor(&theirs.t, v, dir));
            4
        }
        Attribute::Floats(v) => {
            assert_eq!(theirs.floats, *v);
            6
        }
        Attribute::Ints(v) => {
            assert_eq!(theirs.ints, *v);
            7
        }
        Attribute::Strings(v) => {
            assert_eq!(theirs.strings.iter().map(|s| text(s)).collect::<Vec<_>>(), *v);
            8
        }
        Attribute::Unsupported(kind) => panic!("{kind}"),
    };
    assert_eq!(theirs.type_.value(), kind);
}

/// Reads the file with the official schema and compares field by field; gives the names of external tensors.
fn compare(path: &Path, ours: &Model) -> Vec<String> {
    let dir = path.parent().expect("a folder");
    let file = fs::read(path).expect("the model is there");
    let theirs = official::ModelProto::parse_from_bytes(&file).expect("the official schema reads it");
    assert_eq!(theirs.ir_version, ours.ir_version);
    assert_eq!(theirs.producer_name, ours.producer_name);
    assert_eq!(theirs.producer_version, ours.producer_version);
    assert_eq!(theirs.doc_string, ours.doc);
    let opsets: Vec<_> = theirs.opset_import.iter().map(|o| (o.domain.clone(), o.version)).collect();
    assert_eq!(opsets, ours.opset_imports);
    let metadata: Vec<_> = theirs.metadata_props.iter().map(|e| (e.key.clone(), e.value.clone())).collect();
    assert_eq!(metadata, ours.metadata);

    let (graph, expected) = (&theirs.graph, &ours.graph);
    assert_eq!(graph.name, expected.name);
    assert_eq!(graph.node.len(), expected.nodes.len());
    for (node, ours) in graph.node.iter().zip(&expected.nodes) {
        assert_eq!((&node.op_type, &node.domain, &node.name), (&ours.op_type, &ours.domain, &ours.name));
        assert_eq!((&node.input, &node.output), (&ours.inputs, &ours.outputs));
        assert_eq!(node.doc_string, ours.doc);
        assert_eq!(node.attribute.len(), ours.attributes.len());
        for (attribute, (name, value)) in node.attribute.iter().zip(&ours.attributes) {
            assert_eq!(attribute.name, *name);
            same_attribute(attribute, value, dir);
        }
    }
    for (theirs, ours) in [
        (&graph.input, &expected.inputs),
        (&graph.output, &expected.outputs),
        (&graph.value_info, &expected.value_info),
    ] {
        assert_eq!(theirs.len(), ours.len());
        theirs.iter().zip(ours).for_each(|(theirs, ours)| same_value(theirs, ours));
    }
    assert_eq!(graph.initializer.len(), expected.initializers.len());
    let tensors = graph.initializer.iter().zip(&expected.initializers);
    tensors.filter(|(theirs, ours)| same_tensor(theirs, ours, dir)).map(|(theirs, _)| theirs.name.clone()).collect()
}

#[test]
fn inline_is_what_the_official_schema_reads() {
    let (dir, path) = folder();
    let written = write(&model(), &path, NEVER, supply).expect("a sound model");
    assert_eq!(names(&dir), ["m.onnx"]);
    #[cfg(unix)]
    {
        let mode = |p: &Path| std::os::unix::fs::PermissionsExt::mode(&fs::metadata(p).expect("a file").permissions());
        let ordinary = dir.path().join("ordinary");
        fs::write(&ordinary, "").expect("a file");
        assert_eq!(mode(&path), mode(&ordinary), "a model is as readable as any file");
    }
    assert_eq!(written, Written { model_bytes: fs::metadata(&path).expect("a file").len(), data: None });
    assert_eq!(compare(&path, &filled()), <[&str; 0]>::default());
    assert_eq!(read(&path).expect("own file"), filled());
}

#[test]
fn external_is_what_the_official_schema_reads() {
    let (dir, path) = folder();
    let written = write(&model(), &path, ALWAYS, supply).expect("a sound model");
    let data = dir.path().join("m.onnx.data");
    assert_eq!(names(&dir), ["m.onnx", "m.onnx.data"]);
    assert_eq!(written.data, Some((data.clone(), fs::metadata(&data).expect("a file").len())));
    assert_eq!(compare(&path, &filled()), ["w", "b", "last"], "only the large ones are outside");
    assert_eq!(read(&path).expect("own file"), filled());
    fs::remove_file(data).expect("the file is there");
    let e = read(&path).expect_err("the data are gone").to_string();
    assert!(e.contains("m.onnx.data") && e.contains("keep this file beside the model"), "{e}");
    let model = read_without_data(&path).expect("the model is there");
    assert_eq!(
        model.graph.initializers[2].data,
        TensorData::External { location: "m.onnx.data".to_owned(), offset: 8192, length: Some(5000) }
    );
    let e = write(&model, &path, NEVER, supply).expect_err("references are no bytes");
    assert!(matches!(e, WriteError::Encode(EncodeError::Unresolved { .. })), "{e}");
}

#[test]
fn the_same_model_gives_the_same_bytes() {
    for external in [NEVER, ALWAYS] {
        let ((_a, a), (_b, b)) = (folder(), folder());
        write(&model(), &a, external, supply).expect("a sound model");
        write(&read(&a).expect("own file"), &b, external, supply).expect("a sound model");
        assert_eq!(fs::read(&a).expect("a file"), fs::read(&b).expect("a file"));
        let data = |p: &Path| fs::read(p.with_file_name("m.onnx.data")).ok();
        assert_eq!(data(&a), data(&b));
    }
}

#[test]
fn tensors_are_slices_of_the_mapped_file() {
    let (_dir, path) = folder();
    write(&model(), &path, NEVER, supply).expect("a sound model");
    let file = Bytes::from(fs::read(&path).expect("a file"));
    let model = decode::decode(file.clone()).expect("own file");
    let (start, end) = (file.as_ptr() as usize, file.as_ptr() as usize + file.len());
    for t in model.graph.initializers.iter().filter(|t| t.name != "none") {
        let at = inline_bytes(t).as_ptr() as usize;
        assert!(start <= at && at < end, "{} was copied", t.name);
    }
}

#[test]
fn an_existing_file_is_replaced_and_a_stale_data_file_left_alone() {
    let (dir, path) = folder();
    write(&model(), &path, ALWAYS, supply).expect("a sound model");
    let data = dir.path().join("m.onnx.data");
    let before = fs::read(&data).expect("a file");
    // The source of the bytes is the file that is replaced.
    write(&read(&path).expect("own file"), &path, NEVER, supply).expect("a sound model");
    assert_eq!(fs::read(&data).expect("a file"), before);
    assert_eq!(compare(&path, &filled()), <[&str; 0]>::default());
}
