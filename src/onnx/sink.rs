//! A file in the making: counted, buffered, and gone unless it is finished.
//!
//! Written under a `.part` name in the folder where it is to appear, then renamed. Large slices go to the system as they
//! are; only small writes are gathered.

use std::fs::File;
use std::io::{BufWriter, Error, Result, Write};
use std::path::Path;
use tempfile::TempPath;

/// Small writes are gathered up to this size; anything larger is not copied.
const BUFFER: usize = 1 << 18;

/// Larger slices are handed over in pieces: the system copies from memory maps that are not paged in yet about twice as
/// fast in pieces of a megabyte as in one of a gigabyte.
const PIECE: usize = 1 << 20;

/// A file that appears at its path when [`finish`](Self::finish)ed, and leaves nothing behind when dropped before.
pub(super) struct PartFile {
    // Closed before the name goes: fields are dropped in this order.
    out: BufWriter<File>,
    name: TempPath,
    written: u64,
}

impl PartFile {
    /// Starts the file that is to appear at `path`.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".").suffix(".part");
        // Temporary files are private by default; this one becomes an ordinary file, so the user's umask decides.
        #[cfg(unix)]
        let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        #[cfg(unix)]
        builder.permissions(everyone);
        let (file, name) = builder.tempfile_in(folder)?.into_parts();
        Ok(Self { out: BufWriter::with_capacity(BUFFER, file), name, written: 0 })
    }

    /// Bytes written so far.
    pub(super) const fn written(&self) -> u64 {
        self.written
    }

    /// Fills with zeros up to position `offset`, which lies no more than a page ahead.
    pub(super) fn pad_to(&mut self, offset: u64) -> Result<()> {
        let gap = offset - self.written;
        self.write_all(&vec![0; gap as usize])
    }

    /// Moves the file to `path`, replacing what is there.
    pub(super) fn finish(self, path: &Path) -> Result<()> {
        self.out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        self.name.persist(path).map_err(|e| e.error)
    }
}

impl Write for PartFile {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let n = self.out.write(&bytes[..bytes.len().min(PIECE)])?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> Result<()> {
        self.out.flush()
    }
}

/// Takes exactly as many bytes as were announced, and remembers what went wrong, whatever its user makes of the error.
pub(super) struct Exactly<'a> {
    out: &'a mut dyn Write,
    announced: u64,
    taken: u64,
    failure: Option<Failure>,
}

/// What went wrong in an [`Exactly`].
#[derive(Debug)]
pub(super) enum Failure {
    /// The file could not be written.
    Io(Error),
    /// More or fewer bytes came than were announced.
    Size {
        /// Bytes that came; when they were too many, up to and with the write that was refused.
        found: u64,
    },
}

impl<'a> Exactly<'a> {
    /// Passes `announced` bytes on to `out`.
    pub(super) fn new(out: &'a mut dyn Write, announced: u64) -> Self {
        Self { out, announced, taken: 0, failure: None }
    }

    /// The first failure, counting missing bytes as one.
    pub(super) fn close(self) -> std::result::Result<(), Failure> {
        match self.failure {
            Some(failure) => Err(failure),
            None if self.taken != self.announced => Err(Failure::Size { found: self.taken }),
            None => Ok(()),
        }
    }

    /// The failure already met, if any.
    pub(super) fn failed(self) -> Option<Failure> {
        self.failure
    }
}

impl Write for Exactly<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        if bytes.len() as u64 > self.announced - self.taken {
            self.failure.get_or_insert(Failure::Size { found: self.taken + bytes.len() as u64 });
            return Err(Error::other("more bytes than the tensor has"));
        }
        match self.out.write(bytes) {
            Ok(n) => {
                self.taken += n as u64;
                Ok(n)
            }
            // `write_all` tries again after an interruption, so that is no failure.
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => Err(e),
            Err(e) => {
                let copy = Error::new(e.kind(), e.to_string());
                self.failure.get_or_insert(Failure::Io(e));
                Err(copy)
            }
        }
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> Result<usize> {
            Err(ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_remembered_although_the_caller_hides_it() {
        let mut full = Full;
        let mut sink = Exactly::new(&mut full, 4);
        assert!(sink.write_all(&[0; 4]).is_err());
        assert!(matches!(sink.close(), Err(Failure::Io(e)) if e.kind() == ErrorKind::StorageFull));
    }

    #[test]
    fn too_many_and_too_few_are_failures() {
        let mut out = Vec::new();
        let mut sink = Exactly::new(&mut out, 4);
        assert!(sink.write_all(&[0; 3]).is_ok());
        assert!(sink.write_all(&[0; 2]).is_err());
        assert!(matches!(sink.close(), Err(Failure::Size { found: 5 })));
        let mut sink = Exactly::new(&mut out, 4);
        assert!(sink.write_all(&[0; 3]).is_ok());
        assert!(matches!(sink.close(), Err(Failure::Size { found: 3 })));
        let mut sink = Exactly::new(&mut out, 4);
        assert!(sink.write_all(&[0; 4]).is_ok());
        assert!(sink.close().is_ok());
    }

    #[test]
    fn an_unfinished_file_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("m");
        let mut part = PartFile::create(&path).expect("the folder is writable");
        part.write_all(b"half").expect("there is space");
        assert_eq!(dir.path().read_dir().expect("a folder").count(), 1);
        drop(part);
        assert_eq!(dir.path().read_dir().expect("a folder").count(), 0);
    }
}
