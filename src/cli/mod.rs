//! The command line: typed arguments, one file per subcommand, exit codes.
//!
//! Results go to stdout, progress and messages to stderr. Each subcommand is a function from arguments
//! to an outcome. Only this room prints.

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
mod stream;
mod verify;

pub use args::Cli;

use crate::runtime::{EngineError, ErrorKind};
use args::Command;
use std::process::ExitCode;

/// The exit code of a subcommand. The numbers are a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The command succeeded.
    Fine = 0,
    /// A comparison found a difference, or a bound was missed.
    Difference = 1,
    /// The command line is invalid.
    Usage = 2,
    /// An input file or model file is invalid.
    BadFile = 3,
    /// A runtime or provider is not available.
    Unavailable = 4,
    /// This tool has a defect.
    Internal = 5,
}

/// The error of a subcommand: a message and an exit code.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// The message.
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

/// The result of a subcommand.
type Outcome = Result<Exit, Failure>;

/// Runs a parsed command line.
pub fn run(cli: Cli) -> ExitCode {
    let mut command = cli.command;
    // The files of streams live until the command is done.
    let outcome = stream::spool(command.inputs()).and_then(|_spooled| match command {
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
    });
    let exit = outcome.unwrap_or_else(|f| {
        output::error(&f.message);
        f.exit
    });
    ExitCode::from(exit as u8)
}
