//! The command line: typed arguments, one file per subcommand, exit codes.
//!
//! Results go to stdout, progress and messages to stderr. Subcommands are functions from arguments
//! to an outcome; only this room prints.

mod args;
mod attention;
mod bench;
mod build;
mod by_layer;
mod compare;
mod doctor;
mod engine;
mod explain;
mod files;
mod inspect;
mod list;
mod manual;
mod opt;
mod output;
mod predict;
mod run;
mod verify;

pub use args::Cli;

use crate::runtime::{EngineError, ErrorKind};
use args::Command;
use std::process::ExitCode;

/// What a subcommand ended with. The numbers are a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Fine.
    Fine = 0,
    /// A difference or a missed bound.
    Difference = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// A bad input file or model file.
    BadFile = 3,
    /// A runtime or provider is not available.
    Unavailable = 4,
    /// A defect of this tool.
    Internal = 5,
}

/// A failed subcommand: what to say and how to exit.
#[derive(Debug)]
pub struct Failure {
    /// How to exit.
    pub exit: Exit,
    /// What to say.
    pub message: String,
}

impl Failure {
    fn new(exit: Exit, message: impl ToString) -> Self {
        Self { exit, message: message.to_string() }
    }
    fn usage(message: impl ToString) -> Self {
        Self::new(Exit::Usage, message)
    }
    fn bad_file(message: impl ToString) -> Self {
        Self::new(Exit::BadFile, message)
    }
}

impl From<EngineError> for Failure {
    fn from(e: EngineError) -> Self {
        let exit = match e.kind() {
            ErrorKind::Unavailable => Exit::Unavailable,
            ErrorKind::BadFile => Exit::BadFile,
            ErrorKind::Failed => Exit::Internal,
        };
        Self::new(exit, e)
    }
}

/// What subcommands return.
type Outcome = Result<Exit, Failure>;

/// Runs a parsed command line.
pub fn run(cli: Cli) -> ExitCode {
    let outcome = match cli.command {
        Command::List(a) => list::run(&a),
        Command::Build(a) => build::run(&a),
        Command::Inspect(a) => inspect::run(&a),
        Command::Run(a) => run::run(&a),
        Command::Predict(a) => predict::run(&a),
        Command::Verify(a) => verify::run(&a),
        Command::Bench(a) => bench::run(&a),
        Command::BenchLoad(a) => bench::load(&a),
        Command::Opt(a) => opt::run(&a),
        Command::Doctor(a) => doctor::run(&a),
        Command::Runtime(a) => doctor::runtime(&a),
        Command::Completions(a) => manual::completions(&a),
        Command::Man(a) => manual::man(&a),
    };
    let exit = outcome.unwrap_or_else(|f| {
        output::error(&f.message);
        f.exit
    });
    ExitCode::from(exit as u8)
}
