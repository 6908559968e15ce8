//! Integration tests, one binary.
mod attention_maps;
mod conformance;
mod fuzz;
mod golden;
mod manifests;
mod parity;
#[cfg(feature = "runtime")]
mod spelling;
mod support;
