//! The report of a search for the library: every place, the outcome there, and the words for people.
//!
//! It does not know how places are found or libraries opened.

use super::probe::{ProbeError, Version};
use std::fmt;
use std::path::PathBuf;

/// Where a candidate comes from, in the order of the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The `--ort-lib` argument.
    Argument,
    /// The `ORT_DYLIB_PATH` environment variable.
    Variable,
    /// The folder of the executable.
    Executable,
    /// The tool's own cache, filled by `vit-onnx runtime install`.
    Cache,
    /// A Python environment's `onnxruntime` package.
    Python,
    /// The search path of the system loader.
    System,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Argument => "--ort-lib",
            Self::Variable => "ORT_DYLIB_PATH",
            Self::Executable => "folder of the executable",
            Self::Cache => "cache",
            Self::Python => "Python environment",
            Self::System => "system loader",
        })
    }
}

/// The outcome of trying a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An ONNX Runtime that this program can use.
    Usable(Version),
    /// No library is at that place, which is not a fault.
    Absent,
    /// A library is there, and it cannot be used.
    Refused(ProbeError),
}

/// One place that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Why it was tried.
    pub source: Source,
    /// The library, or the folder in which there is none.
    pub path: PathBuf,
    /// The outcome there.
    pub outcome: Outcome,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: ", self.source, self.path.display())?;
        match &self.outcome {
            Outcome::Usable(v) => write!(f, "ONNX Runtime {v}"),
            Outcome::Absent => f.write_str("no ONNX Runtime there"),
            Outcome::Refused(e) => e.fmt(f),
        }
    }
}

/// A library that can be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it comes from.
    pub source: Source,
    /// Absolute path, or the bare name the system loader resolves.
    pub path: PathBuf,
    /// The version it states.
    pub version: Version,
}

/// No library can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotFound {
    /// Everything that was tried, in order.
    pub tried: Vec<Candidate>,
}

impl std::error::Error for NotFound {}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.tried.iter().find(|c| c.source <= Source::Variable);
        match named {
            Some(c) => write!(f, "the library named by {} cannot be used", c.source)?,
            None => f.write_str("no ONNX Runtime library was found")?,
        }
        for c in &self.tried {
            write!(f, "\n  {c}")?;
        }
        if let Some(c) = named {
            let rest = "to look elsewhere; `vit-onnx doctor` shows what there is";
            match c.source {
                Source::Argument => write!(f, "\nname another library or leave {} out {rest}", c.source),
                _ => write!(f, "\nset {} to another library or unset it {rest}", c.source),
            }
        } else {
            f.write_str("\nrun `vit-onnx runtime install`, or name a library with --ort-lib or ORT_DYLIB_PATH")
        }
    }
}

/// Every candidate, for `doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// Every place, in the order of the search.
    pub candidates: Vec<Candidate>,
    /// Index of the one [`Search::find`](super::Search::find) takes.
    pub chosen: Option<usize>,
}
