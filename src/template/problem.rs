//! What is wrong with a model file: everything, at once.

use std::fmt;

/// Problems of one model file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    origin: String,
    list: Vec<String>,
}

impl Problems {
    pub(super) fn new(origin: &str) -> Self {
        Self { origin: origin.to_owned(), list: Vec::new() }
    }

    pub(super) fn one(origin: &str, problem: impl Into<String>) -> Self {
        Self { origin: origin.to_owned(), list: vec![problem.into()] }
    }

    pub(super) fn add(&mut self, problem: String) {
        self.list.push(problem);
    }

    pub(super) fn or_continue(&self) -> Result<(), Self> {
        if self.list.is_empty() { Ok(()) } else { Err(self.clone()) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.list.as_slice() {
            [one] => write!(f, "{}: {one}", self.origin),
            many => {
                write!(f, "{}: {} problems", self.origin, many.len())?;
                many.iter().try_for_each(|p| write!(f, "\n  {p}"))
            }
        }
    }
}
impl std::error::Error for Problems {}

/// A deserialization error on one line, with the key it is about in front.
pub(super) fn tidy(e: &toml::de::Error) -> String {
    let text = e.to_string();
    let mut lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let key = lines.iter().position(|l| l.starts_with("in `")).map(|i| lines.remove(i));
    let key = key.and_then(|l| l.strip_prefix("in `")).and_then(|l| l.strip_suffix('`'));
    match key {
        Some(k) => format!("{k}: {}", lines.join("; ")),
        None => lines.join("; "),
    }
}
