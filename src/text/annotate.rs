//! Violations shown in the text of the graph that they are about.

use super::print::{Line, Style, lines};
use crate::ir::verify::{Place, Violations};
use crate::ops::Graph;
use std::fmt::Write as _;

/// Every violation, each followed by the line that it concerns between its neighbours.
pub fn annotate(g: &Graph, violations: &Violations) -> String {
    let lines: Vec<Line> = lines(g, &Style::SNAPSHOT).into_iter().filter(|l| !l.text.is_empty()).collect();
    let mut out = String::new();
    for v in &violations.0 {
        let _ = writeln!(out, "{v}");
        let Some(at) = position(&lines, v.place) else { continue };
        for (i, line) in lines.iter().enumerate().take(at + 2).skip(at.saturating_sub(1)) {
            let _ = writeln!(out, "  {} {}", if i == at { '>' } else { '|' }, line.text);
        }
    }
    out
}

/// The line of a place; a value that a broken graph nowhere defines has none.
fn position(lines: &[Line], place: Place) -> Option<usize> {
    lines.iter().position(|l| l.places.contains(&place))
}
