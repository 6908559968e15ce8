//! How things are said: colours where they help, progress on a terminal only.

use anstream::{eprintln, stderr};
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const NOTE: Style = AnsiColor::Cyan.on_default().bold();

/// An error, on stderr.
pub(super) fn error(message: &str) {
    eprintln!("{ERROR}error{ERROR:#}: {message}");
}

/// Something worth knowing, on stderr.
pub(super) fn note(message: impl std::fmt::Display) {
    eprintln!("{NOTE}note{NOTE:#}: {message}");
}

/// A line of a report, on stderr.
pub(super) fn say(message: impl std::fmt::Display) {
    eprintln!("{message}");
}

/// A bar over bytes, shown on a terminal only.
pub(super) fn bytes_bar(total: u64, what: &str) -> ProgressBar {
    let target = if stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}")
        .expect("the template is a constant");
    ProgressBar::with_draw_target(Some(total), target).with_style(style).with_message(what.to_owned())
}

/// A byte count for people.
pub(super) fn bytes(n: u64) -> String {
    indicatif::HumanBytes(n).to_string()
}

/// A count for people: `54.6 M`.
pub(super) fn count(n: u64) -> String {
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{:.1} k", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", n as f64 / 1e6),
        _ => format!("{:.2} G", n as f64 / 1e9),
    }
}
