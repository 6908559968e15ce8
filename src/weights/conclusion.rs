//! What the differences between a checkpoint and a model come from, where they have one plain cause.

use super::report::{Mismatch, Report};
use super::source::Stored;
use std::collections::BTreeSet;

/// One sentence that says what to change; nothing where several causes are possible.
pub(super) fn conclusion(r: &Report) -> Option<String> {
    foreign(r).or_else(|| quantized(r)).or_else(|| layers(r)).or_else(|| sizes(r))
}

/// Names of another package.
fn foreign(r: &Report) -> Option<String> {
    let has = |part: &str| r.unexpected.iter().any(|e| e.name.contains(part));
    let package = match () {
        () if has("blocks.0.attn.qkv.") => "timm",
        () if has("encoder.layer.0.attention.") || has("encoder.layers.0.self_attn.") => "Hugging Face transformers",
        () if has("encoder_layer_0.self_attention") => "torchvision",
        () => return None,
    };
    Some(format!("these are the names of {package}, whose checkpoints are not read so far"))
}

fn quantized(r: &Report) -> Option<String> {
    let of = |m: &&Mismatch| {
        m.wanted.dtype.is_float() && matches!(m.found.stored, Stored::Known(d) if !d.is_float() && d.size() == 1)
    };
    let m = r.mismatched.iter().find(of)?;
    Some(format!("the weights are quantized ({}): save the state dict of the float model", m.found.stored))
}

/// A list of layers that ends earlier or later.
fn layers(r: &Report) -> Option<String> {
    if !r.mismatched.is_empty() || r.missing.is_empty() == r.unexpected.is_empty() {
        return None;
    }
    let missing: BTreeSet<(&str, usize)> = r.missing.iter().map(|p| numbered(&p.path)).collect::<Option<_>>()?;
    let surplus: BTreeSet<(&str, usize)> =
        r.unexpected.iter().map(|e| numbered(r.bare(&e.name))).collect::<Option<_>>()?;
    let lists: BTreeSet<&str> = missing.iter().chain(&surplus).map(|(list, _)| *list).collect();
    let [list] = lists.into_iter().collect::<Vec<_>>()[..] else { return None };
    let n = missing.first().map(|(_, first)| *first).or(surplus.last().map(|(_, last)| last + 1))?;
    (n > 0).then(|| format!("the checkpoint has {n} of `{list}`: adjust depth to match"))
}

/// The list and the number of a key such as `transformer.layers.2.0.norm.weight`.
fn numbered(key: &str) -> Option<(&str, usize)> {
    let at = key.find("layers.").map(|at| at + "layers".len())?;
    let number = key[at + 1..].split('.').next()?.parse().ok()?;
    Some((&key[..at], number))
}

/// One argument that is another.
fn sizes(r: &Report) -> Option<String> {
    if !(r.missing.is_empty() && r.unexpected.is_empty()) {
        return None;
    }
    let first = r.mismatched.first()?;
    let all = |fits: &dyn Fn(&Mismatch) -> bool| r.mismatched.iter().all(fits);
    if all(&|m| m.wanted.path.ends_with("pos_embedding")) {
        return Some(
            "only the position table differs: image_size is another, or patch_size; --image-size builds for other images \
             than those of the checkpoint"
                .to_owned(),
        );
    }
    let rows = |m: &Mismatch| Some((*m.wanted.shape.first()?, *m.found.shape.first()?));
    let same_rows = all(&|m| rows(m).is_some() && rows(m) == rows(first) && m.wanted.shape[1..] == m.found.shape[1..]);
    let of_head = |m: &Mismatch| ["head", "to_logits"].iter().any(|part| m.wanted.path.contains(part));
    if same_rows && all(&of_head) {
        return Some(format!("num_classes = {} would fit", first.found.shape[0]));
    }
    let qkv = r.mismatched.iter().find(|m| m.wanted.path.ends_with("to_qkv.weight"))?;
    let attention = |m: &Mismatch| ["to_qkv.", "to_out."].iter().any(|part| m.wanted.path.contains(part));
    let n = qkv.found.shape.first().filter(|n| **n % 3 == 0 && all(&attention))? / 3;
    Some(format!("to_qkv has {} = 3 × {n} rows: heads × dim_head = {n}", 3 * n))
}

#[cfg(test)]
mod tests {
    use super::super::import::ParamSpec;
    use super::super::source::Entry;
    use super::*;
    use crate::ir::DType;

    fn wanted(path: &str, shape: &[usize]) -> ParamSpec {
        ParamSpec { path: path.to_owned(), shape: shape.to_vec(), dtype: DType::F32 }
    }

    fn found(name: &str, shape: &[usize], dtype: DType) -> Entry {
        Entry { name: name.to_owned(), stored: dtype.into(), shape: shape.to_vec() }
    }

    fn of(missing: &[&str], unexpected: &[&str], mismatched: &[(&str, &[usize], &[usize])]) -> Option<String> {
        conclusion(&Report {
            missing: missing.iter().map(|p| wanted(p, &[2])).collect(),
            unexpected: unexpected.iter().map(|p| found(p, &[2], DType::F32)).collect(),
            mismatched: mismatched
                .iter()
                .map(|(p, w, f)| Mismatch { wanted: wanted(p, w), found: found(p, f, DType::F32) })
                .collect(),
            ..Report::default()
        })
    }

    #[test]
    fn one_plain_cause_is_said() {
        let says = |conclusion: Option<String>, part: &str| {
            let text = conclusion.unwrap_or_default();
            assert!(text.contains(part), "`{part}` is not in `{text}`");
        };
        says(of(&["transformer.layers.2.0.w", "transformer.layers.3.1.w"], &[], &[]), "has 2 of `transformer.layers`");
        says(of(&[], &["transformer.layers.4.0.w"], &[]), "has 5 of `transformer.layers`");
        says(
            of(&[], &[], &[("mlp_head.weight", &[7, 4], &[13, 4]), ("mlp_head.bias", &[7], &[13])]),
            "num_classes = 13",
        );
        says(of(&[], &[], &[("pos_embedding", &[17, 4], &[5, 4])]), "--image-size");
        let qkv: &[(&str, &[usize], &[usize])] =
            &[("a.to_qkv.weight", &[48, 8], &[360, 8]), ("a.to_out.0.weight", &[8, 16], &[8, 120])];
        says(of(&[], &[], qkv), "360 = 3 × 120 rows: heads × dim_head = 120");
        says(of(&["cls_token"], &["blocks.0.attn.qkv.weight"], &[]), "timm");
        let int8 = Mismatch { wanted: wanted("w", &[2]), found: found("w", &[2], DType::I8) };
        says(conclusion(&Report { mismatched: vec![int8], ..Report::default() }), "quantized (i8)");
    }

    #[test]
    fn several_causes_are_left_to_the_reader() {
        assert_eq!(of(&["transformer.layers.2.0.w", "cls_token"], &[], &[]), None);
        assert_eq!(of(&["a.layers.1.w", "b.layers.1.w"], &[], &[]), None);
        assert_eq!(of(&["a.layers.0.w"], &[], &[]), None);
        assert_eq!(of(&[], &[], &[("mlp_head.weight", &[7, 4], &[13, 5])]), None);
        assert_eq!(of(&["a.layers.1.w"], &["c"], &[]), None);
    }
}
