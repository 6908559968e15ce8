//! The arguments of the command line.

mod bench;
mod engine;
mod look;
mod steer;

pub(super) use bench::{Bench, BenchLoad, ClockChoice};
pub(super) use engine::{EngineArgs, EngineChoice, Predict, Run, Verify};
pub(super) use look::{Completions, Doctor, Inspect, Install, List, Man, Opt, Runtime};
pub(super) use steer::Steer;

use crate::template;
use crate::variants::ImageSize;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Compiles Vision Transformers to ONNX: no Python, no PyTorch.
#[derive(Debug, Parser)]
#[command(name = "vit-onnx", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 fine · 1 a difference or a missed bound · 2 usage · 3 bad input file or model file ·
4 runtime or provider not available · 5 internal error.
Results go to stdout, messages and progress to stderr; NO_COLOR is obeyed. `-` stands for
standard input or standard output in place of a file.";

/// Subcommands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the variants and presets, with their size and cost.
    List(List),
    /// Compile a model to an ONNX file.
    Build(Box<Build>),
    /// Show the contents of an ONNX file, written by this tool or another.
    Inspect(Inspect),
    /// Run a model on tensors.
    Run(Run),
    /// Classify photographs.
    Predict(Predict),
    /// Compare a model's numbers with a reference or another model.
    Verify(Box<Verify>),
    /// Measure models against each other: time, processor time, memory.
    Bench(Box<Bench>),
    #[command(hide = true)]
    BenchLoad(BenchLoad),
    /// Run optimizing passes on the text form of a graph.
    Opt(Opt),
    /// Report what this machine offers: ONNX Runtime, providers, Python.
    Doctor(Doctor),
    /// Manage ONNX Runtime.
    Runtime(Runtime),
    /// Print a completion script for a shell.
    Completions(Completions),
    /// Print the manual page.
    Man(Man),
}

impl Command {
    /// The files that the command reads.
    pub(super) fn inputs(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Build(a) => {
                [&mut a.model.config, &mut a.weights.weights, &mut a.labels].into_iter().flatten().collect()
            }
            Self::Inspect(a) => vec![&mut a.file],
            Self::Run(a) => vec![&mut a.model, &mut a.input],
            Self::Predict(a) => [&mut a.model].into_iter().chain(&mut a.photos).chain(&mut a.labels).collect(),
            Self::Verify(a) => {
                let others = [&mut a.reference, &mut a.against, &mut a.by_layer];
                let declared = [&mut a.declared.config, &mut a.weights.weights];
                [&mut a.file].into_iter().chain(others.into_iter().chain(declared).flatten()).collect()
            }
            Self::Bench(a) => a.models.iter_mut().collect(),
            Self::Opt(a) => a.file.iter_mut().collect(),
            _ => Vec::new(),
        }
    }
}

/// The choice of a model.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(super) struct ModelArgs {
    /// A variant that `vit-onnx list` shows.
    #[arg(long, conflicts_with = "config")]
    pub(super) variant: Option<String>,
    /// A preset of the variant.
    #[arg(long, default_value = "readme", conflicts_with = "config")]
    pub(super) preset: String,
    /// A model file (TOML) instead of a variant; an ONNX file of this tool contains its model file.
    #[arg(long, value_name = "MODEL.toml")]
    pub(super) config: Option<PathBuf>,
    /// Set a key of the model file; the value is TOML or a bare word. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = template::parse_set)]
    pub(super) sets: Vec<(String, toml::Value)>,
    /// Height and width of the input images if they are smaller than the model's `image_size`: `N` or `HxW`.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(super) input_size: Option<toml::Value>,
}

const BUILD_EXAMPLES: &str = "\
Examples:
  vit-onnx build --variant vit --preset base-16 -o vit.onnx
  vit-onnx build --variant vit --set image_size=384 --set depth=8 --seed 7
  vit-onnx build --config model.toml --weights model.pt --labels labels.txt -o model.onnx
  vit-onnx build --config model.onnx --weights model.pt --output-tensor attentions -o seen.onnx
  vit-onnx build --variant vit --weights model.pt --image-size 384 -o larger.onnx
  vit-onnx build --variant vit --target ort-cpu --batch 1 --opset 17
Without --weights the parameters are initialized as PyTorch would. Values of --set are TOML or a bare word:
--set dim=[256,384,512], --set release=1, --set pool=mean, --set inner.kind=nystrom.";

/// The source of the weights.
#[derive(Debug, Args)]
#[command(next_help_heading = "Weights")]
pub(super) struct WeightArgs {
    /// A checkpoint: .safetensors, .pt or .pth. Without one, parameters get random initial values.
    #[arg(long, value_name = "FILE")]
    pub(super) weights: Option<PathBuf>,
    /// The entry of a nested checkpoint that holds the state dict, such as `model` or `ema.module`.
    #[arg(long, value_name = "KEY", requires = "weights")]
    pub(super) weights_key: Option<String>,
    /// The prefix of the model's keys if several fit; "" for none.
    #[arg(long, value_name = "PREFIX", requires = "weights")]
    pub(super) weights_prefix: Option<String>,
    /// Use random initial values for parameters that the checkpoint lacks.
    #[arg(long, requires = "weights")]
    pub(super) allow_missing: bool,
    /// Ignore keys of the checkpoint that the model does not have.
    #[arg(long, requires = "weights")]
    pub(super) allow_unexpected: bool,
    /// The seed of random initial values and inputs.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(super) seed: u64,
}

/// Arguments of `build`.
#[derive(Debug, Args)]
#[command(after_help = BUILD_EXAMPLES)]
pub(super) struct Build {
    #[command(flatten)]
    pub(super) model: ModelArgs,
    #[command(flatten)]
    pub(super) weights: WeightArgs,
    /// The batch size: `dynamic` or a number.
    #[arg(long, help_heading = "Target", default_value = "dynamic", value_parser = batch)]
    pub(super) batch: Batch,
    /// Add intermediate values to the outputs: `attentions`, the attention weights of every layer after softmax. May be
    /// repeated.
    #[arg(long = "output-tensor", help_heading = "Output", value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(crate::variants::TAPS))]
    pub(super) output_tensors: Vec<String>,
    /// Another image size than the checkpoint's `image_size`: `N` or `HxW` to resample the position tables now, or
    /// `dynamic` to resample them when the model runs. (`--input-size` uses their leading rows.)
    #[arg(long, help_heading = "Target", value_name = "SIZE", conflicts_with = "input_size")]
    pub(super) image_size: Option<ImageSize>,
    /// Class names, one per line, to store in the file.
    #[arg(long, help_heading = "Output", value_name = "FILE")]
    pub(super) labels: Option<PathBuf>,
    /// The file to write [default: `<variant>.onnx`].
    #[arg(short, long, help_heading = "Output", value_name = "OUT.onnx")]
    pub(super) output: Option<PathBuf>,
    /// When to store tensors beside the file instead of in it (`auto`: above 1.5 GiB).
    #[arg(long, help_heading = "Output", value_enum, default_value_t = ExternalData::Auto, num_args = 0..=1, default_missing_value = "always")]
    pub(super) external_data: ExternalData,
    #[command(flatten)]
    pub(super) steer: Steer,
    /// Report what every pass and rule did, the estimated cost before and after, and why rules refused.
    #[arg(long, help_heading = "Debugging")]
    pub(super) explain: bool,
    /// Print the program in text form after this pass (`all` for every pass).
    #[arg(long, help_heading = "Debugging", value_name = "PASS")]
    pub(super) print_after: Option<String>,
}

/// A batch size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch(pub(super) Option<usize>);

fn batch(text: &str) -> Result<Batch, String> {
    match text {
        "dynamic" => Ok(Batch(None)),
        n => count(n).map(|n| Batch(Some(n))).map_err(|_| "expected `dynamic` or a number from 1 to 1048576".into()),
    }
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=1_048_576) => Ok(n),
        _ => Err("expected a number from 1 to 1048576".into()),
    }
}

fn size(text: &str) -> Result<toml::Value, String> {
    let number = |s: &str| s.parse::<i64>().ok().filter(|n| *n > 0).map(toml::Value::from);
    match text.split_once('x') {
        None => number(text),
        Some((h, w)) => number(h).zip(number(w)).map(|(h, w)| toml::Value::Array(vec![h, w])),
    }
    .ok_or_else(|| "expected a size such as 224 or 224x192".into())
}

/// When to store tensors beside the model.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ExternalData {
    /// Above 1.5 GiB.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}
