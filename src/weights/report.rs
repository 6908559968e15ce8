//! How a checkpoint and a model compare, in words that stay readable with hundreds of keys.

use super::conclusion::conclusion;
use super::import::ParamSpec;
use super::prefix::Announcement;
use super::source::Entry;
use std::fmt;

/// Names shown of each kind of difference.
const SHOWN: usize = 20;

/// A parameter found under its name with another shape, or a type that does not convert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// What the model has.
    pub wanted: ParamSpec,
    /// What the checkpoint has.
    pub found: Entry,
}

/// The comparison of a checkpoint with a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The checkpoint.
    pub origin: String,
    /// Parameters found, with the right shape.
    pub matched: usize,
    /// Required parameters that the checkpoint lacks, in the model's order.
    pub missing: Vec<ParamSpec>,
    /// Tensors of the checkpoint that the model has no place for, under their full keys.
    pub unexpected: Vec<Entry>,
    /// Found with another shape or type.
    pub mismatched: Vec<Mismatch>,
    /// Batch counters passed along without a place in the model.
    pub carried: usize,
    /// The prefix that was removed.
    pub prefix: Option<Announcement>,
    /// Whether missing and unexpected ones are errors.
    pub(super) allow: (bool, bool),
}

impl Report {
    /// Whether nothing is wrong that was not allowed.
    pub fn is_acceptable(&self) -> bool {
        let (missing, unexpected) = self.allow;
        self.mismatched.is_empty() && (missing || self.missing.is_empty()) && (unexpected || self.unexpected.is_empty())
    }

    pub(super) fn bare<'a>(&self, name: &'a str) -> &'a str {
        self.prefix.as_ref().and_then(|p| name.strip_prefix(p.prefix.as_str())).unwrap_or(name)
    }

    /// The unexpected key most like a missing parameter: of the same shape if there is one.
    fn suggestion(&self, missing: &ParamSpec) -> Option<&str> {
        const ALIKE: f64 = 0.6;
        let score = |e: &Entry| strsim::normalized_levenshtein(self.bare(&e.name), &missing.path);
        let alike = self.unexpected.iter().map(|e| (e, score(e))).filter(|(_, s)| *s >= ALIKE);
        let rank = |e: &Entry, s: f64| (e.shape == missing.shape, s);
        alike
            .max_by(|(a, s), (b, t)| rank(a, *s).partial_cmp(&rank(b, *t)).unwrap_or(std::cmp::Ordering::Equal))
            .map(|(e, _)| e.name.as_str())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_acceptable() { "loaded" } else { "does not fit the model" };
        let mismatches = if self.mismatched.len() == 1 { "mismatch" } else { "mismatches" };
        write!(
            f,
            "{} {verdict}: {} matched, {} missing, {} unexpected, {} shape {mismatches}",
            self.origin,
            self.matched,
            self.missing.len(),
            self.unexpected.len(),
            self.mismatched.len()
        )?;
        if let Some(prefix) = &self.prefix {
            write!(f, "\n  {prefix}")?;
        }
        section(f, "missing: parameters of the model that the checkpoint lacks", &self.missing, |f, p| {
            write!(f, "{} {}", p.path, p.declared())?;
            match self.suggestion(p) {
                Some(name) => write!(f, "  (is it `{name}`?)"),
                None => Ok(()),
            }
        })?;
        section(f, "unexpected: tensors the model has no place for", &self.unexpected, |f, e| {
            write!(f, "{} {e}", e.name)
        })?;
        section(f, "shape or type mismatches", &self.mismatched, |f, m| {
            write!(f, "{}: expected {}, found {}", m.wanted.path, m.wanted.declared(), m.found)?;
            let converts = m.found.stored.converts_to(m.wanted.dtype);
            if converts { Ok(()) } else { write!(f, " ({} does not convert to {})", m.found.stored, m.wanted.dtype) }
        })?;
        if self.is_acceptable() {
            return Ok(());
        }
        if let Some(conclusion) = conclusion(self) {
            return write!(f, "\n  {conclusion}");
        }
        if !self.mismatched.is_empty() {
            return write!(
                f,
                "\n  the model file must describe the model that was trained: compare its sizes with the shapes above"
            );
        }
        let (missing, unexpected) = self.allow;
        let flags = [
            (!missing && !self.missing.is_empty(), "--allow-missing (they start from their initial values)"),
            (!unexpected && !self.unexpected.is_empty(), "--allow-unexpected"),
        ];
        let flags: Vec<_> = flags.into_iter().filter_map(|(needed, flag)| needed.then_some(flag)).collect();
        write!(f, "\n  to continue anyway: {}", flags.join(", "))
    }
}

fn section<T>(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    items: &[T],
    line: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    write!(f, "\n  {title} ({}):", items.len())?;
    for item in items.iter().take(SHOWN) {
        f.write_str("\n    ")?;
        line(f, item)?;
    }
    if items.len() > SHOWN {
        write!(f, "\n    … and {} more", items.len() - SHOWN)?;
    }
    Ok(())
}
