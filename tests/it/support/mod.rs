//! What several test modules share: the reference cases, the engines, Python's checkers.

#[cfg(feature = "runtime")]
pub(crate) mod engines;
pub(crate) mod python;
pub(crate) mod reference;
pub(crate) mod samples;
