//! Eras of RvT.

use super::rules::{NEWEST, ONE_WRAPPER, vit_pytorch};
use super::{Era, Eras, Limit};
use crate::build::{Rule, Stored};

pub(in crate::variants) const ERAS: Eras = vit_pytorch(
    &[
        Era {
            releases: ["0.16.0", "0.16.1"],
            names: &[
                ONE_WRAPPER,
                &[
                    Rule::stored(
                        "transformer.layers.*.0.to_q.weight",
                        "transformer.layers.*.0.fn.to_qkv.weight",
                        FIRST_THIRD,
                    ),
                    Rule::stored(
                        "transformer.layers.*.0.to_kv.weight",
                        "transformer.layers.*.0.fn.to_qkv.weight",
                        LAST_THIRDS,
                    ),
                ],
            ],
            options: "map_dropout = false
                octave_scales = true
                first_octave = 1.0
                partial_rotation = false
                use_ds_conv = false
                head_on_all_tokens = true",
            limits: &[
                ("use_rotary", Limit::Only("true")),
                ("use_ds_conv", Limit::Only("false")),
                ("use_glu", Limit::Only("true")),
            ],
        },
        Era {
            releases: ["0.16.2", "0.16.2"],
            options: "map_dropout = false
                octave_scales = true
                first_octave = 1.0
                partial_rotation = false
                class_projection = false
                query_kernel = 9
                head_on_all_tokens = true",
            ..V0_16
        },
        Era {
            releases: ["0.16.3", "0.16.3"],
            options: "map_dropout = false
                octave_scales = true
                first_octave = 1.0
                partial_rotation = false
                class_projection = false
                head_on_all_tokens = true",
            ..V0_16
        },
        Era {
            releases: ["0.16.4", "0.16.4"],
            options: "map_dropout = false
                octave_scales = true
                partial_rotation = false
                class_projection = false
                head_on_all_tokens = true",
            ..V0_16
        },
        V0_16,
        Era {
            releases: ["0.16.7", "0.16.7"],
            limits: &[("use_ds_conv", Limit::Only("true")), ("use_glu", Limit::Only("true"))],
            ..V0_16
        },
        Era { releases: ["0.16.8", "0.16.8"], limits: &[("use_glu", Limit::Only("true"))], ..V0_16 },
        Era {
            releases: ["0.16.9", "0.17.1"],
            options: "map_dropout = false
                octave_scales = true",
            limits: &[("use_glu", Limit::Only("true"))],
            ..V0_16
        },
        Era {
            releases: ["0.17.2", "0.20.7"],
            options: "map_dropout = false
                octave_scales = true",
            limits: &[],
            ..V0_16
        },
        Era { releases: ["0.20.8", "1.4.2"], names: &[ONE_WRAPPER], ..NEWEST },
        Era { releases: ["1.4.3", "1.26.11"], ..NEWEST },
    ],
    &[(["1.8.0", "1.8.0"], "the module cannot be imported")],
);

const V0_16: Era = Era {
    releases: ["0.16.5", "0.16.6"],
    names: &[ONE_WRAPPER],
    options: "map_dropout = false
        octave_scales = true
        partial_rotation = false
        class_projection = false",
    limits: &[
        ("use_rotary", Limit::Only("true")),
        ("use_ds_conv", Limit::Only("true")),
        ("use_glu", Limit::Only("true")),
    ],
};

/// Queries, stored before keys and values in one matrix.
const FIRST_THIRD: Stored = |slot, shape| {
    let (rows, columns) = (&shape[0], &shape[1]);
    slot.param([rows * 3, columns.clone()]).narrow(0, 0, rows)
};

/// Keys and values, stored after queries in one matrix.
const LAST_THIRDS: Stored = |slot, shape| {
    let (rows, columns) = (&shape[0], &shape[1]);
    let third = rows.floor_div(2).unwrap_or(rows.clone());
    slot.param([&third * 3, columns.clone()]).narrow(0, third, rows)
};
