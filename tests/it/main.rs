//! Integration tests, one binary.
mod attention_maps;
mod conformance;
mod manifests;
mod parity;
mod support;
