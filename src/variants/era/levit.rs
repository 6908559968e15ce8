//! Eras of LeViT: one set of keys nearly from the beginning, and four ways to compute with them.

use super::rules::{NEWEST, vit_pytorch};
use super::{Era, Eras};
use crate::build::Rule;

pub(in crate::variants) const ERAS: Eras = vit_pytorch(
    &[
        Era {
            releases: ["0.15.0", "0.15.1"],
            names: &[&[Rule::rename("conv_embedding", "to_patch_embedding")]],
            ..V0_15
        },
        V0_15,
        Era {
            releases: ["0.16.12", "0.18.1"],
            options: "map_dropout = false
                bias_scale = 0.0
                gelu = true",
            ..NEWEST
        },
        Era {
            releases: ["0.18.2", "0.18.2"],
            options: "map_dropout = false
                bias_scale = 1.0
                gelu = true",
            ..NEWEST
        },
        Era {
            releases: ["0.18.3", "0.20.4"],
            options: "map_dropout = false
                gelu = true",
            ..NEWEST
        },
        Era { releases: ["0.20.5", "1.26.11"], ..NEWEST },
    ],
    &[],
);

const V0_15: Era = Era {
    releases: ["0.15.2", "0.16.11"],
    names: &[],
    options: "map_dropout = false
        bias_scale = 0.0
        gelu = true
        zero_gain = false",
    limits: &[],
};
