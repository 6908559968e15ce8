//! A model as text, for review and snapshots: one line for each node, with types where they are known.
//!
//! The text depends on the model alone and cannot be read back. Names and texts of foreign files are escaped where they
//! would break a line or a terminal.

use super::{Attribute, DimValue, ElemType, Graph, Initializer, Model, Node, TensorData, ValueInfo};
use crate::ir::Element;
use crate::with_dtype;
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

/// Tensors of at most this many elements are printed with their values.
const VALUES: u64 = 16;
/// Longer texts are cut to this many characters.
const TEXT: usize = 60;

impl Display for Model {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "onnx ir {}", self.ir_version)?;
        for (domain, version) in &self.opset_imports {
            write!(f, ", {} {version}", Plain(if domain.is_empty() { "ai.onnx" } else { domain }))?;
        }
        writeln!(f)?;
        if !self.producer_name.is_empty() {
            writeln!(f, "producer {} {}", Plain(&self.producer_name), Plain(&self.producer_version))?;
        }
        if !self.doc.is_empty() {
            writeln!(f, "doc {}", Quoted(&self.doc))?;
        }
        for (key, value) in &self.metadata {
            writeln!(f, "metadata {} = {}", Plain(key), Quoted(value))?;
        }
        for part in &self.not_carried {
            writeln!(f, "not shown: {part}")?;
        }
        write!(f, "{}", self.graph)
    }
}

impl Display for Graph {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "graph {}", Plain(&self.name))?;
        section(f, "inputs", &self.inputs)?;
        section(f, "initializers", &self.initializers)?;
        let types: BTreeMap<&str, &ValueInfo> =
            self.value_info.iter().chain(&self.outputs).map(|v| (v.name.as_str(), v)).collect();
        if !self.nodes.is_empty() {
            writeln!(f, "nodes")?;
        }
        for node in &self.nodes {
            write!(f, "  {node}")?;
            let known: Vec<_> = node.outputs.iter().map(|name| types.get(name.as_str()).map(|v| Type(v))).collect();
            if known.iter().any(Option::is_some) {
                let all: Vec<_> = known.iter().map(|t| t.as_ref().map_or("?".to_owned(), Type::to_string)).collect();
                write!(f, " : {}", all.join(", "))?;
            }
            writeln!(f)?;
        }
        section(f, "outputs", &self.outputs)
    }
}

/// Prints a heading and a line for each item; nothing if there are no items.
fn section<T: Display>(f: &mut Formatter<'_>, title: &str, items: &[T]) -> fmt::Result {
    if !items.is_empty() {
        writeln!(f, "{title}")?;
    }
    items.iter().try_for_each(|item| writeln!(f, "  {item}"))
}

/// Prints items with commas between them.
fn list(f: &mut Formatter<'_>, items: impl IntoIterator<Item = impl Display>) -> fmt::Result {
    items.into_iter().enumerate().try_for_each(|(i, item)| write!(f, "{}{item}", if i == 0 { "" } else { ", " }))
}

impl Display for Node {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        list(f, self.outputs.iter().map(|name| Value(name)))?;
        write!(f, " = ")?;
        if !self.domain.is_empty() {
            write!(f, "{}::", Plain(&self.domain))?;
        }
        write!(f, "{}(", Plain(&self.op_type))?;
        list(f, self.inputs.iter().map(|name| Value(name)))?;
        write!(f, ")")?;
        for (i, (name, value)) in self.attributes.iter().enumerate() {
            write!(f, "{}{} = {value}", if i == 0 { " {" } else { ", " }, Plain(name))?;
        }
        write!(f, "{}", if self.attributes.is_empty() { "" } else { "}" })
    }
}

impl Display for Attribute {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(v) => write!(f, "{v}"),
            Self::Float(v) => write!(f, "{v:?}"),
            Self::String(v) => write!(f, "{}", Quoted(v)),
            Self::Ints(v) => write!(f, "{v:?}"),
            Self::Floats(v) => write!(f, "{v:?}"),
            Self::Strings(v) => f.debug_list().entries(v.iter().map(|s| Quoted(s))).finish(),
            Self::Tensor(t) => write!(f, "{}", Content(t)),
            Self::Unsupported(kind) => write!(f, "<{kind}>"),
        }
    }
}

impl Display for ValueInfo {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} : {}", Value(&self.name), Type(self))
    }
}

impl Display for Initializer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} : {}", Value(&self.name), Content(self))
    }
}

/// `f32[batch, 3, ?]`, or `f32` alone when the rank is not known.
struct Type<'a>(&'a ValueInfo);

impl Display for Type<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.elem)?;
        let Some(shape) = &self.0.shape else { return Ok(()) };
        write!(f, "[")?;
        list(f, shape)?;
        write!(f, "]")
    }
}

impl Display for DimValue {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(n) => write!(f, "{n}"),
            Self::Symbol(s) => write!(f, "{}", Plain(s)),
            Self::Unknown => write!(f, "?"),
        }
    }
}

/// Prints the type of a tensor, and its values if there are few. Otherwise prints where the bytes are, unless inline.
struct Content<'a>(&'a Initializer);

impl Display for Content<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let tensor = self.0;
        write!(f, "{}{:?}", tensor.elem, tensor.dims)?;
        match &tensor.data {
            TensorData::Inline(data) if tensor.element_count().is_some_and(|n| n <= VALUES) => {
                write!(f, " = {}", values(tensor.elem, data))
            }
            TensorData::Strings(strings) if strings.len() as u64 <= VALUES => {
                let texts: Vec<_> = strings.iter().map(|s| Quoted(&String::from_utf8_lossy(s)).to_string()).collect();
                write!(f, " = [{}]", texts.join(", "))
            }
            TensorData::Inline(_) | TensorData::Strings(_) => Ok(()),
            TensorData::Deferred => write!(f, " (deferred)"),
            TensorData::External { location, offset, .. } => write!(f, " ({} at {offset})", Plain(location)),
        }
    }
}

/// Prints the elements in brackets; as hexadecimal bytes where the tool does not compute with their type.
fn values(elem: ElemType, data: &[u8]) -> String {
    match elem {
        ElemType::Known(dtype) => with_dtype!(dtype, A => format!("{:?}", A::collect(data))),
        ElemType::Other(_) => format!("{data:02x?}"),
    }
}

/// `%name`, or `_` for an absent value.
struct Value<'a>(&'a str);

impl Display for Value<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { write!(f, "_") } else { write!(f, "%{}", Plain(self.0)) }
    }
}

/// Prints a name, in quotes if characters in it need them.
struct Plain<'a>(&'a str);

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_alphanumeric() || (c.is_ascii_graphic() && !"\"%(),={}".contains(c));
        if self.0.chars().all(plain) { f.write_str(self.0) } else { write!(f, "{:?}", self.0) }
    }
}

/// Prints a text in quotes, cut if it is long.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(TEXT) {
            Some((end, _)) => write!(f, "{:?}... ({} bytes)", &self.0[..end], self.0.len()),
            None => write!(f, "{:?}", self.0),
        }
    }
}

/// The same, for lists.
impl fmt::Debug for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::DType;

    #[test]
    fn one_line_each() {
        let model = Model {
            ir_version: 9,
            opset_imports: vec![(String::new(), 20), ("com.microsoft".to_owned(), 1)],
            producer_name: "vit-onnx".to_owned(),
            producer_version: "1".to_owned(),
            metadata: vec![("config".to_owned(), "a = 1\n".repeat(20))],
            graph: Graph {
                name: "vit".to_owned(),
                nodes: vec![
                    Node::new("Softmax", "n").inputs(["x"]).outputs(["blocks.0/p"]).attribute("axis", -1i64),
                    Node::new("Attention", "m")
                        .domain("com.microsoft")
                        .inputs(["x", "", "w"])
                        .outputs(["y", "odd name\n"])
                        .attribute("scale", 0.5f32)
                        .attribute("mode", "same")
                        .attribute("pads", vec![1i64, 2])
                        .attribute("value", Initializer::int64("", 7)),
                ],
                inputs: vec![ValueInfo::new("x", DType::F32, ["batch".into(), 4.into(), DimValue::Unknown])],
                outputs: vec![ValueInfo { name: "y".to_owned(), elem: DType::F32.into(), shape: None }],
                initializers: vec![
                    Initializer::deferred("w", DType::F32, &[768, 768]),
                    Initializer::int64s("axes", &[1, -1]),
                    Initializer::float("eps", 1e-6),
                    Initializer::inline("half", DType::F16, &[1], vec![0, 0x3c]),
                    Initializer::inline("big", DType::U8, &[17], vec![0; 17]),
                ],
                value_info: vec![ValueInfo::new("blocks.0/p", DType::F32, ["batch".into(), 4.into()])],
            },
            ..Model::default()
        };
        let expected = r#"onnx ir 9, ai.onnx 20, com.microsoft 1
producer vit-onnx 1
metadata config = "a = 1\na = 1\na = 1\na = 1\na = 1\na = 1\na = 1\na = 1\na = 1\na = 1\n"... (120 bytes)
graph vit
inputs
  %x : f32[batch, 4, ?]
initializers
  %w : f32[768, 768] (deferred)
  %axes : i64[2] = [1, -1]
  %eps : f32[] = [1e-6]
  %half : f16[1] = [1.0]
  %big : u8[17]
nodes
  %blocks.0/p = Softmax(%x) {axis = -1} : f32[batch, 4]
  %y, %"odd name\n" = com.microsoft::Attention(%x, _, %w) {scale = 0.5, mode = "same", pads = [1, 2], value = i64[] = [7]} : f32, ?
outputs
  %y : f32
"#;
        assert_eq!(model.to_string(), expected);
    }
}
