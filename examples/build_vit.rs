//! Builds a Vision Transformer with the library and writes it as ONNX.
//!
//! Run with `cargo run --example build_vit -- tiny vit.onnx`; the first argument is a preset of
//! `templates/vit.toml`, `readme` by default.

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use vit_onnx::compile::{Options, compile};
use vit_onnx::onnx::External;
use vit_onnx::target::Target;
use vit_onnx::template::{Model, Source};
use vit_onnx::weights::Checkpoint;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let preset = args.next().unwrap_or_else(|| "readme".to_owned());
    let path = args.next().map_or_else(|| PathBuf::from("vit.onnx"), PathBuf::from);

    let model = Model::resolve(&Source::Preset("vit", &preset), &[])?;
    let options = Options { target: Target::ORT_CPU, taps: vec!["attentions".to_owned()], ..Options::default() };
    let compiled = compile(&model, &options)?;

    // No checkpoint: initial values, the same for the same seed. `weights::open` and
    // `Checkpoint::open` take a .safetensors or .pt file instead.
    let written = compiled.write(&path, &Checkpoint::initial(0), External::Auto, &mut |_| ())?;

    let mut out = std::io::stdout();
    writeln!(out, "{}: {} nodes, {} bytes", path.display(), compiled.model.graph.nodes.len(), written.model_bytes)?;
    for o in &compiled.model.graph.outputs {
        writeln!(out, "  output {}", o.name)?;
    }
    Ok(())
}
