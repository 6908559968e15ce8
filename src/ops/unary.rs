//! Elementwise functions of one operand: a table.

use super::check::{float, operands};
use super::kinds;
use super::prelude::*;
use num_traits::Float;
use std::f64::consts::FRAC_2_SQRT_PI;

kinds! {
    /// The function.
    pub enum UnaryKind {
        /// −x
        Neg = "neg", "Neg";
        /// eˣ
        Exp = "exp", "Exp";
        /// Natural logarithm.
        Log = "log", "Log";
        /// √x
        Sqrt = "sqrt", "Sqrt";
        /// 1/x
        Reciprocal = "reciprocal", "Reciprocal";
        /// The error function 2/√π ∫₀ˣ e^(−t²) dt.
        Erf = "erf", "Erf";
        /// Hyperbolic tangent.
        Tanh = "tanh", "Tanh";
        /// 1/(1 + e^(−x))
        Sigmoid = "sigmoid", "Sigmoid";
        /// max(x, 0)
        Relu = "relu", "Relu";
        /// |x|
        Abs = "abs", "Abs";
        /// Sine of radians.
        Sin = "sin", "Sin";
        /// Cosine of radians.
        Cos = "cos", "Cos";
    }
    /// `y[i] = kind(x[i])`, float to float of the same shape.
    pub struct Unary {}
}

impl UnaryKind {
    fn of<A: Float>(self, x: A, erf: fn(A) -> A) -> A {
        match self {
            Self::Neg => -x,
            Self::Exp => x.exp(),
            Self::Log => x.ln(),
            Self::Sqrt => x.sqrt(),
            Self::Reciprocal => x.recip(),
            Self::Erf => erf(x),
            Self::Tanh => x.tanh(),
            Self::Sigmoid => A::one() / (A::one() + (-x).exp()),
            Self::Relu => x.max(A::zero()),
            Self::Abs => x.abs(),
            Self::Sin => x.sin(),
            Self::Cos => x.cos(),
        }
    }

    /// The cotangent of the operand, from the cotangent `g`, the operand `x` and the result `y`.
    fn gradient<'g>(self, g: T<'g>, x: T<'g>, y: T<'g>) -> T<'g> {
        match self {
            Self::Neg => -g,
            Self::Exp => g * y,
            Self::Log => g / x,
            Self::Sqrt => g * 0.5 / y,
            Self::Reciprocal => -(g * y * y),
            Self::Erf => g * (-(x * x)).exp() * FRAC_2_SQRT_PI,
            Self::Tanh => g * (1.0 - y * y),
            Self::Sigmoid => g * y * (1.0 - y),
            Self::Relu => x.greater(x.zeros_like()).select(g, g.zeros_like()),
            Self::Abs => x.greater(x.zeros_like()).select(g, -g),
            Self::Sin => g * x.cos(),
            Self::Cos => -(g * x.sin()),
        }
    }
}

impl OpDef for Unary {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(x)?;
        float(x)?;
        Ok(vec![x.clone()])
    }
    fn eval(&self, x: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![match &x[0] {
            Tensor::F32(a) => Tensor::F32(a.mapv(|v| self.kind.of(v, libm::erff)).into_shared()),
            Tensor::F64(a) => Tensor::F64(a.mapv(|v| self.kind.of(v, libm::erf)).into_shared()),
            other => return Err(EvalError(format!("{} of a {} tensor", self.kind.text(), other.dtype()))),
        }])
    }
    fn vjp<'g>(&self, v: &Vjp<'g, '_>) -> Grad<'g> {
        Grad::one(self.kind.gradient(v.grad(0), v.x[0], v.y[0]))
    }
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        if matches!(self.kind, UnaryKind::Sin | UnaryKind::Cos) {
            s.bf16_since(self.kind.onnx(), 22)?;
        }
        Ok(s.node(self.kind.onnx()))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        let since = |k| if k == UnaryKind::Erf { 9 } else { 7 };
        UnaryKind::ALL.iter().map(|&k| ("", k.onnx(), since(k))).collect()
    }
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        s.apply(Self { kind: s.kind(UnaryKind::ALL, UnaryKind::onnx)? }, &[s.x(0)?])
    }
    fn traits(&self) -> Traits {
        match self.kind {
            UnaryKind::Neg | UnaryKind::Relu | UnaryKind::Abs => Traits::EXACT,
            _ => Traits::ROUNDING,
        }
    }
    fn cost(&self, x: &[&TensorType], y: &[&TensorType]) -> Cost {
        Cost::each(1, x, y)
    }
    fn axes(&self, x: &[&TensorType], y: &[&TensorType]) -> Vec<Link> {
        axes::elementwise(x, y)
    }
    fn linear_in(&self, _: &[&TensorType]) -> Vec<Vec<usize>> {
        if self.kind == UnaryKind::Neg { vec![vec![0]] } else { Vec::new() }
    }
    fn samples() -> Vec<Sample> {
        UnaryKind::ALL
            .iter()
            .map(|&kind| {
                let s = Sample::new(Self { kind }, [&[2, 3]]);
                match kind {
                    UnaryKind::Log | UnaryKind::Sqrt | UnaryKind::Reciprocal => s.range(0.3, 3.0),
                    _ => s,
                }
            })
            .chain([Sample::new(Self { kind: UnaryKind::Tanh }, [&[2, 3]]).batched([0])])
            .collect()
    }
}
