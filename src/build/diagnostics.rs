//! Diagnostics: mistakes of authors, collected.

use std::fmt;
use std::panic::Location;

/// One mistake: an op whose operands do not fit, a malformed pattern, a parameter of two types.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// The path in the module tree.
    pub scope: String,
    /// The source line of the author.
    pub at: &'static Location<'static>,
    /// The description of the mistake.
    pub message: String,
    /// The types of the operands.
    pub operands: Vec<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scope = if self.scope.is_empty() { "(root)" } else { &self.scope };
        write!(f, "{scope}: {}", self.message)?;
        if !self.operands.is_empty() {
            write!(f, " (operands {})", self.operands.join(", "))?;
        }
        write!(f, "\n    at {}:{}", self.at.file(), self.at.line())
    }
}

/// Every mistake made while building a graph.
#[derive(Clone, Debug)]
pub struct BuildErrors(pub Vec<Diagnostic>);

impl fmt::Display for BuildErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, d) in self.0.iter().enumerate() {
            write!(f, "{}{d}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}
impl std::error::Error for BuildErrors {}
