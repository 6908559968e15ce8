//! Which engine and providers run a file.

use super::{Place, cat, has_ort};
use vit_onnx::onnx::{self, Initializer, WriteOptions};

/// Says in the file that it was built for `target`.
fn build_for(p: &Place, name: &str, target: &str) {
    p.tiny(name, &[]);
    let mut model = onnx::read(&p.path(name)).expect("a model");
    let entry = model.metadata.iter_mut().find(|(k, _)| k == "vit-onnx.target").expect("it says");
    target.clone_into(&mut entry.1);
    let none = |i: &Initializer, _: &mut dyn std::io::Write| Err(format!("{} is deferred", i.name));
    onnx::write(&model, &p.path(&format!("{target}.onnx")), &WriteOptions::default(), none).expect("a file");
}

#[test]
fn a_file_built_for_an_accelerator_needs_it_or_the_cpu_by_name() {
    let p = Place::new();
    let ort = has_ort(&p);
    let cat = cat();
    for (target, provider) in [("ort-cuda", "cuda"), ("tensorrt", "tensorrt")] {
        build_for(&p, "m.onnx", target);
        let file = format!("{target}.onnx");
        // Where no GPU is.
        if !std::path::Path::new("/dev/nvidiactl").exists() {
            let d = p.vit(&["predict", &file, &cat]);
            let last = format!("{file} was built for {target}; run it on the CPU with --provider cpu\n");
            assert!(d.err.ends_with(&last), "{}", d.err);
            let d = d.says(4, &[]);
            assert!(!ort || d.err.contains(&format!("provider `{provider}` is not available")), "{}", d.err);
        }
        if ort {
            let d = p.vit(&["predict", &file, &cat, "--provider", "cpu"]).says(0, &["nodes on cpu"]);
            assert!(d.err.contains(&format!("{file}: all ")), "{}", d.err);
        }
        p.vit(&["predict", &file, &cat, "--engine", "interpreter"]).says(0, &["interpreter"]);
        p.vit(&["predict", &file, &cat, "--provider", "cpu", "--allow-cpu-nodes"]).says(0, &[]);
    }
    // Any other target: the CPU unless asked otherwise.
    p.vit(&["predict", "m.onnx", &cat]).says(0, &[]);
}
