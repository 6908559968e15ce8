//! `vit-onnx verify --by-layer`: where the numbers of the declared graph first leave those of the original modules.
//!
//! The output of a module is the value that was produced last in its scope. Where a module is called several times, the
//! stretches of nodes in its scope are its calls; a module whose calls cannot be told apart, or whose value has another
//! shape, is listed as unmapped.

use super::args::Verify;
use super::compare::{Row, Tolerance};
use super::files::{self, Tensors};
use super::verify::Compared;
use super::{Exit, Failure, build};
use crate::compile::metadata;
use crate::eval;
use crate::ir::{Tensor, ValueId};
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

    let mut names: Vec<&str> = mid.names().collect();
    names.sort_unstable();
    let (mapped, mut unmatched) = map(&graph, &names);
    graph.clear_outputs();
    for (name, value) in &mapped {
        graph.add_output(*name, *value);
    }
    let mut param =
        |path: &str, _: &crate::ir::TensorType| checkpoint.parameter(&graph, path).map_err(|e| e.to_string());
    let outputs = eval::run(&graph, &mut param, &[("pixel_values", image)]);
    let outputs = outputs.map_err(|e| Failure::new(Exit::BadFile, e))?;
    let mut rows = Vec::new();
    for (name, found) in &outputs {
        let Some(expected) = mid.get(name)? else { continue };
        if found.shape() == expected.shape() {
            rows.push(Row::new(name, found, &expected, t));
        } else {
            unmatched.push(unlike(name, found, &expected));
        }
    }
    Ok(Compared { what: "module", rows, unmatched })
}

fn unlike(name: &str, found: &Tensor, expected: &Tensor) -> String {
    let (found, expected) = (found.shape(), expected.shape());
    format!("unmapped: {name}: its last value has shape {found:?}, the module's output {expected:?}")
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

/// Values of module outputs, in the order they are computed, and names that have none.
fn map<'n>(g: &Graph, names: &[&'n str]) -> (Vec<(&'n str, ValueId)>, Vec<String>) {
    let mut calls: BTreeMap<&str, Vec<(usize, &'n str)>> = BTreeMap::new();
    for name in names {
        let (module, k) = match name.rsplit_once('#') {
            Some((m, k)) if k.parse::<usize>().is_ok() => (m, k.parse().unwrap_or(0)),
            _ => (*name, 0),
        };
        calls.entry(module).or_default().push((k, name));
    }
    let (mut mapped, mut unmapped) = (Vec::new(), Vec::new());
    for (module, mut wanted) in calls {
        wanted.sort_unstable();
        let ends = stretches(g, module);
        match wanted.as_slice() {
            _ if ends.is_empty() => {
                unmapped.extend(wanted.iter().map(|(_, n)| format!("unmapped: {n}: the graph has no such module")));
            }
            [(_, name)] => mapped.extend(ends.last().map(|v| (*name, *v))),
            many if many.len() == ends.len() => mapped.extend(many.iter().zip(&ends).map(|((_, n), v)| (*n, *v))),
            many => unmapped.extend(many.iter().map(|(_, n)| {
                format!("unmapped: {n}: {} calls are named, the graph has {} stretches", many.len(), ends.len())
            })),
        }
    }
    mapped.sort_by_key(|(_, v)| *v);
    (mapped, unmapped)
}

/// The last value of every stretch of consecutive nodes that stand in a module.
fn stretches(g: &Graph, module: &str) -> Vec<ValueId> {
    let inside = |path: &str| path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let (mut ends, mut open) = (Vec::new(), None);
    for (_, n) in g.nodes() {
        if module.is_empty() || inside(g.scope_path(n.origin.scope)) {
            open = n.outputs().next();
        } else {
            ends.extend(open.take());
        }
    }
    ends.extend(open);
    ends
}
