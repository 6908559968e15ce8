//! Measures models against each other, honestly, on a machine that does other things too.
//!
//! A *subject* is anything that can be called again and again; the first subject is the baseline. [`measure`] calls all
//! of them in every round, in an order that changes from round to round ([`order`]), so that a machine that slows down
//! or is shared hits all subjects alike. A subject is compared with the baseline *of the same round*: a [`Ratio`] is the
//! median of these quotients with their quartiles. Wall clock and processor time are taken side by side, and
//! [`disturbances`] says from the numbers themselves when the wall clock should not be believed.
//!
//! Nothing is discarded. Leaving out rounds that look loaded favors the subject that is hit more often; medians over
//! all rounds do not.
//!
//! # What `vit-onnx bench --json` prints
//!
//! Times are in seconds, memory in bytes; `null` is unknown or does not apply, and an infinite difference is `null` too.
//!
//! ```text
//! tool, engine, seed
//! tables[]              one for each batch and number of threads, in the order asked for
//!   batch, threads      as asked for
//!   rounds              how many
//!   models[]            the baseline first
//!     label, file, provider
//!     inputs            type and shape by name
//!     calls_per_round   how often it is called in a row
//!     wall              min, p50, p90, p99 of all calls; rounds[]: the mean call of each round
//!     processor         p50 of the rounds; rounds[]: likewise, in all threads
//!     ratio             to the baseline, of wall rounds: median, q1, q3, median_95 [low, high]; null for the baseline
//!     processor_ratio   likewise, of processor rounds
//!     load              seconds to a session, memory that it adds, peak of a process that runs it once
//!     outputs           difference to the baseline's outputs, unmatched[], nan[]
//!     disturbances[]    why the wall clock should not be believed
//!     profile           runs, seconds in kernels, blocks[] and ops[] of name, seconds, share, kernels; one run each
//! ```
//!
//! Prints nothing, and knows neither files nor the command line.

mod agreement;
mod inputs;
mod machine;
mod noise;
mod profile;
mod schedule;
mod statistics;

pub use agreement::{Agreement, agreement};
pub use inputs::{InputsError, Sizes};
pub use machine::{Clock, Machine, Memory};
pub use noise::disturbances;
pub use profile::{Profile, ProfileError, Row};
pub use schedule::{Plan, Series, measure, order};
pub use statistics::{Percentiles, Ratio, Verdict, median};
