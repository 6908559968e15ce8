//! Asks the machine's Python where its packages are and whether it can fetch one.
//!
//! Python is started in safe-path mode and never imports the package itself; every question has a
//! time limit, because a broken environment may wait forever.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

/// The names under which Python 3 is started, in order.
pub(super) const INTERPRETERS: &[&str] = if cfg!(windows) { &["python", "py"] } else { &["python3", "python"] };

/// A Python command that does not look for modules in the current folder.
pub(super) fn command(interpreter: &str) -> Command {
    let mut c = Command::new(interpreter);
    c.env("PYTHONSAFEPATH", "1").env("PYTHONIOENCODING", "utf-8").stdin(Stdio::null());
    c
}

/// The folder of the installed `onnxruntime` package, if some Python on the path has one.
pub(super) fn onnxruntime_package() -> Option<PathBuf> {
    // Empty entries of the path are the current folder on Pythons older than safe-path mode.
    const QUESTION: &str = "import sys\nsys.path=[p for p in sys.path if p]\nimport importlib.util as u\n\
        s=u.find_spec('onnxruntime')\nprint(s.submodule_search_locations[0] if s else '')";
    INTERPRETERS.iter().find_map(|interpreter| {
        let said = answer(command(interpreter).args(["-c", QUESTION]))?;
        let folder = said.trim();
        (!folder.is_empty()).then(|| PathBuf::from(folder))
    })
}

/// What `pip` says of itself: its version and where it is. `None` when no Python on the path has one.
pub fn package_client() -> Option<String> {
    INTERPRETERS.iter().find_map(|interpreter| {
        let said = answer(command(interpreter).args(["-m", "pip", "--version"]))?;
        Some(format!("{interpreter} with {}", said.trim()))
    })
}

/// Standard output of a command that ends well within [`PATIENCE`].
pub(super) fn answer(command: &mut Command) -> Option<String> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            _ => break None,
        }
    };
    let Some(status) = status else {
        // Either call fails only when the process is gone already.
        let _ = child.kill();
        let _ = child.wait();
        return None;
    };
    let mut out = String::new();
    child.stdout.take()?.read_to_string(&mut out).ok()?;
    status.success().then_some(out)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_failing_or_absent_command_has_no_answer() {
        assert_eq!(answer(&mut Command::new("no-such-interpreter-of-python")), None);
        assert_eq!(answer(Command::new("sh").args(["-c", "echo yes; exit 1"])), None);
        assert_eq!(answer(Command::new("sh").args(["-c", "echo yes"])), Some("yes\n".to_owned()));
    }
}
