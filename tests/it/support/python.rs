//! The official checker and another runtime, from PyPI, in a virtual environment of the build folder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What the tests need; pinned, so that a red test is ours.
const PACKAGES: &[&str] = &["onnx==1.23.2", "openvino==2026.4.1", "numpy<3"];

/// The interpreter of the environment, made on first use.
///
/// # Panics
/// When it cannot be made: the checks would be missing without anyone noticing.
pub(crate) fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("checkers");
        let python = home.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
        let ready = home.join(format!("ready-{}", PACKAGES.join("-").replace(['=', '<', '.'], "_")));
        if !ready.exists() {
            eprintln!("making an environment with {}", PACKAGES.join(", "));
            run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home));
            run(Command::new(&python)
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
                .args(PACKAGES));
            std::fs::write(&ready, "").expect("the environment can be written");
        }
        python
    })
}

/// Runs a command to its end and returns what it printed.
///
/// # Panics
/// With all it printed, when it fails.
pub(crate) fn run(command: &mut Command) -> String {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{command:?}: {}\n{text}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
    text
}
