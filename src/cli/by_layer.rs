//! `vit-onnx verify --by-layer`: finds the first module where the declared graph differs from the original.
//!
//! The output of a module is one of the last values in its scope or of the next values after it; the one with the smallest
//! difference counts. If a module is called several times, the runs of consecutive nodes in its scope are its calls. A
//! module whose calls cannot be distinguished, or which has no value of that shape, is listed as unmapped.

use super::args::Verify;
use super::compare::{Row, Tolerance};
use super::files::Tensors;
use super::verify::Compared;
use super::{Failure, build};
use crate::eval;
use crate::ir::{NodeId, Tensor, ValueId};
use crate::ops::Graph;
use crate::template::Model;
use crate::variants::Declare;
use crate::weights::Source;
use std::collections::BTreeMap;
use std::path::Path;

pub(super) fn compare(a: &Verify, mid: &Path, io: &Path, t: Tolerance) -> Result<Compared, Failure> {
    let (mid, io_tensors) = (Tensors::open(mid)?, Tensors::open(io)?);
    let source = build::open(&a.weights)?;
    let mut model = model(a, source.as_deref())?;
    let image = match io_tensors.get("pixel_values")? {
        None => io_tensors.get("input")?,
        some => some,
    };
    let Some(image) = image else {
        return Err(Failure::bad_file(format!("{}: has neither `pixel_values` nor `input`", io.display())));
    };
    let &[_, _, h, w] = image.shape() else {
        return Err(Failure::bad_file(format!("{}: the images have shape {:?}", io.display(), image.shape())));
    };
    model.declaration.input_size = Some([h, w]);
    let mut graph = model.declaration.declare(&Declare::default()).map_err(Failure::bad_file)?;
    let checkpoint = build::checkpoint(&a.weights, source, &graph)?;

    let prefix = checkpoint.matching().and_then(|m| m.report.prefix.as_ref()).map_or("", |p| p.prefix.as_str());
    let mut names: Vec<&str> = mid.names().collect();
    names.sort_unstable();
    let (mapped, mut unmatched) = map(&graph, &names, prefix);
    graph.retain_outputs(|_| false);
    for (name, c) in &mapped {
        c.values().for_each(|v| graph.add_output(*name, v));
    }
    let mut param =
        |path: &str, _: &crate::ir::TensorType| checkpoint.parameter(&graph, path).map_err(|e| e.to_string());
    let outputs = eval::run(&graph, &mut param, &[("pixel_values", image)]).map_err(Failure::bad_file)?;
    let (mut rows, mut rest) = (Vec::new(), outputs.as_slice());
    for (name, c) in &mapped {
        let (inside, more) = rest.split_at(c.inside.len());
        let (after, more) = more.split_at(c.after.len());
        rest = more;
        let Some(expected) = mid.get(name)? else { continue };
        let nearest = |found: &[(String, Tensor)]| {
            let fitting = found.iter().filter(|(_, c)| c.shape() == expected.shape());
            fitting.map(|(_, c)| Row::new(name, c, &expected, t)).min_by(|a, b| a.used().total_cmp(&b.used()))
        };
        // A value after the scope may belong to another module: it proves agreement, not a difference.
        match (nearest(inside), nearest(after)) {
            (_, Some(row)) if row.passes() => rows.push(row),
            (Some(row), _) => rows.push(row),
            _ => unmatched.push(format!("unmapped: {name}: none of its values has shape {:?}", expected.shape())),
        }
    }
    Ok(Compared { what: "module", rows, unmatched, lacking: None })
}

/// Returns the model of the arguments, else the one in the file.
fn model(a: &Verify, source: Option<&dyn Source>) -> Result<Model, Failure> {
    if a.declared.config.is_some() || a.declared.variant.is_some() {
        return build::model_of(&a.declared, &a.weights, source);
    }
    build::model_in(&a.file, &a.declared.sets)
}

/// Values that may be a module's output.
struct Candidates {
    /// The last values of its scope, the very last first.
    inside: Vec<ValueId>,
    /// The next values after it: a residual connection or an activation that the declaration puts in another scope.
    after: Vec<ValueId>,
}

/// The number of values of each kind that are compared.
const CANDIDATES: usize = 12;

impl Candidates {
    fn of(g: &Graph, stretch: &[NodeId]) -> Self {
        let first = |n: NodeId| g.node(n).outputs().next();
        let last = stretch.last().copied();
        let after = g.nodes().map(|(id, _)| id).filter(|id| last.is_some_and(|l| *id > l));
        Self {
            inside: stretch.iter().rev().filter_map(|n| first(*n)).take(CANDIDATES).collect(),
            after: after.filter_map(first).take(CANDIDATES).collect(),
        }
    }

    fn values(&self) -> impl Iterator<Item = ValueId> {
        self.inside.iter().chain(&self.after).copied()
    }
}

/// Returns the values of module outputs, in the order of computation, and the names that have none. Names begin with
/// `prefix` if the checkpoint's keys do.
fn map<'n>(g: &Graph, names: &[&'n str], prefix: &str) -> (Vec<(&'n str, Candidates)>, Vec<String>) {
    let mut calls: BTreeMap<&str, Vec<(usize, &'n str)>> = BTreeMap::new();
    for name in names {
        let (module, k) = match name.rsplit_once('#') {
            Some((m, k)) if k.parse::<usize>().is_ok() => (m, k.parse().unwrap_or(0)),
            _ => (*name, 0),
        };
        calls.entry(module.strip_prefix(prefix).unwrap_or(module)).or_default().push((k, name));
    }
    let (mut mapped, mut unmapped) = (Vec::new(), Vec::new());
    for (module, mut wanted) in calls {
        wanted.sort_unstable();
        let stretches = stretches(g, module);
        match wanted.as_slice() {
            _ if stretches.is_empty() => {
                unmapped.extend(wanted.iter().map(|(_, n)| format!("unmapped: {n}: the graph has no such module")));
            }
            [(_, name)] => mapped.extend(stretches.last().map(|s| (*name, Candidates::of(g, s)))),
            many if many.len() == stretches.len() => {
                mapped.extend(many.iter().zip(&stretches).map(|((_, n), s)| (*n, Candidates::of(g, s))));
            }
            many => unmapped.extend(many.iter().map(|(_, n)| {
                format!("unmapped: {n}: the file names {} calls, the graph has {}", many.len(), stretches.len())
            })),
        }
    }
    mapped.sort_by_key(|(_, c)| c.inside.first().copied());
    (mapped, unmapped)
}

/// Returns the runs of consecutive nodes in a module.
fn stretches(g: &Graph, module: &str) -> Vec<Vec<NodeId>> {
    let inside = |path: &str| path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let nodes: Vec<(NodeId, bool)> =
        g.nodes().map(|(id, n)| (id, module.is_empty() || inside(g.scope_path(n.origin.scope)))).collect();
    let runs = nodes.chunk_by(|a, b| a.1 == b.1).filter(|run| run[0].1);
    runs.map(|run| run.iter().map(|(id, _)| *id).collect()).collect()
}
