//! Rules, limits and parts of eras that several models share.

use super::{Era, Eras, Limit, Refused};
use crate::build::{Rule, Stored};

/// Blocks whose norm stands before their body in a wrapper: from the paths of the attention and of the feed-forward
/// layers to those of the two wrappers.
macro_rules! wrapped {
    ($attention:literal, $feed_forward:literal) => {
        wrapped!($attention => $attention, $feed_forward => $feed_forward)
    };
    ($attention:literal => $a:literal, $feed_forward:literal => $f:literal) => {
        &[
            $crate::build::Rule::rename($attention, concat!($a, ".fn")),
            $crate::build::Rule::rename(concat!($attention, ".norm"), concat!($a, ".norm")),
            $crate::build::Rule::rename($feed_forward, $f),
            $crate::build::Rule::rename(concat!($feed_forward, ".net.0"), concat!($f, ".norm")),
            $crate::build::Rule::rename(concat!($feed_forward, ".net.1"), concat!($f, ".fn.net.0")),
            $crate::build::Rule::rename(concat!($feed_forward, ".net.4"), concat!($f, ".fn.net.3")),
        ]
    };
}

/// Norms over channels whose parameters have the shape of a map.
macro_rules! map_norms {
    ($($norm:literal => $map:literal),*) => {
        &[$(
            $crate::build::Rule::stored(concat!($norm, ".weight"), concat!($map, ".g"), $crate::variants::era::rules::CHANNELS_OF_MAP),
            $crate::build::Rule::stored(concat!($norm, ".bias"), concat!($map, ".b"), $crate::variants::era::rules::CHANNELS_OF_MAP),
        )*]
    };
}

/// `[c]`, stored as `[1, c, 1, 1]`.
pub(super) const CHANNELS_OF_MAP: Stored =
    |slot, shape| slot.param([1.into(), shape[0].clone(), 1.into(), 1.into()]).reshape(shape.to_vec());

/// A patch embedding that is one linear layer.
pub(super) const PLAIN_EMBEDDING: &[Rule] = &[Rule::rename("to_patch_embedding.2", "to_patch_embedding.1")];

/// The same under its first name.
pub(super) const FIRST_EMBEDDING: &[Rule] = &[Rule::rename("to_patch_embedding.2", "patch_to_embedding")];

/// A head that begins with a norm.
pub(super) const NORM_IN_HEAD: &[Rule] =
    &[Rule::rename("mlp_head", "mlp_head.1"), Rule::rename("mlp_head.norm", "mlp_head.0")];

/// Blocks in one wrapper, below `transformer`.
pub(super) const ONE_WRAPPER: &[Rule] = wrapped!("transformer.layers.*.0", "transformer.layers.*.1");

/// Blocks in two wrappers: around the norm, the one that adds the residual.
pub(super) const TWO_WRAPPERS: &[Rule] = wrapped!(
    "transformer.layers.*.0" => "transformer.layers.*.0.fn",
    "transformer.layers.*.1" => "transformer.layers.*.1.fn"
);

/// Sizes are integers.
pub(super) const SQUARES: &[(&str, Limit)] = &[("image_size", Limit::Square), ("patch_size", Limit::Square)];

/// Sizes are integers, and the class token is what the head looks at.
pub(super) const SQUARES_AND_CLS: &[(&str, Limit)] =
    &[("image_size", Limit::Square), ("patch_size", Limit::Square), ("pool", Limit::Only("\"cls\""))];

/// Images have three channels.
pub(super) const RGB: &[(&str, Limit)] = &[("channels", Limit::Only("3"))];

/// The newest, in everything.
pub(super) const NEWEST: Era = Era { releases: ["0.0.1", "1.26.11"], names: &[], options: "", limits: &[] };

/// Releases that are broken as a whole.
pub(super) const NOT_IMPORTED: Refused = (["0.9.1", "0.9.2"], "the package cannot be imported, a module is missing");

/// Eras of vit-pytorch.
pub(super) const fn vit_pytorch(list: &'static [Era], refused: &'static [Refused]) -> Eras {
    Eras { package: "vit-pytorch", list, refused }
}

/// The transformers of packages that did not change.
pub(in crate::variants) const fn unchanged(package: &'static str) -> Eras {
    Eras { package, list: &[Era { releases: ["0", "9999"], names: &[], options: "", limits: &[] }], refused: &[] }
}

pub(super) use {map_norms, wrapped};
