//! A node of an ONNX model as an op reads it, without files or protobuf: the other direction of [`Spell`](super::Spell).
//!
//! A site notes what it was asked for. An op understands only what it asks for, so [`read`](super::Op::read) refuses
//! a node with an attribute, an operand or a result that the op did not look at: nothing is misread by being overlooked.

use super::{Const, OnnxAttr, Op};
use crate::build::{Builder, T};
use crate::ir::{DType, Dim, Tensor};
use std::cell::Cell;

/// Why a node cannot be read, and what could be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unread(pub String);

/// An ONNX op: its domain (`""` is `ai.onnx`), its type, and the first opset of the domain that has it; 7, the lowest
/// that is read, stands for earlier ones.
pub type OnnxOp = (&'static str, &'static str, i64);

/// How a node is read: one value for each result.
pub(super) type Read = for<'s, 'a, 'g> fn(&'s Site<'a, 'g>) -> Result<Vec<T<'g>>, Unread>;

/// An operand of a node.
#[derive(Clone, Debug)]
pub enum Operand<'g> {
    /// An optional one that is left out.
    Absent,
    /// A value of the graph.
    Value(T<'g>),
    /// Int64 numbers computed from sizes, some of them symbolic. They are no value of the graph.
    Sizes {
        /// The numbers.
        dims: Vec<Dim>,
        /// Whether the tensor has no axis; otherwise it has one.
        scalar: bool,
    },
}

impl Operand<'_> {
    /// The value of a constant of the graph.
    pub fn constant(&self) -> Option<Tensor> {
        let Self::Value(t) = *self else { return None };
        t.builder().read(|g| match &g.node(g.producer(t.id()?)?).op {
            Op::Const(c) => Some(c.value.tensor().clone()),
            _ => None,
        })
    }

    /// The int64 numbers of a scalar or vector whose elements are known as sizes, and whether it is a scalar.
    pub fn sizes(&self) -> Option<(Vec<Dim>, bool)> {
        match self {
            Self::Absent => None,
            Self::Sizes { dims, scalar } => Some((dims.clone(), *scalar)),
            Self::Value(_) => {
                let c = self.constant()?;
                let integers = c.rank() <= 1 && !c.dtype().is_float() && c.dtype() != DType::Bool;
                let v = integers.then(|| c.cast(DType::I64).to_vec::<i64>()).flatten()?;
                Some((v.into_iter().map(Dim::known).collect(), c.rank() == 0))
            }
        }
    }
}

/// A node: its op, its attributes and its operands. Operands and attributes are asked for by position and name.
#[derive(Debug)]
pub struct Site<'a, 'g> {
    /// Where ops are appended.
    pub builder: &'g Builder,
    /// The domain; `""` is `ai.onnx`.
    pub domain: &'a str,
    /// `Softmax`, …
    pub op_type: &'a str,
    /// The version of the domain's operator set.
    pub opset: i64,
    /// How many results the node asks for.
    pub results: usize,
    operands: Vec<(Cell<bool>, Operand<'g>)>,
    attrs: Vec<(Cell<bool>, &'a str, Result<OnnxAttr, String>)>,
}

impl<'a, 'g> Site<'a, 'g> {
    /// A node without operands and attributes.
    pub fn new(builder: &'g Builder, (domain, op_type): (&'a str, &'a str), opset: i64, results: usize) -> Self {
        let domain = if domain == "ai.onnx" { "" } else { domain };
        Self { builder, domain, op_type, opset, results, operands: Vec::new(), attrs: Vec::new() }
    }
    /// Adds an operand.
    pub fn operand(mut self, x: Operand<'g>) -> Self {
        self.operands.push((Cell::new(false), x));
        self
    }
    /// Adds an attribute; one of a kind that is not supported is given as a description of its kind.
    pub fn attribute(mut self, name: &'a str, v: Result<OnnxAttr, String>) -> Self {
        self.attrs.push((Cell::new(false), name, v));
        self
    }

    /// Reads the node by `read`, which knows the op from opset `since` on, and refuses what `read` did not ask for.
    pub(super) fn read(&self, since: i64, read: Read) -> Result<Vec<T<'g>>, Unread> {
        if self.opset < since {
            return self.refuse(format!("it exists since opset {since}"));
        }
        self.operands.iter().for_each(|x| x.0.set(false));
        self.attrs.iter().for_each(|a| a.0.set(false));
        let y = read(self)?;
        // A mistake in types leaves no values; the builder reports it.
        if self.builder.failed() {
            return Ok(y);
        }
        if let Some(what) = self.overlooked() {
            return self.refuse(format!("{what} is not supported"));
        }
        if self.results > y.len() {
            return self.refuse(format!("result {} is not supported", y.len()));
        }
        Ok(y)
    }

    /// The first attribute or operand that was given but not asked for.
    pub fn overlooked(&self) -> Option<String> {
        let attribute = self.attrs.iter().find(|a| !a.0.get()).map(|a| format!("the attribute `{}`", a.1));
        let left = |(asked, x): &(Cell<bool>, Operand<'g>)| !asked.get() && !matches!(x, Operand::Absent);
        attribute.or_else(|| self.operands.iter().position(left).map(|i| format!("operand {i}")))
    }

    /// Refuses the node for this reason.
    pub fn refuse<X>(&self, why: impl Into<String>) -> Result<X, Unread> {
        Err(Unread(why.into()))
    }
    /// Refuses an op type that was claimed but is not read.
    pub fn unknown<X>(&self) -> Result<X, Unread> {
        self.refuse(format!("the op {} is not supported", self.op_type))
    }
    /// The results of one op.
    pub fn apply(&self, op: impl Into<Op>, x: &[T<'g>]) -> Result<Vec<T<'g>>, Unread> {
        Ok(self.builder.apply_all(op, x))
    }
    /// The kind of a family that ONNX calls as this node's op.
    pub fn kind<K: Copy>(&self, all: &[K], onnx: impl Fn(K) -> &'static str) -> Result<K, Unread> {
        all.iter().copied().find(|&k| onnx(k) == self.op_type).map_or_else(|| self.unknown(), Ok)
    }

    /// The number of operands, trailing absent ones included.
    pub fn operands(&self) -> usize {
        self.operands.len()
    }
    /// Operand `i`, absent beyond the last one.
    pub fn get(&self, i: usize) -> &Operand<'g> {
        self.operands.get(i).map_or(&Operand::Absent, |(asked, x)| {
            asked.set(true);
            x
        })
    }
    /// Whether operand `i` is given.
    pub fn has(&self, i: usize) -> bool {
        !matches!(self.get(i), Operand::Absent)
    }
    /// Operand `i` as a value.
    pub fn x(&self, i: usize) -> Result<T<'g>, Unread> {
        match self.get(i) {
            Operand::Value(t) => Ok(*t),
            Operand::Absent => self.refuse(format!("operand {i} is missing")),
            Operand::Sizes { .. } => self.refuse(format!("operand {i} is computed from sizes, which are no data here")),
        }
    }
    /// Operand `i` as indices.
    pub fn indices(&self, i: usize) -> Result<T<'g>, Unread> {
        let x = self.x(i)?;
        if x.dtype().is_float() || x.dtype() == DType::Bool {
            return self.refuse(format!("operand {i} must be integers, it is {}", x.ty()));
        }
        Ok(x.cast(DType::I64))
    }
    /// All operands as values, at least one.
    pub fn all(&self) -> Result<Vec<T<'g>>, Unread> {
        (0..self.operands.len().max(1)).map(|i| self.x(i)).collect()
    }
    /// The numbers of operand `i`, an integer scalar or vector that is constant or computed from sizes.
    pub fn dims(&self, i: usize) -> Result<Vec<Dim>, Unread> {
        match self.get(i).sizes() {
            Some((dims, _)) => Ok(dims),
            None if !self.has(i) => self.refuse(format!("operand {i} is missing")),
            None => self.refuse(format!("operand {i} must be integers that are constant or computed from sizes")),
        }
    }
    /// The same where all of them are known.
    pub fn known(&self, i: usize) -> Result<Vec<i64>, Unread> {
        let dims = self.dims(i)?;
        let v = dims.iter().map(Dim::value).collect::<Option<_>>();
        v.map_or_else(|| self.refuse(format!("operand {i} must be constant")), Ok)
    }
    /// The number of operand `i`, a constant whose elements are equal.
    pub fn number(&self, i: usize) -> Result<f64, Unread> {
        let found = self.get(i).constant().and_then(|t| Const::new(t).number());
        found.map_or_else(|| self.refuse(format!("operand {i} must be a constant number")), Ok)
    }

    /// The attribute of this name, of the kind that `pick` takes.
    fn attr<R>(&self, name: &str, kind: &str, pick: impl Fn(&OnnxAttr) -> Option<R>) -> Result<Option<R>, Unread> {
        let Some((asked, _, v)) = self.attrs.iter().find(|a| a.1 == name) else { return Ok(None) };
        asked.set(true);
        match v {
            Ok(v) => {
                pick(v).map_or_else(|| self.refuse(format!("the attribute `{name}` must be {kind}")), |r| Ok(Some(r)))
            }
            Err(found) => self.refuse(format!("the attribute `{name}` is {found}, which is not supported")),
        }
    }
    /// An INT attribute, if given.
    pub fn maybe_int(&self, name: &str) -> Result<Option<i64>, Unread> {
        self.attr(name, "an integer", |a| if let OnnxAttr::Int(i) = a { Some(*i) } else { None })
    }
    /// An INT attribute.
    pub fn int(&self, name: &str, default: i64) -> Result<i64, Unread> {
        Ok(self.maybe_int(name)?.unwrap_or(default))
    }
    /// An INT attribute that is 0 or 1; 0 when left out.
    pub fn flag(&self, name: &str) -> Result<bool, Unread> {
        Ok(self.int(name, 0)? != 0)
    }
    /// A FLOAT attribute, if given: the shortest decimal that rounds to it, so that what was written as `1e-5` is `1e-5` again.
    pub fn maybe_float(&self, name: &str) -> Result<Option<f64>, Unread> {
        let shortest = |f: f32| f.to_string().parse().unwrap_or(f64::from(f));
        self.attr(name, "a float", |a| if let OnnxAttr::Float(f) = a { Some(shortest(*f)) } else { None })
    }
    /// A FLOAT attribute.
    pub fn float(&self, name: &str, default: f64) -> Result<f64, Unread> {
        Ok(self.maybe_float(name)?.unwrap_or(default))
    }
    /// An INTS attribute, if given.
    pub fn ints(&self, name: &str) -> Result<Option<Vec<i64>>, Unread> {
        self.attr(name, "a list of integers", |a| if let OnnxAttr::Ints(v) = a { Some(v.clone()) } else { None })
    }
    /// An INTS attribute of `N` sizes.
    pub fn sizes<const N: usize>(&self, name: &str, default: usize) -> Result<[usize; N], Unread> {
        let Some(v) = self.ints(name)? else { return Ok([default; N]) };
        let v: Option<Vec<usize>> = v.iter().map(|&x| usize::try_from(x).ok()).collect();
        let v = v.and_then(|v| v.try_into().ok());
        v.map_or_else(|| self.refuse(format!("the attribute `{name}` must be {N} numbers, none negative")), Ok)
    }
    /// A FLOATS attribute, if given.
    pub fn floats(&self, name: &str) -> Result<Option<Vec<f32>>, Unread> {
        self.attr(name, "a list of floats", |a| if let OnnxAttr::Floats(v) = a { Some(v.clone()) } else { None })
    }
    /// A STRING attribute.
    pub fn str(&self, name: &str, default: &str) -> Result<String, Unread> {
        let s = self.attr(name, "a string", |a| if let OnnxAttr::Str(s) = a { Some(s.clone()) } else { None });
        Ok(s?.unwrap_or_else(|| default.to_owned()))
    }
    /// A TENSOR attribute, if given.
    pub fn tensor(&self, name: &str) -> Result<Option<Tensor>, Unread> {
        self.attr(name, "a tensor", |a| if let OnnxAttr::Tensor(t) = a { Some(t.clone()) } else { None })
    }

    /// An axis of a tensor of `rank` axes, negative ones counted from the end.
    pub fn place(&self, axis: i64, rank: usize) -> Result<usize, Unread> {
        let at = usize::try_from(if axis < 0 { axis + rank as i64 } else { axis });
        match at.ok().filter(|&a| a < rank) {
            Some(a) => Ok(a),
            None => self.refuse(format!("there is no axis {axis} of {rank}")),
        }
    }
    /// The attribute `axis`, an axis of `x`.
    pub fn axis(&self, default: i64, x: T<'g>) -> Result<usize, Unread> {
        self.place(self.int("axis", default)?, x.rank())
    }
    /// The axes that an attribute gives up to opset `since` and operand 1 from it on.
    pub fn axes(&self, since: i64) -> Result<Option<Vec<i64>>, Unread> {
        match self.opset >= since {
            true if self.has(1) => self.known(1).map(Some),
            true => Ok(None),
            false => self.ints("axes"),
        }
    }
}
