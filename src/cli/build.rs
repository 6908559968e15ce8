//! `vit-onnx build`.

use super::args::{Build, ExternalData, ModelArgs, WeightArgs};
use super::{Exit, Failure, Outcome, explain, files, output, stream};
use crate::compile::confirm;
use crate::compile::release::{self, Sets};
use crate::compile::{CompileError, Options, compile_with, metadata};
use crate::onnx::{External, WriteError};
use crate::ops::{Graph, Program};
use crate::passes::{self, Pass, PassError};
use crate::template::{FIRST, Model, Source};
use crate::text::{self, Style};
use crate::variants::ImageSize;
use crate::weights::{self, Checkpoint, ImportOptions};
use std::path::{Path, PathBuf};
use std::time::Instant;

pub(super) fn run(a: &Build) -> Outcome {
    // An output that cannot be is said before anything is read.
    a.output.as_deref().map_or(Ok(()), |out| check_output(a, out))?;
    let source = open(&a.weights)?;
    let model = model_of(&a.model, &a.weights, source.as_deref())?;
    let out = match &a.output {
        Some(out) => out.clone(),
        None => {
            let out = PathBuf::from(format!("{}.onnx", model.entry.name));
            check_output(a, &out)?;
            out
        }
    };
    let options = Options {
        target: a.steer.target,
        opset: a.steer.opset,
        batch: a.batch.0,
        image_size: image_size(a)?,
        taps: a.output_tensors.clone(),
        labels: a.labels.as_deref().map(read_labels).transpose()?,
        passes: a.steer.options(a.explain),
    };
    if let Some(name) = a.print_after.as_deref().filter(|n| *n != "all") {
        passes::find(name).map_err(Failure::usage)?;
    }
    let mut print = |pass: &Pass, p: &Program| {
        if a.print_after.as_deref().is_some_and(|n| n == "all" || n == pass.name) {
            output::say(format_args!("// after {}\n{}", pass.name, text::print(&p.graph, &Style::SNAPSHOT)));
        }
    };
    let start = Instant::now();
    let compiled = compile_with(&model.declaration, &options, &mut print).map_err(failure)?;
    let built = start.elapsed();
    if let (Some(path), Some(labels)) = (&a.labels, &options.labels) {
        check_labels(path, labels, &compiled.declared)?;
    }
    compiled.notes.iter().for_each(output::note);
    let checkpoint = checkpoint(&a.weights, source, &compiled.declared)?;
    let unconfirmed = if a.weights.weights.is_some() { confirm::unconfirmed(&model) } else { Vec::new() };
    if !unconfirmed.is_empty() {
        output::note(format_args!("the checkpoint cannot confirm {}", unconfirmed.join(", ")));
    }
    if a.explain {
        explain::explain(&compiled.report);
    }

    let bar = output::bytes_bar(compiled.weight_bytes(), "writing");
    let external = match a.external_data {
        ExternalData::Auto if stream::is_stream(&out) => External::Never,
        ExternalData::Auto => External::Auto,
        ExternalData::Always => External::Always,
        ExternalData::Never => External::Never,
    };
    let written = stream::write(&out, |to| {
        compiled.write(to, &checkpoint, external, &mut |n| bar.inc(n)).map_err(|e| write_failure(&out, &e))
    })?;
    bar.finish_and_clear();
    let mut total = written.model_bytes;
    let mut beside = String::new();
    if let Some((path, n)) = &written.data {
        total += n;
        beside = format!(" and {}", path.display());
    }
    output::say(format_args!(
        "{model}: {} nodes, {} parameters, opset {}, target {}; compiled in {:.1} ms, written in {:.2} s ({})",
        compiled.model.graph.nodes.len(),
        output::count(parameters(&compiled.declared)),
        compiled.model.opset_imports[0].1,
        options.target,
        built.as_secs_f64() * 1e3,
        start.elapsed().saturating_sub(built).as_secs_f64(),
        output::bytes(total),
    ));
    output::say(format_args!("wrote {}{beside}", stream::name(&out)));
    Ok(Exit::Fine)
}

/// Checks before any work that the output can be written and does not overwrite an input.
fn check_output(a: &Build, out: &Path) -> Result<(), Failure> {
    files::output(out)?;
    if matches!(a.external_data, ExternalData::Always) && stream::is_stream(out) {
        let at = stream::name(out);
        return Err(Failure::usage(format!(
            "--external-data writes a file beside the model, and {at} is no file; name one with -o"
        )));
    }
    let inputs = [("--weights", &a.weights.weights), ("--config", &a.model.config), ("--labels", &a.labels)];
    for (flag, path) in inputs {
        if path.as_deref().is_some_and(|p| files::same(p, out)) {
            return Err(Failure::usage(format!("{}: -o would overwrite the file of {flag}", out.display())));
        }
    }
    Ok(())
}

/// Opens the checkpoint, if there is one.
pub(super) fn open(a: &WeightArgs) -> Result<Option<Box<dyn weights::Source>>, Failure> {
    let open = |path: &PathBuf| weights::open(path, a.weights_key.as_deref()).map_err(Failure::bad_file);
    a.weights.as_ref().map(open).transpose()
}

/// The model, in the release of the checkpoint where the user chose none.
pub(super) fn model_of(
    model: &ModelArgs,
    weights: &WeightArgs,
    source: Option<&dyn weights::Source>,
) -> Result<Model, Failure> {
    let model = match source {
        None => resolve_in(FIRST, model, &[])?,
        Some(source) => {
            let strict = ImportOptions { prefix: weights.weights_prefix.clone(), ..ImportOptions::default() };
            release::of_checkpoint(&|release, sets| resolve_in(release, model, sets), source, &strict)?
        }
    };
    model.notes.iter().for_each(output::note);
    model.warnings.iter().for_each(output::warning);
    Ok(model)
}

/// Returns the image size: as requested, else that of the ONNX file that the model is read from.
fn image_size(a: &Build) -> Result<ImageSize, Failure> {
    let from = a.model.config.as_ref().filter(|p| p.extension().is_some_and(|e| e == "onnx"));
    let (None, None, Some(path)) = (a.image_size, &a.model.input_size, from) else {
        return Ok(a.image_size.unwrap_or_default());
    };
    let file = files::read_model(path)?;
    let text = files::metadata(&file, metadata::IMAGE_SIZE);
    text.map_or(Ok(ImageSize::Trained), str::parse)
        .map_err(|e| Failure::bad_file(format!("{}: {}: {e}", path.display(), metadata::IMAGE_SIZE)))
}

/// The model of the command line, with more settings.
fn resolve_in(release: &str, a: &ModelArgs, more: &Sets) -> Result<Model, Failure> {
    let mut sets = a.sets.clone();
    sets.extend(a.input_size.clone().map(|v| ("input_size".to_owned(), v)));
    sets.extend_from_slice(more);
    if let Some(path) = a.config.as_ref().filter(|p| p.extension().is_some_and(|e| e == "onnx")) {
        return model_in(path, &sets);
    }
    let (source, exit) = match (&a.config, &a.variant) {
        (Some(path), _) => (Source::File(path), Exit::BadFile),
        (None, Some(v)) => (Source::Preset(v, &a.preset), Exit::Usage),
        (None, None) => return Err(Failure::usage("either --variant or --config is needed")),
    };
    Model::resolve_in(release, &source, &sets).map_err(|e| Failure::new(exit, e))
}

/// The model that an ONNX file of this tool was built from.
pub(super) fn model_in(path: &Path, sets: &[(String, toml::Value)]) -> Result<Model, Failure> {
    let file = files::read_model(path)?;
    let at = path.display().to_string();
    let text = files::metadata(&file, metadata::MODEL).ok_or_else(|| {
        Failure::bad_file(format!(
            "{at} does not say which model it was built from; give --variant, or a model file with --config"
        ))
    })?;
    Model::resolve(&Source::Text(&at, text), sets).map_err(Failure::bad_file)
}

/// Counts the trainable parameters of a declared graph, without batch counters.
pub(super) fn parameters(g: &Graph) -> u64 {
    let sizes = g.params().filter(|p| p.trainable).filter_map(|p| g.ty(p.value).shape.elements().value());
    sizes.map(i64::unsigned_abs).sum()
}

/// The checkpoint that was opened, matched with the parameters of the model; else initial values.
pub(super) fn checkpoint(
    a: &WeightArgs,
    source: Option<Box<dyn weights::Source>>,
    declared: &Graph,
) -> Result<Checkpoint, Failure> {
    let Some(source) = source else {
        output::note(format_args!("no --weights: parameters are initialized from seed {}", a.seed));
        return Ok(Checkpoint::initial(a.seed));
    };
    let options = ImportOptions {
        allow_missing: a.allow_missing,
        allow_unexpected: a.allow_unexpected,
        prefix: a.weights_prefix.clone(),
    };
    let checkpoint = Checkpoint::open(source, declared, &options, a.seed).map_err(Failure::bad_file)?;
    if let Some(m) = checkpoint.matching() {
        if let Some(p) = &m.report.prefix {
            output::note(p);
        }
        output::say(&m.report);
    }
    Ok(checkpoint)
}

/// Checks that there is a label for each class.
fn check_labels(path: &Path, labels: &str, declared: &Graph) -> Result<(), Failure> {
    let logits = declared.outputs().iter().find(|o| o.name == "logits");
    let classes = logits.and_then(|o| declared.ty(o.value).shape.last()?.value());
    match (classes, labels.lines().count()) {
        (Some(n), lines) if n == lines as i64 => Ok(()),
        (Some(n), lines) => Err(Failure::bad_file(wrong_labels(&path.display().to_string(), lines, n as usize))),
        (None, _) => {
            Err(Failure::usage(format!("{}: the model has no classes to label; leave --labels out", path.display())))
        }
    }
}

/// Says that the number of labels is not that of the classes.
pub(super) fn wrong_labels(from: &str, labels: usize, classes: usize) -> String {
    format!("{from} has {labels} labels, the model {classes} classes; give one line for each class, in their order")
}

pub(super) fn read_labels(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::bad_file(format!("{}: {e}", path.display())))?;
    Ok(text.trim_end().to_owned())
}

fn failure(e: CompileError) -> Failure {
    let exit = match &e {
        CompileError::Build(_) => Exit::BadFile,
        CompileError::ImageSize(_) => Exit::Usage,
        CompileError::Pass(e) => pass_exit(e),
        CompileError::Emit(_) => Exit::Internal,
    };
    Failure::new(exit, e)
}

/// A wrong name or an opset that lacks an op is the user's; everything else a defect.
pub(super) fn pass_exit(e: &PassError) -> Exit {
    match e {
        PassError::Unknown { .. } | PassError::Required(_) | PassError::Opset(_) | PassError::Unspellable { .. } => {
            Exit::Usage
        }
        PassError::Emit { .. } | PassError::Invalid { .. } | PassError::Unsettled { .. } => Exit::Internal,
    }
}

fn write_failure(path: &Path, e: &WriteError) -> Failure {
    let mut message = format!("{}: {e}", path.display());
    let mut source = std::error::Error::source(e);
    while let Some(s) = source {
        let s_text = s.to_string();
        if !message.contains(&s_text) {
            message = format!("{message}: {s_text}");
        }
        source = s.source();
    }
    Failure::bad_file(message)
}
