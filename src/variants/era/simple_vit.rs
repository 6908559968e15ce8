//! The era of SimpleViT that there are numbers for.

use super::rules::{NEWEST, vit_pytorch};
use super::{Era, Eras};
use crate::build::Rule;

pub(in crate::variants) const ERAS: Eras = vit_pytorch(
    &[Era {
        releases: ["1.26.11", "1.26.11"],
        names: &[&[Rule::rename("transformer.layers.*.1.net.4", "transformer.layers.*.1.net.3")]],
        ..NEWEST
    }],
    &[],
);
