//! Eras of LocalViT.

use super::rules::{NEWEST, PLAIN_EMBEDDING, vit_pytorch};
use super::{Era, Eras};
use crate::build::{Names, Rule};

pub(in crate::variants) const ERAS: Eras = vit_pytorch(
    &[
        Era {
            releases: ["0.16.0", "0.16.5"],
            options: "embedding_norms = false
                map_dropout = false
                norm_of_rows = false
                head_on_all_tokens = true",
            ..V0_16
        },
        V0_16,
        Era { releases: ["1.0.0", "1.4.2"], names: WRAPPERS, options: "norm_of_rows = false", ..NEWEST },
        Era { releases: ["1.4.3", "1.26.11"], ..NEWEST },
    ],
    &[],
);

const V0_16: Era = Era {
    releases: ["0.16.6", "0.40.2"],
    names: &[PLAIN_EMBEDDING, WRAPPERS[0]],
    options: "embedding_norms = false
        map_dropout = false
        norm_of_rows = false",
    limits: &[],
};

const WRAPPERS: Names = &[&[
    Rule::rename("transformer.layers.*.0.fn", "transformer.layers.*.0.fn.fn"),
    Rule::rename("transformer.layers.*.0.fn.norm", "transformer.layers.*.0.fn.norm"),
    Rule::rename("transformer.layers.*.1.fn.fn.net.0", "transformer.layers.*.1.fn.fn.norm"),
    Rule::rename("transformer.layers.*.1.fn.fn.net.1", "transformer.layers.*.1.fn.fn.fn.net.0"),
    Rule::rename("transformer.layers.*.1.fn.fn.net.3", "transformer.layers.*.1.fn.fn.fn.net.2"),
    Rule::rename("transformer.layers.*.1.fn.fn.net.6", "transformer.layers.*.1.fn.fn.fn.net.5"),
]];
