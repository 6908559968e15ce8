//! A file in the making: buffered, counted, and gone unless it is finished.
//!
//! Written under a `.part` name in the folder where it is to appear, then renamed. Large slices go to the system as they
//! are; only small writes are gathered.

use super::Sink;
use super::sink::pass;
use std::fs::File;
use std::io::{BufWriter, Result, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use tempfile::TempPath;

/// Small writes are gathered up to this size; anything larger is not copied.
const BUFFER: usize = 1 << 18;

/// Larger slices are handed over in pieces: the system copies from memory maps that are not paged in yet about twice as
/// fast in pieces of a megabyte as in one of a gigabyte.
const PIECE: usize = 1 << 20;

/// A file that appears at its path when [`finish`](Self::finish)ed, with the permissions of a plain new file, and leaves
/// nothing behind when dropped before.
#[derive(Debug)]
pub struct AtomicFile {
    // Closed before the name goes: fields are dropped in this order.
    out: BufWriter<File>,
    name: TempPath,
    path: PathBuf,
    written: u64,
}

impl AtomicFile {
    /// Starts the file that is to appear at `path`.
    ///
    /// # Errors
    /// What the system says: a missing folder, no permission. Errors here and later do not repeat `path`.
    pub fn create(path: &Path) -> Result<Self> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".").suffix(".part");
        // Temporary files are private by default; this one becomes an ordinary file, so the user's umask decides.
        #[cfg(unix)]
        let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        #[cfg(unix)]
        builder.permissions(everyone);
        let (file, name) = builder.tempfile_in(folder)?.into_parts();
        Ok(Self { out: BufWriter::with_capacity(BUFFER, file), name, path: path.to_owned(), written: 0 })
    }

    /// Bytes written so far.
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// The length the file will have at least; what is not written is zero.
    pub fn set_len(&mut self, bytes: u64) -> Result<()> {
        self.out.get_ref().set_len(bytes)
    }

    /// Gives the file its name, replacing the one that was there.
    pub fn finish(self) -> Result<()> {
        self.out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        self.name.persist(&self.path).map_err(|e| e.error)
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let n = self.out.write(&bytes[..bytes.len().min(PIECE)])?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> Result<()> {
        self.out.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        self.out.seek(to)
    }
}

impl Sink for AtomicFile {
    fn copy(&mut self, file: &mut File, range: Range<u64>) -> Result<()> {
        self.out.flush()?;
        let length = range.end.saturating_sub(range.start);
        pass(file, range, self.out.get_mut())?;
        self.written += length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &tempfile::TempDir) -> Vec<String> {
        let entries = dir.path().read_dir().expect("a folder");
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn an_unfinished_file_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut file = AtomicFile::create(&dir.path().join("m")).expect("the folder is writable");
        file.write_all(b"half").expect("there is space");
        assert_eq!(names(&dir).len(), 1);
        drop(file);
        assert!(names(&dir).is_empty());
    }

    #[test]
    fn what_is_written_and_copied_stands_in_order() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("m");
        std::fs::write(&path, "old").expect("there is space");
        let mut from = tempfile::tempfile().expect("a temporary file");
        from.write_all(&[7; 3000]).expect("there is space");
        let mut file = AtomicFile::create(&path).expect("the folder is writable");
        file.write_all(b"head").expect("there is space");
        file.copy(&mut from, 500..2500).expect("inside");
        file.write_all(b"tail").expect("there is space");
        assert!(file.copy(&mut from, 2999..3001).is_err(), "beyond the end");
        assert_eq!((file.written(), std::fs::read(&path).expect("a file")), (2008, b"old".to_vec()));
        // The byte before the end of the source was copied all the same: a copy that failed ends the file.
        drop(file);
        assert_eq!(std::fs::read(&path).expect("a file"), b"old");

        let mut file = AtomicFile::create(&path).expect("the folder is writable");
        file.write_all(b"head").expect("there is space");
        file.copy(&mut from, 500..2500).expect("inside");
        file.write_all(b"tail").expect("there is space");
        file.finish().expect("the folder is writable");
        assert_eq!(std::fs::read(&path).expect("a file"), [&b"head"[..], &[7; 2000], b"tail"].concat());
        assert_eq!(names(&dir), ["m"]);
    }

    #[cfg(unix)]
    #[test]
    fn the_file_has_the_permissions_of_a_plain_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (plain, ours) = (dir.path().join("plain"), dir.path().join("ours"));
        std::fs::write(&plain, "").expect("written");
        AtomicFile::create(&ours).and_then(AtomicFile::finish).expect("the folder is writable");
        let mode = |p: &Path| std::fs::metadata(p).expect("present").permissions().mode();
        assert_eq!(mode(&plain), mode(&ours));
    }
}
