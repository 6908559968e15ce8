//! Fetches the pinned ONNX Runtime with the machine's Python package client and puts the shared
//! library into the tool's cache.
//!
//! The folder of a version appears in the cache whole or not at all, by one rename; of several
//! installations at the same time one wins and the others use its result. Python is not needed
//! afterwards.

use super::candidates::{cache_folder, is_library_name, libraries_in};
use super::probe::{ProbeError, Version, probe};
use super::python;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The version that is fetched: the one this program is tested with.
pub const PINNED_VERSION: &str = "1.31.1";

/// Why an installation failed.
#[allow(missing_docs, reason = "the message of a variant names its fields")]
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Neither `HOME` nor its equivalents are set.
    #[error("there is no cache folder: set XDG_CACHE_HOME or HOME")]
    NoCache,
    /// There is no Python with pip.
    #[error(
        "no Python with pip was found (tried {tried}): install one, or name an ONNX Runtime library with --ort-lib or ORT_DYLIB_PATH"
    )]
    NoPackageClient { tried: String },
    /// The package client failed.
    #[error("{command} failed:\n{output}")]
    Fetch { command: String, output: String },
    /// The package is not what it should be.
    #[error("{}: {reason}", package.display())]
    Package { package: PathBuf, reason: String },
    /// The library in the package cannot be used here.
    #[error("{}: {reason}", library.display())]
    Library { library: PathBuf, reason: ProbeError },
    /// The cache cannot be written.
    #[error("{}: {reason}", path.display())]
    Cache { path: PathBuf, reason: std::io::Error },
}

/// The folder of a version within the cache.
pub(super) fn folder_name(version: &str) -> String {
    format!("onnxruntime-{version}")
}

/// Installs [`PINNED_VERSION`] into the tool's own cache, unless it is there, and returns the library. `progress` gets
/// each step in words.
///
/// # Errors
/// [`InstallError`]; the cache is as it was.
pub fn install(progress: &mut dyn FnMut(String)) -> Result<PathBuf, InstallError> {
    let cache = cache_folder().ok_or(InstallError::NoCache)?;
    let target = cache.join(folder_name(PINNED_VERSION));
    if let Some(library) = usable(&target, PINNED_VERSION) {
        progress(format!("{} is already installed", library.display()));
        return Ok(library);
    }
    let staging = staging(&cache)?;
    let wheel = fetch(staging.path(), progress)?;
    progress(format!("unpacking {}", wheel.file_name().unwrap_or_default().display()));
    place(&wheel, PINNED_VERSION, &target, staging.path())
}

/// A folder of our own inside the cache, so that a rename stays within one file system.
fn staging(cache: &Path) -> Result<tempfile::TempDir, InstallError> {
    let made =
        std::fs::create_dir_all(cache).and_then(|()| tempfile::Builder::new().prefix(".install-").tempdir_in(cache));
    made.map_err(|reason| InstallError::Cache { path: cache.to_path_buf(), reason })
}

fn usable(folder: &Path, version: &str) -> Option<PathBuf> {
    let wanted = Version::parse(version);
    libraries_in(folder).into_iter().find(|library| probe(library).ok() == wanted)
}

/// Makes the package client download the wheel into `folder`.
fn fetch(folder: &Path, progress: &mut dyn FnMut(String)) -> Result<PathBuf, InstallError> {
    let has_pip = |i: &&&str| python::answer(python::command(i).args(["-m", "pip", "--version"])).is_some();
    let interpreter = python::INTERPRETERS.iter().find(has_pip);
    let interpreter =
        interpreter.ok_or_else(|| InstallError::NoPackageClient { tried: python::INTERPRETERS.join(", ") })?;
    let package = format!("onnxruntime=={PINNED_VERSION}");
    progress(format!("fetching {package} with {interpreter} -m pip"));
    // Only the shared library is used, so the wheel for any Python will do: the one for this Python,
    // and when there is none, because it is too old or too new, the one for a Python that has one.
    let attempts: [&[&str]; 2] = [&[], &["--python-version", "3.12", "--implementation", "cp"]];
    let mut first_failure = None;
    for choice in attempts {
        let arguments = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-input"];
        let mut command = python::command(interpreter);
        command.args(arguments).args(["--disable-pip-version-check", "--dest", "."]).args(choice).arg(&package);
        let said = command.current_dir(folder).output();
        let failure = match said {
            Ok(said) if said.status.success() => match wheel_in(folder) {
                Some(wheel) => return Ok(wheel),
                None => "it left no wheel".to_owned(),
            },
            Ok(said) => last_lines(&String::from_utf8_lossy(&said.stderr)),
            Err(e) => e.to_string(),
        };
        first_failure.get_or_insert(failure);
    }
    Err(InstallError::Fetch {
        command: format!("{interpreter} -m pip download {package}"),
        output: first_failure.unwrap_or_default(),
    })
}

fn wheel_in(folder: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(folder).ok()?;
    files.filter_map(|e| e.ok().map(|e| e.path())).find(|p| p.extension().is_some_and(|x| x == "whl"))
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(6)..].join("\n")
}

/// Unpacks the wheel, checks the library and moves it to `target` in one step.
fn place(wheel: &Path, version: &str, target: &Path, staging: &Path) -> Result<PathBuf, InstallError> {
    let unpacked = staging.join("unpacked");
    std::fs::create_dir(&unpacked).map_err(|reason| InstallError::Cache { path: unpacked.clone(), reason })?;
    unpack(wheel, &unpacked)?;
    let library = libraries_in(&unpacked).into_iter().next().ok_or_else(|| InstallError::Package {
        package: wheel.to_path_buf(),
        reason: "it holds no ONNX Runtime library".to_owned(),
    })?;
    let stated = probe(&library).map_err(|reason| InstallError::Library { library: library.clone(), reason })?;
    if Some(&stated) != Version::parse(version).as_ref() {
        let reason = format!("it states version {stated}, expected {version}");
        return Err(InstallError::Package { package: wheel.to_path_buf(), reason });
    }
    if std::fs::rename(&unpacked, target).is_err() {
        if let Some(library) = usable(target, version) {
            // Someone else was faster.
            return Ok(library);
        }
        // The folder there is damaged, or the rename failed for another reason, which the second one reports.
        let _ = std::fs::rename(target, staging.join("damaged"));
        if let Err(reason) = std::fs::rename(&unpacked, target) {
            return usable(target, version).ok_or_else(|| InstallError::Cache { path: target.to_path_buf(), reason });
        }
    }
    Ok(target.join(library.file_name().expect("a file of a folder has a name")))
}

/// Unpacks the shared libraries and the license texts of a wheel, which is a zip archive, flat into
/// `folder`.
fn unpack(wheel: &Path, folder: &Path) -> Result<(), InstallError> {
    let bad = |e: &dyn std::fmt::Display| InstallError::Package { package: wheel.to_path_buf(), reason: e.to_string() };
    let file = File::open(wheel).map_err(|e| bad(&e))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|e| bad(&e))?;
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).map_err(|e| bad(&e))?;
        let full_name = entry.name().map_err(|e| bad(&e))?.into_owned();
        let Some(name) = wanted(&full_name) else { continue };
        let path = folder.join(name);
        let copied = File::create_new(&path).and_then(|mut out| {
            std::io::copy(&mut entry, &mut out)?;
            out.sync_all()
        });
        copied.map_err(|reason| InstallError::Cache { path, reason })?;
    }
    Ok(())
}

/// The file name under which an entry of the wheel is kept.
fn wanted(entry: &str) -> Option<&str> {
    let licence = ["LICENSE", "ThirdPartyNotices.txt"];
    match entry.strip_prefix("onnxruntime/capi/") {
        Some(name) => (is_library_name(name) || name.contains("onnxruntime_providers_shared")).then_some(name),
        None => entry.strip_prefix("onnxruntime/").filter(|name| licence.contains(name)),
    }
    .filter(|name| !name.contains(['/', '\\']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn wheel(folder: &Path, entries: &[(&str, &[u8])]) -> zip::result::ZipResult<PathBuf> {
        let path = folder.join("onnxruntime-0-py3-none-any.whl");
        let mut archive = zip::ZipWriter::new(File::create(&path)?);
        for (name, bytes) in entries {
            archive.start_file(*name, zip::write::SimpleFileOptions::default())?;
            archive.write_all(bytes)?;
        }
        archive.finish()?;
        Ok(path)
    }

    #[test]
    fn only_the_library_and_its_licence_are_unpacked() -> zip::result::ZipResult<()> {
        let dir = tempfile::tempdir()?;
        let library = super::super::candidates::library_name();
        let entries: [(&str, &[u8]); 5] = [
            (&format!("onnxruntime/capi/{library}"), b"library"),
            ("onnxruntime/LICENSE", b"MIT"),
            ("onnxruntime/capi/onnxruntime_pybind11_state.so", b"no"),
            (&format!("onnxruntime/capi/../../../{library}"), b"outside"),
            ("onnxruntime/__init__.py", b"no"),
        ];
        let wheel = wheel(dir.path(), &entries)?;
        let out = dir.path().join("out");
        std::fs::create_dir(&out)?;
        unpack(&wheel, &out).expect("the archive is sound");
        let mut names: Vec<_> = std::fs::read_dir(&out)?.filter_map(|e| Some(e.ok()?.file_name())).collect();
        names.sort();
        assert_eq!(names, ["LICENSE", library.as_str()]);
        assert_eq!(std::fs::read(out.join(&library))?, b"library");
        Ok(())
    }

    #[test]
    fn a_wheel_with_a_wrong_library_changes_nothing() -> zip::result::ZipResult<()> {
        let dir = tempfile::tempdir()?;
        let library = format!("onnxruntime/capi/{}", super::super::candidates::library_name());
        let target = dir.path().join(folder_name(PINNED_VERSION));
        let cases: [&[(&str, &[u8])]; 2] = [&[(&library, b"text")], &[("onnxruntime/LICENSE", b"MIT")]];
        for entries in cases {
            let wheel = wheel(dir.path(), entries)?;
            let staging = staging(dir.path()).expect("the folder can be written");
            assert!(place(&wheel, PINNED_VERSION, &target, staging.path()).is_err());
            assert!(!target.exists());
        }
        std::fs::write(dir.path().join("x.whl"), b"PK but not a zip")?;
        assert!(matches!(unpack(&dir.path().join("x.whl"), dir.path()), Err(InstallError::Package { .. })));
        Ok(())
    }
}
