//! Cases of `golden/reference`: what the original PyTorch packages compute.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use vit_onnx::ir::{DType, Tensor};
use vit_onnx::ops::Graph;
use vit_onnx::template::{Model, Source};
use vit_onnx::weights;

/// One case.
pub(crate) struct Case {
    pub(crate) dir: PathBuf,
    pub(crate) set: String,
    pub(crate) name: String,
    pub(crate) config: Value,
}

/// The folders of `golden/reference`. A case that is deleted, or added without a line here, fails every test that uses
/// cases, so a test that goes through all of them compared as many as there are.
const CASES: [(&str, &[&str]); 3] = [
    ("extended", &["simple_vit", "simple_vit_patch_dropout", "simple_vit_qk_norm", "simple_vit_registers"]),
    (
        "latest",
        &[
            "cait",
            "cross_vit",
            "cross_vit_same_dim_gray",
            "cvt",
            "cvt_kernel5",
            "deepvit",
            "efficient_encoder_glu_resattn",
            "efficient_encoder_plain",
            "efficient_nystrom",
            "levit",
            "levit_distill",
            "local_vit_degenerate",
            "pit",
            "pit_gray_heads",
            "rvt",
            "rvt_cls_proj",
            "rvt_no_conv",
            "rvt_no_rotary",
            "rvt_partial_rotary",
            "t2t",
            "t2t_three_layers",
            "vit_cls",
            "vit_mean",
            "vit_one_head",
            "vit_recorder",
            "vit_rect",
            "vit_tokens",
        ],
    ),
    (
        "seed",
        &[
            "cait",
            "cait_deep20",
            "cait_layer_keep",
            "cross_vit",
            "cross_vit_same_dim",
            "cvt",
            "cvt_odd",
            "deepvit",
            "deepvit_mean_gray",
            "efficient_encoder_glu_resattn",
            "efficient_encoder_plain",
            "efficient_nystrom",
            "efficient_nystrom_nopad_noresidual",
            "efficient_routing",
            "efficient_sinkhorn_topk",
            "levit",
            "levit_distill",
            "local_vit",
            "local_vit_gray",
            "pit",
            "pit_heads_tuple",
            "pit_one_head",
            "rvt",
            "rvt_gray",
            "t2t_given_encoder",
            "t2t_one_layer",
            "t2t_readme_shape",
            "t2t_three_layers",
            "t2t_two_layers",
            "vit_cls",
            "vit_default_dim_head",
            "vit_dim_head",
            "vit_gray",
            "vit_mean",
            "vit_one_head",
            "vit_one_head_proj",
            "vit_recorder",
            "vit_rect_input",
        ],
    ),
];

/// Every case of every set, sorted.
pub(crate) fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/reference");
    let mut out = Vec::new();
    for (set, names) in CASES {
        let mut dirs: Vec<PathBuf> =
            std::fs::read_dir(root.join(set)).expect("the set is there").map(|e| e.expect("an entry").path()).collect();
        dirs.sort();
        let found: Vec<_> = dirs.iter().filter_map(|d| d.file_name()?.to_str()).collect();
        assert_eq!(found, names, "the folders of golden/reference/{set} are those listed in CASES");
        for dir in dirs {
            let text = std::fs::read_to_string(dir.join("config.json")).expect("a case has a config");
            let config = serde_json::from_str(&text).expect("valid JSON");
            let name = dir.file_name().expect("a name").to_string_lossy().into_owned();
            out.push(Case { dir, set: set.to_owned(), name, config });
        }
    }
    out
}

impl Case {
    /// The original package's module, as the registry names it.
    pub(crate) fn variant(&self) -> &str {
        match self.config["variant"].as_str().expect("a variant") {
            "recorder" => "vit",
            "cait_keep" => "cait",
            "efficient_routing" => "efficient",
            v if v.starts_with("simple_vit") => "simple_vit",
            v => v,
        }
    }

    pub(crate) fn release(&self) -> &'static str {
        if self.set == "seed" { "0.16" } else { "1" }
    }

    /// The model, for the images of this case.
    pub(crate) fn model(&self) -> Model {
        let mut table = model_file(self.variant(), self.release(), &self.config["kwargs"]);
        if self.config["variant"] == "simple_vit_qk_norm" {
            table.insert("qk_norm".into(), true.into());
        }
        let text = table.to_string();
        let m = Model::resolve(&Source::Text(&self.name, &text), &[]);
        let mut m = m.unwrap_or_else(|e| panic!("{}: {e}", self.name));
        let io = self.io();
        let &[_, _, h, w] = io["input"].shape() else { panic!("{}: the images have another rank", self.name) };
        m.declaration.input_size = Some([h, w]);
        m
    }

    /// Inputs and outputs by name.
    pub(crate) fn io(&self) -> BTreeMap<String, Tensor> {
        read_all(&self.dir.join("io.safetensors"))
    }

    /// The checkpoint, matched with the parameters of `g`: nothing missing, nothing unexpected.
    pub(crate) fn weights(&self, g: &Graph) -> BTreeMap<String, Tensor> {
        let source = weights::open(&self.dir.join("weights.safetensors"), None).expect("a checkpoint");
        let specs = weights::specs(g);
        let matching = weights::import(&*source, &specs, &weights::ImportOptions::default());
        let matching = matching.unwrap_or_else(|e| panic!("{}/{}: {e}", self.set, self.name));
        let read = |s: &weights::ParamSpec| {
            let t = weights::tensor(&*source, matching.get(&s.path)?, s.dtype).expect("a readable tensor");
            Some((s.path.clone(), t))
        };
        specs.iter().filter_map(read).collect()
    }

    /// `(atol, rtol)` for an output, as the case suggests them.
    pub(crate) fn tolerance(&self, output: &str) -> (f64, f64) {
        let t = &self.config["tolerance"][output.split('.').next().expect("a first part")];
        let get = |k: &str| t[k].as_f64().unwrap_or_else(|| panic!("{}: no {k} for {output}", self.name));
        (get("suggested_atol"), get("suggested_rtol"))
    }
}

/// The model file that a user would write for these constructor arguments.
pub(crate) fn model_file(variant: &str, release: &str, kwargs: &Value) -> toml::Table {
    let mut t = to_toml(kwargs).as_table().expect("arguments").clone();
    if let Some(toml::Value::Table(inner)) = t.get_mut("inner")
        && let Some(toml::Value::Table(args)) = inner.remove("args")
    {
        inner.extend(args);
    }
    t.insert("variant".into(), variant.into());
    t.insert("release".into(), release.into());
    t
}

/// The largest excess over `atol + rtol·|want|`, as a fraction of it, and the largest difference.
pub(crate) fn deviation(got: &Tensor, want: &Tensor, (atol, rtol): (f64, f64)) -> (f64, f64) {
    assert_eq!(got.shape(), want.shape(), "shapes");
    let pairs = got.to_f64_vec().into_iter().zip(want.to_f64_vec());
    pairs.fold((0.0, 0.0), |(worst, diff): (f64, f64), (g, w)| {
        let d = (g - w).abs();
        assert!(!d.is_nan(), "not a number");
        (worst.max(d / (atol + rtol * w.abs())), diff.max(d))
    })
}

pub(crate) fn read_all(path: &Path) -> BTreeMap<String, Tensor> {
    let source = weights::open(path, None).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let names: Vec<_> = source.entries().iter().map(|e| (e.name.clone(), e.stored)).collect();
    let read = |(i, (name, stored)): (usize, (String, weights::Stored))| {
        let dtype = stored.dtype().unwrap_or(DType::F32);
        (name, weights::tensor(&*source, i, dtype).expect("a readable tensor"))
    };
    names.into_iter().enumerate().map(read).collect()
}

fn to_toml(v: &Value) -> toml::Value {
    match v {
        Value::Bool(b) => (*b).into(),
        Value::Number(n) => n.as_i64().map_or_else(|| n.as_f64().expect("a number").into(), toml::Value::from),
        Value::String(s) => s.as_str().into(),
        Value::Array(a) => toml::Value::Array(a.iter().map(to_toml).collect()),
        Value::Object(o) => toml::Value::Table(o.iter().map(|(k, v)| (k.clone(), to_toml(v))).collect()),
        Value::Null => "null".into(),
    }
}
