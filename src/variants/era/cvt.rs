//! Eras of CvT.

use super::rules::{NEWEST, RGB, map_norms, vit_pytorch, wrapped};
use super::{Era, Eras};
use crate::build::{Names, Rule};

pub(in crate::variants) const ERAS: Eras = vit_pytorch(
    &[
        Era {
            releases: ["0.11.0", "0.11.0"],
            options: "map_dropout = false
                embedding_norm = false
                dense_projections = true
                kernel_is_3 = true
                s3_heads = 4",
            ..V0_11
        },
        V0_11,
        Era {
            releases: ["0.16.10", "0.16.10"],
            options: "map_dropout = false
                embedding_norm = false",
            ..V0_11
        },
        Era {
            releases: ["0.16.11", "0.26.4"],
            options: "map_dropout = false
                eps_outside_root = true",
            ..V0_26
        },
        V0_26,
        Era { releases: ["0.34.0", "1.4.2"], names: NORMS_OF_MAPS, limits: RGB, ..NEWEST },
        Era { releases: ["1.4.3", "1.6.2"], limits: RGB, ..V1_6 },
        V1_6,
    ],
    &[],
);

const V0_11: Era = Era {
    releases: ["0.11.1", "0.16.9"],
    names: &[
        wrapped!(
            "layers.*.2.layers.*.0" => "layers.*.1.layers.*.0",
            "layers.*.2.layers.*.1" => "layers.*.1.layers.*.1"
        ),
        &[Rule::rename("layers.*.2", "layers.*.1"), Rule::rename("to_logits.2", "layers.5")],
    ],
    options: "map_dropout = false
        embedding_norm = false
        kernel_is_3 = true
        s3_heads = 4",
    limits: RGB,
};

const V0_26: Era = Era {
    releases: ["0.26.5", "0.33.2"],
    names: &[NORMS_OF_MAPS[0], NORMS_OF_MAPS[1], &[Rule::rename("to_logits.2", "layers.5")]],
    options: "map_dropout = false",
    limits: RGB,
};

const NORMS_OF_MAPS: Names = &[
    wrapped!("layers.*.2.layers.*.0", "layers.*.2.layers.*.1"),
    map_norms!(
        "layers.*.1" => "layers.*.1",
        "layers.*.2.layers.*.0.norm" => "layers.*.2.layers.*.0.norm",
        "layers.*.2.layers.*.1.net.0" => "layers.*.2.layers.*.1.norm"
    ),
];

const V1_6: Era = Era {
    releases: ["1.6.3", "1.26.11"],
    names: &[map_norms!(
        "layers.*.1" => "layers.*.1",
        "layers.*.2.layers.*.0.norm" => "layers.*.2.layers.*.0.norm",
        "layers.*.2.layers.*.1.net.0" => "layers.*.2.layers.*.1.net.0"
    )],
    ..NEWEST
};
