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
pub enum Stored {
    /// One that is computed with.
    Known(DType),
    /// One that is listed by this name and not read.
    Other(&'static str),
}

impl From<DType> for Stored {
    fn from(dtype: DType) -> Self {
        Self::Known(dtype)
    }
}

impl Stored {
    /// The type that file formats call so, in upper or lower case: `F16`, `BOOL`, `F8_E4M3`.
    pub fn named(name: &str) -> Self {
        const OTHERS: [&str; 13] = [
            "i16",
            "u16",
            "u32",
            "u64",
            "c64",
            "f4",
            "f6_e2m3",
            "f6_e3m2",
            "f8_e4m3",
            "f8_e4m3fnuz",
            "f8_e5m2",
            "f8_e5m2fnuz",
            "f8_e8m0",
        ];
        let ours = DType::ALL.into_iter().find(|d| d.safetensors().eq_ignore_ascii_case(name));
        let other = || OTHERS.into_iter().find(|o| o.eq_ignore_ascii_case(name)).unwrap_or("a type of no known name");
        ours.map_or_else(|| Self::Other(other()), Self::Known)
    }

    /// The type as one that is computed with.
    pub const fn dtype(self) -> Option<DType> {
        match self {
            Self::Known(dtype) => Some(dtype),
            Self::Other(_) => None,
        }
    }

    /// Whether values of this type may be used where `to` is wanted: floats as floats, integers and truth values as
    /// integers or truth values. Integers are no floats: those of a quantized model mean nothing without their scale.
    pub const fn converts_to(self, to: DType) -> bool {
        match self {
            Self::Known(from) => from.is_float() == to.is_float(),
            Self::Other(_) => false,
        }
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Known(dtype) => dtype.name(),
            Self::Other(name) => name,
        })
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
    let Some(from) = entry.stored.dtype().filter(|_| entry.stored.converts_to(dtype)) else {
        return Err(WeightError::Conversion { name: name(), origin: origin(), from: entry.stored, to: dtype });
    };
    let bytes = source.bytes(index)?;
    let expected = entry.elements().checked_mul(from.size());
    if expected != Some(bytes.len()) {
        let what = format!("{entry} takes {} bytes, found {}", expected.unwrap_or(usize::MAX), bytes.len());
        return Err(WeightError::Tensor { name: name(), origin: origin(), what });
    }
    convert(bytes, from, dtype).map_err(|what| WeightError::Tensor { name: name(), origin: origin(), what })
}

/// Entry `index` as a tensor of `dtype`.
pub fn tensor(source: &dyn Source, index: usize, dtype: DType) -> Result<Tensor, WeightError> {
    let bytes = read(source, index, dtype)?;
    let entry = entry_of(source, index)?;
    Ok(Tensor::from_le_bytes(dtype, &entry.shape, &bytes).expect("`read` returns the declared number of elements"))
}
