//! The conditions for a valid graph. This list is the contract; each line is a [`Clause`] and a test below.
//!
//! 1. [`Clause::Ids`]: every id that a node, a value, an input or a parameter holds is in range.
//! 2. [`Clause::Order`]: a node reads only values that were defined before it.
//! 3. [`Clause::Owned`]: the results of a node are contiguous and name it as their definition, and
//!    every input, parameter or node that a value names as its definition defines this value.
//! 4. [`Clause::Types`]: the stored result types are the ones the op infers from its operands
//!    (a wrong number of operands is an error of inference).
//! 5. [`Clause::Dims`]: every axis has a valid size, and the elements of every value can be counted.
//! 6. [`Clause::Outputs`]: the value of every output exists.
//! 7. [`Clause::Names`]: names are not empty and are unique among the inputs and among the outputs.
//! 8. [`Clause::Paths`]: parameter paths are not empty and are unique.
//! 9. [`Clause::Symbols`]: every symbol that occurs in a type is declared, once.
//! 10. [`Clause::Stage`]: every op may occur at the stage of the graph.
//! 11. [`Clause::Contents`]: the computed contents of a parameter have its type.
//!
//! All violations are reported, not only the first. Nothing here panics, whatever the graph holds, so a
//! broken graph can be inspected; therefore this file never indexes with an id from the graph.

use super::{
    Def, Dim, Entity, Graph, Init, Node, NodeId, Operator, Origin, ParamId, Shape, Symbol, TensorType, ValueId,
};
use std::collections::BTreeSet;
use std::fmt;
use std::panic::Location;

/// A condition of the contract in the documentation of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clause {
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

/// The part of a graph to which a violation refers.
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

/// A violation of a clause.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The clause that is violated.
    pub clause: Clause,
    /// The part of the graph that violates it.
    pub place: Place,
    /// The scope of the node; `None` if the place is not a node.
    pub scope: Option<String>,
    /// The source line that built the node, if known.
    pub at: Option<&'static Location<'static>>,
    /// The rewrite rule that made the node, if any.
    pub by: Option<&'static str>,
    /// The mistake: expected and found.
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

/// All violations in a graph, never empty, in the order parameters, inputs, nodes, values, outputs.
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
    fn report(&mut self, clause: Clause, place: Place, message: String) {
        self.found.push(Violation { clause, place, scope: None, at: None, by: None, message });
    }

    fn blame(&mut self, clause: Clause, place: Place, origin: &Origin, message: String) {
        let scope = self.g.scopes.get(origin.scope).map(ToString::to_string);
        self.found.push(Violation { clause, place, scope, at: origin.at, by: origin.rule, message });
    }

    fn symbols(&mut self) {
        let mut seen = BTreeSet::new();
        for s in &self.g.symbols {
            if !seen.insert(s) {
                self.report(Clause::Symbols, Place::Graph, format!("symbol `{s}` is declared twice"));
            }
        }
    }

    fn params(&mut self) {
        let g = self.g;
        let mut seen = BTreeSet::new();
        for (id, p) in g.params.iter() {
            let place = Place::Param(id);
            if p.path.is_empty() {
                self.report(Clause::Paths, place, "the path is empty".into());
            } else if !seen.insert(&p.path) {
                self.report(Clause::Paths, place, format!("path `{}` is already another parameter's", p.path));
            }
            self.defines(place, p.value, Def::Param(id));
            if let (Init::Value(literal), Some(value)) = (&p.init, g.values.get(p.value)) {
                let t = literal.tensor();
                let contents = TensorType { dtype: t.dtype(), shape: Shape::from(t.shape()) };
                if contents != value.ty {
                    let message = format!("`{}` is {} but its computed contents are {contents}", p.path, value.ty);
                    self.report(Clause::Contents, place, message);
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
                self.report(Clause::Names, place, "the name is empty".into());
            } else if !seen.insert(&input.name) {
                self.report(Clause::Names, place, format!("name `{}` is already another input's", input.name));
            }
            self.defines(place, input.value, Def::Input(i));
        }
    }

    /// Checks that the value of an input or parameter names it as its definition.
    fn defines(&mut self, place: Place, v: ValueId, def: Def) {
        match self.g.values.get(v) {
            None => self.report(Clause::Ids, place, format!("its value {v} does not exist")),
            Some(value) if value.def != def => {
                self.report(Clause::Owned, place, format!("its value {v} is defined as {:?}", value.def));
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
            self.blame(Clause::Ids, place, &node.origin, message);
        }
        if !node.op.allowed(g.stage) {
            let message = format!("{name} may not occur at stage {}", g.stage);
            self.blame(Clause::Stage, place, &node.origin, message);
        }
        let mut operands = Vec::with_capacity(node.inputs.len());
        for &v in &node.inputs {
            let Some(value) = g.values.get(v) else {
                self.blame(Clause::Ids, place, &node.origin, format!("{name} reads {v}, which does not exist"));
                continue;
            };
            operands.push(&value.ty);
            let later = matches!(value.def, Def::Result { node, .. } if node >= id);
            if later || v >= node.first {
                let message = format!("{name} reads {v}, which is not defined before it");
                self.blame(Clause::Order, place, &node.origin, message);
            }
        }
        let stored = self.results(id, node);
        if operands.len() != node.inputs.len() {
            return;
        }
        match (node.op.infer(&operands), stored) {
            (Err(e), _) => self.blame(Clause::Types, place, &node.origin, format!("{name}: {e}")),
            (Ok(_), None) => {}
            (Ok(inferred), Some(stored)) if inferred.len() != stored.len() => {
                let message = format!("{name} has {} results, expected {}", stored.len(), inferred.len());
                self.blame(Clause::Types, place, &node.origin, message);
            }
            (Ok(inferred), Some(stored)) => {
                for (i, (want, have)) in inferred.iter().zip(stored).enumerate() {
                    if want != have {
                        let message = format!("result {i} of {name} is stored as {have}, expected {want}");
                        self.blame(Clause::Types, place, &node.origin, message);
                    }
                }
            }
        }
    }

    /// Returns the stored types of the results, or `None` if the node claims values that do not exist.
    fn results(&mut self, id: NodeId, node: &Node<O>) -> Option<Vec<&'g TensorType>> {
        let g = self.g;
        let place = Place::Node(id);
        let first = node.first.index();
        let end = first.saturating_add(node.results as usize);
        if end > g.values.len() {
            let message = format!("{} claims values {first} to {end} of {}", node.op.name(), g.values.len());
            self.blame(Clause::Ids, place, &node.origin, message);
            return None;
        }
        let mut stored = Vec::with_capacity(node.results as usize);
        for (index, v) in (first..end).map(ValueId::new).enumerate() {
            let value = g.values.get(v)?;
            if value.def != (Def::Result { node: id, index }) {
                let message = format!("result {index} of {} is {v}, defined as {:?}", node.op.name(), value.def);
                self.blame(Clause::Owned, place, &node.origin, message);
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
                Def::Result { node, index } => g
                    .nodes
                    .get(node)
                    .map(|n| index < n.results as usize && n.first.index().checked_add(index) == Some(v.index())),
            };
            match owner {
                None => self.report(Clause::Ids, place, format!("its definition {:?} does not exist", value.def)),
                Some(false) => self.report(Clause::Owned, place, format!("{:?} is another value", value.def)),
                Some(true) => {}
            }
            let shape = &value.ty.shape;
            if let Some(bad) = shape.iter().find(|d| !d.is_valid()) {
                self.report(Clause::Dims, place, format!("{} has an axis of size {bad}", value.ty));
            } else if !shape.elements().is_valid() {
                self.report(Clause::Dims, place, format!("{} has more elements than can be counted", value.ty));
            }
            for s in shape.iter().flat_map(Dim::symbols).filter(|s| !declared.contains(s)) {
                self.report(Clause::Symbols, place, format!("symbol `{s}` of {} is not declared", value.ty));
            }
        }
    }

    fn outputs(&mut self) {
        let g = self.g;
        let mut seen = BTreeSet::new();
        for (i, output) in g.outputs.iter().enumerate() {
            let place = Place::Output(i);
            if output.name.is_empty() {
                self.report(Clause::Names, place, "the name is empty".into());
            } else if !seen.insert(&output.name) {
                self.report(Clause::Names, place, format!("name `{}` is already another output's", output.name));
            }
            if g.values.get(output.value).is_none() {
                let message = format!("the value {} of `{}` does not exist", output.value, output.name);
                self.report(Clause::Outputs, place, message);
            }
        }
    }
}

#[cfg(test)]
mod tests;
