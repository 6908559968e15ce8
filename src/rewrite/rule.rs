//! Rules: recognize on one side, emit on the other.

use super::facts::Facts;
use super::pattern::{Match, Pat, Vars};
use crate::build::T;
use std::fmt;

/// A row of the table of rewrite rules: every rule has one, whether a pattern finds its place or a pass does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// Unique, kebab-case.
    pub name: &'static str,
    /// The identity, as a formula or in words.
    pub doc: &'static str,
}

/// Why a rule that matched does not apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refuse(pub String);

impl fmt::Display for Refuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The right-hand side of a rule: the new value of the root, then those of [`Rule::results`], given the new handle of
/// every bound variable.
pub type Emit = for<'g> fn(&Match<'_>, &dyn Fn(&str) -> T<'g>) -> Vec<T<'g>>;

/// A rewrite rule.
#[derive(Clone, Copy)]
pub struct Rule {
    /// Its row in the table of rules.
    pub row: Row,
    /// Recognizes.
    pub lhs: fn(Vars) -> Pat,
    /// Conditions on types, numbers and neighbors; `--explain` shows a refusal.
    pub when: fn(&Match<'_>, &Facts<'_>) -> Result<(), Refuse>,
    /// Emits. What it emits is taken only where its estimated cost is no higher than that of the nodes it replaces.
    pub rhs: Emit,
    /// Named interior values of the pattern that `rhs` gives too, and that may therefore be read outside the match.
    pub results: &'static [&'static str],
    /// An op that hints at the idea: where one is left over, `--explain` says what the pattern missed.
    pub hint: Option<fn(&crate::ops::Op) -> bool>,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.row.name, self.row.doc)
    }
}
