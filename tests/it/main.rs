//! Integration tests, one binary.
mod cli;
mod conformance;
mod parity;
mod support;
