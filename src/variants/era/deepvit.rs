//! Eras of DeepViT.

use super::rules::{NEWEST, NOT_IMPORTED, PLAIN_EMBEDDING, TWO_WRAPPERS, vit_pytorch};
use super::{Era, Eras};

pub(in crate::variants) const ERAS: Eras = vit_pytorch(
    &[
        Era {
            releases: ["0.9.0", "0.40.2"],
            names: &[TWO_WRAPPERS, PLAIN_EMBEDDING],
            options: "embedding_norms = false
                map_dropout = false",
            ..NEWEST
        },
        Era { releases: ["1.0.0", "1.4.2"], names: &[TWO_WRAPPERS], ..NEWEST },
        Era { releases: ["1.4.3", "1.26.11"], ..NEWEST },
    ],
    &[NOT_IMPORTED],
);
