//! Files of this room against a second reader, generated from the official schema, and against files that are broken.

use super::*;
use bytes::Bytes;
use onnx_protobuf as official;
use onnx_protobuf::Message as _;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

const NEVER: WriteOptions = WriteOptions { external: External::Never };
const ALWAYS: WriteOptions = WriteOptions { external: External::Always };

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
            inputs: vec![ValueInfo::new("x", ElemType::Float, ["batch".into(), 3.into(), DimValue::Unknown])],
            outputs: vec![ValueInfo { name: "y".to_owned(), elem: ElemType::Float, shape: None }],
            initializers: vec![
                Initializer::deferred("w", ElemType::Float, &[300, 5]),
                Initializer::int64s("shape", &[0, -1]),
                Initializer::inline("b", ElemType::Uint8, &[5000], vec![9; 5000]),
                Initializer::inline("none", ElemType::Float, &[0, 4], vec![]),
                Initializer::deferred("small", ElemType::Bool, &[7]),
                Initializer::deferred("last", ElemType::Double, &[128]),
            ],
            value_info: vec![ValueInfo::new("flat", ElemType::Float, [])],
        },
        not_carried: vec![],
    }
}

/// The bytes `supply` gives for a deferred tensor.
fn bytes(t: &Initializer) -> Vec<u8> {
    let n = t.byte_len().expect("sound extents");
    (0..n).map(|i| (i as u8).wrapping_mul(31).wrapping_add(t.name.len() as u8)).collect()
}

fn supply(t: &Initializer, out: &mut dyn Write) -> io::Result<()> {
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
    let written = write(&model(), &path, &NEVER, supply).expect("a sound model");
    assert_eq!(names(&dir), ["m.onnx"]);
    assert_eq!(written, Written { model_bytes: fs::metadata(&path).expect("a file").len(), data: None });
    assert_eq!(compare(&path, &filled()), <[&str; 0]>::default());
    assert_eq!(read(&path).expect("own file"), filled());
}

#[test]
fn external_is_what_the_official_schema_reads() {
    let (dir, path) = folder();
    let written = write(&model(), &path, &ALWAYS, supply).expect("a sound model");
    let data = dir.path().join("m.onnx.data");
    assert_eq!(names(&dir), ["m.onnx", "m.onnx.data"]);
    assert_eq!(written.data, Some((data.clone(), fs::metadata(&data).expect("a file").len())));
    assert_eq!(compare(&path, &filled()), ["w", "b", "last"], "only the large ones are outside");
    assert_eq!(read(&path).expect("own file"), filled());
    fs::remove_file(data).expect("the file is there");
    let e = read(&path).expect_err("the data are gone").to_string();
    assert!(e.contains("m.onnx.data") && e.contains("travels with the model"), "{e}");
    let model = read_without_data(&path).expect("the model is there");
    assert_eq!(
        model.graph.initializers[2].data,
        TensorData::External { location: "m.onnx.data".to_owned(), offset: 8192, length: Some(5000) }
    );
    let e = write(&model, &path, &NEVER, supply).expect_err("references are no bytes");
    assert!(matches!(e, WriteError::Encode(EncodeError::Unresolved { .. })), "{e}");
}

#[test]
fn the_same_model_gives_the_same_bytes() {
    for options in [NEVER, ALWAYS] {
        let ((_a, a), (_b, b)) = (folder(), folder());
        write(&model(), &a, &options, supply).expect("a sound model");
        write(&read(&a).expect("own file"), &b, &options, supply).expect("a sound model");
        assert_eq!(fs::read(&a).expect("a file"), fs::read(&b).expect("a file"));
        let data = |p: &Path| fs::read(p.with_file_name("m.onnx.data")).ok();
        assert_eq!(data(&a), data(&b));
    }
}

#[test]
fn tensors_are_slices_of_the_mapped_file() {
    let (_dir, path) = folder();
    write(&model(), &path, &NEVER, supply).expect("a sound model");
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
    write(&model(), &path, &ALWAYS, supply).expect("a sound model");
    let data = dir.path().join("m.onnx.data");
    let before = fs::read(&data).expect("a file");
    // The source of the bytes is the file that is replaced.
    write(&read(&path).expect("own file"), &path, &NEVER, supply).expect("a sound model");
    assert_eq!(fs::read(&data).expect("a file"), before);
    assert_eq!(compare(&path, &filled()), <[&str; 0]>::default());
}

#[test]
fn failures_leave_nothing_behind() {
    let (dir, path) = folder();
    for options in [NEVER, ALWAYS] {
        let short = |_: &Initializer, out: &mut dyn Write| out.write_all(&[1, 2]);
        let e = write(&model(), &path, &options, short).expect_err("too few bytes");
        assert!(matches!(&e, WriteError::Size { name, expected: 6000, found: 2 } if name == "w"), "{e}");
        let long = |_: &Initializer, out: &mut dyn Write| out.write_all(&[0; 6001]);
        let e = write(&model(), &path, &options, long).expect_err("too many bytes");
        assert!(matches!(&e, WriteError::Size { name, expected: 6000, found: 6001 } if name == "w"), "{e}");
        let hidden = |_: &Initializer, out: &mut dyn Write| {
            let _ = out.write_all(&[0; 9000]);
            Ok::<_, io::Error>(())
        };
        let e = write(&model(), &path, &options, hidden).expect_err("a swallowed error");
        assert!(matches!(e, WriteError::Size { .. }), "{e}");
        let e = write(&model(), &path, &options, |_, _| Err("no such key")).expect_err("no bytes");
        assert_eq!(e.to_string(), "cannot supply the bytes of `w`: no such key");
    }
    assert_eq!(names(&dir), <[&str; 0]>::default());
    fs::write(&path, "old").expect("a file");
    write(&model(), &path, &ALWAYS, |_, _| Err("no")).expect_err("no bytes");
    assert_eq!(fs::read(&path).expect("a file"), b"old");
    assert_eq!(names(&dir), ["m.onnx"]);
}

#[test]
fn places_that_cannot_be_written() {
    let (dir, _) = folder();
    let e = write(&model(), dir.path(), &NEVER, supply).expect_err("a folder");
    assert!(e.to_string().contains("a folder stands there"), "{e}");
    let path = dir.path().join("absent/m.onnx");
    let e = write(&model(), &path, &NEVER, supply).expect_err("no folder");
    assert!(matches!(&e, WriteError::Io { path: p, .. } if *p == path), "{e}");
    assert!(matches!(write(&model(), Path::new("/"), &NEVER, supply), Err(WriteError::Path { .. })));
}

#[test]
fn what_a_file_cannot_say_is_refused() {
    let (dir, path) = folder();
    let fails = |change: &dyn Fn(&mut Model)| {
        let mut model = model();
        change(&mut model);
        write(&model, &path, &NEVER, supply).expect_err("must be refused").to_string()
    };
    let huge = Initializer::deferred("huge", ElemType::Float, &[1 << 20, 1 << 10]);
    assert!(fails(&|m| m.graph.initializers.push(huge.clone())).contains("external data"));
    let lie = Initializer::deferred("lie", ElemType::Float, &[1 << 60]);
    assert!(fails(&|m| m.graph.initializers.extend([lie.clone(), lie.clone()])).contains("lie"));
    let giant = Initializer::deferred("giant", ElemType::Uint8, &[1 << 60]);
    assert!(fails(&|m| m.graph.initializers.extend(vec![giant.clone(); 5])).contains("more than one file"));
    assert!(fails(&|m| m.graph.initializers[0].dims[0] = -1).contains("`w`"));
    let five = Initializer::inline("five", ElemType::Float, &[5], vec![0; 4]);
    assert!(fails(&|m| m.graph.initializers.push(five.clone())).contains("takes 20 bytes, but has 4"));
    let subgraph = ("then".to_owned(), Attribute::Unsupported("a subgraph".to_owned()));
    assert!(fails(&|m| m.graph.nodes[0].attributes.push(subgraph.clone())).contains("`then` is a subgraph"));
    let deferred = ("t".to_owned(), Attribute::Tensor(huge.clone()));
    assert!(fails(&|m| m.graph.nodes[0].attributes.push(deferred.clone())).contains("no bytes"));
    assert!(fails(&|m| m.not_carried.push("2 functions".to_owned())).contains("2 functions"));
    assert_eq!(names(&dir), <[&str; 0]>::default());
}

#[test]
fn cut_anywhere_it_is_not_a_model() {
    let (_dir, path) = folder();
    write(&model(), &path, &NEVER, supply).expect("a sound model");
    let file = fs::read(&path).expect("a file");
    for end in 0..file.len() {
        assert!(decode::decode(Bytes::copy_from_slice(&file[..end])).is_err(), "cut at {end} of {}", file.len());
    }
}

#[test]
fn no_changed_byte_makes_reading_panic() {
    let (_dir, path) = folder();
    write(&model(), &path, &ALWAYS, supply).expect("a sound model");
    let file = fs::read(&path).expect("a file");
    for at in 0..file.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff, file[at] ^ 1, file[at] ^ 0x40] {
            let mut changed = file.clone();
            changed[at] = value;
            if fs::write(&path, changed).is_ok()
                && let Ok(model) = read(&path)
            {
                check(&model);
                let _ = model.to_string();
            }
        }
    }
}

#[test]
fn what_is_no_model_is_refused() {
    let (dir, path) = folder();
    let message = |p: &Path| read(p).expect_err("not a model").to_string();
    assert!(message(&path).contains("m.onnx"));
    assert!(message(dir.path()).contains("is a directory"));
    fs::write(&path, "").expect("a file");
    assert!(message(&path).contains("there is no graph in it"));
    fs::write(&path, "\u{8}\0\0\0\0\0\0\0{\"__metadata__\":{}}").expect("a file");
    assert!(message(&path).contains("not an ONNX model"));
    fs::write(&path, [0x3a, 3, 0x12, 1, 0xff]).expect("a file");
    assert!(message(&path).contains("not an ONNX model"), "names are UTF-8");
}

/// A model of one official tensor named `t`.
fn with_tensor(change: impl Fn(&mut official::TensorProto)) -> Result<Initializer, DecodeError> {
    let mut tensor = official::TensorProto { name: "t".to_owned(), ..Default::default() };
    change(&mut tensor);
    let mut model = official::ModelProto::new();
    model.graph.mut_or_insert_default().initializer.push(tensor);
    let mut model = decode::decode(model.write_to_bytes().expect("memory grows").into())?;
    Ok(model.graph.initializers.remove(0))
}

#[test]
fn typed_fields_become_bytes() {
    let data = |elem: ElemType, n: i64, change: &dyn Fn(&mut official::TensorProto)| {
        let tensor = with_tensor(|t| {
            t.data_type = elem.number();
            t.dims = vec![n];
            change(t);
        });
        inline_bytes(&tensor.expect("as many values as extents ask for")).to_vec()
    };
    assert_eq!(data(ElemType::Float, 1, &|t| t.float_data = vec![1.0]), 1f32.to_le_bytes());
    assert_eq!(data(ElemType::Complex64, 1, &|t| t.float_data = vec![0.0, 1.0])[4..], 1f32.to_le_bytes());
    assert_eq!(data(ElemType::Double, 1, &|t| t.double_data = vec![1.0]), 1f64.to_le_bytes());
    assert_eq!(data(ElemType::Int64, 1, &|t| t.int64_data = vec![-2]), (-2i64).to_le_bytes());
    assert_eq!(data(ElemType::Uint64, 1, &|t| t.uint64_data = vec![u64::MAX]), [255; 8]);
    assert_eq!(data(ElemType::Uint32, 1, &|t| t.uint64_data = vec![7]), [7, 0, 0, 0]);
    assert_eq!(data(ElemType::Int32, 1, &|t| t.int32_data = vec![-1]), [255; 4]);
    assert_eq!(data(ElemType::Float16, 2, &|t| t.int32_data = vec![0x3c00, 1]), [0, 0x3c, 1, 0]);
    assert_eq!(data(ElemType::Int8, 2, &|t| t.int32_data = vec![-1, 1]), [255, 1]);
    assert_eq!(data(ElemType::Bool, 2, &|t| t.int32_data = vec![1, 0]), [1, 0]);
    assert_eq!(data(ElemType::Int4, 3, &|t| t.int32_data = vec![0x21, 0x03]), [0x21, 0x03]);
    let strings = with_tensor(|t| (t.data_type, t.dims, t.string_data) = (8, vec![1], vec![b"a".to_vec()]));
    assert_eq!(strings.expect("a string").data, TensorData::Strings(vec![Bytes::from_static(b"a")]));
}

#[test]
fn tensors_that_lie_are_refused() {
    let lies = |dims: &[i64], raw: &[u8]| {
        with_tensor(|t| (t.data_type, t.dims, t.raw_data) = (1, dims.to_vec(), raw.to_vec()))
            .expect_err("a lie")
            .to_string()
    };
    assert!(lies(&[2], &[0; 4]).contains("tensor `t` (f32[2]): 8 bytes expected, 4 found"));
    assert!(lies(&[-1], &[0; 4]).contains("negative extents"));
    assert!(lies(&[i64::MAX, i64::MAX], &[0; 4]).contains("overflow"));
    assert!(lies(&[1 << 40], &[]).contains("4398046511104 bytes expected, 0 found"));
    let unknown = with_tensor(|t| (t.data_type, t.dims) = (99, vec![0]));
    assert!(unknown.expect_err("no size").to_string().contains("type99"));
    let segment = with_tensor(|t| t.segment = Some(official::tensor_proto::Segment::new()).into());
    assert!(segment.expect_err("a part").to_string().contains("segment"));
}

#[test]
fn external_data_stay_in_the_folder_of_the_model() {
    let (dir, path) = folder();
    let inner = dir.path().join("inner");
    fs::create_dir_all(inner.join("sub")).expect("a folder");
    fs::write(dir.path().join("secret"), [7; 8]).expect("a file");
    fs::write(inner.join("sub/good"), [1, 2, 3, 4, 5, 6, 7, 8]).expect("a file");
    let path = inner.join(path.file_name().expect("a name"));
    let attempt = |entries: &[(&str, &str)]| {
        let entry = |(key, value): &(&str, &str)| official::StringStringEntryProto {
            key: (*key).to_owned(),
            value: (*value).to_owned(),
            ..Default::default()
        };
        let tensor = official::TensorProto {
            name: "t".to_owned(),
            data_type: 1,
            dims: vec![1],
            data_location: official::tensor_proto::DataLocation::EXTERNAL.into(),
            external_data: entries.iter().map(entry).collect(),
            ..Default::default()
        };
        let mut model = official::ModelProto::new();
        model.graph.mut_or_insert_default().initializer.push(tensor);
        fs::write(&path, model.write_to_bytes().expect("memory grows")).expect("a file");
        let model = read(&path).map_err(|e| e.to_string())?;
        Ok::<_, String>(inline_bytes(&model.graph.initializers[0]).to_vec())
    };
    let fails = |entries: &[(&str, &str)], why: &str| {
        let e = attempt(entries).expect_err(why);
        assert!(e.contains(why) && e.contains("`t`"), "{e}");
    };
    let good = ("location", "sub/good");
    assert_eq!(attempt(&[good, ("offset", "4")]), Ok(vec![5, 6, 7, 8]));
    assert_eq!(attempt(&[good, ("length", "4")]), Ok(vec![1, 2, 3, 4]));
    fails(&[("location", "../secret")], "leads upwards");
    fails(&[("location", "sub/../../secret")], "leads upwards");
    let absolute = dir.path().join("secret");
    fails(&[("location", absolute.to_str().expect("UTF-8"))], "absolute path");
    fails(&[("location", "")], "is empty");
    fails(&[], "no location");
    fails(&[("location", "absent")], "absent");
    fails(&[("location", "sub")], "is a directory");
    fails(&[good, ("length", "8")], "takes 4 bytes");
    fails(&[good, ("offset", "5")], "which has 8");
    fails(&[good, ("offset", "18446744073709551615")], "which has 8");
    fails(&[good, ("offset", "-1")], "no number");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("../secret", inner.join("link")).expect("a link");
        fails(&[("location", "link")], "symbolic link");
        std::os::unix::fs::symlink("sub/good", inner.join("near")).expect("a link");
        assert_eq!(attempt(&[("location", "near")]), Ok(vec![1, 2, 3, 4]));
    }
}

#[test]
fn foreign_parts_are_named() {
    let mut model = official::ModelProto::new();
    model.functions.push(official::FunctionProto { name: "f".to_owned(), ..Default::default() });
    let graph = model.graph.mut_or_insert_default();
    graph.input.push(official::ValueInfoProto { name: "s".to_owned(), ..Default::default() });
    graph.input[0].type_.mut_or_insert_default().mut_sequence_type();
    let mut node = official::NodeProto::new();
    for (name, kind) in [("then", 5), ("types", 14), ("new", 77)] {
        let mut attribute = official::AttributeProto { name: name.to_owned(), ..Default::default() };
        attribute.type_ = protobuf::EnumOrUnknown::from_i32(kind);
        attribute.g.mut_or_insert_default().name = "body".to_owned();
        node.attribute.push(attribute);
    }
    graph.node.push(node);
    let model = decode::decode(model.write_to_bytes().expect("memory grows").into()).expect("a model");
    assert_eq!(model.not_carried, ["1 functions", "1 types of values that are no tensors"]);
    let kinds: Vec<_> = model.graph.nodes[0].attributes.iter().map(|(_, v)| v.to_string()).collect();
    assert_eq!(kinds, ["<a subgraph>", "<a list of types>", "<of the unknown kind 77>"]);
}
