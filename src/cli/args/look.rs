//! Arguments of commands that show something.

use super::Steer;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    /// Only this variant, with its arguments and eras.
    #[arg(value_name = "VARIANT")]
    pub(in crate::cli) variant: Option<String>,
    /// The preset that `--toml` prints.
    #[arg(long, value_name = "PRESET", default_value = "readme", requires = "toml")]
    pub(in crate::cli) preset: String,
    /// Print a preset as a model file to start from, for `build --config`.
    #[arg(long, requires = "variant", conflicts_with = "json")]
    pub(in crate::cli) toml: bool,
    /// Print JSON.
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Inspect {
    /// The model. Files with its external data may be missing.
    #[arg(value_name = "MODEL.onnx")]
    pub(in crate::cli) file: PathBuf,
    /// Print JSON.
    #[arg(long, conflicts_with_all = ["text", "dot"])]
    pub(in crate::cli) json: bool,
    /// Print the graph in text form, which `vit-onnx opt` reads.
    #[arg(long, conflicts_with = "dot")]
    pub(in crate::cli) text: bool,
    /// Print the graph for Graphviz, modules as clusters.
    #[arg(long)]
    pub(in crate::cli) dot: bool,
}

/// Arguments of `opt`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Opt {
    /// A graph in text form; a second graph in the file is its weight program.
    #[arg(value_name = "GRAPH.vir", required_unless_present = "list")]
    pub(in crate::cli) file: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) steer: Steer,
    /// List every pass and every rewrite rule.
    #[arg(long, conflicts_with = "file")]
    pub(in crate::cli) list: bool,
    /// Show the rewrite rule that made each node, as comments.
    #[arg(long)]
    pub(in crate::cli) origins: bool,
    /// Report what every pass and rule did, the estimated cost before and after, and why rules refused.
    #[arg(long)]
    pub(in crate::cli) explain: bool,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Doctor {
    /// The ONNX Runtime library to try, or its folder.
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) ort_lib: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// Arguments of `runtime`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Runtime {
    #[command(subcommand)]
    pub(in crate::cli) action: Install,
}

/// Actions on ONNX Runtime.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(in crate::cli) enum Install {
    /// Fetch ONNX Runtime with this machine's pip into the tool's cache.
    Install,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Completions {
    /// The shell.
    #[arg(value_name = "SHELL")]
    pub(in crate::cli) shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Man {
    /// Write a page for each command into this folder, instead of printing the first.
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) dir: Option<PathBuf>,
}
