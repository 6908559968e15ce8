//! Eras of PiT.

use super::rules::{NEWEST, RGB, vit_pytorch, wrapped};
use super::{Era, Eras};

pub(in crate::variants) const ERAS: Eras = vit_pytorch(
    &[
        Era {
            releases: ["0.12.0", "0.16.5"],
            options: "map_dropout = false
                pool_widens_last = true
                whole_table = true
                head_on_all_tokens = true",
            ..V0_16
        },
        V0_16,
        Era {
            releases: ["0.16.13", "0.20.5"],
            options: "map_dropout = false
                whole_table = true",
            ..V0_16
        },
        Era { releases: ["0.20.6", "0.24.1"], options: "map_dropout = false", ..V0_16 },
        Era { releases: ["0.24.2", "1.4.2"], options: "", limits: &[], ..V0_16 },
        Era { releases: ["1.4.3", "1.26.11"], ..NEWEST },
    ],
    &[],
);

const V0_16: Era = Era {
    releases: ["0.16.6", "0.16.12"],
    names: &[wrapped!("layers.*.layers.*.0", "layers.*.layers.*.1")],
    options: "map_dropout = false
        pool_widens_last = true
        whole_table = true",
    limits: RGB,
};
