//! Writing a safetensors file one tensor at a time.
//!
//! Invariant: the file appears under its name complete, or not at all. The header is written
//! first from names, types and shapes; values then go to their places in any order. The bytes
//! depend on what is written only, not on the order.

use super::WeightError;
use crate::files::AtomicFile;
use crate::ir::{DType, Tensor};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A safetensors file being written.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: AtomicFile,
    /// Where each tensor's bytes go, and whether they are there.
    places: BTreeMap<String, Place>,
}

#[derive(Debug)]
struct Place {
    start: u64,
    bytes: u64,
    written: bool,
}

impl Writer {
    /// Starts a file that will hold `tensors` (name, type, shape) and the free-form `metadata`.
    ///
    /// Wider types come first in the file, then names in order, so that every tensor is aligned
    /// to its element size, as in files of the reference implementation.
    pub fn create(
        path: &Path,
        tensors: &[(String, DType, Vec<usize>)],
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, WeightError> {
        let wrong = |what: String| WeightError::Write { path: path.to_owned(), what };
        let mut order: Vec<_> = tensors.iter().collect();
        order.sort_by(|(a, x, _), (b, y, _)| y.size().cmp(&x.size()).then_with(|| a.cmp(b)));
        let mut header = Map::new();
        if !metadata.is_empty() {
            header.insert("__metadata__".into(), json!(metadata));
        }
        let (mut end, mut places) = (0u64, BTreeMap::new());
        for (name, dtype, shape) in order {
            let bytes = shape
                .iter()
                .try_fold(dtype.size() as u64, |n, &d| n.checked_mul(d as u64))
                .filter(|n| end.checked_add(*n).is_some_and(|e| i64::try_from(e).is_ok()))
                .ok_or_else(|| wrong(format!("tensor `{name}` of shape {shape:?} is too large")))?;
            let (start, stop) = (end, end + bytes);
            let info = json!({ "dtype": dtype.safetensors(), "shape": shape, "data_offsets": [start, stop] });
            let reserved = name == "__metadata__";
            if reserved || header.insert(name.clone(), info).is_some() {
                let why = if reserved { "is a reserved name" } else { "is declared twice" };
                return Err(wrong(format!("tensor `{name}` {why}")));
            }
            places.insert(name.clone(), Place { start, bytes, written: false });
            end = stop;
        }

        let mut text = Value::Object(header).to_string().into_bytes();
        text.resize(text.len().next_multiple_of(8), b' ');
        let data = 8 + text.len() as u64;
        for place in places.values_mut() {
            place.start += data;
        }

        let begin = || {
            let mut file = AtomicFile::create(path)?;
            file.write_all(&(text.len() as u64).to_le_bytes())?;
            file.write_all(&text)?;
            file.set_len(data + end)?;
            Ok(file)
        };
        let file = begin().map_err(WeightError::io(path))?;
        Ok(Self { path: path.to_owned(), file, places })
    }

    /// Writes a tensor's row-major little-endian bytes.
    pub fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), WeightError> {
        let wrong = |what: String| WeightError::Write { path: self.path.clone(), what };
        let place = self.places.get_mut(name).ok_or_else(|| wrong(format!("tensor `{name}` was not declared")))?;
        if place.bytes != bytes.len() as u64 {
            return Err(wrong(format!("tensor `{name}` takes {} bytes, given {}", place.bytes, bytes.len())));
        }
        if std::mem::replace(&mut place.written, true) {
            return Err(wrong(format!("tensor `{name}` is written twice")));
        }
        let (file, start) = (&mut self.file, SeekFrom::Start(place.start));
        file.seek(start).and_then(|_| file.write_all(bytes)).map_err(WeightError::io(&self.path))
    }

    /// Gives the file its name, replacing one that was there.
    pub fn finish(self) -> Result<(), WeightError> {
        if let Some((name, _)) = self.places.iter().find(|(_, p)| !p.written) {
            let what = format!("tensor `{name}` was declared and never written");
            return Err(WeightError::Write { path: self.path, what });
        }
        self.file.finish().map_err(WeightError::io(&self.path))
    }

    /// Writes a whole file of tensors that are in memory.
    pub fn save(
        path: &Path,
        tensors: &[(String, Tensor)],
        metadata: &BTreeMap<String, String>,
    ) -> Result<(), WeightError> {
        let declared: Vec<_> = tensors.iter().map(|(n, t)| (n.clone(), t.dtype(), t.shape().to_vec())).collect();
        let mut writer = Self::create(path, &declared, metadata)?;
        for (name, tensor) in tensors {
            writer.put(name, &tensor.to_le_bytes())?;
        }
        writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::tensor;
    use super::super::{Safetensors, Source};
    use super::*;

    fn declared() -> Vec<(String, DType, Vec<usize>)> {
        let items: [(&str, DType, &[usize]); 4] = [
            ("mask", DType::Bool, &[3]),
            ("b.weight", DType::F32, &[2, 2]),
            ("a.weight", DType::F32, &[]),
            ("steps", DType::I64, &[1]),
        ];
        items.map(|(n, d, s)| (n.to_owned(), d, s.to_vec())).to_vec()
    }
    fn values() -> Vec<(String, Tensor)> {
        vec![
            ("b.weight".into(), Tensor::new(&[2, 2], vec![1.0f32, 2.0, 3.0, 4.0])),
            ("steps".into(), Tensor::new(&[1], vec![-5i64])),
            ("mask".into(), Tensor::new(&[3], vec![true, false, true])),
            ("a.weight".into(), Tensor::scalar(0.5f32)),
        ]
    }
    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary directory")
    }

    #[test]
    fn what_is_written_reads_back_and_the_order_does_not_matter() {
        let dir = folder();
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        Writer::save(&one, &values(), &metadata).expect("saved");
        let mut w = Writer::create(&two, &declared(), &metadata).expect("created");
        for (name, value) in values().iter().rev() {
            w.put(name, &value.to_le_bytes()).expect("put");
        }
        w.finish().expect("finished");
        let bytes = std::fs::read(&one).expect("read");
        assert_eq!(bytes, std::fs::read(&two).expect("read"));
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("a header");
        assert_eq!(header.metadata().as_ref().and_then(|m| m.get("format")), metadata.get("format"));

        let s = Safetensors::open(&one).expect("opened");
        let order: Vec<_> = s.entries().iter().map(|e| e.name.as_str()).collect();
        assert_eq!(order, ["steps", "a.weight", "b.weight", "mask"]);
        for (name, value) in values() {
            let i = order.iter().position(|n| *n == name).expect("present");
            assert_eq!(tensor(&s, i, value.dtype()).expect("read"), value);
        }
    }

    #[test]
    fn an_unfinished_file_never_appears() {
        let dir = folder();
        let path = dir.path().join("w.safetensors");
        std::fs::write(&path, "old").expect("written");
        let mut w = Writer::create(&path, &declared(), &BTreeMap::new()).expect("created");
        w.put("steps", &[0; 8]).expect("put");
        let e = w.finish().expect_err("incomplete").to_string();
        assert!(e.ends_with("tensor `a.weight` was declared and never written"), "{e}");
        drop(Writer::create(&path, &declared(), &BTreeMap::new()).expect("created"));
        assert_eq!(std::fs::read(&path).expect("read"), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 1);
    }

    #[test]
    fn wrong_use_is_an_error() {
        let dir = folder();
        let path = dir.path().join("w");
        let mut w = Writer::create(&path, &declared(), &BTreeMap::new()).expect("created");
        assert!(w.put("steps", &[0; 7]).expect_err("short").to_string().contains("takes 8 bytes, given 7"));
        assert!(w.put("other", &[]).expect_err("unknown").to_string().contains("was not declared"));
        w.put("steps", &[0; 8]).expect("put");
        assert!(w.put("steps", &[0; 8]).expect_err("again").to_string().contains("written twice"));
        let bad = |name: &str, shape: &[usize]| {
            let item = (name.to_owned(), DType::F32, shape.to_vec());
            Writer::create(&path, &[item.clone(), item], &BTreeMap::new()).expect_err(name).to_string()
        };
        assert!(bad("x", &[1]).contains("declared twice"));
        assert!(bad("__metadata__", &[1]).contains("reserved"));
        assert!(bad("x", &[usize::MAX, 2]).contains("too large"));
        assert!(matches!(
            Writer::create(Path::new("/none/at/all"), &[], &BTreeMap::new()),
            Err(WeightError::Io { .. })
        ));
    }
}
