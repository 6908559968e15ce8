//! `vit-onnx list`.

use super::args::List;
use super::build::parameters;
use super::{Exit, Failure, Outcome, output};
use crate::analysis;
use crate::compile::{Options, compile};
use crate::template::{self, Model, Source};
use crate::variants::{Entry, VARIANTS};
use serde_json::json;

pub(super) fn run(a: &List) -> Outcome {
    let entries: Vec<&Entry> = match &a.variant {
        None => VARIANTS.iter().collect(),
        Some(name) => {
            // Resolving says what is close to a wrong name.
            let m = Model::resolve(&Source::Preset(name, "readme"), &[]).map_err(Failure::usage)?;
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
    Ok(Exit::Fine)
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
