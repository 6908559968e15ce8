//! Checkpoints of every era of the original packages: `golden/reference/eras` holds what the release that wrote each of
//! them computes from it.

use crate::support::reference::{deviation, read_all};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::{Table, Value};
use vit_onnx::compile::release;
use vit_onnx::compile::{Options, compile};
use vit_onnx::eval;
use vit_onnx::ir::{Tensor, TensorType};
use vit_onnx::ops::Program;
use vit_onnx::target::Target;
use vit_onnx::template::{Model, Problems, Source};
use vit_onnx::variants::VARIANTS;
use vit_onnx::variants::era::Version;
use vit_onnx::weights::{self, Checkpoint, ImportOptions, Supply};

struct Case {
    name: String,
    dir: PathBuf,
    config: Json,
}

fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/reference/eras");
    let mut dirs: Vec<PathBuf> =
        std::fs::read_dir(root).expect("the set is there").map(|e| e.expect("an entry").path()).collect();
    dirs.sort();
    let read = |dir: PathBuf| Case {
        name: dir.file_name().expect("a name").to_string_lossy().into_owned(),
        config: serde_json::from_str(&std::fs::read_to_string(dir.join("config.json")).expect("a config"))
            .expect("JSON"),
        dir,
    };
    let cases: Vec<Case> = dirs.into_iter().map(read).collect();
    // A case that is deleted fails here.
    assert_eq!(cases.len(), 78);
    cases
}

impl Case {
    fn text(&self, of: &str) -> &str {
        self.config[of].as_str().unwrap_or_else(|| panic!("{}: no {of}", self.name))
    }

    /// The model file with these releases of vit-pytorch and of the package inside.
    fn model(&self, sets: &release::Sets) -> Result<Model, Problems> {
        self.model_in("1", sets)
    }

    fn model_in(&self, release: &str, sets: &release::Sets) -> Result<Model, Problems> {
        let mut m = self.resolve(release, sets)?;
        if let [_, _, h, w] = read_all(&self.dir.join("io.safetensors"))["input"].shape() {
            m.declaration.input_size = Some([*h, *w]);
        }
        Ok(m)
    }

    fn resolve(&self, release: &str, sets: &release::Sets) -> Result<Model, Problems> {
        let mut table: Table =
            std::fs::read_to_string(self.dir.join("model.toml")).expect("a model file").parse().expect("TOML");
        for (key, release) in sets {
            let inside = key.strip_prefix("inner.");
            let table = if inside.is_some() { table["inner"].as_table_mut().expect("a table") } else { &mut table };
            table.insert(inside.unwrap_or(key).to_owned(), release.clone());
        }
        Model::resolve_in(release, &Source::Text(&self.name, &table.to_string()), &[])
    }

    /// The releases that wrote the case, `read` in place of the one that it names.
    fn releases(&self, package: Option<(&str, &str)>) -> Vec<(String, Value)> {
        let of = |key: &str, name: &str, own: &str| {
            let release = package.filter(|(p, _)| *p == name).map_or(own, |(_, release)| release);
            (key.to_owned(), Value::from(release))
        };
        let mut sets = vec![of("release", "vit-pytorch", self.text("version"))];
        if let (Some(package), Some(version)) =
            (self.config["inner"]["package"].as_str(), self.config["inner"]["version"].as_str())
        {
            sets.push(of("inner.release", package, version));
        }
        sets
    }

    fn source(&self) -> Box<dyn weights::Source> {
        weights::open(&self.dir.join("weights.safetensors"), None).expect("a checkpoint")
    }

    /// What a model computes from the checkpoint, as declared and compiled.
    fn outputs(&self, m: &Model, input: &Tensor) -> Result<[Tensor; 2], String> {
        let options = Options { target: Target::ORT_CPU, ..Options::default() };
        let c = compile(&m.declaration, &options).map_err(|e| e.to_string())?;
        let checkpoint =
            Checkpoint::open(self.source(), &c.declared, &ImportOptions::default(), 0).map_err(|e| e.to_string())?;
        let declared = Program::new(c.declared.clone());
        let run = |p: &Program| {
            let supply = Supply::new(p, &checkpoint);
            let mut param = |path: &str, _: &TensorType| supply.tensor(path).map_err(|e| e.to_string());
            let y = eval::run(&p.graph, &mut param, &[("pixel_values", input.clone())]);
            y.map(|mut y| y.remove(0).1).map_err(|e| e.to_string())
        };
        Ok([run(&declared)?, run(&c.program)?])
    }

    fn tolerance(&self) -> (f64, f64) {
        let t = &self.config["tolerance"]["output"];
        (t["suggested_atol"].as_f64().expect("a number"), t["suggested_rtol"].as_f64().expect("a number"))
    }

    /// The fraction of the tolerance that is used.
    fn deviation(&self, m: &Model, input: &Tensor, want: &Tensor) -> Result<f64, String> {
        let both = self.outputs(m, input)?;
        if let Some(y) = both.iter().find(|y| y.shape() != want.shape()) {
            return Err(format!("{:?} in place of {:?}", y.shape(), want.shape()));
        }
        Ok(both.iter().map(|y| deviation(y, want, self.tolerance()).0).fold(0.0, f64::max))
    }
}

/// Each case as the release that wrote it computes, and as other releases do that have the same keys and shapes.
#[test]
fn every_era_computes_as_its_releases_do() {
    let (mut n, mut worst, mut wrong) = (0, 0.0f64, Vec::new());
    for case in cases() {
        let io = read_all(&case.dir.join("io.safetensors"));
        let read_as = case.config["read_as"].as_object();
        let others = read_as.into_iter().flatten().map(|(key, release)| (key.as_str(), release.as_str()));
        for (key, release) in std::iter::once(("output", None)).chain(others) {
            let package = key.strip_prefix("output_as.").and_then(|k| k.rsplit_once('_')).map(|(package, _)| package);
            let m = match case.model(&case.releases(package.zip(release))) {
                Ok(m) => m,
                // Releases that cannot be built are refused with their names.
                Err(e) if package.is_some() && e.to_string().contains("the nearest that can be built") => continue,
                Err(e) => panic!("{} {key}: {e}", case.name),
            };
            match case.deviation(&m, &io["input"], &io[key]) {
                Ok(used) if used <= 1.0 => worst = worst.max(used),
                Ok(used) => wrong.push(format!("{} {key}: {used:.2} times the tolerance", case.name)),
                Err(e) => wrong.push(format!("{} {key}: {e}", case.name)),
            }
            n += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    eprintln!("{n} outputs, at most {worst:.3} of the tolerance used");
}

/// Whether a message names the release, or a range that has it.
fn names(message: &str, release: &str) -> bool {
    let version = |text: &str| Version::parse(text.trim_matches(|c: char| !c.is_ascii_digit()));
    let words: Vec<&str> = message.split_whitespace().collect();
    let ranges = words.windows(3).filter(|w| w[1] == "to").filter_map(|w| Some(version(w[0])?..=version(w[2])?));
    let wrote = version(release).expect("a version");
    ranges.into_iter().any(|range| range.contains(&wrote)) || words.iter().any(|w| version(w) == Some(wrote))
}

/// Without a release: the era is read off the checkpoint; where several fit, the others are named.
#[test]
fn the_era_is_read_off_the_checkpoint() {
    let (mut certain, mut named, mut wrong) = (0, 0, Vec::new());
    for case in cases() {
        let m = release::of_checkpoint(
            &|release, sets| case.model_in(release, sets),
            &*case.source(),
            &ImportOptions::default(),
        )
        .unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let wrote = case.config["inner"]["version"].as_str().unwrap_or(case.text("version"));
        // The era that is built has the release that wrote the case, or computes the same.
        let own = case.model(&case.releases(None)).expect("a model");
        let eras = |m: &Model| (m.era.releases, m.inner_era().map(|(_, era)| era.releases));
        let io = || read_all(&case.dir.join("io.safetensors"));
        let right =
            eras(&m) == eras(&own) || case.deviation(&m, &io()["input"], &io()["output"]).is_ok_and(|used| used <= 1.0);
        let warned = !m.warnings.is_empty();
        match (right, warned) {
            (true, false) => certain += 1,
            // Whether it is the newest of those that fit or not, all of them are named.
            (_, true) if m.warnings.iter().any(|w| names(w, wrote)) => named += 1,
            _ => wrong.push(format!("{}: built as {m}; right {right}, {:?} {:?}", case.name, m.notes, m.warnings)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    eprintln!("{certain} are certain, {named} warn and name the release that wrote them");
}

#[test]
fn releases_are_found_and_refused() {
    let of = |variant: &str, release: &str| {
        let e = vit_onnx::variants::find(variant).expect("a variant");
        e.eras.of(variant, release).map(|(era, note)| (era.to_string(), note.is_some()))
    };
    let fine = |era: &str| Ok((era.to_owned(), false));
    assert_eq!(of("vit", "0.16"), fine("0.10.1 to 0.17.2"));
    assert_eq!(of("vit", "0.20"), fine("0.17.3 to 0.40.2"));
    assert_eq!(of("vit", "1.10"), fine("1.4.0 to 1.15.7"));
    assert_eq!(of("vit", "1"), fine("1.16.1 to 1.26.11"));
    assert_eq!(of("vit", "1.16.0"), fine("1.16.0"));
    assert_eq!(of("vit", "1.27.0"), Ok(("1.16.1 to 1.26.11".to_owned(), true)));
    let refused = |variant: &str, release: &str, parts: &[&str]| {
        let e = of(variant, release).expect_err("it is refused");
        assert!(parts.iter().all(|p| e.contains(p)), "{variant} {release}: {e}");
    };
    refused("vit", "0.0.1", &["interleaves", "nearest", "0.0.2 to 0.0.3"]);
    refused("vit", "1.17.2", &["fails", "1.16.1 to 1.26.11"]);
    refused("t2t", "0.7.0", &["patch_size", "0.7.2 to 0.7.3"]);
    refused("efficient", "0.1.0", &["0.2.0 to 0.2.7"]);
    refused("cross_vit", "1.4.4", &["constructed", "1.0.2 to 1.4.2", "1.4.5 to 1.6.5"]);
    refused("cvt", "0.9.0", &["has no cvt", "0.11.0"]);
    refused("vit", "one", &["is no version", "\"1.4.5\""]);
}

/// Eras do not overlap and come in order, and none lies in what is refused.
#[test]
fn eras_are_ranges_in_order() {
    for v in VARIANTS {
        let numbers: Vec<Version> =
            v.eras.list.iter().flat_map(|e| e.releases).map(|r| Version::parse(r).expect("a version")).collect();
        assert!(numbers.is_sorted(), "{}: {numbers:?}", v.name);
        assert!(numbers.chunks(2).zip(numbers[2..].chunks(2)).all(|(a, b)| a[1] < b[0]), "{}", v.name);
        let all: BTreeMap<_, _> = v.eras.list.iter().map(|e| (e.releases, e)).collect();
        assert_eq!(all.len(), v.eras.list.len());
        assert_eq!(v.eras.newest().releases[1], "1.26.11");
    }
}
