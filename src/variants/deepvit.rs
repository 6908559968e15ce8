//! DeepViT: re-attention keeps the maps of deep layers apart (Zhou et al. 2021, arXiv 2103.11886).

use super::argument::{Classes, Depth, Flag, Probability, Width, arguments};
use super::{Image, Outputs, Pool, Sizes, TokenModel, Variant};
use crate::build::{Scope, T};
use crate::ir::{Dim, Init};
use crate::nn::{
    Fit, Heads, class_and_positions, feed_forward, layer_norm, linear, linear_no_bias, merge_heads, normed_linear,
    patch_embedding, patch_grid, patches, split_heads,
};

arguments! {
    /// Arguments of `vit_pytorch.deepvit.DeepViT`.
    pub struct DeepViT {
        /// Side of the images the position table is made for.
        image_size: Width,
        /// Side of a patch.
        patch_size: Width,
        /// Classes; 0: no head.
        num_classes: Classes,
        /// Model width.
        dim: Width,
        /// Blocks.
        depth: Depth,
        /// Attention heads.
        heads: Width,
        /// Hidden width of the feed-forward layers.
        mlp_dim: Width,
        /// What the head looks at.
        pool: Pool = Pool::Cls,
        /// Image channels.
        channels: Width = 3,
        /// Width of one head.
        dim_head: Width = 64,
        /// Dropout in the blocks.
        dropout: Probability = 0.0,
        /// Dropout after the embedding.
        emb_dropout: Probability = 0.0,
    }
    options {
        /// Norms before and after the embedding of patches.
        embedding_norms: Flag = true,
        /// Dropout on attention maps too.
        map_dropout: Flag = true,
    }
}

impl DeepViT {
    /// Attention whose maps are mixed over heads, then normalized over heads, before they weigh the values.
    /// `[b, n, d] → [b, n, d]`. Keys `norm`, `to_qkv`, `reattn_weights` `[self.heads; 2]`, `reattn_norm.1`, `to_out.0`.
    fn reattention<'g>(&self, s: Scope<'g>, x: T<'g>) -> T<'g> {
        let c = Heads::new(self.heads, self.dim_head, self.dropout, self.map_dropout);
        let y = layer_norm(s.at("norm"), x);
        let _in = s.enter();
        let qkv = linear_no_bias(s.at("to_qkv"), y, 3 * c.width());
        let [q, k, v] = qkv.chunk(-1).map(|t| split_heads(t, self.heads));
        let map = (q.matmul(k.t()) * (self.dim_head as f64).powf(-0.5)).softmax(-1);
        s.observe("attentions", map);
        let map = c.drop(s, map);
        // Contracted over the first axis of the weights: map'[g] = Σ_h map[h]·W[h, g]. Rows no longer sum to one.
        let mix = s.param("reattn_weights", [self.heads; 2], Init::NORMAL);
        let map = layer_norm(s.at("reattn_norm.1"), map.rearrange("b h i j -> b i j h", &[]).matmul(mix));
        let y = merge_heads(map.rearrange("b i j h -> b h i j", &[]).matmul(v));
        // Unlike in ViT there always is a projection.
        s.dropout(linear(s.at("to_out.0"), y, self.dim), self.dropout)
    }
}

impl Variant for DeepViT {
    fn image(&self) -> Image {
        Image { channels: self.channels, size: Some([self.image_size; 2]) }
    }

    fn check(&self) -> Vec<String> {
        super::divides("image_size:", self.image_size, "patch_size", self.patch_size).into_iter().collect()
    }

    fn sizes(&self) -> Sizes {
        Sizes::patches([self.patch_size; 2])
    }

    fn forward<'g>(&self, s: Scope<'g>, img: T<'g>, fit: Fit) -> Outputs<'g> {
        self.steps(s, img, fit)
    }

    fn tokens(&self) -> Option<&dyn TokenModel> {
        Some(self)
    }
}

impl TokenModel for DeepViT {
    fn classes(&self) -> usize {
        self.num_classes
    }

    fn patches<'g>(&self, s: Scope<'g>, img: T<'g>) -> T<'g> {
        patches(s.at("to_patch_embedding"), img, [self.patch_size; 2])
    }

    fn embed<'g>(&self, s: Scope<'g>, patches: T<'g>, size: &[Dim; 2], fit: Fit) -> T<'g> {
        let (trained, patch) = ([self.image_size / self.patch_size; 2], [self.patch_size; 2]);
        let x = patch_embedding(s.at("to_patch_embedding"), patches, self.dim, self.embedding_norms);
        class_and_positions(s, x, trained, &patch_grid(size, patch), fit)
    }

    fn encode<'g>(&self, s: Scope<'g>, tokens: T<'g>) -> T<'g> {
        let mut x = s.dropout(tokens, self.emb_dropout);
        let s = s.at("transformer");
        let _in = s.enter();
        for i in 0..self.depth {
            let layer = s.at("layers").at(i);
            x = self.reattention(layer.at(0), x) + x;
            x = feed_forward(layer.at(1), x, self.mlp_dim, self.dropout) + x;
        }
        x
    }

    fn pool<'g>(&self, tokens: T<'g>) -> T<'g> {
        self.pool.of(tokens)
    }

    fn head<'g>(&self, s: Scope<'g>, x: T<'g>) -> T<'g> {
        normed_linear(s.at("mlp_head"), x, self.num_classes)
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
        assert!(wrong("num_classes=-1").contains("num_classes: -1 is out of range; 0 to 1048576"));
    }
}
