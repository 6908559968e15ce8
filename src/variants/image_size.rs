//! Which images a model is declared for: those of its checkpoint, others, or any.
//!
//! A variant says in [`Sizes`] what its mathematics allows; a [`Declaration`](super::Declaration) compares requests
//! with it.

use crate::ir::{Dim, ValueId};
use crate::ops::{Graph, Op};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The size of the images that a model is declared for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImageSize {
    /// The checkpoint's.
    #[default]
    Trained,
    /// Height and width; position tables are resampled.
    Resampled([usize; 2]),
    /// Symbolic height and width: position tables are resampled when the graph runs.
    Dynamic,
}

/// The sizes of images that a model can be declared for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Height and width are multiples of these.
    pub step: [usize; 2],
    /// Only squares.
    pub square: bool,
    /// What symbolic heights and widths are multiples of, or why there are none.
    pub symbolic: Result<[usize; 2], &'static str>,
}

impl Sizes {
    /// Every grid of patches.
    pub const fn patches(patch: [usize; 2]) -> Self {
        Self { step: patch, square: false, symbolic: Ok(patch) }
    }

    /// Square grids of known size only, for this reason.
    pub const fn squares(step: usize, not_symbolic: &'static str) -> Self {
        Self { step: [step; 2], square: true, symbolic: Err(not_symbolic) }
    }

    /// Height and width that suit a model which takes any: 224, or the next multiple.
    pub(super) fn usual(&self) -> [usize; 2] {
        let unit = *self.symbolic.as_ref().unwrap_or(&self.step);
        unit.map(|n| 224usize.next_multiple_of(n))
    }
}

impl ImageSize {
    /// The largest side of an image.
    pub(super) const LARGEST: usize = 1 << 20;
}

impl fmt::Display for ImageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trained => f.write_str("of the checkpoint"),
            Self::Resampled([h, w]) => write!(f, "{h}x{w}"),
            Self::Dynamic => f.write_str("dynamic"),
        }
    }
}

impl FromStr for ImageSize {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "dynamic" {
            return Ok(Self::Dynamic);
        }
        let side = |s: &str| s.parse().ok().filter(|n| (1..=Self::LARGEST).contains(n));
        let size = match text.split_once('x') {
            None => side(text).map(|n| [n, n]),
            Some((h, w)) => side(h).zip(side(w)).map(|(h, w)| [h, w]),
        };
        size.map(Self::Resampled).ok_or_else(|| "expected `dynamic` or a size such as 384 or 384x256".into())
    }
}

/// Says which position tables are resampled, and when; many tables of one size are said once.
pub fn resampled_tables(g: &Graph) -> Vec<String> {
    let mut tables: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (_, n) in g.nodes() {
        let Op::Resize(resize) = &n.op else { continue };
        let Some(path) = table(g, n.inputs[0]) else { continue };
        let size = |d: &[Dim]| d.iter().map(ToString::to_string).collect::<Vec<_>>().join("×");
        let from = size(&g.ty(n.inputs[0]).shape[2..]);
        let how = if resize.to.iter().all(|d| d.value().is_some()) {
            format!("resampled from {from} to {} (bicubic, antialiased)", size(&resize.to))
        } else {
            format!("resampled from {from} to the image's grid when the model runs (bicubic, antialiased)")
        };
        tables.entry(how).or_default().push(path);
    }
    let note = |(how, paths): (String, Vec<&str>)| match paths.as_slice() {
        [path] => format!("position table {path} {how}"),
        paths => format!("{} position tables {how}", paths.len()),
    };
    tables.into_iter().map(note).collect()
}

/// The parameter that `v` is a rearrangement of.
fn table(g: &Graph, v: ValueId) -> Option<&str> {
    match g.producer(v) {
        None => g.as_param(v).map(|p| &*p.path),
        Some(n) => table(g, *g.node(n).inputs.first()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Fit;
    use crate::template::{Model, Source};

    fn decide(variant: &str, size: &str) -> Result<String, String> {
        let m = Model::resolve(&Source::Preset(variant, "readme"), &[]).expect("a preset");
        let size: ImageSize = size.parse().expect("a size");
        m.declaration.decide(size).map(|([h, w], _)| format!("{h} {w}"))
    }

    #[test]
    fn sizes_are_read_and_written() {
        for text in ["dynamic", "384x256", "16x16"] {
            assert_eq!(text.parse::<ImageSize>().expect("a size").to_string(), text);
        }
        assert_eq!("384".parse(), Ok(ImageSize::Resampled([384, 384])));
        for bad in ["", "x", "0", "384x", "x384", "-1", "1x2x3", "any", "99999999"] {
            assert!(bad.parse::<ImageSize>().expect_err(bad).contains("384x256"));
        }
    }

    #[test]
    fn sizes_are_held_against_what_the_variant_takes() {
        assert_eq!(decide("vit", "dynamic"), Ok("32*h 32*w".into()));
        assert_eq!(decide("vit", "64x96"), Ok("64 96".into()));
        assert_eq!(decide("cross_vit", "dynamic"), Ok("64*h 64*w".into()));
        assert_eq!(super::super::least_common_multiple(12, 16), 48);
        assert_eq!(decide("cvt", "dynamic"), Ok("32*h 32*w".into()));
        let set = |key: &str| (key.to_owned(), toml::Value::from(1 << 20));
        let sets = ["s1_emb_stride", "s2_emb_stride", "s3_emb_stride", "s3_kv_proj_stride"].map(set);
        let m = Model::resolve(&Source::Preset("cvt", "readme"), &sets).expect("a model");
        let e = m.declaration.decide(ImageSize::Dynamic).expect_err("refused");
        assert!(e.contains("its strides multiply"), "{e}");
        assert!(decide("vit", "40").expect_err("no multiple").contains("32 or 64 is"));
        assert!(decide("vit", "16").expect_err("too small").contains("; 32 is"));
        assert!(decide("levit", "224x256").expect_err("no square").contains("224 or 256 is valid"));
        for v in ["levit", "t2t", "pit", "local_vit", "rvt", "efficient"] {
            let e = decide(v, "dynamic").expect_err("refused");
            assert!(e.starts_with(&format!("variant {v} cannot have a symbolic image size: ")), "{e}");
        }
    }

    #[test]
    fn tables_are_cut_only_for_images_of_the_input_size() {
        let mut m = Model::resolve(&Source::Preset("vit", "readme"), &[]).expect("a preset");
        m.declaration.input_size = Some([128, 128]);
        let decide = |s: ImageSize| m.declaration.decide(s);
        assert_eq!(decide(ImageSize::Trained), Ok(([128.into(), 128.into()], Fit::LeadingRows)));
        assert_eq!(decide(ImageSize::Resampled([64; 2])), Ok(([64.into(), 64.into()], Fit::Resampled)));
    }
}
