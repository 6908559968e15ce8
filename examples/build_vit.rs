//! Builds a Vision Transformer with the library and writes it as ONNX.
//!
//! Run with `cargo run --example build_vit -- tiny vit.onnx model.pt`; the first argument is a preset of
//! `templates/vit.toml`, `readme` by default. Without a checkpoint the weights are initial values.

use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use vit_onnx::compile::{Options, compile};
use vit_onnx::onnx::External;
use vit_onnx::target::Target;
use vit_onnx::template::{Model, Source};
use vit_onnx::weights::{self, Checkpoint, ImportOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let preset = args.next().unwrap_or_else(|| "readme".to_owned());
    let path = args.next().map_or_else(|| PathBuf::from("vit.onnx"), PathBuf::from);

    let model = Model::resolve(&Source::Preset("vit", &preset), &[])?;
    let options = Options { target: Target::ORT_CPU, taps: vec!["attentions".to_owned()], ..Options::default() };
    let compiled = compile(&model.declaration, &options)?;

    // A .safetensors or .pt file; else initial values, the same for the same seed.
    let checkpoint = match args.next() {
        Some(file) => {
            let source = weights::open(Path::new(&file), None)?;
            Checkpoint::open(source, &compiled.declared, &ImportOptions::default(), 0)?
        }
        None => Checkpoint::initial(0),
    };
    let written = compiled.write(&path, &checkpoint, External::Auto, &mut |_| ())?;

    let mut out = std::io::stdout();
    writeln!(out, "{}: {} nodes, {} bytes", path.display(), compiled.model.graph.nodes.len(), written.model_bytes)?;
    for o in &compiled.model.graph.outputs {
        writeln!(out, "  output {}", o.name)?;
    }
    Ok(())
}
