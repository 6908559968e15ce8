//! Element types of ONNX tensors, by the numbers of `TensorProto.DataType`.
//!
//! Numbers that are not in the table are kept as they are, so that newer files can be inspected.

use std::fmt;

macro_rules! elem_types {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $bits:expr, $name:literal;)*) => {
        /// The element type of a tensor. `Display` gives a short name: `f32`, `i64`, `bf16`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum ElemType {
            $($(#[$doc])* $variant,)*
            /// A number this table does not name.
            Other(i32),
        }

        impl ElemType {
            /// The type with this number in `TensorProto.DataType`.
            pub const fn from_number(number: i32) -> Self {
                match number {
                    $($number => Self::$variant,)*
                    other => Self::Other(other),
                }
            }

            /// The number in `TensorProto.DataType`.
            pub const fn number(self) -> i32 {
                match self {
                    $(Self::$variant => $number,)*
                    Self::Other(number) => number,
                }
            }

            /// Bits of one element, or `None` where elements have no fixed size or it is not known.
            pub const fn bits(self) -> Option<u64> {
                match self {
                    $(Self::$variant => $bits,)*
                    Self::Other(_) => None,
                }
            }
        }

        impl fmt::Display for ElemType {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant => f.write_str($name),)*
                    Self::Other(number) => write!(f, "type{number}"),
                }
            }
        }
    };
}

elem_types! {
    /// No type given.
    Undefined = 0, None, "undefined";
    /// IEEE single precision.
    Float = 1, Some(32), "f32";
    /// Unsigned, 8 bits.
    Uint8 = 2, Some(8), "u8";
    /// Signed, 8 bits.
    Int8 = 3, Some(8), "i8";
    /// Unsigned, 16 bits.
    Uint16 = 4, Some(16), "u16";
    /// Signed, 16 bits.
    Int16 = 5, Some(16), "i16";
    /// Signed, 32 bits.
    Int32 = 6, Some(32), "i32";
    /// Signed, 64 bits.
    Int64 = 7, Some(64), "i64";
    /// Byte strings of any length.
    String = 8, None, "string";
    /// One byte, 0 or 1.
    Bool = 9, Some(8), "bool";
    /// IEEE half precision.
    Float16 = 10, Some(16), "f16";
    /// IEEE double precision.
    Double = 11, Some(64), "f64";
    /// Unsigned, 32 bits.
    Uint32 = 12, Some(32), "u32";
    /// Unsigned, 64 bits.
    Uint64 = 13, Some(64), "u64";
    /// Two `f32`: real and imaginary part.
    Complex64 = 14, Some(64), "c64";
    /// Two `f64`: real and imaginary part.
    Complex128 = 15, Some(128), "c128";
    /// The upper half of an `f32`.
    Bfloat16 = 16, Some(16), "bf16";
    /// 8-bit float, 4 bits of exponent, no infinities.
    Float8E4M3Fn = 17, Some(8), "f8e4m3fn";
    /// As `Float8E4M3Fn`, without negative zero.
    Float8E4M3FnUz = 18, Some(8), "f8e4m3fnuz";
    /// 8-bit float, 5 bits of exponent.
    Float8E5M2 = 19, Some(8), "f8e5m2";
    /// As `Float8E5M2`, without infinities and negative zero.
    Float8E5M2FnUz = 20, Some(8), "f8e5m2fnuz";
    /// Unsigned, two to a byte.
    Uint4 = 21, Some(4), "u4";
    /// Signed, two to a byte.
    Int4 = 22, Some(4), "i4";
    /// 4-bit float, two to a byte.
    Float4E2M1 = 23, Some(4), "f4e2m1";
    /// A power of two.
    Float8E8M0 = 24, Some(8), "f8e8m0";
    /// Unsigned, four to a byte.
    Uint2 = 25, Some(2), "u2";
    /// Signed, four to a byte.
    Int2 = 26, Some(2), "i2";
}

impl ElemType {
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
    }

    #[test]
    fn sizes() {
        assert_eq!(ElemType::Float.byte_len(3), Some(12));
        assert_eq!(ElemType::Int4.byte_len(3), Some(2));
        assert_eq!(ElemType::String.byte_len(3), None);
        assert_eq!(ElemType::Other(99).byte_len(0), None);
        assert_eq!(ElemType::Double.byte_len(u64::MAX / 8), None);
    }
}
