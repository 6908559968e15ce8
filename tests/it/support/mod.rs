//! What several test modules share: the reference cases, the engines, Python's checkers.

#[cfg(feature = "runtime")]
pub(crate) mod engines;
#[cfg(feature = "runtime")]
pub(crate) mod models;
pub(crate) mod python;
pub(crate) mod reference;
pub(crate) mod samples;
