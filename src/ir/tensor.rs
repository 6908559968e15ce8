//! Tensor values: a dtype-erased, cheaply cloned `ndarray`.
//!
//! Used for constants in graphs, for what the interpreter computes and for what engines take
//! and return. Elements are row-major; bytes are little-endian, as in ONNX and safetensors.

use super::DType;
use ndarray::{ArcArray, IxDyn};
use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

/// A shared n-dimensional array of `A`.
pub type Array<A> = ArcArray<A, IxDyn>;

/// A tensor value of one of the [`DType`]s. Cloning shares the data.
#[derive(Clone, Debug, PartialEq)]
pub enum Tensor {
    /// `f32` elements.
    F32(Array<f32>),
    /// `f64` elements.
    F64(Array<f64>),
    /// `i64` elements.
    I64(Array<i64>),
    /// `bool` elements.
    Bool(Array<bool>),
}

/// Runs `$body` with `$a` bound to the typed array, whatever its element type.
#[macro_export]
macro_rules! with_array {
    ($tensor:expr, $a:ident => $body:expr) => {
        match $tensor {
            $crate::ir::Tensor::F32($a) => $body,
            $crate::ir::Tensor::F64($a) => $body,
            $crate::ir::Tensor::I64($a) => $body,
            $crate::ir::Tensor::Bool($a) => $body,
        }
    };
}

/// Rust types that are elements of a [`Tensor`].
pub trait Element: Copy + Default + PartialEq + PartialOrd + Send + Sync + std::fmt::Debug + 'static {
    /// The matching [`DType`].
    const DTYPE: DType;
    /// Wraps an array.
    fn wrap(a: Array<Self>) -> Tensor;
    /// The array inside, when the tensor has this element type.
    fn unwrap(t: &Tensor) -> Option<&Array<Self>>;
    /// The little-endian bytes of a slice, where they are its memory.
    fn view(s: &[Self]) -> Option<&[u8]>;
    /// Elements from little-endian bytes, a whole number of them.
    fn collect(bytes: &[u8]) -> Vec<Self> {
        bytes.chunks_exact(Self::DTYPE.size()).map(Self::get).collect()
    }
    /// Appends the little-endian bytes.
    fn put(self, out: &mut Vec<u8>);
    /// Reads little-endian bytes; `bytes.len()` is `DTYPE.size()`.
    fn get(bytes: &[u8]) -> Self;
}

macro_rules! element {
    ($($t:ty, $v:ident;)*) => {$(
        impl Element for $t {
            const DTYPE: DType = DType::$v;
            fn wrap(a: Array<Self>) -> Tensor { Tensor::$v(a) }
            fn unwrap(t: &Tensor) -> Option<&Array<Self>> {
                if let Tensor::$v(a) = t { Some(a) } else { None }
            }
            fn view(s: &[Self]) -> Option<&[u8]> { cfg!(target_endian = "little").then(|| bytemuck::cast_slice(s)) }
            fn collect(bytes: &[u8]) -> Vec<Self> {
                let mut v = vec![Self::default(); bytes.len() / size_of::<Self>()];
                if cfg!(target_endian = "little") {
                    bytemuck::cast_slice_mut(&mut v).copy_from_slice(bytes);
                } else {
                    v.iter_mut().zip(bytes.chunks_exact(size_of::<Self>())).for_each(|(x, b)| *x = Self::get(b));
                }
                v
            }
            fn put(self, out: &mut Vec<u8>) { out.extend_from_slice(&self.to_le_bytes()); }
            fn get(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().expect("the caller cuts element-sized chunks"))
            }
        }
    )*};
}
element! { f32, F32; f64, F64; i64, I64; }

impl Element for bool {
    const DTYPE: DType = DType::Bool;
    fn wrap(a: Array<Self>) -> Tensor {
        Tensor::Bool(a)
    }
    fn unwrap(t: &Tensor) -> Option<&Array<Self>> {
        if let Tensor::Bool(a) = t { Some(a) } else { None }
    }
    fn view(s: &[Self]) -> Option<&[u8]> {
        Some(bytemuck::cast_slice(s))
    }
    fn put(self, out: &mut Vec<u8>) {
        out.push(u8::from(self));
    }
    fn get(bytes: &[u8]) -> Self {
        bytes[0] != 0
    }
}

impl Tensor {
    /// A tensor of `shape` from row-major elements.
    ///
    /// # Panics
    /// When the number of elements is not the product of `shape`.
    pub fn new<A: Element>(shape: &[usize], data: Vec<A>) -> Self {
        A::wrap(Array::from_shape_vec(IxDyn(shape), data).expect("element count equals the product of the shape"))
    }

    /// A rank-0 tensor.
    pub fn scalar<A: Element>(x: A) -> Self {
        Self::new(&[], vec![x])
    }

    /// A rank-0 tensor of float type `dtype` (rounded for f32, truncated for i64, `x != 0` for bool).
    pub fn scalar_of(dtype: DType, x: f64) -> Self {
        Self::scalar(x).cast(dtype)
    }

    /// All elements zero (false).
    pub fn zeros(dtype: DType, shape: &[usize]) -> Self {
        let d = IxDyn(shape);
        match dtype {
            DType::F32 => Self::F32(Array::zeros(d)),
            DType::F64 => Self::F64(Array::zeros(d)),
            DType::I64 => Self::I64(Array::zeros(d)),
            DType::Bool => Self::Bool(Array::from_elem(d, false)),
        }
    }

    /// The element type.
    pub const fn dtype(&self) -> DType {
        match self {
            Self::F32(_) => DType::F32,
            Self::F64(_) => DType::F64,
            Self::I64(_) => DType::I64,
            Self::Bool(_) => DType::Bool,
        }
    }

    /// Sizes of the axes.
    pub fn shape(&self) -> &[usize] {
        with_array!(self, a => a.shape())
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape().len()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        with_array!(self, a => a.len())
    }

    /// True when some axis has size zero.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The typed array, when the element type is `A`.
    pub fn array<A: Element>(&self) -> Option<&Array<A>> {
        A::unwrap(self)
    }

    /// Row-major elements, when the element type is `A`.
    pub fn to_vec<A: Element>(&self) -> Option<Vec<A>> {
        A::unwrap(self).map(|a| a.iter().copied().collect())
    }

    /// Elements converted to `f64`, row-major (bool: 0 or 1).
    pub fn to_f64_vec(&self) -> Vec<f64> {
        match self {
            Self::F32(a) => a.iter().map(|&x| f64::from(x)).collect(),
            Self::F64(a) => a.iter().copied().collect(),
            Self::I64(a) => a.iter().map(|&x| x as f64).collect(),
            Self::Bool(a) => a.iter().map(|&x| f64::from(u8::from(x))).collect(),
        }
    }

    /// The same numbers in another element type, as ONNX `Cast` converts them
    /// (float to integer truncates, anything to bool is `x != 0`).
    pub fn cast(&self, to: DType) -> Self {
        if self.dtype() == to {
            return self.clone();
        }
        macro_rules! to {
            ($a:expr, $zero:expr, $f64:expr, $i64:expr) => {
                match to {
                    DType::F32 => Self::F32($a.mapv(|x| $f64(x) as f32).into_shared()),
                    DType::F64 => Self::F64($a.mapv($f64).into_shared()),
                    DType::I64 => Self::I64($a.mapv($i64).into_shared()),
                    DType::Bool => Self::Bool($a.mapv(|x| x != $zero).into_shared()),
                }
            };
        }
        match self {
            Self::F32(a) => to!(a, 0.0, f64::from, |x: f32| x as i64),
            Self::F64(a) => to!(a, 0.0, |x: f64| x, |x: f64| x as i64),
            Self::I64(a) => to!(a, 0, |x: i64| x as f64, |x: i64| x),
            Self::Bool(a) => to!(a, false, |x: bool| f64::from(u8::from(x)), i64::from),
        }
    }

    /// The same elements under another shape.
    ///
    /// # Panics
    /// When the element counts differ.
    pub fn reshape(&self, shape: &[usize]) -> Self {
        fn go<A: Element>(a: &Array<A>, shape: &[usize]) -> Tensor {
            A::wrap(a.to_shape(IxDyn(shape)).expect("a reshape keeps the element count").into_owned().into_shared())
        }
        with_array!(self, a => go(a, shape))
    }

    /// Row-major little-endian bytes; borrowed where the tensor lies in memory that way.
    pub fn le_bytes(&self) -> Cow<'_, [u8]> {
        fn go<A: Element>(a: &Array<A>) -> Cow<'_, [u8]> {
            if let Some(bytes) = a.as_slice().and_then(A::view) {
                return Cow::Borrowed(bytes);
            }
            let mut out = Vec::with_capacity(a.len() * A::DTYPE.size());
            a.iter().for_each(|x| x.put(&mut out));
            Cow::Owned(out)
        }
        with_array!(self, a => go(a))
    }

    /// Row-major little-endian bytes.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        self.le_bytes().into_owned()
    }

    /// A tensor from row-major little-endian bytes, or `None` when the byte count does not fit the shape.
    pub fn from_le_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Option<Self> {
        fn go<A: Element>(shape: &[usize], bytes: &[u8]) -> Tensor {
            Tensor::new(shape, A::collect(bytes))
        }
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        if count.checked_mul(dtype.size())? != bytes.len() {
            return None;
        }
        Some(match dtype {
            DType::F32 => go::<f32>(shape, bytes),
            DType::F64 => go::<f64>(shape, bytes),
            DType::I64 => go::<i64>(shape, bytes),
            DType::Bool => go::<bool>(shape, bytes),
        })
    }

    /// When every element is the same number (or there is one element), that number.
    pub fn uniform(&self) -> Option<f64> {
        fn go<A: Element>(a: &Array<A>) -> bool {
            let first = a.iter().next();
            a.iter().all(|x| Some(x) == first)
        }
        if self.is_empty() || !with_array!(self, a => go(a)) {
            return None;
        }
        Some(match self {
            Self::F32(a) => f64::from(*a.first()?),
            Self::F64(a) => *a.first()?,
            Self::I64(a) => *a.first()? as f64,
            Self::Bool(a) => f64::from(u8::from(*a.first()?)),
        })
    }

    /// Largest absolute difference to `other` in f64; `None` when the shapes differ.
    /// A NaN on one side only counts as infinite.
    pub fn max_abs_diff(&self, other: &Self) -> Option<f64> {
        if self.shape() != other.shape() {
            return None;
        }
        Some(self.to_f64_vec().into_iter().zip(other.to_f64_vec()).fold(0.0, |m: f64, (a, b)| {
            let d = if a == b || (a.is_nan() && b.is_nan()) { 0.0 } else { (a - b).abs() };
            if d.is_nan() { f64::INFINITY } else { m.max(d) }
        }))
    }
}

/// A constant inside a graph: compared and hashed by a 128-bit digest of dtype, shape and bytes,
/// so that ops holding one stay cheap to compare.
#[derive(Clone, Debug)]
pub struct Literal {
    tensor: Arc<Tensor>,
    digest: Arc<OnceLock<u128>>,
}

impl Literal {
    /// Wraps a tensor.
    pub fn new(tensor: Tensor) -> Self {
        Self { tensor: Arc::new(tensor), digest: Arc::default() }
    }

    /// The value.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// XXH3-128 of dtype, shape and bytes.
    pub fn digest(&self) -> u128 {
        *self.digest.get_or_init(|| {
            let mut h = xxhash_rust::xxh3::Xxh3::new();
            h.update(self.tensor.dtype().name().as_bytes());
            for &d in self.tensor.shape() {
                h.update(&(d as u64).to_le_bytes());
            }
            h.update(&self.tensor.le_bytes());
            h.digest128()
        })
    }
}

impl PartialEq for Literal {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.tensor, &other.tensor) || self.digest() == other.digest()
    }
}
impl Eq for Literal {}
impl Hash for Literal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip_and_reject_a_wrong_length() {
        let t = Tensor::new(&[2, 2], vec![1.5f32, -2.0, 0.0, 7.25]);
        let b = t.to_le_bytes();
        assert_eq!(Tensor::from_le_bytes(DType::F32, &[2, 2], &b), Some(t));
        assert_eq!(Tensor::from_le_bytes(DType::F32, &[3, 2], &b), None);
        assert_eq!(Tensor::from_le_bytes(DType::F32, &[usize::MAX, 16], &b), None);
    }

    #[test]
    fn casting_follows_onnx() {
        let t = Tensor::new(&[3], vec![-1.9f32, 0.0, 2.9]);
        assert_eq!(t.cast(DType::I64), Tensor::new(&[3], vec![-1i64, 0, 2]));
        assert_eq!(t.cast(DType::Bool), Tensor::new(&[3], vec![true, false, true]));
    }

    #[test]
    fn a_literal_is_its_contents() {
        let a = Literal::new(Tensor::scalar(1.0f32));
        assert_eq!(a, Literal::new(Tensor::scalar(1.0f32)));
        assert_ne!(a, Literal::new(Tensor::new(&[1], vec![1.0f32])));
        assert_ne!(a, Literal::new(Tensor::scalar(1.0f64)));
    }
}
