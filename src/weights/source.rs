//! The view every checkpoint format offers: a table of entries, and bytes on demand.
//!
//! Invariant: `bytes(i)` is exactly the row-major little-endian elements that `entries()[i]`
//! declares, or an error. Knows no file format and no naming rules.

use super::WeightError;
use super::convert::convert;
use crate::ir::{DType, Tensor};
use bytes::Bytes;
use std::fmt;

/// The element type a checkpoint stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Stored {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    /// One byte per element, zero is false.
    Bool,
    /// A type that can be listed but not converted (8-bit floats, complex numbers).
    Other(&'static str),
}

impl Stored {
    /// Bytes per element; `None` for [`Stored::Other`].
    pub const fn size(self) -> Option<usize> {
        Some(match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::Other(_) => return None,
        })
    }

    /// The type computed with that has the same representation, if there is one.
    pub const fn same_as(self) -> Option<DType> {
        match self {
            Self::F64 => Some(DType::F64),
            Self::F32 => Some(DType::F32),
            Self::I64 => Some(DType::I64),
            Self::Bool => Some(DType::Bool),
            _ => None,
        }
    }

    /// Whether values of this type may be used where `to` is wanted: anything numeric as a
    /// float, only integers and truth values as integers or truth values.
    pub const fn converts_to(self, to: DType) -> bool {
        match self {
            Self::Other(_) => false,
            Self::F64 | Self::F32 | Self::F16 | Self::BF16 => to.is_float(),
            _ => true,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::I16 => "i16",
            Self::I8 => "i8",
            Self::U64 => "u64",
            Self::U32 => "u32",
            Self::U16 => "u16",
            Self::U8 => "u8",
            Self::Bool => "bool",
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub name: String,
    /// Its element type in the file.
    pub stored: Stored,
    /// Sizes of its axes; empty for a scalar. The product fits `usize`.
    pub shape: Vec<usize>,
}

impl Entry {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Type and shape, as in `f16[1, 65, 24]`.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.stored, self.shape)
    }
}

/// A checkpoint: tensors by index, in an order that depends on the file's contents only.
pub trait Source: Send + Sync {
    /// What to call this checkpoint in messages, normally its path.
    fn origin(&self) -> &str;

    /// The tensors, names unique.
    fn entries(&self) -> &[Entry];

    /// Row-major little-endian elements of `entries()[index]`, as stored. An index out of range is an error.
    fn bytes(&self, index: usize) -> Result<Bytes, WeightError>;
}

impl fmt::Debug for dyn Source + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} tensors)", self.origin(), self.entries().len())
    }
}

/// The entry at `index`, or an error that names the checkpoint.
pub(super) fn entry_of(source: &dyn Source, index: usize) -> Result<&Entry, WeightError> {
    source.entries().get(index).ok_or_else(|| WeightError::Tensor {
        name: format!("#{index}"),
        origin: source.origin().to_owned(),
        what: format!("there are {} tensors only", source.entries().len()),
    })
}

/// Elements of entry `index` as row-major little-endian `dtype`. Nothing is copied when the
/// file stores that type already.
pub fn read(source: &dyn Source, index: usize, dtype: DType) -> Result<Bytes, WeightError> {
    let entry = entry_of(source, index)?;
    let (name, origin) = (|| entry.name.clone(), || source.origin().to_owned());
    if !entry.stored.converts_to(dtype) {
        return Err(WeightError::Conversion { name: name(), origin: origin(), from: entry.stored, to: dtype });
    }
    let bytes = source.bytes(index)?;
    let expected = entry.stored.size().and_then(|size| entry.elements().checked_mul(size));
    if expected != Some(bytes.len()) {
        let what = format!("{entry} takes {} bytes, found {}", expected.unwrap_or(usize::MAX), bytes.len());
        return Err(WeightError::Tensor { name: name(), origin: origin(), what });
    }
    convert(bytes, entry.stored, dtype).map_err(|what| WeightError::Tensor { name: name(), origin: origin(), what })
}

/// Entry `index` as a tensor of `dtype`.
pub fn tensor(source: &dyn Source, index: usize, dtype: DType) -> Result<Tensor, WeightError> {
    let bytes = read(source, index, dtype)?;
    let entry = entry_of(source, index)?;
    Ok(Tensor::from_le_bytes(dtype, &entry.shape, &bytes).expect("`read` returns the declared number of elements"))
}
