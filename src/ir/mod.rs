//! What a graph is. Knows no ONNX, no files, no passes.
//!
//! A [`Graph`] is an append-only tensor program. Operands are always earlier than their users, so
//! the order of ids is a topological order and no cycle can be expressed. Nothing edits a graph in
//! place: a pass reads one and replays it into another. Everything that an analysis learns is a
//! [`Side`] table beside the graph.
//!
//! The graph is generic over the ops it holds, through the small trait [`Operator`]; the one
//! instance is `ops::Graph`. Sizes are polynomials ([`Dim`]) over declared symbols. Parameters are
//! known by their checkpoint key; their numbers live outside ([`Init`] says how one starts).
//!
//! What makes a graph valid is written, line by line, in [`verify`].

mod dim;
mod dtype;
mod element;
mod entity;
mod graph;
mod init;
mod real;
mod tensor;
mod transpose;
mod types;
pub mod verify;

pub use dim::{Bindings, Dim, Symbol};
pub use dtype::{DType, Kind};
pub use element::{Element, Number};
pub use entity::{Arena, Entity, Side};
pub use graph::{
    Def, Graph, Input, Node, NodeId, Operands, Operator, Origin, Output, Param, ParamId, ScopeId, Stage, TypeError,
    Value, ValueId,
};
pub use init::Init;
pub use real::Real;
pub use tensor::{Array, Literal, Tensor};
pub use transpose::transpose_band;
pub use types::{Shape, TensorType};
