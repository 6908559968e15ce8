//! Positions in the module tree: prefixes of checkpoint keys.

use super::names::{self, Names, Rules, Slot};
use super::{Builder, T};
use crate::ir::{DType, Init, Literal, ScopeId, Shape, Tensor, TensorType};
use crate::ops::Dropout;
use hashbrown::HashMap;
use std::fmt::{self, Display};

/// A prefix of checkpoint keys, such as `transformer.layers.0`.
#[derive(Clone, Copy)]
pub struct Scope<'g> {
    b: &'g Builder,
    id: ScopeId,
    /// Where it is in [`Places`].
    place: usize,
}

/// The scopes of pages, by the paths that pages use.
#[derive(Debug, Default)]
pub(super) struct Places {
    list: Vec<Place>,
    /// By base and path below it.
    index: HashMap<(usize, String), usize>,
}

#[derive(Debug)]
struct Place {
    /// The place whose rules apply.
    base: usize,
    /// The page's path below the base.
    page: String,
    /// The rules for paths below, of a base.
    names: Rules,
    /// The path in the graph.
    scope: ScopeId,
}

impl fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({})", self.path())
    }
}

/// A guard: until it is dropped, new nodes belong to the entered scope.
#[derive(Debug)]
pub struct Entered<'g> {
    b: &'g Builder,
    previous: ScopeId,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.b.state.borrow_mut().origin.scope = self.previous;
    }
}

/// `name` below `path`.
fn below(path: &str, name: &dyn Display) -> String {
    if path.is_empty() { name.to_string() } else { format!("{path}.{name}") }
}

impl<'g> Scope<'g> {
    /// The scope of this id, with no rules.
    pub(super) fn new(b: &'g Builder, id: ScopeId) -> Self {
        Self { b, id, place: 0 }.named(&[])
    }

    /// This scope, with paths below it named by these rules, which are relative to it.
    pub fn named(self, names: Names) -> Self {
        let mut s = self.b.state.borrow_mut();
        let base = s.places.list.len();
        s.places.list.push(Place { base, page: String::new(), names: Rules::new(names), scope: self.id });
        Self { place: base, ..self }
    }

    /// Returns the child of this name, as in `s.at("layers").at(0)`. Dots separate levels.
    pub fn at(self, name: impl Display) -> Self {
        let (base, page) = {
            let s = self.b.state.borrow();
            let here = &s.places.list[self.place];
            let key = (here.base, below(&here.page, &name));
            if let Some(&place) = s.places.index.get(&key) {
                return Self { b: self.b, id: s.places.list[place].scope, place };
            }
            key
        };
        let id = self.b.scope_id(&self.translate(base, &page).0);
        let mut s = self.b.state.borrow_mut();
        let place = s.places.list.len();
        s.places.list.push(Place { base, page: page.clone(), names: Rules::default(), scope: id });
        s.places.index.insert((base, page), place);
        Self { b: self.b, id, place }
    }

    /// Translates a page's path below a base into the path in the graph, and the form in which it is stored.
    fn translate(self, base: usize, page: &str) -> (String, Option<names::Stored>) {
        let s = self.b.state.borrow();
        let base = &s.places.list[base];
        let (path, stored) = base.names.translate(page);
        (below(s.graph.scope_path(base.scope), &path), stored)
    }

    /// Returns the full path, as checkpoints of the era have it.
    pub fn path(self) -> String {
        self.b.state.borrow().graph.scope_path(self.id).to_owned()
    }

    /// Returns the builder.
    pub fn builder(self) -> &'g Builder {
        self.b
    }

    /// Makes this the scope of new nodes until the guard is dropped. Layers begin with
    /// `let _in = s.enter();`, so that nodes, and with them the names in the ONNX file, follow the module tree.
    #[must_use = "the scope is left when the guard is dropped"]
    pub fn enter(self) -> Entered<'g> {
        let previous = std::mem::replace(&mut self.b.state.borrow_mut().origin.scope, self.id);
        Entered { b: self.b, previous }
    }

    /// Declares a trainable f32 parameter. Asking again for one path returns the same parameter.
    #[track_caller]
    pub fn param(self, name: &str, shape: impl Into<Shape>, init: Init) -> T<'g> {
        let slot = |key| Slot { b: self.b, key, init };
        match self.key(name) {
            (key, None) => slot(key).param(shape),
            (key, Some(stored)) => stored(slot(key), shape.into()),
        }
    }

    /// Declares a buffer of the checkpoint that is not trained, such as running statistics.
    #[track_caller]
    pub fn buffer(self, name: &str, dtype: DType, shape: impl Into<Shape>, init: Init) -> T<'g> {
        self.b.param(&self.key(name).0, TensorType::new(dtype, shape), init, false)
    }

    /// Declares a buffer whose contents are computed, such as an index table or frequency scales.
    #[track_caller]
    pub fn computed(self, name: &str, value: Tensor) -> T<'g> {
        let (dtype, shape) = (value.dtype(), Shape::from(value.shape()));
        self.buffer(name, dtype, shape, Init::Value(Literal::new(value)))
    }

    /// Appends a constant.
    #[track_caller]
    pub fn constant(self, t: Tensor) -> T<'g> {
        self.b.constant(t)
    }

    /// Sets elements to zero with probability `p` in training and scales the rest by `1/(1-p)`; the identity in inference.
    #[track_caller]
    pub fn dropout(self, x: T<'g>, p: f64) -> T<'g> {
        if p == 0.0 { x } else { self.b.apply(Dropout { ratio: p.into() }, &[x]) }
    }

    /// Offers an intermediate value under a name; it is kept only if the name was [requested](Builder::want).
    pub fn observe(self, tap: &str, x: T<'g>) {
        let mut s = self.b.state.borrow_mut();
        if let (true, Some(v)) = (s.wanted.contains(tap), x.id()) {
            s.taps.push((tap.to_owned(), v));
        }
    }

    /// Calls `f` and drops its observations: for parts that the original does not record.
    pub fn unobserved<R>(self, f: impl FnOnce() -> R) -> R {
        let kept = self.b.state.borrow().taps.len();
        let r = f();
        self.b.state.borrow_mut().taps.truncate(kept);
        r
    }

    /// The checkpoint's key of a parameter, and the form in which it is stored.
    fn key(self, name: &str) -> (String, Option<names::Stored>) {
        let (base, page) = {
            let here = &self.b.state.borrow().places.list[self.place];
            (here.base, below(&here.page, &name))
        };
        self.translate(base, &page)
    }
}
