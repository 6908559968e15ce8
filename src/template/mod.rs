//! Model files: TOML to a declaration, with presets and `--set` overrides.
//!
//! A model file says which variant, which release and the original constructor's arguments. What
//! cannot be is refused here, all of it at once, naming file, key, value and what would be valid, so
//! variants never see a zero, an absurd size or a wrong type. The format is described in
//! `templates/README.md`.

mod overrides;
mod problem;

pub use overrides::parse_set;
pub use problem::Problems;

use crate::nn::Release;
use crate::variants::{self, Entry, Variant};
use std::fmt;
use std::path::Path;
use toml::{Table, Value};

/// Sizes above this are mistakes: no transformer is a million wide.
const LARGEST: i64 = 1 << 20;
/// Layer counts above this are mistakes.
const DEEPEST: i64 = 10_000;
/// Keys for which zero means "none".
const MAY_BE_ZERO: &[&str] = &["num_classes"];
/// Keys of every model file, besides the variant's arguments.
const COMMON: &[&str] = &["variant", "release", "input_size"];

/// A model declaration with everything decided.
#[derive(Debug)]
pub struct Model {
    /// The registry's line.
    pub entry: &'static Entry,
    /// The architecture's release.
    pub release: Release,
    /// Whether the user chose the release; if not, a checkpoint may.
    pub release_given: bool,
    /// The declaration.
    pub variant: Box<dyn Variant>,
    /// Height and width of the images fed, where they differ from `image_size`.
    pub input_size: Option<[usize; 2]>,
}

/// Where a model file comes from.
#[derive(Clone, Debug)]
pub enum Source<'a> {
    /// A file.
    File(&'a Path),
    /// A preset of a variant's template.
    Preset(&'a str, &'a str),
    /// The text of a model file, under a name for messages.
    Text(&'a str, &'a str),
}

impl Model {
    /// Reads a model file or preset, applies overrides and decides everything.
    pub fn resolve(source: &Source<'_>, sets: &[(String, Value)]) -> Result<Self, Problems> {
        let (origin, mut table) = match source {
            Source::File(path) => {
                let origin = path.display().to_string();
                let text = std::fs::read_to_string(path)
                    .map_err(|e| Problems::one(&origin, format!("cannot read the model file: {e}")))?;
                let table = parse(&origin, &text)?;
                (origin, table)
            }
            Source::Text(origin, text) => ((*origin).to_owned(), parse(origin, text)?),
            Source::Preset(variant, preset) => {
                let entry = find(variant, "--variant")?;
                let origin = format!("preset `{preset}` of {}", entry.name);
                (origin, preset_table(entry, preset)?)
            }
        };
        for (key, value) in sets {
            overrides::apply(&mut table, key, value.clone()).map_err(|e| Problems::one("--set", e))?;
        }
        Self::from_table(&origin, table)
    }

    fn from_table(origin: &str, mut table: Table) -> Result<Self, Problems> {
        let name = match table.remove("variant") {
            Some(Value::String(s)) => s,
            Some(other) => return Err(Problems::one(origin, format!("variant: expected a name, found `{other}`"))),
            None => return Err(Problems::one(origin, format!("variant is missing; one of {}", names()))),
        };
        let entry = find(&name, origin)?;
        let mut problems = Problems::new(origin);
        let given = table.remove("release");
        let release = match given.as_ref().map(release) {
            None => *entry.releases.first().expect("every variant has a release"),
            Some(Some(r)) if entry.releases.contains(&r) => r,
            Some(Some(r)) => {
                problems.add(format!("release: {} does not exist in release {r}", entry.name));
                r
            }
            Some(None) => {
                let given = given.as_ref().map_or(String::new(), ToString::to_string);
                problems.add(format!("release: expected \"0.16\" or \"1\", found {given}"));
                Release::V0_16
            }
        };
        let input_size = match table.remove("input_size").map(size2) {
            None => None,
            Some(Some(hw)) => Some(hw),
            Some(None) => {
                problems.add("input_size: expected an integer or [height, width]".into());
                None
            }
        };
        let keys = (entry.keys)();
        for key in table.keys() {
            if !keys.contains(&key.as_str()) {
                let all: Vec<&str> = keys.iter().chain(COMMON).copied().collect();
                problems.add(format!("{}: {} has no such key; {}", key, entry.name, nearest(key, &all)));
            }
        }
        check_numbers("", &table, &mut problems);
        problems.or_continue()?;
        let variant = (entry.parse)(table).map_err(|e| Problems::one(origin, problem::tidy(&e)))?;
        for wrong in variant.check(release) {
            problems.add(wrong);
        }
        problems.or_continue()?;
        Ok(Self { entry, release, release_given: given.is_some(), variant, input_size })
    }

    /// The resolved model file: what to write again to get the same model.
    pub fn to_table(&self) -> Table {
        let mut t = Table::new();
        t.insert("variant".into(), self.entry.name.into());
        t.insert("release".into(), self.release.name().into());
        if let Some([h, w]) = self.input_size {
            t.insert("input_size".into(), Value::Array(vec![(h as i64).into(), (w as i64).into()]));
        }
        t.extend(self.variant.arguments());
        t
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (release {})", self.entry.name, self.release)
    }
}

/// Names of a variant's presets, `readme` first.
pub fn presets(entry: &Entry) -> Vec<String> {
    let table: Table = entry.template.parse().expect("shipped templates are valid TOML");
    let presets = table.get("preset").and_then(Value::as_table);
    let mut names: Vec<String> = presets.into_iter().flat_map(Table::keys).cloned().collect();
    names.sort_by_key(|n| (n != "readme", n.clone()));
    names
}

fn preset_table(entry: &Entry, preset: &str) -> Result<Table, Problems> {
    let table: Table = entry.template.parse().expect("shipped templates are valid TOML");
    let found = table.get("preset").and_then(|p| p.get(preset)).and_then(Value::as_table);
    let Some(found) = found else {
        let all = presets(entry);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        return Err(Problems::one(
            "--preset",
            format!("{} has no preset `{preset}`; {}", entry.name, nearest(preset, &all)),
        ));
    };
    let mut t = Table::new();
    t.insert("variant".into(), entry.name.into());
    t.extend(found.clone());
    Ok(t)
}

fn parse(origin: &str, text: &str) -> Result<Table, Problems> {
    text.parse::<Table>().map_err(|e| Problems::one(origin, e.to_string().trim_end().to_owned()))
}

fn find(name: &str, origin: &str) -> Result<&'static Entry, Problems> {
    variants::find(name).ok_or_else(|| {
        let all: Vec<&str> = variants::VARIANTS.iter().map(|e| e.name).collect();
        Problems::one(origin, format!("there is no variant `{name}`; {}", nearest(name, &all)))
    })
}

fn names() -> String {
    variants::VARIANTS.iter().map(|e| e.name).collect::<Vec<_>>().join(", ")
}

/// "did you mean …" when something is close, and in any case what there is.
fn nearest(word: &str, all: &[&str]) -> String {
    let best = all.iter().map(|a| (strsim::jaro_winkler(word, a), a)).max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = match best {
        Some((score, a)) if score > 0.8 => format!("did you mean `{a}`? "),
        _ => String::new(),
    };
    format!("{hint}there are {}", all.join(", "))
}

fn release(v: &Value) -> Option<Release> {
    let text = match v {
        Value::String(s) => s.clone(),
        Value::Integer(i) => i.to_string(),
        Value::Float(f) => f.to_string(),
        _ => return None,
    };
    Release::ALL.into_iter().find(|r| r.name() == text)
}

fn size2(v: Value) -> Option<[usize; 2]> {
    let size =
        |v: &Value| v.as_integer().and_then(|i| usize::try_from(i).ok()).filter(|&n| n > 0 && n <= LARGEST as usize);
    match &v {
        Value::Integer(_) => size(&v).map(|n| [n, n]),
        Value::Array(a) if a.len() == 2 => Some([size(&a[0])?, size(&a[1])?]),
        _ => None,
    }
}

/// Every integer is a size or a count: positive and not absurd.
fn check_numbers(path: &str, table: &Table, problems: &mut Problems) {
    for (key, v) in table {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        check_value(&path, key, v, problems);
    }
}

fn check_value(path: &str, key: &str, v: &Value, problems: &mut Problems) {
    match v {
        Value::Integer(n) => {
            let least = i64::from(!MAY_BE_ZERO.contains(&key));
            let most = if key.contains("depth") || key == "stages" { DEEPEST } else { LARGEST };
            if !(least..=most).contains(n) {
                problems.add(format!("{path}: {n} is out of range; {least} to {most} is valid"));
            }
        }
        Value::Float(x) if key.contains("dropout") && !(0.0..1.0).contains(x) => {
            problems.add(format!("{path}: {x} is out of range; a probability at least 0 and below 1 is valid"));
        }
        Value::Float(x) if !x.is_finite() => problems.add(format!("{path}: {x} is not a number")),
        Value::Array(a) => {
            a.iter().enumerate().for_each(|(i, v)| check_value(&format!("{path}[{i}]"), key, v, problems));
        }
        Value::Table(t) => check_numbers(path, t, problems),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(text: &str) -> String {
        Model::resolve(&Source::Text("m.toml", text), &[]).expect_err("it is wrong").to_string()
    }

    const VIT: &str = "variant = 'vit'\nimage_size = 32\npatch_size = 16\nnum_classes = 10\ndim = 8\ndepth = 1\nheads = 2\nmlp_dim = 16\n";

    #[test]
    fn resolving_is_stable() {
        let m = Model::resolve(&Source::Text("m.toml", VIT), &[]).expect("a model");
        assert!(!m.release_given);
        let again = Model::resolve(&Source::Text("m.toml", &m.to_table().to_string()), &[]).expect("a model");
        assert_eq!(m.to_table(), again.to_table());
        assert_eq!(again.to_table()["dim_head"].as_integer(), Some(64));
    }

    #[test]
    fn every_preset_of_every_variant_resolves() {
        for e in variants::VARIANTS {
            let presets = presets(e);
            assert!(presets.iter().any(|p| p == "tiny") && presets.iter().any(|p| p == "readme"), "{}", e.name);
            for p in presets {
                // A preset that says its release is for no other.
                let own = preset_table(e, &p).expect("it is listed").remove("release");
                let own = own.map(|v| super::release(&v).expect("a release"));
                for r in e.releases.iter().filter(|&&r| own.is_none_or(|own| own == r)) {
                    let set = [("release".to_owned(), Value::from(r.name()))];
                    Model::resolve(&Source::Preset(e.name, &p), &set).unwrap_or_else(|e| panic!("{e}"));
                }
            }
        }
    }

    #[test]
    fn mistakes_are_named() {
        assert!(fail("variant = 'vitt'").contains("did you mean `vit`"));
        assert!(fail("image_size = 3").contains("variant is missing"));
        assert!(fail(&format!("{VIT}dropuot = 0.1")).contains("did you mean `dropout`"));
        assert!(fail(&VIT.replace("heads = 2", "heads = 'two'")).contains("heads"));
        assert!(fail(&VIT.replace("heads = 2", "heads = 0")).contains("heads: 0 is out of range"));
        assert!(fail(&VIT.replace("dim = 8", "dim = 99999999999")).contains("dim: 99999999999"));
        assert!(fail(&VIT.replace("patch_size = 16", "patch_size = 5")).contains("30 or 35"));
        assert!(fail(&format!("{VIT}release = '2'")).contains("release"));
        assert!(fail(&format!("{VIT}dropout = 1.5")).contains("dropout"));
        assert!(fail(&VIT.replace("mlp_dim = 16\n", "")).contains("mlp_dim"));
        assert!(fail("variant = [").contains("m.toml"));
    }

    #[test]
    fn overrides_take_toml_and_bare_words() {
        let sets: Vec<_> =
            ["pool=mean", "release=1", "image_size=[32, 64]"].map(|s| parse_set(s).expect("a set")).into();
        let m = Model::resolve(&Source::Text("m.toml", VIT), &sets).expect("a model");
        assert_eq!((m.release, m.release_given), (Release::V1, true));
        assert_eq!(m.to_table()["pool"].as_str(), Some("mean"));
    }
}
