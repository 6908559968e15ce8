//! ONNX Runtime, loaded at run time through the `ort` crate.
//!
//! [`Search`] finds and opens the library and reads its version *before* `ort` loads it, so that a missing, wrong or
//! damaged library is an error message that lists everything tried; `ort` itself would panic. A process can hold one
//! ONNX Runtime: the first library loaded stays.

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
pub use install::{InstallError, PINNED_VERSION, install};
pub use probe::{MINIMUM_VERSION, ProbeError, Version};
pub use python::package_client;
pub use report::{Candidate, Discovery, Found, NotFound, Outcome, Source};
