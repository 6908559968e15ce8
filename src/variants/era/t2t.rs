//! Eras of T2T-ViT.

use super::rules::{NEWEST, NORM_IN_HEAD, NOT_IMPORTED, ONE_WRAPPER, TWO_WRAPPERS, vit_pytorch, wrapped};
use super::{Era, Eras};
use crate::build::Names;

pub(in crate::variants) const ERAS: Eras = vit_pytorch(
    &[
        Era {
            releases: ["0.7.2", "0.7.3"],
            names: ALL_IN_TWO_WRAPPERS,
            options: "map_dropout = false
                stack_norms = false
                norm_in_head = true
                transformer_after_last_window = true
                whole_table = true
                always_projects = true",
            ..NEWEST
        },
        Era { releases: ["0.7.4", "0.9.3"], names: ALL_IN_TWO_WRAPPERS, ..V0_10 },
        V0_10,
        Era {
            releases: ["0.20.4", "0.20.5"],
            options: "map_dropout = false
                stack_norms = false
                norm_in_head = true
                whole_table = true",
            ..V0_10
        },
        Era {
            releases: ["0.20.6", "1.2.9"],
            options: "map_dropout = false
                stack_norms = false
                norm_in_head = true",
            ..V0_10
        },
        Era { releases: ["1.4.0", "1.6.9"], names: &[NORM_IN_HEAD], options: "norm_in_head = true", ..NEWEST },
        Era { releases: ["1.7.0", "1.26.11"], ..NEWEST },
    ],
    &[
        (
            ["0.7.0", "0.7.1"],
            "patch_size, an argument of that time, sets its position table, and there are no numbers to check that with",
        ),
        NOT_IMPORTED,
    ],
);

const ALL_IN_TWO_WRAPPERS: Names = &[
    TWO_WRAPPERS,
    wrapped!(
        "to_patch_embedding.*.layers.*.0" => "to_patch_embedding.*.layers.*.0.fn",
        "to_patch_embedding.*.layers.*.1" => "to_patch_embedding.*.layers.*.1.fn"
    ),
    NORM_IN_HEAD,
];

const V0_10: Era = Era {
    releases: ["0.10.1", "0.20.3"],
    names: &[ONE_WRAPPER, wrapped!("to_patch_embedding.*.layers.*.0", "to_patch_embedding.*.layers.*.1"), NORM_IN_HEAD],
    options: "map_dropout = false
        stack_norms = false
        norm_in_head = true
        transformer_after_last_window = true
        whole_table = true",
    limits: &[],
};
