//! Choosing a reader by what a file contains, and saying what a file is when it is no checkpoint.
//!
//! The extension decides nothing but which reader's error a file too damaged to recognize gets.

use super::{PyTorch, Safetensors, Source, WeightError};
use crate::files::map;
use std::io::Cursor;
use std::path::Path;

/// Opens the checkpoint at `path`. `key` names the dictionary inside a PyTorch file
/// (`--weights-key`); it must be absent for safetensors, which has none.
pub fn open(path: &Path, key: Option<&str>) -> Result<Box<dyn Source>, WeightError> {
    let not = |looks_like: String| WeightError::NotACheckpoint { path: path.to_owned(), looks_like };
    if path.is_dir() {
        return Err(not("is a directory; name the file inside it".into()));
    }
    let head = map(path).map_err(WeightError::io(path))?;
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    if let Some(other) = other_archive(&head) {
        return Err(not(other.into()));
    }
    match recognize(&head, &extension) {
        Kind::Safetensors if key.is_some() => Err(not("is a safetensors file, which has no dictionaries for --weights-key to choose from; leave it out, or use --weights-prefix".into())),
        Kind::Safetensors => Ok(Box::new(Safetensors::open(path)?)),
        Kind::PyTorch => Ok(Box::new(PyTorch::open(path, key)?)),
        Kind::Not(looks_like) => Err(not(looks_like.into())),
    }
}

/// What a zip file is that is no state dict, and what to do with it.
fn other_archive(file: &[u8]) -> Option<&'static str> {
    let zip = zip::ZipArchive::new(Cursor::new(file)).ok().filter(|_| file.starts_with(b"PK"))?;
    let names: Vec<_> = zip.file_names().filter_map(Result::ok).collect();
    let any = |end: &str| names.iter().any(|name| name.ends_with(end));
    if any("/constants.pkl") {
        Some(
            "is TorchScript (torch.jit.save); save its weights alone, with \
             torch.save(torch.jit.load(\"model.pt\").state_dict(), \"weights.pt\")",
        )
    } else if any("/archive_format") || any("serialized_exported_program.json") {
        Some(
            "is an exported program (torch.export.save); save its weights alone, with \
             torch.save(torch.export.load(\"model.pt2\").state_dict, \"weights.pt\")",
        )
    } else if !names.is_empty() && names.iter().all(|name| name.ends_with(".npy")) {
        Some(
            "is a NumPy archive; convert it, with \
             safetensors.numpy.save_file(dict(numpy.load(\"weights.npz\")), \"weights.safetensors\")",
        )
    } else {
        None
    }
}

enum Kind {
    Safetensors,
    PyTorch,
    Not(&'static str),
}

fn recognize(file: &[u8], extension: &str) -> Kind {
    const NOT: [(&[u8], &str); 16] = [
        (b"\x89PNG", "is a PNG image"),
        (b"\xff\xd8\xff", "is a JPEG image"),
        (b"GIF8", "is a GIF image"),
        (b"BM", "looks like a BMP image"),
        (b"RIFF", "is a RIFF file (a WebP image or a sound)"),
        (b"%PDF", "is a PDF document"),
        (b"\x89HDF", "is an HDF5 file (Keras); convert it to safetensors"),
        (b"GGUF", "is a GGUF file; convert it to safetensors"),
        (b"\x93NUMPY", "is a NumPy array; save a dictionary of tensors as safetensors"),
        (b"\x1f\x8b", "is compressed with gzip; unpack it first"),
        (b"\x28\xb5\x2f\xfd", "is compressed with zstd; unpack it first"),
        (b"\xfd7zXZ", "is compressed with xz; unpack it first"),
        (b"version https://git-lfs", "is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"),
        (b"<", "is a web page or XML, perhaps a failed download"),
        (b"\x7fELF", "is a program or library"),
        (b"---", "is a text file"),
    ];
    if file.is_empty() {
        return Kind::Not("is empty");
    }
    // After the header's length the JSON object begins; a length may look like any other magic.
    if file.get(8) == Some(&b'{') {
        return Kind::Safetensors;
    }
    // Zip, or a pickle (`\x80` and a protocol) as legacy files begin with one, or a tar archive.
    if file.starts_with(b"PK") || (file[0] == 0x80 && matches!(file.get(1), None | Some(0..=5))) {
        return Kind::PyTorch;
    }
    if file.get(257..262) == Some(b"ustar") {
        return Kind::PyTorch;
    }
    if let Some((_, what)) = NOT.iter().find(|(magic, _)| file.starts_with(magic)) {
        return Kind::Not(what);
    }
    // An ONNX model opens with field 1 (ir_version, a small varint) and then field 2 or later.
    if matches!(file, [0x08, 1..=20, 0x12 | 0x1a | 0x22 | 0x2a | 0x32 | 0x3a | 0x42, ..]) {
        return Kind::Not("looks like an ONNX model; it holds its own weights, use `inspect` or `run` on it");
    }
    match extension {
        "safetensors" => return Kind::Safetensors,
        "pt" | "pth" | "bin" | "ckpt" | "pkl" => return Kind::PyTorch,
        _ => {}
    }
    let start = &file[..file.len().min(512)];
    match start.iter().find(|b| !b.is_ascii_whitespace()) {
        Some(b'{' | b'[') if start.is_ascii() => {
            Kind::Not("is JSON, perhaps the index of a checkpoint in several files; name a file with tensors")
        }
        _ if std::str::from_utf8(start).is_ok() => Kind::Not("is a text file"),
        _ => Kind::Not("is of no known format"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str, contents: &[u8]) -> String {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join(name);
        std::fs::write(&path, contents).expect("written");
        open(&path, None).expect_err(name).to_string().replace(&path.display().to_string(), name)
    }

    #[test]
    fn contents_decide_over_the_extension() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let header = br#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
        let file = [&(header.len() as u64).to_le_bytes()[..], header, &[9]].concat();
        let path = dir.path().join("weights.pth");
        std::fs::write(&path, file).expect("written");
        assert_eq!(open(&path, None).expect("safetensors").entries()[0].to_string(), "u8[1]");
        assert!(open(&path, Some("model")).expect_err("a key").to_string().contains("--weights-key"));

        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/legacy.pt");
        let path = dir.path().join("weights.safetensors");
        std::fs::copy(fixture, &path).expect("copied");
        assert_eq!(open(&path, None).expect("legacy").entries().len(), 12);
    }

    #[test]
    fn other_files_are_named_for_what_they_are() {
        let accepted = "; weights are read from .safetensors files and PyTorch .pt or .pth files";
        for (name, contents, what) in [
            ("a.png", &b"\x89PNG\r\n\x1a\n"[..], "is a PNG image"),
            ("a.safetensors", b"", "is empty"),
            ("a.pt", b"", "is empty"),
            (
                "m.onnx",
                b"\x08\x08\x12\x08vit-onnx",
                "looks like an ONNX model; it holds its own weights, use `inspect` or `run` on it",
            ),
            (
                "w.safetensors",
                b"version https://git-lfs.github.com/spec/v1",
                "is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`",
            ),
            ("w.pt", b"<!DOCTYPE html>", "is a web page or XML, perhaps a failed download"),
            ("notes", b"hello there", "is a text file"),
            (
                "index.json",
                b"  {\"weight_map\": {}}",
                "is JSON, perhaps the index of a checkpoint in several files; name a file with tensors",
            ),
            ("noise", b"\xfe\x00\xff\x01", "is of no known format"),
        ] {
            assert_eq!(message(name, contents), format!("{name}: {what}{accepted}"));
        }
    }

    #[test]
    fn damaged_files_get_the_error_of_their_format() {
        assert!(message("w.safetensors", b"\x10\0\0").contains("the header length takes 8 bytes, the file has 3"));
        assert!(message("w.pt", b"PK\x03\x04").contains("damaged or incomplete PyTorch file"));
        assert!(message("w.pt", b"\xfe\xfe").contains("damaged or incomplete PyTorch file"));
    }

    #[test]
    fn other_archives_are_named() {
        let zip = |names: &[&str]| {
            let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
            for name in names {
                zip.start_file(*name, zip::write::SimpleFileOptions::default()).expect("an entry");
            }
            zip.finish().expect("an archive").into_inner()
        };
        let script = zip(&["m/data.pkl", "m/code/__torch__.py", "m/constants.pkl"]);
        assert!(message("m.pt", &script).contains("torch.jit.load(\"model.pt\").state_dict()"));
        let exported = zip(&["m/archive_format", "m/models/model.json"]);
        assert!(message("m.pt2", &exported).contains("torch.export.load"));
        assert!(message("w.npz", &zip(&["a.npy", "b.npy"])).contains("safetensors.numpy.save_file"));
        assert!(!message("m.pt", &zip(&["m/data.pkl", "m/version"])).contains("TorchScript"));
    }

    #[test]
    fn directories_and_absent_files_are_errors() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert!(open(dir.path(), None).expect_err("a directory").to_string().contains("is a directory; name the file"));
        assert!(matches!(open(&dir.path().join("none.pt"), None), Err(WeightError::Io { .. })));
        let message = |path: &str| open(Path::new(path), None).expect_err("absent").to_string();
        let of_hub = message("google/vit-base-patch16-224");
        assert!(
            of_hub.contains("curl -LO https://huggingface.co/google/vit-base-patch16-224/resolve/main/"),
            "{of_hub}"
        );
        assert!(!message("models/vit.pt").contains("curl") && !message("a/b/c").contains("curl"));
    }
}
