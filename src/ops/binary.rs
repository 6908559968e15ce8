//! Elementwise functions of two operands with numpy broadcasting: a table.

use super::check::{broadcast, fail, operands, same_dtype};
use super::prelude::*;
use super::{Exactness, kinds};
use ndarray::{IxDyn, Zip};

kinds! {
    /// The function.
    pub enum BinaryKind {
        /// a + b
        Add = "add", "Add";
        /// a − b
        Sub = "sub", "Sub";
        /// a · b
        Mul = "mul", "Mul";
        /// a / b (integers: truncated)
        Div = "div", "Div";
        /// The larger.
        Max = "max", "Max";
        /// The smaller.
        Min = "min", "Min";
        /// aᵇ, floats only.
        Pow = "pow", "Pow";
    }
    /// `y = kind(a, b)` elementwise; shapes broadcast by numpy's rules, element types agree and are numeric.
    pub struct Binary {}
}

impl BinaryKind {
    fn gradient<'g>(self, g: T<'g>, a: T<'g>, b: T<'g>, y: T<'g>) -> (T<'g>, T<'g>) {
        match self {
            Self::Add => (g, g),
            Self::Sub => (g, -g),
            Self::Mul => (g * b, g * a),
            Self::Div => (g / b, -(g * y / b)),
            // Where both are equal the whole cotangent goes to the second operand.
            Self::Max | Self::Min => {
                let first = if self == Self::Max { a.greater(b) } else { b.greater(a) };
                (first.select(g, g.zeros_like()), first.select(g.zeros_like(), g))
            }
            Self::Pow => (g * b * a.pow(b - 1.0), g * y * a.log()),
        }
    }
}

/// The broadcast of two shapes. Types were checked, so it exists.
pub(super) fn common(a: &[usize], b: &[usize]) -> Vec<usize> {
    let rank = a.len().max(b.len());
    let dim = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |j| s[j]);
    let one = |i| match (dim(a, i), dim(b, i)) {
        (1, d) | (d, _) => d,
    };
    (0..rank).map(one).collect()
}

/// `f(a, b)` with broadcasting.
pub(super) fn zip<A: Element, B: Element, R: Element>(a: &Array<A>, b: &Array<B>, f: impl Fn(A, B) -> R) -> Tensor {
    let shape = common(a.shape(), b.shape());
    let a = a.broadcast(IxDyn(&shape)).expect("shapes were checked to broadcast");
    let b = b.broadcast(IxDyn(&shape)).expect("shapes were checked to broadcast");
    R::wrap(Zip::from(&a).and(&b).map_collect(|&x, &y| f(x, y)).into_shared())
}

/// `Clip`: bounds are attributes up to opset 10, operands after. A bound that is left out does not bound.
fn clip<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
    let x = s.x(0)?;
    let bound = |i: usize, name: &str| {
        let scalar = |t: T<'g>| t.reshape(Vec::new());
        match s.opset >= 11 {
            true if s.has(i) => s.x(i).map(|t| Some(scalar(t))),
            true => Ok(None),
            false => Ok(s.maybe_float(name)?.map(|v| x.scalar(v))),
        }
    };
    let (lo, hi) = (bound(1, "min")?, bound(2, "max")?);
    let x = lo.map_or(x, |lo| x.maximum(lo));
    Ok(vec![hi.map_or(x, |hi| x.minimum(hi))])
}

/// `Max`, `Min`, `Sum` and `Mean` of one operand or more, which broadcast from opset 8 on.
fn any_number<'g>(s: &Site<'_, 'g>, kind: BinaryKind) -> Result<Vec<T<'g>>, Unread> {
    let x = s.all()?;
    if s.opset < 8 && x.iter().any(|t| t.dims() != x[0].dims()) {
        return s.refuse("operands of different shapes are supported from opset 8 on");
    }
    let y = x[1..].iter().fold(x[0], |y, &t| s.builder.apply(Binary { kind }, &[y, t]));
    Ok(vec![if s.op_type == "Mean" { y / x.len() as f64 } else { y }])
}

impl OpDef for Binary {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [a, b] = operands(x)?;
        same_dtype(a, b)?;
        if !a.dtype.is_number() || (self.kind == BinaryKind::Pow && !a.dtype.is_float()) {
            return fail(format!("takes numbers, found {a}"));
        }
        Ok(vec![TensorType { dtype: a.dtype, shape: broadcast(a, b)? }])
    }
    fn eval(&self, x: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        macro_rules! float {
            ($a:expr, $b:expr) => {
                match self.kind {
                    BinaryKind::Add => zip($a, $b, |x, y| x + y),
                    BinaryKind::Sub => zip($a, $b, |x, y| x - y),
                    BinaryKind::Mul => zip($a, $b, |x, y| x * y),
                    BinaryKind::Div => zip($a, $b, |x, y| x / y),
                    BinaryKind::Max => zip($a, $b, |x, y| if x > y { x } else { y }),
                    BinaryKind::Min => zip($a, $b, |x, y| if x < y { x } else { y }),
                    BinaryKind::Pow => zip($a, $b, |x, y| x.powf(y)),
                }
            };
        }
        Ok(vec![match (&x[0], &x[1]) {
            (Tensor::F32(a), Tensor::F32(b)) => float!(a, b),
            (Tensor::F64(a), Tensor::F64(b)) => float!(a, b),
            (Tensor::I64(a), Tensor::I64(b)) => {
                if self.kind == BinaryKind::Div && b.iter().any(|&d| d == 0) {
                    return Err(EvalError("integer division by zero".into()));
                }
                match self.kind {
                    BinaryKind::Add => zip(a, b, i64::wrapping_add),
                    BinaryKind::Sub => zip(a, b, i64::wrapping_sub),
                    BinaryKind::Mul => zip(a, b, i64::wrapping_mul),
                    BinaryKind::Div => zip(a, b, i64::wrapping_div),
                    BinaryKind::Max => zip(a, b, i64::max),
                    BinaryKind::Min => zip(a, b, i64::min),
                    BinaryKind::Pow => return Err(EvalError("pow of integers".into())),
                }
            }
            _ => return Err(EvalError("operands of different element types".into())),
        }])
    }
    fn vjp<'g>(&self, v: &Vjp<'g, '_>) -> Grad<'g> {
        let (a, b) = self.kind.gradient(v.grad(0), v.x[0], v.x[1], v.y[0]);
        Grad::To(vec![Some(a), Some(b)])
    }
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        Ok(s.node(self.kind.onnx()))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        let kinds = BinaryKind::ALL.iter().map(|&k| ("", k.onnx(), 7));
        kinds.chain([("", "Sum", 7), ("", "Mean", 7), ("", "Clip", 7)]).collect()
    }
    /// The power of another type than its base's is computed in f64 and has the type of the base, as in ONNX Runtime.
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        let kind = match s.op_type {
            "Clip" => return clip(s),
            "Sum" | "Mean" => BinaryKind::Add,
            _ => s.kind(BinaryKind::ALL, BinaryKind::onnx)?,
        };
        if matches!(s.op_type, "Max" | "Min" | "Sum" | "Mean") {
            return any_number(s, kind);
        }
        let (a, b) = (s.x(0)?, s.x(1)?);
        if kind == BinaryKind::Pow && a.dtype() != b.dtype() {
            if s.opset < 12 {
                return s.refuse(format!("{} to the power of {}: types may differ from opset 12 on", a.ty(), b.ty()));
            }
            return Ok(vec![a.cast(DType::F64).pow(b.cast(DType::F64)).cast(a.dtype())]);
        }
        s.apply(Self { kind }, &[a, b])
    }
    fn traits(&self) -> Traits {
        let commutative = matches!(self.kind, BinaryKind::Add | BinaryKind::Mul | BinaryKind::Max | BinaryKind::Min);
        let exactness = if self.kind == BinaryKind::Pow { Exactness::Rounding } else { Exactness::Exact };
        Traits { commutative, exactness, ..Traits::EXACT }
    }
    fn cost(&self, x: &[&TensorType], y: &[&TensorType]) -> Cost {
        Cost::each(1, x, y)
    }
    fn axes(&self, x: &[&TensorType], y: &[&TensorType]) -> Vec<Link> {
        axes::elementwise(x, y)
    }
    fn linear_in(&self, x: &[&TensorType]) -> Vec<Vec<usize>> {
        match self.kind {
            BinaryKind::Add | BinaryKind::Sub => vec![vec![0, 1]],
            BinaryKind::Mul => vec![vec![0], vec![1]],
            BinaryKind::Div if x[0].dtype.is_float() => vec![vec![0]],
            BinaryKind::Div | BinaryKind::Max | BinaryKind::Min | BinaryKind::Pow => Vec::new(),
        }
    }
    fn samples() -> Vec<Sample> {
        let mut all: Vec<Sample> = BinaryKind::ALL
            .iter()
            .map(|&kind| {
                let s = Sample::new(Self { kind }, [&[2, 3], &[2, 3]]);
                if matches!(kind, BinaryKind::Div | BinaryKind::Pow) { s.range(0.4, 2.0) } else { s }
            })
            .collect();
        all.push(Sample::new(Self { kind: BinaryKind::Add }, [&[2, 1, 3], &[4, 1]]));
        all.push(Sample::new(Self { kind: BinaryKind::Mul }, [&[], &[2, 3]]));
        all.push(Sample::new(Self { kind: BinaryKind::Sub }, [&[2, 3], &[2, 1]]).batched([0, 1]));
        all.push(Sample::new(Self { kind: BinaryKind::Mul }, [&[2, 1, 3], &[4, 1]]).batched([0]));
        all
    }
}
