//! Model files: from TOML to a declaration, with presets and `--set` overrides.
//!
//! A model file says which variant, which release and the original constructor's arguments. Everything wrong with it
//! is reported at once, with the file, the key, the value and what would be valid. The format is described in
//! `templates/README.md`.

mod overrides;
mod problem;

pub use overrides::parse_set;
pub use problem::Problems;

use crate::variants::argument::{Argument, Reading, nearest};
use crate::variants::{self, Declaration, Entry, Era, Size2, era};
use std::fmt;
use std::path::Path;
use toml::{Table, Value};

/// A model file with everything decided.
#[derive(Debug)]
pub struct Model {
    /// The registry's line.
    pub entry: &'static Entry,
    /// The architecture's release, as it was given.
    pub release: String,
    /// Its era.
    pub era: &'static Era,
    /// Whether the user chose the release; if not, a checkpoint may.
    pub release_given: bool,
    /// The kind of transformer plugged in, if one is.
    pub inner: Option<String>,
    /// Its package's release; absent where all are alike.
    pub inner_release: Option<String>,
    /// Whether the user chose that release.
    pub inner_release_given: bool,
    /// What whoever wrote the model file should know.
    pub notes: Vec<String>,
    /// What may be otherwise than was meant.
    pub warnings: Vec<String>,
    /// The model.
    pub declaration: Declaration,
}

/// The release that is meant where none is given: 0.16.6, the first that this tool knew.
pub const FIRST: &str = "0.16";
/// The newest release of everything.
pub const NEWEST: &str = "1";

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
        Self::resolve_in(FIRST, source, sets)
    }

    /// [`resolve`](Self::resolve) with another release where none is given.
    pub fn resolve_in(release: &str, source: &Source<'_>, sets: &[(String, Value)]) -> Result<Self, Problems> {
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
        Self::from_table(release, &origin, table)
    }

    fn from_table(default: &str, origin: &str, mut table: Table) -> Result<Self, Problems> {
        let name = match table.remove("variant") {
            Some(Value::String(s)) => s,
            Some(other) => return Err(Problems::one(origin, format!("variant: expected a name, found `{other}`"))),
            None => return Err(Problems::one(origin, format!("variant is missing; one of {}", names()))),
        };
        let entry = find(&name, origin)?;
        let given = table.remove("release");
        let mut reading = Reading { release: "", wrong: Vec::new(), notes: Vec::new() };
        let release = given.as_ref().map_or_else(
            || Some(if entry.eras.of(entry.name, default).is_ok() { default } else { NEWEST }.to_owned()),
            |v| era::release("release", v, &mut reading),
        );
        // With a wrong release, the arguments are read as the newest's, which takes most.
        let release = release.unwrap_or(NEWEST.to_owned());
        let (era, note) = entry.eras.of(entry.name, &release).unwrap_or_else(|e| {
            reading.wrong.push(format!("release: {e}"));
            (entry.eras.newest(), None)
        });
        reading.notes.extend(note);
        reading.release = &release;
        let input_size = table.remove("input_size").map(|v| Size2::read("input_size", &v, &mut reading));
        let declaration = entry.read(&table, era, &mut reading);
        match declaration.filter(|_| reading.wrong.is_empty()) {
            Some(declaration) => {
                let input_size = input_size.flatten().map(Size2::hw);
                let declaration = Declaration { input_size, ..declaration };
                let Reading { notes, .. } = reading;
                let inner = |table: &Table, key: &str| Some(table.get("inner")?.get(key)?.as_str()?.to_owned());
                let resolved = declaration.model_file().unwrap_or_default();
                Ok(Self {
                    entry,
                    era,
                    release_given: given.is_some(),
                    inner: inner(&resolved, "kind"),
                    inner_release: inner(&resolved, "release"),
                    inner_release_given: inner(&table, "release").is_some(),
                    release,
                    notes,
                    warnings: Vec::new(),
                    declaration,
                })
            }
            None => Err(Problems::new(origin, reading.wrong)),
        }
    }

    /// The package of the transformer plugged in and its era, where it has several.
    pub fn inner_era(&self) -> Option<(&'static str, &'static Era)> {
        let eras = variants::inner::eras(self.inner.as_deref()?)?;
        let (era, _) = eras.of("", self.inner_release.as_deref()?).ok()?;
        Some((eras.package, era))
    }

    /// The resolved model file: reading it gives the same model.
    pub fn to_table(&self) -> Table {
        self.declaration.model_file().expect("the variant is registered")
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
                // A preset that says its release is for no other era.
                let own = Model::resolve(&Source::Preset(e.name, &p), &[]).unwrap_or_else(|e| panic!("{e}"));
                let of_era = |era: &&Era| !own.release_given || era.releases == own.era.releases;
                for era in e.eras.list.iter().filter(of_era) {
                    let set = [("release".to_owned(), Value::from(era.releases[1]))];
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
        assert!(fail(&format!("{VIT}release = '2a'")).contains("is no version"));
        assert!(fail(&format!("{VIT}dropout = 1.5")).contains("dropout"));
        assert!(fail(&VIT.replace("mlp_dim = 16\n", "")).contains("mlp_dim"));
        assert!(fail("variant = [").contains("m.toml"));
    }

    #[test]
    fn overrides_take_toml_and_bare_words() {
        let sets: Vec<_> =
            ["pool=mean", "release=1", "image_size=[32, 64]"].map(|s| parse_set(s).expect("a set")).into();
        let m = Model::resolve(&Source::Text("m.toml", VIT), &sets).expect("a model");
        assert_eq!((m.release.as_str(), m.release_given), ("1", true));
        assert_eq!(m.to_table()["pool"].as_str(), Some("mean"));
    }
}
