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

/// The number of images in a comparison of two models with a symbolic batch.
const BATCH: usize = 2;

pub(super) fn run(a: &Verify) -> Outcome {
    let tolerance = Tolerance { atol: a.atol, rtol: a.rtol };
    let found = match (&a.by_layer, &a.reference, &a.against) {
        (Some(mid), Some(io), _) => by_layer::compare(a, mid, io, tolerance)?,
        (None, Some(io), _) => with_reference(a, io, tolerance)?,
        (_, None, Some(other)) => with_model(a, other, tolerance)?,
        (_, None, None) => return Err(Failure::usage("either --reference or --against is needed")),
    };
    found.report(a)
}

/// The comparisons, and the outputs without a counterpart.
pub(super) struct Compared {
    /// The kind of rows: output or module.
    pub(super) what: &'static str,
    pub(super) rows: Vec<Row>,
    /// Descriptions of outputs or modules without a counterpart.
    pub(super) unmatched: Vec<String>,
    /// Outputs of the reference that the model does not have, as a clause: a failure unless allowed.
    pub(super) lacking: Option<String>,
}

impl Compared {
    fn report(mut self, a: &Verify) -> Outcome {
        let first = self.rows.iter().find(|r| !r.passes()).map(|r| r.name.clone());
        let refused = self.lacking.clone().filter(|_| !a.allow_unmatched && !self.rows.is_empty());
        // The error says it otherwise.
        if refused.is_none() || a.json {
            self.unmatched.extend(self.lacking);
        }
        let passes = first.is_none() && refused.is_none() && !self.rows.is_empty();
        if a.json {
            output::json(&json!({
                "passes": passes, "first_difference": first,
                "compared": compare::json(&self.rows), "unmatched": self.unmatched,
            }))?;
        } else {
            output::print(compare::text(&self.rows, self.what))?;
            self.unmatched.iter().for_each(output::note);
            if let Some(name) = &first {
                output::say(format_args!("the first {} that differs is {name}", self.what));
            }
        }
        let failed = |message| Err(Failure::new(Exit::Difference, message));
        if self.rows.is_empty() {
            return failed(format!("no {} has a counterpart: nothing was compared", self.what));
        }
        if let Some(lacking) = refused {
            return failed(format!("{lacking}; to compare the others only: --allow-unmatched"));
        }
        Ok(if passes { Exit::Fine } else { Exit::Difference })
    }
}

/// Returns the name of an output in reference files.
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
    let outputs = engine::run(&mut *session, &inputs)?;
    let (mut rows, mut unmatched) = (Vec::new(), Vec::new());
    let mut others: Vec<&str> = reference.names().filter(|n| *n != "input").collect();
    others.retain(|n| session.inputs().iter().all(|p| p.name != *n));
    for (name, found) in &outputs {
        let key = [name, alias(name)].into_iter().find(|n| others.contains(n));
        match key.map(|k| reference.get(k)).transpose()?.flatten() {
            Some(expected) => rows.push(Row::new(name, found, &expected, t)),
            None => unmatched.push(format!("output `{name}` is not in {}", io.display())),
        }
        others.retain(|n| Some(*n) != key);
    }
    Ok(Compared { what: "output", rows, unmatched, lacking: lacking(io, &others) })
}

/// Says that the model has none of the outputs `names` of a reference; a few names say enough.
fn lacking(reference: &Path, names: &[&str]) -> Option<String> {
    const SHOWN: usize = 8;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|n| format!("`{n}`")).collect();
    let more = names.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let which = format!("{}{more}", shown.join(", "));
    (!names.is_empty()).then(|| format!("{} has {which}, which the model does not output", reference.display()))
}

fn with_model(a: &Verify, other: &Path, t: Tolerance) -> Result<Compared, Failure> {
    let (name, mut one) = engine::load(&a.file, &a.engine)?;
    let (_, mut two) = engine::load(other, &a.engine)?;
    output::say(&name);
    let inputs = random(one.inputs(), two.inputs(), a.weights.seed)?;
    let (found, expected) = (engine::run(&mut *one, &inputs)?, engine::run(&mut *two, &inputs)?);
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
    let others = expected.iter().map(|(n, _)| n.as_str());
    let others: Vec<&str> =
        others.filter(|n| rows.len() < expected.len() && rows.iter().all(|r| r.name != *n)).collect();
    Ok(Compared { what: "output", rows, unmatched, lacking: lacking(other, &others) })
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
                "input `{}` has the symbolic size {d}, so no random input can be made; use --reference",
                p.signature()
            ))),
        };
        let shape = (0..p.shape.len()).map(size).collect::<Result<Vec<_>, _>>()?;
        let drawn = weights::fill(&Init::Normal(Real(1.0)), seed, &p.name, &shape, p.dtype);
        out.push((p.name.clone(), drawn.map_err(Failure::bad_file)?));
    }
    Ok(out)
}
