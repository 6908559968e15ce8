//! ViT: an image is worth 16×16 words (Dosovitskiy et al. 2020, arXiv 2010.11929).

use super::argument::{Classes, Depth, Flag, Probability, Width, arguments};
use super::{Image, Outputs, Pool, Size2, Sizes, TokenModel, Variant};
use crate::build::{Scope, T};
use crate::ir::{Dim, Init};
use crate::nn::{
    Fit, Heads, Transformer, class_and_positions, gelu, layer_norm, linear, patch_embedding, patch_grid, patches,
    positions, transformer,
};

arguments! {
    /// Arguments of `vit_pytorch.ViT`.
    pub struct ViT {
        /// Images the position table is made for.
        image_size: Size2,
        /// Size of a patch.
        patch_size: Size2,
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
        /// The last norm is of the pooled vector; else of all tokens.
        norm_in_head: Flag = false,
        /// There is a last norm.
        last_norm: Flag = true,
        /// The head has a hidden layer of `mlp_dim`.
        hidden_head: Flag = false,
        /// Under mean pooling there still is a class token.
        class_token_under_mean: Flag = false,
        /// Scores are divided by the root of the model's width; else by that of a head's.
        scale_of_dim: Flag = false,
        /// One head as wide as the model has an output projection too.
        always_projects: Flag = false,
    }
}

impl Variant for ViT {
    fn image(&self) -> Image {
        Image { channels: self.channels, size: Some(self.image_size.hw()) }
    }

    fn check(&self) -> Vec<String> {
        super::divides_into_patches(self.image_size, self.patch_size)
    }

    fn sizes(&self) -> Sizes {
        Sizes::patches(self.patch_size.hw())
    }

    fn forward<'g>(&self, s: Scope<'g>, img: T<'g>, fit: Fit) -> Outputs<'g> {
        self.steps(s, img, fit)
    }

    fn tokens(&self) -> Option<&dyn TokenModel> {
        Some(self)
    }
}

impl TokenModel for ViT {
    fn classes(&self) -> usize {
        self.num_classes
    }

    fn patches<'g>(&self, s: Scope<'g>, img: T<'g>) -> T<'g> {
        patches(s.at("to_patch_embedding"), img, self.patch_size.hw())
    }

    fn embed<'g>(&self, s: Scope<'g>, patches: T<'g>, size: &[Dim; 2], fit: Fit) -> T<'g> {
        let (trained, d) = (super::grid(self.image_size, self.patch_size), self.dim);
        let grid = patch_grid(size, self.patch_size.hw());
        let x = patch_embedding(s.at("to_patch_embedding"), patches, d, self.embedding_norms);
        if self.pool == Pool::Cls || self.class_token_under_mean {
            return class_and_positions(s, x, trained, &grid, fit);
        }
        // Checkpoints keep an empty parameter in place of the class token.
        s.param("cls_token", [1, 0, d], Init::NORMAL);
        let table = s.param("pos_embedding", [1, trained[0] * trained[1], d], Init::NORMAL);
        x + positions(table, x, 0, trained, &grid, fit)
    }

    fn encode<'g>(&self, s: Scope<'g>, tokens: T<'g>) -> T<'g> {
        let attention = Heads {
            scale_of: self.scale_of_dim.then_some(self.dim),
            always_projects: self.always_projects,
            ..Heads::new(self.heads, self.dim_head, self.dropout, self.map_dropout)
        };
        let c = Transformer { depth: self.depth, attention, mlp_dim: self.mlp_dim };
        let x = transformer(s.at("transformer"), s.dropout(tokens, self.emb_dropout), &c);
        if self.norm_in_head || !self.last_norm { x } else { layer_norm(s.at("transformer.norm"), x) }
    }

    fn pool<'g>(&self, tokens: T<'g>) -> T<'g> {
        self.pool.of(tokens)
    }

    fn head<'g>(&self, s: Scope<'g>, x: T<'g>) -> T<'g> {
        let s = s.at("mlp_head");
        let x = if self.norm_in_head { layer_norm(s.at("norm"), x) } else { x };
        let x = if self.hidden_head { gelu(linear(s.at("hidden"), x, self.mlp_dim)) } else { x };
        linear(s, x, self.num_classes)
    }
}
