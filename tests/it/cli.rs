//! The command line as users meet it: exit codes, what is said and where, and what is left behind.

mod bench;
mod engine;
mod files;
mod verify;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;
use vit_onnx::ir::Tensor;
use vit_onnx::weights::Writer;

mod inspect;

/// A folder to run in, and the program.
struct Place {
    dir: TempDir,
}

/// What a command did.
#[derive(Debug)]
struct Done {
    code: i32,
    out: String,
    err: String,
}

impl Done {
    /// It ended so and said all of these on stderr.
    #[track_caller]
    fn says(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        for p in parts {
            assert!(self.err.contains(p), "`{p}` is not in\n{}", self.err);
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self
    }
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).expect("a file");
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).expect("a folder");
        let mut names: Vec<String> =
            entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_vit-onnx"));
        c.args(args)
            .current_dir(self.dir.path())
            .env("NO_COLOR", "1")
            .env_remove("ORT_DYLIB_PATH")
            .stdin(Stdio::null());
        c
    }

    fn vit(&self, args: &[&str]) -> Done {
        done(&mut self.command(args))
    }

    /// A command that must fail and leave the folder as it was.
    #[track_caller]
    fn refuses(&self, args: &[&str], code: i32, parts: &[&str]) {
        let before = self.files();
        self.vit(args).says(code, parts);
        assert_eq!(self.files(), before, "{args:?} left something behind");
    }

    /// Builds the test preset.
    #[track_caller]
    fn tiny(&self, name: &str, more: &[&str]) {
        let args = [&["build", "--variant", "vit", "--preset", "tiny", "-o", name], more].concat();
        self.vit(&args).says(0, &["wrote", name]);
    }
}

fn done(c: &mut Command) -> Done {
    let o = c.output().expect("the program starts");
    let text = |b: Vec<u8>| String::from_utf8(b).expect("UTF-8");
    Done { code: o.status.code().expect("no signal"), out: text(o.stdout), err: text(o.stderr) }
}

fn repository(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).to_string_lossy().into_owned()
}

fn cat() -> String {
    repository("examples/cat.jpg")
}

/// Whether this program has ONNX Runtime, which is put into the tool's cache on first use; `doctor` then finds it.
fn has_ort(p: &Place) -> bool {
    #[cfg(feature = "runtime")]
    vit_onnx::runtime::ort::install(&mut |_| ()).unwrap_or_else(|e| panic!("{e}"));
    let found = p.vit(&["doctor", "--json"]).code == 0;
    assert_eq!(found, cfg!(feature = "runtime"));
    found
}

const MODEL: &str = "variant = 'vit'\nimage_size = 16\npatch_size = 4\nnum_classes = 7\ndim = 24\ndepth = 2\nheads = 3\nmlp_dim = 40\ndim_head = 8\n";

#[test]
fn mistakes_in_the_model_are_named() {
    let p = Place::new();
    p.refuses(&["build", "--variant", "vitt"], 2, &["no variant `vitt`", "did you mean `vit`"]);
    p.refuses(&["list", "vitt"], 2, &["did you mean `vit`"]);
    p.refuses(&["build", "--variant", "vit", "--preset", "tinny"], 2, &["did you mean `tiny`"]);
    p.refuses(&["build"], 2, &["--variant or --config"]);
    p.refuses(&["build", "--variant", "vit", "--set", "depht=3"], 2, &["depht", "did you mean `depth`"]);
    p.refuses(&["build", "--variant", "vit", "--set", "heads=two"], 2, &["heads", "two"]);
    p.refuses(&["build", "--variant", "vit", "--set", "patch_size=33"], 2, &["is not divisible by patch_size 33"]);
    p.refuses(&["build", "--variant", "vit", "--set", "heads=0"], 2, &["heads: 0 is out of range"]);
    p.refuses(&["build", "--variant", "vit", "--set", "dim=99999999999999"], 2, &["dim: 99999999999999"]);
    p.refuses(&["build", "--variant", "vit", "--batch", "0"], 2, &["--batch", "dynamic"]);
    p.refuses(&["build", "--variant", "vit", "--opset", "9"], 2, &["--opset", "17..=23"]);
    p.refuses(&["build", "--variant", "vit", "--output-tensor", "everything"], 2, &["attentions"]);
    p.refuses(&["build", "--variant", "vit", "--print-after", "magic"], 2, &["no pass `magic`"]);
    p.write("m.toml", MODEL.replace("heads = 3", "heads = 'three'"));
    p.refuses(&["build", "--config", "m.toml"], 3, &["m.toml", "heads"]);
    p.write("m.toml", "variant = [");
    p.refuses(&["build", "--config", "m.toml"], 3, &["m.toml"]);
    p.refuses(&["build", "--config", "absent.toml"], 3, &["absent.toml"]);
    p.refuses(&["build", "--config", "."], 3, &["cannot read"]);
}

#[test]
fn absurd_sizes_end_in_an_error_and_not_in_arithmetic() {
    let p = Place::new();
    let most = ["image_size=1048576", "patch_size=1", "dim=1048576", "mlp_dim=1048576", "heads=1048576"];
    let mut args = vec!["build", "--variant", "vit", "--set", "dim_head=1048576"];
    args.extend(most.iter().flat_map(|m| ["--set", m]));
    let d = p.vit(&args);
    assert!(matches!(d.code, 2 | 3), "{d:?}");
    assert!(!d.err.contains("panicked"), "{d:?}");
    assert!(p.files().is_empty());
}

#[test]
fn outputs_are_checked_before_any_work() {
    let p = Place::new();
    fs::create_dir(p.path("folder")).expect("a folder");
    p.write("m.toml", MODEL);
    let at = |o: &'static str| ["build", "--config", "m.toml", "-o", o];
    p.refuses(&at("nowhere/m.onnx"), 2, &["no folder nowhere"]);
    p.refuses(&at("folder"), 2, &["folder is a directory"]);
    p.refuses(&at("m.toml"), 2, &["would overwrite", "--config"]);
    p.write("w.safetensors", "precious");
    p.refuses(&["build", "--config", "m.toml", "--weights", "w.safetensors", "-o", "w.safetensors"], 2, &["--weights"]);
    assert_eq!(fs::read(p.path("w.safetensors")).expect("a file"), b"precious");
}

#[test]
fn every_key_that_does_not_fit_is_listed() {
    let p = Place::new();
    p.write("m.toml", MODEL.replace("depth = 2", "depth = 1"));
    let t = |shape: &[usize]| Tensor::new(shape, vec![0f32; shape.iter().product()]);
    let tensors = [("cls_token", t(&[1, 1, 25])), ("pos_embedding", t(&[1, 17, 24])), ("surplus.weight", t(&[3]))];
    let tensors = tensors.map(|(n, t)| (n.to_owned(), t));
    Writer::save(&p.path("w.safetensors"), &tensors, &BTreeMap::new()).expect("a file");
    let args = ["build", "--config", "m.toml", "--weights", "w.safetensors"];
    p.refuses(
        &args,
        3,
        &["cls_token", "[1, 1, 25]", "[1, 1, 24]", "surplus.weight", "mlp_head.1.weight", "to_patch_embedding.1.bias"],
    );
}

#[test]
fn damaged_and_hostile_checkpoints_are_refused() {
    let p = Place::new();
    p.write("m.toml", MODEL);
    let header = |json: &str| [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat();
    p.write("w.safetensors", [&u64::MAX.to_le_bytes()[..], b"{}"].concat());
    let args = ["build", "--config", "m.toml", "--weights", "w.safetensors"];
    p.refuses(&args, 3, &["w.safetensors"]);
    p.write("w.safetensors", header(r#"{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}}"#));
    p.refuses(&args, 3, &["w.safetensors", "safetensors file"]);
    p.write("w.safetensors", header(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#));
    p.refuses(&args, 3, &["w.safetensors"]);
    p.write("w.safetensors", "");
    p.refuses(&args, 3, &["is empty"]);
    p.refuses(&["build", "--config", "m.toml", "--weights", "."], 3, &["is a directory"]);
    p.refuses(&["build", "--config", "m.toml", "--weights", "absent.pt"], 3, &["absent.pt"]);
    for evil in ["evil.pt", "evil_plain.pkl", "evil_root.pt"] {
        let file = repository(&format!("tests/fixtures/{evil}"));
        p.refuses(&["build", "--config", "m.toml", "--weights", &file], 3, &["refused", "Nothing was run"]);
    }
}

#[test]
fn the_release_follows_the_checkpoint() {
    let p = Place::new();
    p.write("m.toml", MODEL);
    let latest = repository("golden/reference/latest/vit_cls/weights.safetensors");
    p.vit(&["build", "--config", "m.toml", "--weights", &latest, "-o", "m.onnx"])
        .says(0, &["are those of vit-pytorch 1.16.1 to 1.26.11: building it", "34 matched, 0 missing, 0 unexpected"]);
    // What the user says counts.
    let args = ["build", "--config", "m.toml", "--weights", &latest, "--set", "release=0.16", "-o", "n.onnx"];
    p.refuses(&args, 3, &["missing"]);
    // The file knows its model.
    p.vit(&["build", "--config", "m.onnx", "--batch", "2", "-o", "again.onnx"]).says(0, &["release 1.26.11"]);
}

#[test]
fn releases_that_fit_but_compute_otherwise_are_named() {
    let p = Place::new();
    let case = |file: &str| repository(&format!("golden/reference/eras/levit_0.18.2/{file}"));
    let (model, weights) = (case("model.toml"), case("weights.safetensors"));
    let build = ["build", "--config", &model, "--weights", &weights, "-o", "m.onnx"];
    p.vit(&build).says(0, &["warning: ", "vit-pytorch 0.20.5 to 1.26.11, which is built", "0.18.2;", "--set release="]);
    let d = p.vit(&[&build[..], &["--set", "release=0.18.2"]].concat());
    assert!(!d.err.contains("warning"), "{}", d.err);
    d.says(0, &["levit (release 0.18.2)"]);
    // Against the era of the keys, only the argument differs.
    p.refuses(&[&build[..], &["--set", "dim_key=5"]].concat(), 3, &["0 missing, 0 unexpected"]);
    let release = |r: &str, parts: &[&str]| p.refuses(&[&build[..], &["--set", r]].concat(), 3, parts);
    release("release=0.14.0", &["has no levit", "0.15.0 to 0.15.1 is the first"]);
    release("release=latest", &["\"latest\" is no version", "\"1.4.5\""]);
    p.write("number.toml", format!("{MODEL}\nrelease = 1.10\n"));
    p.refuses(&["build", "--config", "number.toml"], 3, &["found the number 1.1", "release = \"1.10\""]);
}

#[test]
fn two_builds_give_the_same_bytes() {
    let p = Place::new();
    p.tiny("a.onnx", &["--seed", "5"]);
    p.tiny("b.onnx", &["--seed", "5"]);
    p.tiny("c.onnx", &["--seed", "6"]);
    let read = |n: &str| fs::read(p.path(n)).expect("a file");
    assert_eq!(read("a.onnx"), read("b.onnx"));
    assert_ne!(read("a.onnx"), read("c.onnx"));
    let d = p.vit(&["verify", "a.onnx", "--against", "c.onnx", "--engine", "interpreter"]);
    d.says(1, &["first output that differs is logits"]);
    p.vit(&["verify", "a.onnx", "--against", "b.onnx", "--engine", "interpreter", "--atol", "0", "--rtol", "0"])
        .says(0, &[]);
}

#[test]
fn broken_model_files_are_refused() {
    let p = Place::new();
    p.tiny("m.onnx", &[]);
    let whole = fs::read(p.path("m.onnx")).expect("a file");
    p.write("cut.onnx", &whole[..whole.len() / 2]);
    p.write("empty.onnx", "");
    p.write("text.onnx", "this is no model");
    p.write("x.safetensors", "");
    let cat = cat();
    for (file, what) in [
        ("cut.onnx", "cut.onnx"),
        ("empty.onnx", "is empty"),
        (".", "is a directory"),
        ("absent", "absent"),
        ("text.onnx", "text.onnx"),
    ] {
        p.refuses(&["inspect", file], 3, &[what]);
        p.refuses(&["predict", file, &cat, "--engine", "interpreter"], 3, &[what]);
        p.refuses(&["verify", file, "--against", "m.onnx", "--engine", "interpreter"], 3, &[what]);
        // One that does not exist may come from either side.
        p.refuses(&["verify", "m.onnx", "--against", file, "--engine", "interpreter"], 3, &[what]);
    }
    p.refuses(&["run", "m.onnx", "--input", "x.safetensors"], 3, &["x.safetensors", "is empty"]);
}

#[test]
fn tensors_must_fit_the_model() {
    let p = Place::new();
    p.tiny("m.onnx", &[]);
    let save = |shape: &[usize], names: &[&str]| {
        let t = Tensor::new(shape, vec![0.5f32; shape.iter().product()]);
        let all: Vec<_> = names.iter().map(|n| ((*n).to_owned(), t.clone())).collect();
        Writer::save(&p.path("x.safetensors"), &all, &BTreeMap::new()).expect("a file");
    };
    let run = ["run", "m.onnx", "--input", "x.safetensors", "--engine", "interpreter"];
    save(&[2, 3, 16, 17], &["anything"]);
    p.refuses(&run, 3, &["f32[batch, 3, 16, 16]", "f32[2, 3, 16, 17]"]);
    save(&[2, 3, 16, 16], &["a", "b"]);
    p.refuses(&run, 3, &["missing input `pixel_values`", "unknown input `a`", "unknown input `b`"]);
    save(&[2, 3, 16, 16], &["anything"]);
    let d = p.vit(&run).says(0, &["built-in interpreter"]);
    assert!(d.out.contains("logits") && d.out.contains("f32[2, 7]"), "{}", d.out);
    p.refuses(&[&run[..], &["-o", "no/y.safetensors"]].concat(), 2, &["no folder no"]);
    p.vit(&[&run[..], &["-o", "y.safetensors"]].concat()).says(0, &["wrote y.safetensors"]);
    // Its own outputs are the reference that it meets.
    let y = fs::read(p.path("y.safetensors")).expect("a file");
    assert!(y.windows(6).any(|w| w == b"logits"));
}

#[test]
fn verify_finds_differences_and_nan() {
    let p = Place::new();
    p.write("m.toml", MODEL);
    let case = |f: &str| repository(&format!("golden/reference/seed/vit_cls/{f}.safetensors"));
    let (weights, io) = (case("weights"), case("io"));
    p.vit(&["build", "--config", "m.toml", "--weights", &weights, "-o", "m.onnx"]).says(0, &[]);
    let verify = ["verify", "m.onnx", "--engine", "interpreter", "--reference"];
    let d = p.vit(&[&verify[..], &[&io]].concat()).says(0, &[]);
    assert!(d.out.contains("within tolerance") && d.out.contains('×'), "{}", d.out);
    p.vit(&[&verify[..], &[&io, "--atol", "0", "--rtol", "0"]].concat()).says(1, &["logits"]);

    let source = vit_onnx::weights::open(Path::new(&io), None).expect("a file");
    let at = |n: &str| source.entries().iter().position(|e| e.name == n).expect("a tensor");
    let get = |n: &str| vit_onnx::weights::tensor(&*source, at(n), vit_onnx::ir::DType::F32).expect("f32");
    let mut wrong = get("output").to_vec::<f32>().expect("f32");
    wrong[3] = f32::NAN;
    let wrong = Tensor::new(get("output").shape(), wrong);
    let save = |tensors: &[(String, Tensor)]| {
        Writer::save(&p.path("io.safetensors"), tensors, &BTreeMap::new()).expect("a file");
    };
    save(&[("input".to_owned(), get("input")), ("output".to_owned(), wrong)]);
    p.vit(&[&verify[..], &["io.safetensors"]].concat()).says(1, &["logits"]);
    save(&[("input".to_owned(), get("input")), ("loss".to_owned(), get("output"))]);
    p.vit(&[&verify[..], &["io.safetensors"]].concat()).says(1, &["nothing was compared", "loss"]);

    // The first module that differs is named: here the reference of one is wrong.
    let d = |m: &str| Tensor::new(&[2, 17, 24], vec![if m == "bad" { 9e9f32 } else { 0.0 }; 2 * 17 * 24]);
    let mid = [("transformer.layers.0.0.norm".to_owned(), d("bad")), ("nowhere.0".to_owned(), d("bad"))];
    Writer::save(&p.path("mid.safetensors"), &mid, &BTreeMap::new()).expect("a file");
    p.vit(&[&verify[..], &[&io, "--by-layer", "mid.safetensors", "--weights", &weights]].concat())
        .says(1, &["first module that differs is transformer.layers.0.0.norm", "unmapped: nowhere.0"]);
}

#[test]
fn photographs_are_classified() {
    let p = Place::new();
    p.tiny("m.onnx", &["--output-tensor", "attentions"]);
    let cat = cat();
    let args = ["predict", "m.onnx", &cat, "-k", "3", "--json"];
    let interpreter = p.vit(&[&args[..], &["--engine", "interpreter"]].concat()).says(0, &["built-in interpreter"]);
    let json: serde_json::Value = serde_json::from_str(&interpreter.out).expect("JSON");
    let best = json[0]["predictions"].as_array().expect("a list");
    assert_eq!(best.len(), 3);
    let probability =
        |v: &serde_json::Value, i: usize| v[0]["predictions"][i]["probability"].as_f64().expect("a number");
    assert!(probability(&json, 0) >= probability(&json, 1) && probability(&json, 0) < 1.0);
    if has_ort(&p) {
        let ort = p.vit(&[&args[..], &["--engine", "ort"]].concat()).says(0, &["ONNX Runtime"]);
        let ort: serde_json::Value = serde_json::from_str(&ort.out).expect("JSON");
        assert_eq!(ort[0]["predictions"][0]["class"], json[0]["predictions"][0]["class"]);
        assert!((probability(&ort, 0) - probability(&json, 0)).abs() < 1e-5);
    }

    p.write("labels.txt", "a\nb\nc\nd\ne\nf\ng\n");
    let with = |more: &[&str]| p.vit(&[&["predict", "m.onnx", &cat, "--engine", "interpreter"], more].concat());
    let d = with(&["--labels", "labels.txt", "--attention", "heat.png"]).says(0, &["wrote heat.png"]);
    assert!(d.out.contains("cat.jpg") && d.out.contains('%') && !d.out.contains("class"), "{}", d.out);
    assert!(fs::read(p.path("heat.png")).expect("a file").starts_with(b"\x89PNG"));
    with(&["--attention", "heat.png", "--rollout", "--layer", "0"]).says(0, &[]);
    with(&["--attention", "heat.png", "--layer", "1"]).says(3, &["no attention layer 1"]);
    p.write("labels.txt", "a\nb\n");
    with(&["--labels", "labels.txt"]).says(3, &["2 labels", "7 classes"]);

    p.tiny("plain.onnx", &["--batch", "2"]);
    p.vit(&["predict", "plain.onnx", &cat, "--engine", "interpreter"]).says(0, &[]);
    p.refuses(
        &["predict", "plain.onnx", &cat, "--attention", "no.png", "--engine", "interpreter"],
        3,
        &["--output-tensor attentions"],
    );
    p.write("photo.jpg", "not a photograph");
    p.refuses(&["predict", "m.onnx", "photo.jpg", "--engine", "interpreter"], 3, &["photo.jpg", "not a readable"]);
    p.refuses(&["predict", "m.onnx", "absent.jpg", "--engine", "interpreter"], 3, &["absent.jpg"]);
}

/// The interpreter-only build says so where ONNX Runtime is asked for, and runs models.
#[cfg(not(feature = "runtime"))]
#[test]
fn a_build_without_onnx_runtime_says_so() {
    let p = Place::new();
    p.tiny("m.onnx", &[]);
    let cat = cat();
    p.vit(&["predict", "m.onnx", &cat]).says(0, &["using the built-in interpreter"]);
    p.refuses(
        &["predict", "m.onnx", &cat, "--engine", "ort"],
        4,
        &["built without ONNX Runtime", "--engine interpreter"],
    );
    p.refuses(&["predict", "m.onnx", &cat, "--provider", "cuda"], 4, &["built without ONNX Runtime"]);
    p.refuses(&["runtime", "install"], 4, &["built without ONNX Runtime"]);
    p.vit(&["doctor"]).says(4, &["built without ONNX Runtime"]);
}

#[cfg(feature = "runtime")]
#[test]
fn a_library_that_was_named_must_work() {
    let p = Place::new();
    p.tiny("m.onnx", &[]);
    p.write("lib.so", "this is a text file");
    let cat = cat();
    let before = p.files();
    let with = |args: &[&str]| done(p.command(args).env("ORT_DYLIB_PATH", p.path("lib.so")));
    with(&["predict", "m.onnx", &cat]).says(4, &["ORT_DYLIB_PATH", "lib.so"]);
    with(&["doctor"]).says(4, &["ORT_DYLIB_PATH"]);
    with(&["predict", "m.onnx", &cat, "--engine", "interpreter"]).says(0, &[]);
    p.vit(&["predict", "m.onnx", &cat, "--ort-lib", "absent.so"]).says(4, &["absent.so"]);
    p.vit(&["predict", "m.onnx", &cat, "--provider", "gpu"]).says(2, &["cpu, cuda or tensorrt"]);
    p.vit(&["predict", "m.onnx", &cat, "--provider", "cuda", "--engine", "interpreter"]).says(4, &["cuda"]);
    if !Path::new("/dev/nvidiactl").exists() {
        p.vit(&["predict", "m.onnx", &cat, "--provider", "cuda,cpu"]).says(4, &[]);
    }
    assert_eq!(p.files(), before);
}

/// A file may grow to `blocks` of 512 or 1024 bytes only, as on a disk that is nearly full: the system refuses the write
/// that goes beyond.
#[cfg(unix)]
fn on_a_full_disk(p: &Place, blocks: usize, args: &[&str]) -> Done {
    let mut c = Command::new("sh");
    // The signal that comes with the refusal would end the program.
    c.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\""), "sh", env!("CARGO_BIN_EXE_vit-onnx")]);
    c.args(args).current_dir(p.dir.path()).env("NO_COLOR", "1").env_remove("ORT_DYLIB_PATH").stdin(Stdio::null());
    done(&mut c)
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_no_half_file() {
    let p = Place::new();
    p.write("m.toml", MODEL);
    let weights = repository("golden/reference/seed/vit_cls/weights.safetensors");
    let refuses = |blocks: usize, args: &[&str], file: &str| {
        let before = p.files();
        on_a_full_disk(&p, blocks, args).says(3, &[file, "File too large"]);
        assert_eq!(p.files(), before, "{args:?} left something behind");
    };
    // Drawn, copied by the kernel, beside the model; at once and after a while.
    for blocks in [0, 16, 40] {
        let build = ["build", "--config", "m.toml", "-o", "m.onnx"];
        refuses(blocks, &build, "m.onnx");
        refuses(blocks, &[&build[..], &["--weights", &weights]].concat(), "m.onnx");
        refuses(blocks, &[&build[..], &["--weights", &weights, "--external-data"]].concat(), "m.onnx");
    }
    p.tiny("m.onnx", &["--output-tensor", "attentions"]);
    let model = fs::read(p.path("m.onnx")).expect("a file");
    refuses(16, &["build", "--config", "m.toml", "-o", "m.onnx"], "m.onnx");
    assert_eq!(fs::read(p.path("m.onnx")).expect("a file"), model, "what stood there stands there still");
    let cat = cat();
    refuses(4, &["predict", "m.onnx", &cat, "--engine", "interpreter", "--attention", "heat.png"], "heat.png");
    let x = Tensor::new(&[2, 3, 16, 16], vec![0.5f32; 1536]);
    Writer::save(&p.path("x.safetensors"), &[("x".to_owned(), x)], &BTreeMap::new()).expect("a file");
    let run = ["run", "m.onnx", "--input", "x.safetensors", "--engine", "interpreter", "-o", "y.safetensors"];
    refuses(0, &run, "y.safetensors");
}

#[test]
fn a_reader_may_stop_listening() {
    let p = Place::new();
    p.tiny("m.onnx", &[]);
    for args in [&["list"][..], &["inspect", "m.onnx", "--text"], &["completions", "bash"], &["--help"]] {
        let mut child =
            p.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        drop(child.stdout.take());
        let o = child.wait_with_output().expect("it ends");
        assert_eq!(o.status.code(), Some(0), "{args:?}");
        assert!(o.stderr.is_empty(), "{args:?}: {}", String::from_utf8_lossy(&o.stderr));
    }
}

#[test]
fn text_goes_out_and_comes_back() {
    let p = Place::new();
    p.tiny("m.onnx", &[]);
    let text = p.vit(&["inspect", "m.onnx", "--text"]).says(0, &[]).out;
    p.write("m.vir", &text);
    let same = p.vit(&["opt", "m.vir", "--pass", "cse"]).says(0, &[]).out;
    assert!(same.starts_with("graph "), "{same}");
    p.write("again.vir", &same);
    let again = p.vit(&["opt", "again.vir", "--pass", "cse"]).says(0, &[]).out;
    assert_eq!(same, again);
    p.refuses(&["opt", "m.vir", "--pass", "magic"], 2, &["no pass `magic`"]);
    p.write("bad.vir", "graph g  stage built\n  input x : f32[4\n");
    p.refuses(&["opt", "bad.vir"], 3, &["bad.vir"]);
    p.refuses(&["opt", "."], 3, &["."]);
    assert!(p.vit(&["opt", "--list"]).says(0, &[]).out.contains("attention"));
    assert!(p.vit(&["inspect", "m.onnx", "--dot"]).says(0, &[]).out.starts_with("digraph"));
}

#[test]
fn list_is_for_people_and_machines() {
    let p = Place::new();
    let d = p.vit(&["list", "--json"]).says(0, &[]);
    let rows: serde_json::Value = serde_json::from_str(&d.out).expect("JSON");
    for v in vit_onnx::variants::VARIANTS {
        let presets: Vec<_> = rows.as_array().expect("a list").iter().filter(|r| r["variant"] == v.name).collect();
        assert!(presets.iter().any(|r| r["preset"] == "readme"), "{}", v.name);
        assert!(presets.iter().all(|r| r["flops"].as_u64() > Some(0)), "{presets:?}");
    }
    let one = p.vit(&["list", "vit"]).says(0, &[]).out;
    assert!(one.lines().skip(1).take_while(|l| !l.is_empty()).all(|l| l.starts_with("vit ")), "{one}");
    for part in ["pool         \"cls\"", "dim          required", "1.4.0 to 1.15.7"] {
        assert!(one.contains(part), "{part} is not in\n{one}");
    }
    // A preset is a model file to start from.
    for v in vit_onnx::variants::VARIANTS {
        let file = p.vit(&["list", v.name, "--preset", "tiny", "--toml"]).says(0, &[]).out;
        p.write("start.toml", &file);
        p.vit(&["build", "--config", "start.toml", "-o", "start.onnx"]).says(0, &[v.name]);
    }
    p.refuses(&["list", "vit", "--preset", "huge", "--toml"], 2, &["no preset `huge`", "base-16"]);
    let base = rows.as_array().expect("a list").iter().find(|r| r["preset"] == "base-16").expect("a preset");
    // The paper's base model at 224 pixels: 86.6 M parameters; 17.6 G multiply-adds.
    assert!((86.0e6..87.0e6).contains(&base["parameters"].as_f64().expect("a number")));
    assert!((34.0e9..36.5e9).contains(&base["flops"].as_f64().expect("a number")));
}

#[test]
fn the_help_is_worth_reading() {
    let p = Place::new();
    let pages = ["", "build", "verify", "predict", "bench"];
    let text: BTreeMap<&str, String> = pages
        .into_iter()
        .map(|c| {
            let args: Vec<&str> = [c, "--help"].into_iter().filter(|a| !a.is_empty()).collect();
            (c, done(p.command(&args).env("COLUMNS", "100")).says(0, &[]).out)
        })
        .collect();
    let mut s = insta::Settings::clone_current();
    s.set_snapshot_path(repository("golden/text"));
    s.set_prepend_module_to_snapshot(false);
    s.set_omit_expression(true);
    s.bind(|| {
        for (c, help) in &text {
            insta::assert_snapshot!(if c.is_empty() { "help".to_owned() } else { format!("help.{c}") }, help);
        }
    });
    // Every subcommand and option says what it is for.
    let dir = p.path("man");
    fs::create_dir(&dir).expect("a folder");
    p.vit(&["man", "--dir", "man"]).says(0, &["wrote"]);
    assert!(fs::read_dir(&dir).expect("a folder").count() > 10);
    p.refuses(&["man", "--dir", "nowhere"], 2, &["no folder"]);
}
