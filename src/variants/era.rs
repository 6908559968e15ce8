//! Eras: ranges of releases of the original packages whose checkpoints and models are alike.
//!
//! An era is data: how it names and stores the page's parameters (`names`), and in which named options of the
//! declaration it differs from the newest release (`options`). Pages declare the newest names and ask their options;
//! neither they nor the layers know of releases. Tables are newest last; the first one is the default.

use super::Size2;
use super::argument::{Argument, Reading};
use crate::build::{Names, Rule, Stored};
use std::fmt;
use toml::{Table, Value};

/// A range of releases.
#[derive(Clone, Copy, Debug)]
pub struct Era {
    /// As model files write it.
    pub name: &'static str,
    /// From the page's paths to the keys of its checkpoints.
    pub names: Names,
    /// Options and defaults that are not the newest's, as TOML.
    pub options: &'static str,
    /// Arguments that its constructor does not have, or not in full.
    pub limits: &'static [(&'static str, Limit)],
}

/// What an era takes for an argument.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// This value only, as TOML: there is no such argument, and it computes as if this were given.
    Only(&'static str),
    /// One integer, where others also take height and width.
    Square,
}

impl fmt::Display for Era {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Era {
    /// The options.
    pub fn options(&self) -> Table {
        self.options.parse().expect("options are valid TOML")
    }

    /// Reports arguments that `newest` has and this era does not.
    pub fn check(&self, table: &Table, newest: &Self, to: &mut Reading<'_>) {
        for &(key, limit) in self.limits {
            let Some(given) = table.get(key) else { continue };
            let takes = match limit {
                Limit::Only(value) if given.to_string() != value => format!("only {value}; {given}"),
                Limit::Square if is_rectangle(given) => "one integer; [height, width]".to_owned(),
                _ => continue,
            };
            to.wrong.push(format!("{key}: release {self} takes {takes} needs release = \"{newest}\""));
        }
    }
}

fn is_rectangle(v: &Value) -> bool {
    let mut ignored = Reading { release: "", wrong: Vec::new() };
    matches!(Size2::read("", v, &mut ignored), Some(Size2::Rect([h, w])) if h != w)
}

/// A block of release 0.16, whose norm stands before its body in a wrapper: from the paths of its attention and of
/// its feed-forward layers to those of the two wrappers.
macro_rules! wrapped {
    ($attention:literal, $feed_forward:literal) => {
        wrapped!($attention => $attention, $feed_forward => $feed_forward)
    };
    ($attention:literal => $a:literal, $feed_forward:literal => $f:literal) => {
        &[
            Rule::rename($attention, concat!($a, ".fn")),
            Rule::rename(concat!($attention, ".norm"), concat!($a, ".norm")),
            Rule::rename($feed_forward, $f),
            Rule::rename(concat!($feed_forward, ".net.0"), concat!($f, ".norm")),
            Rule::rename(concat!($feed_forward, ".net.1"), concat!($f, ".fn.net.0")),
            Rule::rename(concat!($feed_forward, ".net.4"), concat!($f, ".fn.net.3")),
        ]
    };
}

/// Norms over channels whose parameters have the shape of a map.
macro_rules! map_norms {
    ($($norm:literal),*) => {
        &[$(
            Rule::stored(concat!($norm, ".weight"), concat!($norm, ".g"), CHANNELS_OF_MAP),
            Rule::stored(concat!($norm, ".bias"), concat!($norm, ".b"), CHANNELS_OF_MAP),
        )*]
    };
}

/// `[c]`, stored as `[1, c, 1, 1]`.
const CHANNELS_OF_MAP: Stored =
    |slot, shape| slot.param([1.into(), shape[0].clone(), 1.into(), 1.into()]).reshape(shape.to_vec());

/// `[1, …]`, stored without the first axis. The parameter stays so: whatever it meets, it is broadcast.
const NO_BATCH_AXIS: Stored = |slot, shape| slot.param(&shape[1..]);

/// A patch embedding that is one linear layer.
const PLAIN_EMBEDDING: &[Rule] = &[Rule::rename("to_patch_embedding.2", "to_patch_embedding.1")];

/// A head that begins with a norm.
const NORM_IN_HEAD: &[Rule] = &[Rule::rename("mlp_head", "mlp_head.1"), Rule::rename("mlp_head.norm", "mlp_head.0")];

/// Release 1, where it is the newest in everything.
const NEWEST: Era = Era { name: "1", names: &[], options: "", limits: &[] };
/// Release 0.16, to be completed.
const V0_16: Era = Era { name: "0.16", ..NEWEST };

/// [`super::ViT`]
pub(super) const VIT: &[Era] = &[
    Era {
        names: &[wrapped!("transformer.layers.*.0", "transformer.layers.*.1"), PLAIN_EMBEDDING, NORM_IN_HEAD],
        options: "embedding_norms = false
            map_dropout = false
            norm_in_head = true
            class_token_under_mean = true",
        limits: &[("image_size", Limit::Square), ("patch_size", Limit::Square)],
        ..V0_16
    },
    Era {
        names: &[&[
            Rule::stored("cls_token", "cls_token", NO_BATCH_AXIS),
            Rule::stored("pos_embedding", "pos_embedding", NO_BATCH_AXIS),
        ]],
        ..NEWEST
    },
];

/// [`super::DeepViT`]
pub(super) const DEEPVIT: &[Era] = &[
    Era {
        names: &[
            wrapped!(
                "transformer.layers.*.0" => "transformer.layers.*.0.fn",
                "transformer.layers.*.1" => "transformer.layers.*.1.fn"
            ),
            PLAIN_EMBEDDING,
        ],
        options: "embedding_norms = false
            map_dropout = false",
        ..V0_16
    },
    NEWEST,
];

/// [`super::CaiT`]
pub(super) const CAIT: &[Era] = &[
    Era {
        names: &[wrapped!("*.layers.*.0.fn", "*.layers.*.1.fn"), PLAIN_EMBEDDING],
        options: "embedding_norms = false
            map_dropout = false",
        ..V0_16
    },
    NEWEST,
];

/// [`super::T2T`]
pub(super) const T2T: &[Era] = &[
    Era {
        names: &[
            wrapped!("transformer.layers.*.0", "transformer.layers.*.1"),
            wrapped!("to_patch_embedding.*.layers.*.0", "to_patch_embedding.*.layers.*.1"),
            NORM_IN_HEAD,
        ],
        options: "map_dropout = false
            norm_in_head = true
            transformer_after_last_window = true
            whole_table = true",
        ..V0_16
    },
    NEWEST,
];

/// [`super::CrossViT`]
pub(super) const CROSS_VIT: &[Era] = &[
    Era {
        names: &[
            wrapped!("multi_scale_encoder.layers.*.*.layers.*.0", "multi_scale_encoder.layers.*.*.layers.*.1"),
            &[
                // The cross-attention of a level keeps its own level of names around the wrapper.
                Rule::rename("multi_scale_encoder.layers.*.2.layers.*.0", "multi_scale_encoder.layers.*.2.layers.*.0"),
                Rule::rename(
                    "multi_scale_encoder.layers.*.2.layers.*.*.fn",
                    "multi_scale_encoder.layers.*.2.layers.*.*.fn.fn",
                ),
                Rule::rename(
                    "multi_scale_encoder.layers.*.2.layers.*.*.fn.norm",
                    "multi_scale_encoder.layers.*.2.layers.*.*.fn.norm",
                ),
                Rule::rename("*.to_patch_embedding.2", "*.to_patch_embedding.1"),
            ],
        ],
        options: "embedding_norms = false
            map_dropout = false",
        limits: &[("channels", Limit::Only("3"))],
        ..V0_16
    },
    NEWEST,
];

/// [`super::PiT`]
pub(super) const PIT: &[Era] = &[
    Era {
        names: &[wrapped!("layers.*.layers.*.0", "layers.*.layers.*.1")],
        options: "map_dropout = false
            pool_widens_last = true
            whole_table = true",
        limits: &[("channels", Limit::Only("3"))],
        ..V0_16
    },
    NEWEST,
];

/// [`super::LeViT`]
pub(super) const LEVIT: &[Era] = &[
    Era {
        options: "map_dropout = false
            unscaled_bias = true
            gelu = true
            zero_gain = false",
        ..V0_16
    },
    NEWEST,
];

/// [`super::CvT`]
pub(super) const CVT: &[Era] = &[
    Era {
        names: &[
            wrapped!(
                "layers.*.2.layers.*.0" => "layers.*.1.layers.*.0",
                "layers.*.2.layers.*.1" => "layers.*.1.layers.*.1"
            ),
            &[Rule::rename("layers.*.2", "layers.*.1"), Rule::rename("to_logits.2", "layers.5")],
        ],
        options: "map_dropout = false
            embedding_norm = false
            kernel_is_3 = true
            s3_heads = 4",
        limits: &[("channels", Limit::Only("3"))],
        ..V0_16
    },
    Era { names: &[map_norms!("layers.*.1", "layers.*.2.layers.*.0.norm", "layers.*.2.layers.*.1.net.0")], ..NEWEST },
];

/// [`super::LocalViT`]
pub(super) const LOCAL_VIT: &[Era] = &[
    Era {
        names: &[
            PLAIN_EMBEDDING,
            &[
                Rule::rename("transformer.layers.*.0.fn", "transformer.layers.*.0.fn.fn"),
                Rule::rename("transformer.layers.*.0.fn.norm", "transformer.layers.*.0.fn.norm"),
                Rule::rename("transformer.layers.*.1.fn.fn.net.0", "transformer.layers.*.1.fn.fn.norm"),
                Rule::rename("transformer.layers.*.1.fn.fn.net.1", "transformer.layers.*.1.fn.fn.fn.net.0"),
                Rule::rename("transformer.layers.*.1.fn.fn.net.3", "transformer.layers.*.1.fn.fn.fn.net.2"),
                Rule::rename("transformer.layers.*.1.fn.fn.net.6", "transformer.layers.*.1.fn.fn.fn.net.5"),
            ],
        ],
        options: "embedding_norms = false
            map_dropout = false
            norm_of_rows = false",
        ..V0_16
    },
    NEWEST,
];

/// [`super::RvT`]
pub(super) const RVT: &[Era] = &[
    Era {
        names: &[wrapped!("transformer.layers.*.0", "transformer.layers.*.1")],
        options: "map_dropout = false
            octave_scales = true
            partial_rotation = false
            class_projection = false",
        limits: &[
            ("use_rotary", Limit::Only("true")),
            ("use_ds_conv", Limit::Only("true")),
            ("use_glu", Limit::Only("true")),
        ],
        ..V0_16
    },
    NEWEST,
];

/// [`super::Efficient`]
pub(super) const EFFICIENT: &[Era] = &[
    Era {
        names: &[PLAIN_EMBEDDING],
        options: "embedding_norms = false",
        limits: &[("image_size", Limit::Square), ("patch_size", Limit::Square)],
        ..V0_16
    },
    NEWEST,
];

/// A transformer of a package that did not change: one era for all.
pub(super) const ONE: &[Era] = &[NEWEST];

/// [`super::inner::XEncoder`]: x-transformers 0.10.2 inside 0.16, 2.31 inside 1.
pub(super) const X_ENCODER: &[Era] = &[
    Era {
        names: &[&[Rule::rename("layers.*.0.0", "layers.*.0"), Rule::rename("layers.*.1.ff", "layers.*.1.net")]],
        options: "plain_norms = true
            final_norm = false
            output_bias = true",
        ..V0_16
    },
    NEWEST,
];

/// The era of this name; the newest where the package has no such era.
pub(super) fn of(eras: &'static [Era], release: &str) -> &'static Era {
    let newest = eras.last().expect("every variant has an era");
    eras.iter().find(|e| e.name == release).unwrap_or(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_of_arguments_that_are_given() {
        let wrong = |text: &str| {
            let mut to = Reading { release: "0.16", wrong: Vec::new() };
            RVT[0].check(&text.parse().expect("TOML"), &NEWEST, &mut to);
            VIT[0].check(&text.parse().expect("TOML"), &NEWEST, &mut to);
            to.wrong
        };
        let none: [String; 0] = [];
        assert_eq!(wrong("use_glu = true\nimage_size = [8, 8]\npatch_size = 4"), none);
        let both = wrong("use_glu = false\nimage_size = [8, 16]");
        assert_eq!(
            both,
            [
                "use_glu: release 0.16 takes only true; false needs release = \"1\"",
                "image_size: release 0.16 takes one integer; [height, width] needs release = \"1\"",
            ]
        );
    }
}
