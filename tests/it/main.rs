//! Integration tests, one binary.
mod conformance;
mod parity;
#[cfg(feature = "runtime")]
mod spelling;
mod support;
