//! ViT: an image is worth 16×16 words (Dosovitskiy et al. 2020, arXiv 2010.11929).

use super::{Image, Outputs, Pool, Size2, Sizes, Variant};
use crate::build::{Scope, T};
use crate::ir::Init;
use crate::nn::{
    Attention, Fit, Release, Transformer, layer_norm, linear, patch_embedding, patch_grid, positions,
    prepend_class_token, transformer,
};
use serde::{Deserialize, Serialize};

/// Arguments of `vit_pytorch.ViT`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ViT {
    /// Images the position table is made for.
    pub image_size: Size2,
    /// Size of a patch.
    pub patch_size: Size2,
    /// Classes; 0 (release 1): no head, all tokens are given out.
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

impl Variant for ViT {
    fn image(&self) -> Image {
        Image { channels: self.channels, size: Some(self.image_size.hw()) }
    }

    fn check(&self, r: Release) -> Vec<String> {
        let mut wrong = super::patch_grid(r, self.image_size, self.patch_size);
        if self.num_classes == 0 && r == Release::V0_16 {
            wrong.push("num_classes: 0 (no head) exists since release 1".into());
        }
        wrong
    }

    fn sizes(&self, _: Release) -> Sizes {
        Sizes::patches(self.patch_size.hw())
    }

    fn forward<'g>(&self, r: Release, s: Scope<'g>, img: T<'g>, fit: Fit) -> Outputs<'g> {
        let (patch, d) = (self.patch_size.hw(), self.dim);
        let trained = super::grid(self.image_size, self.patch_size);
        let mut x = patch_embedding(s.at("to_patch_embedding"), r, img, patch, d);

        // Release 1 has no class token under mean pooling, but keeps an empty parameter for it.
        let cls = r == Release::V0_16 || self.pool == Pool::Cls;
        // Release 1 dropped the leading axis of size 1.
        let lead = usize::from(r == Release::V1);
        if cls {
            x = prepend_class_token(s, x, &[1, 1, d][lead..]);
        } else {
            s.param("cls_token", [0, d], Init::NORMAL);
        }
        let rows = trained[0] * trained[1] + usize::from(cls);
        let pos = s.param("pos_embedding", &[1, rows, d][lead..], Init::NORMAL);
        let pos = positions(pos, x, usize::from(cls), trained, &patch_grid(img, patch), fit);
        x = s.dropout(x + pos, self.emb_dropout);

        let attention = Attention { heads: self.heads, dim_head: self.dim_head, dropout: self.dropout };
        let c = Transformer { depth: self.depth, attention, mlp_dim: self.mlp_dim };
        x = transformer(s.at("transformer"), r, x, &c);
        if r == Release::V1 {
            x = layer_norm(s.at("transformer.norm"), x);
            if self.num_classes == 0 {
                return Outputs::last_hidden_state(x);
            }
        }
        x = match self.pool {
            Pool::Cls => x.pick(1, 0),
            Pool::Mean => x.mean(&[1]),
        };
        Outputs::logits(match r {
            Release::V0_16 => linear(s.at("mlp_head.1"), layer_norm(s.at("mlp_head.0"), x), self.num_classes),
            Release::V1 => linear(s.at("mlp_head"), x, self.num_classes),
        })
    }

    fn arguments(&self) -> toml::Table {
        super::arguments(self)
    }
}
