//! SimpleViT: better plain ViT baselines (Beyer et al. 2022, arXiv 2205.01580), and three forms of it that the original
//! package has as modules of their own: register tokens, norms of queries and keys, patch dropout.

use super::argument::{Classes, Depth, Flag, Integer, Probability, Width, arguments};
use super::{Image, Outputs, Size2, Sizes, TokenModel, Variant};
use crate::build::{Scope, T};
use crate::ir::{Dim, Init, Real, Tensor};
use crate::nn::{
    Fit, Heads, feed_forward, layer_norm, linear, linear_no_bias, merge_heads, patch_embedding, patch_grid, patches,
    scaled_dot_product, split_heads,
};

/// Entries of the largest table of positions, which is a constant of the graph: 64 MiB.
const MOST_POSITIONS: usize = 1 << 24;

arguments! {
    /// Arguments of `vit_pytorch.simple_vit.SimpleViT`, and of its forms.
    pub struct SimpleViT {
        /// Images the positions are computed for.
        image_size: Size2,
        /// Size of a patch.
        patch_size: Size2,
        /// Classes; 0: no head.
        num_classes: Classes,
        /// Model width, a multiple of 4.
        dim: Width,
        /// Blocks.
        depth: Depth,
        /// Attention heads.
        heads: Width,
        /// Hidden width of the feed-forward layers.
        mlp_dim: Width,
        /// Image channels.
        channels: Width = 3,
        /// Width of one head, whatever `dim / heads` is.
        dim_head: Width = 64,
        /// Tokens without a place that are appended to the patches and cut off before pooling.
        num_register_tokens: Integer<0, 10_000> = 0,
        /// Queries and keys of length 1, times a learned factor. The head is then a norm, as in the original: its
        /// output has `dim` values, whatever `num_classes` is.
        qk_norm: Flag = false,
        /// The share of patches that training drops.
        patch_dropout: Probability = 0.0,
    }
}

impl Variant for SimpleViT {
    fn image(&self) -> Image {
        Image { channels: self.channels, size: Some(self.image_size.hw()) }
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = super::divides_into_patches(self.image_size, self.patch_size);
        if !self.dim.is_multiple_of(4) {
            let (d, below) = (self.dim, self.dim / 4 * 4);
            let reason = "is not a multiple of 4: positions are sines and cosines of two axes";
            wrong.push(format!("dim: {d} {reason}; {} or {} is valid", below.max(4), below + 4));
        }
        wrong
    }

    fn sizes(&self) -> Sizes {
        let symbolic = Err("its positions are computed for a grid of known size");
        Sizes { symbolic, ..Sizes::patches(self.patch_size.hw()) }
    }

    fn forward<'g>(&self, s: Scope<'g>, img: T<'g>, fit: Fit) -> Outputs<'g> {
        self.steps(s, img, fit)
    }

    fn tokens(&self) -> Option<&dyn TokenModel> {
        Some(self)
    }
}

impl TokenModel for SimpleViT {
    fn classes(&self) -> usize {
        self.num_classes
    }

    fn patches<'g>(&self, s: Scope<'g>, img: T<'g>) -> T<'g> {
        patches(s.at("to_patch_embedding"), img, self.patch_size.hw())
    }

    fn embed<'g>(&self, s: Scope<'g>, patches: T<'g>, size: &[Dim; 2], fit: Fit) -> T<'g> {
        let x = patch_embedding(s.at("to_patch_embedding"), patches, self.dim, true);
        // Nothing is learned: on an image of another size the positions are those of its grid.
        let trained = super::grid(self.image_size, self.patch_size);
        let grid = match fit {
            Fit::Resampled => patch_grid(size, self.patch_size.hw()).map(|d| d.size().unwrap_or(1)),
            Fit::LeadingRows | Fit::Whole => trained,
        };
        let elements = grid[0].saturating_mul(grid[1]).saturating_mul(self.dim);
        if elements > MOST_POSITIONS {
            let [rows, columns] = grid;
            let message =
                format!("positions of {rows}×{columns} patches are more than a table of {MOST_POSITIONS} entries");
            s.builder().error(message, &[x]);
            return x.poison();
        }
        x + s.constant(positions(grid, self.dim))
    }

    fn encode<'g>(&self, s: Scope<'g>, tokens: T<'g>) -> T<'g> {
        let (n, registers) = (tokens.dim(1), self.num_register_tokens);
        let mut x = tokens;
        if registers > 0 {
            let wide: [Dim; 3] = [x.dim(0), registers.into(), self.dim.into()];
            x = T::concat(&[x, s.param("register_tokens", [registers, self.dim], Init::NORMAL).expand(wide)], 1);
        }
        let s = s.at("transformer");
        let _in = s.enter();
        for i in 0..self.depth {
            let layer = s.at("layers").at(i);
            x = self.attention(layer.at(0), x) + x;
            x = feed_forward(layer.at(1), x, self.mlp_dim, 0.0) + x;
        }
        layer_norm(s.at("norm"), x).narrow(1, 0, n)
    }

    fn pool<'g>(&self, tokens: T<'g>) -> T<'g> {
        tokens.mean(&[1])
    }

    fn head<'g>(&self, s: Scope<'g>, x: T<'g>) -> T<'g> {
        let s = s.at("linear_head");
        if self.qk_norm { layer_norm(s, x) } else { linear(s, x, self.num_classes) }
    }
}

impl SimpleViT {
    /// Keys `norm`, `to_qkv`, `to_out`, and with `qk_norm` `q_norm.gamma`, `k_norm.gamma` `[heads, 1, dim_head]`.
    fn attention<'g>(&self, s: Scope<'g>, x: T<'g>) -> T<'g> {
        let c = Heads::new(self.heads, self.dim_head, 0.0, false);
        let y = layer_norm(s.at("norm"), x);
        let _in = s.enter();
        let [q, k, v] = linear_no_bias(s.at("to_qkv"), y, 3 * c.width()).chunk(-1).map(|t| split_heads(t, c.heads));
        let out = if self.qk_norm {
            let [q, k] = [("q_norm", q), ("k_norm", k)].map(|(name, t)| self.unit(s.at(name), t));
            // Lengths are scaled already, scores are not.
            scaled_dot_product(s, q, k, v, Heads { scale_of: Some(1), ..c })
        } else {
            scaled_dot_product(s, q, k, v, c)
        };
        linear_no_bias(s.at("to_out"), merge_heads(out), self.dim)
    }

    /// `x / ‖x‖ · √d · gamma` for each head.
    fn unit<'g>(&self, s: Scope<'g>, x: T<'g>) -> T<'g> {
        let root = (self.dim_head as f64).sqrt();
        let gamma = s.param("gamma", [self.heads, 1, self.dim_head], Init::Constant(Real(1.0 / root)));
        let length = (x * x).sum_keep(&[-1]).sqrt();
        x / length.maximum(length.scalar(1e-12)) * root * gamma
    }
}

/// Sines and cosines of columns, then of rows, at frequencies from 1 down to 1/10000: `[rows·columns, dim]`.
fn positions([rows, columns]: [usize; 2], dim: usize) -> Tensor {
    let n = dim / 4;
    let omega: Vec<f32> = (0..n).map(|k| 1.0 / 10000f32.powf(k as f32 / (n.max(2) - 1) as f32)).collect();
    let mut table = Vec::with_capacity(rows * columns * dim);
    for (y, x) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
        for place in [x, y] {
            table.extend(omega.iter().map(|w| (place as f32 * w).sin()));
            table.extend(omega.iter().map(|w| (place as f32 * w).cos()));
        }
    }
    Tensor::new(&[rows * columns, dim], table)
}
