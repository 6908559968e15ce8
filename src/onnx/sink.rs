//! A stream of announced length, which remembers what went wrong in it.

use crate::files::Sink;
use std::fs::File;
use std::io::{Error, Result, Write};
use std::ops::Range;

/// Takes exactly as many bytes as were announced, and remembers what went wrong, whatever its user makes of the error.
pub(super) struct Exactly<'a> {
    out: &'a mut dyn Sink,
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
    pub(super) fn new(out: &'a mut dyn Sink, announced: u64) -> Self {
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

impl Sink for Exactly<'_> {
    fn copy(&mut self, file: &mut File, range: Range<u64>) -> Result<()> {
        let length = range.end.saturating_sub(range.start);
        if length > self.announced - self.taken {
            self.failure.get_or_insert(Failure::Size { found: self.taken.saturating_add(length) });
            return Err(Error::other("more bytes than the tensor has"));
        }
        let copied = self.out.copy(file, range);
        match &copied {
            Ok(()) => self.taken += length,
            // The file that is read is too short: the supplier's failure, not the stream's.
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {}
            Err(e) => _ = self.failure.get_or_insert(Failure::Io(Error::new(e.kind(), e.to_string()))),
        }
        copied
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
    impl Sink for Full {}

    #[test]
    fn a_full_disk_is_remembered_although_the_caller_hides_it() {
        let mut full = Full;
        let mut sink = Exactly::new(&mut full, 4);
        assert!(sink.write_all(&[0; 4]).is_err());
        assert!(matches!(sink.close(), Err(Failure::Io(e)) if e.kind() == ErrorKind::StorageFull));
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.set_len(4).expect("there is space");
        let mut sink = Exactly::new(&mut full, 4);
        assert!(sink.copy(&mut file, 0..4).is_err());
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
    fn copies_count_and_a_file_that_is_too_short_is_the_suppliers_failure() {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.set_len(6).expect("there is space");
        let mut out = Vec::new();
        let mut sink = Exactly::new(&mut out, 4);
        assert!(sink.copy(&mut file, 0..3).is_ok() && sink.copy(&mut file, 5..6).is_ok());
        assert!(sink.close().is_ok());
        let mut sink = Exactly::new(&mut out, 4);
        assert!(sink.copy(&mut file, 0..5).is_err());
        assert!(matches!(sink.close(), Err(Failure::Size { found: 5 })));
        let mut sink = Exactly::new(&mut out, 4);
        assert!(sink.copy(&mut file, 5..8).is_err());
        assert!(sink.failed().is_none());
    }
}
