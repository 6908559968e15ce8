//! LocalViT: bringing locality to vision transformers (Li et al. 2021, arXiv 2104.05707).
//!
//! ViT with a depthwise convolution in the feed-forward layers, which leave the class token alone.

use super::argument::{Classes, Depth, Flag, Probability, Width, arguments};
use super::{Image, Outputs, Sizes, Variant, classify};
use crate::build::{Scope, T};
use crate::nn::{
    Fit, Heads, attention_to_out, class_and_positions, depthwise, layer_norm, map_to_tokens, normed_linear,
    patch_embedding, patch_grid, patches, pointwise,
};
use crate::ops::{Conv, composite};

arguments! {
    /// Arguments of `vit_pytorch.local_vit.LocalViT`.
    pub struct LocalViT {
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
        /// Hidden channels of the feed-forward layers.
        mlp_dim: Width,
        /// Image channels.
        channels: Width = 3,
        /// Width of one head, whatever `dim / heads` is.
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
        /// Feed-forward layers normalize the rows of the map; else its channels.
        norm_of_rows: Flag = true,
        /// The head runs on every token.
        head_on_all_tokens: Flag = false,
    }
}

impl Variant for LocalViT {
    fn image(&self) -> Image {
        Image { channels: self.channels, size: Some([self.image_size; 2]) }
    }

    fn check(&self) -> Vec<String> {
        let divides = super::divides("image_size:", self.image_size, "patch_size", self.patch_size);
        let grid = self.image_size / self.patch_size;
        let rows = self.norm_of_rows && divides.is_none() && grid != self.dim;
        let needs_rows = rows.then(|| {
            format!(
                "dim: this release of local_vit normalizes rows of the patch grid with a norm of dim = {} entries, so \
                 it runs only when the grid, here {grid} patches wide, is that wide; dim = {grid} would run, or \
                 release = \"0.16\"",
                self.dim
            )
        });
        divides.into_iter().chain(needs_rows).collect()
    }

    fn sizes(&self) -> Sizes {
        let why =
            "its convolutions need tokens laid out as a square map, and a symbolic number of them has no known side";
        Sizes::squares(self.patch_size, why)
    }

    fn forward<'g>(&self, s: Scope<'g>, img: T<'g>, fit: Fit) -> Outputs<'g> {
        let (side, patch) = (self.image_size / self.patch_size, [self.patch_size; 2]);
        let grid = patch_grid(&[img.dim(2), img.dim(3)], patch);
        let embedding = s.at("to_patch_embedding");
        let x = patch_embedding(embedding, patches(embedding, img, patch), self.dim, self.embedding_norms);
        let x = class_and_positions(s, x, [side; 2], &grid, fit);
        let mut x = s.dropout(x, self.emb_dropout);
        let c = Heads::new(self.heads, self.dim_head, self.dropout, self.map_dropout);
        for i in 0..self.depth {
            let layer = s.at("transformer.layers").at(i);
            let _in = layer.enter();
            x = attention_to_out(layer.at("0.fn"), x, c) + x;
            x = self.feed_forward(layer.at("1.fn.fn"), x);
        }
        classify(self.num_classes, x, |x| {
            let seen = if self.head_on_all_tokens { x } else { x.pick(1, 0) };
            normed_linear(s.at("mlp_head"), seen, self.num_classes)
        })
    }
}

impl LocalViT {
    /// `[cls, y] → [cls, y + F(y)]`, `F` on the patches as a map: norm, pointwise, depthwise 3×3, pointwise,
    /// pointwise. Keys `net.{0, 1, 3.net.0, 3.net.1, 6}`.
    fn feed_forward<'g>(&self, s: Scope<'g>, x: T<'g>) -> T<'g> {
        let _in = s.enter();
        let n = x.size(1) - 1;
        let (cls, patches) = (x.narrow(1, 0, 1), x.narrow(1, 1, n));
        // Always a square: a grid of another shape is folded into one, or refused when it has no square number.
        let side = n.isqrt();
        let map = |t: T<'g>| t.rearrange("b (h w) c -> b c h w", &[("h", side.into()), ("w", side.into())]);
        let [norm, up, deep, mix, down] =
            ["net.0", "net.1", "net.3.net.0", "net.3.net.1", "net.6"].map(|name| s.at(name));
        let h = if self.norm_of_rows {
            let h = map(patches);
            if side != self.dim {
                let d = self.dim;
                s.builder().error(format!("this release runs only on a grid {d} = dim patches wide"), &[h]);
            }
            layer_norm(norm, h)
        } else {
            map(layer_norm(norm, patches))
        };
        let h = composite::hard_swish(pointwise(up, h, self.mlp_dim));
        let h = depthwise(deep, h, 3, Conv::new().pad(1));
        let h = s.dropout(composite::hard_swish(pointwise(mix, h, self.mlp_dim)), self.dropout);
        let h = s.dropout(pointwise(down, h, self.dim), self.dropout);
        T::concat(&[cls, patches + map_to_tokens(h)], 1)
    }
}

#[cfg(test)]
mod tests {
    use crate::template::{Model, Source};
    use crate::variants::Declare;
    use toml::Value;

    #[test]
    fn release_1_needs_a_grid_as_wide_as_the_model() {
        let set = |k: &str, v: Value| (k.to_owned(), v);
        let one = set("release", "1".into());
        let readme = Source::Preset("local_vit", "readme");
        let e = Model::resolve(&readme, std::slice::from_ref(&one)).expect_err("refused").to_string();
        assert!(e.contains("dim = 8 would run, or release = \"0.16\""), "{e}");
        let mut m = Model::resolve(&Source::Preset("local_vit", "tiny"), &[one]).expect("runs");
        let mut declare = |side: usize| {
            m.declaration.input_size = Some([side; 2]);
            m.declaration.declare(&Declare::default())
        };
        declare(16).expect("the grid is as wide as dim");
        let e = declare(8).expect_err("a smaller grid is not").to_string();
        assert!(e.contains("4 = dim patches wide"), "{e}");
    }
}
