//! Eras of ViT.

use super::rules::{
    FIRST_EMBEDDING, NEWEST, NORM_IN_HEAD, NOT_IMPORTED, ONE_WRAPPER, PLAIN_EMBEDDING, SQUARES, SQUARES_AND_CLS,
    TWO_WRAPPERS, vit_pytorch,
};
use super::{Era, Eras};
use crate::build::{Rule, Stored};

/// `[1, …]`, stored without the first axis. The parameter stays so: whatever it meets, it is broadcast.
const NO_BATCH_AXIS: Stored = |slot, shape| slot.param(&shape[1..]);

pub(in crate::variants) const ERAS: Eras = vit_pytorch(
    &[
        Era {
            releases: ["0.0.2", "0.0.3"],
            names: &[
                FIRST_EMBEDDING,
                &[
                    // Attention and feed-forward layers in one list.
                    Rule::rename("transformer.layers.*.0", "transformer.net.2*.fn.fn"),
                    Rule::rename("transformer.layers.*.0.norm", "transformer.net.2*.fn.norm"),
                    Rule::rename("transformer.layers.*.0.to_out.0", "transformer.net.2*.fn.fn.to_out"),
                    Rule::rename("transformer.layers.*.1.net.0", "transformer.net.2*+1.fn.norm"),
                    Rule::rename("transformer.layers.*.1.net.1", "transformer.net.2*+1.fn.fn.net.0"),
                    Rule::rename("transformer.layers.*.1.net.4", "transformer.net.2*+1.fn.fn.net.2"),
                    Rule::rename("mlp_head.hidden", "mlp_head.0"),
                    Rule::rename("mlp_head", "mlp_head.2"),
                ],
            ],
            options: BEFORE_0_2,
            limits: SQUARES_AND_CLS,
        },
        Era {
            releases: ["0.0.4", "0.1.0"],
            names: &[
                FIRST_EMBEDDING,
                TWO_WRAPPERS,
                PLAIN_OUTPUT,
                NET_OF_TWO,
                &[Rule::rename("mlp_head.hidden", "mlp_head.0"), Rule::rename("mlp_head", "mlp_head.2")],
            ],
            options: BEFORE_0_2,
            limits: SQUARES_AND_CLS,
        },
        Era {
            releases: ["0.2.0", "0.2.0"],
            names: &[FIRST_EMBEDDING, TWO_WRAPPERS, PLAIN_OUTPUT, NET_OF_TWO, HIDDEN_HEAD],
            options: V0_2,
            limits: SQUARES_AND_CLS,
        },
        Era {
            releases: ["0.2.1", "0.2.1"],
            names: &[FIRST_EMBEDDING, TWO_WRAPPERS, PLAIN_OUTPUT, HIDDEN_HEAD],
            options: V0_2,
            limits: SQUARES_AND_CLS,
        },
        Era {
            releases: ["0.2.2", "0.2.7"],
            names: &[FIRST_EMBEDDING, TWO_WRAPPERS, HIDDEN_HEAD, &[Rule::rename("mlp_head", "mlp_head.4")]],
            options: V0_2,
            limits: SQUARES_AND_CLS,
        },
        Era {
            releases: ["0.3.0", "0.4.5"],
            names: &[FIRST_EMBEDDING, TWO_WRAPPERS, NORM_IN_HEAD],
            options: V0_3,
            limits: SQUARES_AND_CLS,
        },
        Era {
            releases: ["0.5.0", "0.6.6"],
            names: &[FIRST_EMBEDDING, TWO_WRAPPERS, NORM_IN_HEAD],
            options: V0_3,
            limits: SQUARES,
        },
        Era {
            releases: ["0.6.7", "0.6.8"],
            names: &[FIRST_EMBEDDING, TWO_WRAPPERS, NORM_IN_HEAD],
            options: V0_7,
            limits: SQUARES,
        },
        Era {
            releases: ["0.7.0", "0.7.3"],
            names: &[PLAIN_EMBEDDING, TWO_WRAPPERS, NORM_IN_HEAD],
            options: V0_7,
            limits: SQUARES,
        },
        Era {
            releases: ["0.7.4", "0.9.3"],
            names: &[PLAIN_EMBEDDING, TWO_WRAPPERS, NORM_IN_HEAD],
            options: V0_10,
            limits: SQUARES,
        },
        Era { releases: ["0.10.1", "0.17.2"], limits: SQUARES, ..V0_17 },
        V0_17,
        Era {
            releases: ["1.0.0", "1.2.9"],
            names: &[ONE_WRAPPER, NORM_IN_HEAD],
            options: "norm_in_head = true
                class_token_under_mean = true",
            ..NEWEST
        },
        Era { releases: ["1.4.0", "1.15.7"], options: "class_token_under_mean = true", ..NEWEST },
        Era { releases: ["1.16.0", "1.16.0"], ..NEWEST },
        Era {
            releases: ["1.16.1", "1.26.11"],
            names: &[&[
                Rule::stored("cls_token", "cls_token", NO_BATCH_AXIS),
                Rule::stored("pos_embedding", "pos_embedding", NO_BATCH_AXIS),
            ]],
            ..NEWEST
        },
    ],
    &[
        (["0.0.1", "0.0.1"], "it interleaves the pixels of patches, and there are no numbers to check that with"),
        NOT_IMPORTED,
        (["1.17.2", "1.17.2"], "its model fails in every forward pass"),
    ],
);

const V0_17: Era = Era {
    releases: ["0.17.3", "0.40.2"],
    names: &[PLAIN_EMBEDDING, ONE_WRAPPER, NORM_IN_HEAD],
    options: V0_10,
    limits: &[],
};

const BEFORE_0_2: &str = "embedding_norms = false
    map_dropout = false
    last_norm = false
    hidden_head = true
    scale_of_dim = true
    always_projects = true";

const V0_2: &str = "embedding_norms = false
    map_dropout = false
    norm_in_head = true
    hidden_head = true
    scale_of_dim = true
    always_projects = true";

const V0_3: &str = "embedding_norms = false
    map_dropout = false
    norm_in_head = true
    class_token_under_mean = true
    scale_of_dim = true
    always_projects = true";

const V0_7: &str = "embedding_norms = false
    map_dropout = false
    norm_in_head = true
    class_token_under_mean = true
    always_projects = true";

const V0_10: &str = "embedding_norms = false
    map_dropout = false
    norm_in_head = true
    class_token_under_mean = true";

/// An output projection that stands alone.
const PLAIN_OUTPUT: &[Rule] = &[Rule::rename("transformer.layers.*.0.to_out.0", "transformer.layers.*.0.fn.fn.to_out")];

/// Feed-forward layers without dropout between.
const NET_OF_TWO: &[Rule] = &[Rule::rename("transformer.layers.*.1.net.4", "transformer.layers.*.1.fn.fn.net.2")];

/// A head of norm, hidden layer and output.
const HIDDEN_HEAD: &[Rule] = &[
    Rule::rename("mlp_head.norm", "mlp_head.0"),
    Rule::rename("mlp_head.hidden", "mlp_head.1"),
    Rule::rename("mlp_head", "mlp_head.3"),
];
