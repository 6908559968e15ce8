//! Output: results on stdout, messages on stderr, colors where they help, progress on a terminal only.
//!
//! A reader that closes the pipe (`| head`) is not an error.

use super::{Exit, Failure, stream};
use anstream::{stderr, stdout};
use anstyle::{AnsiColor, Style};
use comfy_table::{Cell, CellAlignment, Row, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const NOTE: Style = AnsiColor::Cyan.on_default().bold();

/// Prints an error on stderr.
pub(super) fn error(message: &str) {
    say(format_args!("{ERROR}error{ERROR:#}: {message}"));
}

/// Prints a warning on stderr.
pub(super) fn warning(message: impl std::fmt::Display) {
    say(format_args!("{WARNING}warning{WARNING:#}: {message}"));
}

/// Prints a note on stderr.
pub(super) fn note(message: impl std::fmt::Display) {
    say(format_args!("{NOTE}note{NOTE:#}: {message}"));
}

/// Prints a line of a report on stderr.
pub(super) fn say(message: impl std::fmt::Display) {
    // A closed stderr is not an error.
    let _ = writeln!(stderr(), "{}", stream::shown(message.to_string()));
}

/// Prints a result on stdout and ends it with a newline.
pub(super) fn print(result: impl std::fmt::Display) -> Result<(), Failure> {
    let mut text = stream::shown(result.to_string());
    if !text.ends_with('\n') {
        text.push('\n');
    }
    bytes_out(text.as_bytes())
}

/// Writes bytes to stdout.
pub(super) fn bytes_out(bytes: &[u8]) -> Result<(), Failure> {
    copy_out(&mut &*bytes, stdout().lock())
}

/// Copies a file to stdout as it is: `anstream` takes out what looks like an escape sequence.
pub(super) fn file_out(mut file: File) -> Result<(), Failure> {
    copy_out(&mut file, std::io::stdout().lock())
}

fn copy_out(from: &mut impl Read, mut out: impl Write) -> Result<(), Failure> {
    match std::io::copy(from, &mut out).and_then(|_| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::BadFile, format!("standard output: {e}")))
        }
        _ => Ok(()),
    }
}

/// Prints a value as indented JSON on stdout.
pub(super) fn json(value: &serde_json::Value) -> Result<(), Failure> {
    print(format_args!("{value:#}"))
}

/// Formats a table with these headings, without spaces at the ends of lines. Columns whose heading begins with `>` are
/// aligned to the right.
pub(super) fn table<R: Into<Row>>(headings: &[impl AsRef<str>], rows: impl IntoIterator<Item = R>) -> String {
    let mut t = Table::new();
    t.load_preset(presets::NOTHING);
    t.set_header(headings.iter().map(|h| Cell::new(h.as_ref().trim_start_matches('>'))));
    for (column, h) in t.column_iter_mut().zip(headings) {
        column.set_padding((0, 2));
        if h.as_ref().starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    t.add_rows(rows);
    t.trim_fmt()
}

/// Creates a progress bar over bytes, shown on a terminal only.
pub(super) fn bytes_bar(total: u64, what: &str) -> ProgressBar {
    bar_over(total, what, "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}")
}

/// Creates a bar over the parts of a whole, shown on a terminal only; [`advance`] moves it.
pub(super) fn bar(what: &str) -> ProgressBar {
    bar_over(1000, what, "{msg} {wide_bar} {percent} %")
}

fn bar_over(total: u64, what: &str, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the template is a constant");
    ProgressBar::with_draw_target(Some(total), target()).with_style(style).with_message(what.to_owned())
}

/// Moves a bar to the part that is done, from 0 to 1.
pub(super) fn advance(bar: &ProgressBar, part: f64) {
    bar.set_position((1000.0 * part) as u64);
}

/// Creates a spinner for work of unknown length, shown on a terminal only.
#[cfg(feature = "runtime")]
pub(super) fn spinner() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, target());
    bar.enable_steady_tick(std::time::Duration::from_millis(120));
    bar
}

fn target() -> ProgressDrawTarget {
    if stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}

/// Formats a number of bytes.
pub(super) fn bytes(n: u64) -> String {
    indicatif::HumanBytes(n).to_string()
}

/// Formats a count, as in `54.6 M`.
pub(super) fn count(n: u64) -> String {
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{:.1} k", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", n as f64 / 1e6),
        _ => format!("{:.2} G", n as f64 / 1e9),
    }
}
