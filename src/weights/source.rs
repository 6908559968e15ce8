//! The view every checkpoint format offers: a table of entries, and bytes on demand, of a whole tensor or a part of it.
//!
//! Invariant: `bytes(i)` is exactly the row-major little-endian elements that `entries()[i]`
//! declares, or an error. Knows no file format and no naming rules.

use super::WeightError;
use super::convert::convert;
use crate::files;
use crate::ir::{DType, Tensor};
use bytes::Bytes;
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::sync::Mutex;

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

    /// The file and the range of it that is `bytes(index)`, where there is one: parts of such a tensor are read by
    /// themselves and copied by the kernel.
    fn place(&self, _index: usize) -> Option<Place<'_>> {
        None
    }

    /// Bytes `range` of `bytes(index)`.
    fn part(&self, index: usize, range: Range<u64>) -> Result<Bytes, WeightError> {
        let (name, origin) = (|| self.entries()[index].name.clone(), || self.origin().to_owned());
        let beyond = || WeightError::Tensor {
            name: name(),
            origin: origin(),
            what: format!("it has no bytes {} to {}", range.start, range.end),
        };
        if let Some(place) = self.place(index) {
            let part = place.part(&range).ok_or_else(beyond)?;
            let file = place.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let wrong = |e: std::io::Error| WeightError::Tensor { name: name(), origin: origin(), what: e.to_string() };
            return files::map_range(&file, part).map_err(wrong);
        }
        let all = self.bytes(index)?;
        if range.start > range.end || range.end > all.len() as u64 {
            return Err(beyond());
        }
        Ok(all.slice(range.start as usize..range.end as usize))
    }
}

/// Where the bytes of a tensor stand in a file.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// The file; locked, because copies move its position.
    pub file: &'a Mutex<File>,
    /// The tensor's bytes.
    pub range: Range<u64>,
}

impl Place<'_> {
    /// The range of the file that is this range of the tensor's bytes.
    pub fn part(&self, bytes: &Range<u64>) -> Option<Range<u64>> {
        let inside = bytes.start <= bytes.end && bytes.end <= self.range.end - self.range.start;
        inside.then(|| self.range.start + bytes.start..self.range.start + bytes.end)
    }
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
    let elements = entry_of(source, index)?.elements();
    read_part(source, index, 0..elements, dtype)
}

/// The elements `range` of entry `index`, in row-major order, as little-endian `dtype`. Where the tensor stands in a
/// file as it is, nothing else of it is read.
pub fn read_part(source: &dyn Source, index: usize, range: Range<usize>, dtype: DType) -> Result<Bytes, WeightError> {
    let entry = entry_of(source, index)?;
    let (name, origin) = (|| entry.name.clone(), || source.origin().to_owned());
    if !entry.stored.converts_to(dtype) {
        return Err(WeightError::Conversion { name: name(), origin: origin(), from: entry.stored, to: dtype });
    }
    let size = entry.stored.size().unwrap_or(0);
    let bytes = if range == (0..entry.elements()) {
        source.bytes(index)?
    } else {
        source.part(index, (range.start * size) as u64..(range.end * size) as u64)?
    };
    let expected = range.len().checked_mul(size);
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
