//! Named constant tensors and their bytes.
//!
//! Bytes are row-major and little-endian. No allocation here depends on `dims`.

use super::ElemType;
use crate::ir::DType;
use bytes::Bytes;

/// A named tensor stored in the model: a weight, or the value of a tensor attribute.
#[derive(Clone, Debug, PartialEq)]
pub struct Initializer {
    /// The value it defines.
    pub name: String,
    /// Type of the elements.
    pub elem: ElemType,
    /// Extents, outermost first; empty for a scalar.
    pub dims: Vec<i64>,
    /// The elements, or where they are.
    pub data: TensorData,
}

/// The elements of an [`Initializer`], or where they are.
#[derive(Clone, Debug, PartialEq)]
pub enum TensorData {
    /// Bytes in memory: row-major, little-endian.
    Inline(Bytes),
    /// Bytes in another file, not read yet.
    External {
        /// Path relative to the folder of the model.
        location: String,
        /// First byte.
        offset: u64,
        /// Number of bytes; if not given, as many as type and extents ask for.
        length: Option<u64>,
    },
    /// Supplied when the model is written.
    Deferred,
    /// Elements of a [`ElemType::STRING`] tensor.
    Strings(Vec<Bytes>),
}

impl Initializer {
    /// Creates a tensor with its bytes.
    pub fn inline(name: impl Into<String>, elem: impl Into<ElemType>, dims: &[i64], data: impl Into<Bytes>) -> Self {
        Self { name: name.into(), elem: elem.into(), dims: dims.to_vec(), data: TensorData::Inline(data.into()) }
    }

    /// Creates a tensor whose bytes are supplied when the model is written.
    pub fn deferred(name: impl Into<String>, elem: impl Into<ElemType>, dims: &[i64]) -> Self {
        Self { name: name.into(), elem: elem.into(), dims: dims.to_vec(), data: TensorData::Deferred }
    }

    /// Creates a vector of integers: shapes, axes, starts and ends.
    pub fn int64s(name: impl Into<String>, values: &[i64]) -> Self {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self::inline(name, DType::I64, &[values.len() as i64], data)
    }

    /// Creates an integer scalar.
    pub fn int64(name: impl Into<String>, value: i64) -> Self {
        Self::inline(name, DType::I64, &[], value.to_le_bytes().to_vec())
    }

    /// Creates a single-precision scalar.
    pub fn float(name: impl Into<String>, value: f32) -> Self {
        Self::inline(name, DType::F32, &[], value.to_le_bytes().to_vec())
    }

    /// Returns the number of elements, or `None` if an extent is negative or the product overflows.
    pub fn element_count(&self) -> Option<u64> {
        // A zero extent makes the product zero even where the others would overflow.
        let dims: Vec<u64> = self.dims.iter().map(|&d| u64::try_from(d).ok()).collect::<Option<_>>()?;
        if dims.contains(&0) { Some(0) } else { dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d)) }
    }

    /// Returns the size of the elements in bytes, or `None` if their number or the size of one is not known.
    pub fn byte_len(&self) -> Option<u64> {
        self.elem.byte_len(self.element_count()?)
    }

    /// Returns how many bytes (or strings) type and extents ask for, or why the elements in memory are not as many.
    pub(super) fn checked_len(&self) -> Result<u64, String> {
        let (expected, found, unit) = match &self.data {
            TensorData::Strings(_) if self.elem != ElemType::STRING => (None, None, "strings"),
            TensorData::Strings(strings) => (self.element_count(), Some(strings.len()), "strings"),
            TensorData::Inline(data) => (self.byte_len(), Some(data.len()), "bytes"),
            TensorData::External { .. } | TensorData::Deferred => (self.byte_len(), None, "bytes"),
        };
        let expected =
            expected.ok_or("the size is not known (negative extents, overflow or a type of no fixed size)")?;
        match found {
            Some(found) if found as u64 != expected => Err(format!("{expected} {unit} expected, {found} found")),
            _ => Ok(expected),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lying_extents_have_no_size() {
        let size = |dims: &[i64]| Initializer::deferred("w", DType::F32, dims).byte_len();
        assert_eq!(size(&[]), Some(4));
        assert_eq!(size(&[2, 3]), Some(24));
        assert_eq!(size(&[0, i64::MAX, i64::MAX]), Some(0));
        assert_eq!(size(&[i64::MAX, 3]), None);
        assert_eq!(size(&[i64::MAX]), None, "the bytes overflow although the elements do not");
        assert_eq!(size(&[-1]), None);
    }

    #[test]
    fn small_constants_are_little_endian() {
        let shape = Initializer::int64s("shape", &[-1, 2]);
        assert_eq!(shape.dims, [2]);
        let TensorData::Inline(data) = shape.data else { panic!("constants are inline") };
        assert_eq!(data[..], [255, 255, 255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 0, 0, 0]);
    }
}
