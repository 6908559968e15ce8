//! `vit_pytorch.efficient.ViT`: embedding and head of ViT around a transformer of choice.

use super::argument::{Classes, Flag, Width, arguments};
use super::inner::Plugged;
use super::{Image, Outputs, Pool, Size2, Sizes, TokenModel, Variant};
use crate::build::{Scope, T};
use crate::ir::Dim;
use crate::nn::{
    Fit, class_and_positions, gelu, layer_norm, linear, normed_linear, patch_embedding, patch_grid, patches,
};

arguments! {
    /// Arguments of `vit_pytorch.efficient.ViT`.
    pub struct Efficient {
        /// Images the position table is made for.
        image_size: Size2,
        /// Size of a patch.
        patch_size: Size2,
        /// Classes; 0: no head.
        num_classes: Classes,
        /// Model width.
        dim: Width,
        /// What the head looks at.
        pool: Pool = Pool::Cls,
        /// Image channels.
        channels: Width = 3,
        /// The transformer; the original's argument `transformer`.
        inner: Plugged,
    }
    options {
        /// Norms before and after the embedding of patches.
        embedding_norms: Flag = true,
        /// The head has a hidden layer of four times the model's width.
        hidden_head: Flag = false,
    }
}

impl Efficient {
    /// Rows and columns of patches that the position table is made for.
    fn grid(&self) -> [usize; 2] {
        super::grid(self.image_size, self.patch_size)
    }

    /// Tokens, the class token included.
    fn tokens(&self) -> usize {
        self.grid().iter().product::<usize>() + 1
    }
}

impl Variant for Efficient {
    fn image(&self) -> Image {
        Image { channels: self.channels, size: Some(self.image_size.hw()) }
    }

    fn check(&self) -> Vec<String> {
        let wrong = super::divides_into_patches(self.image_size, self.patch_size);
        // Sequences of a grid that does not divide would be refused for the wrong reason.
        if wrong.is_empty() { self.inner.check(self.dim, self.tokens()) } else { wrong }
    }

    fn sizes(&self) -> Sizes {
        let sizes = Sizes::patches(self.patch_size.hw());
        match self.inner.needs_known_length() {
            Some(why) => Sizes { symbolic: Err(why), ..sizes },
            None => sizes,
        }
    }

    fn forward<'g>(&self, s: Scope<'g>, img: T<'g>, fit: Fit) -> Outputs<'g> {
        self.steps(s, img, fit)
    }

    fn tokens(&self) -> Option<&dyn TokenModel> {
        Some(self)
    }
}

impl TokenModel for Efficient {
    fn classes(&self) -> usize {
        self.num_classes
    }

    fn patches<'g>(&self, s: Scope<'g>, img: T<'g>) -> T<'g> {
        patches(s.at("to_patch_embedding"), img, self.patch_size.hw())
    }

    fn embed<'g>(&self, s: Scope<'g>, patches: T<'g>, size: &[Dim; 2], fit: Fit) -> T<'g> {
        let x = patch_embedding(s.at("to_patch_embedding"), patches, self.dim, self.embedding_norms);
        class_and_positions(s, x, self.grid(), &patch_grid(size, self.patch_size.hw()), fit)
    }

    fn encode<'g>(&self, s: Scope<'g>, tokens: T<'g>) -> T<'g> {
        self.inner.forward(s.at("transformer"), tokens)
    }

    fn pool<'g>(&self, tokens: T<'g>) -> T<'g> {
        self.pool.of(tokens)
    }

    fn head<'g>(&self, s: Scope<'g>, x: T<'g>) -> T<'g> {
        let s = s.at("mlp_head");
        if self.hidden_head {
            let hidden = gelu(linear(s.at("hidden"), layer_norm(s.at(0), x), 4 * self.dim));
            return linear(s.at(1), hidden, self.num_classes);
        }
        normed_linear(s, x, self.num_classes)
    }
}
