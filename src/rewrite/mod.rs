//! How graphs become other graphs.
//!
//! Matching happens on an immutable graph ([`Pat`], [`Match`]) whose [`Facts`] rules may ask for; a [`Plan`] collects
//! what will change, and one [`replay`] emits the new graph. There are no dangling ids, no successor lists and no
//! edits in place; dead code simply is not replayed.

mod facts;
mod pattern;
mod plan;
mod replay;
mod rule;

pub use facts::{Estimate, Facts, Setting, When};
pub use pattern::{Match, Miss, Pat, Vars};
pub use plan::{Plan, Rewrite};
pub use replay::{Replay, replay};
pub use rule::{Emit, Refuse, Row, Rule};
