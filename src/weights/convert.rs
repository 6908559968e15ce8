//! Stored elements to the types the rest of the crate computes with.
//!
//! Floats round to nearest even; integers never change value (one that does not fit is an
//! error); bytes that already have the wanted form are passed through without a copy.

use super::Stored;
use crate::ir::{DType, Element};
use bytes::Bytes;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Converts whole elements of type `from` to `to`, a pair that [`Stored::converts_to`] allows.
pub(super) fn convert(bytes: Bytes, from: Stored, to: DType) -> Result<Bytes, String> {
    if from == Stored::Bool && to == DType::Bool {
        // Writers other than PyTorch store true as any non-zero byte.
        return Ok(if bytes.iter().all(|&b| b <= 1) { bytes } else { each::<1, bool>(&bytes, |[b]| b != 0) });
    }
    if from.same_as() == Some(to) {
        return Ok(bytes);
    }
    Ok(match to {
        DType::F32 => match from {
            Stored::F16 => halves(&bytes, f16::from_bits, |h: &[f16], out| h.convert_to_f32_slice(out)),
            Stored::BF16 => halves(&bytes, bf16::from_bits, |h: &[bf16], out| h.convert_to_f32_slice(out)),
            _ => numbers(&bytes, from, |x| x as f32, |x| x as f32)?,
        },
        DType::F64 => numbers(&bytes, from, |x| x, |x| x as f64)?,
        DType::I64 => {
            if from == Stored::U64
                && let Some(x) =
                    bytes.as_chunks().0.iter().map(|&b| u64::from_le_bytes(b)).find(|&x| x > i64::MAX as u64)
            {
                return Err(format!("the value {x} does not fit i64"));
            }
            numbers(&bytes, from, |x| x as i64, |x| x as i64)?
        }
        DType::Bool => numbers(&bytes, from, |x| x != 0.0, |x| x != 0)?,
    })
}

/// Every element through `float` or `integer`, whichever holds it exactly.
fn numbers<R: Element>(
    bytes: &[u8],
    from: Stored,
    float: impl Fn(f64) -> R,
    integer: impl Fn(i128) -> R,
) -> Result<Bytes, String> {
    macro_rules! int {
        ($t:ty) => {
            each(bytes, |b| integer(<$t>::from_le_bytes(b).into()))
        };
    }
    Ok(match from {
        Stored::F64 => each(bytes, |b| float(f64::from_le_bytes(b))),
        Stored::F32 => each(bytes, |b| float(f32::from_le_bytes(b).into())),
        Stored::F16 => each(bytes, |b| float(f16::from_le_bytes(b).into())),
        Stored::BF16 => each(bytes, |b| float(bf16::from_le_bytes(b).into())),
        Stored::I64 => int!(i64),
        Stored::I32 => int!(i32),
        Stored::I16 => int!(i16),
        Stored::I8 => int!(i8),
        Stored::U64 => int!(u64),
        Stored::U32 => int!(u32),
        Stored::U16 => int!(u16),
        Stored::U8 => int!(u8),
        Stored::Bool => each(bytes, |[b]| integer((b != 0).into())),
        Stored::Other(name) => return Err(format!("elements of type {name} cannot be read")),
    })
}

fn each<const N: usize, R: Element>(bytes: &[u8], f: impl Fn([u8; N]) -> R) -> Bytes {
    let (elements, _) = bytes.as_chunks::<N>();
    let mut out = Vec::with_capacity(elements.len() * R::DTYPE.size());
    for &e in elements {
        f(e).put(&mut out);
    }
    out.into()
}

/// Half floats to `f32` by blocks, so that the hardware's vector conversion is used.
fn halves<H: Copy + Default>(bytes: &[u8], bits: fn(u16) -> H, widen: impl Fn(&[H], &mut [f32])) -> Bytes {
    const BLOCK: usize = 1024;
    let (mut narrow, mut wide) = ([H::default(); BLOCK], [0.0f32; BLOCK]);
    let mut out = Vec::with_capacity(bytes.len() * 2);
    for block in bytes.as_chunks::<2>().0.chunks(BLOCK) {
        let n = block.len();
        for (h, &b) in narrow.iter_mut().zip(block) {
            *h = bits(u16::from_le_bytes(b));
        }
        widen(&narrow[..n], &mut wide[..n]);
        for x in &wide[..n] {
            out.extend_from_slice(&x.to_le_bytes());
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Tensor;

    fn to(bytes: &[u8], from: Stored, to: DType) -> Tensor {
        let n = bytes.len() / from.size().expect("a sized type");
        let out = convert(Bytes::copy_from_slice(bytes), from, to).expect("convertible");
        Tensor::from_le_bytes(to, &[n], &out).expect("whole elements")
    }

    #[test]
    fn every_half_widens_exactly() {
        let bits: Vec<u16> = (0..=u16::MAX).collect();
        let bytes: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
        for (stored, widen) in [
            (Stored::F16, (|b| f16::from_bits(b).to_f32()) as fn(u16) -> f32),
            (Stored::BF16, |b| bf16::from_bits(b).to_f32()),
        ] {
            let got = to(&bytes, stored, DType::F32).to_vec::<f32>().expect("f32");
            for (&b, x) in bits.iter().zip(got) {
                let y = widen(b);
                assert!(x == y || (x.is_nan() && y.is_nan()), "{stored} {b:#06x}: {x} is not {y}");
            }
        }
    }

    #[test]
    fn doubles_round_and_integers_keep_their_value() {
        let third = to(&(1.0f64 / 3.0).to_le_bytes(), Stored::F64, DType::F32);
        assert_eq!(third, Tensor::new(&[1], vec![1.0f32 / 3.0]));
        assert_eq!(to(&[0xff], Stored::I8, DType::I64), Tensor::new(&[1], vec![-1i64]));
        assert_eq!(to(&[0xff], Stored::U8, DType::F32), Tensor::new(&[1], vec![255.0f32]));
        assert_eq!(to(&i64::MIN.to_le_bytes(), Stored::I64, DType::F64), Tensor::new(&[1], vec![i64::MIN as f64]));
        assert_eq!(to(&[0, 3], Stored::U8, DType::Bool), Tensor::new(&[2], vec![false, true]));
        assert_eq!(to(&[0, 2], Stored::Bool, DType::Bool), Tensor::new(&[2], vec![false, true]));
        let large = convert(Bytes::copy_from_slice(&u64::MAX.to_le_bytes()), Stored::U64, DType::I64);
        assert!(large.expect_err("too large").contains("18446744073709551615"));
    }

    #[test]
    fn the_same_type_is_not_copied() {
        let bytes = Bytes::from(vec![1u8; 64]);
        for (from, dtype) in [(Stored::F32, DType::F32), (Stored::I64, DType::I64), (Stored::Bool, DType::Bool)] {
            assert_eq!(convert(bytes.clone(), from, dtype).expect("the same").as_ptr(), bytes.as_ptr());
        }
    }
}
