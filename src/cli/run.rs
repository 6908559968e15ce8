//! `vit-onnx run`.

use super::args::Run;
use super::files::{self, Tensors};
use super::{Exit, Failure, Outcome, engine, output, stream};
use crate::ir::Tensor;
use crate::weights::Writer;
use std::collections::BTreeMap;

pub(super) fn run(a: &Run) -> Outcome {
    if let Some(path) = &a.output {
        files::output(path)?;
    }
    let given = Tensors::open(&a.input)?;
    let (name, mut session) = engine::load(&a.model, &a.engine)?;
    let inputs = given.inputs(session.inputs(), None, true)?;
    let outputs = session.run(&inputs)?;
    if let Some(path) = &a.output {
        stream::write(path, |to| Writer::save(to, &outputs, &BTreeMap::new()).map_err(Failure::bad_file))?;
        output::say(format_args!("{name}: wrote {}", stream::name(path)));
        // What went wrong can be looked at in the file.
        engine::refuse_nan(&outputs)?;
        return Ok(Exit::Fine);
    }
    output::say(&name);
    let headings = ["output", "type", ">min", ">mean", ">max", "first values"];
    output::print(output::table(&headings, outputs.iter().map(|(name, tensor)| summary(name, tensor))))?;
    engine::refuse_nan(&outputs)?;
    Ok(Exit::Fine)
}

fn summary(name: &str, t: &Tensor) -> [String; 6] {
    let v = t.to_f64_vec();
    let number = |x: f64| format!("{x:.5}");
    let fold = |f: fn(f64, f64) -> f64, start| v.iter().copied().fold(start, f);
    let stats = if v.is_empty() {
        ["-".to_owned(), "-".to_owned(), "-".to_owned()]
    } else {
        let mean = v.iter().sum::<f64>() / v.len() as f64;
        [fold(f64::min, f64::INFINITY), mean, fold(f64::max, f64::NEG_INFINITY)].map(number)
    };
    let [min, mean, max] = stats;
    let first: Vec<String> = v.iter().take(4).map(|&x| number(x)).collect();
    let more = if v.len() > 4 { " …" } else { "" };
    [name.to_owned(), format!("{}{:?}", t.dtype(), t.shape()), min, mean, max, format!("{}{more}", first.join(" "))]
}
