//! Integration tests, one binary.
mod attention_maps;
mod conformance;
mod manifests;
mod parity;
mod properties;
#[cfg(feature = "runtime")]
mod spelling;
mod support;
