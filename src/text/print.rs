//! Prints a graph as text. The same graph gives the same bytes. Broken graphs are printed too.

use super::names::{Names, below, path_from, quote};
use crate::ir::verify::Place;
use crate::ir::{Array, Def, Element, Entity, Init, Kind, Literal, NodeId, Param, ParamId, TensorType};
use crate::ops::{AttrValue, Graph, Node};
use crate::with_array;
use std::fmt::{Display, Write as _};

/// Options of [`print()`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Style {
    /// Constants of more elements than this are printed as a digest; such a text cannot be read back.
    pub elide_constants_above: Option<usize>,
    /// Prints the source line and the rewrite rule of nodes, as comments.
    pub origins: bool,
}

impl Style {
    /// The complete graph, which can be read back.
    pub const COMPLETE: Self = Self { elide_constants_above: None, origins: false };
    /// The form for snapshots, with digests for constants of more than 16 elements.
    pub const SNAPSHOT: Self = Self { elide_constants_above: Some(16), origins: false };
}

/// Prints the text form of a graph, described in [`crate::text`].
pub fn print(g: &Graph, style: &Style) -> String {
    let mut out = String::new();
    for line in lines(g, style) {
        out.push_str(&line.text);
        out.push('\n');
    }
    out
}

/// A line of text and the parts of the graph that it shows.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) places: Vec<Place>,
    pub(super) text: String,
}

/// Prints the text form, line by line.
pub(super) fn lines(g: &Graph, style: &Style) -> Vec<Line> {
    let names = Names::of(g);
    let types = g.values().map(|(_, v)| &v.ty).collect();
    let params = g.params().collect();
    let mut p = Printer { g, style, names, types, params, declared: 0, scope: None, lines: Vec::new() };
    p.heading();
    for (id, node) in g.nodes() {
        p.node(id, node);
    }
    p.declare_params(g.params().len());
    p.outputs();
    p.lines
}

struct Printer<'g> {
    g: &'g Graph,
    style: &'g Style,
    names: Names<'g>,
    types: Vec<&'g TensorType>,
    params: Vec<&'g Param>,
    /// The number of parameters declared so far.
    declared: usize,
    /// The open scope.
    scope: Option<&'g str>,
    lines: Vec<Line>,
}

impl<'g> Printer<'g> {
    fn line(&mut self, places: Vec<Place>, text: String) {
        self.lines.push(Line { places, text });
    }

    fn blank(&mut self) {
        self.line(Vec::new(), String::new());
    }

    fn heading(&mut self) {
        let g = self.g;
        self.line(vec![Place::Graph], format!("graph {}  stage {}", quote(&g.name), g.stage));
        for s in g.symbols() {
            self.line(Vec::new(), format!("  symbol {s}"));
        }
        for (i, input) in g.inputs().iter().enumerate() {
            let text = format!("  input {} : {}", quote(&input.name), self.ty(input.value.index()));
            self.line(vec![Place::Input(i), Place::Value(input.value)], text);
        }
    }

    fn ty(&self, value: usize) -> String {
        self.types.get(value).copied().map_or_else(|| "?".to_owned(), ToString::to_string)
    }

    fn node(&mut self, id: NodeId, node: &'g Node) {
        let scope = self.names.scope(node.origin.scope);
        let opened = self.scope != Some(scope);
        if opened {
            if self.scope.is_none() {
                self.blank();
            }
            self.scope = Some(scope);
            let path = if scope.is_empty() { String::new() } else { quote(scope) };
            self.line(Vec::new(), format!("[{path}]"));
        }
        let needed = self.needed(node);
        if opened || needed > self.declared {
            self.declare_params(self.with_siblings(needed, scope));
        }

        let results: Vec<_> = self.names.results(node).collect();
        let mut text = String::from("  ");
        list(&mut text, results.iter().map(|&v| self.names.reference(v, Some(scope))));
        let _ = write!(text, " = {}", node.op.mnemonic());
        if !node.inputs.is_empty() {
            text.push(' ');
        }
        list(&mut text, node.inputs.iter().map(|&v| self.names.reference(v, Some(scope))));
        self.attributes(&mut text, node);
        text.push_str(" : ");
        list(&mut text, results.iter().map(|v| self.ty(v.index())));
        if self.style.origins {
            origin(&mut text, node);
        }
        let places = std::iter::once(Place::Node(id)).chain(results.into_iter().map(Place::Value)).collect();
        self.line(places, text);
    }

    /// Returns the number of parameters that must be declared before a node.
    fn needed(&self, node: &Node) -> usize {
        let known = self.types.len();
        let params = node.inputs.iter().filter(|v| v.index() < known).filter_map(|&v| match self.g.value(v).def {
            Def::Param(p) => Some(p.index() + 1),
            _ => None,
        });
        params.max().unwrap_or(0).min(self.params.len())
    }

    /// Moves a position past the next parameters that are directly in a scope, so that the parameters of a layer
    /// are together at the head of its block.
    fn with_siblings(&self, needed: usize, scope: &str) -> usize {
        let start = needed.max(self.declared);
        let is_leaf = |p: &&&Param| below(scope, &p.path).is_some_and(|name| !name.contains('.'));
        start + self.params[start..].iter().take_while(is_leaf).count()
    }

    /// Declares the parameters up to a position, in the order of the graph.
    fn declare_params(&mut self, end: usize) {
        if end > self.declared && self.scope.is_none() {
            self.blank();
        }
        for i in self.declared..end {
            let p = self.params[i];
            let keyword = if p.trainable { "param" } else { "buffer" };
            let ty = self.ty(p.value.index());
            let mut text = format!("  {keyword} {} : {ty} ", path_from(self.scope, &p.path));
            match &p.init {
                Init::Constant(x) => call(&mut text, "constant", *x),
                Init::Normal(x) => call(&mut text, "normal", *x),
                Init::Uniform(x) => call(&mut text, "uniform", *x),
                Init::Value(x) => {
                    text.push_str("value(");
                    self.literal(&mut text, x);
                    text.push(')');
                }
            }
            self.line(vec![Place::Param(ParamId::new(i)), Place::Value(p.value)], text);
        }
        self.declared = self.declared.max(end);
    }

    fn attributes(&self, text: &mut String, node: &Node) {
        let attrs = node.op.attrs();
        for (i, (name, value)) in attrs.iter().enumerate() {
            let _ = write!(text, "{}{name} = ", if i == 0 { " {" } else { ", " });
            match value {
                AttrValue::Int(x) => put(text, x),
                AttrValue::Real(x) => put(text, Number(x.0)),
                AttrValue::Bool(x) => put(text, x),
                AttrValue::Dim(x) => put(text, x),
                AttrValue::DType(x) => put(text, x),
                AttrValue::Ints(x) => brackets(text, x),
                AttrValue::Dims(x) => brackets(text, x),
                AttrValue::Literal(x) => self.literal(text, x),
            }
        }
        if !attrs.is_empty() {
            text.push('}');
        }
    }

    fn literal(&self, text: &mut String, literal: &Literal) {
        let t = literal.tensor();
        let _ = write!(text, "{}{:?} ", t.dtype(), t.shape());
        if self.style.elide_constants_above.is_some_and(|most| t.len() > most) {
            let _ = write!(text, "#{:032x}", literal.digest());
            return;
        }
        fn go<A: Element>(text: &mut String, a: &Array<A>) {
            let items = a.iter().map(|&x| Number(x));
            if a.ndim() == 0 { list(text, items) } else { brackets(text, items) }
        }
        with_array!(t, a => go(text, a));
    }

    fn outputs(&mut self) {
        if self.g.outputs().is_empty() {
            return;
        }
        self.blank();
        for (i, output) in self.g.outputs().iter().enumerate() {
            let value = self.names.reference(output.value, None);
            self.line(vec![Place::Output(i)], format!("  output {} = {value}", quote(&output.name)));
        }
    }
}

fn put(text: &mut String, x: impl Display) {
    let _ = write!(text, "{x}");
}

fn list(text: &mut String, items: impl IntoIterator<Item = impl Display>) {
    for (i, item) in items.into_iter().enumerate() {
        let _ = write!(text, "{}{item}", if i == 0 { "" } else { ", " });
    }
}

fn brackets(text: &mut String, items: impl IntoIterator<Item = impl Display>) {
    text.push('[');
    list(text, items);
    text.push(']');
}

fn call(text: &mut String, name: &str, x: crate::ir::Real) {
    let _ = write!(text, "{name}({})", Number(x.0));
}

/// Prints an element: a float as a short decimal that reads back as the same number, and an unusual NaN with its bits.
struct Number<A>(A);

impl<A: Element> Display for Number<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let x = self.0;
        let bits = |x: A| {
            let mut bytes = Vec::new();
            x.put(&mut bytes);
            bytes.iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b))
        };
        if x.partial_cmp(&x).is_some() {
            // The decimals of the 16-bit floats are not those of the wider float that they print as.
            if A::DTYPE.kind() == Kind::Half {
                write!(f, "{:?}", A::DTYPE.decimal(x.to_f64()))
            } else {
                write!(f, "{x:?}")
            }
        } else if bits(x) == bits(A::from_number(f64::NAN.into())) {
            f.write_str("nan")
        } else {
            write!(f, "nan({:#x})", bits(x))
        }
    }
}

fn origin(text: &mut String, node: &Node) {
    let (at, rule) = (node.origin.at, node.origin.rule);
    if at.is_some() || rule.is_some() {
        text.push_str("  //");
    }
    if let Some(at) = at {
        let _ = write!(text, " {}:{}", at.file(), at.line());
    }
    if let Some(rule) = rule {
        let _ = write!(text, " by {rule}");
    }
}
