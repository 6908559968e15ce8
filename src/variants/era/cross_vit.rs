//! Eras of CrossViT.

use super::rules::{NEWEST, RGB, vit_pytorch, wrapped};
use super::{Era, Eras};
use crate::build::{Names, Rule};

pub(in crate::variants) const ERAS: Eras = vit_pytorch(
    &[
        Era {
            releases: ["0.10.2", "0.10.2"],
            options: "embedding_norms = false
                map_dropout = false
                cross_attention_is_lost = true",
            ..V0_10
        },
        V0_10,
        Era { releases: ["1.0.2", "1.4.2"], names: WRAPPERS, limits: RGB, ..NEWEST },
        Era { releases: ["1.4.5", "1.6.5"], limits: RGB, ..NEWEST },
        Era { releases: ["1.6.6", "1.26.11"], ..NEWEST },
    ],
    &[(["1.4.3", "1.4.4"], "its model cannot be constructed, a name is misspelled")],
);

const V0_10: Era = Era {
    releases: ["0.10.3", "1.0.1"],
    names: &[WRAPPERS[0], WRAPPERS[1], &[Rule::rename("*.to_patch_embedding.2", "*.to_patch_embedding.1")]],
    options: "embedding_norms = false
        map_dropout = false",
    limits: RGB,
};

const WRAPPERS: Names = &[
    wrapped!("multi_scale_encoder.layers.*.*.layers.*.0", "multi_scale_encoder.layers.*.*.layers.*.1"),
    &[
        // The cross-attention of a level keeps its own level of names around the wrapper.
        Rule::rename("multi_scale_encoder.layers.*.2.layers.*.0", "multi_scale_encoder.layers.*.2.layers.*.0"),
        Rule::rename("multi_scale_encoder.layers.*.2.layers.*.*.fn", "multi_scale_encoder.layers.*.2.layers.*.*.fn.fn"),
        Rule::rename(
            "multi_scale_encoder.layers.*.2.layers.*.*.fn.norm",
            "multi_scale_encoder.layers.*.2.layers.*.*.fn.norm",
        ),
    ],
];
