//! PyTorch checkpoints (`.pt`, `.pth`): zip, legacy (before 1.6) and plain pickles.
//!
//! `pytorch-reader` interprets the pickle as data: the calls that rebuild tensors are known to
//! it, every other call becomes an opaque marker, and nothing is executed. Shapes and types come
//! from the pickle; a tensor's bytes are read from the file when asked for, views and
//! transposes gathered into row-major order. What stands in a zip file as it is can be read in
//! parts and copied ([`stored_zip`]). Entries are sorted by name, because the reader
//! does not keep the dictionary's order.

use super::WeightError;
use super::source::{Entry, Place, Source, Stored, entry_of};
use super::state_dict::{Outline, StateDict, code, find};
use super::stored_zip;
use crate::files;
use bytes::Bytes;
use pytorch_reader::{PickleValue, PytorchError, PytorchReader, Tensor};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The state dict of a PyTorch file.
#[derive(Debug)]
pub struct PyTorch {
    path: PathBuf,
    origin: String,
    entries: Vec<Entry>,
    tensors: Vec<Tensor>,
    file: Mutex<File>,
    /// Ranges of the file that are tensors as they are.
    places: Vec<Option<Range<u64>>>,
}

impl PyTorch {
    /// Reads the pickle and finds the state dict: the one under `key`, or the only one.
    pub fn open(path: &Path, key: Option<&str>) -> Result<Self, WeightError> {
        let wrong = |e: PytorchError| match e {
            PytorchError::Io(source) if source.raw_os_error().is_some() => WeightError::io(path)(source),
            e => malformed(path, e.to_string()),
        };
        let pickle = PytorchReader::read_pickle_data(path, None).map_err(wrong)?;
        if let Some((at, call)) = code(&pickle) {
            let at = if at.is_empty() { "(the whole file)".to_owned() } else { at };
            return Err(WeightError::RunsCode { path: path.to_owned(), at, call });
        }
        let undecided = |(what, candidates)| {
            let what = format!("{}: {what}", path.display());
            WeightError::Choose { what, flag: "--weights-key", candidates }
        };
        let kind = kind(&pickle);
        if !matches!(pickle, PickleValue::Dict(_)) {
            return Err(undecided((format!("expected a dictionary of tensors, found {kind}"), Vec::new())));
        }
        let outline = Outline::of(pickle).ok_or_else(|| undecided((format!("{kind} without tensors"), Vec::new())))?;
        let StateDict { path: keys, names } = find(&outline, key).map_err(undecided)?;

        let mut all = PytorchReader::new(path).map_err(wrong)?.into_tensors();
        let full = |name: &str| if keys.is_empty() { name.to_owned() } else { format!("{}.{name}", keys.join(".")) };
        let (mut entries, mut tensors) = (Vec::with_capacity(names.len()), Vec::with_capacity(names.len()));
        for name in names {
            let full = full(&name);
            // Two keys may spell the same path (`a.b` and `b` inside `a`); the reader keeps one of them.
            let tensor = all.remove(&full).ok_or_else(|| {
                malformed(path, format!("two tensors share the name `{full}`, or the file changed while it was read"))
            })?;
            let (stored, shape) = (Stored::named(&format!("{:?}", tensor.dtype())), tensor.shape().to_vec());
            entries.push(Entry { name, stored, shape });
            tensors.push(tensor);
        }
        let file = files::open(path).map_err(WeightError::io(path))?;
        let known: Vec<_> = entries.iter().map(|e| (full(&e.name), e)).collect();
        let places = stored_zip::places(&file, &known).unwrap_or_else(|| vec![None; entries.len()]);
        let at = path.display();
        let origin = if keys.is_empty() { at.to_string() } else { format!("{at} [{}]", keys.join(".")) };
        Ok(Self { path: path.to_owned(), origin, entries, tensors, file: Mutex::new(file), places })
    }
}

impl Source for PyTorch {
    fn origin(&self) -> &str {
        &self.origin
    }

    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn bytes(&self, index: usize) -> Result<Bytes, WeightError> {
        entry_of(self, index)?;
        let tensor = &self.tensors[index];
        let mut bytes = tensor.read().map_err(|e| {
            if e.raw_os_error().is_some() {
                WeightError::io(&self.path)(e)
            } else {
                malformed(&self.path, e.to_string())
            }
        })?;
        if cfg!(target_endian = "big") {
            bytes.chunks_exact_mut(tensor.dtype().size()).for_each(<[u8]>::reverse);
        }
        Ok(bytes.into())
    }

    fn place(&self, index: usize) -> Option<Place<'_>> {
        Some(Place { file: &self.file, range: self.places.get(index)?.clone()? })
    }
}

fn malformed(path: &Path, what: String) -> WeightError {
    WeightError::Malformed { path: path.to_owned(), format: "PyTorch", what }
}

fn kind(value: &PickleValue) -> String {
    match value {
        PickleValue::None => "None".into(),
        PickleValue::Bool(_) => "a bool".into(),
        PickleValue::Int(_) => "an int".into(),
        PickleValue::Float(_) => "a float".into(),
        PickleValue::String(_) => "a string".into(),
        PickleValue::List(_) => "a list".into(),
        PickleValue::Dict(_) => "a dictionary".into(),
        PickleValue::Bytes(_) => "bytes".into(),
        PickleValue::Unsupported(name) => format!("a `{name}` object"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::tensor;
    use super::*;
    use crate::ir::{DType, Tensor};

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
    }
    fn open(name: &str, key: Option<&str>) -> Result<PyTorch, WeightError> {
        PyTorch::open(&fixture(name), key)
    }
    fn names(p: &PyTorch) -> Vec<&str> {
        p.entries().iter().map(|e| e.name.as_str()).collect()
    }
    fn get(p: &PyTorch, name: &str, dtype: DType) -> Tensor {
        let i = p.entries().iter().position(|e| e.name == name).expect(name);
        tensor(p, i, dtype).expect(name)
    }

    /// The tensors every well-formed fixture holds, whatever container and key they are under.
    fn check(p: &PyTorch) {
        assert_eq!(
            names(p),
            [
                "bn.num_batches_tracked",
                "bytes",
                "double",
                "expanded",
                "fc.bias",
                "fc.weight",
                "fc.weight_t",
                "fc.window",
                "half.b",
                "half.h",
                "mask",
                "none"
            ]
        );
        let f = |v: &[f32]| Tensor::new(&[v.len()], v.to_vec());
        assert_eq!(get(p, "fc.weight", DType::F32), Tensor::new(&[2, 3], vec![0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0]));
        assert_eq!(get(p, "fc.weight_t", DType::F32), Tensor::new(&[3, 2], vec![0.0f32, 3.0, 1.0, 4.0, 2.0, 5.0]));
        assert_eq!(get(p, "fc.window", DType::F32), f(&[2.0, 4.0]));
        assert_eq!(get(p, "fc.bias", DType::F32), f(&[-1.5, 0.25]));
        assert_eq!(get(p, "expanded", DType::F32), Tensor::new(&[2, 2], vec![-1.5f32, 0.25, -1.5, 0.25]));
        assert_eq!(get(p, "half.h", DType::F32), f(&[1.5, -2.0, 65504.0]));
        assert_eq!(get(p, "half.b", DType::F32), f(&[1.5, -2.0]));
        assert_eq!(get(p, "double", DType::F64), Tensor::new(&[1], vec![0.1f64]));
        assert_eq!(get(p, "bn.num_batches_tracked", DType::I64), Tensor::scalar(7i64));
        assert_eq!(get(p, "mask", DType::Bool), Tensor::new(&[3], vec![true, false, true]));
        assert_eq!(get(p, "bytes", DType::I64), Tensor::new(&[2], vec![0i64, 255]));
        assert_eq!(get(p, "none", DType::F32), Tensor::new(&[0, 4], Vec::<f32>::new()));
    }

    /// Tensors that stand in the file as they are.
    fn placed(p: &PyTorch) -> Vec<&str> {
        let placed = (0..p.entries().len()).filter(|&i| p.place(i).is_some());
        placed.map(|i| p.entries()[i].name.as_str()).collect()
    }

    #[test]
    fn contiguous_tensors_of_a_zip_file_are_read_in_parts() {
        for (file, key) in [("plain.pt", None), ("training.pt", None), ("two.pt", Some("ema")), ("legacy.pt", None)] {
            let p = open(file, key).expect(file);
            let views = ["expanded", "fc.weight_t", "fc.window"];
            let want: Vec<&str> = names(&p).into_iter().filter(|n| file != "legacy.pt" && !views.contains(n)).collect();
            assert_eq!(placed(&p), want, "{file}");
            for (i, e) in p.entries().iter().enumerate() {
                let all = p.bytes(i).expect("it reads");
                let n = all.len() as u64;
                for range in [0..n, 0..0, n / 2..n, n..n] {
                    let part = p.part(i, range.clone()).expect("inside");
                    assert_eq!(
                        part,
                        all.slice(range.start as usize..range.end as usize),
                        "{file} {} {range:?}",
                        e.name
                    );
                }
                assert!(p.part(i, 0..n + 1).is_err() && p.part(i, n + 1..n + 1).is_err(), "{file} {}", e.name);
            }
        }
    }

    #[test]
    fn a_state_dict_is_read_from_every_container() {
        check(&open("plain.pt", None).expect("zip"));
        check(&open("legacy.pt", None).expect("legacy"));
    }

    #[test]
    fn a_nested_state_dict_is_found_and_the_rest_ignored() {
        let p = open("training.pt", None).expect("nested");
        check(&p);
        assert!(p.origin().ends_with("training.pt [state_dict]"));
        check(&open("training.pt", Some("state_dict")).expect("by key"));
        let e = open("training.pt", Some("optimizer")).expect_err("optimizer state is no state dict");
        assert!(e.to_string().contains("no dictionary of tensors under the key `optimizer`"), "{e}");
        assert!(e.to_string().contains("--weights-key state_dict  (12 tensors)"), "{e}");
    }

    #[test]
    fn two_state_dicts_need_a_key() {
        let e = open("two.pt", None).expect_err("ambiguous").to_string();
        assert!(
            e.contains("--weights-key ema  (12 tensors)") && e.contains("--weights-key model  (12 tensors)"),
            "{e}"
        );
        check(&open("two.pt", Some("ema")).expect("chosen"));
    }

    #[test]
    fn a_pickled_module_gives_its_state_dict() {
        let p = open("module.pt", None).expect("a module");
        assert_eq!(names(&p), ["fc.bias", "fc.weight", "scale"]);
        assert_eq!(get(&p, "fc.bias", DType::F32), Tensor::new(&[2], vec![-1.5f32, 0.25]));
    }

    #[test]
    fn pickles_that_call_code_are_refused() {
        for (file, at) in
            [("evil.pt", "`callback`"), ("evil_root.pt", "`(the whole file)`"), ("evil_plain.pkl", "`x.0`")]
        {
            let e = open(file, None).expect_err(file);
            assert!(matches!(e, WeightError::RunsCode { .. }), "{file}: {e}");
            let e = e.to_string();
            assert!(e.contains(at) && e.contains(".system`") && e.contains("Nothing was run"), "{e}");
        }
        assert!(!std::env::temp_dir().join("vit-onnx-evil-pickle-ran").exists());
    }

    #[test]
    fn a_truncated_file_is_an_error_and_never_a_panic() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("cut.pt");
        for name in ["plain.pt", "legacy.pt"] {
            let file = std::fs::read(fixture(name)).expect("a fixture");
            for n in (0..file.len()).step_by(7).chain(file.len() - 24..file.len()) {
                std::fs::write(&path, &file[..n]).expect("written");
                let all_read = PyTorch::open(&path, None)
                    .is_ok_and(|p| (0..p.entries().len()).all(|i| p.bytes(i).is_ok() && p.part(i, 0..0).is_ok()));
                assert!(!all_read, "{name} cut at {n} of {}", file.len());
            }
        }
    }

    #[test]
    fn damaged_files_never_panic() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("damaged.pt");
        for name in ["plain.pt", "legacy.pt", "module.pt"] {
            let file = std::fs::read(fixture(name)).expect("a fixture");
            for i in 0..600usize {
                let mut damaged = file.clone();
                let at = i.wrapping_mul(0x9e37_79b1) % damaged.len();
                damaged[at] = damaged[at].wrapping_add(1 + (i % 251) as u8);
                std::fs::write(&path, &damaged).expect("written");
                if let Ok(p) = PyTorch::open(&path, None) {
                    for i in 0..p.entries().len() {
                        let _ = (p.bytes(i), p.part(i, 0..1));
                    }
                }
            }
        }
    }
}
