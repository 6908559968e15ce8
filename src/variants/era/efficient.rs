//! Eras of ViT around a transformer of choice: the shell.

use super::rules::{FIRST_EMBEDDING, NEWEST, NOT_IMPORTED, PLAIN_EMBEDDING, SQUARES, SQUARES_AND_CLS, vit_pytorch};
use super::{Era, Eras};
use crate::build::Rule;

pub(in crate::variants) const ERAS: Eras = vit_pytorch(
    &[
        Era {
            releases: ["0.2.0", "0.2.7"],
            names: &[
                FIRST_EMBEDDING,
                &[Rule::rename("mlp_head.hidden", "mlp_head.1"), Rule::rename("mlp_head.1", "mlp_head.3")],
            ],
            options: "embedding_norms = false
                hidden_head = true",
            limits: SQUARES_AND_CLS,
        },
        Era { releases: ["0.3.0", "0.5.0"], names: &[FIRST_EMBEDDING], limits: SQUARES_AND_CLS, ..V0_7 },
        Era { releases: ["0.5.1", "0.7.0"], names: &[FIRST_EMBEDDING], limits: SQUARES, ..V0_7 },
        Era { releases: ["0.7.1", "0.26.6"], limits: SQUARES, ..V0_7 },
        V0_7,
        Era { releases: ["1.0.2", "1.26.11"], ..NEWEST },
    ],
    &[(["0.1.0", "0.1.0"], "its head has no norm, and there are no numbers to check that with"), NOT_IMPORTED],
);

const V0_7: Era =
    Era { releases: ["0.26.7", "1.0.1"], names: &[PLAIN_EMBEDDING], options: "embedding_norms = false", limits: &[] };
