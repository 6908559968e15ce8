//! ONNX Runtime, loaded at run time through the `ort` crate.
//!
//! The library is found, opened and its version read ([`Search`]) *before* `ort` is entered, so that a
//! missing, wrong or damaged library is an error message that lists what was tried; `ort` itself would
//! panic. One process can hold one ONNX Runtime: the first library entered stays.

mod bound;
mod candidates;
mod carry;
mod discover;
mod elf;
mod environment;
mod install;
mod placement;
mod probe;
mod python;
mod report;
mod session;

pub use candidates::{Surroundings, cache_folder};
pub use discover::Search;
pub use environment::OrtEngine;
pub use install::{InstallError, Installed, PINNED_VERSION, Progress, install, install_into};
pub use probe::{MINIMUM_VERSION, ProbeError, Version};
pub use python::package_client;
pub use report::{Candidate, Discovery, Found, NotFound, Outcome, Source};
