//! Whole variants as reviewers read them: tiny presets as built, optimized and lowered; README-size
//! presets as summaries.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use vit_onnx::compile::{Compiled, Options, compile, metadata};
use vit_onnx::ir::verify;
use vit_onnx::ops::{Graph, Program};
use vit_onnx::target::Target;
use vit_onnx::template::{Model, Source};
use vit_onnx::text::{self, Style};
use vit_onnx::variants::{Entry, VARIANTS};

fn compiled(variant: &str, preset: &str, release: &str, target: &'static Target) -> Compiled {
    let set = [("release".to_owned(), toml::Value::from(release))];
    let m = Model::resolve(&Source::Preset(variant, preset), &set).unwrap_or_else(|e| panic!("{e}"));
    compile(&m.declaration, &Options { target, ..Options::default() }).unwrap_or_else(|e| panic!("{variant}: {e}"))
}

fn settings() -> insta::Settings {
    let mut s = insta::Settings::clone_current();
    s.set_snapshot_path("../../golden/text");
    s.set_prepend_module_to_snapshot(false);
    s.set_omit_expression(true);
    s
}

fn both(p: &Program) -> String {
    let weights = text::print(&p.weights, &Style::SNAPSHOT);
    format!("{}\n{weights}", text::print(&p.graph, &Style::SNAPSHOT))
}

/// Release 0.16, or the newest where that has no such variant.
fn oldest(v: &Entry) -> &'static str {
    if v.eras.of(v.name, "0.16").is_ok() { "0.16" } else { "1" }
}

#[test]
fn tiny_variants_read_as_intended() {
    for v in VARIANTS {
        let c = compiled(v.name, "tiny", oldest(v), Target::ORT_CPU);
        let mut lowered = c.model.clone();
        // The version changes with every release of the tool; the rest of the file does not.
        lowered.metadata.retain(|(k, _)| k != metadata::VERSION);
        lowered.producer_version.clear();
        settings().bind(|| {
            insta::assert_snapshot!(format!("{}.tiny.built", v.name), text::print(&c.declared, &Style::SNAPSHOT));
            insta::assert_snapshot!(format!("{}.tiny.optimized", v.name), both(&c.optimized));
            insta::assert_snapshot!(format!("{}.tiny.lowered", v.name), lowered.to_string());
        });
    }
}

/// Counts, a digest of paths and shapes, and what goes in and out.
fn summary(c: &Compiled) -> String {
    let mut out = String::new();
    let mut put = |line: String| writeln!(out, "{line}").expect("strings take everything");
    let params: Vec<String> = c.declared.params().map(|p| format!("{} {}", p.path, c.declared.ty(p.value))).collect();
    let digest = xxhash_rust::xxh3::xxh3_128(params.join("\n").as_bytes());
    let size = |g: &Graph, trainable: bool| -> i64 {
        g.params().filter(|p| p.trainable == trainable).filter_map(|p| g.ty(p.value).shape.elements().value()).sum()
    };
    put(format!(
        "parameters {} in {} tensors, {} of buffers",
        size(&c.declared, true),
        params.len(),
        size(&c.declared, false)
    ));
    put(format!("paths and shapes {digest:032x}"));
    for i in c.declared.inputs() {
        put(format!("input {} : {}", i.name, c.declared.ty(i.value)));
    }
    for o in c.declared.outputs() {
        put(format!("output {} : {}", o.name, c.declared.ty(o.value)));
    }
    for (stage, g) in
        [("built", &c.declared), ("optimized", &c.optimized.graph), ("weight program", &c.program.weights)]
    {
        let mut histogram: BTreeMap<&str, usize> = BTreeMap::new();
        g.nodes().for_each(|(_, n)| *histogram.entry(n.op.mnemonic()).or_default() += 1);
        let ops: Vec<String> = histogram.iter().map(|(op, n)| format!("{op} {n}")).collect();
        put(format!("{stage}: {} nodes; {}", g.nodes().len(), ops.join(", ")));
    }
    let mut histogram: BTreeMap<&str, usize> = BTreeMap::new();
    c.model.graph.nodes.iter().for_each(|n| *histogram.entry(&n.op_type).or_default() += 1);
    let ops: Vec<String> = histogram.iter().map(|(op, n)| format!("{op} {n}")).collect();
    put(format!("lowered: {} nodes; {}", c.model.graph.nodes.len(), ops.join(", ")));
    out
}

#[test]
fn readme_variants_have_the_expected_summaries() {
    for v in VARIANTS {
        for r in ["0.16", "1"] {
            // A release may have a variant whose README size its own code cannot run.
            let set = [("release".to_owned(), toml::Value::from(r))];
            if Model::resolve(&Source::Preset(v.name, "readme"), &set).is_err() {
                continue;
            }
            let c = compiled(v.name, "readme", r, Target::ORT_CPU);
            verify::verify(&c.program.graph).expect("a valid graph");
            settings().bind(|| insta::assert_snapshot!(format!("{}.readme.{r}.summary", v.name), summary(&c)));
        }
    }
}

#[test]
fn the_same_input_gives_the_same_model() {
    for v in VARIANTS {
        let [a, b] = [0, 1].map(|_| compiled(v.name, "tiny", oldest(v), Target::PORTABLE));
        assert_eq!(a.model.to_string(), b.model.to_string(), "{}", v.name);
    }
}
