//! Memory-mapped safetensors files.
//!
//! The header is parsed and validated by the `safetensors` crate (offsets contiguous, sizes
//! equal to shape × type); that it ends where the file ends is checked here, with numbers in
//! the message. Every value is mapped on its own when it is asked for, so a large file passes
//! through memory tensor by tensor.

use super::WeightError;
use super::source::{Entry, Place, Source, Stored, entry_of};
use crate::files;
use ::safetensors::tensor::Metadata;
use bytes::Bytes;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The header's own limit in the reference implementation.
const MAX_HEADER: u64 = 100_000_000;

/// A safetensors file, its entries in file order.
#[derive(Debug)]
pub struct Safetensors {
    path: PathBuf,
    origin: String,
    file: Mutex<File>,
    entries: Vec<Entry>,
    ranges: Vec<Range<u64>>,
}

impl Safetensors {
    /// Maps the file and checks its header.
    pub fn open(path: &Path) -> Result<Self, WeightError> {
        let file = files::open(path).map_err(WeightError::io(path))?;
        let whole = file.metadata().and_then(|m| files::map_range(&file, 0..m.len())).map_err(WeightError::io(path))?;
        let wrong = |what: String| WeightError::Malformed { path: path.to_owned(), format: "safetensors", what };
        let length = whole
            .first_chunk::<8>()
            .map(|b| u64::from_le_bytes(*b))
            .ok_or_else(|| wrong(format!("the header length takes 8 bytes, the file has {}", whole.len())))?;
        if length > MAX_HEADER {
            return Err(wrong(format!(
                "the header claims {length} bytes, more than the format's limit of {MAX_HEADER}"
            )));
        }
        let start = 8 + length as usize;
        if start > whole.len() {
            let rest = whole.len() - 8;
            return Err(wrong(format!("the header claims {length} bytes, the file has {rest} after the length")));
        }
        let text =
            std::str::from_utf8(&whole[8..start]).map_err(|e| wrong(format!("the header is not UTF-8 text: {e}")))?;
        let header: Metadata = serde_json::from_str(text).map_err(|e| wrong(format!("the header: {e}")))?;
        let (expected, found) = (header.data_len(), whole.len() - start);
        if expected != found {
            return Err(wrong(format!("the header declares {expected} bytes of tensors, the file holds {found}")));
        }

        let mut table: Vec<_> = header.tensors().into_iter().collect();
        // Empty tensors share an offset; the name makes the order unique.
        table.sort_by(|(a, x), (b, y)| (x.data_offsets, a).cmp(&(y.data_offsets, b)));
        let place = |(a, b): (usize, usize)| (start + a) as u64..(start + b) as u64;
        let ranges = table.iter().map(|(_, i)| place(i.data_offsets)).collect();
        let entries = table
            .into_iter()
            .map(|(name, i)| Entry { name, stored: Stored::named(&i.dtype.to_string()), shape: i.shape.clone() })
            .collect();
        Ok(Self { path: path.to_owned(), origin: path.display().to_string(), file: Mutex::new(file), entries, ranges })
    }
}

impl Source for Safetensors {
    fn origin(&self) -> &str {
        &self.origin
    }

    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn bytes(&self, index: usize) -> Result<Bytes, WeightError> {
        entry_of(self, index)?;
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        files::map_range(&file, self.ranges[index].clone()).map_err(WeightError::io(&self.path))
    }

    fn place(&self, index: usize) -> Option<Place<'_>> {
        Some(Place { file: &self.file, range: self.ranges.get(index)?.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::{read, tensor};
    use super::*;
    use crate::ir::{DType, Tensor};
    use ::safetensors::Dtype;
    use ::safetensors::tensor::TensorView;

    fn parse(file: &[u8]) -> Result<Safetensors, WeightError> {
        let mut on_disk = tempfile::NamedTempFile::new().expect("a temporary file");
        std::io::Write::write_all(&mut on_disk, file).expect("it can be written");
        Safetensors::open(on_disk.path())
    }

    fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
        let mut out = (header.len() as u64).to_le_bytes().to_vec();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(data);
        out
    }

    fn sample() -> Vec<u8> {
        let (w, h, n) = ([1.0f32, -2.0].map(f32::to_le_bytes).concat(), [0x00, 0x3c], 7i64.to_le_bytes());
        let views = [
            ("w", TensorView::new(Dtype::F32, vec![2], &w).expect("a view")),
            ("h", TensorView::new(Dtype::F16, vec![1], &h).expect("a view")),
            ("n", TensorView::new(Dtype::I64, vec![], &n).expect("a view")),
        ];
        ::safetensors::serialize(views, None).expect("serialized")
    }

    #[test]
    fn reads_what_the_reference_implementation_writes() {
        let s = parse(&sample()).expect("valid");
        let index = |name: &str| s.entries().iter().position(|e| e.name == name).expect("present");
        assert_eq!(tensor(&s, index("w"), DType::F32).expect("w"), Tensor::new(&[2], vec![1.0f32, -2.0]));
        assert_eq!(tensor(&s, index("h"), DType::F32).expect("h"), Tensor::new(&[1], vec![1.0f32]));
        assert_eq!(tensor(&s, index("n"), DType::I64).expect("n"), Tensor::scalar(7i64));
        let refused = tensor(&s, index("w"), DType::I64).expect_err("a float").to_string();
        assert!(refused.starts_with("tensor `w` of "), "{refused}");
        assert!(refused.ends_with(" is stored as f32, which does not convert to i64; store it as i64"), "{refused}");
        assert!(read(&s, 3, DType::F32).expect_err("out of range").to_string().contains("3 tensors only"));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let file = sample();
        for n in 0..file.len() {
            assert!(matches!(parse(&file[..n]), Err(WeightError::Malformed { .. })), "cut at {n}");
        }
        assert!(
            parse(&[file.as_slice(), &[0]].concat())
                .expect_err("trailing")
                .to_string()
                .contains("18 bytes of tensors, the file holds 19")
        );
    }

    #[test]
    fn lying_headers_are_errors() {
        let huge = usize::MAX / 8 - 1;
        let eight: Vec<String> = (0..9)
            .map(|i| {
                format!(
                    r#""t{i}":{{"dtype":"U8","shape":[{huge}],"data_offsets":[{},{}]}}"#,
                    i as u128 * huge as u128,
                    (i as u128 + 1) * huge as u128
                )
            })
            .collect();
        for header in [
            r#"{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#,
            r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
            r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
            r#"{"w":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#,
            r#"{"w":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}}"#,
            r#"{"w":{"dtype":"F32","shape":[9223372036854775807,9],"data_offsets":[0,8]}}"#,
            "[]",
            "{",
            &format!("{{{}}}", eight[..8].join(",")),
            &format!("{{{}}}", eight.join(",")),
        ] {
            let e = parse(&with_header(header, &[0; 8])).expect_err(header);
            assert!(e.to_string().contains(": damaged or incomplete safetensors file: "), "{e}");
        }
        let e = parse(&[&u64::MAX.to_le_bytes()[..], b"{}"].concat()).expect_err("a huge header");
        assert!(e.to_string().contains("limit"));
    }

    #[test]
    fn types_that_cannot_be_used_are_still_listed() {
        let s = parse(&with_header(r#"{"q":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}"#, &[0; 4]))
            .expect("valid");
        assert_eq!(s.entries()[0].to_string(), "f8_e4m3[4]");
        assert!(matches!(read(&s, 0, DType::F32), Err(WeightError::Conversion { .. })));
    }
}
