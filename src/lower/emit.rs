//! A legal graph as an ONNX model: one walk, one spelling for each op.
//!
//! Names follow the module tree: node `/transformer/layers.0.0/MatMul_1` stands in scope
//! `transformer.layers.0.0`; parameters keep their checkpoint keys. Parameter bytes are not touched:
//! initializers are *deferred* and streamed when the file is written.

use crate::ir::{Def, Dim, Literal, Side, Symbol, Tensor, TensorType, ValueId};
use crate::onnx::{self, Attribute, DimValue, Initializer, Model, ValueInfo};
use crate::ops::{Arg, Graph, Node, OnnxAttr, Op, Spell, Unspellable};
use crate::target::Target;
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};

/// Why a graph cannot be written as ONNX: it was not legalized for this target and opset.
#[allow(missing_docs, reason = "the message of a variant names its fields")]
#[derive(Debug, thiserror::Error)]
pub enum EmitError {
    /// An op has no spelling.
    #[error("{op} in [{scope}]: {reason}")]
    Unspellable { op: &'static str, scope: String, reason: String },
    /// The opset is not supported.
    #[error("opset {0} is not supported; 17 to 23 are")]
    Opset(i64),
}

/// Emits a legal graph. `metadata` becomes `metadata_props`, in this order.
pub fn emit(g: &Graph, target: &Target, opset: i64, metadata: Vec<(String, String)>) -> Result<Model, EmitError> {
    let ir_version = onnx::ir_version_for(opset).ok_or(EmitError::Opset(opset))?;
    let mut e = Emitter {
        g,
        opset,
        target,
        values: Side::new(g.value_count(), None),
        taken: HashMap::new(),
        graph: onnx::Graph { name: g.name.clone(), ..onnx::Graph::default() },
        constants: HashMap::new(),
        symbols: BTreeMap::new(),
        domains: BTreeSet::new(),
        prefix: String::new(),
    };
    e.run()?;
    let mut opset_imports = vec![(String::new(), opset)];
    opset_imports.extend(e.domains.iter().map(|d| ((*d).to_owned(), 1)));
    Ok(Model {
        ir_version,
        opset_imports,
        producer_name: "vit-onnx".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        metadata,
        graph: e.graph,
        ..Model::default()
    })
}

fn info(name: &str, ty: &TensorType) -> ValueInfo {
    let dim = |d: &Dim| d.value().map_or_else(|| DimValue::Symbol(d.to_string()), DimValue::Known);
    ValueInfo::new(name, ty.dtype, ty.shape.iter().map(dim).collect::<Vec<_>>())
}

struct Emitter<'a> {
    g: &'a Graph,
    opset: i64,
    target: &'a Target,
    values: Side<ValueId, Option<String>>,
    /// Names in use, with the last number that was appended to each.
    taken: HashMap<String, usize>,
    graph: onnx::Graph,
    /// Names of inline initializers by content.
    constants: HashMap<u128, String>,
    /// Names of int64 `[1]` tensors that hold the value of a symbol.
    symbols: BTreeMap<Symbol, String>,
    domains: BTreeSet<&'static str>,
    /// Where the node being emitted stands, as `/a/b/`.
    prefix: String,
}

impl Emitter<'_> {
    fn run(&mut self) -> Result<(), EmitError> {
        let g = self.g;
        let live = g.live();
        for i in g.inputs() {
            self.graph.inputs.push(info(&i.name, g.ty(i.value)));
            self.taken.insert(i.name.clone(), 0);
            self.values[i.value] = Some(i.name.clone());
        }
        for o in g.outputs() {
            self.graph.outputs.push(info(&o.name, g.ty(o.value)));
            self.taken.insert(o.name.clone(), 0);
        }
        for p in g.params().filter(|p| live[p.value]) {
            let ty = g.ty(p.value);
            let dims = ty.shape.iter().map(|d| d.value().expect("parameters have known sizes")).collect::<Vec<_>>();
            // A parameter could bear the name of an input or output.
            let name = self.fresh(p.path.to_string());
            self.graph.initializers.push(Initializer::deferred(&name, ty.dtype, &dims));
            self.values[p.value] = Some(name);
        }
        // A result that is given out bears the output's name; further names are copies.
        let mut copies = Vec::new();
        for o in g.outputs() {
            let is_result =
                matches!(g.value(o.value).def, Def::Result { node, .. } if !matches!(g.node(node).op, Op::Const(_)));
            if is_result && self.values[o.value].is_none() {
                self.values[o.value] = Some(o.name.clone());
            } else {
                copies.push(o);
            }
        }
        for (_, n) in g.nodes() {
            if n.outputs().any(|v| live[v]) {
                self.node(n)?;
            }
        }
        for o in copies {
            let from = self.name(o.value);
            let name = self.fresh(format!("/{}/Identity", o.name));
            self.graph.nodes.push(onnx::Node::new("Identity", name).inputs([from]).outputs([o.name.clone()]));
        }
        Ok(())
    }

    /// The name of a value that was emitted.
    fn name(&self, v: ValueId) -> String {
        self.values[v].clone().expect("operands are emitted before their users")
    }

    /// `base`, numbered when taken.
    fn fresh(&mut self, base: String) -> String {
        let Some(&last) = self.taken.get(&base) else {
            self.taken.insert(base.clone(), 0);
            return base;
        };
        let mut numbered = (last + 1..).map(|i| (i, format!("{base}_{i}")));
        let (last, name) = numbered.find(|(_, name)| !self.taken.contains_key(name)).expect("numbers do not run out");
        self.taken.insert(base, last);
        self.taken.insert(name.clone(), 0);
        name
    }

    fn node(&mut self, n: &Node) -> Result<(), EmitError> {
        let g = self.g;
        let scope = g.scope_path(n.origin.scope);
        self.prefix = if scope.is_empty() { "/".into() } else { format!("/{}/", folders(scope)) };
        if let Op::Const(c) = &n.op {
            let name = self.literal(&c.value);
            self.values[n.first] = Some(name);
            return Ok(());
        }
        let x: Vec<&TensorType> = n.inputs.iter().map(|&v| g.ty(v)).collect();
        let spell = Spell { opset: self.opset, contrib: self.target.contrib, x: &x };
        let unspellable =
            |e: Unspellable| EmitError::Unspellable { op: n.op.mnemonic(), scope: scope.to_owned(), reason: e.0 };
        let call = n.op.def().onnx(&spell).map_err(unspellable)?;
        if !call.domain.is_empty() {
            self.domains.insert(call.domain);
        }
        let inputs: Vec<String> = call.args.iter().map(|a| self.arg(n, a)).collect();
        let name = self.fresh(format!("{}{}", self.prefix, call.op_type));
        let outputs: Vec<String> = n.outputs().enumerate().map(|(i, v)| self.result(v, i, &name)).collect();
        let mut node = onnx::Node::new(call.op_type, name).domain(call.domain).inputs(inputs).outputs(outputs);
        for (key, v) in call.attrs {
            node = match v {
                OnnxAttr::Int(i) => node.attribute(key, i),
                OnnxAttr::Float(f) => node.attribute(key, f),
                OnnxAttr::Ints(v) => node.attribute(key, v),
                OnnxAttr::Floats(v) => node.attribute(key, v),
                OnnxAttr::Str(s) => node.attribute(key, s),
                OnnxAttr::Tensor(t) => node.attribute(key, Attribute::Tensor(inline("", &t))),
            };
        }
        self.graph.nodes.push(node);
        Ok(())
    }

    /// The name of result `i` of a node.
    fn result(&mut self, v: ValueId, i: usize, node: &str) -> String {
        if let Some(given) = &self.values[v] {
            return given.clone();
        }
        let name = self.fresh(format!("{node}_output_{i}"));
        self.graph.value_info.push(info(&name, self.g.ty(v)));
        self.values[v] = Some(name.clone());
        name
    }

    fn arg(&mut self, n: &Node, a: &Arg) -> String {
        match a {
            Arg::Operand(i) => self.name(n.inputs[*i]),
            Arg::Const(t) => self.constant(t),
            Arg::Dims(dims) => self.dims(dims),
            Arg::ReshapeTo(dims) => self.reshape_target(&self.g.ty(n.inputs[0]).shape, dims),
            Arg::Absent => String::new(),
        }
    }

    fn constant(&mut self, t: &Tensor) -> String {
        self.literal(&Literal::new(t.clone()))
    }

    fn literal(&mut self, t: &Literal) -> String {
        let digest = t.digest();
        if let Some(name) = self.constants.get(&digest) {
            return name.clone();
        }
        let name = self.fresh(format!("{}constant", self.prefix));
        self.graph.initializers.push(inline(&name, t.tensor()));
        self.constants.insert(digest, name.clone());
        name
    }

    /// The target of a Reshape: numbers, `0` for a size kept in place, at most one `-1`; computed only when that is not enough.
    fn reshape_target(&mut self, from: &[Dim], to: &[Dim]) -> String {
        let symbolic = to.iter().filter(|d| d.value().is_none()).count();
        let mut free = true;
        let mut say = |i: usize, d: &Dim| match d.value() {
            Some(0) => None,
            Some(n) => Some(n),
            None if symbolic > 1 && from.get(i) == Some(d) => Some(0),
            None => std::mem::take(&mut free).then_some(-1),
        };
        match to.iter().enumerate().map(|(i, d)| say(i, d)).collect::<Option<Vec<i64>>>() {
            Some(v) => self.ints(v),
            None => self.dims(to),
        }
    }

    /// An int64 constant of one axis.
    fn ints(&mut self, v: Vec<i64>) -> String {
        self.constant(&Tensor::new(&[v.len()], v))
    }

    /// An int64 vector of sizes, computed at run time where symbolic.
    fn dims(&mut self, dims: &[Dim]) -> String {
        let mut parts = Vec::new();
        for run in dims.chunk_by(|a, b| a.value().is_some() && b.value().is_some()) {
            parts.push(match run.iter().map(Dim::value).collect() {
                Some(known) => self.ints(known),
                None => self.polynomial(&run[0]),
            });
        }
        match parts.as_slice() {
            [] => self.ints(Vec::new()),
            [one] => one.clone(),
            _ => self.shape_op("Concat", parts, &[("axis", 0)]),
        }
    }

    /// An int64 `[1]` tensor that holds a symbolic size.
    fn polynomial(&mut self, d: &Dim) -> String {
        let (terms, constant) = d.parts();
        let terms: Vec<(Vec<Symbol>, i64)> = terms.map(|(s, c)| (s.to_vec(), c)).collect();
        let mut sum = Vec::new();
        for (symbols, c) in terms {
            let mut product: Vec<String> = symbols.iter().map(|s| self.symbol(s)).collect();
            if c != 1 {
                product.push(self.ints(vec![c]));
            }
            sum.push(self.joined("Mul", product));
        }
        if constant != 0 {
            sum.push(self.ints(vec![constant]));
        }
        self.joined("Add", sum)
    }

    /// Values joined by an op of two, from the left.
    fn joined(&mut self, op: &str, values: Vec<String>) -> String {
        let all = values.into_iter().reduce(|a, b| self.shape_op(op, vec![a, b], &[]));
        all.expect("a symbolic size has a term, and a term has a symbol")
    }

    /// The value of a symbol, from the shape of the first input that decides it.
    fn symbol(&mut self, s: &Symbol) -> String {
        if let Some(name) = self.symbols.get(s) {
            return name.clone();
        }
        let g = self.g;
        let source = g.inputs().iter().find_map(|i| {
            let dims = &g.ty(i.value).shape;
            let axis = dims.iter().position(|d| d.symbols().next() == Some(s) && d.linear().is_some())?;
            Some((i.name.clone(), axis, dims[axis].linear()?))
        });
        let (input, axis, (c, rest)) = source.expect("every symbol stands in a linear size of an input");
        let prefix = std::mem::replace(&mut self.prefix, format!("/{s}/"));
        let axis = axis as i64;
        let mut v = self.shape_op("Shape", vec![input], &[("start", axis), ("end", axis + 1)]);
        if rest != 0 {
            let rest = self.ints(vec![rest]);
            v = self.shape_op("Sub", vec![v, rest], &[]);
        }
        if c != 1 {
            let c = self.ints(vec![c]);
            v = self.shape_op("Div", vec![v, c], &[]);
        }
        self.prefix = prefix;
        self.symbols.insert(s.clone(), v.clone());
        v
    }

    fn shape_op(&mut self, op: &str, inputs: Vec<String>, attrs: &[(&str, i64)]) -> String {
        let name = self.fresh(format!("{}{op}", self.prefix));
        let out = self.fresh(format!("{name}_output_0"));
        let mut node = onnx::Node::new(op, name).inputs(inputs).outputs([out.clone()]);
        for (k, v) in attrs {
            node = node.attribute(*k, *v);
        }
        self.graph.nodes.push(node);
        out
    }
}

/// Module names as folders, layer numbers kept with their list: `a.layers.0.fn` → `a/layers.0/fn`.
fn folders(scope: &str) -> String {
    let mut out = String::new();
    for part in scope.split('.') {
        let number = part.chars().all(|c| c.is_ascii_digit());
        if !out.is_empty() {
            out.push(if number { '.' } else { '/' });
        }
        out.push_str(part);
    }
    out
}

fn inline(name: &str, t: &Tensor) -> Initializer {
    let dims: Vec<i64> = t.shape().iter().map(|&d| d as i64).collect();
    Initializer::inline(name, t.dtype(), &dims, t.to_le_bytes())
}
