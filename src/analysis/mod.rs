//! What can be said about a graph without running it: its shape, its cost, its picture.
//!
//! Read-only: nothing here changes a graph, and no pass depends on it.

mod cost;
mod dot;
mod view;

pub use cost::{block_of, flops, flops_by_scope};
pub use dot::dot;
pub use view::{View, critical_path, cut_points, view};
