//! Models for images of another size than their checkpoint's, and of any size: what runs, what is said, what is refused.

use crate::support::engines::ort;
use crate::support::python::{python, run};
use std::path::Path;
use std::process::Command;
use vit_onnx::compile::{CompileError, Compiled, Options, compile, metadata};
use vit_onnx::ir::Tensor;
use vit_onnx::onnx::External;
use vit_onnx::runtime::{Engine, Interpreter, SessionOptions};
use vit_onnx::target::Target;
use vit_onnx::template::{Model, Source, parse_set};
use vit_onnx::variants::{ImageSize, VARIANTS};
use vit_onnx::weights::{Checkpoint, Supply};

/// A small model of 16 pixels a patch, for images of 224×224.
const VIT: &[&str] = &["image_size=224", "patch_size=16", "dim=24", "depth=2", "heads=2", "mlp_dim=32", "dim_head=8"];

fn model(variant: &str, preset: &str, r: &str, sets: &[&str]) -> Model {
    let mut all: Vec<_> = sets.iter().map(|s| parse_set(s).expect("a setting")).collect();
    all.push(("release".to_owned(), r.into()));
    Model::resolve(&Source::Preset(variant, preset), &all).unwrap_or_else(|e| panic!("{e}"))
}

fn options(size: &str) -> Options {
    let image_size = if size.is_empty() { ImageSize::Trained } else { size.parse().expect("a size") };
    Options { image_size, ..Options::default() }
}

fn write(c: &Compiled, path: &Path) {
    c.write(path, &Checkpoint::initial(7), External::Never, &mut |_| ()).expect("a file");
}

fn images([h, w]: [usize; 2], channels: usize) -> Tensor {
    let n = 2 * channels * h * w;
    Tensor::new(&[2, channels, h, w], (0..n).map(|i| ((i * 7919) % 1013) as f32 / 506.5 - 1.0).collect::<Vec<_>>())
}

fn outputs(engine: &dyn Engine, path: &Path, x: &Tensor) -> Vec<(String, Tensor)> {
    let session = engine.load(path, &SessionOptions::default());
    let mut session = session.unwrap_or_else(|e| panic!("{}: {e}", engine.name()));
    let y = session.run(&[("pixel_values".to_owned(), x.clone())]);
    y.unwrap_or_else(|e| panic!("{}: {:?}: {e}", engine.name(), x.shape()))
}

/// The largest difference of two runs, relative to the largest number.
fn difference(a: &[(String, Tensor)], b: &[(String, Tensor)]) -> f64 {
    assert_eq!(a.len(), b.len());
    let one = |((name, a), (other, b)): (&(String, Tensor), &(String, Tensor))| {
        assert_eq!(name, other);
        let scale = a.to_f64_vec().into_iter().fold(1e-3f64, |m, v| m.max(v.abs()));
        a.max_abs_diff(b).unwrap_or_else(|| panic!("{name}: {:?} and {:?}", a.shape(), b.shape())) / scale
    };
    a.iter().zip(b).map(one).fold(0.0, f64::max)
}

/// One file for any size against a file for each size, in ONNX Runtime and in the interpreter.
/// The file for any size is left in `dir`.
fn any_size_is_each_size(dir: &Path, m: &Model, sizes: &[[usize; 2]], target: &'static Target, taps: &[&str]) {
    let (any, each) = (dir.join(format!("{m}-{target}.onnx")), dir.join("each.onnx"));
    let taps: Vec<String> = taps.iter().map(|t| (*t).to_owned()).collect();
    let what = format!("{m} {target}");
    let compiled = compile(&m.declaration, &Options { target, taps: taps.clone(), ..options("dynamic") });
    let compiled = compiled.unwrap_or_else(|e| panic!("{what}: {e}"));
    write(&compiled, &any);
    let (mut ort_any, mut own_any) = (Vec::new(), Vec::new());
    for &[h, w] in sizes {
        let x = images([h, w], m.declaration.variant.image().channels);
        let fixed = Options { target, taps: taps.clone(), ..options(&format!("{h}x{w}")) };
        write(&compile(&m.declaration, &fixed).unwrap_or_else(|e| panic!("{what}: {e}")), &each);
        let want = outputs(&ort(), &each, &x);
        ort_any = outputs(&ort(), &any, &x);
        own_any = outputs(&Interpreter, &any, &x);
        for (engine, got) in [("ort", &ort_any), ("interpreter", &own_any)] {
            let d = difference(got, &want);
            assert!(d < 2e-5, "{what}: {h}×{w} in {engine} differs by {d:e}");
        }
    }
    assert!(!ort_any.is_empty() && !own_any.is_empty());
    std::fs::remove_file(each).expect("it was written");
}

#[test]
fn one_file_for_any_size_is_a_file_for_each_size() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    for r in ["0.16", "1"] {
        for target in [Target::PORTABLE, Target::ORT_CPU] {
            let m = model("vit", "tiny", r, VIT);
            any_size_is_each_size(dir, &m, &[[224, 224], [256, 192]], target, &["attentions"]);
        }
        let m = model("cvt", "tiny", r, &[]);
        any_size_is_each_size(dir, &m, &[[224, 224], [256, 192]], Target::PORTABLE, &[]);
        for variant in ["deepvit", "cait", "cross_vit"] {
            let m = model(variant, "tiny", r, &[]);
            let [p, q] = m.declaration.variant.sizes().step;
            any_size_is_each_size(dir, &m, &[[4 * p, 4 * q], [5 * p, 3 * q]], Target::PORTABLE, &[]);
        }
        let m = model("efficient", "tiny-x_encoder", r, &[]);
        let [p, q] = m.declaration.variant.sizes().step;
        any_size_is_each_size(dir, &m, &[[4 * p, 4 * q], [5 * p, 3 * q]], Target::PORTABLE, &[]);
    }
    // The checker knows standard ops only.
    let check = "import sys, onnx\nfor f in sys.argv[1:]: onnx.checker.check_model(f, full_check=True)\n";
    let files = std::fs::read_dir(dir).expect("a folder").map(|f| f.expect("an entry").path());
    let files: Vec<_> = files.filter(|f| !f.to_string_lossy().contains("ort-cpu")).collect();
    assert_eq!(files.len(), 12, "six variants in two releases");
    run(Command::new(python()).args(["-c", check]).args(&files));
}

/// Mean pooling in release 1 has no class token, so no row of the table stays.
#[test]
fn tables_without_a_class_token_are_resampled_whole() {
    let m = model("vit", "tiny", "1", &[VIT, &["pool=mean"]].concat());
    let dir = tempfile::tempdir().expect("a folder");
    any_size_is_each_size(dir.path(), &m, &[[192, 256]], Target::ORT_CPU, &[]);
}

/// Release 1 takes checkpoints of rectangular images, in rectangular patches.
#[test]
fn rectangles_become_other_rectangles() {
    let dir = tempfile::tempdir().expect("a folder");
    let rectangle = &["image_size=[64, 48]", "patch_size=[16, 8]"];
    for (variant, preset) in [("vit", "tiny"), ("efficient", "tiny-x_encoder")] {
        let m = model(variant, preset, "1", rectangle);
        any_size_is_each_size(dir.path(), &m, &[[64, 48], [32, 80], [112, 48]], Target::PORTABLE, &[]);
        // The checkpoint's own size, resampled or not, is one model.
        let (path, other) = (dir.path().join("a.onnx"), dir.path().join("b.onnx"));
        write(&compile(&m.declaration, &options("")).expect("compiles"), &path);
        write(&compile(&m.declaration, &options("64x48")).expect("compiles"), &other);
        let x = images([64, 48], 3);
        assert_eq!(difference(&outputs(&ort(), &path, &x), &outputs(&ort(), &other, &x)), 0.0);
        std::fs::remove_file(path).and_then(|()| std::fs::remove_file(other)).expect("they were written");
    }
    let old = Model::resolve(&Source::Preset("vit", "tiny"), &[parse_set(rectangle[0]).expect("a setting")]);
    assert!(old.expect_err("one integer").to_string().contains("or a later one"));
}

#[test]
fn every_variant_takes_larger_images() {
    for v in VARIANTS {
        for r in ["0.16", "1"] {
            let set = [("release".to_owned(), toml::Value::from(r))];
            let Ok(m) = Model::resolve(&Source::Preset(v.name, "tiny"), &set) else { continue };
            let [h, w] = m.declaration.input_size.or(m.declaration.variant.image().size).expect("tiny presets say");
            let larger = format!("{}x{}", 2 * h, 2 * w);
            let c = match compile(&m.declaration, &options(&larger)) {
                Ok(c) => c,
                // Release 1 of LocalViT runs on one grid only; buckets must divide the tokens.
                Err(e) if matches!((v.name, r), ("local_vit", "1")) => {
                    assert!(e.to_string().contains("patches wide"), "{e}");
                    continue;
                }
                Err(e) => panic!("{} {r}: {e}", v.name),
            };
            // What the checkpoint must hold does not depend on the images.
            let params = |c: &Compiled| -> Vec<String> {
                c.declared.params().map(|p| format!("{} {}", p.path, c.declared.ty(p.value))).collect()
            };
            let trained = compile(&m.declaration, &options("")).unwrap_or_else(|e| panic!("{e}"));
            let (mut a, mut b) = (params(&c), params(&trained));
            a.sort();
            b.sort();
            assert_eq!(a, b, "{} {r}", v.name);
            // No table is left to resample at run time.
            assert!(c.program.graph.nodes().all(|(_, n)| n.op.mnemonic() != "resize"), "{} {r}", v.name);
            let has_tables = !matches!(v.name, "cvt" | "rvt" | "simple_vit");
            assert_eq!(c.notes.is_empty(), !has_tables, "{} {r}: {:?}", v.name, c.notes);
            let dir = tempfile::tempdir().expect("a folder");
            let path = dir.path().join("m.onnx");
            write(&c, &path);
            let x = images([2 * h, 2 * w], m.declaration.variant.image().channels);
            let d = difference(&outputs(&Interpreter, &path, &x), &outputs(&ort(), &path, &x));
            assert!(d < 2e-5, "{} {r}: {d:e}", v.name);
        }
    }
}

#[test]
fn the_table_in_the_file_is_the_resampled_one() {
    let m = model("vit", "tiny", "0.16", VIT);
    let c = compile(&m.declaration, &options("384")).expect("compiles");
    assert_eq!(
        c.notes,
        ["position table pos_embedding resampled from 14×14 to 24×24 (bicubic, antialiased)".to_owned()]
    );
    let checkpoint = Checkpoint::initial(7);
    let supply = Supply::new(&c.program, &checkpoint);
    let name =
        c.program.weights.outputs().iter().find(|o| o.name.starts_with("pos_embedding")).expect("it is computed");
    let table = supply.tensor(&name.name).expect("a value");
    assert_eq!(table.shape(), [1, 577, 24]);
    let stored = supply.tensor("pos_embedding").expect("a value");
    assert_eq!(stored.shape(), [1, 197, 24]);
    // The class token's row as it was; the mean of a channel over the grid stays near.
    let (table, stored) = (table.to_f64_vec(), stored.to_f64_vec());
    assert_eq!(table[..24], stored[..24]);
    let mean = |v: &[f64]| v[24..].iter().sum::<f64>() / (v.len() - 24) as f64;
    assert!((mean(&table) - mean(&stored)).abs() < 1e-2);
}

#[test]
fn files_say_what_they_are_for() {
    let m = model("vit", "tiny", "1", VIT);
    let get = |c: &Compiled, key: &str| c.model.metadata.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
    let size_of = |c: &Compiled| {
        let json: serde_json::Value =
            serde_json::from_str(&get(c, metadata::PREPROCESSING).expect("photographs")).expect("JSON");
        (json["crop_size"]["height"].as_u64(), json["crop_size"]["width"].as_u64())
    };
    let c = compile(&m.declaration, &options("384x320")).expect("compiles");
    assert_eq!(get(&c, metadata::IMAGE_SIZE).as_deref(), Some("384x320"));
    assert_eq!(size_of(&c), (Some(384), Some(320)));
    assert!(get(&c, metadata::MODEL).expect("always").contains("image_size = 224"));
    let c = compile(&m.declaration, &options("dynamic")).expect("compiles");
    assert_eq!(get(&c, metadata::IMAGE_SIZE).as_deref(), Some("dynamic"));
    assert_eq!(size_of(&c), (Some(224), Some(224)));
    assert_eq!(c.model.opset_imports[0].1, 18, "the lowest that resamples");
    assert_eq!(c.model.graph.inputs[0].to_string(), "%pixel_values : f32[batch, 3, 16*h, 16*w]");
    let c = compile(&m.declaration, &options("")).expect("compiles");
    assert_eq!((get(&c, metadata::IMAGE_SIZE), c.notes.len(), c.model.opset_imports[0].1), (None, 0, 17));
    // Nothing to resample: the widest reaching opset stays.
    let c = compile(&model("cvt", "tiny", "1", &[]).declaration, &options("dynamic")).expect("compiles");
    assert_eq!((c.notes.len(), c.model.opset_imports[0].1), (0, 17));
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let refused = |variant: &str, preset: &str, o: &Options| {
        let m = model(variant, preset, "0.16", &[]);
        compile(&m.declaration, o).map(|_| ()).expect_err("refused")
    };
    for (variant, preset, why) in [
        ("levit", "tiny", "tables of offsets"),
        ("t2t", "tiny", "square map"),
        ("pit", "tiny", "square map"),
        ("local_vit", "tiny", "square map"),
        ("rvt", "tiny", "rotary angles"),
        ("efficient", "tiny", "landmarks"),
        ("efficient", "tiny-routing", "clusters"),
        ("efficient", "tiny-sinkhorn", "buckets"),
    ] {
        let e = refused(variant, preset, &options("dynamic"));
        assert!(matches!(e, CompileError::ImageSize(_)), "{e}");
        let e = e.to_string();
        assert!(e.starts_with(&format!("variant {variant} cannot have a symbolic image size: ")), "{e}");
        assert!(e.contains(why) && e.ends_with("give a number"), "{e}");
    }
    let m = model("vit", "tiny", "1", VIT);
    let e =
        compile(&m.declaration, &Options { opset: Some(17), ..options("dynamic") }).expect_err("no Resize").to_string();
    assert!(e.contains("since opset 18; opset 17 was asked for"), "{e}");
    let e = refused("vit", "tiny", &Options { image_size: ImageSize::Resampled([7, 8]), ..Options::default() });
    assert!(e.to_string().contains("height 7 is not a multiple of"), "{e}");
    // LeViT's biases are not a sequence whose leading rows could be used.
    let m = model("levit", "tiny", "0.16", &["input_size=16"]);
    assert!(compile(&m.declaration, &options("")).expect_err("another map").to_string().contains("made for a map of"));
}
