//! Small ONNX models for tests of engines, written by the project's own writer.

use std::path::{Path, PathBuf};
use vit_onnx::onnx::{self, DimValue, ElemType, External, Graph, Initializer, Model, Node, ValueInfo};

/// A node with one output.
pub(crate) fn node(op: &str, inputs: &[&str], output: &str) -> Node {
    Node::new(op, output).inputs(inputs.iter().copied()).outputs([output])
}

/// An input or output; a size is a number or a name.
pub(crate) fn port(name: &str, elem: ElemType, shape: &[&str]) -> ValueInfo {
    let dim = |s: &&str| s.parse::<i64>().map_or_else(|_| DimValue::from(*s), DimValue::from);
    ValueInfo::new(name, elem, shape.iter().map(dim).collect::<Vec<_>>())
}

pub(crate) fn floats(name: &str, dims: &[i64], data: &[f32]) -> Initializer {
    Initializer::inline(
        name,
        vit_onnx::ir::DType::F32,
        dims,
        data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>(),
    )
}

/// Writes `model.onnx` of opset 17 to `folder`.
pub(crate) fn write(
    folder: &Path,
    nodes: Vec<Node>,
    initializers: Vec<Initializer>,
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
) -> PathBuf {
    let graph = Graph { name: "g".into(), nodes, inputs, outputs, initializers, value_info: Vec::new() };
    let model = Model { ir_version: 8, opset_imports: vec![(String::new(), 17)], graph, ..Model::default() };
    let path = folder.join("model.onnx");
    let none = |i: &Initializer, _: &mut dyn vit_onnx::files::Sink| Err(format!("{} is deferred", i.name));
    onnx::write(&model, &path, External::Never, none).expect("a folder of the test");
    path
}
