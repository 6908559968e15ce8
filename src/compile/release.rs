//! Which release a checkpoint is of: read off its keys, its shapes and the buffers that releases compute otherwise.
//!
//! Every era of the model, and of the transformer inside it, is declared and compared with the checkpoint. Where several
//! fit, their compiled graphs say whether it matters.

use super::{Options, compile};
use crate::ir::{Init, Tensor};
use crate::template::{FIRST, Model, NEWEST};
use crate::variants::{Declare, Era, Eras, inner};
use crate::weights::{self, ImportOptions, Source, WeightError};
use toml::Value;

/// Settings of a model file, as `--set` gives them.
pub type Sets = [(String, Value)];

/// The model in the release whose parameters the checkpoint has, where the model file does not say which. If none fits,
/// in the one whose keys are the most alike, so that what differs is reported against that. `resolve` makes the model of
/// a release, for where none is given, and settings.
///
/// # Errors
/// Those of `resolve`, where the model is wrong in every release.
pub fn of_checkpoint<E>(
    resolve: &dyn Fn(&str, &Sets) -> Result<Model, E>,
    source: &dyn Source,
    options: &ImportOptions,
) -> Result<Model, E> {
    // Some arguments are of newer releases only.
    let base = resolve(FIRST, &[]).or_else(|e| resolve(NEWEST, &[]).map_err(|_| e))?;
    let resolve = |sets: &Sets| resolve(&base.release, sets);
    let mut candidates = candidates(&base, &resolve, &|m| difference(m, source, options));
    if candidates.len() < 2 {
        return Ok(base);
    }
    let differences: Vec<usize> = candidates.iter().map(|m| difference(m, source, options)).collect();
    let Some(least) = differences.iter().copied().min().filter(|n| *n < usize::MAX) else { return Ok(base) };
    let mut fitting: Vec<usize> = (0..candidates.len()).filter(|&i| differences[i] == least).collect();
    let base_at = candidates.iter().position(|m| same_era(m, &base));
    let origin = source.origin();
    if least > 0 {
        if base_at.is_some_and(|i| differences[i] == least) {
            return Ok(base);
        }
        let nearest = label(&fitting.iter().map(|&i| &candidates[i]).collect::<Vec<_>>());
        let keys = if least < KEY { "are those" } else { "are most like those" };
        let mut model = candidates.swap_remove(fitting[0]);
        model.notes.push(format!("the keys of {origin} {keys} of {nearest}, which it is compared with"));
        return Ok(model);
    }
    let agreeing: Vec<usize> =
        fitting.iter().copied().filter(|&i| buffers_agree(&candidates[i], source, options)).collect();
    if !agreeing.is_empty() {
        fitting = agreeing;
    }
    // Neighbors that compute the same are one range.
    let mut groups: Vec<(String, Vec<usize>)> = Vec::new();
    for &i in &fitting {
        let text = if fitting.len() == 1 { String::new() } else { arithmetic(&candidates[i]) };
        match groups.iter_mut().find(|(other, _)| *other == text) {
            Some((_, group)) => group.push(i),
            None => groups.push((text, vec![i])),
        }
    }
    let labels: Vec<String> =
        groups.iter().map(|(_, group)| label(&group.iter().map(|&i| &candidates[i]).collect::<Vec<_>>())).collect();
    if groups.len() == 1 && base_at.is_some_and(|i| fitting.contains(&i)) {
        return Ok(base);
    }
    let mut model = candidates.swap_remove(groups[0].1[0]);
    match &labels[..] {
        [one] => model.notes.push(format!("the keys of {origin} are those of {one}: building it")),
        [newest, others @ ..] => {
            let key = if model.inner_release.is_some() { "inner.release" } else { "release" };
            let package = newest.split(' ').next().unwrap_or_default();
            let others: Vec<&str> = others.iter().map(|o| o.trim_start_matches(package).trim_start()).collect();
            model.warnings.push(format!(
                "the keys of {origin} are those of {newest}, which is built, but also of {}, which compute otherwise; \
                 nothing in the file tells them apart. If another release wrote it, give --set {key}=<its version>",
                others.join("; "),
            ));
        }
        [] => {}
    }
    Ok(model)
}

/// The weight of a key that differs, among tensors whose shapes do.
const KEY: usize = 1000;

fn same_era(a: &Model, b: &Model) -> bool {
    let inside = |m: &Model| m.inner_era().map(|(_, era)| era.releases);
    a.era.releases == b.era.releases && inside(a) == inside(b)
}

/// The package and the releases of models that are alike, newest first: of the transformer plugged in, if it has eras.
fn label(models: &[&Model]) -> String {
    let era = |m: &Model| m.inner_era().unwrap_or((m.entry.eras.package, m.era));
    let (package, newest) = era(models[0]);
    let oldest = models.last().map_or(newest, |m| era(m).1);
    let releases = Era { releases: [oldest.releases[0], newest.releases[1]], ..*newest };
    format!("{package} {releases}")
}

/// The model in every era that it does not choose itself, newest first. The keys of the plugged-in transformer are its
/// own, so only the eras of it that `differ` least are tried in every era around it.
fn candidates<E>(
    base: &Model,
    resolve: &dyn Fn(&Sets) -> Result<Model, E>,
    differ: &dyn Fn(&Model) -> usize,
) -> Vec<Model> {
    let choices = |given: bool, eras: Option<Eras>| -> Vec<Option<&'static str>> {
        let releases =
            eras.filter(|_| !given).map(|eras| eras.list.iter().rev().map(|e| Some(e.releases[1])).collect());
        releases.unwrap_or(vec![None])
    };
    let outer = choices(base.release_given, Some(base.entry.eras));
    let mut inside = choices(base.inner_release_given, base.inner.as_deref().and_then(inner::eras));
    let alone =
        |release: &str| resolve(&[("inner.release".to_owned(), release.into())]).map_or(usize::MAX, |m| differ(&m));
    let differences: Vec<usize> = inside.iter().map(|release| release.map_or(0, alone)).collect();
    let least = differences.iter().copied().min();
    let mut kept = differences.iter().map(|n| Some(*n) == least);
    inside.retain(|_| kept.next().unwrap_or(true));
    let pairs = inside.iter().flat_map(|inside| outer.iter().map(move |outer| (*outer, *inside)));
    let resolved = pairs.filter_map(|(outer, inside)| {
        let sets = [("release", outer), ("inner.release", inside)];
        let sets: Vec<_> = sets.into_iter().filter_map(|(key, r)| Some((key.to_owned(), r?.into()))).collect();
        resolve(&sets).ok()
    });
    resolved.collect()
}

/// How many keys differ, weighed before those whose shapes do; 0 where the checkpoint fits.
fn difference(m: &Model, source: &dyn Source, options: &ImportOptions) -> usize {
    let Ok(g) = m.declaration.declare(&Declare::default()) else { return usize::MAX };
    match weights::import(source, &weights::specs(&g), options) {
        Ok(_) => 0,
        Err(WeightError::DoesNotFit(r)) => (r.missing.len() + r.unexpected.len()) * KEY + r.mismatched.len(),
        Err(_) => usize::MAX,
    }
}

/// Whether buffers that a release computes have the values that the checkpoint stores.
fn buffers_agree(m: &Model, source: &dyn Source, options: &ImportOptions) -> bool {
    let Ok(g) = m.declaration.declare(&Declare::default()) else { return false };
    let Ok(matching) = weights::import(source, &weights::specs(&g), options) else { return false };
    let stored = |path: &str, t: &Tensor| weights::tensor(source, matching.get(path)?, t.dtype()).ok();
    g.params().all(|p| match &p.init {
        Init::Value(v) => {
            stored(&p.path, v.tensor()).is_none_or(|t| t.max_abs_diff(v.tensor()).is_some_and(|d| d < 1e-4))
        }
        _ => true,
    })
}

/// What a model computes, as text: its graphs without what parameters are before they are trained.
fn arithmetic(m: &Model) -> String {
    let Ok(c) = compile(&m.declaration, &Options::default()) else { return String::new() };
    let text = format!("{}{}", c.program.graph, c.program.weights);
    let lines =
        text.lines().filter(|l| !l.trim_start().starts_with("param ") && !l.trim_start().starts_with("buffer "));
    lines.collect::<Vec<_>>().join("\n")
}
