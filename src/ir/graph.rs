//! The graph: an append-only tensor program.

use super::entity::{Arena, Entity, Side, entity};
use super::{Init, Symbol, TensorType};
use smallvec::SmallVec;
use std::fmt;
use std::hash::Hash;
use std::panic::Location;

entity!(ValueId, "%", "A tensor value: an input, a parameter or a result of a node.");
entity!(NodeId, "n", "One application of an op.");
entity!(ParamId, "@", "A named parameter.");
entity!(ScopeId, "s", "A position in the module tree, a prefix of checkpoint keys.");

/// Values a node reads.
pub type Operands = SmallVec<[ValueId; 3]>;

/// What the graph needs to know about the ops it holds. Implemented by `ops::Op`.
pub trait Operator: Clone + fmt::Debug + Eq + Hash {
    /// The text mnemonic, in snake case.
    fn name(&self) -> &'static str;
    /// Result types from operand types: the typing rule and the verifier's rule.
    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError>;
    /// Whether the op may occur at this stage.
    fn allowed(&self, stage: Stage) -> bool;
}

/// Why operand types do not fit an op: expected and found, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TypeError(pub String);

/// How far a graph has been compiled; decides which ops are legal in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// As a variant declares it.
    Built,
    /// Decided for inference or training: no dropout, no undecided batch norm.
    Specialized,
    /// Only ops that the target profile can spell.
    Legal,
}

impl Stage {
    /// Every stage, earliest first.
    pub const ALL: [Self; 3] = [Self::Built, Self::Specialized, Self::Legal];

    /// The name used by the text form.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Built => "built",
            Self::Specialized => "specialized",
            Self::Legal => "legal",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a node came from: path for names, source line for blame, rule for provenance.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// Position in the module tree.
    pub scope: ScopeId,
    /// The source line that built it; absent for graphs read from text or a file.
    pub at: Option<&'static Location<'static>>,
    /// The rewrite rule that made it, if one did.
    pub rule: Option<&'static str>,
}

/// One application of an op.
#[derive(Clone, Debug)]
pub struct Node<O> {
    /// The op with its attributes.
    pub op: O,
    /// Values read, all defined earlier.
    pub inputs: Operands,
    /// First result; the others follow without a gap.
    pub first: ValueId,
    /// Number of results.
    pub results: u32,
    /// Where it came from.
    pub origin: Origin,
}

impl<O> Node<O> {
    /// The `i`-th result.
    ///
    /// # Panics
    /// When `i` is not less than the number of results.
    pub fn result(&self, i: usize) -> ValueId {
        assert!(i < self.results as usize, "result index in range");
        ValueId::new(self.first.index() + i)
    }

    /// All results.
    pub fn outputs(&self) -> impl Iterator<Item = ValueId> + use<O> {
        let first = self.first.index();
        (first..first + self.results as usize).map(ValueId::new)
    }
}

/// A value and what defines it.
#[derive(Clone, Debug)]
pub struct Value {
    /// Its type.
    pub ty: TensorType,
    /// Its definition.
    pub def: Def,
}

/// What defines a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Def {
    /// The graph input at this position.
    Input(usize),
    /// A parameter.
    Param(ParamId),
    /// A result of a node.
    Result {
        /// The node.
        node: NodeId,
        /// Which of its results.
        index: usize,
    },
}

/// A graph input.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its name, unique among inputs.
    pub name: String,
    /// Its value.
    pub value: ValueId,
}

/// A graph output.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its name, unique among outputs.
    pub name: String,
    /// The value given out.
    pub value: ValueId,
}

/// A named parameter: a weight or a buffer. Its numbers live elsewhere.
#[derive(Clone, Debug)]
pub struct Param {
    /// The checkpoint key.
    pub path: String,
    /// Its value.
    pub value: ValueId,
    /// How it starts without a checkpoint.
    pub init: Init,
    /// False for buffers.
    pub trainable: bool,
}

/// A tensor program: append-only, operands always earlier than their users,
/// so iterating nodes in id order is a topological order.
#[derive(Clone, Debug)]
pub struct Graph<O> {
    /// What it computes, for headings.
    pub name: String,
    /// How far it has been compiled.
    pub stage: Stage,
    pub(super) nodes: Arena<NodeId, Node<O>>,
    pub(super) values: Arena<ValueId, Value>,
    pub(super) params: Arena<ParamId, Param>,
    pub(super) scopes: Arena<ScopeId, String>,
    pub(super) symbols: Vec<Symbol>,
    pub(super) inputs: Vec<Input>,
    pub(super) outputs: Vec<Output>,
}

impl<O: Operator> Graph<O> {
    /// An empty graph with the root scope only.
    pub fn new(name: impl Into<String>, stage: Stage) -> Self {
        let mut scopes = Arena::default();
        scopes.push(String::new());
        Self {
            name: name.into(),
            stage,
            nodes: Arena::default(),
            values: Arena::default(),
            params: Arena::default(),
            scopes,
            symbols: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// Declares a symbol; declaring it again has no effect.
    pub fn declare(&mut self, s: Symbol) {
        if !self.symbols.contains(&s) {
            self.symbols.push(s);
        }
    }

    /// Appends an input.
    pub fn add_input(&mut self, name: impl Into<String>, ty: TensorType) -> ValueId {
        let value = self.values.push(Value { ty, def: Def::Input(self.inputs.len()) });
        self.inputs.push(Input { name: name.into(), value });
        value
    }

    /// Appends a parameter.
    pub fn add_param(&mut self, path: impl Into<String>, ty: TensorType, init: Init, trainable: bool) -> ValueId {
        let id = ParamId::new(self.params.len());
        let value = self.values.push(Value { ty, def: Def::Param(id) });
        self.params.push(Param { path: path.into(), value, init, trainable });
        value
    }

    /// The scope of this full path, made when new. The empty path is the root.
    pub fn scope(&mut self, path: &str) -> ScopeId {
        if let Some((id, _)) = self.scopes.iter().rev().find(|(_, p)| *p == path) {
            return id;
        }
        self.scopes.push(path.to_owned())
    }

    /// Appends a node; its result types are inferred.
    pub fn add_node(&mut self, op: O, inputs: Operands, origin: Origin) -> Result<NodeId, TypeError> {
        let results = {
            let types: SmallVec<[&TensorType; 3]> = inputs.iter().map(|&v| &self.values[v].ty).collect();
            op.infer(&types)?
        };
        if let Some(bad) = results.iter().flat_map(|t| t.shape.iter()).find(|d| !d.is_valid()) {
            return Err(TypeError(format!("{} would have an axis of size {bad}", op.name())));
        }
        if results.iter().any(|t| !t.shape.elements().is_valid()) {
            return Err(TypeError(format!("the result of {} has more elements than can be counted", op.name())));
        }
        let node = NodeId::new(self.nodes.len());
        let first = ValueId::new(self.values.len());
        let count = results.len() as u32;
        for (index, ty) in results.into_iter().enumerate() {
            self.values.push(Value { ty, def: Def::Result { node, index } });
        }
        Ok(self.nodes.push(Node { op, inputs, first, results: count, origin }))
    }

    /// Gives a value out under a name.
    pub fn add_output(&mut self, name: impl Into<String>, value: ValueId) {
        self.outputs.push(Output { name: name.into(), value });
    }

    /// Gives nothing out any more: what is appended next decides anew.
    pub fn clear_outputs(&mut self) {
        self.outputs.clear();
    }

    /// Nodes, in topological order.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node<O>)> + ExactSizeIterator {
        self.nodes.iter()
    }
    /// One node.
    pub fn node(&self, n: NodeId) -> &Node<O> {
        &self.nodes[n]
    }
    /// Number of values of all kinds.
    pub fn value_count(&self) -> usize {
        self.values.len()
    }
    /// Every value.
    pub fn values(&self) -> impl Iterator<Item = (ValueId, &Value)> {
        self.values.iter()
    }
    /// One value.
    pub fn value(&self, v: ValueId) -> &Value {
        &self.values[v]
    }
    /// The type of a value.
    pub fn ty(&self, v: ValueId) -> &TensorType {
        &self.values[v].ty
    }
    /// The node that computes a value, unless it is an input or a parameter.
    pub fn producer(&self, v: ValueId) -> Option<NodeId> {
        if let Def::Result { node, .. } = self.values[v].def { Some(node) } else { None }
    }
    /// The parameter that a value is, if it is one.
    pub fn as_param(&self, v: ValueId) -> Option<&Param> {
        if let Def::Param(p) = self.values[v].def { Some(&self.params[p]) } else { None }
    }
    /// Parameters in order of declaration.
    pub fn params(&self) -> impl ExactSizeIterator<Item = &Param> {
        self.params.iter().map(|(_, p)| p)
    }
    /// One parameter.
    pub fn param(&self, p: ParamId) -> &Param {
        &self.params[p]
    }
    /// Full path of a scope.
    pub fn scope_path(&self, s: ScopeId) -> &str {
        &self.scopes[s]
    }
    /// Every scope with its full path.
    pub fn scopes(&self) -> impl ExactSizeIterator<Item = (ScopeId, &str)> {
        self.scopes.iter().map(|(id, path)| (id, path.as_str()))
    }
    /// Declared symbols, in order.
    pub fn symbols(&self) -> &[Symbol] {
        &self.symbols
    }
    /// Inputs in order.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }
    /// Outputs in order.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// How often each value is read, by nodes and by outputs.
    pub fn uses(&self) -> Side<ValueId, u32> {
        let mut uses = Side::new(self.values.len(), 0);
        for v in self.nodes.iter().flat_map(|(_, n)| n.inputs.iter()) {
            uses[*v] += 1;
        }
        for o in &self.outputs {
            uses[o.value] += 1;
        }
        uses
    }

    /// Which values an output depends on.
    pub fn live(&self) -> Side<ValueId, bool> {
        let mut live = Side::new(self.values.len(), false);
        for o in &self.outputs {
            live[o.value] = true;
        }
        for (_, n) in self.nodes.iter().rev() {
            if n.outputs().any(|v| live[v]) {
                for &v in &n.inputs {
                    live[v] = true;
                }
            }
        }
        live
    }
}
