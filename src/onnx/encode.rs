//! Encodes the plain structs as protobuf messages, without the bytes of initializers.
//!
//! The messages are small: names, attributes, types. [`write`](super::write) streams the tensor bytes behind
//! [`header`]s. A model with parts that the structs cannot hold is refused; nothing is dropped.

use super::proto::{
    AttributeProto, AttributeType, DimensionProto, EXTERNAL, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use super::{Attribute, DimValue, ElemType, Initializer, Model, Node, TensorData, ValueInfo};
use bytes::Bytes;

/// An error for a model that cannot be encoded.
#[allow(missing_docs, reason = "the message of a variant names its fields")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The model was read from a file with parts that the structs do not hold.
    #[error("the model came from a file with parts that would be lost ({}): it cannot be written again", .0.join(", "))]
    NotCarried(Vec<String>),
    /// The kind of an attribute is kept by name only.
    #[error("node {node:?}: attribute `{attribute}` is {kind}, which cannot be written")]
    Attribute { node: String, attribute: String, kind: String },
    /// The tensor of an attribute has no bytes.
    #[error("node {node:?}: the tensor of attribute `{attribute}` has no bytes; only initializers can be deferred")]
    TensorAttribute { node: String, attribute: String },
    /// An initializer refers to a file.
    #[error(
        "initializer `{name}` refers to `{location}`: read the model together with its external data, then write it"
    )]
    Unresolved { name: String, location: String },
    /// The bytes of a tensor do not fit its type and extents.
    #[error("tensor `{name}` ({elem}{dims:?}): {why}")]
    Tensor { name: String, elem: ElemType, dims: Vec<i64>, why: String },
}

/// Encodes the model without its graph.
pub(super) fn model_head(model: &Model) -> Result<ModelProto, EncodeError> {
    if !model.not_carried.is_empty() {
        return Err(EncodeError::NotCarried(model.not_carried.clone()));
    }
    Ok(ModelProto {
        ir_version: Some(model.ir_version),
        producer_name: model.producer_name.clone(),
        producer_version: model.producer_version.clone(),
        doc_string: model.doc.clone(),
        opset_import: model
            .opset_imports
            .iter()
            .map(|(domain, version)| OperatorSetIdProto { domain: Some(domain.clone()), version: Some(*version) })
            .collect(),
        metadata_props: model.metadata.iter().map(|(k, v)| entry(k, v)).collect(),
        ..ModelProto::default()
    })
}

/// Encodes the graph without its initializers.
pub(super) fn graph_head(model: &Model) -> Result<GraphProto, EncodeError> {
    let graph = &model.graph;
    Ok(GraphProto {
        node: graph.nodes.iter().map(node).collect::<Result<_, _>>()?,
        name: graph.name.clone(),
        input: graph.inputs.iter().map(value_info).collect(),
        output: graph.outputs.iter().map(value_info).collect(),
        value_info: graph.value_info.iter().map(value_info).collect(),
        ..GraphProto::default()
    })
}

/// Encodes a tensor without its bytes: `raw_data` follows, unless the elements are strings or `external` refers to them.
pub(super) fn header(tensor: &Initializer, external: Option<(&str, u64, u64)>) -> TensorProto {
    let mut proto = TensorProto {
        dims: tensor.dims.clone(),
        data_type: Some(tensor.elem.number()),
        name: tensor.name.clone(),
        ..TensorProto::default()
    };
    if let TensorData::Strings(strings) = &tensor.data {
        proto.string_data.clone_from(strings);
    }
    if let Some((location, offset, length)) = external {
        proto.data_location = Some(EXTERNAL);
        proto.external_data = vec![
            entry("location", location),
            entry("offset", &offset.to_string()),
            entry("length", &length.to_string()),
        ];
    }
    proto
}

/// Returns the number of bytes that follow the header of `tensor`: 0 for strings, which are inside it.
pub(super) fn payload(tensor: &Initializer) -> Result<u64, EncodeError> {
    if let TensorData::External { location, .. } = &tensor.data {
        return Err(EncodeError::Unresolved { name: tensor.name.clone(), location: location.clone() });
    }
    let bytes = tensor.checked_len().map_err(|why| EncodeError::Tensor {
        name: tensor.name.clone(),
        elem: tensor.elem,
        dims: tensor.dims.clone(),
        why,
    })?;
    Ok(if matches!(tensor.data, TensorData::Strings(_)) { 0 } else { bytes })
}

fn entry(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto { key: key.to_owned(), value: value.to_owned() }
}

fn node(node: &Node) -> Result<NodeProto, EncodeError> {
    Ok(NodeProto {
        input: node.inputs.clone(),
        output: node.outputs.clone(),
        name: node.name.clone(),
        op_type: node.op_type.clone(),
        attribute: node
            .attributes
            .iter()
            .map(|(name, value)| attribute(node, name, value))
            .collect::<Result<_, _>>()?,
        doc_string: node.doc.clone(),
        domain: node.domain.clone(),
    })
}

fn attribute(node: &Node, name: &str, value: &Attribute) -> Result<AttributeProto, EncodeError> {
    let blank = AttributeProto::default;
    let bytes = |s: &String| Bytes::copy_from_slice(s.as_bytes());
    let (kind, proto) = match value {
        Attribute::Int(i) => (AttributeType::Int, AttributeProto { i: Some(*i), ..blank() }),
        Attribute::Float(f) => (AttributeType::Float, AttributeProto { f: Some(*f), ..blank() }),
        Attribute::String(s) => (AttributeType::String, AttributeProto { s: Some(bytes(s)), ..blank() }),
        Attribute::Ints(ints) => (AttributeType::Ints, AttributeProto { ints: ints.clone(), ..blank() }),
        Attribute::Floats(floats) => (AttributeType::Floats, AttributeProto { floats: floats.clone(), ..blank() }),
        Attribute::Strings(strings) => {
            (AttributeType::Strings, AttributeProto { strings: strings.iter().map(bytes).collect(), ..blank() })
        }
        Attribute::Tensor(tensor) => {
            payload(tensor)?;
            let mut t = header(tensor, None);
            match &tensor.data {
                TensorData::Inline(data) => t.raw_data = Some(data.clone()),
                TensorData::Strings(_) => {}
                TensorData::Deferred | TensorData::External { .. } => {
                    return Err(EncodeError::TensorAttribute { node: node.name.clone(), attribute: name.to_owned() });
                }
            }
            (AttributeType::Tensor, AttributeProto { t: Some(Box::new(t)), ..blank() })
        }
        Attribute::Unsupported(kind) => {
            return Err(EncodeError::Attribute {
                node: node.name.clone(),
                attribute: name.to_owned(),
                kind: kind.clone(),
            });
        }
    };
    Ok(AttributeProto { name: name.to_owned(), r#type: Some(kind.into()), ..proto })
}

fn value_info(value: &ValueInfo) -> ValueInfoProto {
    let dim = |d: &DimValue| match d {
        DimValue::Known(n) => DimensionProto { dim_value: Some(*n), dim_param: None },
        DimValue::Symbol(s) => DimensionProto { dim_value: None, dim_param: Some(s.clone()) },
        DimValue::Unknown => DimensionProto::default(),
    };
    let shape = value.shape.as_ref().map(|dims| TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let typed = value.elem != ElemType::UNDEFINED || shape.is_some();
    let tensor = TensorTypeProto { elem_type: Some(value.elem.number()), shape };
    ValueInfoProto { name: value.name.clone(), r#type: typed.then_some(TypeProto { tensor_type: Some(tensor) }) }
}
