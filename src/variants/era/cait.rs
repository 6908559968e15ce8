//! Eras of CaiT.

use super::rules::{NEWEST, PLAIN_EMBEDDING, vit_pytorch, wrapped};
use super::{Era, Eras};

pub(in crate::variants) const ERAS: Eras = vit_pytorch(
    &[
        Era {
            releases: ["0.14.0", "1.0.1"],
            names: &[wrapped!("*.layers.*.0.fn", "*.layers.*.1.fn"), PLAIN_EMBEDDING],
            options: "embedding_norms = false
                map_dropout = false",
            ..NEWEST
        },
        Era { releases: ["1.0.2", "1.4.2"], names: &[wrapped!("*.layers.*.0.fn", "*.layers.*.1.fn")], ..NEWEST },
        Era { releases: ["1.4.3", "1.26.11"], ..NEWEST },
    ],
    &[],
);
