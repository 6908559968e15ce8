//! How an op says itself in ONNX, without knowing files or protobuf: a call that the emitter turns into a node.

use crate::ir::{DType, Shape, Tensor, TensorType};

/// Why an op cannot be said under the given opset and domains.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unspellable(pub String);

/// An argument of a [`Call`].
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    /// The op's operand.
    Operand(usize),
    /// A constant.
    Const(Tensor),
    /// An int64 vector of sizes; the emitter computes symbolic ones at run time.
    Dims(Shape),
    /// The target shape of a Reshape of the first operand: the emitter may use `0` and `-1`.
    ReshapeTo(Shape),
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

/// The domain of ONNX Runtime's contributed ops.
pub const MICROSOFT: &str = "com.microsoft";

/// What a spelling depends on.
#[derive(Clone, Copy, Debug)]
pub struct Spell<'a> {
    /// The `ai.onnx` opset the file will import.
    pub opset: i64,
    /// Whether `com.microsoft` may be used.
    pub contrib: bool,
    /// Operand types.
    pub x: &'a [&'a TensorType],
}

impl Spell<'_> {
    /// A call of an `ai.onnx` op with all operands.
    pub fn node(&self, op_type: &'static str) -> Call {
        let args = (0..self.x.len()).map(Arg::Operand).collect();
        Call { op_type, domain: "", args, attrs: Vec::new() }
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

/// One ONNX node, whose results are the op's.
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
}

impl Call {
    /// Another domain.
    pub fn domain(self, domain: &'static str) -> Self {
        Self { domain, ..self }
    }
    /// Adds an argument.
    pub fn arg(mut self, arg: Arg) -> Self {
        self.args.push(arg);
        self
    }
    /// Adds a one-dimensional int64 constant.
    pub fn ints_arg(self, v: &[i64]) -> Self {
        self.arg(Arg::Const(Tensor::new(&[v.len()], v.to_vec())))
    }
    /// Sets an attribute.
    pub fn attr(mut self, name: &'static str, v: OnnxAttr) -> Self {
        self.attrs.push((name, v));
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
}
