//! How an op says itself in ONNX, without knowing files or protobuf: a list of calls that the
//! emitter turns into nodes.

use crate::ir::{DType, Shape, Tensor, TensorType};

/// Why an op cannot be said under the given opset and domains.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unspellable(pub String);

/// An argument or result of a [`Call`].
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    /// The op's operand.
    Operand(usize),
    /// The op's result.
    Result(usize),
    /// The result of an earlier call of the same spelling.
    Temp(usize),
    /// A constant.
    Const(Tensor),
    /// An int64 vector of sizes; the emitter computes symbolic ones at run time.
    Dims(Shape),
    /// The target shape of a Reshape of this operand: the emitter may use `0` and `-1`.
    ReshapeTo(usize, Shape),
    /// An optional argument left out.
    Absent,
}

/// An ONNX attribute value.
#[derive(Clone, Debug, PartialEq)]
pub enum OnnxAttr {
    /// INT
    Int(i64),
    /// FLOAT
    Float(f32),
    /// INTS
    Ints(Vec<i64>),
    /// FLOATS
    Floats(Vec<f32>),
    /// STRING
    Str(String),
    /// TENSOR
    Tensor(Tensor),
}

/// One ONNX node.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// `MatMul`, …
    pub op_type: &'static str,
    /// Empty for `ai.onnx`.
    pub domain: &'static str,
    /// Inputs.
    pub args: Vec<Arg>,
    /// Attributes.
    pub attrs: Vec<(&'static str, OnnxAttr)>,
    /// Outputs.
    pub results: Vec<Arg>,
}

/// The domain of ONNX Runtime's contributed ops.
pub const MICROSOFT: &str = "com.microsoft";

/// Collects the calls of one op.
#[derive(Debug)]
pub struct Spell<'a> {
    /// The `ai.onnx` opset the file will import.
    pub opset: i64,
    /// Whether `com.microsoft` may be used.
    pub contrib: bool,
    /// Operand types.
    pub x: &'a [&'a TensorType],
    /// Result types.
    pub y: &'a [&'a TensorType],
    /// What was said so far.
    pub calls: Vec<Call>,
    temps: usize,
}

impl<'a> Spell<'a> {
    /// Nothing said yet.
    pub fn new(opset: i64, contrib: bool, x: &'a [&'a TensorType], y: &'a [&'a TensorType]) -> Self {
        Self { opset, contrib, x, y, calls: Vec::new(), temps: 0 }
    }

    /// Starts a call of an `ai.onnx` op.
    pub fn node(&mut self, op_type: &'static str) -> Say<'_, 'a> {
        let call = Call { op_type, domain: "", args: Vec::new(), attrs: Vec::new(), results: Vec::new() };
        Say { spell: self, call }
    }

    /// Refuses unless the opset is at least `since`.
    pub fn since(&self, op_type: &str, since: i64) -> Result<(), Unspellable> {
        if self.opset >= since {
            return Ok(());
        }
        Err(Unspellable(format!(
            "{op_type} exists since opset {since}; opset {} was asked for (--opset {since} would do)",
            self.opset
        )))
    }

    /// Refuses bf16 operands unless the opset is at least `since`.
    pub fn bf16_since(&self, op_type: &str, since: i64) -> Result<(), Unspellable> {
        let narrow = self.x.iter().any(|t| t.dtype == DType::BF16);
        if narrow { self.since(&format!("{op_type} of bf16"), since) } else { Ok(()) }
    }

    /// Refuses unless `com.microsoft` may be used.
    pub fn microsoft(&self, op_type: &str) -> Result<(), Unspellable> {
        if self.contrib {
            return Ok(());
        }
        Err(Unspellable(format!("{op_type} belongs to {MICROSOFT}, which this target does not allow")))
    }
}

/// A call being put together.
#[derive(Debug)]
pub struct Say<'s, 'a> {
    spell: &'s mut Spell<'a>,
    call: Call,
}

impl Say<'_, '_> {
    /// Another domain.
    pub fn domain(mut self, domain: &'static str) -> Self {
        self.call.domain = domain;
        self
    }
    /// Adds an argument.
    pub fn arg(mut self, arg: Arg) -> Self {
        self.call.args.push(arg);
        self
    }
    /// Adds the op's operand `i`.
    pub fn x(self, i: usize) -> Self {
        self.arg(Arg::Operand(i))
    }
    /// Adds a one-dimensional int64 constant.
    pub fn ints_arg(self, v: &[i64]) -> Self {
        self.arg(Arg::Const(Tensor::new(&[v.len()], v.to_vec())))
    }
    /// Sets an attribute.
    pub fn attr(mut self, name: &'static str, v: OnnxAttr) -> Self {
        self.call.attrs.push((name, v));
        self
    }
    /// Sets an INT attribute.
    pub fn int(self, name: &'static str, v: i64) -> Self {
        self.attr(name, OnnxAttr::Int(v))
    }
    /// Sets a FLOAT attribute.
    pub fn float(self, name: &'static str, v: f64) -> Self {
        self.attr(name, OnnxAttr::Float(v as f32))
    }
    /// Sets an INTS attribute.
    pub fn ints(self, name: &'static str, v: impl IntoIterator<Item = usize>) -> Self {
        self.attr(name, OnnxAttr::Ints(v.into_iter().map(|x| x as i64).collect()))
    }
    /// Sets a STRING attribute.
    pub fn str(self, name: &'static str, v: &str) -> Self {
        self.attr(name, OnnxAttr::Str(v.to_owned()))
    }
    /// Ends the call; its one result is for a later call.
    pub fn temp(mut self) -> Arg {
        let t = Arg::Temp(self.spell.temps);
        self.spell.temps += 1;
        self.call.results = vec![t.clone()];
        self.spell.calls.push(self.call);
        t
    }
    /// Ends the call; its results are the op's. Without arguments given, all operands are taken.
    pub fn done(mut self) -> Result<(), Unspellable> {
        if self.call.args.is_empty() {
            self.call.args = (0..self.spell.x.len()).map(Arg::Operand).collect();
        }
        self.call.results = (0..self.spell.y.len()).map(Arg::Result).collect();
        self.spell.calls.push(self.call);
        Ok(())
    }
}
