//! `vit-onnx bench` as users meet it. Nothing here asserts a time.

use super::{Place, done};
use serde_json::Value;

/// Two models of which the second is the heavier one by far.
fn place() -> Place {
    let p = Place::new();
    p.tiny("small.onnx", &[]);
    p.tiny("large.onnx", &["--set", "depth=8", "--set", "mlp_dim=512"]);
    p
}

/// Short, and without the processes that load a model.
const SHORT: [&str; 6] = ["--engine", "interpreter", "--rounds", "2", "--loads", "0"];

fn bench<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [&["bench"], args, &SHORT].concat()
}

fn json(out: &str) -> Value {
    serde_json::from_str(out).unwrap_or_else(|e| panic!("{e}: {out}"))
}

#[test]
fn models_are_compared_and_bounds_held() {
    let p = place();
    let d = p.vit(&bench(&["small.onnx", "large.onnx"])).says(0, &["built-in interpreter"]);
    for part in ["pixel_values f32[1, 3, 16, 16]", "2 rounds", "small.onnx", "large.onnx", "p99", "cpu ratio", "differ"]
    {
        assert!(d.out.contains(part), "`{part}` is not in\n{}", d.out);
    }
    assert!(!d.out.contains('\x1b') && !d.err.contains("measuring"), "neither colors nor bars in a file: {d:?}");
    assert!(d.err.contains("large.onnx does not compute the same as small.onnx"), "{}", d.err);

    let over = |bound: &str, more: &[&str]| {
        p.vit(&bench(&[&["small.onnx", "large.onnx", "--fail-over", bound], more].concat()))
    };
    over("0.0001", &[]).says(1, &["large.onnx takes", "as long as small.onnx", "more than 0.0001"]);
    over("0.0001", &["--fail-clock", "processor"]).says(1, &["the processor time of small.onnx"]);
    over("1000000", &[]).says(0, &[]);
}

#[test]
fn json_holds_every_round() {
    let p = place();
    let args = ["small.onnx", "small.onnx", "--batch", "1,3", "--threads", "1", "--json", "--seed", "5"];
    let all = json(&p.vit(&bench(&args)).says(0, &[]).out);
    assert_eq!((&all["seed"], all["tables"].as_array().map(Vec::len)), (&5.into(), Some(2)));
    let t = &all["tables"][1];
    assert_eq!((&t["batch"], &t["threads"], &t["rounds"]), (&3.into(), &1.into(), &2.into()));
    let [one, two] = t["models"].as_array().expect("a list").as_slice() else { panic!("two models: {t}") };
    assert_eq!((&one["label"], &two["label"]), (&"small.onnx".into(), &"small.onnx (2)".into()));
    assert_eq!(one["inputs"]["pixel_values"], "f32[3, 3, 16, 16]");
    assert_eq!(two["outputs"]["difference"], 0.0, "the same file computes the same");
    assert!(one["ratio"].is_null() && one["load"].is_null() && one["profile"].is_null(), "{one}");
    let number = |v: &Value| v.as_f64().unwrap_or_else(|| panic!("a number, not {v}"));
    let of = |v: &Value, names: &[&str]| names.iter().map(|n| number(&v[n])).collect::<Vec<_>>();
    let rounds = |v: &Value| v["rounds"].as_array().expect("a list").iter().map(number).collect::<Vec<_>>();
    assert!(of(&two["wall"], &["min", "p50", "p90", "p99"]).is_sorted());
    assert!(of(&two["ratio"], &["q1", "median", "q3"]).is_sorted());
    // The ratios are those of the rounds.
    let (a, b) = (rounds(&one["wall"]), rounds(&two["wall"]));
    assert_eq!((a.len(), b.len()), (2, 2));
    let mean = f64::midpoint(b[0] / a[0], b[1] / a[1]);
    assert!((number(&two["ratio"]["median"]) - mean).abs() < 1e-9 * mean);
    if cfg!(unix) {
        assert!(rounds(&two["processor"]).iter().all(|x| *x > 0.0));
    }
}

#[test]
fn models_are_loaded_in_a_process_of_their_own() {
    let p = place();
    let args = ["bench", "large.onnx", "--engine", "interpreter", "--rounds", "1", "--loads", "1", "--json"];
    let d = p.vit(&args).says(0, &[]);
    let load = &json(&d.out)["tables"][0]["models"][0]["load"];
    assert!(load["seconds"].as_f64().is_some_and(|s| s > 0.0), "{d:?}");
    if cfg!(target_os = "linux") {
        let bytes = |name: &str| load[name].as_u64().expect("a number");
        assert!(bytes("memory") > 0 && bytes("peak") > bytes("memory"), "{load}");
    }
}

#[test]
fn wrong_usage_is_said_with_what_would_do() {
    let p = place();
    p.tiny("fixed.onnx", &["--batch", "2"]);
    let refuses = |args: &[&str], code, parts: &[&str]| p.refuses(&bench(args), code, parts);
    refuses(&[], 2, &["MODEL.onnx"]);
    refuses(&["small.onnx", "--fail-over", "1.05"], 2, &["second one"]);
    refuses(&["small.onnx", "small.onnx", "--fail-over", "0"], 2, &["1.05"]);
    refuses(&["small.onnx", "--shape", "1x3"], 2, &["pixel_values=1x3x224x224"]);
    refuses(&["small.onnx", "--shape", "image=1x3x16x16"], 2, &["no model has an input `image`", "`pixel_values`"]);
    refuses(&["small.onnx", "--shape", "pixel_values=1x3x32x32"], 2, &["small.onnx", "1x3x32x32", "1x3x16x16 fits"]);
    refuses(&["small.onnx", "fixed.onnx", "--batch", "8"], 2, &["fixed.onnx", "--batch 8", "f32[2, 3, 16, 16]"]);
    refuses(&["small.onnx", "--batch", "0"], 2, &["from 1"]);
    refuses(&["small.onnx", "--threads", "0"], 2, &["from 1"]);
    refuses(&["small.onnx", "--provider", "gpu"], 2, &["cpu, cuda or tensorrt"]);
    refuses(&["small.onnx", "--provider", "cpu,cuda"], 4, &["cuda"]);
    refuses(&["small.onnx", "--profile"], 4, &["interpreter", "--engine ort"]);
    refuses(&["small.onnx", "absent.onnx"], 3, &["absent.onnx"]);
    refuses(&["."], 3, &["directory"]);
    p.write("text.onnx", "not a model");
    let before = p.files();
    p.vit(&bench(&["text.onnx"])).says(3, &["text.onnx"]);
    assert_eq!(p.files(), before);
    let mut missing = p.command(&["bench", "small.onnx", "--ort-lib", "absent.so"]);
    let named = if cfg!(feature = "runtime") { "absent.so" } else { "without ONNX Runtime" };
    done(&mut missing).says(4, &[named]);
}

#[test]
fn an_open_size_is_named_with_a_shape_that_would_do() {
    let p = Place::new();
    let args = ["build", "--variant", "vit", "--preset", "tiny", "--image-size", "dynamic", "-o", "open.onnx"];
    p.vit(&args).says(0, &["wrote"]);
    p.refuses(&bench(&["open.onnx"]), 2, &["open.onnx", "is open", "--shape pixel_values=1x3x224x224"]);
    p.vit(&bench(&["open.onnx", "--shape", "pixel_values=2x3x16x16"])).says(0, &[]);
    let d = p.vit(&bench(&["open.onnx", "--shape", "pixel_values=1x3x16x16", "--batch", "2"])).says(0, &[]);
    assert!(d.out.contains("f32[2, 3, 16, 16]"), "{}", d.out);
}

#[cfg(feature = "runtime")]
#[test]
fn onnx_runtime_is_profiled() {
    let p = place();
    assert!(super::has_ort(&p), "ONNX Runtime was installed");
    let args = ["bench", "small.onnx", "large.onnx", "--engine", "ort", "--rounds", "2", "--loads", "1", "--profile"];
    let before = p.files();
    let d = p.vit(&args).says(0, &["ONNX Runtime"]);
    for part in ["block", "op", "share", "transformer.layers.*.0", "MatMul", "load", "memory"] {
        assert!(d.out.contains(part), "`{part}` is not in\n{}", d.out);
    }
    assert_eq!(p.files(), before, "profiles are not left behind");
    let all = json(&p.vit(&[&args[..], &["--json", "--each-layer"]].concat()).says(0, &[]).out);
    let blocks = |i: usize| {
        let rows = all["tables"][0]["models"][i]["profile"]["blocks"].as_array().expect("a list");
        rows.iter().map(|r| r["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    assert!(blocks(1).iter().any(|b| b.starts_with("transformer.layers.7.1")), "{:?}", blocks(1));
    assert!(!blocks(0).iter().any(|b| b.contains(".layers.7.") || b.contains('*')), "{:?}", blocks(0));
}
