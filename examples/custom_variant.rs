//! Declares a variant of one's own (an MLP-Mixer, arXiv 2105.01601), compiles it, writes it as ONNX and runs the file.
//!
//! Run with `cargo run --example custom_variant -- mixer.onnx`; without an argument the file is a temporary one.

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use vit_onnx::build::{Scope, T};
use vit_onnx::compile::{Options, compile};
use vit_onnx::ir::{DType, Tensor};
use vit_onnx::nn::{gelu, layer_norm, linear, patches};
use vit_onnx::onnx::External;
use vit_onnx::runtime::{Engine as _, Interpreter, SessionOptions};
use vit_onnx::variants::{Declaration, Fit, Image, Outputs, Variant};
use vit_onnx::weights::Checkpoint;

/// Mixes along tokens and along channels in turn; no attention.
#[derive(Debug)]
struct Mixer {
    image: usize,
    patch: usize,
    dim: usize,
    depth: usize,
}

fn mlp<'g>(s: Scope<'g>, x: T<'g>, hidden: usize) -> T<'g> {
    linear(s.at("down"), gelu(linear(s.at("up"), x, hidden)), x.size(-1))
}

impl Variant for Mixer {
    fn image(&self) -> Image {
        Image { channels: 3, size: Some([self.image; 2]) }
    }

    // Optional: reported before the model is declared.
    fn check(&self) -> Vec<String> {
        let divides = self.image.is_multiple_of(self.patch);
        if divides { Vec::new() } else { vec!["image: is not divisible by patch".to_owned()] }
    }

    fn forward<'g>(&self, s: Scope<'g>, img: T<'g>, _: Fit) -> Outputs<'g> {
        let mut x = linear(s.at("stem"), patches(s.at("stem"), img, [self.patch; 2]), self.dim);
        for i in 0..self.depth {
            let block = s.at(format_args!("mixer.{i}"));
            let tokens = layer_norm(block.at("token_norm"), x).transpose(&[0, 2, 1]);
            x = x + mlp(block.at("token_mixing"), tokens, 2 * self.dim).transpose(&[0, 2, 1]);
            x = x + mlp(block.at("channel_mixing"), layer_norm(block.at("channel_norm"), x), 4 * self.dim);
        }
        Outputs::logits(linear(s.at("head"), layer_norm(s.at("norm"), x).mean(&[1]), 5))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = std::env::args().nth(1).map_or_else(|| folder.path().join("mixer.onnx"), PathBuf::from);

    let mixer = Declaration::new("mixer", Mixer { image: 16, patch: 4, dim: 8, depth: 2 });
    let compiled = compile(&mixer, &Options::default())?;
    let written = compiled.write(&path, &Checkpoint::initial(0), External::Auto, &mut |_| ())?;

    let mut session = Interpreter.load(&path, &SessionOptions::default())?;
    let images = Tensor::zeros(DType::F32, &[2, 3, 16, 16]);
    let outputs = session.run(&[("pixel_values".to_owned(), images)])?;

    let mut out = std::io::stdout();
    writeln!(out, "{} nodes, {} bytes", compiled.model.graph.nodes.len(), written.model_bytes)?;
    outputs.iter().try_for_each(|(name, t)| writeln!(out, "{name}: {:?} {:?}", t.shape(), t.to_f64_vec()))?;
    Ok(())
}
