//! ONNX models as plain structs.
//!
//! Lists keep their order, names are kept as written, and an empty name stands for an absent optional value, as in ONNX.
//! Parts that affect results but that these structs cannot hold (functions, subgraphs, sparse tensors) are named in
//! [`Model::not_carried`] or [`Attribute::Unsupported`], so they are never dropped silently. Annotations that do not
//! affect results (documentation of values, quantization hints, device placement) are dropped.

use super::{ElemType, Initializer};

/// A model: a graph, its operator sets and its metadata.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    /// Version of the file format; see [`ir_version_for`](super::ir_version_for).
    pub ir_version: i64,
    /// Operator sets by domain (`""` is the default one) and version.
    pub opset_imports: Vec<(String, i64)>,
    /// Name of the tool that made the model.
    pub producer_name: String,
    /// Version of that tool.
    pub producer_version: String,
    /// Free text.
    pub doc: String,
    /// `metadata_props`, in file order.
    pub metadata: Vec<(String, String)>,
    /// The computation.
    pub graph: Graph,
    /// Descriptions of the parts of the file that these structs cannot hold. A model that has any cannot be written.
    pub not_carried: Vec<String>,
}

impl Model {
    /// Returns every tensor of the model: initializers, then the values of attributes.
    pub fn tensors(&self) -> impl Iterator<Item = &Initializer> {
        let attributes = self.graph.nodes.iter().flat_map(|n| &n.attributes);
        let constants = attributes.filter_map(|(_, a)| if let Attribute::Tensor(t) = a { Some(t) } else { None });
        self.graph.initializers.iter().chain(constants)
    }
}

/// A graph: nodes in topological order, inputs, outputs and constants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// Name of the graph; ONNX requires one.
    pub name: String,
    /// Operators, each after the ones it reads from.
    pub nodes: Vec<Node>,
    /// Values the caller supplies.
    pub inputs: Vec<ValueInfo>,
    /// Values the caller gets.
    pub outputs: Vec<ValueInfo>,
    /// Constant tensors by name.
    pub initializers: Vec<Initializer>,
    /// Types of intermediate values, as far as known.
    pub value_info: Vec<ValueInfo>,
}

/// One application of an operator.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// Operator, such as `MatMul`.
    pub op_type: String,
    /// Domain of the operator; `""` is the default one.
    pub domain: String,
    /// Name of this node, for people and profilers.
    pub name: String,
    /// Values read; `""` is an absent optional input.
    pub inputs: Vec<String>,
    /// Values defined; `""` is an output that is not needed.
    pub outputs: Vec<String>,
    /// Attributes by name, in order.
    pub attributes: Vec<(String, Attribute)>,
    /// Free text.
    pub doc: String,
}

/// The value of a node's attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// `INT`.
    Int(i64),
    /// `FLOAT`.
    Float(f32),
    /// `STRING`.
    String(String),
    /// `INTS`.
    Ints(Vec<i64>),
    /// `FLOATS`.
    Floats(Vec<f32>),
    /// `STRINGS`.
    Strings(Vec<String>),
    /// `TENSOR`; its bytes must be inline.
    Tensor(Initializer),
    /// The description of a kind that these structs cannot hold; it cannot be written.
    Unsupported(String),
}

/// A value with its type.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueInfo {
    /// The value.
    pub name: String,
    /// Type of its elements; [`ElemType::UNDEFINED`] where the file gives none.
    pub elem: ElemType,
    /// Extents, outermost first; `None` if their number is not known.
    pub shape: Option<Vec<DimValue>>,
}

/// One extent of a shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DimValue {
    /// A number.
    Known(i64),
    /// A symbol: equal names are equal extents.
    Symbol(String),
    /// Any number.
    Unknown,
}

impl ValueInfo {
    /// Creates a tensor value of known rank.
    pub fn new(name: impl Into<String>, elem: impl Into<ElemType>, shape: impl Into<Vec<DimValue>>) -> Self {
        Self { name: name.into(), elem: elem.into(), shape: Some(shape.into()) }
    }
}

impl From<i64> for DimValue {
    fn from(extent: i64) -> Self {
        Self::Known(extent)
    }
}

impl From<&str> for DimValue {
    fn from(symbol: &str) -> Self {
        Self::Symbol(symbol.to_owned())
    }
}

impl Node {
    /// Creates a node of the default domain without inputs and outputs.
    pub fn new(op_type: impl Into<String>, name: impl Into<String>) -> Self {
        Self { op_type: op_type.into(), name: name.into(), ..Self::default() }
    }

    /// Sets the domain of the operator.
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.domain = domain.into();
        self
    }

    /// Adds inputs; `""` is an absent optional input.
    pub fn inputs<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.inputs.extend(names.into_iter().map(Into::into));
        self
    }

    /// Adds outputs; `""` is an output that is not needed.
    pub fn outputs<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.outputs.extend(names.into_iter().map(Into::into));
        self
    }

    /// Adds an attribute.
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<Attribute>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// Returns the attribute of this name.
    pub fn get(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }
}

macro_rules! attribute_from {
    ($($from:ty => $variant:ident, |$v:ident| $value:expr;)*) => {$(
        impl From<$from> for Attribute {
            fn from($v: $from) -> Self {
                Self::$variant($value)
            }
        }
    )*};
}
attribute_from! {
    i64 => Int, |v| v;
    f32 => Float, |v| v;
    &str => String, |v| v.to_owned();
    String => String, |v| v;
    Vec<i64> => Ints, |v| v;
    &[i64] => Ints, |v| v.to_vec();
    Vec<f32> => Floats, |v| v;
    &[f32] => Floats, |v| v.to_vec();
    Vec<String> => Strings, |v| v;
    Initializer => Tensor, |v| v;
}
