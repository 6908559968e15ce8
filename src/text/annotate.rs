//! Violations shown in the text of the graph that they are about.

use super::print::{Line, Style, lines};
use crate::ir::verify::{Place, Violations, verify};
use crate::ops::{Graph, Program};
use std::fmt::Write as _;

/// The number of violations that are shown with their lines.
const SHOWN: usize = 8;

/// Every violation; the first eight are followed by the line of the graph that breaks the rule, marked with `>`, and its
/// neighbors.
pub fn annotate(g: &Graph, violations: &Violations) -> String {
    let lines: Vec<Line> = lines(g, &Style::SNAPSHOT).into_iter().filter(|l| !l.text.is_empty()).collect();
    let mut out = String::new();
    for (n, v) in violations.0.iter().enumerate() {
        let _ = writeln!(out, "{v}");
        let Some(at) = position(&lines, v.place).filter(|_| n < SHOWN) else { continue };
        for (i, line) in lines.iter().enumerate().take(at + 2).skip(at.saturating_sub(1)) {
            let _ = writeln!(out, "  {} {}", if i == at { '>' } else { '|' }, line.text);
        }
    }
    out
}

/// Explains why a program does not verify: the annotated violations of its graphs, or `reason` if they have none.
pub fn explain(p: &Program, reason: String) -> String {
    let graphs = [(&p.graph, ""), (&p.weights, "weight program: ")];
    let annotated = graphs.map(|(g, of)| verify(g).err().map(|v| format!("{of}{}", annotate(g, &v).trim_end())));
    let found: Vec<String> = annotated.into_iter().flatten().collect();
    if found.is_empty() { reason } else { found.join("\n") }
}

/// The line that shows a place; a value that a broken graph defines nowhere has none.
fn position(lines: &[Line], place: Place) -> Option<usize> {
    lines.iter().position(|l| l.places.contains(&place))
}
