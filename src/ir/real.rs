//! Floating-point attributes that can be compared and hashed.

use std::fmt;
use std::hash::{Hash, Hasher};

/// An `f64` attribute, equal and hashed by its bits, so that ops derive `Eq` and `Hash`.
#[derive(Clone, Copy, Default)]
pub struct Real(pub f64);

impl PartialEq for Real {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}
impl Eq for Real {}
impl Hash for Real {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}
impl From<f64> for Real {
    fn from(x: f64) -> Self {
        Self(x)
    }
}
/// Writes the shortest decimal that reads back as the same number.
impl fmt::Display for Real {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
impl fmt::Debug for Real {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
