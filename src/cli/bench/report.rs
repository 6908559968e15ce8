//! What `bench` found, as tables and as JSON.

use super::super::args::Bench;
use super::super::{Failure, output};
use super::{Measured, Run};
use crate::bench::{Profile, Ratio, Row, Verdict};
use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

/// A table of times, one of what loading takes, and those of the profiles.
pub(super) fn print(a: &Bench, run: &Run) -> Result<(), Failure> {
    let base = &run.results[0];
    let unit = Unit::of(base.wall.p50);
    let time = |what: &str| format!(">{what} {}", unit.name);
    let headings =
        ["model", &time("p50"), &time("p90"), &time("p99"), &time("min"), "ratio", &time("cpu"), "cpu ratio"];
    let rows = run.results.iter().map(|m| {
        let [p50, p90, p99, min] = [m.wall.p50, m.wall.p90, m.wall.p99, m.wall.min].map(|x| unit.figure(x));
        let processor = m.processor.map_or("-".to_owned(), |x| unit.figure(x));
        [m.subject.label.clone(), p50, p90, p99, min, ratio(m.ratio), processor, ratio(m.processor_ratio)]
    });
    let times = output::table(&headings, rows);
    output::print(format_args!("{}\n\n{}\n\n", heading(run), colored(&times, &run.results)))?;
    if base.loading.is_some() || run.results.len() > 1 {
        output::print(format_args!("{}\n\n", other_figures(run)))?;
    }
    for (i, m) in run.results.iter().enumerate() {
        if let Some(p) = &m.profile {
            let base = base.profile.as_ref().filter(|_| i > 0);
            output::print(profile(a, &m.subject.label, p, base))?;
        }
    }
    Ok(())
}

fn heading(run: &Run) -> String {
    let base = &run.results[0];
    let number = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let mut parts: Vec<String> = base.inputs.iter().map(|(name, ty)| format!("{name} {ty}")).collect();
    parts.extend(run.threads.map(|n| number(n, "thread")));
    parts.push(number(base.series.wall.len(), "round"));
    parts.join(" · ")
}

/// Loading, memory and agreement.
fn other_figures(run: &Run) -> String {
    let unit = Unit::of(run.results[0].loading.map_or(0.0, |l| l.seconds));
    let loaded = run.results.iter().any(|m| m.loading.is_some());
    let several = run.results.len() > 1;
    let mut headings = vec!["model".to_owned()];
    if loaded {
        headings.extend([format!(">load {}", unit.name), ">memory".to_owned(), ">peak".to_owned()]);
    }
    headings.extend(several.then(|| ">outputs differ by".to_owned()));
    let row = |(i, m): (usize, &Measured)| {
        let mut row = vec![m.subject.label.clone()];
        if loaded {
            let bytes = |n: Option<u64>| n.map_or("-".to_owned(), output::bytes);
            row.push(m.loading.map_or("-".to_owned(), |l| unit.figure(l.seconds)));
            row.extend([m.loading.and_then(|l| l.memory), m.loading.and_then(|l| l.peak)].map(bytes));
        }
        row.extend((several && i > 0).then(|| match m.agreement.difference {
            None => "not comparable".to_owned(),
            Some(0.0) => "0".to_owned(),
            Some(d) => format!("{d:.1e}"),
        }));
        row
    };
    output::table(&headings, run.results.iter().enumerate().map(row))
}

/// A ratio with its quartiles.
fn ratio(r: Option<Ratio>) -> String {
    r.map_or(String::new(), |r| format!("{:.3} [{:.3}, {:.3}]", r.median, r.q1, r.q3))
}

/// A table with its ratios in green or red where their quartiles agree. One line for each result follows the headings.
fn colored(table: &str, results: &[Measured]) -> String {
    let mut lines: Vec<String> = table.lines().map(str::to_owned).collect();
    for (line, m) in lines.iter_mut().skip(1).zip(results) {
        // From the right, because both ratios may be the same text, and the label on the left may hold anything.
        let mut end = line.len();
        for r in [m.processor_ratio, m.ratio].into_iter().flatten() {
            let style: Style = match r.verdict() {
                Verdict::Faster => AnsiColor::Green.on_default(),
                Verdict::Slower => AnsiColor::Red.on_default(),
                Verdict::Open => Style::new(),
            };
            let text = ratio(Some(r));
            if let Some(at) = line[..end].rfind(&text) {
                line.replace_range(at..at + text.len(), &format!("{style}{text}{style:#}"));
                end = at;
            }
        }
    }
    lines.join("\n")
}

/// Where the time of one model goes, by block and by op.
fn profile(a: &Bench, label: &str, p: &Profile, base: Option<&Profile>) -> String {
    let unit = Unit::of(p.seconds());
    let part = |what: &str, by: &dyn Fn(&Profile) -> Vec<Row>| {
        let (rows, base) = (by(p), base.map(by));
        let mut headings = vec![what.to_owned(), format!(">{}", unit.name), ">share".to_owned(), ">kernels".to_owned()];
        headings.extend(base.as_ref().map(|_| ">ratio".to_owned()));
        let row = |name: String, of: &[Row]| {
            let sum = |f: fn(&Row) -> f64| of.iter().map(f).sum::<f64>();
            let (seconds, share, calls) = (sum(|r| r.seconds), sum(|r| r.share), sum(|r| r.calls));
            vec![name, unit.figure(seconds), format!("{:.1} %", 100.0 * share), format!("{calls:.0}")]
        };
        let (shown, rest) = rows.split_at(a.profiling.top.min(rows.len()));
        let mut cells: Vec<Vec<String>> = Vec::new();
        for r in shown {
            let mut cell = row(r.name.clone(), std::slice::from_ref(r));
            cell.extend(base.as_ref().map(|base| {
                let same = base.iter().find(|b| b.name == r.name && b.seconds > 0.0);
                same.map_or("-".to_owned(), |b| format!("{:.3}", r.seconds / b.seconds))
            }));
            cells.push(cell);
        }
        cells.extend((!rest.is_empty()).then(|| row(format!("{} more", rest.len()), rest)));
        output::table(&headings, cells)
    };
    let (blocks, ops) = (part("block", &|p| p.by_block(a.profiling.each_layer)), part("op", &Profile::by_op));
    let all = unit.figure(p.seconds());
    format!("{label}: {all} {} in kernels, the median of {} runs\n\n{blocks}\n\n{ops}\n\n", unit.name, p.runs)
}

/// The unit of a column of times.
struct Unit {
    name: &'static str,
    per_second: f64,
}

impl Unit {
    /// The one in which this many seconds are a readable number.
    fn of(seconds: f64) -> Self {
        let (name, per_second) = match seconds {
            s if s >= 1.0 => ("s", 1.0),
            s if s >= 1e-3 => ("ms", 1e3),
            _ => ("µs", 1e6),
        };
        Self { name, per_second }
    }

    fn figure(&self, seconds: f64) -> String {
        match seconds * self.per_second {
            x if x < 10.0 => format!("{x:.3}"),
            x if x < 100.0 => format!("{x:.2}"),
            x => format!("{x:.1}"),
        }
    }
}

/// Everything, for a machine, as the documentation of the room `bench` describes it.
pub(super) fn json(a: &Bench, engine: &str, runs: &[Run]) -> Result<(), Failure> {
    let run = |r: &Run| {
        let models: Vec<Value> = r.results.iter().map(|m| model(a, m)).collect();
        json!({ "batch": r.batch, "threads": r.threads, "rounds": r.results[0].series.wall.len(), "models": models })
    };
    output::json(&json!({
        "tool": concat!("vit-onnx ", env!("CARGO_PKG_VERSION")), "engine": engine, "seed": a.seed,
        "tables": runs.iter().map(run).collect::<Vec<_>>(),
    }))
}

fn model(a: &Bench, m: &Measured) -> Value {
    let profile = |p: &Profile| {
        let blocks = p.by_block(a.profiling.each_layer);
        json!({ "runs": p.runs, "seconds": p.seconds(), "blocks": blocks, "ops": p.by_op() })
    };
    let inputs = m.inputs.iter().map(|(name, ty)| (name.clone(), Value::from(ty.clone())));
    json!({
        "label": m.subject.label, "file": m.subject.model.display().to_string(), "provider": m.subject.provider.name(),
        "inputs": inputs.collect::<serde_json::Map<_, _>>(),
        "calls_per_round": m.series.calls_per_round,
        "wall": { "min": m.wall.min, "p50": m.wall.p50, "p90": m.wall.p90, "p99": m.wall.p99, "rounds": m.series.wall },
        "processor": m.processor.map(|p50| json!({ "p50": p50, "rounds": m.series.processor })),
        "ratio": m.ratio, "processor_ratio": m.processor_ratio,
        "load": m.loading,
        "outputs": m.agreement,
        "disturbances": m.disturbances,
        "profile": m.profile.as_ref().map(profile),
    })
}
