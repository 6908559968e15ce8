//! What makes a graph valid. This list is the contract; each line is a [`Rule`] and a test below.
//!
//! 1. [`Rule::Ids`]: every id that a node, a value, an input or a parameter holds is in range.
//! 2. [`Rule::Order`]: a node reads only values that were defined before it.
//! 3. [`Rule::Owned`]: the results of a node are contiguous and name it as their definition, and
//!    every value is the one that its input, parameter or node says it defines.
//! 4. [`Rule::Types`]: the stored result types are the ones the op infers from its operands
//!    (a wrong number of operands is an error of inference).
//! 5. [`Rule::Dims`]: every axis has a valid size, and the elements of every value can be counted.
//! 6. [`Rule::Outputs`]: every output gives out a value that exists.
//! 7. [`Rule::Names`]: names are not empty and are unique among the inputs and among the outputs.
//! 8. [`Rule::Paths`]: parameter paths are not empty and are unique.
//! 9. [`Rule::Symbols`]: every symbol that occurs in a type is declared, once.
//! 10. [`Rule::Stage`]: every op may occur at the stage of the graph.
//! 11. [`Rule::Contents`]: the computed contents of a parameter have its type.
//!
//! All violations are reported, not the first. Nothing here panics, whatever the graph holds, so a
//! broken graph can be looked at; it follows that this file never indexes with an id it was given.

use super::{Def, Dim, Entity, Graph, Init, Node, NodeId, Operator, Origin, ParamId, Shape, Symbol, TensorType, ValueId};
use std::collections::BTreeSet;
use std::fmt;
use std::panic::Location;

/// One line of the contract in the documentation of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Ids are in range.
    Ids,
    /// Operands are defined before they are read.
    Order,
    /// Definitions and values agree.
    Owned,
    /// Stored types are the inferred ones.
    Types,
    /// Sizes are valid.
    Dims,
    /// Outputs exist.
    Outputs,
    /// Input and output names are unique and not empty.
    Names,
    /// Parameter paths are unique and not empty.
    Paths,
    /// Symbols are declared.
    Symbols,
    /// Ops are allowed at the stage.
    Stage,
    /// Computed contents have the type of their parameter.
    Contents,
}

/// The part of a graph that a violation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The graph as a whole.
    Graph,
    /// The input at this position.
    Input(usize),
    /// A parameter.
    Param(ParamId),
    /// A node.
    Node(NodeId),
    /// A value.
    Value(ValueId),
    /// The output at this position.
    Output(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Graph => f.write_str("graph"),
            Self::Input(i) => write!(f, "input {i}"),
            Self::Param(p) => write!(f, "parameter {p}"),
            Self::Node(n) => write!(f, "node {n}"),
            Self::Value(v) => write!(f, "value {v}"),
            Self::Output(i) => write!(f, "output {i}"),
        }
    }
}

/// One way in which a graph is invalid.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The broken rule.
    pub rule: Rule,
    /// What breaks it.
    pub place: Place,
    /// The scope of the node concerned; `None` when no node is.
    pub scope: Option<String>,
    /// The source line that built the node concerned, when it is known.
    pub at: Option<&'static Location<'static>>,
    /// The rewrite rule that made the node concerned, if one did.
    pub by: Option<&'static str>,
    /// What is wrong: expected and found.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scope.as_deref() {
            None => {}
            Some("") => f.write_str("(root): ")?,
            Some(scope) => write!(f, "{scope}: ")?,
        }
        write!(f, "{}: {}", self.place, self.message)?;
        if let Some(rule) = self.by {
            write!(f, " (made by {rule})")?;
        }
        if let Some(at) = self.at {
            write!(f, "\n    at {}:{}", at.file(), at.line())?;
        }
        Ok(())
    }
}

/// Every way in which a graph is invalid, never empty: parameters, inputs, nodes, values, outputs.
#[derive(Clone, Debug)]
pub struct Violations(pub Vec<Violation>);

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, v) in self.0.iter().enumerate() {
            write!(f, "{}{v}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}
impl std::error::Error for Violations {}

/// Checks a graph against the contract of this module.
pub fn verify<O: Operator>(g: &Graph<O>) -> Result<(), Violations> {
    let mut c = Checker { g, found: Vec::new() };
    c.symbols();
    c.params();
    c.inputs();
    for (id, node) in g.nodes.iter() {
        c.node(id, node);
    }
    c.values();
    c.outputs();
    if c.found.is_empty() { Ok(()) } else { Err(Violations(c.found)) }
}

struct Checker<'g, O> {
    g: &'g Graph<O>,
    found: Vec<Violation>,
}

impl<'g, O: Operator> Checker<'g, O> {
    fn report(&mut self, rule: Rule, place: Place, message: String) {
        self.found.push(Violation { rule, place, scope: None, at: None, by: None, message });
    }

    fn blame(&mut self, rule: Rule, place: Place, origin: &Origin, message: String) {
        let scope = self.g.scopes.get(origin.scope).cloned();
        self.found.push(Violation { rule, place, scope, at: origin.at, by: origin.rule, message });
    }

    fn symbols(&mut self) {
        let mut seen = BTreeSet::new();
        for s in &self.g.symbols {
            if !seen.insert(s) {
                self.report(Rule::Symbols, Place::Graph, format!("symbol `{s}` is declared twice"));
            }
        }
    }

    fn params(&mut self) {
        let g = self.g;
        let mut seen = BTreeSet::new();
        for (id, p) in g.params.iter() {
            let place = Place::Param(id);
            if p.path.is_empty() {
                self.report(Rule::Paths, place, "the path is empty".into());
            } else if !seen.insert(&p.path) {
                self.report(Rule::Paths, place, format!("path `{}` is already another parameter's", p.path));
            }
            self.defines(place, p.value, Def::Param(id));
            if let (Init::Value(literal), Some(value)) = (&p.init, g.values.get(p.value)) {
                let t = literal.tensor();
                let contents = TensorType { dtype: t.dtype(), shape: Shape::from(t.shape()) };
                if contents != value.ty {
                    let message = format!("`{}` is {} but its computed contents are {contents}", p.path, value.ty);
                    self.report(Rule::Contents, place, message);
                }
            }
        }
    }

    fn inputs(&mut self) {
        let g = self.g;
        let mut seen = BTreeSet::new();
        for (i, input) in g.inputs.iter().enumerate() {
            let place = Place::Input(i);
            if input.name.is_empty() {
                self.report(Rule::Names, place, "the name is empty".into());
            } else if !seen.insert(&input.name) {
                self.report(Rule::Names, place, format!("name `{}` is already another input's", input.name));
            }
            self.defines(place, input.value, Def::Input(i));
        }
    }

    /// An input or parameter whose value must say the same.
    fn defines(&mut self, place: Place, v: ValueId, def: Def) {
        match self.g.values.get(v) {
            None => self.report(Rule::Ids, place, format!("its value {v} does not exist")),
            Some(value) if value.def != def => {
                self.report(Rule::Owned, place, format!("its value {v} is defined as {:?}", value.def));
            }
            Some(_) => {}
        }
    }

    fn node(&mut self, id: NodeId, node: &Node<O>) {
        let g = self.g;
        let place = Place::Node(id);
        let name = node.op.name();
        if g.scopes.get(node.origin.scope).is_none() {
            let message = format!("{name}: its scope {} does not exist", node.origin.scope);
            self.blame(Rule::Ids, place, &node.origin, message);
        }
        if !node.op.allowed(g.stage) {
            let message = format!("{name} may not occur at stage {}", g.stage);
            self.blame(Rule::Stage, place, &node.origin, message);
        }
        let mut operands = Vec::with_capacity(node.inputs.len());
        for &v in &node.inputs {
            let Some(value) = g.values.get(v) else {
                self.blame(Rule::Ids, place, &node.origin, format!("{name} reads {v}, which does not exist"));
                continue;
            };
            operands.push(&value.ty);
            let later = matches!(value.def, Def::Result { node, .. } if node >= id);
            if later || v >= node.first {
                let message = format!("{name} reads {v}, which is not defined before it");
                self.blame(Rule::Order, place, &node.origin, message);
            }
        }
        let stored = self.results(id, node);
        if operands.len() != node.inputs.len() {
            return;
        }
        match (node.op.infer(&operands), stored) {
            (Err(e), _) => self.blame(Rule::Types, place, &node.origin, format!("{name}: {e}")),
            (Ok(_), None) => {}
            (Ok(inferred), Some(stored)) if inferred.len() != stored.len() => {
                let message = format!("{name} has {} results, expected {}", stored.len(), inferred.len());
                self.blame(Rule::Types, place, &node.origin, message);
            }
            (Ok(inferred), Some(stored)) => {
                for (i, (want, have)) in inferred.iter().zip(stored).enumerate() {
                    if want != have {
                        let message = format!("result {i} of {name} is stored as {have}, expected {want}");
                        self.blame(Rule::Types, place, &node.origin, message);
                    }
                }
            }
        }
    }

    /// The stored types of the results; `None` when the node claims values that do not exist.
    fn results(&mut self, id: NodeId, node: &Node<O>) -> Option<Vec<&'g TensorType>> {
        let g = self.g;
        let place = Place::Node(id);
        let first = node.first.index();
        let end = first.saturating_add(node.results as usize);
        if end > g.values.len() {
            let message = format!("{} claims values {first} to {end} of {}", node.op.name(), g.values.len());
            self.blame(Rule::Ids, place, &node.origin, message);
            return None;
        }
        let mut stored = Vec::with_capacity(node.results as usize);
        for (index, v) in (first..end).map(ValueId::new).enumerate() {
            let value = g.values.get(v)?;
            if value.def != (Def::Result { node: id, index }) {
                let message = format!("result {index} of {} is {v}, defined as {:?}", node.op.name(), value.def);
                self.blame(Rule::Owned, place, &node.origin, message);
            }
            stored.push(&value.ty);
        }
        Some(stored)
    }

    fn values(&mut self) {
        let g = self.g;
        let declared: BTreeSet<&Symbol> = g.symbols.iter().collect();
        for (v, value) in g.values.iter() {
            let place = Place::Value(v);
            let owner = match value.def {
                Def::Input(i) => g.inputs.get(i).map(|x| x.value == v),
                Def::Param(p) => g.params.get(p).map(|x| x.value == v),
                Def::Result { node, index } => g.nodes.get(node).map(|n| {
                    index < n.results as usize && n.first.index().checked_add(index) == Some(v.index())
                }),
            };
            match owner {
                None => self.report(Rule::Ids, place, format!("its definition {:?} does not exist", value.def)),
                Some(false) => self.report(Rule::Owned, place, format!("{:?} is another value", value.def)),
                Some(true) => {}
            }
            let shape = &value.ty.shape;
            if let Some(bad) = shape.iter().find(|d| !d.is_valid()) {
                self.report(Rule::Dims, place, format!("{} has an axis of size {bad}", value.ty));
            } else if !shape.elements().is_valid() {
                self.report(Rule::Dims, place, format!("{} has more elements than can be counted", value.ty));
            }
            let used: BTreeSet<&Symbol> = shape.iter().flat_map(Dim::symbols).collect();
            for s in used.difference(&declared) {
                self.report(Rule::Symbols, place, format!("symbol `{s}` of {} is not declared", value.ty));
            }
        }
    }

    fn outputs(&mut self) {
        let g = self.g;
        let mut seen = BTreeSet::new();
        for (i, output) in g.outputs.iter().enumerate() {
            let place = Place::Output(i);
            if output.name.is_empty() {
                self.report(Rule::Names, place, "the name is empty".into());
            } else if !seen.insert(&output.name) {
                self.report(Rule::Names, place, format!("name `{}` is already another output's", output.name));
            }
            if g.values.get(output.value).is_none() {
                let message = format!("`{}` gives out {}, which does not exist", output.name, output.value);
                self.report(Rule::Outputs, place, message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{DType, Literal, ScopeId, Stage, Tensor, TypeError, Value};

    /// The least that can be an op: `Sum` keeps the type of its two operands, `Split` gives one operand twice.
    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    enum Mock {
        Sum,
        Split,
    }

    impl Operator for Mock {
        fn name(&self) -> &'static str {
            if *self == Self::Sum { "sum" } else { "split" }
        }
        fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
            match (self, x) {
                (Self::Sum, [a, b]) if a == b => Ok(vec![(*a).clone()]),
                (Self::Split, [a]) => Ok(vec![(*a).clone(), (*a).clone()]),
                _ => Err(TypeError(format!("cannot take {x:?}"))),
            }
        }
        fn allowed(&self, stage: Stage) -> bool {
            *self == Self::Sum || stage == Stage::Built
        }
    }

    fn symbol(name: &str) -> Symbol {
        Symbol::new(name).expect("a name")
    }

    /// %0 input x, %1 parameter w, n0: %2, %3 = split %0, n1: %4 = sum %2, %1.
    fn graph() -> Graph<Mock> {
        let mut g = Graph::new("g", Stage::Built);
        g.declare(symbol("batch"));
        let ty = TensorType::new(DType::F32, [Dim::symbol(symbol("batch")), Dim::known(2)]);
        let x = g.add_input("x", ty.clone());
        let w = g.add_param("head.weight", ty, Init::ZEROS, true);
        let origin = Origin { scope: g.scope("head"), at: Some(Location::caller()), rule: None };
        let split = g.add_node(Mock::Split, [x].into_iter().collect(), origin).expect("it types");
        let half = g.node(split).result(0);
        let sum = g.add_node(Mock::Sum, [half, w].into_iter().collect(), origin).expect("it types");
        let y = g.node(sum).result(0);
        g.add_output("y", y);
        g
    }

    fn corrupt(f: impl FnOnce(&mut Graph<Mock>)) -> Vec<Violation> {
        let mut g = graph();
        f(&mut g);
        verify(&g).expect_err("the graph was corrupted").0
    }

    /// The rules broken, without repetition.
    fn broken(f: impl FnOnce(&mut Graph<Mock>)) -> Vec<Rule> {
        let rules: BTreeSet<Rule> = corrupt(f).iter().map(|v| v.rule).collect();
        rules.into_iter().collect()
    }

    fn v(i: usize) -> ValueId {
        ValueId::new(i)
    }
    fn n(i: usize) -> NodeId {
        NodeId::new(i)
    }

    #[test]
    fn a_built_graph_is_valid() {
        verify(&graph()).expect("valid");
    }

    #[test]
    fn ids_are_in_range() {
        assert_eq!(broken(|g| g.nodes[n(1)].inputs[0] = v(99)), [Rule::Ids]);
        assert_eq!(broken(|g| g.nodes[n(1)].origin.scope = ScopeId::new(99)), [Rule::Ids]);
        assert_eq!(broken(|g| g.nodes[n(1)].results = u32::MAX), [Rule::Ids]);
        assert_eq!(broken(|g| g.params[ParamId::new(0)].value = v(99)), [Rule::Ids, Rule::Owned]);
        assert_eq!(broken(|g| g.inputs[0].value = v(99)), [Rule::Ids, Rule::Owned]);
        assert_eq!(broken(|g| g.values[v(1)].def = Def::Param(ParamId::new(9))), [Rule::Ids, Rule::Owned]);
    }

    #[test]
    fn operands_are_defined_before() {
        assert_eq!(broken(|g| g.nodes[n(0)].inputs[0] = v(4)), [Rule::Order]);
        assert_eq!(broken(|g| g.nodes[n(1)].inputs[0] = v(4)), [Rule::Order]);
    }

    #[test]
    fn results_are_contiguous_and_owned() {
        assert_eq!(broken(|g| g.values[v(3)].def = Def::Result { node: n(0), index: 0 }), [Rule::Owned]);
        assert_eq!(broken(|g| g.values[v(3)].def = Def::Input(0)), [Rule::Owned]);
        assert!(broken(|g| g.nodes[n(1)].first = v(3)).contains(&Rule::Owned));
        let orphan = |g: &mut Graph<Mock>| {
            let value = Value { ty: g.values[v(0)].ty.clone(), def: Def::Result { node: n(1), index: 1 } };
            g.values.push(value);
        };
        assert_eq!(broken(orphan), [Rule::Owned]);
    }

    #[test]
    fn stored_types_are_inferred_types() {
        assert_eq!(broken(|g| g.values[v(4)].ty.dtype = DType::F64), [Rule::Types]);
        assert_eq!(broken(|g| g.nodes[n(1)].inputs.truncate(1)), [Rule::Types]);
        assert_eq!(broken(|g| g.nodes[n(1)].op = Mock::Split), [Rule::Types]);
    }

    #[test]
    fn sizes_are_valid_and_countable() {
        let resize = |d: Dim| move |g: &mut Graph<Mock>| g.values[v(0)].ty.shape.0[1] = d;
        assert!(broken(resize(Dim::known(-1))).contains(&Rule::Dims));
        assert!(broken(resize(Dim::OVERFLOW)).contains(&Rule::Dims));
        assert!(broken(resize(Dim::known(i64::MAX - 1))).iter().all(|r| *r == Rule::Types), "batch times a number");
        let huge = TensorType::new(DType::F32, [i64::MAX / 2, 4]);
        assert_eq!(broken(|g| drop(g.add_input("huge", huge))), [Rule::Dims]);
    }

    #[test]
    fn outputs_exist() {
        assert_eq!(broken(|g| g.outputs[0].value = v(99)), [Rule::Outputs]);
    }

    #[test]
    fn names_are_unique_and_not_empty() {
        let ty = TensorType::new(DType::F32, [2]);
        assert_eq!(broken(|g| drop(g.add_input("x", ty.clone()))), [Rule::Names]);
        assert_eq!(broken(|g| drop(g.add_input("", ty))), [Rule::Names]);
        assert_eq!(broken(|g| g.add_output("y", v(0))), [Rule::Names]);
        assert_eq!(broken(|g| g.outputs[0].name.clear()), [Rule::Names]);
    }

    #[test]
    fn parameter_paths_are_unique_and_not_empty() {
        let ty = TensorType::new(DType::F32, [2]);
        assert_eq!(broken(|g| drop(g.add_param("head.weight", ty.clone(), Init::ONES, true))), [Rule::Paths]);
        assert_eq!(broken(|g| drop(g.add_param("", ty, Init::ONES, true))), [Rule::Paths]);
    }

    #[test]
    fn symbols_are_declared_once() {
        assert_eq!(broken(|g| g.symbols.clear()), [Rule::Symbols]);
        assert_eq!(broken(|g| g.symbols.push(symbol("batch"))), [Rule::Symbols]);
    }

    #[test]
    fn ops_are_allowed_at_the_stage() {
        assert_eq!(broken(|g| g.stage = Stage::Legal), [Rule::Stage]);
    }

    #[test]
    fn computed_contents_have_the_type_of_their_parameter() {
        let ty = TensorType::new(DType::F32, [2]);
        let contents = Init::Value(Literal::new(Tensor::new(&[3], vec![0.0f32; 3])));
        assert_eq!(broken(|g| drop(g.add_param("table", ty, contents, false))), [Rule::Contents]);
    }

    #[test]
    fn every_violation_is_reported_with_its_origin() {
        let all = corrupt(|g| {
            g.stage = Stage::Legal;
            g.outputs[0].value = v(99);
            g.values[v(4)].ty.dtype = DType::F64;
        });
        assert_eq!(all.iter().map(|v| v.rule).collect::<Vec<_>>(), [Rule::Stage, Rule::Types, Rule::Outputs]);
        let text = Violations(all).to_string();
        assert!(text.starts_with("head: node n0: split may not occur at stage legal\n    at src"), "{text}");
        assert!(text.contains("result 0 of sum is stored as f64[batch, 2], expected f32[batch, 2]"), "{text}");
    }
}
