//! Element types of ONNX tensors, by the numbers of `TensorProto.DataType`.
//!
//! Types that this tool computes with are [`DType`]s; the others are listed here so that they can be named and measured.
//! Numbers that are in neither table are kept as they are, so that newer files can be inspected.

use crate::ir::DType;
use std::fmt;

/// The element type of a tensor. `Display` gives a short name: `f32`, `i64`, `u4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ElemType {
    /// One that is computed with.
    Known(DType),
    /// Another one: its number, which is no [`DType`]'s.
    Other(i32),
}

/// Number, bits of one element where they are fixed, and name of the types that are not computed with.
const OTHERS: [(i32, Option<u64>, &str); 18] = [
    (0, None, "undefined"),
    (4, Some(16), "u16"),
    (5, Some(16), "i16"),
    (8, None, "string"),
    (12, Some(32), "u32"),
    (13, Some(64), "u64"),
    (14, Some(64), "c64"),
    (15, Some(128), "c128"),
    (17, Some(8), "f8e4m3fn"),
    (18, Some(8), "f8e4m3fnuz"),
    (19, Some(8), "f8e5m2"),
    (20, Some(8), "f8e5m2fnuz"),
    (21, Some(4), "u4"),
    (22, Some(4), "i4"),
    (23, Some(4), "f4e2m1"),
    (24, Some(8), "f8e8m0"),
    (25, Some(2), "u2"),
    (26, Some(2), "i2"),
];

impl From<DType> for ElemType {
    fn from(dtype: DType) -> Self {
        Self::Known(dtype)
    }
}

impl fmt::Display for ElemType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.other()) {
            (Self::Known(dtype), _) => f.write_str(dtype.name()),
            (_, Some((_, _, name))) => f.write_str(name),
            (Self::Other(number), None) => write!(f, "type{number}"),
        }
    }
}

impl ElemType {
    /// No type given.
    pub const UNDEFINED: Self = Self::Other(0);
    /// Byte strings of any length.
    pub const STRING: Self = Self::Other(8);

    /// The type with this number in `TensorProto.DataType`.
    pub fn from_number(number: i32) -> Self {
        DType::from_onnx(number).map_or(Self::Other(number), Self::Known)
    }

    /// The number in `TensorProto.DataType`.
    pub const fn number(self) -> i32 {
        match self {
            Self::Known(dtype) => dtype.onnx(),
            Self::Other(number) => number,
        }
    }

    /// The type as one that is computed with.
    pub const fn dtype(self) -> Option<DType> {
        match self {
            Self::Known(dtype) => Some(dtype),
            Self::Other(_) => None,
        }
    }

    fn other(self) -> Option<(i32, Option<u64>, &'static str)> {
        OTHERS.into_iter().find(|&(number, ..)| Self::Other(number) == self)
    }

    /// Bits of one element, or `None` where elements have no fixed size or it is not known.
    pub fn bits(self) -> Option<u64> {
        match self {
            Self::Known(dtype) => Some(8 * dtype.size() as u64),
            Self::Other(_) => self.other()?.1,
        }
    }

    /// Bytes that `elements` of this type take, the last byte filled up; `None` where [`bits`](Self::bits) is, and on
    /// overflow.
    pub fn byte_len(self, elements: u64) -> Option<u64> {
        Some(elements.checked_mul(self.bits()?)?.div_ceil(8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_back() {
        for n in -1..40 {
            assert_eq!(ElemType::from_number(n).number(), n);
        }
        assert_eq!(ElemType::from_number(31).to_string(), "type31");
        assert_eq!(ElemType::from_number(21).to_string(), "u4");
        assert!(OTHERS.iter().all(|&(n, ..)| DType::from_onnx(n).is_none()), "no type is in both tables");
    }

    #[test]
    fn sizes() {
        assert_eq!(ElemType::from(DType::F32).byte_len(3), Some(12));
        assert_eq!(ElemType::Other(22).byte_len(3), Some(2));
        assert_eq!(ElemType::STRING.byte_len(3), None);
        assert_eq!(ElemType::Other(99).byte_len(0), None);
        assert_eq!(ElemType::from(DType::F64).byte_len(u64::MAX / 8), None);
    }
}
