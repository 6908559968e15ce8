//! The graph and its parts. This room knows no ONNX, no files and no passes.
//!
//! A [`Graph`] is an append-only tensor program. Operands are always earlier than their users, so
//! the order of ids is a topological order and no cycle can be expressed. Nothing edits a graph in
//! place: a pass reads one and replays it into another. An analysis keeps its results in a [`Side`]
//! table beside the graph.
//!
//! The graph is generic over the ops it holds, through the small trait [`Operator`]; the one
//! instance is `ops::Graph`. Sizes are polynomials ([`Dim`]) over declared symbols. Parameters are
//! identified by their checkpoint key and hold no numbers; [`Init`] describes their initial values.
//!
//! The module [`verify`] lists the conditions that a valid graph satisfies.

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
