//! Tensor values: a dtype-erased, cheaply cloned `ndarray`.
//!
//! Used for constants in graphs, for what the interpreter computes and for what engines take
//! and return. Elements are row-major; bytes are little-endian, as in ONNX and safetensors.

use super::{DType, Element};
use crate::with_dtype;
use ndarray::{ArcArray, IxDyn};
use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

/// A shared n-dimensional array of `A`.
pub type Array<A> = ArcArray<A, IxDyn>;

macro_rules! tensor {
    (; $($v:ident: $t:ty, $name:literal, $kind:ident, $onnx:literal, $code:literal;)*) => {
        /// A tensor value of one of the [`DType`]s. Cloning shares the data.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum Tensor { $($v(Array<$t>),)* }
    };
}
crate::dtypes!([tensor]);

/// Runs `$body` with `$a` bound to the typed array, whatever its element type.
#[doc(hidden)]
#[macro_export]
macro_rules! with_array {
    ($tensor:expr, $a:ident => $body:expr) => { $crate::dtypes!([$crate::with_array] @arms $tensor, $a => $body) };
    (@arms $tensor:expr, $a:ident => $body:expr; $($v:ident: $t:ty, $name:literal, $kind:ident, $onnx:literal, $code:literal;)*) => {
        match $tensor { $($crate::ir::Tensor::$v($a) => $body,)* }
    };
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

    /// A rank-0 tensor of `dtype`: `x` [as an element](Element::from_number).
    pub fn scalar_of(dtype: DType, x: f64) -> Self {
        Self::scalar(x).cast(dtype)
    }

    /// All elements zero (false).
    pub fn zeros(dtype: DType, shape: &[usize]) -> Self {
        with_dtype!(dtype, A => A::wrap(Array::from_elem(IxDyn(shape), A::default())))
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        fn go<A: Element>(_: &Array<A>) -> DType {
            A::DTYPE
        }
        with_array!(self, a => go(a))
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
        with_array!(self, a => a.iter().map(|x| x.to_f64()).collect())
    }

    /// The same numbers in another element type, as ONNX `Cast` converts them; see [`Element::from_number`].
    pub fn cast(&self, to: DType) -> Self {
        fn go<A: Element, B: Element>(a: &Array<A>) -> Tensor {
            B::wrap(a.mapv(|x| B::from_number(x.number())).into_shared())
        }
        if self.dtype() == to {
            return self.clone();
        }
        with_array!(self, a => with_dtype!(to, B => go::<_, B>(a)))
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
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        if count.checked_mul(dtype.size())? != bytes.len() {
            return None;
        }
        Some(with_dtype!(dtype, A => Self::new(shape, A::collect(bytes))))
    }

    /// When every element is the same number (or there is one element), that number.
    pub fn uniform(&self) -> Option<f64> {
        fn go<A: Element>(a: &Array<A>) -> Option<f64> {
            let first = a.first()?;
            a.iter().all(|x| x == first).then(|| first.to_f64())
        }
        with_array!(self, a => go(a))
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
            let mut bytes = self.tensor.dtype().name().as_bytes().to_vec();
            self.tensor.shape().iter().for_each(|&d| bytes.extend((d as u64).to_le_bytes()));
            bytes.extend(&*self.tensor.le_bytes());
            xxhash_rust::xxh3::xxh3_128(&bytes)
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
