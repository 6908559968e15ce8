//! Verbs for authors: what layers, variants, gradients and rewrite rules are written in.
//!
//! A [`Builder`] owns the graph being made. A [`T`] is a copyable handle on one of its values, with
//! operators and methods that append nodes; a [`Scope`] is a prefix of checkpoint keys that makes
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
pub use tensor::{Sizes, T};

use crate::ir::{Init, Operands, Origin, ScopeId, Stage, Symbol, Tensor, TensorType, ValueId};
use crate::ops::{Const, Graph, Op};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::panic::Location;

/// Makes one graph.
#[derive(Debug)]
pub struct Builder {
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    graph: Graph,
    diagnostics: Vec<Diagnostic>,
    /// Where new nodes belong.
    scope: ScopeId,
    /// What new nodes are blamed on, when a rewrite makes them.
    rule: Option<&'static str>,
    /// Where a node was copied from, when a rewrite makes it.
    at: Option<&'static Location<'static>>,
    scopes: HashMap<String, ScopeId>,
    places: scope::Places,
    params: HashMap<String, ValueId>,
    /// Results by op and operands, when equal nodes are to be shared.
    shared: Option<HashMap<(Op, Operands), ValueId>>,
    wanted: BTreeSet<String>,
    taps: Vec<(String, ValueId)>,
}

impl Builder {
    /// A builder of an empty graph.
    pub fn new(name: impl Into<String>, stage: Stage) -> Self {
        Self::resume(Graph::new(name, stage))
    }

    /// Goes on with a graph: autodiff appends to the forward part, whose ids stay.
    pub fn resume(mut graph: Graph) -> Self {
        let root = graph.scope("");
        let params = graph.params().map(|p| (p.path.clone(), p.value)).collect();
        Self {
            state: RefCell::new(State {
                graph,
                diagnostics: Vec::new(),
                scope: root,
                rule: None,
                at: None,
                scopes: HashMap::from([(String::new(), root)]),
                places: scope::Places::default(),
                params,
                shared: None,
                wanted: BTreeSet::new(),
                taps: Vec::new(),
            }),
        }
    }

    /// From now on, a node equal to an earlier one (same op, same operands) is that earlier one.
    pub fn share_equal_nodes(&self) {
        self.state.borrow_mut().shared = Some(HashMap::new());
    }

    /// Asks for the intermediate values that layers [`observe`](Scope::observe) under this name.
    pub fn want(&self, tap: &str) {
        self.state.borrow_mut().wanted.insert(tap.to_owned());
    }

    /// The values observed under `tap`, in order.
    pub fn observed(&self, tap: &str) -> Vec<T<'_>> {
        let s = self.state.borrow();
        s.taps.iter().filter(|(n, _)| n == tap).map(|&(_, v)| T::new(self, Some(v))).collect()
    }

    /// The root of the module tree.
    pub fn root(&self) -> Scope<'_> {
        Scope::new(self, self.scope_id(""))
    }

    /// Declares a symbol; the name must be one [`Symbol::new`] accepts.
    #[track_caller]
    pub fn symbol(&self, name: &str) -> crate::ir::Dim {
        let Some(s) = Symbol::new(name) else {
            self.error(format!("`{name}` is not a name of a symbol"), &[]);
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

    /// The parameter of this full path; made when new, and the same one when asked for again with the same type.
    #[track_caller]
    pub fn param(&self, path: &str, ty: TensorType, init: Init, trainable: bool) -> T<'_> {
        let known = self.state.borrow().params.get(path).copied();
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
        s.params.insert(path.to_owned(), v);
        drop(s);
        T::new(self, Some(v))
    }

    /// A constant.
    #[track_caller]
    pub fn constant(&self, t: Tensor) -> T<'_> {
        self.apply(Const::new(t), &[])
    }

    /// Applies an op of one result.
    #[track_caller]
    pub fn apply<'g>(&'g self, op: impl Into<Op>, operands: &[T<'g>]) -> T<'g> {
        self.apply_all(op, operands).first().copied().unwrap_or(T::new(self, None))
    }

    /// Applies an op; all its results. Poisoned operands give no results.
    #[track_caller]
    pub fn apply_all<'g>(&'g self, op: impl Into<Op>, operands: &[T<'g>]) -> Vec<T<'g>> {
        let Some(inputs) = operands.iter().map(|t| t.id()).collect::<Option<Operands>>() else { return Vec::new() };
        let op = op.into();
        let mut guard = self.state.borrow_mut();
        let s = &mut *guard;
        // Two draws of one random op are two values.
        let shares = s.shared.is_some() && op.def().traits().pure;
        let key = shares.then(|| (op.clone(), inputs.clone()));
        if let Some(&v) = s.shared.as_ref().zip(key.as_ref()).and_then(|(m, key)| m.get(key)) {
            let node = s.graph.producer(v).expect("shared values are results of nodes");
            return s.graph.node(node).outputs().map(|v| T::new(self, Some(v))).collect();
        }
        let at = s.at.or_else(|| Some(Location::caller()));
        let origin = Origin { scope: s.scope, at, rule: s.rule };
        match s.graph.add_node(op.clone(), inputs, origin) {
            Ok(n) => {
                if let (Some(map), Some(key)) = (&mut s.shared, key) {
                    map.insert(key, s.graph.node(n).first);
                }
                s.graph.node(n).outputs().map(|v| T::new(self, Some(v))).collect()
            }
            Err(e) => {
                drop(guard);
                self.error(format!("{}: {e}", op.mnemonic()), operands);
                Vec::new()
            }
        }
    }

    /// Records a mistake of the author; `finish` will report it.
    #[track_caller]
    pub fn error(&self, message: impl Into<String>, operands: &[T<'_>]) {
        let mut s = self.state.borrow_mut();
        let operands = operands.iter().filter_map(|t| t.id()).map(|v| s.graph.ty(v).to_string()).collect();
        let d = Diagnostic {
            scope: s.graph.scope_path(s.scope).to_owned(),
            at: Location::caller(),
            message: message.into(),
            operands,
        };
        s.diagnostics.push(d);
    }

    /// Whether a mistake was recorded.
    pub fn failed(&self) -> bool {
        !self.state.borrow().diagnostics.is_empty()
    }

    /// Names a value as a graph output.
    pub fn output(&self, name: &str, value: T<'_>) {
        if let Some(v) = value.id() {
            self.state.borrow_mut().graph.add_output(name, v);
        }
    }

    /// The graph, or every mistake made on the way.
    pub fn finish(self) -> Result<Graph, BuildErrors> {
        let s = self.state.into_inner();
        if s.diagnostics.is_empty() { Ok(s.graph) } else { Err(BuildErrors(s.diagnostics)) }
    }

    /// The type of a value.
    pub fn ty(&self, v: ValueId) -> TensorType {
        self.state.borrow().graph.ty(v).clone()
    }

    /// The value behind an id of this builder's graph.
    pub fn value(&self, v: ValueId) -> T<'_> {
        T::new(self, Some(v))
    }

    /// A handle that stands for a value lost to a mistake; operations on it vanish.
    pub fn poisoned(&self) -> T<'_> {
        T::new(self, None)
    }

    /// Reads the graph as it stands.
    pub fn read<R>(&self, f: impl FnOnce(&Graph) -> R) -> R {
        f(&self.state.borrow().graph)
    }

    /// Runs `f` with new nodes blamed on this origin.
    pub fn with_origin<R>(
        &self,
        scope: &str,
        at: Option<&'static Location<'static>>,
        rule: Option<&'static str>,
        f: impl FnOnce() -> R,
    ) -> R {
        let scope = self.scope_id(scope);
        let old = {
            let mut s = self.state.borrow_mut();
            let old = (s.scope, s.at, s.rule);
            (s.scope, s.at, s.rule) = (scope, at, rule);
            old
        };
        let r = f();
        let mut s = self.state.borrow_mut();
        (s.scope, s.at, s.rule) = old;
        r
    }

    fn scope_id(&self, path: &str) -> ScopeId {
        let mut s = self.state.borrow_mut();
        if let Some(&id) = s.scopes.get(path) {
            return id;
        }
        let id = s.graph.scope(path);
        s.scopes.insert(path.to_owned(), id);
        id
    }
}
