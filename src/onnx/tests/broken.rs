//! Models that cannot be written, files that are no models, and files that lie.

use super::*;
use crate::ir::DType;

#[test]
fn failures_leave_nothing_behind() {
    let (dir, path) = folder();
    for external in [NEVER, ALWAYS] {
        let short = |_: &Initializer, out: &mut dyn Sink| out.write_all(&[1, 2]);
        let e = write(&model(), &path, external, short).expect_err("too few bytes");
        assert!(matches!(&e, WriteError::Size { name, expected: 6000, found: 2 } if name == "w"), "{e}");
        let long = |_: &Initializer, out: &mut dyn Sink| out.write_all(&[0; 6001]);
        let e = write(&model(), &path, external, long).expect_err("too many bytes");
        assert!(matches!(&e, WriteError::Size { name, expected: 6000, found: 6001 } if name == "w"), "{e}");
        let hidden = |_: &Initializer, out: &mut dyn Sink| {
            let _ = out.write_all(&[0; 9000]);
            Ok::<_, io::Error>(())
        };
        let e = write(&model(), &path, external, hidden).expect_err("a swallowed error");
        assert!(matches!(e, WriteError::Size { .. }), "{e}");
        let e = write(&model(), &path, external, |_, _| Err("no such key")).expect_err("no bytes");
        assert_eq!(e.to_string(), "cannot supply the bytes of `w`: no such key");
    }
    assert_eq!(names(&dir), <[&str; 0]>::default());
    fs::write(&path, "old").expect("a file");
    write(&model(), &path, ALWAYS, |_, _| Err("no")).expect_err("no bytes");
    assert_eq!(fs::read(&path).expect("a file"), b"old");
    assert_eq!(names(&dir), ["m.onnx"]);
}

#[test]
fn places_that_cannot_be_written() {
    let (dir, _) = folder();
    let e = write(&model(), dir.path(), NEVER, supply).expect_err("a folder");
    assert!(e.to_string().contains("a folder stands there"), "{e}");
    let path = dir.path().join("absent/m.onnx");
    let e = write(&model(), &path, NEVER, supply).expect_err("no folder");
    assert!(e.to_string().contains("its folder does not exist"), "{e}");
    assert!(matches!(write(&model(), Path::new("/"), NEVER, supply), Err(WriteError::Path { .. })));
}

#[test]
fn what_a_file_cannot_say_is_refused() {
    let (dir, path) = folder();
    let fails = |change: &dyn Fn(&mut Model)| {
        let mut model = model();
        change(&mut model);
        write(&model, &path, NEVER, supply).expect_err("must be refused").to_string()
    };
    let huge = Initializer::deferred("huge", DType::F32, &[1 << 20, 1 << 10]);
    assert!(fails(&|m| m.graph.initializers.push(huge.clone())).contains("external data"));
    let lie = Initializer::deferred("lie", DType::F32, &[1 << 60]);
    assert!(fails(&|m| m.graph.initializers.extend([lie.clone(), lie.clone()])).contains("lie"));
    let giant = Initializer::deferred("giant", DType::U8, &[1 << 60]);
    assert!(fails(&|m| m.graph.initializers.extend(vec![giant.clone(); 5])).contains("more than one file"));
    assert!(fails(&|m| m.graph.initializers[0].dims[0] = -1).contains("`w`"));
    let five = Initializer::inline("five", DType::F32, &[5], vec![0; 4]);
    assert!(fails(&|m| m.graph.initializers.push(five.clone())).contains("20 bytes expected, 4 found"));
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
    write(&model(), &path, NEVER, supply).expect("a sound model");
    let file = fs::read(&path).expect("a file");
    for end in 0..file.len() {
        assert!(decode::decode(Bytes::copy_from_slice(&file[..end])).is_err(), "cut at {end} of {}", file.len());
    }
}

#[test]
fn no_changed_byte_makes_reading_panic() {
    let (_dir, path) = folder();
    write(&model(), &path, ALWAYS, supply).expect("a sound model");
    let file = fs::read(&path).expect("a file");
    for at in 0..file.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff, file[at] ^ 1, file[at] ^ 0x40] {
            let mut changed = file.clone();
            changed[at] = value;
            if let Ok(mut model) = decode::decode(changed.into()) {
                check(&model);
                let _ = model.to_string();
                if value == file[at] ^ 1 {
                    let _ = read::resolve(&mut model, &path);
                }
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
    assert_eq!(data(DType::F32.into(), 1, &|t| t.float_data = vec![1.0]), 1f32.to_le_bytes());
    assert_eq!(data(ElemType::Other(14), 1, &|t| t.float_data = vec![0.0, 1.0])[4..], 1f32.to_le_bytes());
    assert_eq!(data(DType::F64.into(), 1, &|t| t.double_data = vec![1.0]), 1f64.to_le_bytes());
    assert_eq!(data(DType::I64.into(), 1, &|t| t.int64_data = vec![-2]), (-2i64).to_le_bytes());
    assert_eq!(data(ElemType::Other(13), 1, &|t| t.uint64_data = vec![u64::MAX]), [255; 8]);
    assert_eq!(data(ElemType::Other(12), 1, &|t| t.uint64_data = vec![7]), [7, 0, 0, 0]);
    assert_eq!(data(DType::I32.into(), 1, &|t| t.int32_data = vec![-1]), [255; 4]);
    assert_eq!(data(DType::F16.into(), 2, &|t| t.int32_data = vec![0x3c00, 1]), [0, 0x3c, 1, 0]);
    assert_eq!(data(DType::I8.into(), 2, &|t| t.int32_data = vec![-1, 1]), [255, 1]);
    assert_eq!(data(DType::Bool.into(), 2, &|t| t.int32_data = vec![1, 0]), [1, 0]);
    assert_eq!(data(ElemType::Other(22), 3, &|t| t.int32_data = vec![0x21, 0x03]), [0x21, 0x03]);
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
    fails(&[good, ("length", "8")], "require 4");
    fails(&[good, ("offset", "5")], "which has 8");
    fails(&[good, ("offset", "18446744073709551615")], "which has 8");
    fails(&[good, ("offset", "-1")], "not a number");
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
    assert_eq!(model.not_carried, ["1 functions", "1 types of values that are not tensors"]);
    let kinds: Vec<_> = model.graph.nodes[0].attributes.iter().map(|(_, v)| v.to_string()).collect();
    assert_eq!(kinds, ["<a subgraph>", "<a list of types>", "<of the unknown kind 77>"]);
}
