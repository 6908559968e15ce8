//! A file in the making: buffered, counted, and gone unless it is finished.
//!
//! Written in the folder where it is to appear: without a name where the file system can, so that nothing stays behind even
//! if the process is killed, else under a `.part` name. Large slices go to the system as they are; only small writes are
//! gathered.

use super::Sink;
use super::map::regular;
use super::sink::pass;
use std::fs::File;
use std::io::{BufWriter, Error, Result, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use tempfile::{Builder, NamedTempFile, TempPath};

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
    /// Its name so far, if it has one.
    name: Option<TempPath>,
    path: PathBuf,
    written: u64,
}

impl AtomicFile {
    /// Starts the file that is to appear at `path`, or where the symbolic link at `path` leads.
    ///
    /// # Errors
    /// What the system says: a missing folder, no permission; a directory, a pipe or a device at `path`. Errors here and
    /// later do not repeat `path`.
    pub fn create(path: &Path) -> Result<Self> {
        let path = follow(path)?;
        if let Ok(meta) = std::fs::metadata(&path) {
            regular(&meta)?;
        }
        match unnamed(folder(&path)) {
            Some(file) => Ok(Self::new(file, None, path)),
            None => Self::named(path),
        }
    }

    fn new(file: File, name: Option<TempPath>, path: PathBuf) -> Self {
        Self { out: BufWriter::with_capacity(BUFFER, file), name, path, written: 0 }
    }

    /// Starts the file under a `.part` name, and removes those that killed processes left beside it.
    fn named(path: PathBuf) -> Result<Self> {
        remove_leftovers(folder(&path));
        let mut builder = part();
        // Temporary files are private by default; this one becomes an ordinary file, so the user's umask decides.
        #[cfg(unix)]
        let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        #[cfg(unix)]
        builder.permissions(everyone);
        let (file, name) = builder.tempfile_in(folder(&path))?.into_parts();
        // The lock tells it from a leftover. Where there are no locks, nothing is taken for one.
        #[cfg(unix)]
        let _ = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared);
        Ok(Self::new(file, Some(name), path))
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
        let file = self.out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        let name = match self.name {
            Some(name) => name,
            None => part().make_in(folder(&self.path), |name| link(&file, name)).map(NamedTempFile::into_temp_path)?,
        };
        drop(file);
        name.persist(&self.path).map_err(|e| e.error)
    }
}

const PREFIX: &str = ".vit-onnx-";
const SUFFIX: &str = ".part";

fn part() -> Builder<'static, 'static> {
    let mut builder = Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    builder
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns the path at which a chain of symbolic links ends, whether there is a file or not.
fn follow(path: &Path) -> Result<PathBuf> {
    // As many as Linux follows.
    const LINKS: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        let Ok(to) = std::fs::read_link(&path) else { return Ok(path) };
        path = folder(&path).join(to);
    }
    Err(Error::other("is a symbolic link that leads back to itself"))
}

/// Opens a file without a name, which is gone with the process, or returns `None` where the system has no such files.
#[cfg(target_os = "linux")]
fn unnamed(folder: &Path) -> Option<File> {
    let mut options = File::options();
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, rustix::fs::OFlags::TMPFILE.bits() as i32);
    let file = options.write(true).open(folder).ok()?;
    // Only there can it be given a name.
    descriptor(&file).exists().then_some(file)
}

#[cfg(target_os = "linux")]
fn descriptor(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file)))
}

/// Gives an unnamed file a name.
#[cfg(target_os = "linux")]
fn link(file: &File, name: &Path) -> Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    Ok(linkat(CWD, descriptor(file), CWD, name, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(not(target_os = "linux"))]
fn unnamed(_: &Path) -> Option<File> {
    None
}

#[cfg(not(target_os = "linux"))]
fn link(_: &File, _: &Path) -> Result<()> {
    unreachable!("only Linux has unnamed files")
}

/// Removes the `.part` files in a folder that no process holds.
fn remove_leftovers(folder: &Path) {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    for path in entries.map(|e| e.path()).filter(|p| is_leftover(p)) {
        // Whoever may not remove it leaves it.
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(unix)]
fn is_leftover(path: &Path) -> bool {
    use rustix::fs::{FlockOperation, flock};
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A file that was just created is not locked yet.
    let old = |f: &File| f.metadata()?.modified()?.elapsed().map_err(Error::other);
    name.starts_with(PREFIX)
        && name.ends_with(SUFFIX)
        && File::open(path).is_ok_and(|f| {
            old(&f).is_ok_and(|age| age.as_secs() > 60) && flock(&f, FlockOperation::NonBlockingLockExclusive).is_ok()
        })
}

#[cfg(not(unix))]
fn is_leftover(_: &Path) -> bool {
    false
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
        let path = dir.path().join("m");
        let mut file = AtomicFile::create(&path).expect("the folder is writable");
        file.write_all(b"half").expect("there is space");
        // What has no name is gone even if the process is killed.
        assert_eq!(names(&dir).len(), usize::from(unnamed(dir.path()).is_none()));
        drop(file);
        let mut file = AtomicFile::named(path.clone()).expect("the folder is writable");
        file.write_all(b"half").expect("there is space");
        assert_eq!(names(&dir).len(), 1);
        drop(file);
        assert!(names(&dir).is_empty());
        AtomicFile::named(path).and_then(AtomicFile::finish).expect("the folder is writable");
        assert_eq!(names(&dir), ["m"]);
    }

    #[cfg(unix)]
    #[test]
    fn what_killed_processes_left_is_removed() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let old = |name: &str| {
            let file = File::create_new(dir.path().join(name)).expect("a new file");
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("it is ours");
        };
        old(".vit-onnx-dead.part");
        old(".other.part");
        File::create_new(dir.path().join(".vit-onnx-new.part")).expect("a new file");
        let held = AtomicFile::named(dir.path().join("held")).expect("the folder is writable");
        held.out.get_ref().set_modified(std::time::SystemTime::UNIX_EPOCH).expect("it is ours");
        AtomicFile::named(dir.path().join("m")).and_then(AtomicFile::finish).expect("the folder is writable");
        held.finish().expect("nobody removed it");
        let mut left = names(&dir);
        left.sort();
        assert_eq!(left, [".other.part", ".vit-onnx-new.part", "held", "m"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("sub")).expect("a folder");
        std::fs::write(at("sub/file"), "old").expect("there is space");
        symlink("sub/link", at("first")).expect("a link");
        symlink("file", at("sub/link")).expect("a link");
        symlink(at("sub/new"), at("dangling")).expect("a link");
        for (link, file) in [("first", "sub/file"), ("dangling", "sub/new")] {
            let mut out = AtomicFile::create(&at(link)).expect("the folder is writable");
            out.write_all(b"new").and_then(|()| out.finish()).expect("there is space");
            assert_eq!(std::fs::read(at(file)).expect("a file"), b"new");
            assert!(at(link).is_symlink(), "{link} was replaced");
        }
        symlink("b", at("a")).expect("a link");
        symlink("a", at("b")).expect("a link");
        assert!(AtomicFile::create(&at("a")).expect_err("a loop").to_string().contains("leads back to itself"));
        assert!(AtomicFile::create(&at("sub")).is_err());
        assert!(AtomicFile::create(Path::new("/dev/null")).is_err());
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
