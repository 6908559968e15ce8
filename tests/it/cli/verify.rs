//! What never passes: nothing compared, NaN, pictures and labels that are not whole.

use super::{MODEL, Place, cat, repository};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use vit_onnx::ir::{DType, Tensor};
use vit_onnx::weights::{self, Writer};

const ENGINE: [&str; 2] = ["--engine", "interpreter"];

fn tensors(path: &str) -> BTreeMap<String, Tensor> {
    let source = weights::open(Path::new(path), None).expect("a file");
    let get = |i| weights::tensor(&*source, i, DType::F32).expect("f32");
    source.entries().iter().enumerate().map(|(i, e)| (e.name.clone(), get(i))).collect()
}

fn save(p: &Place, name: &str, tensors: impl IntoIterator<Item = (String, Tensor)>) {
    let all: Vec<_> = tensors.into_iter().collect();
    Writer::save(&p.path(name), &all, &BTreeMap::new()).expect("a file");
}

fn named(name: &str, t: &Tensor) -> (String, Tensor) {
    (name.to_owned(), t.clone())
}

#[test]
fn what_was_not_compared_does_not_pass() {
    let p = Place::new();
    p.write("m.toml", MODEL);
    let case = |f: &str| repository(&format!("golden/reference/seed/vit_cls/{f}.safetensors"));
    p.vit(&["build", "--config", "m.toml", "--weights", &case("weights"), "-o", "m.onnx"]).says(0, &[]);
    let io = tensors(&case("io"));
    let verify =
        |more: &[&str]| p.vit(&[&["verify", "m.onnx", "--reference", "io.safetensors"], &ENGINE[..], more].concat());
    // An output of the reference that the model does not have.
    save(&p, "io.safetensors", io.clone().into_iter().chain([named("attn", &io["output"])]));
    verify(&[]).says(1, &["io.safetensors has `attn`, which the model does not output", "--allow-unmatched"]);
    assert!(verify(&["--json"]).says(1, &[]).out.contains("\"passes\": false"));
    verify(&["--allow-unmatched"]).says(0, &["`attn`"]);
    assert!(verify(&["--allow-unmatched", "--json"]).says(0, &[]).out.contains("\"passes\": true"));
    // No output in common, allowed or not; no images.
    save(&p, "io.safetensors", [named("input", &io["input"]), named("loss", &io["output"])]);
    verify(&["--allow-unmatched"]).says(1, &["nothing was compared", "`loss`"]);
    let none = |shape: &[usize]| Tensor::new(shape, Vec::<f32>::new());
    save(&p, "io.safetensors", [named("input", &none(&[0, 3, 16, 16])), named("output", &none(&[0, 7]))]);
    let d = verify(&[]).says(1, &["first output that differs is logits"]);
    assert!(d.out.contains("nothing was compared"), "{}", d.out);

    // The reference may be a model; outputs that only the first one has are no reason.
    p.tiny("a.onnx", &[]);
    p.tiny("b.onnx", &["--output-tensor", "attentions"]);
    let verify = |one: &str, other: &str, more: &[&str]| {
        p.vit(&[&["verify", one, "--against", other], &ENGINE[..], more].concat())
    };
    verify("a.onnx", "b.onnx", &[]).says(1, &["b.onnx has `attentions`, which the model does not output"]);
    verify("a.onnx", "b.onnx", &["--allow-unmatched"]).says(0, &["attentions"]);
    verify("b.onnx", "a.onnx", &[]).says(0, &["only b.onnx has output `attentions`"]);
}

#[test]
fn nan_is_an_error_that_names_the_output() {
    let p = Place::new();
    p.write("m.toml", MODEL);
    let case = |f: &str| repository(&format!("golden/reference/seed/vit_cls/{f}.safetensors"));
    let mut state = tensors(&case("weights"));
    let bias = state.get_mut("mlp_head.1.bias").expect("a key of this model");
    let mut values = bias.to_vec::<f32>().expect("f32");
    values[2] = f32::NAN;
    *bias = Tensor::new(&[7], values);
    save(&p, "nan.safetensors", state);
    p.vit(&["build", "--config", "m.toml", "--weights", "nan.safetensors", "-o", "nan.onnx"]).says(0, &[]);
    p.vit(&["build", "--config", "m.toml", "-o", "sound.onnx"]).says(0, &[]);
    save(&p, "x.safetensors", [named("input", &tensors(&case("io"))["input"])]);
    let (io, cat) = (case("io"), cat());
    for args in [
        &["run", "nan.onnx", "--input", "x.safetensors"][..],
        &["predict", "nan.onnx", &cat],
        &["verify", "nan.onnx", "--reference", &io],
        &["verify", "nan.onnx", "--against", "sound.onnx"],
        &["verify", "sound.onnx", "--against", "nan.onnx"],
    ] {
        p.refuses(&[args, &ENGINE].concat(), 3, &["NaN in output `logits` (", "check the inputs"]);
    }
    let run = ["run", "nan.onnx", "--input", "x.safetensors", "-o", "y.safetensors"];
    p.vit(&[&run[..], &ENGINE].concat()).says(3, &["wrote y.safetensors", "NaN in output `logits`"]);
}

#[test]
fn labels_are_as_many_as_classes() {
    let p = Place::new();
    p.write("few.txt", "cat\ndog\n");
    p.write("seven.txt", "a\nb\nc\nd\ne\nf\ng\n\n");
    let build = ["build", "--variant", "vit", "--preset", "tiny", "-o", "m.onnx", "--labels"];
    p.refuses(&[&build[..], &["few.txt"]].concat(), 3, &["few.txt has 2 labels, the model 7 classes"]);
    p.refuses(&[&build[..], &["seven.txt", "--set", "num_classes=0"]].concat(), 2, &["no classes to label"]);
    p.vit(&[&build[..], &["seven.txt"]].concat()).says(0, &["wrote m.onnx"]);
}

#[test]
fn a_photograph_cut_short_is_refused() {
    let p = Place::new();
    p.tiny("m.onnx", &[]);
    let whole = fs::read(cat()).expect("a photograph");
    p.write("cut.jpg", &whole[..whole.len() * 9 / 10]);
    p.refuses(&[&["predict", "m.onnx", "cut.jpg"], &ENGINE[..]].concat(), 3, &["cut.jpg", "the file is truncated"]);
}
