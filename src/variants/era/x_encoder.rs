//! Eras of the encoder of x-transformers.

use super::rules::NEWEST;
use super::{Era, Eras};
use crate::build::{Names, Rule, Stored};

pub(in crate::variants) const ERAS: Eras = Eras {
    package: "x-transformers",
    list: &[
        Era {
            releases: ["0.0.29", "0.3.5"],
            names: &[&[
                Rule::rename("layers.*.0.0", "layers.*.norm"),
                Rule::rename("layers.*.0.0.gamma", "layers.*.norm.weight"),
                Rule::rename("layers.*.1", "layers.*.fn"),
                Rule::rename("layers.*.1.ff", "layers.*.fn.net"),
                Rule::stored("layers.*.1.to_k.weight", "layers.*.fn.to_kv.weight", FIRST_HALF),
                Rule::stored("layers.*.1.to_v.weight", "layers.*.fn.to_kv.weight", LAST_HALF),
            ]],
            options: "norm_bias = true
                unit_offset = false
                final_norm = false
                output_bias = true
                gates_itself = true
                residual_attn_works = false",
            limits: &[],
        },
        Era {
            releases: ["0.6.4", "0.7.3"],
            options: "norm_bias = true
                unit_offset = false
                final_norm = false
                output_bias = true
                normed_residual = true
                post_norm = true",
            ..V0_10
        },
        Era {
            releases: ["0.7.4", "0.10.0"],
            options: "norm_bias = true
                unit_offset = false
                final_norm = false
                output_bias = true
                post_norm = true",
            ..V0_10
        },
        V0_10,
        Era {
            releases: ["0.20.2", "0.20.9"],
            names: &[
                V0_10.names[0],
                &[Rule::rename("layers.*.1.ff", "layers.*.1.net"), Rule::rename("layers.*.1.ff.2", "layers.*.1.net.3")],
            ],
            ..V0_10
        },
        Era { releases: ["0.21.1", "0.25.9"], names: NET_OF_3, ..V0_10 },
        Era {
            releases: ["0.26.0", "0.32.3"],
            names: NET_OF_3,
            options: "norm_bias = true
                unit_offset = false
                final_norm = false",
            limits: &[],
        },
        Era {
            releases: ["0.33.0", "1.14.0"],
            names: &[WEIGHT_OF_NORM, &[Rule::rename("layers.*.1.ff.2", "layers.*.1.ff.3")]],
            options: "norm_bias = true
                unit_offset = false
                final_norm = false",
            limits: &[],
        },
        Era {
            releases: ["1.15.0", "1.17.3"],
            names: &[WEIGHT_OF_NORM, &[Rule::rename("layers.*.1.ff.2", "layers.*.1.ff.3")]],
            options: "norm_bias = true
                unit_offset = false",
            limits: &[],
        },
        Era {
            releases: ["1.18.0", "1.26.6"],
            names: &[WEIGHT_OF_NORM],
            options: "norm_bias = true
                unit_offset = false",
            limits: &[],
        },
        Era { releases: ["1.27.1", "1.30.23"], names: &[WEIGHT_OF_NORM], options: "unit_offset = false", limits: &[] },
        Era { releases: ["1.31.0", "1.31.1"], names: &[], options: "unit_offset = false", limits: &[] },
        Era { releases: ["1.31.3", "2.31.10"], ..NEWEST },
    ],
    refused: &[
        (["0.0.22", "0.0.28"], "it has other keys, and there are no numbers to check it with"),
        (["0.4.0", "0.6.3"], "it computes in ways of its own, and there are no numbers to check them with"),
        (["0.8.0", "0.8.0"], "it alone adds a gated recurrent unit"),
        (["0.11.0", "0.11.0"], "it alone adds a convolution of the queries"),
        (["0.20.0", "0.20.0"], "its encoder fails"),
        (["0.21.0", "0.21.0"], "it alone has no norms"),
        (["0.29.0", "0.29.1"], "its encoder builds wrong shapes"),
        (["1.5.2", "1.5.2"], "its encoder fails"),
        (["1.16.2", "1.16.4"], "it adds the output of a head to the queries of the next"),
        (["1.27.0", "1.27.0"], "its norms have a buffer in place of their bias"),
        (["1.29.1", "1.29.1"], "its encoder fails"),
        (["1.30.15", "1.30.15"], "its encoder fails"),
        (["1.31.2", "1.31.2"], "its encoder fails"),
    ],
};

const V0_10: Era = Era {
    releases: ["0.10.1", "0.20.1"],
    names: &[
        &[Rule::rename("layers.*.0.0", "layers.*.0"), Rule::rename("layers.*.0.0.gamma", "layers.*.0.weight")],
        &[Rule::rename("layers.*.1.ff", "layers.*.1.net")],
    ],
    options: "norm_bias = true
        unit_offset = false
        final_norm = false
        output_bias = true",
    limits: &[],
};

const NET_OF_3: Names = &[
    WEIGHT_OF_NORM,
    &[Rule::rename("layers.*.1.ff", "layers.*.1.net"), Rule::rename("layers.*.1.ff.2", "layers.*.1.net.3")],
];

/// Norms as PyTorch names their scale.
const WEIGHT_OF_NORM: &[Rule] =
    &[Rule::rename("layers.*.0.0.gamma", "layers.*.0.0.weight"), Rule::rename("final_norm.gamma", "final_norm.weight")];

/// Keys, stored before values in one matrix.
const FIRST_HALF: Stored = |slot, shape| slot.param([&shape[0] * 2, shape[1].clone()]).narrow(0, 0, &shape[0]);
/// Values, stored after keys in one matrix.
const LAST_HALF: Stored = |slot, shape| slot.param([&shape[0] * 2, shape[1].clone()]).narrow(0, &shape[0], &shape[0]);
