//! Static analysis of a graph: its structure, its cost, its drawing.
//!
//! Nothing here changes a graph, and no pass depends on it.

mod cost;
mod dot;
mod view;

pub use cost::{block_of, flops, flops_by_scope};
pub use dot::dot;
pub use view::{View, critical_path, cut_points, view};
