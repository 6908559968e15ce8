//! Integration tests, one binary.
mod conformance;
mod fuzz;
mod parity;
mod support;
