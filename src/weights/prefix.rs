//! Which part of a checkpoint holds the model's own parameters.
//!
//! A checkpoint may put a prefix before every key (`vit.`, `module.`), or be that of a training
//! wrapper, where one part is the model. A prefix is removed only when that makes more keys equal
//! to parameter names than leaving them alone, because a plain ViT has keys that start with
//! `transformer.` too. Knows names only, no shapes and no values.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A training wrapper's layout: which part is the model, and keys that stand beside it.
struct Wrapper {
    name: &'static str,
    part: &'static str,
    beside: &'static [&'static str],
}

const WRAPPERS: [Wrapper; 6] = [
    Wrapper {
        name: "a distillation wrapper",
        part: "student.",
        beside: &["teacher.", "distillation_token", "distill_mlp."],
    },
    Wrapper {
        name: "masked patch prediction",
        part: "transformer.",
        beside: &["mask_token", "to_bits.", "patch_to_emb."],
    },
    Wrapper {
        name: "BYOL",
        part: "online_encoder.net.",
        beside: &["net.", "online_encoder.projector.", "online_predictor.", "target_encoder."],
    },
    Wrapper {
        name: "DINO",
        part: "student_encoder.net.",
        beside: &["teacher_encoder.", "student_encoder.projector.", "teacher_centers"],
    },
    Wrapper { name: "a masked autoencoder", part: "encoder.", beside: &["mask_token", "to_pixels.", "decoder."] },
    Wrapper { name: "a training state", part: "param.", beside: &["adam_m.", "adam_v.", "step"] },
];

/// What was removed from the keys, to be told to the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The prefix, with its final dot.
    pub prefix: String,
    /// The training wrapper recognized, if one was.
    pub wrapper: Option<&'static str>,
    /// Keys under the prefix.
    pub taken: usize,
    /// First components of the keys left aside, with how many each.
    pub aside: BTreeMap<String, usize>,
}

impl fmt::Display for Announcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(wrapper) = self.wrapper {
            write!(f, "this is the checkpoint of {wrapper}: ")?;
        }
        write!(f, "taking the {} tensors under `{}`", self.taken, self.prefix)?;
        if self.aside.is_empty() {
            return Ok(());
        }
        let groups: Vec<_> = self.aside.iter().map(|(g, n)| format!("{g}: {n}")).collect();
        write!(f, ", leaving {} aside ({})", self.aside.values().sum::<usize>(), groups.join(", "))
    }
}

/// The prefix to remove from `names` so that they are the `wanted` ones, `""` for none; with the
/// wrapper recognized on the way. `Err` lists the candidates when the choice is the user's.
pub(super) fn choose<'a>(
    names: &[&'a str],
    wanted: &BTreeSet<&str>,
) -> Result<(&'a str, Option<&'static str>), Vec<(String, usize)>> {
    let found = candidates(names, wanted);
    let plain = found.get("").copied().unwrap_or(0);
    let allowed: Vec<_> =
        found.iter().filter_map(|(&p, &n)| Some((p, n, layers(names, p)?))).filter(|c| c.1 > plain).collect();
    let best = allowed.iter().map(|c| c.1).max().unwrap_or(plain);
    let mut winners = allowed.iter().filter(|c| c.1 == best);
    let winner = winners.next();
    // Elsewhere most of the model is found, but nothing says that this is the part to take.
    let better_elsewhere = found.iter().any(|(p, &n)| n > best && 2 * n >= wanted.len() && !p.is_empty());
    if better_elsewhere || winners.next().is_some() {
        return Err(ranked(&found));
    }
    Ok(winner.map_or(("", None), |&(p, _, wrapper)| (p, wrapper)))
}

/// Every prefix under which at least one parameter name is found, with how many, best first.
pub(super) fn ranked(found: &BTreeMap<&str, usize>) -> Vec<(String, usize)> {
    let mut list: Vec<_> = found.iter().map(|(p, &matches)| ((*p).to_owned(), matches)).collect();
    list.sort_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.cmp(b)));
    list
}

/// How many of the `wanted` names are found under each prefix (cut after a dot, or empty).
pub(super) fn candidates<'a>(names: &[&'a str], wanted: &BTreeSet<&str>) -> BTreeMap<&'a str, usize> {
    let mut found = BTreeMap::new();
    for &name in names {
        let cuts = std::iter::once(0).chain(name.match_indices('.').map(|(i, _)| i + 1));
        for cut in cuts.filter(|&cut| wanted.contains(&name[cut..])) {
            *found.entry(&name[..cut]).or_insert(0) += 1;
        }
    }
    found
}

/// Whether removing `prefix` is removing prefixes common to all keys and parts of recognized
/// wrappers, one after the other; then the innermost wrapper, if any (`Some(None)` without one).
#[allow(clippy::option_option)]
fn layers(names: &[&str], prefix: &str) -> Option<Option<&'static str>> {
    let (mut names, mut rest, mut wrapper) = (names.to_vec(), prefix, None);
    while !rest.is_empty() {
        let first = &rest[..=rest.find('.')?];
        // A wrapper goes first: with its projector only beside it, its part starts like every key.
        let known = WRAPPERS
            .iter()
            .find(|w| rest.starts_with(w.part) && names.iter().any(|n| w.beside.iter().any(|b| is_beside(n, b))));
        let part = match known {
            Some(w) => {
                wrapper = Some(w.name);
                w.part
            }
            None if names.iter().all(|n| n.starts_with(first)) => first,
            None => return None,
        };
        names = names.into_iter().filter_map(|n| n.strip_prefix(part)).collect();
        rest = &rest[part.len()..];
    }
    Some(wrapper)
}

fn is_beside(name: &str, pattern: &str) -> bool {
    if pattern.ends_with('.') { name.starts_with(pattern) } else { name == pattern }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIT: [&str; 5] =
        ["cls_token", "pos_embedding", "transformer.layers.0.0.norm.weight", "net.0.weight", "mlp_head.1.weight"];

    fn under(prefix: &str) -> impl Iterator<Item = String> + '_ {
        VIT.iter().map(move |n| format!("{prefix}{n}"))
    }
    fn chosen(names: &[String]) -> Result<(String, Option<&'static str>), Vec<(String, usize)>> {
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        choose(&names, &VIT.into_iter().collect()).map(|(p, w)| (p.to_owned(), w))
    }

    #[test]
    fn a_prefix_of_every_key_is_removed() {
        assert_eq!(chosen(&under("").collect::<Vec<_>>()), Ok((String::new(), None)));
        for prefix in ["vit.", "module.", "model.", "net.", "transformer.", "module.vit.", "anything.at.all."] {
            assert_eq!(chosen(&under(prefix).collect::<Vec<_>>()), Ok((prefix.to_owned(), None)));
        }
    }

    #[test]
    fn the_model_inside_every_wrapper_is_found() {
        for w in &WRAPPERS {
            for beside in w.beside {
                let beside = if beside.ends_with('.') { format!("{beside}x") } else { (*beside).to_owned() };
                let mut names: Vec<_> = under(w.part).collect();
                names.insert(0, beside.clone());
                assert_eq!(chosen(&names), Ok((w.part.to_owned(), Some(w.name))), "{} beside {beside}", w.name);
                let outer: Vec<_> = names.iter().map(|n| format!("module.{n}")).collect();
                assert_eq!(chosen(&outer), Ok((format!("module.{}", w.part), Some(w.name))));
            }
        }
    }

    #[test]
    fn copies_of_the_model_do_not_confuse() {
        let names: Vec<_> =
            under("net.").chain(under("online_encoder.net.")).chain(under("target_encoder.net.")).collect();
        assert_eq!(chosen(&names), Ok(("online_encoder.net.".into(), Some("BYOL"))));
        let names: Vec<_> = under("student.").chain(under("teacher.")).chain(["distillation_token".into()]).collect();
        assert_eq!(chosen(&names), Ok(("student.".into(), Some("a distillation wrapper"))));
    }

    #[test]
    fn an_unknown_part_is_the_users_choice() {
        let names: Vec<_> = under("generator.").chain(under("critic.")).collect();
        let list = chosen(&names).expect_err("ambiguous");
        assert_eq!(list[0], ("critic.".to_owned(), 5));
        assert_eq!(list[1], ("generator.".to_owned(), 5));
        let names: Vec<_> = under("backbone.").chain(["neck.weight".into()]).collect();
        assert_eq!(chosen(&names).expect_err("unknown")[0].0, "backbone.");
        // `student.` alone, without what a distillation wrapper has beside it.
        let names: Vec<_> = under("student.").chain(["other".into()]).collect();
        assert!(chosen(&names).is_err());
    }

    #[test]
    fn accidental_matches_do_not_move_a_checkpoint() {
        let mut names: Vec<_> = under("").collect();
        names.extend(["x.cls_token".into(), "x.pos_embedding".into()]);
        assert_eq!(chosen(&names), Ok((String::new(), None)));
        assert_eq!(chosen(&["blocks.0.cls_token".into(), "b".into()]), Ok((String::new(), None)));
    }
}
