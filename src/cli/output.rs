//! How things are said: results on stdout, the rest on stderr, colours where they help, progress on a terminal only.
//!
//! A reader that stopped listening (`| head`) is no error.

use super::{Exit, Failure};
use anstream::{stderr, stdout};
use anstyle::{AnsiColor, Style};
use comfy_table::{Cell, CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{ErrorKind, Write as _};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const NOTE: Style = AnsiColor::Cyan.on_default().bold();

/// An error, on stderr.
pub(super) fn error(message: &str) {
    say(format_args!("{ERROR}error{ERROR:#}: {message}"));
}

/// Something worth knowing, on stderr.
pub(super) fn note(message: impl std::fmt::Display) {
    say(format_args!("{NOTE}note{NOTE:#}: {message}"));
}

/// A line of a report, on stderr.
pub(super) fn say(message: impl std::fmt::Display) {
    // With stderr closed there is nobody to tell.
    let _ = writeln!(stderr(), "{message}");
}

/// A result, on stdout; a newline is added unless it ends with one.
pub(super) fn print(result: impl std::fmt::Display) -> Result<(), Failure> {
    let mut text = result.to_string();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    bytes_out(text.as_bytes())
}

/// A result that is not for people, on stdout.
pub(super) fn bytes_out(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::BadFile, format!("standard output: {e}")))
        }
        _ => Ok(()),
    }
}

/// A value as indented JSON, on stdout.
pub(super) fn json(value: &serde_json::Value) -> Result<(), Failure> {
    print(format_args!("{value:#}"))
}

/// A table with these headings; those that begin with `>` are of numbers, which stand at the right.
pub(super) fn table(headings: &[&str]) -> Table {
    let mut t = Table::new();
    t.load_preset(presets::NOTHING);
    t.set_header(headings.iter().map(|h| Cell::new(h.trim_start_matches('>'))));
    for (column, h) in t.column_iter_mut().zip(headings) {
        column.set_padding((0, 2));
        if h.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    t
}

/// A table as text, without spaces at the ends of lines.
pub(super) fn lines(t: &Table) -> String {
    t.trim_fmt()
}

/// A bar over bytes, shown on a terminal only.
pub(super) fn bytes_bar(total: u64, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}")
        .expect("the template is a constant");
    ProgressBar::with_draw_target(Some(total), target()).with_style(style).with_message(what.to_owned())
}

/// A bar over the parts of a whole, shown on a terminal only; [`advance`] moves it.
pub(super) fn bar(what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {percent} %").expect("the template is a constant");
    ProgressBar::with_draw_target(Some(1000), target()).with_style(style).with_message(what.to_owned())
}

/// Moves a bar to the part that is done, from 0 to 1.
pub(super) fn advance(bar: &ProgressBar, part: f64) {
    bar.set_position((1000.0 * part) as u64);
}

/// A spinner for work of unknown length, shown on a terminal only.
#[cfg(feature = "runtime")]
pub(super) fn spinner() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, target());
    bar.enable_steady_tick(std::time::Duration::from_millis(120));
    bar
}

fn target() -> ProgressDrawTarget {
    if stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
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
