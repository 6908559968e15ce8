//! Arguments of `bench`.

use super::engine::{EngineArgs, threads};
use super::{EngineChoice, count};
use crate::runtime::Provider;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Arguments of `bench`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Bench {
    /// ONNX files, of this tool or another. The first one, with the first provider, is the baseline.
    #[arg(value_name = "MODEL.onnx", required = true)]
    pub(in crate::cli) models: Vec<PathBuf>,
    /// The shape of an input, needed where a model leaves sizes open. May be repeated.
    #[arg(long = "shape", value_name = "NAME=1x3x224x224", value_parser = shape)]
    pub(in crate::cli) shapes: Vec<(String, Vec<usize>)>,
    /// Batch sizes, for models with an open batch: a table for each.
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = count)]
    pub(in crate::cli) batch: Vec<usize>,
    /// The seed of the random inputs.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(in crate::cli) seed: u64,
    /// Print JSON: every round, and all that the tables say. Times are in seconds, memory in bytes.
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// Exit with 1 when a model takes more than R times as long as the baseline: when the median of its ratio is above R.
    #[arg(long, value_name = "R", value_parser = bound)]
    pub(in crate::cli) fail_over: Option<f64>,
    /// The clock that --fail-over looks at.
    #[arg(long, value_enum, value_name = "CLOCK", default_value_t = ClockChoice::Wall, requires = "fail_over")]
    pub(in crate::cli) fail_clock: ClockChoice,
    /// What runs the models.
    #[arg(long, value_enum, default_value_t = EngineChoice::Auto, help_heading = "Engine")]
    pub(in crate::cli) engine: EngineChoice,
    /// Execution providers to compare: cpu, cuda, tensorrt. Every model runs on each of them.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "cpu", help_heading = "Engine")]
    pub(in crate::cli) provider: Vec<Provider>,
    /// Let the CPU run nodes that the provider cannot run; without this they are an error.
    #[arg(long, help_heading = "Engine")]
    pub(in crate::cli) allow_cpu_nodes: bool,
    /// The ONNX Runtime library, or the folder it is in; `ORT_DYLIB_PATH` otherwise, or what is found on this machine.
    #[arg(long, value_name = "PATH", help_heading = "Engine")]
    pub(in crate::cli) ort_lib: Option<PathBuf>,
    /// Threads used inside one operator, a table for each number; the engine's choice unless given.
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = threads, help_heading = "Engine")]
    pub(in crate::cli) threads: Vec<usize>,
    #[command(flatten)]
    pub(in crate::cli) length: Length,
    #[command(flatten)]
    pub(in crate::cli) profiling: Profiling,
}

/// How long to measure.
#[derive(Debug, Args)]
#[command(next_help_heading = "Length")]
pub(in crate::cli) struct Length {
    /// Seconds for each model and provider; slow models take at least 8 rounds, however long.
    #[arg(long, default_value_t = 3.0, value_name = "S", value_parser = seconds)]
    pub(in crate::cli) seconds: f64,
    /// This many rounds instead. A round calls every model once, or for 2 ms where a call takes less.
    #[arg(long, value_name = "N", value_parser = count, conflicts_with = "seconds")]
    pub(in crate::cli) rounds: Option<usize>,
    /// Calls of each model before the first round.
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub(in crate::cli) warm_up: u16,
    /// How often each model is loaded, in a process of its own, for the time and memory that takes; 0 leaves it out.
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub(in crate::cli) loads: u16,
}

/// Where the time goes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Profile")]
pub(in crate::cli) struct Profiling {
    /// Show where the time goes, by block and by op, from the profile that ONNX Runtime writes.
    #[arg(long)]
    pub(in crate::cli) profile: bool,
    /// Show every layer by itself, where --profile shows layers that differ in their number as one.
    #[arg(long, requires = "profile")]
    pub(in crate::cli) each_layer: bool,
    /// How many blocks and ops --profile shows, the longest first.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = count, requires = "profile")]
    pub(in crate::cli) top: usize,
}

/// A clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum ClockChoice {
    /// Time that passed.
    Wall,
    /// Time of processors: with --threads 1 robust on a machine that does other things too.
    Processor,
}

/// Arguments of the process that loads one model, which `bench` starts.
#[derive(Debug, Args)]
pub(in crate::cli) struct BenchLoad {
    /// The model.
    pub(in crate::cli) model: PathBuf,
    /// Shapes of all inputs.
    #[arg(long = "shape", value_parser = shape)]
    pub(in crate::cli) shapes: Vec<(String, Vec<usize>)>,
    #[command(flatten)]
    pub(in crate::cli) engine: EngineArgs,
}

const EXAMPLES: &str = "\
Examples:
  vit-onnx bench plain.onnx fused.onnx --threads 1
  vit-onnx bench vit.onnx theirs.onnx --batch 1,8,32 --threads 1,2
  vit-onnx bench vit.onnx --provider cpu,cuda --shape pixel_values=1x3x224x224
  vit-onnx bench plain.onnx fused.onnx --profile
  vit-onnx bench yesterday.onnx today.onnx --threads 1 --fail-over 1.05 --fail-clock processor
Models are called in turn, in an order that changes from round to round, and compared round by
round. `ratio` is the median of a model's time by the baseline's in the same round, with its
quartiles; it is green below and red above 1 where these leave 0.98 to 1.02 on one side. `cpu`
is the processor time of all threads. A note says where the machine was busy: measure again, or go
by the processor time with --threads 1. A file measured against itself shows how far to trust the
figures.";

fn shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let wrong = || "expected a name and sizes, such as pixel_values=1x3x224x224".to_owned();
    // Names of other tools may hold `=`, sizes do not.
    let (name, sizes) = text.rsplit_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
    // A scalar has no sizes.
    let sizes = sizes.split('x').filter(|_| !sizes.is_empty());
    let sizes = sizes.map(|s| s.parse().ok().filter(|n| *n <= 1 << 32).ok_or_else(wrong)).collect::<Result<_, _>>()?;
    Ok((name.to_owned(), sizes))
}

fn seconds(text: &str) -> Result<f64, String> {
    positive(text).ok_or_else(|| "expected seconds above 0, such as 0.5".into())
}

fn bound(text: &str) -> Result<f64, String> {
    positive(text).ok_or_else(|| "expected a ratio above 0, such as 1.05".into())
}

fn positive(text: &str) -> Option<f64> {
    text.parse().ok().filter(|x: &f64| *x > 0.0 && x.is_finite())
}
