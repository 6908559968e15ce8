//! What can go wrong between a checkpoint and a tensor. Every message names the file or tensor,
//! what was expected and found, and what to do where there is something to do.

use super::report::Report;
use super::source::Stored;
use crate::ir::DType;
use std::path::{Path, PathBuf};

/// Failures of this room.
#[allow(missing_docs, reason = "the message of a variant names its fields")]
#[derive(Debug, thiserror::Error)]
pub enum WeightError {
    /// The operating system refused.
    #[error("{}: {source}{}", path.display(), on_the_hub(path, source))]
    Io { path: PathBuf, source: std::io::Error },
    /// The file is something else than a checkpoint: what it looks like, as a clause.
    #[error("{}: {looks_like}; weights are read from .safetensors files and PyTorch .pt or .pth files", path.display())]
    NotACheckpoint { path: PathBuf, looks_like: String },
    /// A checkpoint whose own declarations do not hold.
    #[error("{}: damaged or incomplete {format} file: {what}", path.display())]
    Malformed { path: PathBuf, format: &'static str, what: String },
    /// A pickle holding a call that runs code.
    #[error("{}: refused: the entry `{at}` asks to call `{call}` while it is loaded. Nothing was run. Do not load this file with other tools; get the weights as safetensors", path.display())]
    RunsCode { path: PathBuf, at: String, call: String },
    /// The part of a checkpoint that holds the parameters must be chosen: several could, or none, or the one asked for is
    /// absent. Candidates are values of the flag, with how many tensors each stands for.
    #[error("{what}{}", choices(flag, candidates))]
    Choose { what: String, flag: &'static str, candidates: Vec<(String, usize)> },
    /// A tensor's value could not be had.
    #[error("tensor `{name}` of {origin}: {what}")]
    Tensor { name: String, origin: String, what: String },
    /// A stored type that has no faithful conversion to the wanted one.
    #[error("tensor `{name}` of {origin} is stored as {from}, which does not convert to {to}; store it as {to}")]
    Conversion { name: String, origin: String, from: Stored, to: DType },
    /// The checkpoint and the model disagree.
    #[error("{0}")]
    DoesNotFit(Box<Report>),
    /// A computed initial value that contradicts its declaration.
    #[error("initial value of `{path}`: {what}")]
    InitialValue { path: String, what: String },
    /// A file to be written was described or filled wrongly.
    #[error("writing {}: {what}", path.display())]
    Write { path: PathBuf, what: String },
}

/// How to get a model that was named as the Hugging Face hub names it: `owner/name`.
fn on_the_hub(path: &Path, e: &std::io::Error) -> String {
    let id = path.to_str().filter(|_| e.kind() == std::io::ErrorKind::NotFound && path.extension().is_none());
    let part = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    match id.and_then(|id| id.split_once('/')).filter(|(owner, name)| part(owner) && part(name)) {
        Some((owner, name)) => format!(
            ". If it is a model of the Hugging Face hub, download it first: curl -LO \
             https://huggingface.co/{owner}/{name}/resolve/main/model.safetensors"
        ),
        None => String::new(),
    }
}

impl WeightError {
    pub(super) fn tensor(origin: &str, name: &str, what: String) -> Self {
        Self::Tensor { name: name.to_owned(), origin: origin.to_owned(), what }
    }
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

/// The choices as the command line would spell them, one a line.
fn choices(flag: &str, candidates: &[(String, usize)]) -> String {
    const SHOWN: usize = 12;
    let lines = candidates.iter().take(SHOWN).map(|(key, count)| {
        let plural = if *count == 1 { "" } else { "s" };
        let key = if key.is_empty() { "\"\"" } else { key };
        format!("\n  {flag} {key}  ({count} tensor{plural})")
    });
    let rest = candidates.len().saturating_sub(SHOWN);
    let more = (rest > 0).then(|| format!("\n  and {rest} more"));
    if candidates.is_empty() {
        return String::new();
    }
    std::iter::once(format!("; choose with {flag}:")).chain(lines).chain(more).collect()
}
