//! Eras of nystrom-attention, whose padding moved tokens up to 0.0.9.

use super::rules::NEWEST;
use super::{Era, Eras, Limit};

pub(in crate::variants) const ERAS: Eras = Eras {
    package: "nystrom-attention",
    list: &[
        Era {
            releases: ["0.0.7", "0.0.7"],
            names: &[],
            options: "pads_after = true
                attn_values_residual_conv_kernel = 1",
            limits: &[("attn_values_residual_conv_kernel", Limit::Only("1"))],
        },
        Era {
            releases: ["0.0.8", "0.0.8"],
            names: &[],
            options: "takes_first_rows = true
                attn_values_residual_conv_kernel = 1",
            limits: &[("attn_values_residual_conv_kernel", Limit::Only("1"))],
        },
        Era { releases: ["0.0.9", "0.0.9"], options: "takes_first_rows = true", ..NEWEST },
        Era { releases: ["0.0.10", "0.0.14"], ..NEWEST },
    ],
    refused: &[],
};
