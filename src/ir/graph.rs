//! The graph: an append-only tensor program.

use super::entity::{Arena, Entity, Side, entity};
use super::{Init, Symbol, TensorType};
use smallvec::SmallVec;
use std::fmt;
use std::hash::Hash;
use std::panic::Location;
use std::sync::Arc;

entity!(ValueId, "%", "A tensor value: an input, a parameter or a result of a node.");
entity!(NodeId, "n", "One application of an op.");
entity!(ParamId, "@", "A named parameter.");
entity!(ScopeId, "s", "A position in the module tree, a prefix of checkpoint keys.");

impl ScopeId {
    /// The root of the module tree, the first scope of every graph.
    pub const ROOT: Self = Self(0);
}

/// The values that a node reads.
pub type Operands = SmallVec<[ValueId; 3]>;

/// The interface through which a graph knows its ops. Implemented by `ops::Op`.
pub trait Operator: Clone + fmt::Debug + Eq + Hash {
    /// The text mnemonic, in snake case.
    fn name(&self) -> &'static str;
    /// Infers the result types from the operand types. The verifier uses the same rule.
    fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, TypeError>;
    /// Returns true if the op may occur at this stage.
    fn allowed(&self, stage: Stage) -> bool;
}

/// An error for operand types that do not fit an op: expected and found, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TypeError(pub String);

/// The stage of compilation of a graph, which decides which ops are legal in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// The graph is as a variant declares it.
    Built,
    /// The graph is decided for inference or training: no dropout, no undecided batch norm.
    Specialized,
    /// The graph holds only ops that the target can spell.
    Legal,
}

impl Stage {
    /// Every stage, earliest first.
    pub const ALL: [Self; 3] = [Self::Built, Self::Specialized, Self::Legal];

    /// The name of the stage in the text form.
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

/// The origin of a node: a path for names, a source line and a rewrite rule for diagnostics.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The scope, a position in the module tree.
    pub scope: ScopeId,
    /// The source line that built the node; `None` for graphs read from text or a file.
    pub at: Option<&'static Location<'static>>,
    /// The rewrite rule that made the node, if any.
    pub rule: Option<&'static str>,
}

/// One application of an op.
#[derive(Clone, Debug)]
pub struct Node<O> {
    /// The op with its attributes.
    pub op: O,
    /// The values that the node reads, all defined earlier.
    pub inputs: Operands,
    /// The first result; the others follow without a gap.
    pub first: ValueId,
    /// The number of results.
    pub results: u32,
    /// The origin of the node.
    pub origin: Origin,
}

impl<O> Node<O> {
    /// Returns the `i`-th result.
    ///
    /// # Panics
    /// When `i` is not less than the number of results.
    pub fn result(&self, i: usize) -> ValueId {
        assert!(i < self.results as usize, "result index in range");
        ValueId::new(self.first.index() + i)
    }

    /// Returns all results, in order.
    pub fn outputs(&self) -> impl Iterator<Item = ValueId> + Clone + use<O> {
        let first = self.first.index();
        (first..first + self.results as usize).map(ValueId::new)
    }
}

/// A value: its type and its definition.
#[derive(Clone, Debug)]
pub struct Value {
    /// Its type.
    pub ty: TensorType,
    /// Its definition.
    pub def: Def,
}

/// The definition of a value.
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
        /// The position among the results of the node.
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
    /// The value of the output.
    pub value: ValueId,
}

/// A named parameter: a weight or a buffer. The graph does not hold its numbers.
#[derive(Clone, Debug)]
pub struct Param {
    /// The checkpoint key.
    pub path: Arc<str>,
    /// Its value.
    pub value: ValueId,
    /// The initial values without a checkpoint.
    pub init: Init,
    /// Whether training changes the parameter; false for buffers.
    pub trainable: bool,
}

/// A tensor program: append-only, operands always earlier than their users,
/// so iterating nodes in id order is a topological order.
#[derive(Clone, Debug)]
pub struct Graph<O> {
    /// The name of the graph, for headings.
    pub name: String,
    /// The stage of compilation.
    pub stage: Stage,
    pub(super) nodes: Arena<NodeId, Node<O>>,
    pub(super) values: Arena<ValueId, Value>,
    pub(super) params: Arena<ParamId, Param>,
    /// Shared by the graphs that are made from one another: their nodes stand in the same scopes.
    pub(super) scopes: Arc<Arena<ScopeId, Arc<str>>>,
    pub(super) symbols: Vec<Symbol>,
    pub(super) inputs: Vec<Input>,
    pub(super) outputs: Vec<Output>,
}

impl<O: Operator> Graph<O> {
    /// Creates an empty graph with the root scope only.
    pub fn new(name: impl Into<String>, stage: Stage) -> Self {
        let mut scopes = Arena::default();
        scopes.push(Arc::from(""));
        Self {
            name: name.into(),
            stage,
            nodes: Arena::default(),
            values: Arena::default(),
            params: Arena::default(),
            scopes: Arc::new(scopes),
            symbols: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// Creates a graph at `stage` with the name, the symbols and the scopes of this one, whose ids stay the same, and
    /// with room for as many values.
    pub(crate) fn empty_copy(&self, stage: Stage) -> Self {
        Self {
            scopes: self.scopes.clone(),
            symbols: self.symbols.clone(),
            nodes: Arena::with_capacity(self.nodes.len()),
            values: Arena::with_capacity(self.values.len()),
            params: Arena::with_capacity(self.params.len()),
            ..Self::new(self.name.clone(), stage)
        }
    }

    /// Drops the nodes and parameters on which no output depends. The others keep their order, each parameter before its
    /// first reader.
    pub(crate) fn retain_live(self) -> Self {
        let live = self.live();
        if self.nodes.iter().all(|(_, n)| n.outputs().any(|v| live[v])) && self.params().all(|p| live[p.value]) {
            return self;
        }
        let mut new = self.empty_copy(self.stage);
        let mut map: Side<ValueId, Option<ValueId>> = Side::new(self.values.len(), None);
        let (values, params) = (&self.values, &self.params);
        let ty = |v: ValueId| values[v].ty.clone();
        for i in self.inputs {
            map[i.value] = Some(new.add_input(i.name, ty(i.value)));
        }
        let get = |new: &mut Self, map: &mut Side<ValueId, Option<ValueId>>, v: ValueId| match (map[v], values[v].def) {
            (None, Def::Param(p)) => {
                let p = &params[p];
                let copy = new.add_param(p.path.clone(), ty(v), p.init.clone(), p.trainable);
                map[v] = Some(copy);
                copy
            }
            (copy, _) => copy.expect("operands are defined before their readers"),
        };
        for n in self.nodes.into_iter().filter(|n| n.outputs().any(|v| live[v])) {
            let inputs = n.inputs.iter().map(|&v| get(&mut new, &mut map, v)).collect();
            let results = n.outputs();
            let copy = new.add_copy(n.op, inputs, n.origin, results.clone().map(ty));
            results.zip(new.node(copy).outputs()).for_each(|(v, copy)| map[v] = Some(copy));
        }
        for o in self.outputs {
            let v = get(&mut new, &mut map, o.value);
            new.add_output(o.name, v);
        }
        new
    }

    /// Declares a symbol. Declaring it again has no effect.
    pub fn declare(&mut self, s: Symbol) {
        if !self.symbols.contains(&s) {
            self.symbols.push(s);
        }
    }

    /// Appends an input and returns its value.
    pub fn add_input(&mut self, name: impl Into<String>, ty: TensorType) -> ValueId {
        let value = self.values.push(Value { ty, def: Def::Input(self.inputs.len()) });
        self.inputs.push(Input { name: name.into(), value });
        value
    }

    /// Appends a parameter and returns its value.
    pub fn add_param(&mut self, path: impl Into<Arc<str>>, ty: TensorType, init: Init, trainable: bool) -> ValueId {
        let id = ParamId::new(self.params.len());
        let value = self.values.push(Value { ty, def: Def::Param(id) });
        self.params.push(Param { path: path.into(), value, init, trainable });
        value
    }

    /// Returns the scope of this full path and creates it if it is new. The empty path is the root.
    pub fn scope(&mut self, path: &str) -> ScopeId {
        if let Some((id, _)) = self.scopes.iter().rev().find(|(_, p)| ***p == *path) {
            return id;
        }
        self.add_scope(path)
    }

    /// Appends a scope that does not exist yet.
    pub(crate) fn add_scope(&mut self, path: &str) -> ScopeId {
        Arc::make_mut(&mut self.scopes).push(path.into())
    }

    /// Appends a node, whose result types are inferred.
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
        Ok(self.add_copy(op, inputs, origin, results.into_iter()))
    }

    /// Appends a node whose result types are known.
    pub(crate) fn add_copy(
        &mut self,
        op: O,
        inputs: Operands,
        origin: Origin,
        types: impl Iterator<Item = TensorType>,
    ) -> NodeId {
        let node = NodeId::new(self.nodes.len());
        let first = ValueId::new(self.values.len());
        for (index, ty) in types.enumerate() {
            self.values.push(Value { ty, def: Def::Result { node, index } });
        }
        let results = (self.values.len() - first.index()) as u32;
        self.nodes.push(Node { op, inputs, first, results, origin })
    }

    /// Appends an output.
    pub fn add_output(&mut self, name: impl Into<String>, value: ValueId) {
        self.outputs.push(Output { name: name.into(), value });
    }

    /// Removes the outputs for which `keep` is false.
    pub fn retain_outputs(&mut self, keep: impl FnMut(&Output) -> bool) {
        self.outputs.retain(keep);
    }

    /// Returns the nodes in topological order.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node<O>)> + ExactSizeIterator {
        self.nodes.iter()
    }
    /// Returns a node.
    pub fn node(&self, n: NodeId) -> &Node<O> {
        &self.nodes[n]
    }
    /// Returns the number of values: inputs, parameters and results.
    pub fn value_count(&self) -> usize {
        self.values.len()
    }
    /// Returns all values.
    pub fn values(&self) -> impl Iterator<Item = (ValueId, &Value)> {
        self.values.iter()
    }
    /// Returns a value.
    pub fn value(&self, v: ValueId) -> &Value {
        &self.values[v]
    }
    /// Returns the type of a value.
    pub fn ty(&self, v: ValueId) -> &TensorType {
        &self.values[v].ty
    }
    /// Returns the node that computes a value, or `None` for an input or a parameter.
    pub fn producer(&self, v: ValueId) -> Option<NodeId> {
        if let Def::Result { node, .. } = self.values[v].def { Some(node) } else { None }
    }
    /// Returns the parameter whose value this is, if it is one.
    pub fn as_param(&self, v: ValueId) -> Option<&Param> {
        if let Def::Param(p) = self.values[v].def { Some(&self.params[p]) } else { None }
    }
    /// Returns the parameters in order of declaration.
    pub fn params(&self) -> impl ExactSizeIterator<Item = &Param> {
        self.params.iter().map(|(_, p)| p)
    }
    /// Returns a parameter.
    pub fn param(&self, p: ParamId) -> &Param {
        &self.params[p]
    }
    /// Returns the full path of a scope.
    pub fn scope_path(&self, s: ScopeId) -> &str {
        &self.scopes[s]
    }
    /// Returns all scopes with their full paths.
    pub fn scopes(&self) -> impl ExactSizeIterator<Item = (ScopeId, &str)> {
        self.scopes.iter().map(|(id, path)| (id, &**path))
    }
    /// Returns the full paths of the scopes from the `n`-th on, with their ids.
    pub(crate) fn scopes_from(&self, n: usize) -> impl Iterator<Item = (Arc<str>, ScopeId)> {
        self.scopes.from(n).iter().cloned().zip((n..).map(ScopeId::new))
    }
    /// Returns the parameters from the `n`-th on.
    pub(crate) fn params_from(&self, n: usize) -> &[Param] {
        self.params.from(n)
    }
    /// Returns the declared symbols in order.
    pub fn symbols(&self) -> &[Symbol] {
        &self.symbols
    }
    /// Returns the inputs in order.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }
    /// Returns the outputs in order.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// Counts how often nodes and outputs read each value.
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

    /// Marks the values on which an output depends.
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
