//! Prints a graph before and after one pass.
//!
//! Run with `cargo run --example inspect_pass -- fuse-attention`; an unknown name lists the passes.
//! On the command line `vit-onnx build --print-after <pass>` does the same for any model.

use std::error::Error;
use std::io::Write as _;
use vit_onnx::compile::{Options, compile_with};
use vit_onnx::passes;
use vit_onnx::template::{Model, Source};
use vit_onnx::text::{Style, print};

fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "fuse-attention".to_owned());
    let chosen = passes::find(&name)?;
    let model = Model::resolve(&Source::Preset("vit", "tiny"), &[])?;

    let (mut before, mut change) = (String::new(), None);
    let compiled = compile_with(&model, &Options::default(), &mut |pass, program| {
        let text = print(&program.graph, &Style::SNAPSHOT);
        if pass.name == name {
            change = Some((std::mem::take(&mut before), text));
        } else {
            before = text;
        }
    })?;

    let (before, after) = change.ok_or("the pass is not part of an inference build")?;
    let mut out = std::io::stdout();
    writeln!(out, "// {name}: {}\n\n// before\n{before}\n// after\n{after}", chosen.doc)?;
    for (rule, n) in &compiled.report.rules {
        writeln!(out, "// rule {rule} fired {} times", n.count)?;
    }
    Ok(())
}
