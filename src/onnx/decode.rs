//! Decodes a model into the plain structs, without copying tensor bytes.
//!
//! Tensors get one form, whichever field stores them: row-major little-endian bytes, exactly as many as extents and
//! type ask for. Allocations depend on the contents of a file, never on sizes that it claims. References to external
//! data are passed on.

use super::proto::{
    AttributeProto, AttributeType, DimensionProto, EXTERNAL, GraphProto, ModelProto, NodeProto, StringStringEntryProto,
    TensorProto, ValueInfoProto,
};
use super::scan::{Objection, scan};
use super::{Attribute, DimValue, ElemType, Graph, Initializer, Model, Node, TensorData, ValueInfo};
use crate::ir::DType;
use bytes::Bytes;
use prost::Message;

/// An error for bytes that are not a model.
#[allow(missing_docs, reason = "the message of a variant names its fields")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are not in protobuf's wire format, or cut short.
    #[error("not an ONNX model, or truncated: the encoding breaks at byte {at}")]
    Malformed { at: usize },
    /// A field has another kind than in ONNX, or text is not UTF-8.
    #[error("not an ONNX model: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// Decoding would take memory out of proportion to the file.
    #[error(
        "not a sound ONNX model: it consists of empty parts that would take far more memory than the file has bytes"
    )]
    Amplified,
    /// The model has no graph.
    #[error("not an ONNX model, or truncated: there is no graph in it")]
    NoGraph,
    /// The bytes of a tensor do not fit its type and extents.
    #[error("tensor `{name}` ({elem}{dims:?}): {why}")]
    Tensor { name: String, elem: ElemType, dims: Vec<i64>, why: String },
}

/// Decodes a whole model file. Tensors are slices of `file`.
pub(super) fn decode(file: Bytes) -> Result<Model, DecodeError> {
    scan(&file).map_err(|objection| match objection {
        Objection::Malformed(at) => DecodeError::Malformed { at },
        Objection::Amplified => DecodeError::Amplified,
    })?;
    let proto = ModelProto::decode(file)?;
    let mut not_carried = Vec::new();
    let mut note = |count: usize, what: &str| {
        if count > 0 {
            not_carried.push(format!("{count} {what}"));
        }
    };
    note(proto.functions.len(), "functions");
    note(proto.training_info.len(), "training infos");
    let graph_proto = proto.graph.ok_or(DecodeError::NoGraph)?;
    note(graph_proto.sparse_initializer.len(), "sparse initializers");
    let values = [&graph_proto.input, &graph_proto.output, &graph_proto.value_info];
    let other = |v: &&ValueInfoProto| v.r#type.as_ref().is_some_and(|t| t.tensor_type.is_none());
    note(values.into_iter().flatten().filter(other).count(), "types of values that are not tensors");
    Ok(Model {
        ir_version: proto.ir_version.unwrap_or(0),
        opset_imports: proto
            .opset_import
            .into_iter()
            .map(|o| (o.domain.unwrap_or_default(), o.version.unwrap_or(0)))
            .collect(),
        producer_name: proto.producer_name,
        producer_version: proto.producer_version,
        doc: proto.doc_string,
        metadata: proto.metadata_props.into_iter().map(|e| (e.key, e.value)).collect(),
        graph: graph(graph_proto)?,
        not_carried,
    })
}

fn graph(proto: GraphProto) -> Result<Graph, DecodeError> {
    Ok(Graph {
        name: proto.name,
        nodes: proto.node.into_iter().map(node).collect::<Result<_, _>>()?,
        inputs: proto.input.into_iter().map(value_info).collect(),
        outputs: proto.output.into_iter().map(value_info).collect(),
        initializers: proto.initializer.into_iter().map(tensor).collect::<Result<_, _>>()?,
        value_info: proto.value_info.into_iter().map(value_info).collect(),
    })
}

fn node(proto: NodeProto) -> Result<Node, DecodeError> {
    Ok(Node {
        op_type: proto.op_type,
        domain: proto.domain,
        name: proto.name,
        inputs: proto.input,
        outputs: proto.output,
        attributes: proto.attribute.into_iter().map(attribute).collect::<Result<_, _>>()?,
        doc: proto.doc_string,
    })
}

fn attribute(proto: AttributeProto) -> Result<(String, Attribute), DecodeError> {
    let unsupported = |kind: &str| Attribute::Unsupported(kind.to_owned());
    let text = |s: Bytes| String::from_utf8(s.into()).ok();
    let number = proto.r#type.unwrap_or(0);
    let kind = match AttributeType::try_from(number) {
        // Files before IR version 2 leave the type out.
        Ok(AttributeType::Undefined) => guess(&proto),
        Ok(kind) => kind,
        Err(_) => return Ok((proto.name, Attribute::Unsupported(format!("of the unknown kind {number}")))),
    };
    let value = match kind {
        _ if !proto.ref_attr_name.is_empty() => unsupported("a reference to an attribute of a function"),
        AttributeType::Float => Attribute::Float(proto.f.unwrap_or(0.0)),
        AttributeType::Int => Attribute::Int(proto.i.unwrap_or(0)),
        AttributeType::String => match text(proto.s.unwrap_or_default()) {
            Some(s) => Attribute::String(s),
            None => unsupported("a string of bytes that are not UTF-8"),
        },
        AttributeType::Tensor => match proto.t {
            Some(t) => Attribute::Tensor(tensor(*t)?),
            None => unsupported("a tensor that is missing"),
        },
        AttributeType::Floats => Attribute::Floats(proto.floats),
        AttributeType::Ints => Attribute::Ints(proto.ints),
        AttributeType::Strings => match proto.strings.into_iter().map(text).collect() {
            Some(strings) => Attribute::Strings(strings),
            None => unsupported("strings of bytes that are not UTF-8"),
        },
        AttributeType::Graph => unsupported("a subgraph"),
        AttributeType::Graphs => unsupported("a list of subgraphs"),
        AttributeType::Tensors => unsupported("a list of tensors"),
        AttributeType::SparseTensor => unsupported("a sparse tensor"),
        AttributeType::SparseTensors => unsupported("a list of sparse tensors"),
        AttributeType::TypeProto => unsupported("a type"),
        AttributeType::TypeProtos => unsupported("a list of types"),
        AttributeType::Undefined => unsupported("of no kind"),
    };
    Ok((proto.name, value))
}

/// Infers the kind of an attribute from the field that is present.
fn guess(proto: &AttributeProto) -> AttributeType {
    match proto {
        AttributeProto { f: Some(_), .. } => AttributeType::Float,
        AttributeProto { i: Some(_), .. } => AttributeType::Int,
        AttributeProto { s: Some(_), .. } => AttributeType::String,
        AttributeProto { t: Some(_), .. } => AttributeType::Tensor,
        p if !p.floats.is_empty() => AttributeType::Floats,
        p if !p.ints.is_empty() => AttributeType::Ints,
        p if !p.strings.is_empty() => AttributeType::Strings,
        _ => AttributeType::Undefined,
    }
}

fn value_info(proto: ValueInfoProto) -> ValueInfo {
    let dim = |d: DimensionProto| match d {
        DimensionProto { dim_value: Some(n), .. } => DimValue::Known(n),
        DimensionProto { dim_param: Some(s), .. } if !s.is_empty() => DimValue::Symbol(s),
        DimensionProto { .. } => DimValue::Unknown,
    };
    let tensor = proto.r#type.and_then(|t| t.tensor_type).unwrap_or_default();
    ValueInfo {
        name: proto.name,
        elem: ElemType::from_number(tensor.elem_type.unwrap_or(0)),
        shape: tensor.shape.map(|s| s.dim.into_iter().map(dim).collect()),
    }
}

fn tensor(mut proto: TensorProto) -> Result<Initializer, DecodeError> {
    let elem = ElemType::from_number(proto.data_type.unwrap_or(0));
    let data = tensor_data(&mut proto, elem);
    let mut tensor = Initializer { name: proto.name, elem, dims: proto.dims, data: TensorData::Inline(Bytes::new()) };
    let fits = data.and_then(|data| {
        tensor.data = data;
        tensor.checked_len()
    });
    match fits {
        Ok(_) => Ok(tensor),
        Err(why) => Err(DecodeError::Tensor { name: tensor.name, elem, dims: tensor.dims, why }),
    }
}

const UINT32: ElemType = ElemType::Other(12);
const UINT64: ElemType = ElemType::Other(13);
const COMPLEX64: ElemType = ElemType::Other(14);
const COMPLEX128: ElemType = ElemType::Other(15);

/// Takes the elements from the field that stores them.
fn tensor_data(proto: &mut TensorProto, elem: ElemType) -> Result<TensorData, String> {
    if proto.segment.is_some() {
        return Err("it is a segment of a larger tensor, which is not supported".to_owned());
    }
    if proto.data_location == Some(EXTERNAL) {
        return external(&proto.external_data);
    }
    if elem == ElemType::STRING {
        return Ok(TensorData::Strings(std::mem::take(&mut proto.string_data)));
    }
    if let Some(raw) = proto.raw_data.take() {
        return Ok(TensorData::Inline(raw));
    }
    // Which typed field holds which type: TensorProto in onnx.proto.
    let bytes: Vec<u8> = match elem {
        ElemType::Known(DType::F32) | COMPLEX64 => proto.float_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ElemType::Known(DType::F64) | COMPLEX128 => proto.double_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ElemType::Known(DType::I64) => proto.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        UINT64 => proto.uint64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        UINT32 => proto.uint64_data.iter().flat_map(|&v| (v as u32).to_le_bytes()).collect(),
        _ => {
            // The low bytes of each number; also where a byte holds two or four elements, it is one number.
            let width = elem.bits().map_or(1, |bits| bits.div_ceil(8).clamp(1, 4)) as usize;
            proto.int32_data.iter().flat_map(|v| v.to_le_bytes().into_iter().take(width)).collect()
        }
    };
    Ok(TensorData::Inline(bytes.into()))
}

/// Reads a reference to external data.
fn external(entries: &[StringStringEntryProto]) -> Result<TensorData, String> {
    let get = |key: &str| entries.iter().find(|e| e.key == key).map(|e| e.value.as_str());
    let number = |key: &str| {
        let parse =
            |text: &str| text.parse().map_err(|_| format!("the {key} of its external data is {text:?}, not a number"));
        get(key).map(parse).transpose()
    };
    let location = get("location").ok_or("its external data has no location")?;
    Ok(TensorData::External {
        location: location.to_owned(),
        offset: number("offset")?.unwrap_or(0),
        length: number("length")?,
    })
}
