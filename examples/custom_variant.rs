//! Declares a variant of one's own (an MLP-Mixer, arXiv 2105.01601), compiles it and runs it through
//! the interpreter.
//!
//! Run with `cargo run --example custom_variant`.

use std::error::Error;
use std::io::Write as _;
use vit_onnx::build::{Scope, T};
use vit_onnx::eval;
use vit_onnx::ir::{DType, Tensor};
use vit_onnx::nn::{Fit, Release, gelu, layer_norm, linear, patches};
use vit_onnx::ops::Program;
use vit_onnx::passes;
use vit_onnx::target::Target;
use vit_onnx::variants::{Declare, Image, Outputs, Sizes, Variant, declare};
use vit_onnx::weights::{Checkpoint, Supply};

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

    fn check(&self, _: Release) -> Vec<String> {
        let divides = self.image.is_multiple_of(self.patch);
        if divides { Vec::new() } else { vec!["image: does not divide by patch".to_owned()] }
    }

    fn sizes(&self, _: Release) -> Sizes {
        Sizes::squares(self.patch, "mixing tokens takes a weight for each of them")
    }

    fn forward<'g>(&self, _: Release, s: Scope<'g>, img: T<'g>, _: Fit) -> Outputs<'g> {
        let mut x = linear(s.at("stem"), patches(img, [self.patch; 2]), self.dim);
        for i in 0..self.depth {
            let block = s.at(format_args!("mixer.{i}"));
            let tokens = layer_norm(block.at("token_norm"), x).transpose(&[0, 2, 1]);
            x = x + mlp(block.at("token_mixing"), tokens, 2 * self.dim).transpose(&[0, 2, 1]);
            x = x + mlp(block.at("channel_mixing"), layer_norm(block.at("channel_norm"), x), 4 * self.dim);
        }
        Outputs::logits(linear(s.at("head"), layer_norm(s.at("norm"), x).mean(&[1]), 5))
    }

    fn arguments(&self) -> toml::Table {
        toml::Table::new()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mixer = Mixer { image: 16, patch: 4, dim: 8, depth: 2 };
    let graph = declare("mixer", &mixer, Release::V1, &Declare::default())?;
    let options = passes::Options::default();
    let run = passes::compile(&Program::new(graph), Target::PORTABLE, None, &options, &mut |_, _| ())?;
    let program = run.program;

    let checkpoint = Checkpoint::initial(0);
    let supply = Supply::new(&program, &checkpoint);
    let images = Tensor::zeros(DType::F32, &[2, 3, 16, 16]);
    let mut param = |path: &str, _: &_| supply.tensor(path).map_err(|e| e.to_string());
    let outputs = eval::run(&program.graph, &mut param, &[("pixel_values", images)])?;

    let mut out = std::io::stdout();
    writeln!(out, "rewrites: {:?}", run.ctx.rules)?;
    outputs.iter().try_for_each(|(name, t)| writeln!(out, "{name}: {:?} {:?}", t.shape(), t.to_f64_vec()))?;
    Ok(())
}
