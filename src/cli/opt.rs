//! `vit-onnx opt`: runs passes on the text form.

use super::args::Opt;
use super::build::pass_exit;
use super::{Exit, Failure, Outcome, explain, output};
use crate::ops::Program;
use crate::passes::{self, Ctx};
use crate::rewrite::Row;
use crate::text::{self, Style};
use std::collections::BTreeMap;
use std::path::Path;

pub(super) fn run(a: &Opt) -> Outcome {
    if a.list {
        output::print(list())?;
        return Ok(Exit::Fine);
    }
    let Some(path) = &a.file else { return Err(Failure::usage("a file is needed, or --list")) };
    let program = read(path)?;
    let options = a.steer.options(a.explain);
    let ctx = Ctx::new(a.steer.target, a.steer.opset, &options);
    // Named passes run as they are named; a build adds the passes without which no file can be written.
    let chosen = match &a.steer.passes {
        Some(names) => names.iter().map(|n| passes::find(n).copied()).collect(),
        None => passes::select(a.steer.target, &options),
    };
    let run = chosen.and_then(|chosen| passes::drive(&program, &chosen, ctx, &mut |_, _| ()));
    let run = run.map_err(|e| Failure::new(pass_exit(&e), e))?;
    if a.explain {
        explain::explain(&run.ctx);
    }
    let out = run.program;
    let style = Style { origins: a.origins, ..Style::COMPLETE };
    let mut result = text::print(&out.graph, &style);
    if !out.weights.outputs().is_empty() {
        result.push('\n');
        result.push_str(&text::print(&out.weights, &style));
    }
    output::print(result)?;
    Ok(Exit::Fine)
}

/// Every pass in order, and every rule with the passes that apply it.
fn list() -> String {
    let all = passes::all().iter().map(|p| [p.name, if p.required { "required" } else { "" }, p.doc]);
    let mut rules: BTreeMap<Row, Vec<&str>> = BTreeMap::new();
    for p in passes::all() {
        p.rules.iter().for_each(|r| rules.entry(*r).or_default().push(p.name));
    }
    let rules = rules.iter().map(|(row, passes)| [row.name.to_owned(), row.doc.to_owned(), passes.join(", ")]);
    let passes = output::table(&["pass", "", "what it does"], all);
    format!("{passes}\n\n{}", output::table(&["rule", "identity", "passes"], rules))
}

/// Reads a program: the first graph in a file, and the second as its weight program.
fn read(path: &Path) -> Result<Program, Failure> {
    let at = path.display();
    let bad = |e: &dyn std::fmt::Display| Failure::bad_file(format!("{at}: {e}"));
    let bytes = std::fs::read(path).map_err(|e| bad(&e))?;
    let text = String::from_utf8(bytes).map_err(|_| bad(&"not a text file"))?;
    let graphs = text::parse_all(&text).map_err(|e| bad(&e))?;
    let found = graphs.len();
    let mut graphs = graphs.into_iter();
    let program = match (graphs.next(), graphs.next(), graphs.next()) {
        (Some(graph), None, _) => Program::new(graph),
        (Some(graph), Some(weights), None) => Program { graph: graph.into(), weights: weights.into() },
        _ => return Err(bad(&format!("expected a graph and perhaps its weight program, found {found} graphs"))),
    };
    program.verify().map_err(|e| bad(&e))?;
    Ok(program)
}
