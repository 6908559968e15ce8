//! `vit-onnx verify`.

use super::args::Verify;
use super::compare::{self, Row, Tolerance};
use super::files::Tensors;
use super::{Exit, Failure, Outcome, by_layer, engine, output};
use crate::ir::{Init, Real, Tensor};
use crate::runtime::{Port, PortDim};
use crate::weights;
use serde_json::json;
use std::path::Path;

/// Images in a comparison of two models that leave the number open.
const BATCH: usize = 2;

pub(super) fn run(a: &Verify) -> Outcome {
    let tolerance = Tolerance { atol: a.atol, rtol: a.rtol };
    let found = match (&a.by_layer, &a.reference, &a.against) {
        (Some(mid), Some(io), _) => by_layer::compare(a, mid, io, tolerance)?,
        (None, Some(io), _) => with_reference(a, io, tolerance)?,
        (_, None, Some(other)) => with_model(a, other, tolerance)?,
        (_, None, None) => return Err(Failure::usage("either --reference or --against is needed")),
    };
    found.report(a.json)
}

/// A finished comparison.
pub(super) struct Compared {
    /// Output, or module.
    pub(super) what: &'static str,
    pub(super) rows: Vec<Row>,
    /// Outputs without a counterpart, in words.
    pub(super) unmatched: Vec<String>,
}

impl Compared {
    fn report(self, as_json: bool) -> Outcome {
        let first = self.rows.iter().find(|r| !r.passes()).map(|r| r.name.clone());
        if as_json {
            output::json(&json!({
                "passes": first.is_none(), "first_difference": first,
                "compared": compare::json(&self.rows), "unmatched": self.unmatched,
            }))?;
        } else {
            output::print(compare::text(&self.rows, self.what))?;
            self.unmatched.iter().for_each(output::note);
            if let Some(name) = &first {
                output::say(format_args!("the first {} that differs is {name}", self.what));
            }
        }
        if self.rows.is_empty() {
            return Err(Failure::bad_file(format!("no {} has a counterpart: nothing was compared", self.what)));
        }
        Ok(if first.is_none() { Exit::Fine } else { Exit::Difference })
    }
}

/// The name under which reference files keep an output.
fn alias(output: &str) -> &str {
    match output {
        "logits" | "last_hidden_state" => "output",
        "distill_logits" => "output.1",
        "attentions" => "attn",
        other => other,
    }
}

fn with_reference(a: &Verify, io: &Path, t: Tolerance) -> Result<Compared, Failure> {
    let reference = Tensors::open(io)?;
    let (name, mut session) = engine::load(&a.file, &a.engine)?;
    output::say(&name);
    let inputs = reference.inputs(session.inputs(), Some("input"), false)?;
    let outputs = session.run(&inputs)?;
    let (mut rows, mut unmatched) = (Vec::new(), Vec::new());
    for (name, found) in &outputs {
        let expected = match reference.get(name)? {
            None => reference.get(alias(name))?,
            some => some,
        };
        match expected {
            Some(expected) => rows.push(Row::new(name, found, &expected, t)),
            None => unmatched.push(format!("output `{name}` is not in {}", io.display())),
        }
    }
    if rows.is_empty() {
        let has: Vec<&str> = reference.names().take(12).collect();
        unmatched.push(format!("{} has {}", io.display(), has.join(", ")));
    }
    Ok(Compared { what: "output", rows, unmatched })
}

fn with_model(a: &Verify, other: &Path, t: Tolerance) -> Result<Compared, Failure> {
    let (name, mut one) = engine::load(&a.file, &a.engine)?;
    let (_, mut two) = engine::load(other, &a.engine)?;
    output::say(&name);
    let inputs = random(one.inputs(), two.inputs(), a.weights.seed)?;
    let (found, expected) = (one.run(&inputs)?, two.run(&inputs)?);
    let (mut rows, mut unmatched) = (Vec::new(), Vec::new());
    for (name, x) in &found {
        let same = expected.iter().find(|(n, _)| n == name);
        // With one output each, names do not matter.
        let only = expected.first().filter(|_| found.len() == 1 && expected.len() == 1);
        match same.or(only) {
            Some((_, y)) => rows.push(Row::new(name, x, y, t)),
            None => unmatched.push(format!("only {} has output `{name}`", a.file.display())),
        }
    }
    for (name, _) in expected.iter().filter(|(n, _)| found.len() > 1 && found.iter().all(|(m, _)| m != n)) {
        unmatched.push(format!("only {} has output `{name}`", other.display()));
    }
    Ok(Compared { what: "output", rows, unmatched })
}

/// Draws inputs for both models from the standard normal distribution.
fn random(one: &[Port], two: &[Port], seed: u64) -> Result<Vec<(String, Tensor)>, Failure> {
    let mut out = Vec::new();
    for p in one {
        let q = two.iter().find(|q| q.name == p.name && q.shape.len() == p.shape.len());
        let size = |i: usize| match (&p.shape[i], q.map(|q| &q.shape[i])) {
            (PortDim::Known(n), _) | (_, Some(PortDim::Known(n))) => Ok(*n),
            _ if i == 0 => Ok(BATCH),
            (d, _) => Err(Failure::usage(format!(
                "input `{}`: its size {d} is open, so that it cannot be drawn; use --reference",
                p.signature()
            ))),
        };
        let shape = (0..p.shape.len()).map(size).collect::<Result<Vec<_>, _>>()?;
        let drawn = weights::fill(&Init::Normal(Real(1.0)), seed, &p.name, &shape, p.dtype);
        out.push((p.name.clone(), drawn.map_err(Failure::bad_file)?));
    }
    Ok(out)
}
