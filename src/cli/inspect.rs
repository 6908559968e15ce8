//! `vit-onnx inspect`: shows any ONNX file. The parts that need our own graph are left out where a file has none.
//!
//! Problems that the checker finds are warnings. A tensor whose external data cannot belong to the model is an error; a data
//! file that is missing is a warning, because inspecting a model needs no tensors.

use super::args::Inspect;
use super::{Exit, Failure, Outcome, files, output};
use crate::analysis::{self, block_of};
use crate::ir::{DType, NodeId};
use crate::lower::{self, RaiseError, Raised};
use crate::onnx::{self, DimValue, ExternalError, Initializer, Model, TensorData, ValueInfo};
use crate::ops::Graph;
use crate::text::{self, Style};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::Path;

/// The number of problems that are printed; `--json` has all.
const SHOWN: usize = 20;

pub(super) fn run(a: &Inspect) -> Outcome {
    let model = files::read_model(&a.file)?;
    let problems = problems(&model, &a.file)?;
    for p in problems.iter().take(SHOWN) {
        output::warning(p);
    }
    if problems.len() > SHOWN {
        output::warning(format_args!("{} further problems; --json lists all", problems.len() - SHOWN));
    }
    let raised = lower::raise(&model);
    if a.text || a.dot {
        let graph = raised.map_err(|e| Failure::bad_file(format!("{}: {e}", a.file.display())))?.graph;
        let out = if a.dot { analysis::dot(&graph) } else { text::print(&graph, &Style::COMPLETE) };
        output::print(out)?;
        return Ok(Exit::Fine);
    }
    let summary = Summary::new(&model, raised.as_ref());
    if a.json {
        output::json(&summary.json(&a.file, &problems))?;
    } else {
        output::print(summary.text(&a.file))?;
    }
    Ok(Exit::Fine)
}

/// Returns the problems that the checker finds in a model, and the data files that are missing. Returns an error for
/// external data that cannot belong to the model.
fn problems(model: &Model, file: &Path) -> Result<Vec<String>, Failure> {
    let mut found: Vec<String> = onnx::check(model).iter().map(ToString::to_string).collect();
    let mut wrong = Vec::new();
    for e in onnx::check_external(model, file) {
        match e {
            ExternalError::Io { ref source, .. } if source.kind() == ErrorKind::NotFound => found.push(e.to_string()),
            _ => wrong.push(e.to_string()),
        }
    }
    if wrong.is_empty() {
        Ok(found)
    } else {
        Err(Failure::bad_file(format!("{}: {}", file.display(), wrong.join("\n  "))))
    }
}

#[derive(Default)]
struct Block {
    nodes: u64,
    parameters: u64,
    flops: u64,
}

struct Summary<'m> {
    model: &'m Model,
    parameters: u64,
    flops: Option<u64>,
    depth: Option<usize>,
    /// The cut points: scope, op and type of the result.
    cuts: Option<Vec<[String; 3]>>,
    /// The reason why there is no graph.
    unknown: Option<String>,
    ops: Vec<(String, u64)>,
    /// The blocks in the order of the file.
    blocks: Vec<(String, Block)>,
    /// Files that hold tensors.
    beside: BTreeMap<&'m str, u64>,
}

impl<'m> Summary<'m> {
    fn new(model: &'m Model, raised: Result<&Raised, &RaiseError>) -> Self {
        let mut ops: BTreeMap<String, u64> = BTreeMap::new();
        let mut blocks = Blocks::default();
        for n in &model.graph.nodes {
            let domain = if n.domain.is_empty() { String::new() } else { format!("{}::", n.domain) };
            *ops.entry(format!("{domain}{}", n.op_type)).or_default() += 1;
            blocks.of(&lower::scope_of(&n.name)).nodes += 1;
        }
        let (mut parameters, mut beside) = (0, BTreeMap::new());
        for i in &model.graph.initializers {
            if is_parameter(i) {
                let n = i.element_count().unwrap_or(0);
                parameters += n;
                blocks.of(&module_of(&i.name)).parameters += n;
            }
            if let TensorData::External { location, .. } = &i.data {
                *beside.entry(location.as_str()).or_default() += i.byte_len().unwrap_or(0);
            }
        }
        let graph = raised.ok().map(|r| &r.graph);
        let view = graph.map(analysis::view);
        let scopes = graph.and_then(analysis::flops_by_scope);
        for (scope, n) in scopes.iter().flatten() {
            blocks.of(scope).flops += n;
        }
        let mut ops: Vec<_> = ops.into_iter().collect();
        ops.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Self {
            model,
            parameters,
            flops: scopes.map(|s| s.values().sum()),
            depth: view.as_ref().map(|v| analysis::critical_path(v).len()),
            cuts: graph
                .zip(view.as_ref())
                .map(|(g, v)| analysis::cut_points(g, v).iter().map(|id| cut(g, *id)).collect()),
            unknown: raised.err().map(ToString::to_string),
            ops,
            blocks: blocks.list,
            beside,
        }
    }

    fn text(&self, file: &Path) -> String {
        let m = self.model;
        let mut out = String::new();
        let mut line = |what: &str, value: &str| {
            let _ = writeln!(out, "{what:<12}{}", value.replace('\n', &format!("\n{:12}", "")));
        };
        let size = std::fs::metadata(file).map_or(0, |m| m.len());
        line("file", &format!("{} ({})", file.display(), output::bytes(size)));
        for (location, n) in &self.beside {
            line("beside it", &format!("{location} ({} of tensors)", output::bytes(*n)));
        }
        line("producer", format!("{} {}", m.producer_name, m.producer_version).trim());
        line("opset", &opsets(m).iter().map(|(d, v)| format!("{d} {v}")).collect::<Vec<_>>().join(", "));
        line("IR version", &m.ir_version.to_string());
        m.graph.inputs.iter().for_each(|v| line("input", &port(v)));
        m.graph.outputs.iter().for_each(|v| line("output", &port(v)));
        line("parameters", &output::count(self.parameters));
        match (&self.unknown, self.flops) {
            (Some(why), _) => line("FLOPs", &format!("unknown: {why}")),
            (None, Some(n)) => line("FLOPs", &format!("{} at batch 1", output::count(n))),
            (None, None) => line("FLOPs", "too many to count"),
        }
        let depth = self.depth.map_or(String::new(), |d| format!(", depth {d}"));
        let cuts =
            self.cuts.as_ref().map_or(String::new(), |c| format!(", {} that everything passes through", c.len()));
        line("nodes", &format!("{}{depth}{cuts}", m.graph.nodes.len()));
        line("ops", &self.ops.iter().map(|(op, n)| format!("{op} {n}")).collect::<Vec<_>>().join(", "));
        m.not_carried.iter().for_each(|part| line("not shown", part));
        for (key, value) in &m.metadata {
            let lines = value.trim_end().lines().count();
            let value = if lines > 40 { format!("{lines} lines") } else { format!("\n{}", value.trim_end()) };
            line("metadata", &format!("{key}: {}", if lines == 1 { value.trim_start() } else { &value }));
        }
        let rows = self.blocks.iter().map(|(name, b)| {
            let flops = self.flops.map_or("?".to_owned(), |_| output::count(b.flops));
            let name = if name.is_empty() { "(no module)" } else { name };
            [name.to_owned(), b.nodes.to_string(), output::count(b.parameters), flops]
        });
        format!("{out}\n{}", output::table(&["block", ">nodes", ">parameters", ">FLOPs"], rows))
    }

    fn json(&self, file: &Path, problems: &[String]) -> serde_json::Value {
        let m = self.model;
        let ports = |v: &[ValueInfo]| v.iter().map(port_json).collect::<Vec<_>>();
        let cut = |[module, op, ty]: &[String; 3]| json!({ "module": module, "op": op, "type": ty });
        let block = |(name, b): &(String, Block)| {
            let flops = self.flops.map(|_| b.flops);
            json!({ "name": name, "nodes": b.nodes, "parameters": b.parameters, "flops": flops })
        };
        json!({
            "file": file.display().to_string(),
            "bytes": std::fs::metadata(file).map_or(0, |m| m.len()),
            "external": self.beside.keys().collect::<Vec<_>>(),
            "producer": { "name": m.producer_name, "version": m.producer_version },
            "opsets": opsets(m).into_iter().map(|(d, v)| (d.to_owned(), v.into())).collect::<serde_json::Map<_, _>>(),
            "ir_version": m.ir_version,
            "inputs": ports(&m.graph.inputs),
            "outputs": ports(&m.graph.outputs),
            "metadata": m.metadata.iter().map(|(k, v)| (k.clone(), v.as_str().into())).collect::<serde_json::Map<_, _>>(),
            "parameters": self.parameters,
            "flops": self.flops,
            "flops_unknown": self.unknown,
            "nodes": m.graph.nodes.len(),
            "depth": self.depth,
            "cut_points": self.cuts.as_ref().map(|c| c.iter().map(cut).collect::<Vec<_>>()),
            "ops": self.ops.iter().map(|(k, n)| (k.clone(), (*n).into())).collect::<serde_json::Map<_, _>>(),
            "blocks": self.blocks.iter().map(block).collect::<Vec<_>>(),
            "problems": problems,
        })
    }
}

/// Blocks by name, in order of first appearance.
#[derive(Default)]
struct Blocks {
    list: Vec<(String, Block)>,
    places: BTreeMap<String, usize>,
}

impl Blocks {
    fn of(&mut self, module: &str) -> &mut Block {
        let name = block_of(module);
        let at = *self.places.entry(name.clone()).or_insert_with(|| {
            self.list.push((name, Block::default()));
            self.list.len() - 1
        });
        &mut self.list[at].1
    }
}

fn cut(g: &Graph, id: NodeId) -> [String; 3] {
    let n = g.node(id);
    let ty = n.outputs().next().map_or(String::new(), |v| g.ty(v).to_string());
    [g.scope_path(n.origin.scope).to_owned(), n.op.mnemonic().to_owned(), ty]
}

/// Returns the module of an initializer. A parameter is named by its path, a constant by the node that uses it.
fn module_of(initializer: &str) -> String {
    match initializer.rsplit_once('.') {
        Some((module, _)) if !initializer.starts_with('/') => module.to_owned(),
        _ => lower::scope_of(initializer),
    }
}

/// Returns true for floating-point tensors except scalars, which are parts of formulas.
fn is_parameter(i: &Initializer) -> bool {
    let float = i.elem.dtype().is_some_and(DType::is_float);
    float && i.element_count().is_some_and(|n| n > 1 || !i.name.starts_with('/'))
}

fn opsets(m: &Model) -> Vec<(&str, i64)> {
    m.opset_imports.iter().map(|(d, v)| (if d.is_empty() { "ai.onnx" } else { d.as_str() }, *v)).collect()
}

fn port(v: &ValueInfo) -> String {
    let dims = |s: &Vec<DimValue>| s.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!("{} {}{}", v.name, v.elem, v.shape.as_ref().map_or(String::new(), |s| format!("[{}]", dims(s))))
}

fn port_json(v: &ValueInfo) -> serde_json::Value {
    let dim = |d: &DimValue| match d {
        DimValue::Known(n) => json!(n),
        DimValue::Symbol(s) => json!(s),
        DimValue::Unknown => json!("?"),
    };
    let shape = v.shape.as_ref().map(|s| s.iter().map(dim).collect::<Vec<_>>());
    json!({ "name": v.name, "type": v.elem.to_string(), "shape": shape })
}
