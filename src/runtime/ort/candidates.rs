//! Where an ONNX Runtime library may lie on this machine: names and folders, nothing opened.
//!
//! The environment is a value ([`Surroundings`]), so tests need not change the process's own.

use super::report::Source;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What the search depends on outside the command line.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// `ORT_DYLIB_PATH`.
    pub dylib_path: Option<PathBuf>,
    /// The folder of the running executable.
    pub executable_folder: Option<PathBuf>,
    /// The tool's own cache, see [`cache_folder`].
    pub cache: Option<PathBuf>,
    /// Roots of active Python environments with what names them: `VIRTUAL_ENV`, `CONDA_PREFIX`.
    pub python_prefixes: Vec<PathBuf>,
    /// Whether the system loader may be asked.
    pub system_loader: bool,
    /// Whether the `python3` on the path may be started to ask for its packages.
    pub ask_python: bool,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        Self {
            dylib_path: variable("ORT_DYLIB_PATH"),
            executable_folder: std::env::current_exe().ok().and_then(|p| p.parent().map(Path::to_path_buf)),
            cache: cache_folder(),
            python_prefixes: ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(variable).collect(),
            system_loader: true,
            ask_python: true,
        }
    }

    /// Folders to look into, in order, each with its source.
    pub(super) fn folders(&self) -> Vec<(Source, PathBuf)> {
        let mut out = Vec::new();
        out.extend(self.executable_folder.iter().map(|p| (Source::Executable, p.clone())));
        out.extend(self.cache.iter().flat_map(|c| installed(c)).map(|p| (Source::Cache, p)));
        for prefix in &self.python_prefixes {
            out.extend(python_packages(prefix).into_iter().map(|p| (Source::Python, capi(&p))));
        }
        out
    }
}

/// The tool's own cache: `$XDG_CACHE_HOME/vit-onnx` or `~/.cache/vit-onnx`, on macOS
/// `~/Library/Caches/vit-onnx`, on Windows `%LOCALAPPDATA%\vit-onnx`.
pub fn cache_folder() -> Option<PathBuf> {
    cache_folder_from(|name| std::env::var_os(name).filter(|v| !v.is_empty()))
}

fn cache_folder_from(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    // The XDG specification: a relative path is to be ignored.
    let xdg = variable("XDG_CACHE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    let home = || variable("HOME").map(PathBuf::from);
    let base = xdg.or_else(|| {
        if cfg!(windows) {
            variable("LOCALAPPDATA").map(PathBuf::from)
        } else if cfg!(target_os = "macos") {
            home().map(|h| h.join("Library").join("Caches"))
        } else {
            home().map(|h| h.join(".cache"))
        }
    })?;
    Some(base.join("vit-onnx"))
}

/// The `onnxruntime-<version>` folders of the cache, the pinned version first, then the newest.
fn installed(cache: &Path) -> Vec<PathBuf> {
    let pinned = cache.join(super::install::folder_name(super::PINNED_VERSION));
    let mut others: Vec<(super::Version, PathBuf)> = entries(cache)
        .into_iter()
        .filter(|p| *p != pinned)
        .filter_map(|p| {
            let name = p.file_name()?.to_str()?.strip_prefix("onnxruntime-")?.to_owned();
            Some((super::Version::parse(&name)?, p))
        })
        .collect();
    others.sort_by(|a, b| b.cmp(a));
    std::iter::once(pinned).chain(others.into_iter().map(|(_, p)| p)).collect()
}

/// `site-packages` folders of a Python environment.
fn python_packages(prefix: &Path) -> Vec<PathBuf> {
    if cfg!(windows) {
        return vec![prefix.join("Lib").join("site-packages")];
    }
    let versions = entries(&prefix.join("lib"));
    let is_python = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("python3"));
    versions.into_iter().filter(is_python).map(|p| p.join("site-packages")).collect()
}

/// Where the Python package keeps the shared library.
pub(super) fn capi(packages: &Path) -> PathBuf {
    packages.join("onnxruntime").join("capi")
}

/// The file name an ONNX Runtime library has without a version.
pub(super) fn library_name() -> String {
    format!("{}onnxruntime{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX)
}

/// Whether a file name is that of an ONNX Runtime library, with or without a version.
pub(super) fn is_library_name(name: &str) -> bool {
    if name == library_name() {
        return true;
    }
    if cfg!(windows) {
        false
    } else if cfg!(target_os = "macos") {
        name.strip_prefix("libonnxruntime.").is_some_and(|rest| rest.strip_suffix(".dylib").is_some())
    } else {
        name.starts_with("libonnxruntime.so.")
    }
}

/// The ONNX Runtime libraries in a folder, by name.
pub(super) fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    let matches = |p: &PathBuf| p.file_name().and_then(|n| n.to_str()).is_some_and(is_library_name);
    entries(folder).into_iter().filter(matches).collect()
}

/// Sorted, so that the search does not depend on the order of the file system.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut out: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().filter_map(|e| e.ok().map(|e| e.path())).collect();
    out.sort();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_obeys_xdg_and_ignores_relative_paths() {
        let from = |xdg: &'static str| {
            cache_folder_from(move |name| match name {
                "XDG_CACHE_HOME" if !xdg.is_empty() => Some(xdg.into()),
                "HOME" => Some("/home/u".into()),
                "LOCALAPPDATA" => Some(r"C:\Users\u\AppData\Local".into()),
                _ => None,
            })
        };
        if cfg!(target_os = "linux") {
            assert_eq!(from("/var/c"), Some(PathBuf::from("/var/c/vit-onnx")));
            assert_eq!(from("c"), Some(PathBuf::from("/home/u/.cache/vit-onnx")));
            assert_eq!(from(""), Some(PathBuf::from("/home/u/.cache/vit-onnx")));
        }
        assert_eq!(cache_folder_from(|_| None), None);
    }

    #[test]
    fn the_pinned_version_comes_first_then_the_newest() -> std::io::Result<()> {
        let cache = tempfile::tempdir()?;
        let pinned = super::super::install::folder_name(super::super::PINNED_VERSION);
        for name in ["onnxruntime-1.9.0", "onnxruntime-1.22.0", "onnxruntime-x", "unrelated"] {
            std::fs::create_dir(cache.path().join(name))?;
        }
        let names: Vec<_> = installed(cache.path()).iter().filter_map(|p| Some(p.file_name()?.to_owned())).collect();
        assert_eq!(names, [pinned.as_str(), "onnxruntime-1.22.0", "onnxruntime-1.9.0"]);
        Ok(())
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_the_runtime_itself_counts_as_a_library() {
        assert!(is_library_name("libonnxruntime.so") && is_library_name("libonnxruntime.so.1.31.1"));
        assert!(!is_library_name("libonnxruntime_providers_shared.so") && !is_library_name("libonnxruntime.so-gdb.py"));
    }
}
