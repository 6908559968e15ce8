//! Errors of engines, sorted by what the user can do about them.

use super::{BindProblem, Provider};
use std::fmt::Write as _;
use std::path::PathBuf;

/// The remedy that an [`EngineError`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The engine or a provider is not on this machine, or it cannot run the model: install it or ask for another.
    Unavailable,
    /// The model file or a tensor is not what was expected: give another.
    BadFile,
    /// The engine failed while computing.
    Failed,
}

/// An error of an engine or a session.
#[allow(missing_docs, reason = "the message of a variant names its fields")]
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The engine itself is not available.
    #[error("{engine} is not available: {reason}")]
    Unavailable { engine: String, reason: String },
    /// A provider that was asked for is not available.
    #[error("provider `{provider}` is not available in {engine}: {reason}")]
    Provider { provider: Provider, engine: String, reason: String },
    /// The CPU would run nodes that no provider asked for can run.
    #[error(
        "{engine}: {reason}\nlet the CPU run them with --allow-cpu-nodes, or run the whole model there with --provider cpu"
    )]
    CpuNodes { engine: String, reason: String },
    /// The model file cannot be read or is not a model the engine can run.
    #[error("{}: {reason}", path.display())]
    Model { path: PathBuf, reason: String },
    /// The input tensors do not fit the model; every problem is named.
    #[error("{}", describe("the inputs do not fit the model", .0))]
    Inputs(Vec<InputProblem>),
    /// Carried pairs or their start values do not fit the model; every problem is named.
    #[error("{}", describe("the carried values do not fit the model", .0))]
    Bind(Vec<BindProblem>),
    /// The engine failed while computing.
    #[error("{engine} failed while running the model: {reason}")]
    Run { engine: String, reason: String },
}

impl EngineError {
    /// The remedy that the error asks for.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Unavailable { .. } | Self::Provider { .. } | Self::CpuNodes { .. } => ErrorKind::Unavailable,
            Self::Model { .. } | Self::Inputs(_) | Self::Bind(_) => ErrorKind::BadFile,
            Self::Run { .. } => ErrorKind::Failed,
        }
    }
}

/// One way in which the inputs given differ from the inputs a model declares.
#[allow(missing_docs, reason = "the message of a variant names its fields")]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputProblem {
    /// The model declares it and it was not given.
    #[error("missing input `{name}`: expected {expected}")]
    Missing { name: String, expected: String },
    /// It was given and the model does not declare it.
    #[error("unknown input `{name}`: the model takes {known}")]
    Unknown { name: String, known: String },
    /// It was given more than once.
    #[error("input `{name}` is given more than once")]
    Repeated { name: String },
    /// Type or shape differ. In `expected`, symbols that earlier inputs decided are written as `batch=2`.
    #[error("input `{name}`: expected {expected}, found {found}")]
    Mismatch { name: String, expected: String, found: String },
    /// It was given to a bound session that carries it.
    #[error("input `{name}` is carried from step to step: change it with `set`")]
    Carried { name: String },
    /// It is not among the inputs that a bound session carries.
    #[error("`{name}` is not carried: carried are {known}")]
    NotCarried { name: String, known: String },
}

fn describe<P: std::fmt::Display>(what: &str, problems: &[P]) -> String {
    let mut out = what.to_owned();
    for p in problems {
        let _ = write!(out, "\n  {p}");
    }
    out
}
