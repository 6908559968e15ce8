//! The checker: problems of a model that names and sizes show.
//!
//! All problems are collected. The checker knows no operator: a runtime checks the operands of a `MatMul`. It does not
//! look into subgraphs; values that only they use count as unused, which is not a problem.

use super::{DimValue, Initializer, Model, Node, TensorData};
use std::collections::BTreeSet;

/// A problem of a model.
#[allow(missing_docs, reason = "the message of a variant names its fields")]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A value has two definitions.
    #[error("value `{value}` is defined twice, the second time by {by}")]
    DefinedTwice { value: String, by: String },
    /// A value is not defined where it is read.
    #[error("{by} reads `{value}`, which no input, initializer or earlier node defines")]
    Undefined { value: String, by: String },
    /// The domain of an operator has no operator set.
    #[error("{node} is of domain `{domain}`, for which the model imports no operator set")]
    NoOpset { node: String, domain: String },
    /// A domain has two operator sets.
    #[error("the model imports two operator sets of domain `{domain}`")]
    TwoOpsets { domain: String },
    /// A name is missing.
    #[error("{what} has no name")]
    Nameless { what: String },
    /// A node has two attributes of one name.
    #[error("{node} has two attributes `{attribute}`")]
    AttributeTwice { node: String, attribute: String },
    /// The metadata have two entries of one key.
    #[error("the metadata has two entries `{key}`")]
    MetadataTwice { key: String },
    /// The bytes of a tensor do not fit its type and extents.
    #[error("initializer `{name}` has {found} bytes, but its type and shape {}", match expected { Some(n) => format!("require {n}"), None => "have no size".to_owned() })]
    Size { name: String, expected: Option<u64>, found: u64 },
    /// An extent is negative.
    #[error("value `{value}` has the size {extent}")]
    NegativeExtent { value: String, extent: i64 },
}

/// Returns all problems of `model`, in the order of the model.
pub fn check(model: &Model) -> Vec<Problem> {
    let mut problems = Vec::new();
    let domains = opsets(model, &mut problems);
    let mut keys = BTreeSet::new();
    for (key, _) in &model.metadata {
        if !keys.insert(key) {
            problems.push(Problem::MetadataTwice { key: key.clone() });
        }
    }

    let graph = &model.graph;
    if graph.name.is_empty() {
        problems.push(Problem::Nameless { what: "the graph".to_owned() });
    }
    let mut defined = BTreeSet::new();
    for input in &graph.inputs {
        define(&input.name, || "an input".to_owned(), &mut defined, &mut problems);
    }
    // An initializer may be the default of an input of the same name.
    let mut stored = BTreeSet::new();
    for tensor in &graph.initializers {
        define(&tensor.name, || "an initializer".to_owned(), &mut stored, &mut problems);
        problems.extend(size(tensor));
    }
    defined.append(&mut stored);

    for (index, node) in graph.nodes.iter().enumerate() {
        check_node(index, node, &domains, &mut defined, &mut problems);
    }
    for output in &graph.outputs {
        if !defined.contains(output.name.as_str()) {
            problems.push(Problem::Undefined { value: output.name.clone(), by: "an output".to_owned() });
        }
    }
    for value in graph.inputs.iter().chain(&graph.outputs).chain(&graph.value_info) {
        for dim in value.shape.iter().flatten() {
            if let DimValue::Known(extent @ ..0) = dim {
                problems.push(Problem::NegativeExtent { value: value.name.clone(), extent: *extent });
            }
        }
    }
    problems
}

/// Maps the two names of the default domain to one.
fn domain(name: &str) -> &str {
    if name == "ai.onnx" { "" } else { name }
}

fn opsets<'a>(model: &'a Model, problems: &mut Vec<Problem>) -> BTreeSet<&'a str> {
    let mut domains = BTreeSet::new();
    for (name, _) in &model.opset_imports {
        if !domains.insert(domain(name)) {
            problems.push(Problem::TwoOpsets { domain: name.clone() });
        }
    }
    domains
}

fn define<'a>(value: &'a str, by: impl Fn() -> String, defined: &mut BTreeSet<&'a str>, problems: &mut Vec<Problem>) {
    if value.is_empty() {
        problems.push(Problem::Nameless { what: by() });
    } else if !defined.insert(value) {
        problems.push(Problem::DefinedTwice { value: value.to_owned(), by: by() });
    }
}

fn check_node<'a>(
    index: usize,
    node: &'a Node,
    domains: &BTreeSet<&str>,
    defined: &mut BTreeSet<&'a str>,
    problems: &mut Vec<Problem>,
) {
    let who = || format!("node {index} ({} {:?})", node.op_type, node.name);
    if node.op_type.is_empty() {
        problems.push(Problem::Nameless { what: format!("the operator of node {index} ({:?})", node.name) });
    }
    if !domains.contains(domain(&node.domain)) {
        problems.push(Problem::NoOpset { node: who(), domain: node.domain.clone() });
    }
    for value in node.inputs.iter().filter(|v| !v.is_empty()) {
        if !defined.contains(value.as_str()) {
            problems.push(Problem::Undefined { value: value.clone(), by: who() });
        }
    }
    let mut names = BTreeSet::new();
    for (name, _) in &node.attributes {
        if !names.insert(name) {
            problems.push(Problem::AttributeTwice { node: who(), attribute: name.clone() });
        }
    }
    for value in node.outputs.iter().filter(|v| !v.is_empty()) {
        define(value, who, defined, problems);
    }
}

fn size(tensor: &Initializer) -> Option<Problem> {
    let (expected, found) = match &tensor.data {
        TensorData::Inline(data) => (tensor.byte_len(), data.len() as u64),
        TensorData::External { length, .. } => (tensor.byte_len(), length.or(tensor.byte_len()).unwrap_or(0)),
        TensorData::Deferred => (tensor.byte_len(), tensor.byte_len().unwrap_or(0)),
        TensorData::Strings(strings) => (tensor.element_count(), strings.len() as u64),
    };
    (expected != Some(found)).then(|| Problem::Size { name: tensor.name.clone(), expected, found })
}

#[cfg(test)]
mod tests {
    use super::super::{Graph, ValueInfo};
    use super::*;
    use crate::ir::DType;

    fn sound() -> Model {
        Model {
            ir_version: 8,
            opset_imports: vec![(String::new(), 17)],
            graph: Graph {
                name: "g".to_owned(),
                nodes: vec![Node::new("Clip", "clip").inputs(["x", "", "top"]).outputs(["y"]).attribute("a", 1i64)],
                inputs: vec![ValueInfo::new("x", DType::F32, ["batch".into(), 3.into()])],
                outputs: vec![ValueInfo::new("y", DType::F32, [])],
                initializers: vec![Initializer::float("top", 6.0)],
                value_info: vec![],
            },
            ..Model::default()
        }
    }

    #[test]
    fn a_sound_model_has_no_problems() {
        assert_eq!(check(&sound()), []);
    }

    #[test]
    fn all_problems_are_collected() {
        let mut model = sound();
        model.opset_imports.push(("ai.onnx".to_owned(), 18));
        model.metadata = vec![("k".to_owned(), "1".to_owned()), ("k".to_owned(), "2".to_owned())];
        let graph = &mut model.graph;
        graph.name.clear();
        graph.initializers.push(Initializer::inline("short", DType::F32, &[2], vec![0; 4]));
        graph.initializers.push(Initializer::deferred("top", DType::F32, &[-1]));
        graph.nodes[0].attributes.push(("a".to_owned(), 2i64.into()));
        graph.nodes.push(Node::new("Gelu", "gelu").domain("com.microsoft").inputs(["later"]).outputs(["y"]));
        graph.nodes.push(Node::new("", "anon").outputs(["later"]));
        graph.outputs.push(ValueInfo::new("z", DType::F32, [(-3).into()]));
        let problems: Vec<_> = check(&model).iter().map(Problem::to_string).collect();
        assert_eq!(
            problems,
            [
                "the model imports two operator sets of domain `ai.onnx`",
                "the metadata has two entries `k`",
                "the graph has no name",
                "initializer `short` has 4 bytes, but its type and shape require 8",
                "value `top` is defined twice, the second time by an initializer",
                "initializer `top` has 0 bytes, but its type and shape have no size",
                "node 0 (Clip \"clip\") has two attributes `a`",
                "node 1 (Gelu \"gelu\") is of domain `com.microsoft`, for which the model imports no operator set",
                "node 1 (Gelu \"gelu\") reads `later`, which no input, initializer or earlier node defines",
                "value `y` is defined twice, the second time by node 1 (Gelu \"gelu\")",
                "the operator of node 2 (\"anon\") has no name",
                "an output reads `z`, which no input, initializer or earlier node defines",
                "value `z` has the size -3",
            ]
        );
    }

    #[test]
    fn an_initializer_may_be_an_inputs_default() {
        let mut model = sound();
        model.graph.initializers.push(Initializer::inline("x", DType::F32, &[0, 3], vec![]));
        assert_eq!(check(&model), []);
    }
}
