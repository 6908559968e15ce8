//! ONNX Runtime's trace, folded into tables.
//!
//! The trace is a JSON list of events (the format of `chrome://tracing`). Those of category `Node` whose names end in
//! `_kernel_time` are calls of kernels; `model_run` in category `Session` frames one run. A kernel's time is the median
//! over runs, so that a run that was interrupted does not weigh; times below a microsecond are 0 in the trace itself.
//! Kernels inside a `Loop` or `If` count twice, once in their own row and once in that of the enclosing node.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Calls of kernels, from one trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// How many runs were counted.
    pub runs: usize,
    kernels: Vec<Kernel>,
}

#[derive(Clone, Debug, PartialEq)]
struct Kernel {
    node: String,
    op: String,
    /// For one run.
    seconds: f64,
    /// In one run.
    calls: f64,
}

/// A part of a profile.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// A block or an op.
    pub name: String,
    /// In one run.
    pub seconds: f64,
    /// As a part of all kernels.
    pub share: f64,
    /// Kernels called in one run.
    #[serde(rename = "kernels")]
    pub calls: f64,
}

/// Why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It is not what ONNX Runtime writes.
    #[error("the trace of the runtime cannot be read: {0}")]
    Format(#[from] serde_json::Error),
    /// There is nothing in it.
    #[error("the trace of the runtime holds no {0}")]
    Empty(&'static str),
}

#[derive(Deserialize)]
struct Event {
    cat: String,
    name: String,
    #[serde(default)]
    ts: f64,
    #[serde(default)]
    dur: f64,
    #[serde(default)]
    args: Args,
}

#[derive(Default, Deserialize)]
struct Args {
    op_name: Option<String>,
}

impl Profile {
    /// Reads a trace, leaving out the first `skip` runs, which warm up.
    ///
    /// # Errors
    /// When it is no trace, or holds no run or kernel beyond those skipped.
    pub fn read(trace: &[u8], skip: usize) -> Result<Self, ProfileError> {
        let events: Vec<Event> = serde_json::from_slice(trace)?;
        let mut starts: Vec<f64> =
            events.iter().filter(|e| e.cat == "Session" && e.name == "model_run").map(|e| e.ts).collect();
        starts.sort_by(f64::total_cmp);
        let Some(&from) = starts.get(skip) else { return Err(ProfileError::Empty("run")) };
        let runs = starts.len() - skip;
        let mut times: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
        for e in events.iter().filter(|e| e.cat == "Node" && e.ts >= from) {
            if let (Some(node), Some(op)) = (e.name.strip_suffix("_kernel_time"), &e.args.op_name) {
                times.entry((node, op)).or_default().push(e.dur * 1e-6);
            }
        }
        if times.is_empty() {
            return Err(ProfileError::Empty("kernel"));
        }
        let kernel = |((node, op), v): ((&str, &str), Vec<f64>)| {
            let calls = v.len() as f64 / runs as f64;
            let seconds = super::median(v) * calls;
            Kernel { node: node.to_owned(), op: op.to_owned(), seconds, calls }
        };
        Ok(Self { runs, kernels: times.into_iter().map(kernel).collect() })
    }

    /// All kernels of one run, in seconds.
    pub fn seconds(&self) -> f64 {
        self.kernels.iter().map(|k| k.seconds).sum()
    }

    /// By operator type, the longest first.
    pub fn by_op(&self) -> Vec<Row> {
        self.rows(|k| k.op.clone())
    }

    /// By the module a node belongs to, the longest first. Unless `each` layer is asked for, those that differ in their
    /// number only are one row.
    pub fn by_block(&self, each: bool) -> Vec<Row> {
        self.rows(|k| block(&k.node, each))
    }

    fn rows(&self, name: impl Fn(&Kernel) -> String) -> Vec<Row> {
        let mut rows: BTreeMap<String, Row> = BTreeMap::new();
        let all = self.seconds();
        for k in &self.kernels {
            let name = name(k);
            let row = rows.entry(name.clone()).or_insert(Row { name, seconds: 0.0, share: 0.0, calls: 0.0 });
            row.seconds += k.seconds;
            row.calls += k.calls;
            row.share = if all > 0.0 { row.seconds / all } else { 0.0 };
        }
        let mut rows: Vec<Row> = rows.into_values().collect();
        rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        rows
    }
}

/// The module of a node: `/transformer/layers.3.0/MatMul_1` is of `transformer.layers.*.0`, `each` layer by itself of
/// `transformer.layers.3.0`. The first number after a name counts layers; a further one names a part of the layer.
fn block(node: &str, each: bool) -> String {
    if !node.contains('/') {
        return "(no path)".to_owned();
    }
    // What the runtime fuses it names after a node and appends a word of its own: `…/MatMul_1/MatMulAddFusion`.
    let mut path: Vec<&str> = node.split('/').filter(|p| !p.is_empty()).collect();
    if path.last().is_some_and(|p| p.ends_with("Fusion")) {
        path.pop();
    }
    path.pop();
    if path.is_empty() {
        return "(top level)".to_owned();
    }
    let (mut parts, mut after_name) = (Vec::new(), false);
    for part in path.iter().flat_map(|p| p.split('.')) {
        let number = part.parse::<usize>().is_ok();
        parts.push(if number && after_name && !each { "*" } else { part });
        after_name = !number;
    }
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three runs of a `vit` of two layers in ONNX Runtime 1.31: a few of the kernels, without most of what is said of them.
    const TRACE: &[u8] = include_bytes!("../../tests/fixtures/profile.json");

    /// Names, whole tenths of microseconds, kernels in a run.
    fn plain(rows: &[Row]) -> Vec<(&str, i64, f64)> {
        rows.iter().map(|r| (r.name.as_str(), (r.seconds * 1e7).round() as i64, r.calls)).collect()
    }

    #[test]
    fn a_trace_is_folded_by_block_and_by_op() {
        let p = Profile::read(TRACE, 1).expect("a trace");
        assert_eq!(p.runs, 2);
        assert!((p.seconds() - 87e-6).abs() < 1e-12, "{}", p.seconds());
        let blocks = p.by_block(false);
        assert_eq!(
            plain(&blocks),
            [
                ("transformer.layers.*.0.fn.to_qkv", 290, 2.0),
                ("(no path)", 150, 1.0),
                ("(top level)", 135, 1.0),
                ("mlp_head.*", 125, 1.0),
                ("transformer.layers.*.0.norm", 110, 1.0),
                ("transformer.layers.*.1.fn.net.*", 60, 1.0),
            ]
        );
        assert!((blocks[0].share - 29.0 / 87.0).abs() < 1e-9);
        let ops = p.by_op();
        assert_eq!(plain(&ops)[..2], [("MatMul", 350, 3.0), ("BiasGelu", 150, 1.0)]);
        assert!((ops.iter().map(|r| r.share).sum::<f64>() - 1.0).abs() < 1e-9);
        assert_eq!(plain(&p.by_block(true))[0], ("transformer.layers.0.0.fn.to_qkv", 200, 1.0));
        assert_eq!(Profile::read(TRACE, 0).expect("a trace").by_op()[0].calls, 3.0);
    }

    #[test]
    fn names_of_other_tools_are_folded_too() {
        let names = [
            ("/encoder/layer.11/attention/self/query/MatMul", "encoder.layer.*.attention.self.query"),
            ("/blocks/blocks.3/attn/MatMul_1", "blocks.blocks.*.attn"),
            ("/layers/3/0/fn/MatMul/MatMulScaleFusion/", "layers.*.0.fn"),
            ("node_MatMul_12", "(no path)"),
            ("/Add", "(top level)"),
            ("", "(no path)"),
            ("/", "(top level)"),
        ];
        for (node, expected) in names {
            assert_eq!(block(node, false), expected, "{node}");
        }
    }

    #[test]
    fn a_file_that_is_no_trace_is_said() {
        let says = |trace: &[u8], skip, part| {
            let e = Profile::read(trace, skip).expect_err("no trace").to_string();
            assert!(e.contains(part), "{e}");
        };
        says(b"[{", 0, "cannot be read");
        says(b"{}", 0, "cannot be read");
        says(b"[]", 0, "no run");
        says(TRACE, 3, "no run");
        says(br#"[{"cat":"Session","name":"model_run","ts":1,"dur":1}]"#, 0, "no kernel");
    }
}
