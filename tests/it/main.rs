//! Integration tests, one binary.
mod conformance;
mod parity;
mod support;
