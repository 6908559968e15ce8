//! `vit-onnx opt`: runs passes on the text form.

use super::args::Opt;
use super::{Exit, Failure, Outcome, output};
use crate::ops::Program;
use crate::passes::{self, Pass, PassError};
use crate::text::{self, Style};
use std::io::Read as _;
use std::path::Path;

pub(super) fn run(a: &Opt) -> Outcome {
    if a.list {
        let mut t = output::table(&["pass", "what it does"]);
        for p in passes::all() {
            t.add_row([p.name, p.doc]);
        }
        output::print(output::lines(&t))?;
        return Ok(Exit::Fine);
    }
    let Some(path) = &a.file else { return Err(Failure::usage("a file is needed, or --list")) };
    let pipeline: Vec<Pass> = if a.passes.is_empty() {
        passes::INFERENCE.to_vec()
    } else {
        a.passes.iter().map(|n| passes::find(n).copied()).collect::<Result<_, _>>().map_err(Failure::usage)?
    };
    let program = read(path)?;
    let options = passes::Options { fuel: a.fuel, stop_after: None };
    let (out, _) = passes::run(&program, &pipeline, &options, &mut |_, _| ()).map_err(|e| match e {
        PassError::Unknown(..) => Failure::usage(e),
        _ => Failure::new(Exit::Internal, e),
    })?;
    let style = Style { origins: a.origins, ..Style::COMPLETE };
    let mut result = text::print(&out.graph, &style);
    if !out.weights.outputs().is_empty() {
        result.push('\n');
        result.push_str(&text::print(&out.weights, &style));
    }
    output::print(result)?;
    Ok(Exit::Fine)
}

/// Reads a program: the first graph in a file, and the second as its weight program.
fn read(path: &Path) -> Result<Program, Failure> {
    let at = path.display();
    let bad = |e: &dyn std::fmt::Display| Failure::bad_file(format!("{at}: {e}"));
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut bytes).map_err(|e| bad(&e))?;
    } else {
        bytes = std::fs::read(path).map_err(|e| bad(&e))?;
    }
    let text = String::from_utf8(bytes).map_err(|_| bad(&"not a text file"))?;
    let graphs = text::parse_all(&text).map_err(|e| bad(&e))?;
    let found = graphs.len();
    let mut graphs = graphs.into_iter();
    let program = match (graphs.next(), graphs.next(), graphs.next()) {
        (Some(graph), None, _) => Program::new(graph),
        (Some(graph), Some(weights), None) => Program { graph, weights },
        _ => return Err(bad(&format!("expected a graph and perhaps its weight program, found {found} graphs"))),
    };
    program.verify().map_err(|e| bad(&e))?;
    Ok(program)
}
