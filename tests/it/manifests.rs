//! Parameters of the original README configurations: names, shapes and their number.

use crate::support::reference::model_file;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use vit_onnx::template::{Model, Source};
use vit_onnx::variants::{self, Declare, VARIANTS};

type Shapes = BTreeMap<String, Vec<usize>>;

/// A manifest of `golden/manifests`.
struct Manifest {
    file: String,
    release: &'static str,
    json: Value,
}

/// The files of `golden/manifests`.
const MANIFESTS: [(&str, &str, &[&str]); 2] = [
    (
        "latest",
        "1",
        &[
            "cait",
            "cross_vit",
            "cvt",
            "deepvit",
            "efficient_encoder",
            "efficient_nystrom",
            "levit",
            "local_vit",
            "pit",
            "rvt",
            "t2t",
            "vit",
        ],
    ),
    (
        "seed",
        "0.16",
        &[
            "cait",
            "cross_vit",
            "cvt",
            "deepvit",
            "efficient_encoder",
            "efficient_nystrom",
            "efficient_routing",
            "efficient_sinkhorn",
            "levit",
            "local_vit",
            "pit",
            "rvt",
            "t2t",
            "vit",
        ],
    ),
];

fn manifests() -> Vec<Manifest> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/manifests");
    let mut out = Vec::new();
    for (set, release, names) in MANIFESTS {
        let entries = std::fs::read_dir(root.join(set)).expect("the set is there");
        let mut paths: Vec<_> = entries.map(|e| e.expect("an entry").path()).collect();
        paths.sort();
        let found: Vec<_> = paths.iter().filter_map(|p| p.file_stem()?.to_str()).collect();
        assert_eq!(found, names, "the files of golden/manifests/{set} are those listed in MANIFESTS");
        for path in paths {
            let text = std::fs::read_to_string(&path).expect("a readable manifest");
            let file = format!("{set}/{}", path.file_name().expect("a name").to_string_lossy());
            out.push(Manifest { file, release, json: serde_json::from_str(&text).expect("valid JSON") });
        }
    }
    out
}

impl Manifest {
    fn variant(&self) -> &str {
        self.json["variant"].as_str().expect("a variant")
    }

    fn shapes(&self, key: &str) -> Shapes {
        serde_json::from_value(self.json[key].clone()).expect("names and shapes")
    }

    fn model(&self) -> Result<Model, String> {
        let text = model_file(self.variant(), self.release, &self.json["kwargs"]).to_string();
        Model::resolve(&Source::Text(&self.file, &text), &[]).map_err(|e| e.to_string())
    }
}

/// Counters of batches may be declared or not; everything else must be.
fn counts_batches(name: &str) -> bool {
    name.ends_with("num_batches_tracked")
}

/// Trainable parameters, then buffers.
fn declared(m: &Model) -> [Shapes; 2] {
    let g = m.declaration.declare(&Declare::default()).unwrap_or_else(|e| panic!("{m}: {e}"));
    [true, false].map(|trainable| {
        let some = g.params().filter(|p| p.trainable == trainable && !counts_batches(&p.path));
        some.map(|p| (p.path.to_string(), g.ty(p.value).shape.known().expect("known sizes"))).collect()
    })
}

fn same(file: &str, kind: &str, got: &Shapes, mut want: Shapes) {
    want.retain(|name, _| !counts_batches(name));
    let missing: Vec<_> = want.keys().filter(|k| !got.contains_key(*k)).collect();
    let extra: Vec<_> = got.keys().filter(|k| !want.contains_key(*k)).collect();
    assert!(missing.is_empty() && extra.is_empty(), "{file}: {kind} not declared {missing:?}, not there {extra:?}");
    for (name, shape) in &want {
        assert_eq!(&got[name], shape, "{file}: the shape of {name}");
    }
}

#[test]
fn readme_models_have_the_parameters_of_the_original() {
    let (mut seen, mut as_preset, mut refused) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for m in manifests() {
        let known = variants::find(m.variant()).filter(|_| ["0.16", "1"].contains(&m.release));
        let entry =
            known.unwrap_or_else(|| panic!("{}: no variant `{}` in release {}", m.file, m.variant(), m.release));
        let model = match m.model() {
            Ok(model) => model,
            // The original constructs this one, but its forward raises: it is refused with that reason.
            Err(e) if (entry.name, m.release) == ("local_vit", "1") => {
                assert!(e.contains("runs only when the grid"), "{e}");
                refused.insert((entry.name, m.release));
                continue;
            }
            Err(e) => panic!("{e}"),
        };
        let [parameters, buffers] = declared(&model);
        same(&m.file, "parameters", &parameters, m.shapes("parameters"));
        same(&m.file, "buffers", &buffers, m.shapes("buffers"));
        let total: usize = parameters.values().map(|s| s.iter().product::<usize>()).sum();
        assert_eq!(Some(total as u64), m.json["parameter_count"].as_u64(), "{}", m.file);

        let release = [("release".to_owned(), toml::Value::from(m.release))];
        let preset = Model::resolve(&Source::Preset(entry.name, "readme"), &release).expect("a preset");
        seen.insert((entry.name, m.release));
        if preset.to_table() == model.to_table() {
            as_preset.insert((entry.name, m.release));
        }
    }
    let all: BTreeSet<_> = VARIANTS
        .iter()
        .flat_map(|v| ["0.16", "1"].map(|r| (v.name, r)).into_iter().filter(|(name, _)| *name != "simple_vit"))
        .collect();
    assert_eq!(
        seen.union(&refused).copied().collect::<BTreeSet<_>>(),
        all,
        "each variant has a manifest for each release"
    );
    assert_eq!(seen, as_preset, "one manifest of each variant and release is that of its preset `readme`");
}
