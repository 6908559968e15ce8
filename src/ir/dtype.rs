//! Element types. Only what the interpreter can compute with; narrower storage types
//! (f16, bf16, …) are converted where a checkpoint is read.

use std::fmt;

/// The element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// 32-bit IEEE 754 float: what models compute in.
    F32,
    /// 64-bit IEEE 754 float: gradient checks and references.
    F64,
    /// 64-bit signed integer: indices and counters.
    I64,
    /// Truth value, one byte in files.
    Bool,
}

impl DType {
    /// Every type, in declaration order.
    pub const ALL: [Self; 4] = [Self::F32, Self::F64, Self::I64, Self::Bool];

    /// The name used by the text form: `f32`, `f64`, `i64`, `bool`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::I64 => "i64",
            Self::Bool => "bool",
        }
    }

    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F64 | Self::I64 => 8,
            Self::Bool => 1,
        }
    }

    /// True for `f32` and `f64`.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }

    /// The type with this text-form name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.name() == name)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
