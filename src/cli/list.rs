//! `vit-onnx list`.

use super::args::List;
use super::build::parameters;
use super::{Exit, Failure, Outcome, output};
use crate::analysis;
use crate::compile::{Options, compile};
use crate::template::{self, Model, Source};
use crate::variants::{Entry, VARIANTS, inner};
use serde_json::json;

pub(super) fn run(a: &List) -> Outcome {
    let entries: Vec<&Entry> = match &a.variant {
        None => VARIANTS.iter().collect(),
        Some(name) => {
            // Resolving says what is close to a wrong name.
            let m = Model::resolve(&Source::Preset(name, &a.preset), &[]).map_err(Failure::usage)?;
            if a.toml {
                let mut rest = m.to_table();
                let mut line = |key: &str| rest.remove(key).map_or(String::new(), |v| format!("{key} = {v}\n"));
                let head = line("variant") + &line("release");
                output::print(format!("{head}{rest}"))?;
                return Ok(Exit::Fine);
            }
            vec![m.entry]
        }
    };
    let mut rows = Vec::new();
    for e in entries {
        for preset in template::presets(e) {
            rows.push(row(e, preset)?);
        }
    }
    if a.json {
        let items: Vec<_> = rows.iter().map(Row::json).collect();
        output::json(&items.into())?;
        return Ok(Exit::Fine);
    }
    let headings = ["variant", "preset", ">parameters", ">FLOPs", ">input", "releases", "arXiv", "title"];
    output::print(output::table(&headings, rows.iter().map(Row::cells)))?;
    if a.variant.is_some() {
        output::print(details(rows[0].entry))?;
    }
    Ok(Exit::Fine)
}

/// The arguments and the eras of a variant.
fn details(e: &Entry) -> String {
    let arguments = (e.arguments)().into_iter().map(|d| {
        let default = if d.required { "required".to_owned() } else { d.default.unwrap_or_default() };
        [d.key.to_owned(), default, d.valid, d.about]
    });
    let arguments = output::table(&["argument", "default", "valid", "meaning"], arguments);
    let mut eras = vec![format!("eras of {}: {}", e.eras.package, releases(e).join(", "))];
    if (e.arguments)().iter().any(|d| d.key == "inner") {
        let all = inner::kinds().filter_map(|kind| Some((kind, inner::eras(kind)?)));
        eras.extend(all.map(|(kind, eras)| {
            let list: Vec<String> = eras.list.iter().map(ToString::to_string).collect();
            format!("eras of {} (inner.kind = \"{kind}\"): {}", eras.package, list.join(", "))
        }));
    }
    format!("\n{arguments}\n\n{}", eras.join("\n"))
}

struct Row {
    entry: &'static Entry,
    preset: String,
    parameters: u64,
    flops: Option<u64>,
    /// Channels, height, width.
    input: [usize; 3],
}

fn row(entry: &'static Entry, preset: String) -> Result<Row, Failure> {
    let at = |e: &dyn std::fmt::Display| Failure::new(Exit::Internal, format!("{} {preset}: {e}", entry.name));
    let m = Model::resolve(&Source::Preset(entry.name, &preset), &[]).map_err(|e| at(&e))?;
    let c = compile(&m.declaration, &Options::default()).map_err(|e| at(&e))?;
    let image = m.declaration.variant.image();
    let [h, w] = m.declaration.input_size.or(image.size).unwrap_or([224, 224]);
    Ok(Row {
        entry,
        parameters: parameters(&c.declared),
        flops: analysis::flops(&c.optimized.graph),
        input: [image.channels, h, w],
        preset,
    })
}

/// The eras, oldest first.
fn releases(e: &Entry) -> Vec<String> {
    e.eras.list.iter().map(ToString::to_string).collect()
}

impl Row {
    fn cells(&self) -> [String; 8] {
        [
            self.entry.name.to_owned(),
            self.preset.clone(),
            output::count(self.parameters),
            self.flops.map_or("?".to_owned(), output::count),
            self.input.map(|n| n.to_string()).join("x"),
            self.entry.eras.range(),
            self.entry.paper.to_owned(),
            self.entry.title.to_owned(),
        ]
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "variant": self.entry.name,
            "preset": self.preset,
            "parameters": self.parameters,
            "flops": self.flops,
            "input": { "channels": self.input[0], "height": self.input[1], "width": self.input[2] },
            "releases": releases(self.entry),
            "paper": format!("arXiv {}", self.entry.paper),
            "title": self.entry.title,
        })
    }
}
