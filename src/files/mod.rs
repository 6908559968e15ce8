//! Files on disk: maps of those that are read, and new ones that appear whole or not at all.
//!
//! Knows nothing of what files hold.

mod atomic;
mod map;
mod sink;

pub use atomic::AtomicFile;
pub(crate) use map::{map, map_range, open};
pub use sink::Sink;
