//! `vit_pytorch.efficient.ViT`: embedding and head of ViT around a transformer of choice.

use super::inner::Plugged;
use super::{Image, Outputs, Pool, Size2, Sizes, Variant};
use crate::build::{Scope, T};
use crate::ir::Init;
use crate::nn::{Fit, Release, layer_norm, linear, patch_embedding, patch_grid, positions, prepend_class_token};
use serde::{Deserialize, Serialize};

/// Arguments of `vit_pytorch.efficient.ViT`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Efficient {
    /// Images the position table is made for.
    pub image_size: Size2,
    /// Size of a patch.
    pub patch_size: Size2,
    /// Classes.
    pub num_classes: usize,
    /// Model width.
    pub dim: usize,
    /// What the head looks at.
    #[serde(default)]
    pub pool: Pool,
    /// Image channels.
    #[serde(default = "super::channels")]
    pub channels: usize,
    /// The transformer; the original's argument `transformer`.
    pub inner: Plugged,
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

    fn check(&self, r: Release) -> Vec<String> {
        let mut wrong = super::patch_grid(r, self.image_size, self.patch_size);
        if self.num_classes == 0 {
            wrong.push("num_classes: 0 (no head) is an option of vit only; 1 or more is valid".into());
        }
        // Sequences of a grid that does not divide would be refused for the wrong reason.
        let tokens = if wrong.is_empty() { self.tokens() } else { return wrong };
        wrong.extend(self.inner.check(r, self.dim, tokens));
        wrong
    }

    fn sizes(&self, _: Release) -> Sizes {
        let sizes = Sizes::patches(self.patch_size.hw());
        match self.inner.needs_known_length() {
            Some(why) => Sizes { symbolic: Err(why), ..sizes },
            None => sizes,
        }
    }

    fn forward<'g>(&self, r: Release, s: Scope<'g>, img: T<'g>, fit: Fit) -> Outputs<'g> {
        let d = self.dim;
        let mut x = patch_embedding(s.at("to_patch_embedding"), r, img, self.patch_size.hw(), d);
        x = prepend_class_token(s, x, [1, 1, d]);
        let pos = s.param("pos_embedding", [1, self.tokens(), d], Init::NORMAL);
        x = x + positions(pos, x, 1, self.grid(), &patch_grid(img, self.patch_size.hw()), fit);
        x = self.inner.forward(r, s.at("transformer"), x);
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
