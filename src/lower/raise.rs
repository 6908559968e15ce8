//! Reads an ONNX model back into a graph: what `inspect --text` prints and the interpreter runs.
//!
//! Every op that this tool emits is understood, with static attributes and shapes that are constants
//! or computed from `Shape`. Small initializers become constants; the others become parameters, by
//! name, whose bytes stay in the file.

use crate::build::{BuildErrors, Builder, T};
use crate::ir::{DType, Dim, Init, Real, Stage, Symbol, Tensor, TensorType};
use crate::onnx::{self, Attribute, DimValue, ElemType, Initializer, Model, TensorData};
use crate::ops::CUBIC_A;
use crate::ops::{
    Attention, BatchNormalization, Binary, BinaryKind, Compare, CompareKind, Conv, ConvTranspose, FusedMatMul, Gelu,
    Graph, HardSwish, LayerNormalization, Op, OpDef, ReduceKind, Resize, Unary, UnaryKind,
};
use std::collections::HashMap;

/// Initializers up to this many elements are constants of the graph.
const CONSTANT: usize = 16;

/// Why a model could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum RaiseError {
    /// Something this tool does not know.
    #[error("{0}")]
    Unknown(String),
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
    let b = Builder::new(&model.graph.name, Stage::Legal);
    let mut params = HashMap::new();
    {
        let mut r = Raise { b: &b, values: HashMap::new(), sizes: HashMap::new() };
        for i in &model.graph.inputs {
            if model.graph.initializers.iter().all(|x| x.name != i.name) {
                let t = b.input(&i.name, value_type(i)?);
                r.values.insert(i.name.clone(), t);
            }
        }
        for (at, i) in model.graph.initializers.iter().enumerate() {
            if r.initializer(i)? {
                params.insert(i.name.clone(), at);
            }
        }
        for n in &model.graph.nodes {
            let scope = scope_of(&n.name);
            b.with_origin(&scope, None, None, || r.node(n))?;
        }
        for o in &model.graph.outputs {
            let t = r.get(&o.name)?;
            b.output(&o.name, t);
        }
    }
    Ok(Raised { graph: b.finish()?, params })
}

/// `/transformer/layers.0.0/MatMul_1` stands in `transformer.layers.0.0`.
pub(crate) fn scope_of(name: &str) -> String {
    name.strip_prefix('/').and_then(|n| n.rsplit_once('/')).map_or(String::new(), |(s, _)| s.replace('/', "."))
}

struct Raise<'g> {
    b: &'g Builder,
    values: HashMap<String, T<'g>>,
    /// int64 vectors whose entries are known as sizes.
    sizes: HashMap<String, Vec<Dim>>,
}

/// A node's inputs and attributes.
struct Site<'a> {
    n: &'a onnx::Node,
}

impl Site<'_> {
    fn int(&self, name: &str, default: i64) -> i64 {
        if let Some(Attribute::Int(i)) = self.n.get(name) { *i } else { default }
    }
    fn flag(&self, name: &str) -> bool {
        self.int(name, 0) != 0
    }
    fn float(&self, name: &str, default: f32) -> f64 {
        // Attributes are stored as f32; what was written as 1e-5 is meant as 1e-5.
        let f = if let Some(Attribute::Float(f)) = self.n.get(name) { *f } else { default };
        f.to_string().parse().unwrap_or(f64::from(f))
    }
    fn ints(&self, name: &str) -> Option<&[i64]> {
        if let Some(Attribute::Ints(v)) = self.n.get(name) { Some(v) } else { None }
    }
    fn usizes<const N: usize>(&self, name: &str, default: usize) -> Result<[usize; N], RaiseError> {
        let Some(v) = self.ints(name) else { return Ok([default; N]) };
        let v: Option<Vec<usize>> = v.iter().map(|&x| usize::try_from(x).ok()).collect();
        match v.and_then(|v| v.try_into().ok()) {
            Some(a) => Ok(a),
            None => unknown(format!("{}: `{name}` of {} is not {N} sizes", self.n.name, self.n.op_type)),
        }
    }
    fn has(&self, i: usize) -> bool {
        self.n.inputs.get(i).is_some_and(|s| !s.is_empty())
    }
    fn fail<X>(&self, why: &str) -> Result<X, RaiseError> {
        unknown(format!("node `{}` ({}): {why}", self.n.name, self.n.op_type))
    }
}

impl<'g> Raise<'g> {
    fn get(&self, name: &str) -> Result<T<'g>, RaiseError> {
        match self.values.get(name) {
            Some(&t) => Ok(t),
            None => unknown(format!("`{name}` is used but not defined before, or is a computed shape used as data")),
        }
    }

    fn x(&self, s: &Site<'_>, i: usize) -> Result<T<'g>, RaiseError> {
        match s.n.inputs.get(i) {
            Some(name) if !name.is_empty() => self.get(name),
            _ => s.fail(&format!("input {i} is missing")),
        }
    }

    /// Declares an initializer; true when it became a parameter.
    fn initializer(&mut self, i: &Initializer) -> Result<bool, RaiseError> {
        let elements = i.element_count().unwrap_or(u64::MAX);
        if let (true, Some(t)) = (elements <= CONSTANT as u64 || i.elem == DType::I64.into(), tensor(i)) {
            self.constant(&i.name, t);
            return Ok(false);
        }
        let Some(dtype) = i.elem.dtype() else {
            return unknown(format!("initializer `{}` has element type {}, which is not supported", i.name, i.elem));
        };
        let ty = TensorType::new(dtype, i.dims.iter().map(|&d| Dim::known(d)).collect::<Vec<_>>());
        let t = self.b.param(&i.name, ty, Init::ZEROS, false);
        self.values.insert(i.name.clone(), t);
        Ok(true)
    }

    fn constant(&mut self, name: &str, t: Tensor) {
        if let (0 | 1, Some(v)) = (t.rank(), t.to_vec::<i64>()) {
            self.sizes.insert(name.to_owned(), v.into_iter().map(Dim::known).collect());
        }
        let t = self.b.constant(t);
        self.values.insert(name.to_owned(), t);
    }

    fn dims(&self, s: &Site<'_>, i: usize) -> Result<Vec<Dim>, RaiseError> {
        match s.n.inputs.get(i).and_then(|n| self.sizes.get(n)) {
            Some(d) => Ok(d.clone()),
            None => s.fail(&format!("input {i} must be a constant or computed from shapes")),
        }
    }

    fn known(&self, s: &Site<'_>, i: usize) -> Result<Vec<i64>, RaiseError> {
        let dims = self.dims(s, i)?;
        match dims.iter().map(Dim::value).collect() {
            Some(v) => Ok(v),
            None => s.fail(&format!("input {i} must be a constant")),
        }
    }

    fn node(&mut self, n: &onnx::Node) -> Result<(), RaiseError> {
        let s = Site { n };
        if self.shape_arithmetic(&s)? {
            return Ok(());
        }
        let results = match n.domain.as_str() {
            "" | "ai.onnx" => self.standard(&s)?,
            "com.microsoft" => self.microsoft(&s)?,
            d => return s.fail(&format!("domain `{d}` is not supported")),
        };
        for (name, t) in n.outputs.iter().zip(results) {
            self.values.insert(name.clone(), t);
        }
        Ok(())
    }

    /// Int64 vectors computed from shapes are followed as sizes; true when the node was one of them.
    fn shape_arithmetic(&mut self, s: &Site<'_>) -> Result<bool, RaiseError> {
        let n = s.n;
        let [out] = n.outputs.as_slice() else { return Ok(false) };
        let all: Option<Vec<&Vec<Dim>>> = n.inputs.iter().map(|i| self.sizes.get(i)).collect();
        let dims = match (n.op_type.as_str(), all.as_deref()) {
            ("Shape", _) => {
                let d = self.x(s, 0)?.dims();
                let at = |i: i64| (if i < 0 { i + d.len() as i64 } else { i }).clamp(0, d.len() as i64) as usize;
                let (from, to) = (at(s.int("start", 0)), at(s.int("end", d.len() as i64)));
                d.get(from..to).map(<[Dim]>::to_vec).unwrap_or_default()
            }
            ("Concat", Some(parts)) => parts.iter().flat_map(|p| p.iter().cloned()).collect(),
            ("Add" | "Sub" | "Mul" | "Div", Some([a, b])) if a.len() == b.len() => {
                let apply = |(a, b): (&Dim, &Dim)| match n.op_type.as_str() {
                    "Add" => Some(a + b),
                    "Sub" => Some(a - b),
                    "Mul" => Some(a * b),
                    _ => a.exact_div(b),
                };
                match a.iter().zip(b.iter()).map(apply).collect() {
                    Some(d) => d,
                    None => return Ok(false),
                }
            }
            _ => return Ok(false),
        };
        if let Some(v) = dims.iter().map(Dim::value).collect::<Option<Vec<i64>>>() {
            self.constant(out, Tensor::new(&[v.len()], v));
        } else {
            self.sizes.insert(out.clone(), dims);
        }
        Ok(true)
    }

    fn apply(&self, op: impl Into<Op>, x: &[T<'g>]) -> Vec<T<'g>> {
        self.b.apply_all(op, x)
    }

    fn unary(&self, s: &Site<'_>, kind: UnaryKind) -> Result<Vec<T<'g>>, RaiseError> {
        Ok(self.apply(Unary { kind }, &[self.x(s, 0)?]))
    }
    fn binary(&self, s: &Site<'_>, kind: BinaryKind) -> Result<Vec<T<'g>>, RaiseError> {
        Ok(self.apply(Binary { kind }, &[self.x(s, 0)?, self.x(s, 1)?]))
    }
    fn compare(&self, s: &Site<'_>, kind: CompareKind) -> Result<Vec<T<'g>>, RaiseError> {
        Ok(self.apply(Compare { kind }, &[self.x(s, 0)?, self.x(s, 1)?]))
    }

    fn reduce(&self, s: &Site<'_>, kind: ReduceKind) -> Result<Vec<T<'g>>, RaiseError> {
        let x = self.x(s, 0)?;
        let axes = match s.ints("axes") {
            Some(a) => a.to_vec(),
            None if s.has(1) => self.known(s, 1)?,
            None => (0..x.rank() as i64).collect(),
        };
        Ok(vec![x.reduce(kind, &axes, s.int("keepdims", 1) != 0)])
    }

    fn slice(&self, s: &Site<'_>) -> Result<Vec<T<'g>>, RaiseError> {
        let mut x = self.x(s, 0)?;
        let (starts, ends) = (self.dims(s, 1)?, self.dims(s, 2)?);
        let axes = if s.has(3) { self.known(s, 3)? } else { (0..starts.len() as i64).collect() };
        let steps = if s.has(4) { self.known(s, 4)? } else { vec![1; starts.len()] };
        if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
            return s.fail("starts, ends, axes and steps differ in length");
        }
        for (((start, end), &axis), &step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
            let Some(step) = usize::try_from(step).ok().filter(|&n| n > 0) else {
                return s.fail("a step is not positive");
            };
            let size = x.dim(axis);
            // Negative numbers count from the end; ends beyond it mean the end.
            let place = |d: &Dim| match (d.value(), size.value()) {
                (Some(v), _) if v < 0 => &size + v,
                (Some(v), Some(n)) if v > n => Dim::known(n),
                (Some(v), None) if v >= i64::from(i32::MAX) => size.clone(),
                _ => d.clone(),
            };
            let axis = if axis < 0 { axis + x.rank() as i64 } else { axis };
            let Ok(axis) = usize::try_from(axis) else { return s.fail("an axis is out of range") };
            x = self.b.apply(crate::ops::Slice { axis, start: place(start), end: place(end), step }, &[x]);
        }
        Ok(vec![x])
    }

    fn pad(&self, s: &Site<'_>) -> Result<Vec<T<'g>>, RaiseError> {
        let mut x = self.x(s, 0)?;
        let pads = self.known(s, 1)?;
        let rank = x.rank();
        if pads.len() != 2 * rank || pads.iter().any(|&p| p < 0) {
            return s.fail("pads must be one before and one after for each axis, not negative");
        }
        let value = if s.has(2) { self.number(s, 2)? } else { 0.0 };
        for axis in 0..rank {
            let (before, after) = (pads[axis] as usize, pads[rank + axis] as usize);
            if before + after > 0 {
                x = self.b.apply(crate::ops::Pad { axis, before, after, value: Real(value) }, &[x]);
            }
        }
        Ok(vec![x])
    }

    fn number(&self, s: &Site<'_>, i: usize) -> Result<f64, RaiseError> {
        let v = self.x(s, i)?.id();
        let found = v.and_then(|v| self.b.read(|g| crate::rewrite::number(g, v)));
        found.map_or_else(|| s.fail(&format!("input {i} must be a constant number")), Ok)
    }

    fn reshape(&self, s: &Site<'_>) -> Result<Vec<T<'g>>, RaiseError> {
        let x = self.x(s, 0)?;
        let from = x.dims();
        let mut to = self.dims(s, 1)?;
        let keep = !s.flag("allowzero");
        let mut free = None;
        for (i, d) in to.iter_mut().enumerate() {
            match d.value() {
                Some(0) if keep => match from.get(i) {
                    Some(old) => *d = old.clone(),
                    None => return s.fail("a 0 in the shape has no axis to copy"),
                },
                Some(-1) if free.is_none() => free = Some(i),
                Some(n) if n < 0 => return s.fail("the shape has more than one -1"),
                _ => {}
            }
        }
        if let Some(i) = free {
            // Sizes on both sides cancel: what remains divides exactly even where sizes are sums, such as `h*w + 1`.
            let (mut all, mut rest) = (from, Vec::new());
            for (_, d) in to.iter().enumerate().filter(|(j, _)| *j != i) {
                match all.iter().position(|a| a == d) {
                    Some(at) => drop(all.remove(at)),
                    None => rest.push(d.clone()),
                }
            }
            let (all, rest): (Dim, Dim) = (all.iter().product(), rest.iter().product());
            to[i] = match all.exact_div(&rest) {
                Some(d) => d,
                None => return s.fail(&format!("{all} elements do not divide by {rest}")),
            };
        }
        Ok(vec![x.reshape(to)])
    }

    /// Antialiased bicubic resampling of the last two of four axes, as this tool emits it; nothing else.
    fn resize(&self, s: &Site<'_>) -> Result<T<'g>, RaiseError> {
        let is = |name: &str, value: &str| s.n.get(name) == Some(&Attribute::String(value.into()));
        let half_pixel =
            s.n.get("coordinate_transformation_mode").is_none() || is("coordinate_transformation_mode", "half_pixel");
        let ours = is("mode", "cubic") && half_pixel && s.flag("antialias") && s.flag("exclude_outside");
        if !ours || s.float("cubic_coeff_a", -0.75) != CUBIC_A || s.n.get("axes").is_some() || !s.has(3) {
            return s.fail("only antialiased bicubic resampling to a given size is supported");
        }
        let (x, to) = (self.x(s, 0)?, self.dims(s, 3)?);
        if x.rank() != 4 || to.len() != 4 || x.dims()[..2] != to[..2] {
            return s.fail("only the last two of four axes can be resampled");
        }
        Ok(self.b.apply(Resize { to: to[2..].to_vec() }, &[x]))
    }

    fn conv(s: &Site<'_>) -> Result<Conv, RaiseError> {
        if s.n.get("auto_pad").is_some_and(|a| *a != Attribute::String("NOTSET".into())) {
            return s.fail("auto_pad is not supported");
        }
        Ok(Conv {
            strides: s.usizes("strides", 1)?,
            pads: s.usizes("pads", 0)?,
            dilations: s.usizes("dilations", 1)?,
            groups: usize::try_from(s.int("group", 1)).unwrap_or(1),
            ..Conv::new()
        })
    }

    fn standard(&mut self, s: &Site<'_>) -> Result<Vec<T<'g>>, RaiseError> {
        use {BinaryKind as B, CompareKind as C, ReduceKind as R, UnaryKind as U};
        let one = |t: T<'g>| Ok(vec![t]);
        match s.n.op_type.as_str() {
            "Neg" => self.unary(s, U::Neg),
            "Exp" => self.unary(s, U::Exp),
            "Log" => self.unary(s, U::Log),
            "Sqrt" => self.unary(s, U::Sqrt),
            "Reciprocal" => self.unary(s, U::Reciprocal),
            "Erf" => self.unary(s, U::Erf),
            "Tanh" => self.unary(s, U::Tanh),
            "Sigmoid" => self.unary(s, U::Sigmoid),
            "Relu" => self.unary(s, U::Relu),
            "Abs" => self.unary(s, U::Abs),
            "Sin" => self.unary(s, U::Sin),
            "Cos" => self.unary(s, U::Cos),
            "Add" => self.binary(s, B::Add),
            "Sub" => self.binary(s, B::Sub),
            "Mul" => self.binary(s, B::Mul),
            "Div" => self.binary(s, B::Div),
            "Max" => self.binary(s, B::Max),
            "Min" => self.binary(s, B::Min),
            "Pow" => self.binary(s, B::Pow),
            "Equal" => self.compare(s, C::Equal),
            "Greater" => self.compare(s, C::Greater),
            "Less" => self.compare(s, C::Less),
            "ReduceSum" => self.reduce(s, R::Sum),
            "ReduceMean" => self.reduce(s, R::Mean),
            "ReduceMax" => self.reduce(s, R::Max),
            "Where" => one(self.x(s, 0)?.select(self.x(s, 1)?, self.x(s, 2)?)),
            "Identity" => one(self.x(s, 0)?),
            "Cast" => {
                let to = ElemType::from_number(s.int("to", 0) as i32);
                match to.dtype() {
                    Some(to) => one(self.x(s, 0)?.cast(to)),
                    None => s.fail(&format!("a cast to {to} is not supported")),
                }
            }
            "Constant" => match s.n.get("value") {
                Some(Attribute::Tensor(i)) => match tensor(i) {
                    Some(t) => {
                        let name = s.n.outputs.first().cloned().unwrap_or_default();
                        self.constant(&name, t);
                        one(self.values[&name])
                    }
                    None => s.fail("the tensor has an unsupported element type"),
                },
                _ => s.fail("only the attribute `value` is supported"),
            },
            "MatMul" => one(self.x(s, 0)?.matmul(self.x(s, 1)?)),
            "Softmax" => one(self.x(s, 0)?.softmax(s.int("axis", -1))),
            "Transpose" => {
                let x = self.x(s, 0)?;
                let perm = match s.ints("perm") {
                    Some(p) => p.iter().map(|&i| usize::try_from(i).unwrap_or(usize::MAX)).collect(),
                    None => (0..x.rank()).rev().collect::<Vec<_>>(),
                };
                one(x.transpose(&perm))
            }
            "Reshape" => self.reshape(s),
            "Expand" => {
                // Expand broadcasts both ways: a size of 1 in the target keeps the operand's.
                let (x, to) = (self.x(s, 0)?, self.dims(s, 1)?);
                match x.ty().shape.broadcast(&to.into()) {
                    Some(shape) => one(x.expand(shape.0)),
                    None => s.fail("the shape does not broadcast"),
                }
            }
            "Resize" => one(self.resize(s)?),
            "Slice" => self.slice(s),
            "Pad" => self.pad(s),
            "Concat" => {
                let parts: Vec<T<'g>> = (0..s.n.inputs.len()).map(|i| self.x(s, i)).collect::<Result<_, _>>()?;
                if parts.is_empty() { s.fail("it joins nothing") } else { one(T::concat(&parts, s.int("axis", 0))) }
            }
            "Gather" => one(self.x(s, 0)?.gather(s.int("axis", 0), self.x(s, 1)?)),
            "GatherElements" => one(self.x(s, 0)?.gather_elements(s.int("axis", 0), self.x(s, 1)?)),
            "ScatterElements" => match s.n.get("reduction") {
                Some(Attribute::String(r)) if r == "add" => {
                    one(self.x(s, 0)?.scatter_add(s.int("axis", 0), self.x(s, 1)?, self.x(s, 2)?))
                }
                _ => s.fail("only reduction = add is supported"),
            },
            "TopK" => {
                let k = self.known(s, 1)?.first().and_then(|&k| usize::try_from(k).ok());
                let Some(k) = k else { return s.fail("k must be a constant") };
                if s.int("largest", 1) != 1 || s.int("sorted", 1) != 1 {
                    return s.fail("only the largest, sorted, are supported");
                }
                let (v, i) = self.x(s, 0)?.top_k(k, s.int("axis", -1));
                Ok(vec![v, i])
            }
            "ArgMax" => {
                let (x, axis) = (self.x(s, 0)?, s.int("axis", 0));
                let y = x.argmax(axis);
                if s.int("keepdims", 1) != 0 { one(y) } else { one(y.pick(axis, 0)) }
            }
            "Conv" => {
                let conv = Self::conv(s)?;
                let bias = if s.has(2) { Some(self.x(s, 2)?) } else { None };
                one(self.x(s, 0)?.conv(conv, self.x(s, 1)?, bias))
            }
            "ConvTranspose" => {
                let c = Self::conv(s)?;
                if s.has(2) || s.n.get("output_shape").is_some() {
                    return s.fail("a bias or output_shape is not supported");
                }
                let op = ConvTranspose {
                    strides: c.strides,
                    pads: c.pads,
                    dilations: c.dilations,
                    output_padding: s.usizes("output_padding", 0)?,
                    groups: c.groups,
                };
                Ok(self.apply(op, &[self.x(s, 0)?, self.x(s, 1)?]))
            }
            "BatchNormalization" => {
                let op = BatchNormalization {
                    epsilon: s.float("epsilon", 1e-5).into(),
                    momentum: Real(1.0 - s.float("momentum", 0.9)),
                    training: false,
                };
                let x: Vec<T<'g>> = (0..5).map(|i| self.x(s, i)).collect::<Result<_, _>>()?;
                // The undecided op is not legal any more at this stage; its definition is.
                match op.definition(&x) {
                    Some(y) if s.int("training_mode", 0) == 0 => Ok(y),
                    _ => s.fail("training mode is not supported"),
                }
            }
            "Gelu" if s.n.get("approximate").is_none_or(|a| *a == Attribute::String("none".into())) => {
                Ok(self.apply(Gelu {}, &[self.x(s, 0)?]))
            }
            "HardSwish" => Ok(self.apply(HardSwish {}, &[self.x(s, 0)?])),
            "LayerNormalization" => {
                let (x, w) = (self.x(s, 0)?, self.x(s, 1)?);
                let axis = s.int("axis", -1);
                if axis != -1 && axis + 1 != x.rank() as i64 {
                    return s.fail("only the last axis is supported");
                }
                let (mut x, bias) = (vec![x, w], s.has(2));
                if bias {
                    x.push(self.x(s, 2)?);
                }
                Ok(self.apply(LayerNormalization { epsilon: s.float("epsilon", 1e-5).into(), bias }, &x))
            }
            "Attention" => {
                let mut x = vec![self.x(s, 0)?, self.x(s, 1)?, self.x(s, 2)?];
                let bias = s.has(3);
                if bias {
                    x.push(self.x(s, 3)?);
                }
                let plain = x[0].rank() == 4 && !s.flag("is_causal") && s.n.inputs.len() <= 4;
                if !plain || s.n.outputs.len() != 1 {
                    return s.fail("only four-dimensional, non-causal attention without a cache is supported");
                }
                let scale = match s.n.get("scale") {
                    Some(_) => s.float("scale", 1.0),
                    None => (x[0].size(-1) as f64).powf(-0.5),
                };
                Ok(self.apply(Attention { scale: scale.into(), bias }, &x))
            }
            other => s.fail(&format!("the op {other} is not supported by the built-in interpreter")),
        }
    }

    fn microsoft(&self, s: &Site<'_>) -> Result<Vec<T<'g>>, RaiseError> {
        match s.n.op_type.as_str() {
            "Gelu" => Ok(self.apply(Gelu {}, &[self.x(s, 0)?])),
            "FusedMatMul" => {
                let op = FusedMatMul {
                    trans_a: s.flag("transA"),
                    trans_b: s.flag("transB"),
                    alpha: s.float("alpha", 1.0).into(),
                };
                Ok(self.apply(op, &[self.x(s, 0)?, self.x(s, 1)?]))
            }
            other => s.fail(&format!("com.microsoft {other} is not supported by the built-in interpreter")),
        }
    }
}
