//! Element types: the one table of what tensors consist of.
//!
//! [`dtypes!`](crate::dtypes) hands its rows to another macro. The enum [`DType`] here, the variants of
//! [`Tensor`](super::Tensor), the impls of [`Element`](super::Element) and every conversion between a type and what a
//! file format calls it come from those rows. Formats have more element types; each reader keeps those by name only.

use super::Element;
use std::fmt;

/// Calls a macro with the table: `dtypes!([name] tokens)` expands to `name! { tokens; rows }`. A row is
/// `Variant: RustType, "text name", Kind, number in ONNX's TensorProto.DataType, "safetensors code";`.
#[doc(hidden)]
#[macro_export]
macro_rules! dtypes {
    ([$($then:tt)*] $($tokens:tt)*) => {
        $($then)* ! { $($tokens)*;
            F64: f64, "f64", Float, 11, "F64";
            F32: f32, "f32", Float, 1, "F32";
            F16: half::f16, "f16", Half, 10, "F16";
            BF16: half::bf16, "bf16", Half, 16, "BF16";
            I64: i64, "i64", Int, 7, "I64";
            I32: i32, "i32", Int, 6, "I32";
            I8: i8, "i8", Int, 3, "I8";
            U8: u8, "u8", Int, 2, "U8";
            Bool: bool, "bool", Bool, 9, "BOOL";
        }
    };
}

/// Runs `$body` with the type alias `$a` for the Rust type of a [`DType`].
#[doc(hidden)]
#[macro_export]
macro_rules! with_dtype {
    ($dtype:expr, $a:ident => $body:expr) => { $crate::dtypes!([$crate::with_dtype] @arms $dtype, $a => $body) };
    (@arms $dtype:expr, $a:ident => $body:expr; $($v:ident: $t:ty, $name:literal, $kind:ident, $onnx:literal, $code:literal;)*) => {
        match $dtype { $($crate::ir::DType::$v => { type $a = $t; $body })* }
    };
}

/// What the elements of a type are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Floats that ops compute in.
    Float,
    /// Floats of 16 bits: ops compute in `f32` and round the result.
    Half,
    /// Integers: ops compute in `i64` and wrap the result.
    Int,
    /// Truth values.
    Bool,
}

macro_rules! dtype {
    (; $($v:ident: $t:ty, $name:literal, $kind:ident, $onnx:literal, $code:literal;)*) => {
        /// The element type of a tensor, named as the Rust type of its elements.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs)]
        pub enum DType { $($v,)* }

        impl DType {
            /// Every type, in declaration order.
            pub const ALL: [Self; [$(Self::$v),*].len()] = [$(Self::$v),*];

            /// The name used by the text form: `f32`, `bf16`, `i64`, `bool`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$v => $name,)* }
            }

            /// Bytes per element.
            pub const fn size(self) -> usize {
                match self { $(Self::$v => size_of::<$t>(),)* }
            }

            /// What the elements are.
            pub const fn kind(self) -> Kind {
                match self { $(Self::$v => Kind::$kind,)* }
            }

            /// The number in ONNX's `TensorProto.DataType`.
            pub const fn onnx(self) -> i32 {
                match self { $(Self::$v => $onnx,)* }
            }

            /// The code in the header of a safetensors file.
            pub const fn safetensors(self) -> &'static str {
                match self { $(Self::$v => $code,)* }
            }
        }
    };
}
crate::dtypes!([dtype]);

impl DType {
    /// True for floats, the 16-bit ones too.
    pub const fn is_float(self) -> bool {
        matches!(self.kind(), Kind::Float | Kind::Half)
    }

    /// True for floats and integers.
    pub const fn is_number(self) -> bool {
        !matches!(self.kind(), Kind::Bool)
    }

    /// The type that ops compute in when their operands have this one.
    pub const fn computes_in(self) -> Self {
        match self.kind() {
            Kind::Half => Self::F32,
            Kind::Int => Self::I64,
            Kind::Float | Kind::Bool => self,
        }
    }

    /// The type with this text-form name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.name() == name)
    }

    /// The type with this number in ONNX's `TensorProto.DataType`.
    pub fn from_onnx(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.onnx() == number)
    }

    /// The names of all types, for messages: `f64, f32, …`.
    pub fn names() -> String {
        Self::ALL.iter().map(|d| d.name()).collect::<Vec<_>>().join(", ")
    }

    /// `x` as an element of this type holds it: rounded to nearest even by floats, truncated by integers.
    pub fn round(self, x: f64) -> f64 {
        with_dtype!(self, A => A::from_number(x.into()).to_f64())
    }

    /// Whether `x` as an element of this type is neither lost nor infinite nor subnormal.
    pub fn is_normal(self, x: f64) -> bool {
        with_dtype!(self, A => A::from_number(x.into()).is_normal())
    }

    /// `x`, an element of this type, rounded to the fewest decimal digits that read back as the same element: what an
    /// author wrote as `1e-5` is `1e-5` again.
    pub fn decimal(self, x: f64) -> f64 {
        let rounded = |digits| format!("{x:.digits$e}").parse().ok().filter(|&y: &f64| self.round(y) == x);
        match self.kind() {
            Kind::Half => (0..5).find_map(rounded).unwrap_or(x),
            _ if self == Self::F32 => (x as f32).to_string().parse().unwrap_or(x),
            _ => x,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_unique_and_read_back() {
        for d in DType::ALL {
            assert_eq!(DType::parse(d.name()), Some(d));
            assert_eq!(DType::from_onnx(d.onnx()), Some(d));
            assert_eq!(DType::ALL.iter().filter(|e| e.safetensors() == d.safetensors()).count(), 1);
        }
        assert_eq!((DType::parse("u16"), DType::from_onnx(4)), (None, None));
    }

    #[test]
    fn decimals_are_those_an_author_wrote() {
        assert_eq!(DType::F32.decimal(f64::from(1e-5f32)), 1e-5);
        assert_eq!(DType::F16.decimal(DType::F16.round(1e-5)), 1e-5);
        assert_eq!(DType::BF16.decimal(DType::BF16.round(0.1)), 0.1);
        assert_eq!(DType::F16.decimal(65504.0), 65500.0);
        assert_eq!(DType::F64.decimal(1.0 / 3.0), 1.0 / 3.0);
        assert_eq!(DType::I8.decimal(-128.0), -128.0);
    }
}
