//! How graphs become other graphs.
//!
//! Matching happens on an immutable graph ([`Pat`], [`Match`]), a [`Plan`] collects what will
//! change, and one [`replay`] emits the new graph. There are no dangling ids, no successor lists
//! and no edits in place; dead code simply is not replayed.

mod pattern;
mod plan;
mod replay;
mod rule;

pub use pattern::{Match, Miss, Pat, Vars};
pub use plan::Plan;
pub use replay::{Replay, finish, replay};
pub use rule::{Emit, Refuse, Rule};
