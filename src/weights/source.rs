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
        const OTHERS: &str = "i16 u16 u32 u64 c64 f4 f6_e2m3 f6_e3m2 f8_e4m3 f8_e4m3fnuz f8_e5m2 f8_e5m2fnuz f8_e8m0";
        let ours = DType::ALL.into_iter().find(|d| d.safetensors().eq_ignore_ascii_case(name));
        let other = || OTHERS.split(' ').find(|o| o.eq_ignore_ascii_case(name)).unwrap_or("a type of no known name");
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

    /// The file and the range of it that is `bytes(index)`, where there is one: parts of such a tensor are read by
    /// themselves and copied by the kernel.
    fn place(&self, _index: usize) -> Option<Place<'_>> {
        None
    }

    /// Bytes `range` of `bytes(index)`.
    fn part(&self, index: usize, range: Range<u64>) -> Result<Bytes, WeightError> {
        let failed = |what: String| WeightError::tensor(self.origin(), &self.entries()[index].name, what);
        let beyond = || failed(format!("it has no bytes {} to {}", range.start, range.end));
        if let Some(place) = self.place(index) {
            let part = place.part(&range).ok_or_else(beyond)?;
            let file = place.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            return files::map_range(&file, part).map_err(|e| failed(e.to_string()));
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
    let few = || format!("there are {} tensors only", source.entries().len());
    source.entries().get(index).ok_or_else(|| WeightError::tensor(source.origin(), &format!("#{index}"), few()))
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
    let failed = |what: String| WeightError::tensor(source.origin(), &entry.name, what);
    let Some(from) = entry.stored.dtype().filter(|_| entry.stored.converts_to(dtype)) else {
        let (name, origin) = (entry.name.clone(), source.origin().to_owned());
        return Err(WeightError::Conversion { name, origin, from: entry.stored, to: dtype });
    };
    let bytes = if range == (0..entry.elements()) {
        source.bytes(index)?
    } else {
        source.part(index, (range.start * from.size()) as u64..(range.end * from.size()) as u64)?
    };
    let expected = range.len().checked_mul(from.size());
    if expected != Some(bytes.len()) {
        let expected = expected.unwrap_or(usize::MAX);
        return Err(failed(format!("{entry} takes {expected} bytes, found {}", bytes.len())));
    }
    convert(bytes, from, dtype).map_err(failed)
}

/// Entry `index` as a tensor of `dtype`.
pub fn tensor(source: &dyn Source, index: usize, dtype: DType) -> Result<Tensor, WeightError> {
    let bytes = read(source, index, dtype)?;
    let entry = entry_of(source, index)?;
    Ok(Tensor::from_le_bytes(dtype, &entry.shape, &bytes).expect("`read` returns the declared number of elements"))
}
