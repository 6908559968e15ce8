//! Everything that is wrong with a model file.

use std::fmt;

/// Problems of one model file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    origin: String,
    list: Vec<String>,
}

impl Problems {
    pub(super) fn new(origin: &str, list: Vec<String>) -> Self {
        Self { origin: origin.to_owned(), list }
    }

    pub(super) fn one(origin: &str, problem: impl Into<String>) -> Self {
        Self { origin: origin.to_owned(), list: vec![problem.into()] }
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
