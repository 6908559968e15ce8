//! Integration tests, one binary.
// Tests say how much they compared, and what they could not.
#![allow(clippy::print_stderr)]

mod architecture;
mod attention_maps;
#[cfg(feature = "runtime")]
mod bound;
mod cli;
mod conformance;
mod dtypes;
#[cfg(feature = "runtime")]
mod engines;
mod eras;
mod fuzz;
mod golden;
#[cfg(feature = "runtime")]
mod image_size;
mod manifests;
#[cfg(feature = "runtime")]
mod older_opsets;
mod parity;
mod properties;
mod reading;
#[cfg(feature = "runtime")]
mod spelling;
mod support;
mod weight_program;
