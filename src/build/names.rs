//! How an era of a package names and stores the parameters that a page declares.
//!
//! A page uses one set of paths. Checkpoints of another era call the same parameters otherwise, and may store them in
//! another shape or in pieces. A [`Rule`] says so for one path and all paths below it. Scopes carry the rules of their
//! model, so the paths of the graph are the keys of the checkpoint, and pages never ask for the era. What is stored in
//! another form is computed by ordinary nodes, which constant folding moves into the weight program.

use super::{Builder, T};
use crate::ir::{DType, Init, Shape, TensorType};
use smallvec::SmallVec;
use std::borrow::Cow;

/// Tables of rules. The rule of the most segments applies; of several, the one with the fewest `*`.
pub type Names = &'static [&'static [Rule]];

/// Declares what an era stores in place of a parameter of this shape, and computes the parameter from it.
pub type Stored = for<'g> fn(Slot<'g>, Shape) -> T<'g>;

/// One path of a page, and the path of the era for it.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    page: &'static str,
    era: &'static str,
    stored: Option<Stored>,
}

impl Rule {
    /// Renames `page` and all paths below it. Each `*` stands for one segment, and is the same one in `era`, where a
    /// number may become `2*` or `2*+1`: two lists that the era has as one.
    pub const fn rename(page: &'static str, era: &'static str) -> Self {
        Self { page, era, stored: None }
    }

    /// Renames the parameter `page`, which the era stores in another form. In `era`, `{}` stands for the name of a
    /// [part](Slot::part).
    pub const fn stored(page: &'static str, era: &'static str, how: Stored) -> Self {
        Self { page, era, stored: Some(how) }
    }
}

/// Rules taken apart, since every path of a model meets every rule.
#[derive(Debug, Default)]
pub(super) struct Rules(Vec<(Vec<&'static str>, &'static Rule)>);

impl Rules {
    pub(super) fn new(names: Names) -> Self {
        Self(names.iter().copied().flatten().map(|rule| (rule.page.split('.').collect(), rule)).collect())
    }

    /// The era's path for a page's, and the form in which it is stored where that is another one.
    pub(super) fn translate(&self, path: &str) -> (String, Option<Stored>) {
        if self.0.is_empty() {
            return (path.to_owned(), None);
        }
        let path_parts: SmallVec<[&str; 12]> = path.split('.').collect();
        let matching = self.0.iter().filter(|(page, rule)| {
            // Other forms are of parameters, not of what is below a path.
            let long_enough = page.len() == path_parts.len() || page.len() < path_parts.len() && rule.stored.is_none();
            // Paths differ at the end.
            long_enough && page.iter().zip(&path_parts).rev().all(|(part, given)| part == given || *part == "*")
        });
        let literal = |page: &[&str]| page.iter().filter(|part| **part != "*").count();
        match matching.max_by_key(|(page, _)| (page.len(), literal(page))) {
            Some((page, rule)) => (apply(page, rule.era, &path_parts), rule.stored),
            None => (path.to_owned(), None),
        }
    }
}

/// `era` for `path`, which begins with `page`.
fn apply(page: &[&str], era: &str, path: &[&str]) -> String {
    let mut stars = page.iter().zip(path).filter(|(part, _)| **part == "*").map(|(_, given)| *given);
    let mut parts = Vec::with_capacity(path.len());
    for part in era.split('.') {
        let mut index = |odd: usize| {
            let number = stars.next().and_then(|given| given.parse::<usize>().ok());
            Cow::Owned(number.map_or(part.to_owned(), |n| (2 * n + odd).to_string()))
        };
        parts.push(match part {
            "*" => Cow::Borrowed(stars.next().unwrap_or(part)),
            "2*" => index(0),
            "2*+1" => index(1),
            _ => Cow::Borrowed(part),
        });
    }
    parts.extend(path[page.len()..].iter().map(|part| Cow::Borrowed(*part)));
    parts.join(".")
}

/// Where an era stores a parameter, or the parts of one.
#[derive(Debug)]
pub struct Slot<'g> {
    pub(super) b: &'g Builder,
    pub(super) key: String,
    pub(super) init: Init,
}

impl<'g> Slot<'g> {
    /// The stored f32 tensor.
    #[track_caller]
    pub fn param(&self, shape: impl Into<Shape>) -> T<'g> {
        self.b.param(&self.key, TensorType::new(DType::F32, shape), self.init.clone(), true)
    }

    /// One of several stored f32 tensors: `name` replaces `{}` in the key.
    #[track_caller]
    pub fn part(&self, name: &str, shape: impl Into<Shape>) -> T<'g> {
        let key = self.key.replace("{}", name);
        self.b.param(&key, TensorType::new(DType::F32, shape), self.init.clone(), true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Dim, Stage};

    const RULES: Names = &[
        &[
            Rule::rename("layers.*.0", "blocks.*.attn"),
            Rule::rename("layers.*.0.norm", "blocks.*.norm1"),
            Rule::rename("layers.2", "last"),
        ],
        &[Rule::rename("layers.*.*.norm.weight", "odd.*.*")],
    ];

    #[test]
    fn the_longest_rule_applies() {
        for (page, era) in [
            ("layers.7.0.to_q.weight", "blocks.7.attn.to_q.weight"),
            ("layers.7.0", "blocks.7.attn"),
            ("layers.7.0.norm.bias", "blocks.7.norm1.bias"),
            ("layers.7.0.norm.weight", "odd.7.0"),
            ("layers.2.1.w", "last.1.w"),
            ("layers.2.0.w", "blocks.2.attn.w"),
            ("layers", "layers"),
            ("head.layers.7.0", "head.layers.7.0"),
        ] {
            assert_eq!(Rules::new(RULES).translate(page).0, era);
        }
        const EQUAL: Names = &[&[Rule::rename("a.*", "x"), Rule::rename("a.b", "y"), Rule::rename("*.b", "z")]];
        assert_eq!(Rules::new(EQUAL).translate("a.b.c").0, "y.c");
    }

    /// Three tensors, each of them transposed, as one packed parameter; below a scope with rules of its own.
    #[test]
    fn parameters_are_made_of_what_an_era_stores() {
        const THIRDS: Stored = |slot, shape| {
            let (rows, columns) = (shape[0].exact_div(&Dim::known(3)).expect("thirds"), shape[1].clone());
            let third = |name: &&str| slot.part(name, [columns.clone(), rows.clone()]).t();
            T::concat(&["query", "key", "value"].each_ref().map(third), 0)
        };
        let b = Builder::new("t", Stage::Built);
        const OUTER: Names = &[&[Rule::rename("encoder", "bert")]];
        const INNER: Names = &[&[Rule::stored("*.to_qkv.weight", "layer.*.{}.kernel", THIRDS)]];
        let s = b.root().named(OUTER).at("encoder").named(INNER).at(4).at("to_qkv");
        let qkv = s.param("weight", [12, 5], Init::ZEROS);
        assert_eq!(qkv.ty().to_string(), "f32[12, 5]");
        assert_eq!(s.path(), "bert.4.to_qkv", "a form is of a parameter, not of its scope");
        b.output("y", qkv);
        let g = b.finish().expect("a graph");
        let stored: Vec<String> = g.params().map(|p| format!("{} {}", p.path, g.ty(p.value).shape)).collect();
        let part = |name| format!("bert.layer.4.{name}.kernel [5, 4]");
        assert_eq!(stored, ["query", "key", "value"].map(part));
    }
}
