//! Rules: recognise on one side, emit on the other.

use super::pattern::{Match, Pat, Vars};
use crate::build::T;
use std::fmt;

/// Why a rule that matched does not apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refuse(pub String);

impl fmt::Display for Refuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The right-hand side of a rule: what a match becomes, given the new handle of every bound variable.
pub type Emit = for<'g> fn(&Match<'_>, &dyn Fn(&str) -> T<'g>) -> T<'g>;

/// A rewrite rule.
#[derive(Clone, Copy)]
pub struct Rule {
    /// Unique, kebab-case.
    pub name: &'static str,
    /// The identity, in words or as a formula.
    pub doc: &'static str,
    /// Recognises.
    pub lhs: fn(Vars) -> Pat,
    /// Conditions on types and numbers; a refusal is shown by `--explain`.
    pub when: fn(&Match<'_>) -> Result<(), Refuse>,
    /// Emits, given the new handle of every bound variable.
    pub rhs: Emit,
    /// An op that hints at the idea: where one is left over, `--explain` says what the pattern missed.
    pub hint: Option<fn(&crate::ops::Op) -> bool>,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.doc)
    }
}
