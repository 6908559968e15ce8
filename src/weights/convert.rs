//! Stored elements to the types the rest of the crate computes with.
//!
//! Floats round to nearest even; integers never change value (one that does not fit is an
//! error); bytes that already have the wanted form are passed through without a copy.

use crate::ir::{DType, Element, Number};
use crate::with_dtype;
use bytes::Bytes;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Converts whole elements of type `from` to `to`, a pair that [`Stored::converts_to`](super::Stored::converts_to) allows.
pub(super) fn convert(bytes: Bytes, from: DType, to: DType) -> Result<Bytes, String> {
    match (from, to) {
        // Writers other than PyTorch store true as any non-zero byte.
        (DType::Bool, DType::Bool) if bytes.iter().any(|&b| b > 1) => each::<bool, bool>(&bytes),
        _ if from == to => Ok(bytes),
        (DType::F16, DType::F32) => Ok(halves(&bytes, f16::from_bits, |h: &[f16], out| h.convert_to_f32_slice(out))),
        (DType::BF16, DType::F32) => Ok(halves(&bytes, bf16::from_bits, |h: &[bf16], out| h.convert_to_f32_slice(out))),
        _ => with_dtype!(from, A => with_dtype!(to, B => each::<A, B>(&bytes))),
    }
}

fn each<A: Element, B: Element>(bytes: &[u8]) -> Result<Bytes, String> {
    let elements = A::collect(bytes);
    let mut out = Vec::with_capacity(elements.len() * B::DTYPE.size());
    for x in elements {
        let (x, y) = (x.number(), B::from_number(x.number()));
        if let Number::Int(n) = x
            && B::DTYPE.is_number()
            && y.number() != x
        {
            return Err(format!("the value {n} does not fit {}", B::DTYPE));
        }
        y.put(&mut out);
    }
    Ok(out.into())
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

    fn to(bytes: &[u8], from: DType, to: DType) -> Tensor {
        let n = bytes.len() / from.size();
        let out = convert(Bytes::copy_from_slice(bytes), from, to).expect("convertible");
        Tensor::from_le_bytes(to, &[n], &out).expect("whole elements")
    }

    #[test]
    fn every_half_widens_exactly() {
        let bits: Vec<u16> = (0..=u16::MAX).collect();
        let bytes: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
        for (stored, widen) in [
            (DType::F16, (|b| f16::from_bits(b).to_f32()) as fn(u16) -> f32),
            (DType::BF16, |b| bf16::from_bits(b).to_f32()),
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
        let third = to(&(1.0f64 / 3.0).to_le_bytes(), DType::F64, DType::F32);
        assert_eq!(third, Tensor::new(&[1], vec![1.0f32 / 3.0]));
        let third = to(&(1.0f32 / 3.0).to_le_bytes(), DType::F32, DType::F16);
        assert_eq!(third, Tensor::new(&[1], vec![f16::from_bits(0x3555)]));
        assert_eq!(to(&[0xff], DType::I8, DType::I64), Tensor::new(&[1], vec![-1i64]));
        assert_eq!(to(&[0xff], DType::U8, DType::I32), Tensor::new(&[1], vec![255i32]));
        assert_eq!(to(&(-5i64).to_le_bytes(), DType::I64, DType::I8), Tensor::new(&[1], vec![-5i8]));
        assert_eq!(to(&[0, 3], DType::U8, DType::Bool), Tensor::new(&[2], vec![false, true]));
        assert_eq!(to(&[0, 2], DType::Bool, DType::Bool), Tensor::new(&[2], vec![false, true]));
        let large = convert(Bytes::copy_from_slice(&i64::MAX.to_le_bytes()), DType::I64, DType::I32);
        assert_eq!(large.expect_err("too large"), "the value 9223372036854775807 does not fit i32");
        assert!(convert(Bytes::copy_from_slice(&[0xff]), DType::I8, DType::U8).is_err());
    }

    #[test]
    fn the_same_type_is_not_copied() {
        let bytes = Bytes::from(vec![1u8; 64]);
        for dtype in DType::ALL {
            assert_eq!(convert(bytes.clone(), dtype, dtype).expect("the same").as_ptr(), bytes.as_ptr());
        }
    }
}
