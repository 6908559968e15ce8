//! The part of einops' `rearrange` that Vision Transformers use: splitting, permuting and merging axes, and unit axes.
//!
//! `"b c (h p1) (w p2) -> b (h w) (p1 p2 c)"` becomes reshape, transpose, reshape; steps without an
//! effect are left out. Source of the notation: einops (Rogozhnikov, ICLR 2022).

use super::T;
use crate::ir::Dim;
use std::collections::BTreeMap;

/// One side of a pattern: axes, each a list of names (empty for a unit axis `1`).
fn parse(side: &str) -> Result<Vec<Vec<String>>, String> {
    let mut axes = Vec::new();
    let mut group: Option<Vec<String>> = None;
    for word in side.replace('(', " ( ").replace(')', " ) ").split_whitespace() {
        match (word, &mut group) {
            ("(", None) => group = Some(Vec::new()),
            ("(", Some(_)) => return Err("parentheses do not nest".into()),
            (")", Some(_)) => axes.extend(group.take()),
            (")", None) => return Err("`)` without `(`".into()),
            ("1", None) => axes.push(Vec::new()),
            ("1", Some(_)) => {}
            (name, g) if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => match g {
                Some(g) => g.push(name.to_owned()),
                None => axes.push(vec![name.to_owned()]),
            },
            (other, _) => return Err(format!("`{other}` is not an axis name")),
        }
    }
    if group.is_some() { Err("`(` without `)`".into()) } else { Ok(axes) }
}

/// The three steps of a rearrangement.
pub(super) struct Plan {
    pub(super) split: Vec<Dim>,
    pub(super) perm: Vec<usize>,
    pub(super) merge: Vec<Dim>,
}

pub(super) fn plan(pattern: &str, shape: &[Dim], sizes: &[(&str, Dim)]) -> Result<Plan, String> {
    let (left, right) = pattern.split_once("->").ok_or("there is no `->`")?;
    let (left, right) = (parse(left)?, parse(right)?);
    if left.len() != shape.len() {
        return Err(format!("the left side has {} axes, the tensor {}", left.len(), shape.len()));
    }
    let mut known: BTreeMap<&str, Dim> = sizes.iter().map(|(n, d)| (*n, d.clone())).collect();
    let mut names: Vec<&str> = Vec::new();
    for (axis, size) in left.iter().zip(shape) {
        if axis.is_empty() && !size.is(1) {
            return Err(format!("the unit axis has size {size}"));
        }
        for n in axis {
            if names.contains(&n.as_str()) {
                return Err(format!("`{n}` occurs twice on the left"));
            }
            names.push(n);
        }
        let unknown: Vec<&String> = axis.iter().filter(|n| !known.contains_key(n.as_str())).collect();
        let product: Dim = axis.iter().filter_map(|n| known.get(n.as_str())).product();
        match unknown.as_slice() {
            [] => {
                if !axis.is_empty() && product != *size {
                    return Err(format!("({}) is {product}, the axis has size {size}", axis.join(" ")));
                }
            }
            [one] => {
                let rest = size.exact_div(&product).ok_or_else(|| {
                    format!(
                        "({}): {size} is not divisible by {product}; give a number or change the size",
                        axis.join(" ")
                    )
                })?;
                known.insert(one, rest);
            }
            _ => return Err(format!("({}): more than one size is unknown", axis.join(" "))),
        }
    }
    let wanted: Vec<&str> = right.iter().flatten().map(String::as_str).collect();
    for n in &names {
        if wanted.iter().filter(|w| w == &n).count() != 1 {
            return Err(format!("`{n}` must occur once on the right"));
        }
    }
    let position = |w: &&str| names.iter().position(|n| n == w).ok_or(format!("`{w}` is not on the left"));
    Ok(Plan {
        split: names.iter().map(|n| known[n].clone()).collect(),
        perm: wanted.iter().map(position).collect::<Result<_, _>>()?,
        merge: right.iter().map(|axis| axis.iter().map(|n| &known[n.as_str()]).product()).collect(),
    })
}

impl<'g> T<'g> {
    /// Rearranges axes by an einops pattern; `sizes` gives the sizes that cannot be inferred.
    /// A malformed pattern or a size that does not divide the axis is a mistake, reported with the pattern.
    #[track_caller]
    pub fn rearrange(self, pattern: &str, sizes: &[(&str, Dim)]) -> T<'g> {
        if self.poisoned() {
            return self;
        }
        match plan(pattern, &self.dims(), sizes) {
            Ok(p) => {
                let x = self.reshape(p.split);
                let identity = p.perm.iter().enumerate().all(|(i, &j)| i == j);
                let x = if identity { x } else { x.transpose(&p.perm) };
                x.reshape(p.merge)
            }
            Err(e) => {
                self.builder().error(format!("rearrange \"{pattern}\": {e}"), &[self]);
                self.poison()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(d: &[i64]) -> Vec<Dim> {
        d.iter().map(|&d| Dim::known(d)).collect()
    }

    #[test]
    fn patches() {
        let p = plan(
            "b c (h p1) (w p2) -> b (h w) (p1 p2 c)",
            &known(&[2, 3, 8, 12]),
            &[("p1", 4.into()), ("p2", 6.into())],
        )
        .expect("a plan");
        assert_eq!(p.split, known(&[2, 3, 2, 4, 2, 6]));
        assert_eq!(p.perm, [0, 2, 4, 3, 5, 1]);
        assert_eq!(p.merge, known(&[2, 4, 72]));
    }

    #[test]
    fn unit_axes_come_and_go() {
        let p = plan("b d 1 1 -> b d", &known(&[2, 5, 1, 1]), &[]).expect("a plan");
        assert_eq!((p.split, p.merge), (known(&[2, 5]), known(&[2, 5])));
        assert_eq!(plan("b d -> b 1 d", &known(&[2, 5]), &[]).expect("a plan").merge, known(&[2, 1, 5]));
    }

    #[test]
    fn mistakes_are_reported() {
        let bad = |p: &str, sizes: &[(&str, Dim)]| plan(p, &known(&[4, 6]), sizes).err().expect("an error");
        assert!(bad("a b", &[]).contains("->"));
        assert!(bad("a (b c) -> a b c", &[("c", 4.into())]).contains("is not divisible by"));
        assert!(bad("a (b c) -> a b c", &[]).contains("more than one"));
        assert!(bad("a b -> a", &[]).contains("`b` must occur once"));
        assert!(bad("a b -> a b c", &[]).contains("`c` is not on the left"));
        assert!(bad("a ((b) c) -> a b c", &[]).contains("nest"));
        assert!(bad("a b c -> a b c", &[]).contains("3 axes"));
    }
}
