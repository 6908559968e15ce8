//! Which softmaxes become Attention, and which are given out as maps.

use vit_onnx::ops::{Graph, Op, Program};
use vit_onnx::passes::{self, Ctx};
use vit_onnx::target::Target;
use vit_onnx::template::{Model, Source};
use vit_onnx::variants::Declare;

fn graph(variant: &str, preset: &str, r: &str, sets: &[(&str, toml::Value)], taps: &[&str]) -> Graph {
    let mut all = vec![("release".to_owned(), toml::Value::from(r))];
    all.extend(sets.iter().map(|(k, v)| ((*k).to_owned(), v.clone())));
    let m = Model::resolve(&Source::Preset(variant, preset), &all).unwrap_or_else(|e| panic!("{e}"));
    let options = Declare { taps: taps.iter().map(|t| (*t).to_owned()).collect(), ..Declare::default() };
    m.declaration.declare(&options).unwrap_or_else(|e| panic!("{e}"))
}

fn optimized(g: Graph) -> (Program, Ctx) {
    let options = passes::Options { explain: true, ..passes::Options::default() };
    let run =
        passes::compile(&Program::new(g), Target::PORTABLE, None, &options, &mut |_, _| ()).expect("valid passes");
    (run.optimized.expect("it was legalized"), run.ctx)
}

fn count(g: &Graph, is: fn(&Op) -> bool) -> usize {
    g.nodes().filter(|(_, n)| is(&n.op)).count()
}

/// How many maps the readme model makes, and how many of them become Attention.
fn fused(variant: &str, r: &str) -> (usize, usize, Ctx) {
    let g = graph(variant, "readme", r, &[], &[]);
    let maps = count(&g, |op| matches!(op, Op::Softmax(_)));
    let (p, ctx) = optimized(g);
    let left = count(&p.graph, |op| matches!(op, Op::Softmax(_)));
    let fused = count(&p.graph, |op| matches!(op, Op::Attention(_)));
    assert_eq!(left + fused, maps, "{variant} {r}: every map is fused or left");
    let counted: u64 = ["sdpa", "sdpa-bias"].iter().map(|rule| ctx.count(rule)).sum();
    assert_eq!(counted as usize, fused, "{variant} {r}: rules count what they did");
    (maps, fused, ctx)
}

#[test]
fn plain_attention_is_always_recognized() {
    // CrossViT: 4 levels of 2 small, 3 large and 2·2 crossing layers. PiT: 3 stages of 3.
    for (variant, maps) in [("vit", 6), ("cross_vit", 36), ("pit", 9)] {
        for r in ["0.16", "1"] {
            let (got, fused, ctx) = fused(variant, r);
            assert_eq!((got, fused), (maps, maps), "{variant} {r}");
            let refused: Vec<_> = ctx.refusals.iter().filter(|x| x.rule.starts_with("sdpa")).collect();
            assert!(refused.is_empty(), "{variant} {r}: {refused:?}");
        }
    }
}

#[test]
fn mixed_heads_are_not_mistaken_for_plain_attention() {
    for (variant, maps) in [("deepvit", 6), ("cait", 14)] {
        for r in ["0.16", "1"] {
            let (got, fused, ctx) = fused(variant, r);
            assert_eq!((got, fused), (maps, 0), "{variant} {r}");
            let reasons: Vec<_> = ctx.refusals.iter().filter(|x| x.rule == "sdpa").collect();
            assert_eq!(reasons.len(), maps, "{variant} {r}: one reason for each map: {reasons:?}");
            assert!(reasons.iter().all(|x| !x.reason.is_empty() && x.scope.contains("layers.")), "{reasons:?}");
        }
    }
}

/// Names and shapes of the maps that a tiny model gives out, for two images.
fn maps(variant: &str, r: &str, sets: &[(&str, toml::Value)]) -> Vec<(String, Vec<usize>)> {
    let g = graph(variant, "tiny", r, sets, &["attentions"]);
    let shape = |v| g.ty(v).shape.iter().skip(1).map(|d| d.size().expect("only the batch is open")).collect();
    g.outputs().iter().skip(1).map(|o| (o.name.clone(), shape(o.value))).collect()
}

#[test]
fn every_map_is_given_out_in_order_of_execution() {
    let each = |shapes: &[[usize; 3]]| -> Vec<(String, Vec<usize>)> {
        shapes.iter().enumerate().map(|(i, s)| (format!("attentions.{i}"), s.to_vec())).collect()
    };
    for r in ["0.16", "1"] {
        assert_eq!(maps("deepvit", r, &[]), [("attentions".to_owned(), vec![2, 3, 5, 5])]);
        // Two among 4 patches, then the class token looks at itself and them.
        assert_eq!(maps("cait", r, &[]), each(&[[3, 4, 4], [3, 4, 4], [3, 1, 5]]));
        // Small, large, small looks at large, large looks at small.
        assert_eq!(maps("cross_vit", r, &[]), each(&[[2, 17, 17], [3, 5, 5], [2, 1, 5], [2, 1, 17]]));
        assert_eq!(maps("pit", r, &[]), each(&[[1, 10, 10], [2, 5, 5]]));
    }
}

#[test]
fn a_dropped_layer_is_declared_but_computes_nothing() {
    for r in ["0.16", "1"] {
        let keep = [("keep_patch", toml::Value::from(vec![false, true]))];
        assert_eq!(maps("cait", r, &keep).iter().map(|(_, s)| s.clone()).collect::<Vec<_>>(), [[3, 4, 4], [3, 1, 5]]);
        let (all, kept) = (graph("cait", "tiny", r, &[], &[]), graph("cait", "tiny", r, &keep, &[]));
        assert_eq!(all.params().count(), kept.params().count());
        let softmaxes = |g| count(&optimized(g).0.graph, |op| matches!(op, Op::Softmax(_)));
        assert_eq!((softmaxes(all), softmaxes(kept)), (3, 2));
    }
}
