//! How an era of a package names and stores the parameters that a page declares.
//!
//! A page uses one set of paths. Checkpoints of another era call the same parameters otherwise, and may store them in
//! another shape or in pieces. A [`Rule`] says so for one path and all paths below it. Scopes carry the rules of their
//! model, so the paths of the graph are the keys of the checkpoint, and pages never ask for the era. What is stored in
//! another form is computed by ordinary nodes, which constant folding moves into the weight program.

use super::{Builder, T};
use crate::ir::{DType, Init, Shape, TensorType};

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
    /// Renames `page` and all paths below it. Each `*` stands for one segment, and is the same one in `era`.
    pub const fn rename(page: &'static str, era: &'static str) -> Self {
        Self { page, era, stored: None }
    }

    /// Renames the parameter `page`, which the era stores in another form. In `era`, `{}` stands for the name of a
    /// [part](Slot::part).
    pub const fn stored(page: &'static str, era: &'static str, how: Stored) -> Self {
        Self { page, era, stored: Some(how) }
    }

    /// The length of the match with the beginning of `path`, if there is one: segments, and segments without `*`.
    fn matches(&self, path: &[&str]) -> Option<(usize, usize)> {
        let (mut n, mut literal) = (0, 0);
        for part in self.page.split('.') {
            let given = path.get(n)?;
            if part == *given {
                literal += 1;
            } else if part != "*" {
                return None;
            }
            n += 1;
        }
        // Other forms are of parameters, not of what is below a path.
        (self.stored.is_none() || n == path.len()).then_some((n, literal))
    }

    fn apply(&self, path: &[&str]) -> String {
        let page = || self.page.split('.');
        let mut stars = page().zip(path).filter(|(part, _)| *part == "*").map(|(_, given)| *given);
        let era = self.era.split('.').map(|part| if part == "*" { stars.next().unwrap_or(part) } else { part });
        era.chain(path[page().count()..].iter().copied()).collect::<Vec<_>>().join(".")
    }
}

/// The era's path for a page's, and the form in which it is stored where that is another one.
pub(super) fn translate(names: Names, path: &str) -> (String, Option<Stored>) {
    if names.is_empty() {
        return (path.to_owned(), None);
    }
    let parts: Vec<&str> = path.split('.').collect();
    let matching = names.iter().copied().flatten().filter_map(|r| Some((r.matches(&parts)?, r)));
    match matching.max_by_key(|(length, _)| *length) {
        Some((_, rule)) => (rule.apply(&parts), rule.stored),
        None => (path.to_owned(), None),
    }
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
            assert_eq!(translate(RULES, page).0, era);
        }
        const EQUAL: Names = &[&[Rule::rename("a.*", "x"), Rule::rename("a.b", "y"), Rule::rename("*.b", "z")]];
        assert_eq!(translate(EQUAL, "a.b.c").0, "y.c");
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
