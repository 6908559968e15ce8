//! Reads an ONNX model back into a graph: what `inspect --text` prints and the interpreter runs.
//!
//! What an ONNX op means is said by the ops ([`Op::read`]). Here are names, initializers and the walk over the nodes: small
//! initializers become constants; the others become parameters, by name, whose bytes stay in the file. Int64 vectors that are
//! computed from shapes are followed as sizes (module [`shape`]).

mod shape;

use crate::build::{BuildErrors, Builder, Diagnostic};
use crate::ir::{DType, Dim, Init, Origin, Stage, Symbol, Tensor, TensorType};
use crate::onnx::{self, Attribute, DimValue, Initializer, Model, OPSETS, TensorData};
use crate::ops::{Graph, OnnxAttr, Op, Operand, Site};
use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

/// Initializers up to this many elements are constants of the graph.
const CONSTANT: u64 = 16;
/// Opsets of `ai.onnx` that are read; before, elementwise ops broadcast by other rules.
const READ: RangeInclusive<i64> = 7..=*OPSETS.end();

/// Why a model could not be read back.
#[allow(missing_docs, reason = "the message of a variant names its fields")]
#[derive(Debug, thiserror::Error)]
pub enum RaiseError {
    /// Something this tool does not know.
    #[error("{0}")]
    Unknown(String),
    /// A node that means nothing this tool can say, by its name, or that of its first result where it has none. The opset
    /// is that of its domain, which precedes the op type unless it is `ai.onnx`.
    #[error("node `{node}` ({op}, opset {opset}): {reason}")]
    Node { node: String, op: String, opset: i64, reason: String },
    /// The model is ill-typed.
    #[error("the model is ill-typed: {0}")]
    Build(#[from] BuildErrors),
}

fn unknown<X>(message: impl Into<String>) -> Result<X, RaiseError> {
    Err(RaiseError::Unknown(message.into()))
}

/// A graph and where its parameters are.
#[derive(Debug)]
pub struct Raised {
    /// The graph, at stage `legal`.
    pub graph: Graph,
    /// Its parameters by name: positions in the model's initializers.
    pub params: HashMap<String, usize>,
}

/// An initializer's value.
pub(crate) fn tensor(i: &Initializer) -> Option<Tensor> {
    let TensorData::Inline(bytes) = &i.data else { return None };
    let shape: Vec<usize> = i.dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<_>>()?;
    Tensor::from_le_bytes(i.elem.dtype()?, &shape, bytes)
}

/// The type of a graph input or output; sizes without a name get one of their own.
pub(crate) fn value_type(v: &onnx::ValueInfo) -> Result<TensorType, RaiseError> {
    let Some(dtype) = v.elem.dtype() else {
        return unknown(format!("`{}` has element type {}, which is not supported", v.name, v.elem));
    };
    let Some(shape) = &v.shape else { return unknown(format!("`{}` has no shape", v.name)) };
    let dim = |(i, d): (usize, &DimValue)| match d {
        DimValue::Known(n) => Dim::known(*n),
        DimValue::Symbol(s) => size(s).unwrap_or_else(|| own_symbol(&v.name, i)),
        DimValue::Unknown => own_symbol(&v.name, i),
    };
    Ok(TensorType::new(dtype, shape.iter().enumerate().map(dim).collect::<Vec<_>>()))
}

fn own_symbol(name: &str, axis: usize) -> Dim {
    let clean: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    Dim::symbol(Symbol::new(&format!("d_{clean}_{axis}")).expect("a letter, then letters, digits and _"))
}

/// A symbolic size as `Dim` prints it: a sum of products. `None` for anything else.
fn size(text: &str) -> Option<Dim> {
    text.replace(" - ", " + -").split(" + ").try_fold(Dim::known(0), |sum, term| {
        let (sign, term) = term.strip_prefix('-').map_or((1, term), |t| (-1, t));
        let product = term.split('*').try_fold(Dim::known(sign), |p, f| {
            let factor = f.parse::<i64>().map(Dim::known).ok().or_else(|| Symbol::new(f).map(Dim::symbol))?;
            Some(p * factor)
        })?;
        Some(sum + product)
    })
}

/// Raises a model.
pub fn raise(model: &Model) -> Result<Raised, RaiseError> {
    let opset = opset_of(model, "");
    if opset.is_some_and(|n| !READ.contains(&n)) {
        return unknown(format!("opset {} is not read; {} to {} are", opset.unwrap_or(0), READ.start(), READ.end()));
    }
    let b = Builder::new(&model.graph.name, Stage::Legal);
    let mut params = HashMap::new();
    let mut failed = None;
    {
        let mut r = Raise { b: &b, model, values: HashMap::new() };
        let constants: HashSet<&str> = model.graph.initializers.iter().map(|i| i.name.as_str()).collect();
        for i in model.graph.inputs.iter().filter(|i| !constants.contains(i.name.as_str())) {
            r.values.insert(&i.name, Operand::Value(b.input(&i.name, value_type(i)?)));
        }
        for (at, i) in model.graph.initializers.iter().enumerate() {
            if r.initializer(i)? {
                params.insert(i.name.clone(), at);
            }
        }
        for n in model.graph.nodes.iter().take_while(|_| !b.failed()) {
            let origin = Origin { scope: b.scope_id(&scope_of(&n.name)), at: None, rule: None };
            b.with_origin(origin, || r.node(n))?;
            failed = Some(n);
        }
        for o in model.graph.outputs.iter().take_while(|_| !b.failed()) {
            match r.values.get(o.name.as_str()) {
                Some(Operand::Value(t)) => b.output(&o.name, *t),
                Some(_) => {
                    return unknown(format!("the output `{}` is computed from sizes, which are no data here", o.name));
                }
                None => return unknown(format!("the output `{}` is not defined", o.name)),
            }
        }
    }
    match (b.finish(), failed) {
        (Ok(graph), _) => Ok(Raised { graph, params }),
        (Err(e), Some(n)) => {
            let reason = |d: &Diagnostic| format!("{} (operands {})", d.message, d.operands.join(", "));
            Err(in_node(model, n, e.0.first().map_or_else(String::new, reason)))
        }
        (Err(e), None) => Err(e.into()),
    }
}

fn opset_of(model: &Model, domain: &str) -> Option<i64> {
    let standard = |d: &str| d.is_empty() || d == "ai.onnx";
    let found = |(d, _): &&(String, i64)| d == domain || (standard(d) && standard(domain));
    model.opset_imports.iter().find(found).map(|&(_, version)| version)
}

fn in_node(model: &Model, n: &onnx::Node, reason: String) -> RaiseError {
    let node = if n.name.is_empty() { n.outputs.first().cloned().unwrap_or_default() } else { n.name.clone() };
    let op = if n.domain.is_empty() { n.op_type.clone() } else { format!("{}::{}", n.domain, n.op_type) };
    RaiseError::Node { node, op, opset: opset_of(model, &n.domain).unwrap_or(0), reason }
}

/// `/transformer/layers.0.0/MatMul_1` stands in `transformer.layers.0.0`.
pub(crate) fn scope_of(name: &str) -> String {
    name.strip_prefix('/').and_then(|n| n.rsplit_once('/')).map_or(String::new(), |(s, _)| s.replace('/', "."))
}

struct Raise<'m, 'g> {
    b: &'g Builder,
    model: &'m Model,
    values: HashMap<&'m str, Operand<'g>>,
}

impl<'m> Raise<'m, '_> {
    /// Declares an initializer; true when it became a parameter.
    fn initializer(&mut self, i: &'m Initializer) -> Result<bool, RaiseError> {
        let Some(dtype) = i.elem.dtype() else {
            return unknown(format!("initializer `{}` has element type {}, which is not supported", i.name, i.elem));
        };
        let sizes = dtype == DType::I64;
        let small = sizes || i.element_count().is_some_and(|n| n <= CONSTANT);
        let constant = if small { tensor(i) } else { None };
        let is_param = constant.is_none();
        let t = match constant {
            Some(t) => self.b.constant(t),
            None => {
                let ty = TensorType::new(dtype, i.dims.iter().map(|&d| Dim::known(d)).collect::<Vec<_>>());
                self.b.param(&i.name, ty, Init::ZEROS, false)
            }
        };
        self.values.insert(&i.name, Operand::Value(t));
        Ok(is_param)
    }

    fn node(&mut self, n: &'m onnx::Node) -> Result<(), RaiseError> {
        let refused = |reason: String| in_node(self.model, n, reason);
        let Some(opset) = opset_of(self.model, &n.domain) else {
            return Err(refused("the model imports no operator set of its domain".to_owned()));
        };
        let results = n.outputs.iter().rposition(|o| !o.is_empty()).map_or(0, |last| last + 1);
        let mut site = Site::new(self.b, (&n.domain, &n.op_type), opset, results);
        for name in &n.inputs {
            site = site.operand(match self.values.get(name.as_str()) {
                _ if name.is_empty() => Operand::Absent,
                Some(x) => x.clone(),
                None => return Err(refused(format!("`{name}` is used but not defined before"))),
            });
        }
        for (name, v) in &n.attributes {
            site = site.attribute(name, attribute(v));
        }
        let results = match shape::read(&site) {
            Some(sizes) => vec![sizes],
            None => Op::read(&site).map_err(|e| refused(e.0))?.into_iter().map(Operand::Value).collect(),
        };
        for (name, x) in n.outputs.iter().zip(results).filter(|(name, _)| !name.is_empty()) {
            self.values.insert(name, x);
        }
        Ok(())
    }
}

/// An attribute as ops read it, or its kind in words.
fn attribute(v: &Attribute) -> Result<OnnxAttr, String> {
    Ok(match v {
        Attribute::Int(i) => OnnxAttr::Int(*i),
        Attribute::Float(f) => OnnxAttr::Float(*f),
        Attribute::Ints(v) => OnnxAttr::Ints(v.clone()),
        Attribute::Floats(v) => OnnxAttr::Floats(v.clone()),
        Attribute::String(s) => OnnxAttr::Str(s.clone()),
        Attribute::Tensor(t) => OnnxAttr::Tensor(tensor(t).ok_or_else(|| format!("a tensor of {}", t.elem))?),
        Attribute::Strings(_) => return Err("a list of strings".to_owned()),
        Attribute::Unsupported(kind) => return Err(kind.clone()),
    })
}
