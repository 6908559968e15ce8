//! Where files come from and go to: streams, links, folders of photographs, pictures by name.

use super::{Done, MODEL, Place, cat, repository};
use std::fs::{self, File};
use std::process::{Command, Output};

const ENGINE: [&str; 2] = ["--engine", "interpreter"];

impl Place {
    /// A command whose standard input is a pipe from this file.
    fn piped(&self, file: &str, args: &[&str]) -> Output {
        let mut shell = Command::new("sh");
        let script = "file=$1; shift; cat -- \"$file\" | \"$@\"";
        shell.args(["-c", script, "sh", file, env!("CARGO_BIN_EXE_vit-onnx")]).args(args);
        shell.current_dir(self.dir.path()).env("NO_COLOR", "1").env_remove("ORT_DYLIB_PATH");
        shell.output().expect("a shell")
    }
}

fn text(o: Output) -> Done {
    let text = |b: Vec<u8>| String::from_utf8(b).expect("UTF-8");
    Done { code: o.status.code().expect("no signal"), out: text(o.stdout), err: text(o.stderr) }
}

#[cfg(unix)]
#[test]
fn a_minus_is_standard_input_and_output() {
    let p = Place::new();
    p.write("m.toml", MODEL);
    let weights = repository("golden/reference/seed/vit_cls/weights.safetensors");
    p.vit(&["build", "--config", "m.toml", "--weights", &weights, "-o", "m.onnx"]).says(0, &[]);
    let whole = fs::read(p.path("m.onnx")).expect("a file");
    let before = p.files();
    for args in [
        &["build", "--config", "m.toml", "--weights", "-", "-o", "-"][..],
        &["build", "--config", "m.toml", "--weights", "/dev/stdin", "-o", "/dev/stdout"],
    ] {
        let built = p.piped(&weights, args);
        assert_eq!(built.status.code(), Some(0), "{}", String::from_utf8_lossy(&built.stderr));
        assert!(built.stdout == whole, "{args:?} wrote something else");
    }
    let build = ["build", "--config", "-", "--weights", &weights, "-o", "-"];
    assert!(p.piped("m.toml", &build).stdout == whole);

    text(p.piped("m.toml", &["build", "--config", "-", "--weights", "-"])).says(2, &["read only once"]);
    text(p.piped("m.toml", &["build", "--config", "m.toml", "--weights", "-"]))
        .says(3, &["standard input", "text file"]);
    p.refuses(&["build", "--config", "m.toml", "-o", "-", "--external-data"], 2, &["standard output is no file"]);
    assert_eq!(p.files(), before, "something was left behind");

    let inspected = text(p.piped("m.onnx", &["inspect", "-"])).says(0, &[]);
    assert!(inspected.out.starts_with("file        standard input"), "{}", inspected.out);
    text(p.piped("m.onnx", &["opt", "-"])).says(3, &["standard input", "not a text file"]);
    let io = repository("golden/reference/seed/vit_cls/io.safetensors");
    let verify = ["verify", "m.onnx", "--reference", "-"];
    text(p.piped(&io, &[&verify[..], &ENGINE].concat())).says(0, &[]);
    let d = text(p.piped(&cat(), &[&["predict", "m.onnx", "-"], &ENGINE[..]].concat())).says(0, &[]);
    assert!(d.out.starts_with("standard input\n"), "{}", d.out);
    text(p.piped("m.onnx", &[&["bench", "-", "--rounds", "8"], &ENGINE[..]].concat())).says(0, &[]);
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_written_to_and_a_link_is_followed() {
    let p = Place::new();
    p.vit(&["build", "--variant", "vit", "--preset", "tiny", "-o", "/dev/null"]).says(0, &["wrote /dev/null"]);
    assert!(!fs::metadata("/dev/null").expect("a device").is_file());
    if cfg!(target_os = "linux") {
        p.refuses(&["build", "--variant", "vit", "--preset", "tiny", "-o", "/dev/full"], 3, &["/dev/full"]);
    }
    std::os::unix::fs::symlink("real.onnx", p.path("link.onnx")).expect("a link");
    p.tiny("link.onnx", &[]);
    p.tiny("plain.onnx", &[]);
    assert!(p.path("link.onnx").is_symlink());
    assert_eq!(fs::read(p.path("real.onnx")).ok(), fs::read(p.path("plain.onnx")).ok());
}

#[test]
fn an_unreadable_photograph_does_not_stop_the_others() {
    let p = Place::new();
    p.tiny("m.onnx", &["--output-tensor", "attentions"]);
    fs::create_dir(p.path("photos")).expect("a folder");
    for name in ["b.jpg", "a.JPG"] {
        fs::copy(cat(), p.path("photos").join(name)).expect("a copy");
    }
    p.write("photos/aa.png", "no picture");
    p.write("photos/notes.txt", "not asked for");
    let predict = |more: &[&str]| p.vit(&[&["predict", "m.onnx"], more, &ENGINE[..]].concat());
    let d = predict(&["photos"]).says(3, &["aa.png: not a readable", "1 of 3 photographs could not be used"]);
    let at = |name: &str| d.out.find(name).unwrap_or_else(|| panic!("no {name} in {}", d.out));
    assert!(at("a.JPG") < at("b.jpg") && !d.out.contains("aa.png"), "{}", d.out);
    let json: serde_json::Value = serde_json::from_str(&predict(&["photos", "--json"]).says(3, &[]).out).expect("JSON");
    assert!(json[1]["problem"].as_str().is_some_and(|s| s.contains("aa.png")), "{json}");
    assert!(json[2]["predictions"].is_array(), "{json}");
    fs::create_dir(p.path("empty")).expect("a folder");
    p.refuses(&["predict", "m.onnx", "empty"], 3, &["empty has no photographs"]);

    // Pictures are what their names say.
    let cat = cat();
    for (name, magic) in [("heat.jpg", &b"\xff\xd8"[..]), ("heat.png", b"\x89PNG")] {
        predict(&[&cat, "--attention", name]).says(0, &["wrote heat"]);
        assert!(fs::read(p.path(name)).expect("a picture").starts_with(magic), "{name}");
    }
    p.refuses(&["predict", "m.onnx", &cat, "--attention", "heat.gif"], 2, &["heat.gif", ".png or .jpg"]);
    p.refuses(&["predict", "m.onnx", "photos", "--attention", "-"], 2, &["one picture only"]);
    let out = File::create(p.path("out")).expect("a file");
    let mut to_stdout = p.command(&[&["predict", "m.onnx", &cat, "--attention", "-"], &ENGINE[..]].concat());
    assert!(to_stdout.stdout(out).status().expect("it runs").success());
    assert_eq!(fs::read(p.path("out")).ok(), fs::read(p.path("heat.png")).ok());
}
