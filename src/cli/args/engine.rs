//! Arguments of commands that run models.

use super::{ModelArgs, WeightArgs, count};
use crate::runtime::Provider;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// The choice of an engine.
#[derive(Debug, Args)]
#[command(next_help_heading = "Engine")]
pub(in crate::cli) struct EngineArgs {
    /// The engine that runs the model.
    #[arg(long, value_enum, default_value_t = EngineChoice::Auto)]
    pub(in crate::cli) engine: EngineChoice,
    /// Execution providers in order of preference: cpu, cuda, tensorrt. An unavailable provider is an error. Unless
    /// given, a file built for ort-cuda needs cuda, one built for tensorrt needs tensorrt and cuda, and the CPU runs
    /// any other.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(in crate::cli) provider: Vec<Provider>,
    /// Let the CPU run nodes that no provider can run; without this they are an error. `--provider cuda,cpu` does the
    /// same.
    #[arg(long)]
    pub(in crate::cli) allow_cpu_nodes: bool,
    /// The ONNX Runtime library, or its folder [default: `ORT_DYLIB_PATH`, or a library found on this machine].
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) ort_lib: Option<PathBuf>,
    /// Threads used inside one operator [default: the engine's choice].
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
    /// ONNX Runtime if there is one, else the built-in interpreter.
    Auto,
    /// ONNX Runtime.
    Ort,
    /// The built-in interpreter, which is slow but always available.
    Interpreter,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Run {
    /// The model.
    #[arg(value_name = "MODEL.onnx")]
    pub(in crate::cli) model: PathBuf,
    /// A safetensors file with the inputs, named as in the model; a single tensor may have any name.
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
    /// JPEG or PNG files, or folders of them. One that cannot be used is reported, and the others are classified.
    #[arg(value_name = "PHOTO", required = true)]
    pub(in crate::cli) photos: Vec<PathBuf>,
    /// Class names, one per line [default: those in the model file].
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) labels: Option<PathBuf>,
    /// The number of classes to show, the most likely first.
    #[arg(short, long, default_value_t = 5, value_name = "K", value_parser = count)]
    pub(in crate::cli) k: usize,
    /// Print JSON.
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// Draw the attention of the model, which must be built with `--output-tensor attentions`. With several photographs,
    /// each gets a file HEAT-<photo>.png. The name decides the format: .png or .jpg.
    #[arg(long, value_name = "HEAT.png")]
    pub(in crate::cli) attention: Option<PathBuf>,
    /// Draw the attention rollout over all layers up to the layer, instead of the mean over its heads.
    #[arg(long, requires = "attention")]
    pub(in crate::cli) rollout: bool,
    /// The layer to draw, counted from 0 [default: the last one whose keys are a grid of patches].
    #[arg(long, value_name = "N", requires = "attention")]
    pub(in crate::cli) layer: Option<usize>,
    #[command(flatten)]
    pub(in crate::cli) engine: EngineArgs,
}

const PREDICT_EXAMPLES: &str = "\
Examples:
  vit-onnx predict vit.onnx cat.jpg dog.png -k 3
  vit-onnx predict vit.onnx photos --labels imagenet.txt --json
  vit-onnx build --variant vit --preset base-16 --weights vit.safetensors --output-tensor attentions -o seen.onnx
  vit-onnx predict seen.onnx cat.jpg --attention heat.png --layer 11
Images are resized, cropped and normalized as the model file says, or as usual for ImageNet where it says nothing.";

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
    /// Another model to run on the same random inputs.
    #[arg(long, value_name = "OTHER.onnx")]
    pub(in crate::cli) against: Option<PathBuf>,
    /// The allowed absolute difference.
    #[arg(long, value_name = "X", default_value_t = 1e-5, value_parser = tolerance)]
    pub(in crate::cli) atol: f64,
    /// The allowed difference relative to the expected number, added to --atol.
    #[arg(long, value_name = "X", default_value_t = 1e-4, value_parser = tolerance)]
    pub(in crate::cli) rtol: f64,
    /// Allow outputs in the reference that the model does not have.
    #[arg(long)]
    pub(in crate::cli) allow_unmatched: bool,
    /// Print JSON.
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// Outputs of inner modules by module path (`name#k` is the k-th further call), to find the first that differs. Needs
    /// --weights. The model is the one in the file unless --variant or --config is given.
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
A number passes when |found - expected| <= atol + rtol * |expected|. Exit code 1 when one does
not, when nothing was compared, and when the reference has an output that the model does not have.";

fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x >= 0.0 && x.is_finite() => Ok(x),
        _ => Err("expected a number that is not negative, such as 1e-5".into()),
    }
}
