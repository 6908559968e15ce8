//! The vocabulary in which layers, variants, gradients and rewrite rules are written.
//!
//! A [`Builder`] owns the graph that is being built. A [`T`] is a copyable handle on one of its values, with
//! operators and methods that append nodes; a [`Scope`] is a prefix of checkpoint keys that declares
//! parameters. Nothing here returns a `Result`: an op whose operands do not fit records a diagnostic
//! (scope, source line, operand types) and yields a *poisoned* handle that later ops absorb, so that
//! formulas stay formulas and [`Builder::finish`] reports every mistake at once.

mod diagnostics;
mod einops;
mod names;
mod scope;
mod tensor;

pub use diagnostics::{BuildErrors, Diagnostic};
pub use names::{Names, Rule, Slot, Stored};
pub use scope::{Entered, Scope};
pub use tensor::T;

use crate::ir::{Init, NodeId, Operands, Origin, Param, ScopeId, Stage, Symbol, Tensor, TensorType, ValueId};
use crate::ops::{Const, Graph, Node, Op};
use hashbrown::HashMap;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::Location;
use std::sync::Arc;

/// Builds a graph.
#[derive(Debug)]
pub struct Builder {
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    graph: Graph,
    diagnostics: Vec<Diagnostic>,
    /// The origin of new nodes; without a source line, that of the caller.
    origin: Origin,
    /// Scopes by path: those of the graph up to the size of the map.
    scopes: HashMap<Arc<str>, ScopeId>,
    places: scope::Places,
    /// Parameters by path, in the same way.
    params: HashMap<Arc<str>, ValueId>,
    wanted: BTreeSet<String>,
    taps: Vec<(String, ValueId)>,
}

impl Builder {
    /// Creates a builder of an empty graph.
    pub fn new(name: impl Into<String>, stage: Stage) -> Self {
        Self::resume(Graph::new(name, stage))
    }

    /// Creates a builder that appends to `graph`, whose ids stay the same.
    pub fn resume(graph: Graph) -> Self {
        Self {
            state: RefCell::new(State {
                graph,
                diagnostics: Vec::new(),
                origin: Origin { scope: ScopeId::ROOT, at: None, rule: None },
                scopes: HashMap::new(),
                places: scope::Places::default(),
                params: HashMap::new(),
                wanted: BTreeSet::new(),
                taps: Vec::new(),
            }),
        }
    }

    /// Requests the intermediate values that layers [`observe`](Scope::observe) under this name.
    pub fn want(&self, tap: &str) {
        self.state.borrow_mut().wanted.insert(tap.to_owned());
    }

    /// Returns the values observed under `tap`, in order.
    pub fn observed(&self, tap: &str) -> Vec<T<'_>> {
        let s = self.state.borrow();
        s.taps.iter().filter(|(n, _)| n == tap).map(|&(_, v)| T::new(self, Some(v))).collect()
    }

    /// Returns the root of the module tree.
    pub fn root(&self) -> Scope<'_> {
        Scope::new(self, ScopeId::ROOT)
    }

    /// Declares a symbol, whose name must be accepted by [`Symbol::new`].
    #[track_caller]
    pub fn symbol(&self, name: &str) -> crate::ir::Dim {
        let Some(s) = Symbol::new(name) else {
            self.error(format!("`{name}` is not a valid name of a symbol"), &[]);
            return crate::ir::Dim::known(1);
        };
        self.state.borrow_mut().graph.declare(s.clone());
        crate::ir::Dim::symbol(s)
    }

    /// Declares a graph input.
    pub fn input(&self, name: &str, ty: TensorType) -> T<'_> {
        let mut s = self.state.borrow_mut();
        for sym in ty.shape.iter().flat_map(|d| d.symbols().cloned().collect::<Vec<_>>()) {
            s.graph.declare(sym);
        }
        let v = s.graph.add_input(name, ty);
        drop(s);
        T::new(self, Some(v))
    }

    /// Returns the parameter of this full path and declares it if it is new. Asking again with another type is a mistake.
    #[track_caller]
    pub fn param(&self, path: &str, ty: TensorType, init: Init, trainable: bool) -> T<'_> {
        let known = self.state.borrow_mut().param(path);
        if let Some(v) = known {
            let old = self.state.borrow().graph.ty(v).clone();
            if old == ty {
                return T::new(self, Some(v));
            }
            self.error(format!("parameter `{path}` is {ty} here and {old} elsewhere"), &[]);
            return T::new(self, None);
        }
        if !ty.shape.elements().is_valid() || ty.shape.iter().any(|d| !d.is_valid()) {
            self.error(format!("parameter `{path}` would have the impossible type {ty}"), &[]);
            return T::new(self, None);
        }
        let mut s = self.state.borrow_mut();
        let v = s.graph.add_param(path, ty, init, trainable);
        drop(s);
        T::new(self, Some(v))
    }

    /// Declares a parameter of another graph, unless it was declared.
    pub(crate) fn copy_param(&self, p: &Param, ty: &TensorType) -> T<'_> {
        let s = &mut *self.state.borrow_mut();
        let known = s.param(&p.path);
        let v = known.unwrap_or_else(|| s.graph.add_param(p.path.clone(), ty.clone(), p.init.clone(), p.trainable));
        T::new(self, Some(v))
    }

    /// Appends a constant.
    #[track_caller]
    pub fn constant(&self, t: Tensor) -> T<'_> {
        self.apply(Const::new(t), &[])
    }

    /// Applies an op and returns its first result.
    #[track_caller]
    pub fn apply<'g>(&'g self, op: impl Into<Op>, operands: &[T<'g>]) -> T<'g> {
        self.apply_all(op, operands).first().copied().unwrap_or(T::new(self, None))
    }

    /// Applies an op and returns all its results; none if an operand is poisoned.
    #[track_caller]
    pub fn apply_all<'g>(&'g self, op: impl Into<Op>, operands: &[T<'g>]) -> Vec<T<'g>> {
        let Some(inputs) = operands.iter().map(|t| t.id()).collect::<Option<Operands>>() else { return Vec::new() };
        let op = op.into();
        let mut guard = self.state.borrow_mut();
        let s = &mut *guard;
        let origin = Origin { at: s.origin.at.or_else(|| Some(Location::caller())), ..s.origin };
        match s.graph.add_node(op.clone(), inputs, origin) {
            Ok(n) => {
                drop(guard);
                self.results(n)
            }
            Err(e) => {
                drop(guard);
                self.error(format!("{}: {e}", op.mnemonic()), operands);
                Vec::new()
            }
        }
    }

    /// Appends a copy of a node of `old` on operands of the same types, so that the types of its results are known.
    pub(crate) fn copy(&self, old: &Graph, n: &Node, origin: Origin, inputs: Operands) -> NodeId {
        let s = &mut *self.state.borrow_mut();
        let types = n.outputs().map(|v| old.ty(v).clone());
        s.graph.add_copy(n.op.clone(), inputs, origin, types)
    }

    /// The results of a node.
    pub(crate) fn results(&self, n: NodeId) -> Vec<T<'_>> {
        self.state.borrow().graph.node(n).outputs().map(|v| self.value(v)).collect()
    }

    /// Records a mistake of the author, which [`finish`](Self::finish) reports.
    #[track_caller]
    pub fn error(&self, message: impl Into<String>, operands: &[T<'_>]) {
        let mut s = self.state.borrow_mut();
        let operands = operands.iter().filter_map(|t| t.id()).map(|v| s.graph.ty(v).to_string()).collect();
        let d = Diagnostic {
            scope: s.graph.scope_path(s.origin.scope).to_owned(),
            at: Location::caller(),
            message: message.into(),
            operands,
        };
        s.diagnostics.push(d);
    }

    /// Returns true if a mistake was recorded.
    pub fn failed(&self) -> bool {
        !self.state.borrow().diagnostics.is_empty()
    }

    /// Declares a graph output.
    pub fn output(&self, name: &str, value: T<'_>) {
        if let Some(v) = value.id() {
            self.state.borrow_mut().graph.add_output(name, v);
        }
    }

    /// Returns the graph, or all recorded mistakes.
    pub fn finish(self) -> Result<Graph, BuildErrors> {
        let s = self.state.into_inner();
        if s.diagnostics.is_empty() { Ok(s.graph) } else { Err(BuildErrors(s.diagnostics)) }
    }

    /// Returns the type of a value.
    pub fn ty(&self, v: ValueId) -> TensorType {
        self.state.borrow().graph.ty(v).clone()
    }

    /// Returns the handle on a value of this builder's graph.
    pub fn value(&self, v: ValueId) -> T<'_> {
        T::new(self, Some(v))
    }

    /// Returns a poisoned handle, which stands for the result of a mistake. Operations on it append nothing.
    pub fn poisoned(&self) -> T<'_> {
        T::new(self, None)
    }

    /// Calls `f` with the graph built so far.
    pub fn read<R>(&self, f: impl FnOnce(&Graph) -> R) -> R {
        f(&self.state.borrow().graph)
    }

    /// Calls `f`; the nodes that it appends have this origin.
    pub(crate) fn with_origin<R>(&self, origin: Origin, f: impl FnOnce() -> R) -> R {
        let old = std::mem::replace(&mut self.state.borrow_mut().origin, origin);
        let r = f();
        self.state.borrow_mut().origin = old;
        r
    }

    /// The scope of this path, which is new if there is none.
    pub(crate) fn scope_id(&self, path: &str) -> ScopeId {
        let s = &mut *self.state.borrow_mut();
        s.scopes.extend(s.graph.scopes_from(s.scopes.len()));
        if let Some(&id) = s.scopes.get(path) { id } else { s.graph.add_scope(path) }
    }
}

impl State {
    /// The value of the parameter of this path.
    fn param(&mut self, path: &str) -> Option<ValueId> {
        let new = self.graph.params_from(self.params.len());
        self.params.extend(new.iter().map(|p| (p.path.clone(), p.value)));
        self.params.get(path).copied()
    }
}
