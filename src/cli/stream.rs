//! Standard input, standard output and pipes where a command expects files.
//!
//! Readers map files and writers rename them, which streams do not allow. So what comes from a stream is first copied to a
//! temporary file, and what goes to one is first a whole temporary file. Messages use the names that the user knows.

use super::{Failure, output};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Paths of temporary files, and what they stand for.
static NAMES: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

/// Returns a text with the names of streams in place of the paths of temporary files.
pub(super) fn shown(text: String) -> String {
    let names = NAMES.lock().expect("no thread panics while it holds the lock");
    names.iter().fold(text, |text, (path, name)| text.replace(path, name))
}

fn stands_for(temporary: &Path, name: &str) {
    let names = (temporary.display().to_string(), name.to_owned());
    NAMES.lock().expect("no thread panics while it holds the lock").push(names);
}

fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn is_pipe(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir())
}

/// Returns true if what is written to this path goes to standard output, a pipe or a device.
pub(super) fn is_stream(path: &Path) -> bool {
    is_standard(path) || is_pipe(path)
}

/// Returns the name of an output in messages.
pub(super) fn name(path: &Path) -> String {
    if is_standard(path) { "standard output".to_owned() } else { path.display().to_string() }
}

/// A temporary file without a name, where the system has a path for it all the same.
#[cfg(unix)]
type Spool = File;
#[cfg(not(unix))]
type Spool = tempfile::NamedTempFile;

/// Copies the streams among these inputs to temporary files, which live as long as the result, and replaces their paths.
pub(super) fn spool(inputs: Vec<&mut PathBuf>) -> Result<Vec<Spool>, Failure> {
    if inputs.iter().filter(|p| is_standard(p)).count() > 1 {
        return Err(Failure::usage(
            "`-` is standard input, which can be read only once; give files for the other inputs",
        ));
    }
    let mut spooled = Vec::new();
    for path in inputs.into_iter().filter(|p| is_stream(p)) {
        let name = if is_standard(path) { "standard input".to_owned() } else { path.display().to_string() };
        let copied = if is_standard(path) { copy(io::stdin().lock()) } else { File::open(&*path).and_then(copy) };
        let (file, temporary) = copied.map_err(|e| Failure::bad_file(format!("{name}: {e}")))?;
        stands_for(&temporary, &name);
        *path = temporary;
        spooled.push(file);
    }
    Ok(spooled)
}

#[cfg(unix)]
fn copy(mut from: impl io::Read) -> io::Result<(Spool, PathBuf)> {
    let mut file = tempfile::tempfile()?;
    io::copy(&mut from, &mut file)?;
    // `bench` loads models in processes of their own, which inherit the descriptor.
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty())?;
    let path = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    Ok((file, path.into()))
}

#[cfg(not(unix))]
fn copy(mut from: impl io::Read) -> io::Result<(Spool, PathBuf)> {
    let mut file = Spool::new()?;
    io::copy(&mut from, &mut file)?;
    let path = file.path().to_owned();
    Ok((file, path))
}

/// Has `write` write a file at `path`; if that is a stream, it writes a temporary file, whose bytes follow when it is whole.
pub(super) fn write<T>(path: &Path, write: impl FnOnce(&Path) -> Result<T, Failure>) -> Result<T, Failure> {
    if !is_stream(path) {
        return write(path);
    }
    let bad = |e: io::Error| Failure::bad_file(format!("{}: {e}", name(path)));
    let folder = tempfile::tempdir().map_err(bad)?;
    let temporary = folder.path().join(path.file_name().unwrap_or_default());
    stands_for(&temporary, &name(path));
    let done = write(&temporary)?;
    let mut whole = File::open(&temporary).map_err(bad)?;
    // Where the system lets it, so that nothing stays behind if the reader ends this process.
    let _ = std::fs::remove_file(&temporary);
    if is_standard(path) {
        output::file_out(whole)?;
    } else {
        File::options().write(true).open(path).and_then(|mut to| io::copy(&mut whole, &mut to)).map_err(bad)?;
    }
    Ok(done)
}
