//! [`T`], the authoring handle: operators and methods that append nodes.

use super::Builder;
use crate::ir::{DType, Dim, Real, Shape, Tensor, TensorType, ValueId};
use crate::ops::{
    ArgMax, Binary, BinaryKind, Cast, Compare, CompareKind, Concat, Conv, Expand, Gather, GatherElements, MatMul, Op,
    Pad, Reduce, ReduceKind, Reshape, ScatterElements, Slice, Softmax, StopGradient, TopK, Transpose, Unary, UnaryKind,
    Where,
};
use std::fmt;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A handle on a value of a [`Builder`]'s graph; after a mistake, a poisoned handle.
#[derive(Clone, Copy)]
pub struct T<'g> {
    b: &'g Builder,
    id: Option<ValueId>,
}

impl fmt::Debug for T<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id {
            Some(v) => write!(f, "{v}: {}", self.ty()),
            None => f.write_str("poisoned"),
        }
    }
}

impl<'g> T<'g> {
    pub(super) fn new(b: &'g Builder, id: Option<ValueId>) -> Self {
        Self { b, id }
    }

    /// Returns the builder.
    pub fn builder(self) -> &'g Builder {
        self.b
    }
    /// Returns the value, or `None` for a poisoned handle.
    pub fn id(self) -> Option<ValueId> {
        self.id
    }
    /// Returns true after a mistake.
    pub fn poisoned(self) -> bool {
        self.id.is_none()
    }
    /// Returns a poisoned handle of the same builder.
    pub fn poison(self) -> Self {
        Self { b: self.b, id: None }
    }
    /// Returns the type; `f32[]` for a poisoned handle.
    pub fn ty(self) -> TensorType {
        self.id.map_or(TensorType::new(DType::F32, Vec::new()), |v| self.b.ty(v))
    }
    /// Returns the element type.
    pub fn dtype(self) -> DType {
        self.ty().dtype
    }
    /// Returns the sizes of all axes.
    pub fn dims(self) -> Shape {
        self.ty().shape
    }
    /// Returns the number of axes.
    pub fn rank(self) -> usize {
        self.ty().rank()
    }
    /// Returns the size of an axis; negative axes count from the end. Poisoned or out of range, it is 1.
    pub fn dim(self, axis: i64) -> Dim {
        let dims = self.dims();
        self.axis_index(axis).and_then(|a| dims.get(a).cloned()).unwrap_or(Dim::known(1))
    }
    /// Returns the known size of an axis. A symbolic size is a mistake.
    #[track_caller]
    pub fn size(self, axis: i64) -> usize {
        let d = self.dim(axis);
        d.size().unwrap_or_else(|| {
            self.b.error(format!("axis {axis} must have a known size, it is {d}"), &[self]);
            1
        })
    }

    fn axis_index(self, axis: i64) -> Option<usize> {
        let rank = self.rank();
        let a = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(a).ok().filter(|&a| a < rank)
    }
    /// Resolves an axis as authors write it; negative axes count from the end. An axis out of range is a mistake.
    #[track_caller]
    fn axis(self, axis: i64) -> Option<usize> {
        if self.poisoned() {
            return None;
        }
        let a = self.axis_index(axis);
        if a.is_none() {
            self.b.error(format!("there is no axis {axis}"), &[self]);
        }
        a
    }
    #[track_caller]
    fn with_axis(self, axis: i64, f: impl FnOnce(usize) -> T<'g>) -> T<'g> {
        match self.axis(axis) {
            Some(a) => f(a),
            None => self.poison(),
        }
    }
    #[track_caller]
    fn apply(self, op: impl Into<Op>) -> T<'g> {
        self.b.apply(op, &[self])
    }
    #[track_caller]
    fn unary(self, kind: UnaryKind) -> T<'g> {
        self.apply(Unary { kind })
    }
    #[track_caller]
    fn binary(self, kind: BinaryKind, rhs: T<'g>) -> T<'g> {
        self.b.apply(Binary { kind }, &[self, rhs])
    }
    #[track_caller]
    fn compare(self, kind: CompareKind, rhs: T<'g>) -> T<'g> {
        self.b.apply(Compare { kind }, &[self, rhs])
    }

    /// Appends a rank-0 constant of this tensor's element type.
    #[track_caller]
    pub fn scalar(self, x: f64) -> T<'g> {
        if self.poisoned() { self } else { self.b.constant(Tensor::scalar_of(self.dtype(), x)) }
    }
    /// Zeros of the same type.
    #[track_caller]
    pub fn zeros_like(self) -> T<'g> {
        self.scalar(0.0).expand(self.dims())
    }
    /// Ones of the same type.
    #[track_caller]
    pub fn ones_like(self) -> T<'g> {
        self.scalar(1.0).expand(self.dims())
    }

    /// eˣ
    #[track_caller]
    pub fn exp(self) -> T<'g> {
        self.unary(UnaryKind::Exp)
    }
    /// Natural logarithm.
    #[track_caller]
    pub fn log(self) -> T<'g> {
        self.unary(UnaryKind::Log)
    }
    /// √x
    #[track_caller]
    pub fn sqrt(self) -> T<'g> {
        self.unary(UnaryKind::Sqrt)
    }
    /// 1/x
    #[track_caller]
    pub fn reciprocal(self) -> T<'g> {
        self.unary(UnaryKind::Reciprocal)
    }
    /// The error function.
    #[track_caller]
    pub fn erf(self) -> T<'g> {
        self.unary(UnaryKind::Erf)
    }
    /// Hyperbolic tangent.
    #[track_caller]
    pub fn tanh(self) -> T<'g> {
        self.unary(UnaryKind::Tanh)
    }
    /// 1/(1+e^(−x))
    #[track_caller]
    pub fn sigmoid(self) -> T<'g> {
        self.unary(UnaryKind::Sigmoid)
    }
    /// max(x, 0)
    #[track_caller]
    pub fn relu(self) -> T<'g> {
        self.unary(UnaryKind::Relu)
    }
    /// |x|
    #[track_caller]
    pub fn abs(self) -> T<'g> {
        self.unary(UnaryKind::Abs)
    }
    /// Sine.
    #[track_caller]
    pub fn sin(self) -> T<'g> {
        self.unary(UnaryKind::Sin)
    }
    /// Cosine.
    #[track_caller]
    pub fn cos(self) -> T<'g> {
        self.unary(UnaryKind::Cos)
    }
    /// The larger of both, elementwise.
    #[track_caller]
    pub fn maximum(self, rhs: T<'g>) -> T<'g> {
        self.binary(BinaryKind::Max, rhs)
    }
    /// The smaller of both, elementwise.
    #[track_caller]
    pub fn minimum(self, rhs: T<'g>) -> T<'g> {
        self.binary(BinaryKind::Min, rhs)
    }
    /// Limits elements to `[lo, hi]`.
    #[track_caller]
    pub fn clamp(self, lo: f64, hi: f64) -> T<'g> {
        self.maximum(self.scalar(lo)).minimum(self.scalar(hi))
    }
    /// `selfᵉ`
    #[track_caller]
    pub fn pow(self, e: T<'g>) -> T<'g> {
        self.binary(BinaryKind::Pow, e)
    }
    /// `self > rhs`
    #[track_caller]
    pub fn greater(self, rhs: T<'g>) -> T<'g> {
        self.compare(CompareKind::Greater, rhs)
    }
    /// `self < rhs`
    #[track_caller]
    pub fn less(self, rhs: T<'g>) -> T<'g> {
        self.compare(CompareKind::Less, rhs)
    }
    /// `self == rhs`
    #[track_caller]
    pub fn equal(self, rhs: T<'g>) -> T<'g> {
        self.compare(CompareKind::Equal, rhs)
    }
    /// Selects `a` where this boolean tensor is true and `b` elsewhere.
    #[track_caller]
    pub fn select(self, a: T<'g>, b: T<'g>) -> T<'g> {
        self.b.apply(Where {}, &[self, a, b])
    }
    /// Converts to another element type.
    #[track_caller]
    pub fn cast(self, to: DType) -> T<'g> {
        if self.dtype() == to { self } else { self.apply(Cast { to }) }
    }
    /// The identity that lets no gradient through.
    #[track_caller]
    pub fn stop_gradient(self) -> T<'g> {
        self.apply(StopGradient {})
    }

    /// The matrix product over the last two axes.
    #[track_caller]
    pub fn matmul(self, rhs: T<'g>) -> T<'g> {
        self.b.apply(MatMul {}, &[self, rhs])
    }
    /// Swaps the last two axes.
    #[track_caller]
    pub fn t(self) -> T<'g> {
        if self.poisoned() {
            return self;
        }
        let rank = self.rank();
        if rank < 2 {
            self.b.error("t() needs two axes", &[self]);
            return self.poison();
        }
        let mut perm: Vec<usize> = (0..rank).collect();
        perm.swap(rank - 1, rank - 2);
        self.transpose(&perm)
    }
    /// 2-D convolution (cross-correlation) of `self` in NCHW; see [`Conv`]. The `bias` of shape `[out]` is added by a
    /// separate op, so `op` has none.
    #[track_caller]
    pub fn conv(self, op: Conv, weight: T<'g>, bias: Option<T<'g>>) -> T<'g> {
        let y = self.b.apply(op, &[self, weight]);
        match bias {
            Some(c) => y + c.reshape([c.dim(0), 1.into(), 1.into()]),
            None => y,
        }
    }
    /// Softmax over one axis.
    #[track_caller]
    pub fn softmax(self, axis: i64) -> T<'g> {
        self.with_axis(axis, |axis| self.apply(Softmax { axis }))
    }

    /// Reduces `axes`. With `keep`, the axes stay with size 1.
    #[track_caller]
    pub fn reduce(self, kind: ReduceKind, axes: &[i64], keep: bool) -> T<'g> {
        let Some(mut axes) = axes.iter().map(|&a| self.axis(a)).collect::<Option<Vec<_>>>() else {
            return self.poison();
        };
        axes.sort_unstable();
        self.apply(Reduce { kind, axes, keepdims: keep })
    }
    /// The sum over `axes`, which are removed.
    #[track_caller]
    pub fn sum(self, axes: &[i64]) -> T<'g> {
        self.reduce(ReduceKind::Sum, axes, false)
    }
    /// The sum over `axes`, which stay with size 1.
    #[track_caller]
    pub fn sum_keep(self, axes: &[i64]) -> T<'g> {
        self.reduce(ReduceKind::Sum, axes, true)
    }
    /// The mean over `axes`, which are removed.
    #[track_caller]
    pub fn mean(self, axes: &[i64]) -> T<'g> {
        self.reduce(ReduceKind::Mean, axes, false)
    }
    /// The mean over `axes`, which stay with size 1.
    #[track_caller]
    pub fn mean_keep(self, axes: &[i64]) -> T<'g> {
        self.reduce(ReduceKind::Mean, axes, true)
    }
    /// The maximum over `axes`, which stay with size 1.
    #[track_caller]
    pub fn max_keep(self, axes: &[i64]) -> T<'g> {
        self.reduce(ReduceKind::Max, axes, true)
    }

    /// The same elements in another shape.
    #[track_caller]
    pub fn reshape(self, to: impl Into<Shape>) -> T<'g> {
        let to = to.into();
        if self.dims() == to { self } else { self.apply(Reshape { to }) }
    }
    /// Permutes axes: axis `i` of the result is axis `perm[i]` of `self`.
    #[track_caller]
    pub fn transpose(self, perm: &[usize]) -> T<'g> {
        self.apply(Transpose { perm: perm.to_vec() })
    }
    /// Broadcasts to a shape.
    #[track_caller]
    pub fn expand(self, to: impl Into<Shape>) -> T<'g> {
        let to = to.into();
        if self.dims() == to { self } else { self.apply(Expand { to }) }
    }
    /// Inserts an axis of size 1 before `axis`.
    #[track_caller]
    pub fn unsqueeze(self, axis: usize) -> T<'g> {
        let mut to = self.dims().to_vec();
        to.insert(axis.min(to.len()), Dim::known(1));
        self.reshape(to)
    }
    /// The `len` elements of an axis from `start` on.
    #[track_caller]
    pub fn narrow(self, axis: i64, start: impl Into<Dim>, len: impl Into<Dim>) -> T<'g> {
        let (start, len) = (start.into(), len.into());
        self.with_axis(axis, |axis| {
            if start.is(0) && self.dims()[axis] == len {
                return self;
            }
            let end = &start + &len;
            self.apply(Slice { axis, start, end, step: 1 })
        })
    }
    /// Every `step`-th element of an axis, beginning with the first.
    #[track_caller]
    pub fn every(self, axis: i64, step: usize) -> T<'g> {
        self.with_axis(axis, |axis| {
            let end = self.dims()[axis].clone();
            self.apply(Slice { axis, start: 0.into(), end, step })
        })
    }
    /// Element `i` of an axis, which is removed.
    #[track_caller]
    pub fn pick(self, axis: i64, i: usize) -> T<'g> {
        self.with_axis(axis, |a| {
            let x = self.narrow(axis, i, 1);
            let mut to = x.dims().to_vec();
            if !x.poisoned() {
                to.remove(a);
            }
            x.reshape(to)
        })
    }
    /// Splits an axis into `N` equal parts.
    #[track_caller]
    pub fn chunk<const N: usize>(self, axis: i64) -> [T<'g>; N] {
        let Some(part) = self.dim(axis).exact_div(&Dim::from(N)) else {
            self.b.error(format!("axis {axis} is not divisible into {N} equal parts"), &[self]);
            return [self.poison(); N];
        };
        std::array::from_fn(|i| self.narrow(axis, &part * i, &part))
    }
    /// Pads an axis with `before` and `after` zeros.
    #[track_caller]
    pub fn pad(self, axis: i64, before: usize, after: usize) -> T<'g> {
        if before + after == 0 {
            return self;
        }
        self.with_axis(axis, |axis| self.apply(Pad { axis, before, after, value: Real(0.0) }))
    }
    /// Joins tensors along an axis.
    #[track_caller]
    pub fn concat(parts: &[T<'g>], axis: i64) -> T<'g> {
        let [first, rest @ ..] = parts else { panic!("concat of at least one tensor") };
        if rest.is_empty() {
            return *first;
        }
        first.with_axis(axis, |axis| first.b.apply(Concat { axis }, parts))
    }
    /// Selects entries of an axis by an i64 tensor of any shape, whose axes replace the axis.
    #[track_caller]
    pub fn gather(self, axis: i64, indices: T<'g>) -> T<'g> {
        self.with_axis(axis, |axis| self.b.apply(Gather { axis }, &[self, indices]))
    }
    /// `y[…, i, …] = self[…, indices[…, i, …], …]`, as `torch.gather` does.
    #[track_caller]
    pub fn gather_elements(self, axis: i64, indices: T<'g>) -> T<'g> {
        self.with_axis(axis, |axis| self.b.apply(GatherElements { axis }, &[self, indices]))
    }
    /// Adds `updates` at `indices` along an axis, as `torch.scatter_add` does.
    #[track_caller]
    pub fn scatter_add(self, axis: i64, indices: T<'g>, updates: T<'g>) -> T<'g> {
        self.with_axis(axis, |axis| self.b.apply(ScatterElements { axis }, &[self, indices, updates]))
    }
    /// The `k` largest elements along an axis, largest first, and their indices.
    #[track_caller]
    pub fn top_k(self, k: usize, axis: i64) -> (T<'g>, T<'g>) {
        let Some(axis) = self.axis(axis) else { return (self.poison(), self.poison()) };
        match self.b.apply_all(TopK { axis, k }, &[self]).as_slice() {
            [values, indices] => (*values, *indices),
            _ => (self.poison(), self.poison()),
        }
    }
    /// The index of the first maximum along an axis; the axis stays with size 1.
    #[track_caller]
    pub fn argmax(self, axis: i64) -> T<'g> {
        self.with_axis(axis, |axis| self.apply(ArgMax { axis }))
    }
}

macro_rules! operators {
    ($($tr:ident $f:ident $kind:ident;)*) => {$(
        impl<'g> $tr for T<'g> {
            type Output = T<'g>;
            #[track_caller]
            fn $f(self, rhs: T<'g>) -> T<'g> { self.binary(BinaryKind::$kind, rhs) }
        }
        impl<'g> $tr<f64> for T<'g> {
            type Output = T<'g>;
            #[track_caller]
            fn $f(self, rhs: f64) -> T<'g> { self.binary(BinaryKind::$kind, self.scalar(rhs)) }
        }
        impl<'g> $tr<T<'g>> for f64 {
            type Output = T<'g>;
            #[track_caller]
            fn $f(self, rhs: T<'g>) -> T<'g> { rhs.scalar(self).binary(BinaryKind::$kind, rhs) }
        }
    )*};
}
operators! { Add add Add; Sub sub Sub; Mul mul Mul; Div div Div; }

impl<'g> Neg for T<'g> {
    type Output = T<'g>;
    #[track_caller]
    fn neg(self) -> T<'g> {
        self.unary(UnaryKind::Neg)
    }
}
