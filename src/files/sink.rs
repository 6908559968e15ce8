//! A writer that can take bytes straight from another file.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom, Write};
use std::ops::Range;

/// A destination of bytes.
pub trait Sink: Write {
    /// Appends the bytes `range` of `file`, whose position moves.
    ///
    /// A sink that is a file has the kernel copy them, so that they never pass through this process.
    ///
    /// # Errors
    /// Those of reading and writing; [`ErrorKind::UnexpectedEof`] when the file ends before the range does.
    fn copy(&mut self, file: &mut File, range: Range<u64>) -> Result<()> {
        pass(file, range, self)
    }
}

impl Sink for Vec<u8> {}

/// Copies a range of one file to the position of a writer. Between two files, `std::io::copy` calls `copy_file_range` or
/// `sendfile` on Linux and reads and writes elsewhere.
pub(super) fn pass(file: &mut File, range: Range<u64>, out: &mut (impl Write + ?Sized)) -> Result<()> {
    let length = range.end.saturating_sub(range.start);
    file.seek(SeekFrom::Start(range.start))?;
    let copied = std::io::copy(&mut file.take(length), out)?;
    if copied == length { Ok(()) } else { Err(Error::from(ErrorKind::UnexpectedEof)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_copied_or_missed() {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(b"0123456789").expect("there is space");
        let mut out = b"<".to_vec();
        out.copy(&mut file, 3..6).expect("inside");
        out.copy(&mut file, 0..1).expect("inside");
        out.copy(&mut file, 7..7).expect("empty");
        assert_eq!(out, b"<3450");
        let e = out.copy(&mut file, 8..11).expect_err("beyond the end");
        assert_eq!(e.kind(), ErrorKind::UnexpectedEof);
    }
}
