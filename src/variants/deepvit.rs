//! DeepViT: re-attention keeps the maps of deep layers apart (Zhou et al. 2021, arXiv 2103.11886).

use super::{Image, Outputs, Pool, Sizes, Variant};
use crate::build::{Scope, T};
use crate::ir::Init;
use crate::nn::{
    Fit, Release, class_and_positions, feed_forward, layer_norm, linear, linear_no_bias, merge_heads, patch_embedding,
    patch_grid, split_heads,
};
use serde::{Deserialize, Serialize};

/// Arguments of `vit_pytorch.deepvit.DeepViT`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DeepViT {
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
    /// Hidden width of the feed-forward layers.
    pub mlp_dim: usize,
    /// What the head looks at.
    #[serde(default)]
    pub pool: Pool,
    /// Image channels.
    #[serde(default = "super::channels")]
    pub channels: usize,
    /// Width of one head.
    #[serde(default = "super::dim_head")]
    pub dim_head: usize,
    /// Dropout in the blocks.
    #[serde(default)]
    pub dropout: f64,
    /// Dropout after the embedding.
    #[serde(default)]
    pub emb_dropout: f64,
}

impl DeepViT {
    /// Attention whose maps are mixed over heads, then normalised over heads, before they weigh the values.
    /// `[b, n, d] → [b, n, d]`. Keys `norm`, then `to_qkv`, `reattn_weights` `[heads, heads]`, `reattn_norm.1`, `to_out.0`.
    fn reattention<'g>(&self, s: Scope<'g>, r: Release, x: T<'g>) -> T<'g> {
        let inner = self.heads * self.dim_head;
        let y = layer_norm(s.at("norm"), x);
        let s = r.body(s);
        let _in = s.enter();
        let qkv = linear_no_bias(s.at("to_qkv"), y, 3 * inner);
        let [q, k, v] = qkv.chunk(-1).map(|t| split_heads(t, self.heads));
        let mut map = (q.matmul(k.t()) * (self.dim_head as f64).powf(-0.5)).softmax(-1);
        s.observe("attentions", map);
        if r == Release::V1 {
            map = s.dropout(map, self.dropout);
        }
        // Contracted over the first axis of the weights: map'[g] = Σ_h map[h]·W[h, g]. Rows no longer sum to one.
        let mix = s.param("reattn_weights", [self.heads, self.heads], Init::NORMAL);
        map = layer_norm(s.at("reattn_norm.1"), map.rearrange("b h i j -> b i j h", &[]).matmul(mix));
        let y = merge_heads(map.rearrange("b i j h -> b h i j", &[]).matmul(v));
        // Unlike in ViT there always is a projection.
        s.dropout(linear(s.at("to_out.0"), y, self.dim), self.dropout)
    }

    fn blocks<'g>(&self, s: Scope<'g>, r: Release, mut x: T<'g>) -> T<'g> {
        let _in = s.enter();
        for i in 0..self.depth {
            let layer = s.at("layers").at(i);
            // Release 0.16 wraps the residual too, which adds a level of names.
            let [attention, feed] = [0, 1].map(|j| r.body(layer.at(j)));
            x = self.reattention(attention, r, x) + x;
            x = feed_forward(feed, r, x, self.mlp_dim, self.dropout) + x;
        }
        x
    }
}

impl Variant for DeepViT {
    fn image(&self) -> Image {
        Image { channels: self.channels, size: Some([self.image_size; 2]) }
    }

    fn check(&self, _: Release) -> Vec<String> {
        let grid = super::divides("image_size:", self.image_size, "patch_size", self.patch_size);
        grid.into_iter().chain(super::no_classes(self.num_classes)).collect()
    }

    fn sizes(&self, _: Release) -> Sizes {
        Sizes::patches([self.patch_size; 2])
    }

    fn forward<'g>(&self, r: Release, s: Scope<'g>, img: T<'g>, fit: Fit) -> Outputs<'g> {
        let (side, patch) = (self.image_size / self.patch_size, [self.patch_size; 2]);
        let mut x = patch_embedding(s.at("to_patch_embedding"), r, img, patch, self.dim);
        x = s.dropout(class_and_positions(s, x, [side; 2], &patch_grid(img, patch), fit), self.emb_dropout);
        x = self.blocks(s.at("transformer"), r, x);
        x = match self.pool {
            Pool::Cls => x.pick(1, 0),
            Pool::Mean => x.mean(&[1]),
        };
        Outputs::logits(linear(s.at("mlp_head.1"), layer_norm(s.at("mlp_head.0"), x), self.num_classes))
    }

    fn arguments(&self) -> toml::Table {
        super::arguments(self)
    }
}

#[cfg(test)]
mod tests {
    use crate::template::{Model, Source, parse_set};

    #[test]
    fn mistakes_are_named() {
        let wrong = |set: &str| {
            let set = parse_set(set).expect("a setting");
            Model::resolve(&Source::Preset("deepvit", "tiny"), &[set]).expect_err("it is wrong").to_string()
        };
        assert!(wrong("image_size=20").contains("16 or 24"));
        assert!(wrong("image_size=[16, 16]").contains("image_size"));
        assert!(wrong("num_classes=0").contains("num_classes"));
    }
}
