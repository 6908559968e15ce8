//! Matching a checkpoint's tensors with a model's parameters.
//!
//! Invariant: every parameter and every tensor ends in exactly one of matched, missing,
//! unexpected, mismatched, carried or left aside, and all differences are reported together.
//! Reads no values.

use super::WeightError;
use super::prefix::{Announcement, candidates, choose, ranked};
use super::report::{Mismatch, Report};
use super::source::{Entry, Source};
use crate::ir::DType;
use std::collections::{BTreeMap, BTreeSet};

/// A parameter or buffer a model wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamSpec {
    /// Its state-dict key.
    pub path: String,
    /// Sizes of its axes.
    pub shape: Vec<usize>,
    /// The type it is computed with.
    pub dtype: DType,
}

impl ParamSpec {
    /// Type and shape, as in `f32[1, 65, 24]`.
    pub fn declared(&self) -> String {
        format!("{}{:?}", self.dtype, self.shape)
    }
}

/// How strict to be.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Missing parameters are not an error (`--allow-missing`).
    pub allow_missing: bool,
    /// Unexpected tensors are not an error (`--allow-unexpected`).
    pub allow_unexpected: bool,
    /// Take the tensors under this prefix and leave the others aside (`--weights-prefix`);
    /// with or without its final dot, empty for the keys as they are.
    pub prefix: Option<String>,
}

/// Which tensor supplies which parameter.
#[derive(Clone, Debug)]
pub struct Matching {
    /// Index into the source's entries by parameter path.
    pub sources: BTreeMap<String, usize>,
    /// The comparison, with what to announce.
    pub report: Report,
}

impl Matching {
    /// The entry that supplies the parameter `path`.
    pub fn get(&self, path: &str) -> Option<usize> {
        self.sources.get(path).copied()
    }
}

/// Matches the tensors of `source` with `wanted`, whose paths are unique.
///
/// # Errors
/// [`WeightError::DoesNotFit`] with the full report when something differs that `options` does not
/// allow; [`WeightError::Choose`] when the part of the checkpoint to take must be chosen.
pub fn import(source: &dyn Source, wanted: &[ParamSpec], options: &ImportOptions) -> Result<Matching, WeightError> {
    let entries = source.entries();
    let names: Vec<&str> = entries.iter().map(|e| e.name.as_str()).collect();
    let paths: BTreeSet<&str> = wanted.iter().map(|p| p.path.as_str()).collect();
    let (prefix, wrapper) = if let Some(given) = &options.prefix {
        (given_prefix(source, given, &names, &paths)?, None)
    } else {
        let unclear = |candidates| WeightError::Choose {
            flag: "--weights-prefix",
            what: format!(
                "{}: the model's parameters are found under several prefixes, or beside tensors of unknown use",
                source.origin()
            ),
            candidates,
        };
        let (prefix, wrapper) = choose(&names, &paths).map_err(unclear)?;
        (prefix.to_owned(), wrapper)
    };

    let mut by_path = BTreeMap::new();
    let mut aside = BTreeMap::new();
    for (index, name) in names.iter().enumerate() {
        if let Some(path) = name.strip_prefix(prefix.as_str()) {
            by_path.insert(path, index);
        } else {
            let group = name.split('.').next().unwrap_or(name);
            *aside.entry(group.to_owned()).or_insert(0) += 1;
        }
    }
    let announcement = (!prefix.is_empty()).then_some(Announcement { taken: by_path.len(), prefix, wrapper, aside });
    let matching = fit(source, wanted, options, by_path, announcement);
    if matching.report.is_acceptable() { Ok(matching) } else { Err(WeightError::DoesNotFit(Box::new(matching.report))) }
}

/// Sorts parameters and tensors (by the path that is left of their key) into their kinds.
fn fit(
    source: &dyn Source,
    wanted: &[ParamSpec],
    options: &ImportOptions,
    mut tensors: BTreeMap<&str, usize>,
    prefix: Option<Announcement>,
) -> Matching {
    let entries = source.entries();
    let mut report = Report {
        origin: source.origin().to_owned(),
        prefix,
        allow: (options.allow_missing, options.allow_unexpected),
        ..Report::default()
    };
    let mut sources = BTreeMap::new();
    for spec in wanted {
        match tensors.remove(spec.path.as_str()) {
            Some(i) if entries[i].shape == spec.shape && entries[i].stored.converts_to(spec.dtype) => {
                sources.insert(spec.path.clone(), i);
            }
            Some(i) => report.mismatched.push(Mismatch { wanted: spec.clone(), found: entries[i].clone() }),
            None if !is_batch_counter(&spec.path) => report.missing.push(spec.clone()),
            None => {}
        }
    }
    report.matched = sources.len();
    let counters = tensors.len();
    tensors.retain(|path, _| !is_batch_counter(path));
    report.carried = counters - tensors.len();
    let mut unexpected: Vec<usize> = tensors.into_values().collect();
    unexpected.sort_unstable();
    report.unexpected = unexpected.into_iter().map(|i| Entry::clone(&entries[i])).collect();
    Matching { sources, report }
}

/// PyTorch's batch norms count their updates; nothing in a model depends on the number.
fn is_batch_counter(path: &str) -> bool {
    path == "num_batches_tracked" || path.ends_with(".num_batches_tracked")
}

fn given_prefix(
    source: &dyn Source,
    given: &str,
    names: &[&str],
    paths: &BTreeSet<&str>,
) -> Result<String, WeightError> {
    let prefix = if given.is_empty() || given.ends_with('.') { given.to_owned() } else { format!("{given}.") };
    if names.iter().any(|n| n.starts_with(&prefix)) {
        return Ok(prefix);
    }
    let what = format!("{}: no key starts with `{prefix}`", source.origin());
    let candidates = ranked(&candidates(names, paths)).into_iter().filter(|c| !c.0.is_empty()).collect();
    Err(WeightError::Choose { what, flag: "--weights-prefix", candidates })
}

#[cfg(test)]
mod tests {
    use super::super::source::Stored;
    use super::*;
    use bytes::Bytes;

    struct Keys(Vec<Entry>);
    impl Source for Keys {
        fn origin(&self) -> &'static str {
            "w.pt"
        }
        fn entries(&self) -> &[Entry] {
            &self.0
        }
        fn bytes(&self, _: usize) -> Result<Bytes, WeightError> {
            unreachable!("matching reads no values")
        }
    }

    fn vit() -> Vec<ParamSpec> {
        let layer = |i: usize| {
            [
                (format!("transformer.layers.{i}.0.norm.weight"), vec![24]),
                (format!("transformer.layers.{i}.0.fn.to_qkv.weight"), vec![72, 24]),
                (format!("transformer.layers.{i}.1.fn.net.0.weight"), vec![40, 24]),
            ]
        };
        let outer = [("cls_token", vec![1, 1, 24]), ("mlp_head.1.weight", vec![7, 24]), ("mlp_head.1.bias", vec![7])];
        let outer = outer.into_iter().map(|(n, s)| (n.to_owned(), s));
        outer.chain((0..2).flat_map(layer)).map(|(path, shape)| ParamSpec { path, shape, dtype: DType::F32 }).collect()
    }
    fn entry(name: impl Into<String>, shape: &[usize]) -> Entry {
        Entry { name: name.into(), stored: DType::F32.into(), shape: shape.to_vec() }
    }
    fn under(prefix: &str) -> Vec<Entry> {
        vit().iter().map(|p| entry(format!("{prefix}{}", p.path), &p.shape)).collect()
    }
    fn fits(entries: Vec<Entry>, options: &ImportOptions) -> Matching {
        let m = import(&Keys(entries), &vit(), options).expect("fits");
        assert_eq!((m.report.matched, m.sources.len()), (9, 9));
        m
    }
    fn report(entries: Vec<Entry>, options: &ImportOptions) -> Box<Report> {
        match import(&Keys(entries), &vit(), options) {
            Err(WeightError::DoesNotFit(r)) => r,
            other => panic!("{other:?}"),
        }
    }
    fn lax(allow_missing: bool, allow_unexpected: bool) -> ImportOptions {
        ImportOptions { allow_missing, allow_unexpected, prefix: None }
    }
    fn with_prefix(p: &str) -> ImportOptions {
        ImportOptions { prefix: Some(p.into()), ..Default::default() }
    }

    #[test]
    fn a_plain_checkpoint_is_the_identity() {
        let m = fits(under(""), &ImportOptions::default());
        assert_eq!((m.get("mlp_head.1.bias"), m.get("nothing")), (Some(2), None));
        assert_eq!(m.report.prefix, None);
    }

    #[test]
    fn a_recorder_is_stripped_and_announced() {
        let m = fits(under("vit."), &ImportOptions::default());
        assert_eq!(m.report.prefix.expect("announced").to_string(), "taking the 9 tensors under `vit.`");
    }

    #[test]
    fn a_distillation_wrapper_gives_its_student() {
        let mut keys = under("student.");
        keys.insert(0, entry("teacher.bn1.num_batches_tracked", &[]));
        keys.extend([entry("teacher.fc.weight", &[7, 8]), entry("distillation_token", &[1, 1, 24])]);
        keys.extend([entry("distill_mlp.0.weight", &[24]), entry("distill_mlp.1.weight", &[7, 24])]);
        let m = fits(keys, &ImportOptions::default());
        assert_eq!(
            m.report.prefix.expect("announced").to_string(),
            "this is the checkpoint of a distillation wrapper: taking the 9 tensors under `student.`, \
             leaving 5 aside (distill_mlp: 2, distillation_token: 1, teacher: 2)"
        );
    }

    #[test]
    fn masked_patch_prediction_gives_its_transformer() {
        let mut keys = under("transformer.");
        keys.extend([entry("mask_token", &[1, 1, 48]), entry("to_bits.weight", &[512, 24])]);
        keys.push(entry("patch_to_emb.0.weight", &[24, 48]));
        let m = fits(keys, &ImportOptions::default());
        assert_eq!(m.report.prefix.expect("announced").prefix, "transformer.");
    }

    #[test]
    fn byol_gives_its_online_encoder() {
        let mut keys = under("net.");
        keys.extend(under("online_encoder.net."));
        keys.extend(under("target_encoder.net."));
        keys.push(entry("online_predictor.net.1.num_batches_tracked", &[]));
        let m = fits(keys, &ImportOptions::default());
        assert_eq!(m.get("cls_token"), Some(9));
        assert_eq!(m.report.prefix.expect("announced").wrapper, Some("BYOL"));
    }

    #[test]
    fn an_unclear_part_needs_a_prefix() {
        let keys = || [under("a."), under("b.")].concat();
        let e = import(&Keys(keys()), &vit(), &ImportOptions::default()).expect_err("unclear").to_string();
        assert!(e.contains("--weights-prefix a.  (9 tensors)\n  --weights-prefix b.  (9 tensors)"), "{e}");
        assert_eq!(fits(keys(), &with_prefix("b")).get("cls_token"), Some(9));
        assert_eq!(fits(keys(), &with_prefix("a.")).get("cls_token"), Some(0));
        let e = import(&Keys(keys()), &vit(), &with_prefix("c")).expect_err("absent").to_string();
        assert!(e.starts_with("w.pt: no key starts with `c.`; choose with"), "{e}");
        assert_eq!(report(keys(), &with_prefix("")).missing.len(), 9);
    }

    #[test]
    fn batch_counters_are_carried_and_never_required() {
        let counter = "transformer.layers.0.0.fn.bn.num_batches_tracked";
        let mut keys = under("");
        keys.push(entry(counter, &[]));
        let m = fits(keys, &ImportOptions::default());
        assert_eq!(m.report.carried, 1);
        let mut wanted = vit();
        wanted.push(ParamSpec { path: counter.into(), shape: vec![], dtype: DType::I64 });
        assert!(import(&Keys(under("")), &wanted, &ImportOptions::default()).is_ok());
    }

    #[test]
    fn everything_that_differs_is_reported_at_once() {
        let mut keys = under("vit.");
        keys[0].shape = vec![1, 24];
        keys[1].name = "vit.mlp_head.weight".into();
        keys[2].stored = Stored::Other("f8_e4m3");
        keys.push(entry("vit.extra", &[2]));
        let r = report(keys, &ImportOptions::default());
        assert_eq!(
            r.to_string(),
            "w.pt does not fit the model: 6 matched, 1 missing, 2 unexpected, 2 shape mismatches
  taking the 10 tensors under `vit.`
  missing: parameters of the model that the checkpoint lacks (1):
    mlp_head.1.weight f32[7, 24]  (is it `vit.mlp_head.weight`?)
  unexpected: tensors the model has no place for (2):
    vit.mlp_head.weight f32[7, 24]
    vit.extra f32[2]
  shape or type mismatches (2):
    cls_token: expected f32[1, 1, 24], found f32[1, 24]
    mlp_head.1.bias: expected f32[7], found f8_e4m3[7] (f8_e4m3 does not convert to f32)
  the model file must describe the model that was trained: compare its sizes with the shapes above"
        );
    }

    /// The integers of a quantized model are no weights without their scale, whatever the shapes.
    #[test]
    fn integers_do_not_become_float_parameters() {
        for stored in [DType::I8, DType::U8, DType::I32, DType::I64, DType::Bool] {
            let mut keys = under("");
            keys[2].stored = stored.into();
            let said = report(keys, &lax(true, true)).to_string();
            let why = format!("mlp_head.1.bias: expected f32[7], found {stored}[7] ({stored} does not convert to f32)");
            assert!(said.contains(&why), "{said}");
        }
        for stored in [DType::F16, DType::BF16, DType::F64] {
            let mut keys = under("");
            keys[2].stored = stored.into();
            fits(keys, &ImportOptions::default());
        }
    }

    #[test]
    fn what_is_allowed_is_no_error_but_still_reported() {
        let mut keys = under("");
        keys[1].name = "other".into();
        assert!(report(keys.clone(), &ImportOptions::default()).to_string().ends_with(
            "to continue anyway: --allow-missing (they start from their initial values), --allow-unexpected"
        ));
        report(keys.clone(), &lax(true, false));
        report(keys.clone(), &lax(false, true));
        let m = import(&Keys(keys.clone()), &vit(), &lax(true, true)).expect("allowed");
        assert_eq!((m.report.missing.len(), m.report.unexpected.len()), (1, 1));
        keys[0].shape = vec![3];
        report(keys, &lax(true, true));
    }

    #[test]
    fn hundreds_of_differences_stay_readable() {
        let r = report((0..300).map(|i| entry(format!("blocks.{i}.w"), &[1])).collect(), &ImportOptions::default());
        let text = r.to_string();
        assert!(text.contains("… and 280 more") && text.lines().count() < 50, "{text}");
    }
}
