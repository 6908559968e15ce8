//! `vit-onnx predict`.

use super::args::Predict;
use super::{Exit, Failure, Outcome, attention, build, engine, files, output, stream};
use crate::compile::metadata;
use crate::image::{self, Prepared, Preprocessing};
use crate::ir::{DType, Tensor};
use crate::onnx::Model;
use crate::runtime::{Port, PortDim, Session};
use serde_json::json;
use std::path::{Path, PathBuf};

pub(super) fn run(a: &Predict) -> Outcome {
    let model = files::read_model(&a.model)?;
    let given = a.labels.as_deref().map(build::read_labels).transpose()?;
    let labels = given.or_else(|| files::metadata(&model, metadata::LABELS).map(ToOwned::to_owned));
    let labels: Option<Vec<&str>> = labels.as_deref().map(|l| l.lines().map(str::trim).collect());
    let photos = photos(&a.photos)?;
    if let Some(h) = &a.attention {
        image::format(h).map_err(Failure::usage)?;
        if photos.len() > 1 && stream::is_stream(h) {
            return Err(Failure::usage(format!("{}: one picture only; name a file for several", stream::name(h))));
        }
    }
    let heat = a.attention.as_deref().map(|h| attention::paths(h, &photos));
    heat.iter().flatten().try_for_each(|h| files::output(h))?;
    // A picture on standard output leaves no place for text there.
    let print = |text: String| match &a.attention {
        Some(h) if stream::is_stream(h) => {
            output::say(text);
            Ok(())
        }
        _ => output::print(text),
    };
    let (name, mut session) = engine::load(&a.model, &a.engine)?;
    if heat.is_some() {
        attention::require(session.outputs(), &a.model)?;
    }
    let how = preprocessing(&model, session.inputs(), &a.model)?;
    output::say(&name);

    let (mut all, mut unusable) = (Vec::new(), 0);
    for (i, photo) in photos.iter().enumerate() {
        let at = photo.display().to_string();
        let opened = image::open(photo).map_err(|e| e.to_string());
        let prepared = match opened.and_then(|p| how.apply(&p).map_err(|e| format!("{at}: {e}"))) {
            Ok(prepared) => prepared,
            Err(problem) => {
                output::error(&problem);
                all.push(json!({ "image": at, "problem": problem }));
                unusable += 1;
                continue;
            }
        };
        let outputs = classify(&mut *session, &prepared)?;
        let top = top(&outputs, a.k, &a.model)?;
        if let Some(l) = labels.as_ref().filter(|l| l.len() != top.classes) {
            let from = a.labels.as_ref().map_or("the model file".to_owned(), |p| p.display().to_string());
            return Err(Failure::bad_file(build::wrong_labels(&from, l.len(), top.classes)));
        }
        if let Some(paths) = &heat {
            attention::draw(a, &prepared, &outputs, &paths[i])?;
        }
        let label = |class: usize| labels.as_ref().map_or_else(|| format!("class {class}"), |l| l[class].to_owned());
        if a.json {
            let one = |&(class, p): &(usize, f64)| json!({ "class": class, "label": label(class), "probability": p });
            let predictions: Vec<_> = top.best.iter().map(one).collect();
            all.push(json!({ "image": at, "predictions": predictions }));
        } else {
            print(table(&at, &top, &label))?;
        }
    }
    if a.json {
        print(format!("{:#}", serde_json::Value::from(all)))?;
    }
    if unusable == 0 {
        return Ok(Exit::Fine);
    }
    if photos.len() > 1 {
        output::error(&format!("{unusable} of {} photographs could not be used", photos.len()));
    }
    Ok(Exit::BadFile)
}

/// Returns the photographs that the arguments name: files, and those in folders, by name.
fn photos(given: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    const EXTENSIONS: [&str; 3] = ["jpg", "jpeg", "png"];
    let is_photo = |p: &PathBuf| {
        let extension = p.extension().unwrap_or_default();
        EXTENSIONS.iter().any(|e| extension.eq_ignore_ascii_case(e)) && p.is_file()
    };
    let mut out = Vec::new();
    for path in given {
        if !path.is_dir() {
            out.push(path.clone());
            continue;
        }
        let bad = |e| Failure::bad_file(format!("{}: {e}", path.display()));
        let entries = path.read_dir().and_then(Iterator::collect::<std::io::Result<Vec<_>>>).map_err(bad)?;
        let mut found: Vec<PathBuf> = entries.iter().map(std::fs::DirEntry::path).filter(is_photo).collect();
        if found.is_empty() {
            let (at, names) = (path.display(), EXTENSIONS.join(", ."));
            return Err(Failure::bad_file(format!(
                "{at} has no photographs (.{names}); folders inside it are not searched"
            )));
        }
        found.sort();
        out.extend(found);
    }
    Ok(out)
}

fn table(at: &str, top: &Top, label: &dyn Fn(usize) -> String) -> String {
    let rows = top.best.iter().map(|&(class, p)| [format!("{:.2} %", 100.0 * p), label(class)]);
    format!("{at}\n{}\n", output::table(&[">probability", "label"], rows))
}

/// Returns the settings in the file, else the usual ones for the size of the input.
fn preprocessing(model: &Model, inputs: &[Port], path: &Path) -> Result<Preprocessing, Failure> {
    let at = path.display();
    let [Port { dtype: DType::F32, shape, .. }] = inputs else {
        let inputs: Vec<String> = inputs.iter().map(|p| format!("{} {}", p.name, p.signature())).collect();
        return Err(Failure::bad_file(format!("{at} takes {}; predict feeds one f32 image", inputs.join(", "))));
    };
    let [_, channels, height, width] = shape.as_slice() else {
        let shape = inputs[0].signature();
        return Err(Failure::bad_file(format!("{at} takes {shape}; predict feeds [batch, channels, height, width]")));
    };
    if let Some(json) = files::metadata(model, metadata::PREPROCESSING) {
        return serde_json::from_str(json)
            .map_err(|e| Failure::bad_file(format!("{at}: {}: {e}", metadata::PREPROCESSING)));
    }
    let standard = match (channels, height, width) {
        (PortDim::Known(c), PortDim::Known(h), PortDim::Known(w)) => Preprocessing::standard([*h, *w], *c),
        // A foreign model that takes any size.
        (PortDim::Known(c), ..) => Preprocessing::standard([224, 224], *c),
        _ => Preprocessing::standard([224, 224], 3),
    };
    standard.ok_or_else(|| Failure::bad_file(format!("{at} takes {channels} channels; photographs have 1 or 3")))
}

/// Runs the model on an image. A fixed batch is filled with copies of it.
fn classify(session: &mut dyn Session, image: &Prepared) -> Result<Vec<(String, Tensor)>, Failure> {
    let port = session.inputs().first().expect("preprocessing checked that there is one input").clone();
    let x = &image.pixel_values;
    let x = match port.shape.first() {
        Some(PortDim::Known(n)) if *n != 1 => {
            let one = x.to_vec::<f32>().expect("images are f32");
            let mut shape = x.shape().to_vec();
            shape[0] = *n;
            Tensor::new(&shape, one.repeat(*n))
        }
        _ => x.clone(),
    };
    engine::run(session, &[(port.name, x)])
}

struct Top {
    /// Classes and probabilities, the most likely first.
    best: Vec<(usize, f64)>,
    classes: usize,
}

/// Returns the most likely classes of the first image.
fn top(outputs: &[(String, Tensor)], k: usize, model: &Path) -> Result<Top, Failure> {
    let scores = |(_, t): &&(String, Tensor)| t.rank() == 2 && t.dtype().is_float() && t.shape().iter().all(|&n| n > 0);
    let named = outputs.iter().find(|(n, _)| n == "logits").filter(scores);
    let Some((name, logits)) = named.or_else(|| outputs.iter().find(scores)) else {
        let has: Vec<String> = outputs.iter().map(|(n, t)| format!("{n} {}{:?}", t.dtype(), t.shape())).collect();
        let (at, has) = (model.display(), has.join(", "));
        return Err(Failure::bad_file(format!("{at} outputs {has}; predict needs class scores [batch, classes]")));
    };
    let x = first(logits).to_f64_vec();
    if x.iter().any(|v| !v.is_finite()) {
        return Err(Failure::bad_file(format!("output `{name}` has infinite values; check the weights")));
    }
    let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let e: Vec<f64> = x.iter().map(|v| (v - largest).exp()).collect();
    let sum: f64 = e.iter().sum();
    let mut best: Vec<(usize, f64)> = e.iter().map(|v| v / sum).enumerate().collect();
    best.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    best.truncate(k);
    Ok(Top { best, classes: x.len() })
}

/// Returns the first entry of a batch, in f32.
pub(super) fn first(t: &Tensor) -> Tensor {
    let (t, shape) = (t.cast(DType::F32), t.shape().get(1..).unwrap_or_default());
    let n: usize = shape.iter().product();
    let mut values = t.to_vec::<f32>().expect("just cast to f32");
    values.resize(n, 0.0);
    Tensor::new(shape, values)
}
