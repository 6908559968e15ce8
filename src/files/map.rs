//! Memory maps: the bytes of a file, without reading them.
//!
//! The only place in the library with `unsafe`. Knows nothing of what the bytes mean.

use bytes::Bytes;
use memmap2::MmapOptions;
use std::fs::{File, Metadata};
use std::io::{Error, ErrorKind, Result};
use std::ops::Range;
use std::path::Path;

/// Maps the whole of a regular file, read-only. Slices of the result keep the map alive.
///
/// An empty file gives empty bytes. Directories, pipes and devices are refused, the error saying what stands there;
/// it does not repeat `path`.
pub(crate) fn map(path: &Path) -> Result<Bytes> {
    let file = open(path)?;
    let len = file.metadata()?.len();
    map_range(&file, 0..len)
}

/// Opens a regular file; anything else is refused as [`map`] refuses it.
pub(crate) fn open(path: &Path) -> Result<File> {
    // Before opening: opening a pipe waits for its writer.
    regular(&std::fs::metadata(path)?)?;
    let file = File::open(path)?;
    regular(&file.metadata()?)?;
    Ok(file)
}

/// Maps a part of a file: what was read of it stays resident only as long as the result lives.
pub(crate) fn map_range(file: &File, range: Range<u64>) -> Result<Bytes> {
    let len = usize::try_from(range.end.saturating_sub(range.start)).map_err(Error::other)?;
    if len == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the map is private to this process and read-only. What remains is the hazard of every memory map: another
    // process may change or cut the file while it is mapped. This tool replaces files only by renaming new ones over
    // them, which leaves mapped ones whole; bytes are only ever read as numbers, never relied on as valid references.
    #[expect(unsafe_code, reason = "a memory map cannot be had otherwise")]
    let mapped = unsafe { MmapOptions::new().offset(range.start).len(len).map(file)? };
    Ok(Bytes::from_owner(mapped))
}

pub(super) fn regular(meta: &Metadata) -> Result<()> {
    if meta.is_dir() {
        return Err(Error::new(ErrorKind::IsADirectory, "is a directory, expected a file"));
    }
    if !meta.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, "is a pipe or a device, expected a regular file"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_what_is_in_the_file() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("x");
        std::fs::write(&path, b"seven").expect("a small file");
        let bytes = map(&path).expect("a regular file");
        std::fs::remove_file(&path).expect("the file is there");
        assert_eq!(&bytes.slice(1..)[..], b"even");
    }

    #[test]
    fn an_empty_file_is_empty() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        assert!(map(file.path()).expect("a regular file").is_empty());
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(map(dir.path()).map_err(|e| e.kind()), Err(ErrorKind::IsADirectory));
        assert_eq!(map(&dir.path().join("absent")).map_err(|e| e.kind()), Err(ErrorKind::NotFound));
        #[cfg(target_os = "linux")]
        assert_eq!(map(Path::new("/dev/null")).map_err(|e| e.kind()), Err(ErrorKind::InvalidInput));
    }
}
