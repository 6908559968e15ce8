//! `vit-onnx verify --by-layer`: where the numbers of the declared graph first leave those of the original modules.
//!
//! The output of a module is among the values that were produced last in its scope; of these the nearest counts. Where a
//! module is called several times, the stretches of nodes in its scope are its calls; a module whose calls cannot be told
//! apart, or which has no value of that shape, is listed as unmapped.

use super::args::Verify;
use super::compare::{Row, Tolerance};
use super::files::{self, Tensors};
use super::verify::Compared;
use super::{Failure, build};
use crate::compile::metadata;
use crate::eval;
use crate::ir::{NodeId, ValueId};
use crate::ops::Graph;
use crate::template::{Model, Source};
use crate::variants::{self, Declare};
use std::collections::BTreeMap;
use std::path::Path;

pub(super) fn compare(a: &Verify, mid: &Path, io: &Path, t: Tolerance) -> Result<Compared, Failure> {
    let (mid, io_tensors) = (Tensors::open(mid)?, Tensors::open(io)?);
    let model = model(a)?;
    let image = match io_tensors.get("pixel_values")? {
        None => io_tensors.get("input")?,
        some => some,
    };
    let Some(image) = image else {
        return Err(Failure::bad_file(format!("{}: there is neither `pixel_values` nor `input`", io.display())));
    };
    let &[_, _, h, w] = image.shape() else {
        return Err(Failure::bad_file(format!("{}: the images have shape {:?}", io.display(), image.shape())));
    };
    let declare = Declare { input_size: Some([h, w]), ..Declare::default() };
    let mut graph =
        variants::declare(model.entry.name, &*model.variant, model.release, &declare).map_err(Failure::bad_file)?;
    let checkpoint = build::checkpoint(&a.weights, &graph)?;

    let prefix = checkpoint.matching().and_then(|m| m.report.prefix.as_ref()).map_or("", |p| p.prefix.as_str());
    let mut names: Vec<&str> = mid.names().collect();
    names.sort_unstable();
    let (mapped, mut unmatched) = map(&graph, &names, prefix);
    graph.clear_outputs();
    for (name, values) in &mapped {
        values.iter().for_each(|v| graph.add_output(*name, *v));
    }
    let mut param =
        |path: &str, _: &crate::ir::TensorType| checkpoint.parameter(&graph, path).map_err(|e| e.to_string());
    let outputs = eval::run(&graph, &mut param, &[("pixel_values", image)]).map_err(Failure::bad_file)?;
    let (mut rows, mut rest) = (Vec::new(), outputs.as_slice());
    for (name, values) in &mapped {
        let (candidates, after) = rest.split_at(values.len());
        rest = after;
        let Some(expected) = mid.get(name)? else { continue };
        let fitting = candidates.iter().filter(|(_, c)| c.shape() == expected.shape());
        let compared = fitting.map(|(_, c)| Row::new(name, c, &expected, t));
        match compared.min_by(|a, b| a.used().total_cmp(&b.used())) {
            Some(row) => rows.push(row),
            None => unmatched.push(format!("unmapped: {name}: no value has the shape {:?}", expected.shape())),
        }
    }
    Ok(Compared { what: "module", rows, unmatched })
}

/// The model named, else the one the file was built from.
fn model(a: &Verify) -> Result<Model, Failure> {
    if a.declared.config.is_some() || a.declared.variant.is_some() {
        return build::resolve(&a.declared);
    }
    let file = files::read_model(&a.file)?;
    let at = a.file.display().to_string();
    let text = files::metadata(&file, metadata::MODEL).ok_or_else(|| {
        Failure::bad_file(format!("{at} does not say which model it was built from; give --variant or --config"))
    })?;
    Model::resolve(&Source::Text(&at, text), &a.declared.sets).map_err(Failure::bad_file)
}

/// A named module output and the values that it may be.
type Mapped<'n> = (&'n str, Vec<ValueId>);

/// What may be a module's output: the last values of its scope, and what is made of the last one right after, as a
/// residual connection is.
const CANDIDATES: usize = 8;

/// Values of module outputs, in the order they are computed, and names that have none. The names carry `prefix` where
/// the checkpoint's keys do.
fn map<'n>(g: &Graph, names: &[&'n str], prefix: &str) -> (Vec<Mapped<'n>>, Vec<String>) {
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
            [(_, name)] => mapped.extend(stretches.last().map(|s| (*name, candidates(g, s)))),
            many if many.len() == stretches.len() => {
                mapped.extend(many.iter().zip(&stretches).map(|((_, n), s)| (*n, candidates(g, s))));
            }
            many => unmapped.extend(many.iter().map(|(_, n)| {
                format!("unmapped: {n}: {} calls are named, the graph has {} stretches", many.len(), stretches.len())
            })),
        }
    }
    mapped.sort_by_key(|(_, v)| v.first().copied());
    (mapped, unmapped)
}

/// The values that may be the output of a stretch, the last of it first.
fn candidates(g: &Graph, stretch: &[NodeId]) -> Vec<ValueId> {
    let mut out: Vec<ValueId> =
        stretch.iter().rev().filter_map(|n| g.node(*n).outputs().next()).take(CANDIDATES).collect();
    if let Some(&last) = out.first() {
        let users = g.nodes().filter(|(_, n)| n.inputs.contains(&last));
        out.extend(users.filter_map(|(_, n)| n.outputs().next()).take(CANDIDATES));
    }
    out
}

/// The stretches of consecutive nodes that stand in a module.
fn stretches(g: &Graph, module: &str) -> Vec<Vec<NodeId>> {
    let inside = |path: &str| path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let (mut all, mut open) = (Vec::new(), Vec::new());
    for (id, n) in g.nodes() {
        if module.is_empty() || inside(g.scope_path(n.origin.scope)) {
            open.push(id);
        } else if !open.is_empty() {
            all.push(std::mem::take(&mut open));
        }
    }
    if !open.is_empty() {
        all.push(open);
    }
    all
}
