//! LocalViT: bringing locality to vision transformers (Li et al. 2021, arXiv 2104.05707).
//!
//! ViT with a depthwise convolution in the feed-forward layers, which leave the class token alone.

use super::{Image, Outputs, Size2, Sizes, Variant};
use crate::build::{Scope, T};
use crate::nn::{
    Attention, Fit, Release, attention_to_out, class_and_positions, depthwise, layer_norm, linear, map_to_tokens,
    patch_embedding, patch_grid, pointwise,
};
use crate::ops::{Conv, composite};
use serde::{Deserialize, Serialize};

/// Arguments of `vit_pytorch.local_vit.LocalViT`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LocalViT {
    /// Side of the images the position table is made for.
    pub image_size: usize,
    /// Side of a patch.
    pub patch_size: usize,
    /// Classes.
    pub num_classes: usize,
    /// Model width.
    pub dim: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden channels of the feed-forward layers.
    pub mlp_dim: usize,
    /// Image channels.
    #[serde(default = "super::channels")]
    pub channels: usize,
    /// Width of one head, whatever `dim / heads` is.
    #[serde(default = "super::dim_head")]
    pub dim_head: usize,
    /// Dropout in the blocks.
    #[serde(default)]
    pub dropout: f64,
    /// Dropout after the embedding.
    #[serde(default)]
    pub emb_dropout: f64,
}

impl Variant for LocalViT {
    fn image(&self) -> Image {
        Image { channels: self.channels, size: Some([self.image_size; 2]) }
    }

    fn check(&self, r: Release) -> Vec<String> {
        let mut wrong = super::patch_grid(r, Size2::Square(self.image_size), Size2::Square(self.patch_size));
        let grid = self.image_size / self.patch_size;
        if r == Release::V1 && wrong.is_empty() && grid != self.dim {
            wrong.push(format!(
                "dim: release 1 of local_vit normalises rows of the patch grid with a norm of dim = {} entries, so it \
                 runs only when the grid, here {grid} patches wide, is that wide; dim = {grid} would run, or \
                 release = \"0.16\"",
                self.dim
            ));
        }
        wrong
    }

    fn sizes(&self, _: Release) -> Sizes {
        let why =
            "its convolutions need tokens laid out as a square map, and a symbolic number of them has no known side";
        Sizes::squares(self.patch_size, why)
    }

    fn forward<'g>(&self, r: Release, s: Scope<'g>, img: T<'g>, fit: Fit) -> Outputs<'g> {
        let d = self.dim;
        let (side, patch) = (self.image_size / self.patch_size, [self.patch_size; 2]);
        let x = patch_embedding(s.at("to_patch_embedding"), r, img, patch, d);
        let x = class_and_positions(s, x, [side; 2], &patch_grid(img, patch), fit);
        let mut x = s.dropout(x, self.emb_dropout);
        let c = Attention { heads: self.heads, dim_head: self.dim_head, dropout: self.dropout };
        for i in 0..self.depth {
            let layer = s.at("transformer.layers").at(i);
            let _in = layer.enter();
            x = attention_to_out(layer.at("0.fn"), r, x, c) + x;
            x = self.feed_forward(layer.at("1.fn.fn"), r, x);
        }
        let x = layer_norm(s.at("mlp_head.0"), x.pick(1, 0));
        Outputs::logits(linear(s.at("mlp_head.1"), x, self.num_classes))
    }

    fn arguments(&self) -> toml::Table {
        super::arguments(self)
    }
}

impl LocalViT {
    /// `[cls, y] → [cls, y + F(y)]`, `F` on the patches as a map: norm, pointwise, depthwise 3×3, pointwise,
    /// pointwise. Keys: 0.16 `norm`, `fn.net.{0, 2.net.0, 2.net.1, 5}`; 1 `net.{0, 1, 3.net.0, 3.net.1, 6}`.
    fn feed_forward<'g>(&self, s: Scope<'g>, r: Release, x: T<'g>) -> T<'g> {
        let _in = s.enter();
        let n = x.size(1) - 1;
        let (cls, patches) = (x.narrow(1, 0, 1), x.narrow(1, 1, n));
        // Always a square: a grid of another shape is folded into one, or refused when it has no square number.
        let side = n.isqrt();
        let map = |t: T<'g>| t.rearrange("b (h w) c -> b c h w", &[("h", side.into()), ("w", side.into())]);
        let (h, [up, deep, mix, down]) = match r {
            Release::V0_16 => {
                let keys = ["fn.net.0", "fn.net.2.net.0", "fn.net.2.net.1", "fn.net.5"];
                (map(layer_norm(s.at("norm"), patches)), keys)
            }
            Release::V1 => {
                let h = map(patches);
                if side != self.dim {
                    let d = self.dim;
                    s.builder().error(format!("release 1 runs only on a grid {d} = dim patches wide"), &[h]);
                }
                // Release 1 normalises the rows of the map, not its channels.
                (layer_norm(s.at("net.0"), h), ["net.1", "net.3.net.0", "net.3.net.1", "net.6"])
            }
        };
        let h = composite::hard_swish(pointwise(s.at(up), h, self.mlp_dim));
        let h = depthwise(s.at(deep), h, 3, Conv::new().pad(1));
        let h = s.dropout(composite::hard_swish(pointwise(s.at(mix), h, self.mlp_dim)), self.dropout);
        let h = s.dropout(pointwise(s.at(down), h, self.dim), self.dropout);
        T::concat(&[cls, patches + map_to_tokens(h)], 1)
    }
}

#[cfg(test)]
mod tests {
    use crate::template::{Model, Source};
    use crate::variants::{Declare, declare};
    use toml::Value;

    #[test]
    fn release_1_needs_a_grid_as_wide_as_the_model() {
        let set = |k: &str, v: Value| (k.to_owned(), v);
        let one = set("release", "1".into());
        let readme = Source::Preset("local_vit", "readme");
        let e = Model::resolve(&readme, std::slice::from_ref(&one)).expect_err("refused").to_string();
        assert!(e.contains("dim = 8 would run, or release = \"0.16\""), "{e}");
        let m = Model::resolve(&Source::Preset("local_vit", "tiny"), &[one]).expect("runs");
        let of = |side: usize| Declare { input_size: Some([side; 2]), ..Declare::default() };
        declare("tiny", &*m.variant, m.release, &of(16)).expect("the grid is as wide as dim");
        let e = declare("tiny", &*m.variant, m.release, &of(8)).expect_err("a smaller grid is not").to_string();
        assert!(e.contains("4 = dim patches wide"), "{e}");
    }
}
