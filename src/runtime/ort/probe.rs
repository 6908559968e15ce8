//! Opens a library and asks it which ONNX Runtime it is, without loading `ort`.
//!
//! This is the only file of the room with `unsafe` code. Everything that can be refused before the
//! loader maps the file (not a regular file, not a shared library, cut short) is refused first,
//! because the loader answers some of these with a signal or by waiting forever.
#![allow(unsafe_code)]

use super::elf;
use std::ffi::CStr;
use std::fmt;
use std::path::{Path, PathBuf};

/// The oldest ONNX Runtime `(major, minor)` whose C interface this program can use.
pub const MINIMUM_VERSION: (u32, u32) = (1, 19);

/// The version an ONNX Runtime library states, `1.31.1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    numbers: [u32; 3],
    text: String,
}

impl Version {
    /// Reads `major.minor[.patch][suffix]`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('.');
        let mut next = || {
            let part = parts.next()?;
            part[..part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len())].parse().ok()
        };
        let numbers = [next()?, next()?, next().unwrap_or(0)];
        Some(Self { numbers, text: text.trim().to_owned() })
    }

    /// Whether this program can use it.
    pub fn is_supported(&self) -> bool {
        (self.numbers[0], self.numbers[1]) >= MINIMUM_VERSION && self.numbers[0] == MINIMUM_VERSION.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a file cannot serve as ONNX Runtime.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// Nothing is there.
    #[error("no such file")]
    Missing,
    /// A folder, a device, a pipe.
    #[error("not a regular file")]
    NotAFile,
    /// The file is no complete shared library.
    #[error("not a shared library: {0}")]
    NotALibrary(String),
    /// The system loader refuses it.
    #[error("the system loader refuses it: {0}")]
    Loader(String),
    /// A library other than ONNX Runtime.
    #[error("a shared library, but not ONNX Runtime (it does not export OrtGetApiBase)")]
    NotOnnxRuntime,
    /// It does not state a version that can be read.
    #[error("states no version (`{0}`)")]
    NoVersion(String),
    /// Too old, or of another major version.
    #[error("version {0} is not supported: expected {min}.{minor} or a later {min}.x", min = MINIMUM_VERSION.0, minor = MINIMUM_VERSION.1)]
    Unsupported(Version),
    /// It states a version and does not have that version's C interface.
    #[error("states version {0} but does not offer the C interface of {min}.{minor}", min = MINIMUM_VERSION.0, minor = MINIMUM_VERSION.1)]
    NoInterface(Version),
}

/// Opens the library at `path` (a bare name is left to the system loader's search) and reads its
/// version through `OrtGetApiBase()->GetVersionString`.
///
/// The library stays mapped for the life of the process: unloading a C++ runtime with threads is
/// not safe, and the one chosen is opened again anyway.
pub(super) fn probe(path: &Path) -> Result<Version, ProbeError> {
    let by_name = path.components().count() == 1 && !path.exists();
    let path = if by_name { path.to_path_buf() } else { regular_library(path)? };
    // SAFETY: loading a library runs its initializers, which is what asking for it means. The file was
    // checked to be a complete shared library, or is one the system loader finds by its well-known name.
    let library = unsafe { libloading::Library::new(&path) };
    let library = std::mem::ManuallyDrop::new(library.map_err(|e| ProbeError::Loader(loader_message(&e)))?);
    type GetApiBase = unsafe extern "system" fn() -> *const ort::sys::OrtApiBase;
    // SAFETY: `OrtGetApiBase` has had this one signature in every release of ONNX Runtime.
    let get = unsafe { library.get::<GetApiBase>(b"OrtGetApiBase\0") }.map_err(|_| ProbeError::NotOnnxRuntime)?;
    // SAFETY: the function takes nothing and returns null or a pointer to a static table, whose two
    // entries have been the same in every release; the version is a static NUL-terminated string, and
    // asking for an interface the library does not have gives null.
    let (stated, has_interface) = unsafe {
        let base = get().as_ref().ok_or(ProbeError::NotOnnxRuntime)?;
        let text = (base.GetVersionString)();
        if text.is_null() {
            return Err(ProbeError::NoVersion(String::new()));
        }
        (CStr::from_ptr(text).to_string_lossy().into_owned(), !(base.GetApi)(MINIMUM_VERSION.1).is_null())
    };
    match Version::parse(&stated) {
        None => Err(ProbeError::NoVersion(stated)),
        Some(version) if !version.is_supported() => Err(ProbeError::Unsupported(version)),
        Some(version) if !has_interface => Err(ProbeError::NoInterface(version)),
        Some(version) => Ok(version),
    }
}

/// The absolute path of a file that is at least a complete shared library.
fn regular_library(path: &Path) -> Result<PathBuf, ProbeError> {
    let path = std::path::absolute(path).map_err(|_| ProbeError::Missing)?;
    // Opening a pipe would wait for a writer, so ask what it is before reading.
    let metadata = std::fs::metadata(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => ProbeError::Missing,
        _ => ProbeError::Loader(e.to_string()),
    })?;
    if !metadata.is_file() {
        return Err(ProbeError::NotAFile);
    }
    elf::check(&path)?;
    Ok(path)
}

/// `libloading` hides what the loader said behind the source of its error.
fn loader_message(e: &libloading::Error) -> String {
    std::error::Error::source(e).map_or_else(|| e.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        let supported = |s| Version::parse(s).is_some_and(|v| v.is_supported());
        assert!(supported("1.19.0") && supported("1.31.1") && supported("1.100.0-dev"));
        assert!(!supported("1.9.0") && !supported("1.18.2") && !supported("2.0.0") && !supported("0.20.0"));
        assert_eq!(Version::parse("banana"), None);
        assert!(Version::parse("1.9.0") < Version::parse("1.19.0"));
    }

    #[test]
    fn what_is_no_library_is_refused_before_loading() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let text = dir.path().join("libonnxruntime.so");
        std::fs::write(&text, "this is not a library\n")?;
        assert!(matches!(probe(&text), Err(ProbeError::NotALibrary(_) | ProbeError::Loader(_))));
        assert_eq!(probe(dir.path()), Err(ProbeError::NotAFile));
        assert_eq!(probe(&dir.path().join("absent.so")), Err(ProbeError::Missing));
        Ok(())
    }

    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn another_library_is_recognized() {
        // The C library is mapped in this process, whatever its path is.
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let libc = maps.split_whitespace().find(|w| w.starts_with('/') && w.contains("libc.so"));
        let libc = libc.expect("the C library is mapped");
        assert_eq!(probe(Path::new(libc)), Err(ProbeError::NotOnnxRuntime));
    }
}
