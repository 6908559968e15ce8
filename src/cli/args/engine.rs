//! Arguments of commands that run models.

use super::{ModelArgs, WeightArgs};
use crate::runtime::Provider;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// What runs a model.
#[derive(Debug, Args)]
#[command(next_help_heading = "Engine")]
pub(in crate::cli) struct EngineArgs {
    /// What runs the model.
    #[arg(long, value_enum, default_value_t = EngineChoice::Auto)]
    pub(in crate::cli) engine: EngineChoice,
    /// Execution providers in order of preference: cpu, cuda, tensorrt. One that is not available is an error. Unless
    /// given, a file built for ort-cuda needs cuda, one built for tensorrt needs tensorrt and cuda, and the CPU runs
    /// any other.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(in crate::cli) provider: Vec<Provider>,
    /// Let the CPU run nodes that no provider can run; without this they are an error. `--provider cuda,cpu` does the
    /// same.
    #[arg(long)]
    pub(in crate::cli) allow_cpu_nodes: bool,
    /// The ONNX Runtime library, or the folder it is in; `ORT_DYLIB_PATH` otherwise, or what is found on this machine.
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) ort_lib: Option<PathBuf>,
    /// Threads used inside one operator; the engine's choice unless given.
    #[arg(long, value_name = "N", value_parser = threads)]
    pub(in crate::cli) threads: Option<usize>,
}

pub(super) fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=1024) => Ok(n),
        _ => Err("expected a number from 1 to 1024".into()),
    }
}

/// An engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum EngineChoice {
    /// ONNX Runtime where there is one, else the built-in interpreter.
    Auto,
    /// ONNX Runtime.
    Ort,
    /// The built-in interpreter: slow, but always there.
    Interpreter,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Run {
    /// The model.
    #[arg(value_name = "MODEL.onnx")]
    pub(in crate::cli) model: PathBuf,
    /// A safetensors file with the inputs under the model's names; a single tensor may have any name.
    #[arg(long, value_name = "X.safetensors")]
    pub(in crate::cli) input: PathBuf,
    /// Write the outputs to this safetensors file, instead of printing a summary of them.
    #[arg(short, long, value_name = "Y.safetensors")]
    pub(in crate::cli) output: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) engine: EngineArgs,
}

/// Arguments of `predict`.
#[derive(Debug, Args)]
#[command(after_help = PREDICT_EXAMPLES)]
pub(in crate::cli) struct Predict {
    /// The model.
    #[arg(value_name = "MODEL.onnx")]
    pub(in crate::cli) model: PathBuf,
    /// JPEG or PNG files.
    #[arg(value_name = "PHOTO", required = true)]
    pub(in crate::cli) photos: Vec<PathBuf>,
    /// Class names, one a line; those in the model file otherwise.
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) labels: Option<PathBuf>,
    /// How many classes to show, the likeliest first.
    #[arg(short, long, default_value_t = 5, value_name = "K", value_parser = top)]
    pub(in crate::cli) k: usize,
    /// Print JSON.
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// Draw where the model looked; needs a model built with `--output-tensor attentions`. With several photographs,
    /// HEAT-<photo>.png for each.
    #[arg(long, value_name = "HEAT.png")]
    pub(in crate::cli) attention: Option<PathBuf>,
    /// Draw the attention rollout over all layers up to the shown one, instead of the mean over its heads.
    #[arg(long, requires = "attention")]
    pub(in crate::cli) rollout: bool,
    /// The layer to draw, counted from 0; the last one whose keys form a picture unless given.
    #[arg(long, value_name = "N", requires = "attention")]
    pub(in crate::cli) layer: Option<usize>,
    #[command(flatten)]
    pub(in crate::cli) engine: EngineArgs,
}

const PREDICT_EXAMPLES: &str = "\
Examples:
  vit-onnx predict vit.onnx cat.jpg dog.png -k 3
  vit-onnx predict vit.onnx photos/*.jpg --labels imagenet.txt --json
  vit-onnx build --variant vit --preset base-16 --weights vit.safetensors --output-tensor attentions -o seen.onnx
  vit-onnx predict seen.onnx cat.jpg --attention heat.png --layer 11
Images are resized, cropped and normalized as the model file says, or as usual for ImageNet where it says nothing.";

fn top(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=1_048_576) => Ok(n),
        _ => Err("expected a number from 1".into()),
    }
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[command(after_help = VERIFY_EXAMPLES)]
#[command(group = clap::ArgGroup::new("with").required(true).args(["reference", "against"]))]
pub(in crate::cli) struct Verify {
    /// The model.
    #[arg(value_name = "MODEL.onnx")]
    pub(in crate::cli) file: PathBuf,
    /// Inputs and expected outputs: tensors named as in the model, or `input` and `output`, `output.1`, `attn`.
    #[arg(long, value_name = "IO.safetensors")]
    pub(in crate::cli) reference: Option<PathBuf>,
    /// Another model, which gets the same random inputs.
    #[arg(long, value_name = "OTHER.onnx")]
    pub(in crate::cli) against: Option<PathBuf>,
    /// The allowed difference, for numbers near zero.
    #[arg(long, value_name = "X", default_value_t = 1e-5, value_parser = tolerance)]
    pub(in crate::cli) atol: f64,
    /// The allowed difference as a part of the expected number, added to --atol.
    #[arg(long, value_name = "X", default_value_t = 1e-4, value_parser = tolerance)]
    pub(in crate::cli) rtol: f64,
    /// Print JSON.
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// Outputs of inner modules by module path (`name#k` is the k-th further call): finds the first that differs. Needs
    /// --weights; the model is the one the file says it was built from unless --variant or --config is given.
    #[arg(long, value_name = "MID.safetensors", requires_all = ["reference", "weights"])]
    pub(in crate::cli) by_layer: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) declared: ModelArgs,
    #[command(flatten)]
    pub(in crate::cli) weights: WeightArgs,
    #[command(flatten)]
    pub(in crate::cli) engine: EngineArgs,
}

const VERIFY_EXAMPLES: &str = "\
Examples:
  vit-onnx verify vit.onnx --reference io.safetensors --atol 1e-6
  vit-onnx verify fused.onnx --against plain.onnx --seed 3
  vit-onnx verify vit.onnx --reference io.safetensors --by-layer mid.safetensors --weights vit.safetensors
A number passes when |found - expected| <= atol + rtol * |expected|. NaN never passes. Exit code 1 when one does not.";

fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x >= 0.0 && x.is_finite() => Ok(x),
        _ => Err("expected a number from 0, such as 1e-5".into()),
    }
}
