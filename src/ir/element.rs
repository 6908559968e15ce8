//! Elements of tensors: the Rust types behind [`DType`] and how a number becomes one of them.
//!
//! Every conversion of element types goes through [`Number`], which holds any element exactly, so there is one rule for
//! each target type, whatever the source.

use super::{Array, DType, Tensor};
use std::cmp::Ordering;
use std::fmt::Debug;

/// The value of an element, exactly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Of a float.
    Float(f64),
    /// Of an integer; 0 or 1 of a truth value.
    Int(i64),
}

impl From<f64> for Number {
    fn from(x: f64) -> Self {
        Self::Float(x)
    }
}

/// Rust types that are elements of a [`Tensor`].
pub trait Element: Copy + Default + PartialEq + PartialOrd + Send + Sync + Debug + 'static {
    /// The matching [`DType`].
    const DTYPE: DType;
    /// Wraps an array.
    fn wrap(a: Array<Self>) -> Tensor;
    /// The array inside, when the tensor has this element type.
    fn unwrap(t: &Tensor) -> Option<&Array<Self>>;
    /// The value.
    fn number(self) -> Number;
    /// The element for a value, as ONNX `Cast` converts it.
    ///
    /// To a float: rounded once, to nearest even; too large becomes infinite. Float to integer: truncated. Anything to
    /// bool: `x != 0`, so NaN is true. ONNX leaves open what becomes of a value outside of an integer type: here a
    /// float goes to the nearest end of the type's range and NaN to 0, and an integer wraps around.
    fn from_number(x: Number) -> Self;
    /// The element that a decimal (`true` and `false` for bool) denotes; the 16-bit floats round it through `f64`.
    fn parse(text: &str) -> Option<Self>;
    /// Whether the element is neither zero nor, of a float, subnormal, infinite or NaN.
    fn is_normal(self) -> bool;
    /// The little-endian bytes of a slice, where they are its memory.
    fn view(s: &[Self]) -> Option<&[u8]>;
    /// The elements that little-endian bytes hold whole.
    fn collect(bytes: &[u8]) -> Vec<Self>;
    /// Appends the little-endian bytes.
    fn put(self, out: &mut Vec<u8>);
    /// Reads little-endian bytes; `bytes.len()` is `DTYPE.size()`.
    fn get(bytes: &[u8]) -> Self;
    /// The value as `f64`.
    fn to_f64(self) -> f64 {
        match self.number() {
            Number::Float(x) => x,
            Number::Int(x) => x as f64,
        }
    }
}

/// The two `f32` that a number between them may be rounded to differ in their last bit; this takes the one where it is
/// set, given the nearest one and how that compares with the number. Rounded once more to a type with at least two
/// bits fewer, the result is what one rounding of the number gives (Boldo and Melquiond, "When double rounding is odd", 2005).
fn odd(nearest: f32, compared: Option<Ordering>) -> f32 {
    match compared {
        Some(Ordering::Less) if nearest.to_bits() & 1 == 0 => nearest.next_up(),
        Some(Ordering::Greater) if nearest.to_bits() & 1 == 0 && nearest.is_finite() => nearest.next_down(),
        _ => nearest,
    }
}

/// A number as `f32`, rounded to odd.
fn narrow(x: Number) -> f32 {
    match x {
        Number::Float(x) if (x as f32).is_infinite() => x as f32,
        Number::Float(x) => odd(x as f32, f64::from(x as f32).partial_cmp(&x)),
        Number::Int(x) => odd(x as f32, Some((x as f32 as i128).cmp(&x.into()))),
    }
}

macro_rules! element {
    (; $($v:ident: $t:ty, $name:literal, $kind:ident, $onnx:literal, $code:literal;)*) => {$(
        impl Element for $t {
            const DTYPE: DType = DType::$v;
            fn wrap(a: Array<Self>) -> Tensor { Tensor::$v(a) }
            fn unwrap(t: &Tensor) -> Option<&Array<Self>> {
                if let Tensor::$v(a) = t { Some(a) } else { None }
            }
            element!(@$kind $t);
        }
    )*};
    (@Float $t:ty) => {
        fn number(self) -> Number { Number::Float(self.into()) }
        fn from_number(x: Number) -> Self {
            match x { Number::Float(x) => x as $t, Number::Int(x) => x as $t }
        }
        fn parse(text: &str) -> Option<Self> { text.parse().ok() }
        fn is_normal(self) -> bool { Self::is_normal(self) }
        element!(@bytes);
    };
    (@Half $t:ty) => {
        fn number(self) -> Number { Number::Float(self.into()) }
        fn from_number(x: Number) -> Self { Self::from_f32(narrow(x)) }
        fn parse(text: &str) -> Option<Self> { Some(Self::from_number(Number::Float(text.parse().ok()?))) }
        fn is_normal(self) -> bool { Self::is_normal(self) }
        element!(@bytes);
    };
    (@Int $t:ty) => {
        fn number(self) -> Number { Number::Int(self.into()) }
        fn from_number(x: Number) -> Self {
            match x { Number::Float(x) => x as $t, Number::Int(x) => x as $t }
        }
        fn parse(text: &str) -> Option<Self> { text.parse().ok() }
        fn is_normal(self) -> bool { self != 0 }
        element!(@bytes);
    };
    (@Bool $t:ty) => {
        fn number(self) -> Number { Number::Int(self.into()) }
        fn from_number(x: Number) -> Self { x != Number::Float(0.0) && x != Number::Int(0) }
        fn parse(text: &str) -> Option<Self> { text.parse().ok() }
        fn is_normal(self) -> bool { self }
        fn view(s: &[Self]) -> Option<&[u8]> { Some(bytemuck::cast_slice(s)) }
        fn collect(bytes: &[u8]) -> Vec<Self> { bytes.iter().map(|&b| b != 0).collect() }
        fn put(self, out: &mut Vec<u8>) { out.push(self.into()); }
        fn get(bytes: &[u8]) -> Self { bytes[0] != 0 }
    };
    (@bytes) => {
        fn view(s: &[Self]) -> Option<&[u8]> { cfg!(target_endian = "little").then(|| bytemuck::cast_slice(s)) }
        fn collect(bytes: &[u8]) -> Vec<Self> {
            let mut v = vec![Self::default(); bytes.len() / size_of::<Self>()];
            if cfg!(target_endian = "little") {
                bytemuck::cast_slice_mut(&mut v).copy_from_slice(&bytes[..bytes.len() / size_of::<Self>() * size_of::<Self>()]);
            } else {
                v.iter_mut().zip(bytes.chunks_exact(size_of::<Self>())).for_each(|(x, b)| *x = Self::get(b));
            }
            v
        }
        fn put(self, out: &mut Vec<u8>) { out.extend_from_slice(&self.to_le_bytes()); }
        fn get(bytes: &[u8]) -> Self {
            Self::from_le_bytes(bytes.try_into().expect("the caller cuts element-sized chunks"))
        }
    };
}
crate::dtypes!([element]);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::with_dtype;
    use half::{bf16, f16};

    /// The elements nearest to `x` by search: of two, the one whose last bit is zero. `all` ascends from zero to
    /// infinity, which stands where the next number would.
    fn nearest(all: &[f64], x: f64) -> f64 {
        let above = all.partition_point(|&y| y < x.abs());
        let below = above.saturating_sub(1);
        let next = if above + 1 < all.len() { all[above] } else { 2.0 * all[below] - all[below - 1] };
        let (down, up) = (x.abs() - all[below], next - x.abs());
        let down = down < up || (down == up && below % 2 == 0);
        if down { all[below] } else { all[above] }.copysign(x)
    }

    /// Numbers about every boundary between neighbors.
    fn boundaries(all: &[f64]) -> impl Iterator<Item = f64> {
        let middle = |w: &[f64]| if w[1].is_finite() { f64::midpoint(w[0], w[1]) } else { w[0] * (1.0 + 1e-3) };
        all.windows(2).map(middle).flat_map(|m| [m.next_down(), m, m.next_up()]).flat_map(|x| [x, -x])
    }

    #[test]
    fn halves_are_rounded_once_to_nearest_even() {
        fn check<A: Element>(infinity: u16, of: fn(u16) -> A) {
            let all: Vec<f64> = (0..=infinity).map(|bits| of(bits).to_f64()).collect();
            for x in boundaries(&all) {
                let y = A::from_number(Number::Float(x)).to_f64();
                assert_eq!(y.to_bits(), nearest(&all, x).to_bits(), "{x:e} became {y:e} in {}", A::DTYPE);
            }
            for x in
                [i64::MAX, i64::MIN, (1 << 62) + (1 << 54) + 1, (1 << 62) + (1 << 54), 2049, 65519, 65520, 16_777_217]
            {
                let y = A::from_number(Number::Int(x)).to_f64();
                // The numbers beyond 53 bits are not midpoints when rounded to f64 away from them.
                let exact = if x == (1 << 62) + (1 << 54) + 1 { (x as f64).next_up() } else { x as f64 };
                assert_eq!(y, nearest(&all, exact), "{x} in {}", A::DTYPE);
            }
            assert!(A::from_number(Number::Float(f64::NAN)).to_f64().is_nan());
        }
        check(f16::INFINITY.to_bits(), f16::from_bits);
        check(bf16::INFINITY.to_bits(), bf16::from_bits);
    }

    /// What becomes of `x`, by arithmetic on `f64` and `i128` alone.
    fn reference(x: f64, from: DType, to: DType) -> f64 {
        let (low, high) = match to {
            DType::I64 => (i64::MIN.into(), i64::MAX.into()),
            DType::I32 => (i32::MIN.into(), i32::MAX.into()),
            DType::I8 => (i8::MIN.into(), i8::MAX.into()),
            DType::U8 => (u8::MIN.into(), u8::MAX.into()),
            DType::Bool => return f64::from(u8::from(x != 0.0)),
            DType::F64 => return x,
            DType::F32 => return f64::from(x as f32),
            DType::F16 => return nearest(&(0..=0x7c00).map(|b| f16::from_bits(b).to_f64()).collect::<Vec<_>>(), x),
            DType::BF16 => return nearest(&(0..=0x7f80).map(|b| bf16::from_bits(b).to_f64()).collect::<Vec<_>>(), x),
        };
        // The largest integer is no f64.
        let whole = if from.is_float() { x.trunc() as i128 } else { (x as i128).min(i64::MAX.into()) };
        let fits =
            if from.is_float() { whole.clamp(low, high) } else { (whole - low).rem_euclid(high - low + 1) + low };
        fits as f64
    }

    #[test]
    fn every_type_casts_to_every_type() {
        let all =
            [0.0, -0.0, 0.1, -0.5, 1.0, -1.5, 2.5, 100.7, 127.0, 128.0, -129.0, 255.0, 256.0, 300.0, 4e9, -3e9, 1e20];
        for from in DType::ALL {
            let held = Tensor::new(&[all.len()], all.to_vec()).cast(from);
            for to in DType::ALL {
                for (x, y) in held.to_f64_vec().into_iter().zip(held.cast(to).to_f64_vec()) {
                    let want = reference(x, from, to);
                    assert!(
                        y == want && (y.is_sign_negative() == want.is_sign_negative() || !to.is_float()),
                        "{from} {x} to {to}: {y}, not {want}"
                    );
                }
            }
        }
        let nan = Tensor::scalar(f32::NAN);
        for to in DType::ALL {
            let y = nan.cast(to).to_f64_vec()[0];
            assert!(if to.is_float() { y.is_nan() } else { y == f64::from(u8::from(to == DType::Bool)) }, "{to}: {y}");
        }
        // Not by way of f64.
        let long = (1i64 << 53) + (1 << 29) + 1;
        assert_eq!(Tensor::scalar(long).cast(DType::F32), Tensor::scalar(long as f32));
    }

    #[test]
    fn bytes_round_trip() {
        let all = [0.0, -0.0, 1.0, -1.5, 100.0, f64::NAN, f64::INFINITY, 1e-7];
        for dtype in DType::ALL {
            let t = Tensor::new(&[2, 4], all.to_vec()).cast(dtype);
            let bytes = t.to_le_bytes();
            assert_eq!(bytes.len(), 8 * dtype.size());
            let back = Tensor::from_le_bytes(dtype, &[2, 4], &bytes).expect("as many as declared");
            assert_eq!((back.dtype(), back.to_le_bytes()), (dtype, bytes.clone()));
            assert_eq!(Tensor::from_le_bytes(dtype, &[2, 4], &bytes[1..]), None);
            with_dtype!(dtype, A => {
                let mut one = Vec::new();
                bytes.chunks_exact(dtype.size()).for_each(|b| A::get(b).put(&mut one));
                assert_eq!(one, bytes, "one by one, {dtype}");
                assert_eq!(A::collect(&[bytes, vec![1; dtype.size() - 1]].concat()).len(), 8);
            });
            assert_eq!(Tensor::zeros(dtype, &[3]).to_le_bytes(), vec![0; 3 * dtype.size()]);
            assert_eq!(Tensor::scalar_of(dtype, 1.0).uniform(), Some(1.0));
        }
    }
}
