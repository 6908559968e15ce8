//! Integration tests, one binary.
mod conformance;
