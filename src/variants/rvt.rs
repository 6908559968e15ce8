//! RvT: ViT with rotary positions (Su et al. 2021, arXiv 2104.09864), convolved queries and gated feed-forward
//! layers, vit-pytorch's own combination.

use super::argument::{Classes, Depth, Flag, Number, Probability, Width, arguments};
use super::{Image, Outputs, Sizes, Variant, classify};
use crate::build::{Scope, T};
use crate::ir::Tensor;
use crate::nn::{
    Fit, Heads, axial_angles, depthwise_no_bias, gelu, layer_norm, linear, linear_no_bias, linspace, map_to_tokens,
    merge_heads, normed_linear, patches, pointwise_no_bias, prepend_class_token, rotate, scaled_dot_product,
    split_heads,
};
use crate::ops::Conv;

arguments! {
    /// Arguments of `vit_pytorch.rvt.RvT`.
    pub struct RvT {
        /// Side of the images; in release 1 the highest frequency is half of it.
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
        /// Image channels.
        channels: Width = 3,
        /// Width of one head.
        dim_head: Width = 64,
        /// Dropout in the blocks.
        dropout: Probability = 0.0,
        /// Accepted, and without effect, as in the original.
        emb_dropout: Probability = 0.0,
        /// Rotary positions.
        use_rotary: Flag = true,
        /// Queries by a convolution.
        use_ds_conv: Flag = true,
        /// Gated feed-forward layers.
        use_glu: Flag = true,
    }
    options {
        /// Dropout on attention maps too.
        map_dropout: Flag = true,
        /// Frequencies up to 5 by equal ratios; else from 1 to half the image by equal steps.
        octave_scales: Flag = false,
        /// The first of them by equal ratios, as a power of 2.
        first_octave: Number = 0.0,
        /// Side of the kernel of queries.
        query_kernel: Width = 5,
        /// The head runs on every token.
        head_on_all_tokens: Flag = false,
        /// A head may have channels beyond a multiple of 4, which are not rotated.
        partial_rotation: Flag = true,
        /// The class token is projected where its query is of another width.
        class_projection: Flag = true,
    }
}

impl Variant for RvT {
    fn image(&self) -> Image {
        Image { channels: self.channels, size: Some([self.image_size; 2]) }
    }

    fn check(&self) -> Vec<String> {
        let divides = super::divides("image_size:", self.image_size, "patch_size", self.patch_size);
        let mut wrong: Vec<String> = divides.into_iter().collect();
        if !self.partial_rotation && !self.dim_head.is_multiple_of(4) {
            wrong.push(format!(
                "dim_head: {} is not a multiple of 4, in which this release rotates; release = \"0.16.9\" or a later one leaves the rest \
                 unrotated",
                self.dim_head
            ));
        }
        let inner = self.heads * self.dim_head;
        if !self.class_projection && inner != self.dim {
            wrong.push(format!(
                "dim: this release passes the class token on as a query of heads * dim_head = {inner} entries; \
                 dim = {inner}, not {}",
                self.dim
            ));
        }
        wrong
    }

    fn sizes(&self) -> Sizes {
        let why = "its rotary angles are computed for a square of known side";
        Sizes::squares(self.patch_size, why)
    }

    fn forward<'g>(&self, s: Scope<'g>, img: T<'g>, _: Fit) -> Outputs<'g> {
        let patch = [self.patch_size; 2];
        let grid = [2, 3].map(|axis| img.size(axis) / self.patch_size);
        // Neither a norm around the embedding nor dropout after it, in either release.
        let x = linear(s.at("to_patch_embedding.1"), patches(s, img, patch), self.dim);
        let mut x = prepend_class_token(s, x);
        let scales = s.at("transformer.pos_emb").computed("scales", self.scales());
        // The side of a square of as many tokens, whatever the shape of the grid.
        let rotary = self.use_rotary && self.dim_head >= 4;
        let angles = rotary.then(|| axial_angles(scales, (grid[0] * grid[1]).isqrt()));
        for i in 0..self.depth {
            let layer = s.at("transformer.layers").at(i);
            let _in = layer.enter();
            x = self.attention(layer.at(0), x, grid, angles) + x;
            x = self.feed_forward(layer.at(1), x) + x;
        }
        classify(self.num_classes, x, |x| {
            let seen = if self.head_on_all_tokens { x } else { x.pick(1, 0) };
            normed_linear(s.at("mlp_head"), seen, self.num_classes)
        })
    }
}

impl RvT {
    /// Frequencies of the angles, `[dim_head / 4]`.
    fn scales(&self) -> Tensor {
        let n = self.dim_head / 4;
        let scales = if self.octave_scales {
            linspace(self.first_octave as f32, 5f32.log2(), n).into_iter().map(f32::exp2).collect()
        } else {
            linspace(1.0, self.image_size as f32 / 2.0, n)
        };
        Tensor::new(&[n], scales)
    }

    /// Norm and rotary attention, `[b, 1+n, d] → [b, 1+n, d]`, the class token first. Keys `norm`, `to_q`, `to_kv`,
    /// `to_out.0`.
    fn attention<'g>(&self, s: Scope<'g>, x: T<'g>, grid: [usize; 2], angles: Option<[T<'g>; 2]>) -> T<'g> {
        let c = Heads::new(self.heads, self.dim_head, self.dropout, self.map_dropout);
        let inner = c.width();
        let x = layer_norm(s.at("norm"), x);
        let _in = s.enter();
        let q = if self.use_ds_conv {
            self.convolved(s.at("to_q"), x, grid)
        } else {
            linear_no_bias(s.at("to_q"), x, inner)
        };
        let [k, v] = linear_no_bias(s.at("to_kv"), x, 2 * inner).chunk(-1);
        let [q, k, v] = [q, k, v].map(|t| split_heads(t, self.heads));
        let [q, k] = [q, k].map(|t| angles.map_or(t, |a| turned(t, a)));
        let out = merge_heads(scaled_dot_product(s, q, k, v, c));
        s.dropout(linear(s.at("to_out.0"), out, self.dim), self.dropout)
    }

    /// Queries from the patches as a map: depthwise, then pointwise. Keys `conv.net.{0,1}.weight`, and `cls_proj`
    /// where the class token must change its width; else it is its own query.
    fn convolved<'g>(&self, s: Scope<'g>, x: T<'g>, [h, w]: [usize; 2]) -> T<'g> {
        let _in = s.enter();
        let (inner, k) = (self.heads * self.dim_head, self.query_kernel);
        let (cls, rest) = (x.narrow(1, 0, 1), x.narrow(1, 1, h * w));
        let map = rest.rearrange("b (h w) c -> b c h w", &[("h", h.into()), ("w", w.into())]);
        let map = depthwise_no_bias(s.at("conv.net.0"), map, k, Conv::new().pad(k / 2));
        let map = pointwise_no_bias(s.at("conv.net.1"), map, inner);
        let cls = if inner == self.dim { cls } else { linear(s.at("cls_proj"), cls, inner) };
        T::concat(&[cls, map_to_tokens(map)], 1)
    }

    /// Norm and two linear maps with a GELU, which in the gated form multiplies the other half. Keys `net.{0,1,4}`.
    fn feed_forward<'g>(&self, s: Scope<'g>, x: T<'g>) -> T<'g> {
        let [norm, up, down] = ["net.0", "net.1", "net.4"].map(|name| s.at(name));
        let _in = s.enter();
        let x = layer_norm(norm, x);
        let h = if self.use_glu {
            // The gate is the second half.
            let [a, gate] = linear(up, x, 2 * self.mlp_dim).chunk(-1);
            gelu(gate) * a
        } else {
            gelu(linear(up, x, self.mlp_dim))
        };
        s.dropout(linear(down, s.dropout(h, self.dropout), self.dim), self.dropout)
    }
}

/// Rotates the patches of `[b, heads, 1+n, d]`; the class token and channels beyond the table stay.
fn turned<'g>(t: T<'g>, angles: [T<'g>; 2]) -> T<'g> {
    let (tokens, width) = (t.size(2), t.size(3));
    let (cls, patches, m) = (t.narrow(2, 0, 1), t.narrow(2, 1, tokens - 1), angles[0].size(-1));
    let rotated = rotate(patches.narrow(-1, 0, m), angles);
    let patches = match width.checked_sub(m) {
        Some(beyond @ 1..) => T::concat(&[rotated, patches.narrow(-1, m, beyond)], -1),
        _ => rotated,
    };
    T::concat(&[cls, patches], 2)
}

#[cfg(test)]
mod tests {
    use crate::template::{Model, Source};

    #[test]
    fn release_0_16_has_neither_options_nor_projections_of_the_class_token() {
        let resolve = |r: &str, rest: &str| {
            let rest =
                format!("variant = 'rvt'\nrelease = '{r}'\nimage_size = 16\npatch_size = 4\nnum_classes = 3\n{rest}");
            let text = format!("{rest}\ndim = 20\ndepth = 1\nheads = 2\nmlp_dim = 8\ndim_head = 6");
            Model::resolve(&Source::Text("m.toml", &text), &[]).map_or_else(|e| e.to_string(), |_| String::new())
        };
        assert_eq!(resolve("1", "use_glu = false"), "");
        let e = resolve("0.16", "use_glu = false");
        for part in [
            "takes only true; false needs release = \"0.17.2\" or a later one",
            "6 is not a multiple of 4",
            "dim = 12, not 20",
        ] {
            assert!(e.contains(part), "{e}");
        }
    }
}
