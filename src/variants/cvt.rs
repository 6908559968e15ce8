//! CvT: introducing convolutions to vision transformers (Wu et al. 2021, arXiv 2103.15808).
//!
//! Three stages, each a strided convolution and blocks whose queries, keys and values come from depthwise
//! convolutions. No class token and no positions, so images may have any size.

use super::argument::{Classes, Depth, Flag, Probability, Width, arguments};
use super::{Image, Outputs, Sizes, Variant};
use crate::build::{Scope, T};
use crate::ir::Init;
use crate::nn::{
    Fit, Heads, batch_norm2d, channel_norm, conv2d, conv2d_no_bias, depthwise_no_bias, deviation_norm, gelu, linear,
    map_to_tokens, merge_heads, pointwise, pointwise_no_bias, scaled_dot_product, split_heads,
};
use crate::ops::Conv;

/// The width of a head is not an argument.
const DIM_HEAD: usize = 64;

arguments! {
    /// Arguments of `vit_pytorch.cvt.CvT`.
    pub struct CvT {
        /// Classes; 0: no head, the pixels of the last map are the output.
        num_classes: Classes,
        /// Channels of stage 1.
        s1_emb_dim: Width = 64,
        /// Kernel of its embedding.
        s1_emb_kernel: Width = 7,
        /// Stride of its embedding.
        s1_emb_stride: Width = 4,
        /// Kernel of its projections.
        s1_proj_kernel: Width = 3,
        /// Stride of its key and value projections.
        s1_kv_proj_stride: Width = 2,
        /// Its heads.
        s1_heads: Width = 1,
        /// Its blocks.
        s1_depth: Depth = 1,
        /// Hidden width of its feed-forward layers, in multiples of its channels.
        s1_mlp_mult: Width = 4,
        /// Channels of stage 2.
        s2_emb_dim: Width = 192,
        /// Kernel of its embedding.
        s2_emb_kernel: Width = 3,
        /// Stride of its embedding.
        s2_emb_stride: Width = 2,
        /// Kernel of its projections.
        s2_proj_kernel: Width = 3,
        /// Stride of its key and value projections.
        s2_kv_proj_stride: Width = 2,
        /// Its heads.
        s2_heads: Width = 3,
        /// Its blocks.
        s2_depth: Depth = 2,
        /// Hidden width of its feed-forward layers, in multiples of its channels.
        s2_mlp_mult: Width = 4,
        /// Channels of stage 3.
        s3_emb_dim: Width = 384,
        /// Kernel of its embedding.
        s3_emb_kernel: Width = 3,
        /// Stride of its embedding.
        s3_emb_stride: Width = 2,
        /// Kernel of its projections.
        s3_proj_kernel: Width = 3,
        /// Stride of its key and value projections.
        s3_kv_proj_stride: Width = 2,
        /// Its heads; by default 4 up to 0.16.9.
        s3_heads: Width = 6,
        /// Its blocks.
        s3_depth: Depth = 10,
        /// Hidden width of its feed-forward layers, in multiples of its channels.
        s3_mlp_mult: Width = 4,
        /// Dropout in the blocks.
        dropout: Probability = 0.0,
        /// Image channels.
        channels: Width = 3,
    }
    options {
        /// Dropout on attention maps too.
        map_dropout: Flag = true,
        /// A norm after each embedding.
        embedding_norm: Flag = true,
        /// The kernel of projections is 3, whatever `proj_kernel` is, which only pads for it.
        kernel_is_3: Flag = false,
        /// Projections are one convolution each.
        dense_projections: Flag = false,
        /// Channel norms add their epsilon to the root of the variance; else to the variance.
        eps_outside_root: Flag = false,
    }
}

/// The arguments of one stage.
#[derive(Clone, Copy)]
struct StageArguments {
    emb_dim: usize,
    emb_kernel: usize,
    emb_stride: usize,
    proj_kernel: usize,
    kv_proj_stride: usize,
    heads: usize,
    depth: usize,
    mlp_mult: usize,
}

impl CvT {
    fn stages(&self) -> [StageArguments; 3] {
        [
            StageArguments {
                emb_dim: self.s1_emb_dim,
                emb_kernel: self.s1_emb_kernel,
                emb_stride: self.s1_emb_stride,
                proj_kernel: self.s1_proj_kernel,
                kv_proj_stride: self.s1_kv_proj_stride,
                heads: self.s1_heads,
                depth: self.s1_depth,
                mlp_mult: self.s1_mlp_mult,
            },
            StageArguments {
                emb_dim: self.s2_emb_dim,
                emb_kernel: self.s2_emb_kernel,
                emb_stride: self.s2_emb_stride,
                proj_kernel: self.s2_proj_kernel,
                kv_proj_stride: self.s2_kv_proj_stride,
                heads: self.s2_heads,
                depth: self.s2_depth,
                mlp_mult: self.s2_mlp_mult,
            },
            StageArguments {
                emb_dim: self.s3_emb_dim,
                emb_kernel: self.s3_emb_kernel,
                emb_stride: self.s3_emb_stride,
                proj_kernel: self.s3_proj_kernel,
                kv_proj_stride: self.s3_kv_proj_stride,
                heads: self.s3_heads,
                depth: self.s3_depth,
                mlp_mult: self.s3_mlp_mult,
            },
        ]
    }
}

impl Variant for CvT {
    fn image(&self) -> Image {
        Image { channels: self.channels, size: None }
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (i, c) in self.stages().iter().enumerate() {
            let (key, k) = (format!("s{}_proj_kernel", i + 1), c.proj_kernel);
            if self.kernel_is_3 && k / 2 != 1 {
                wrong.push(format!("{key}: with {k} the map changes its size in this release; 2 and 3 keep it"));
            } else if !self.kernel_is_3 && k % 2 == 0 {
                let (below, above) = (k - 1, k + 1);
                wrong.push(format!("{key}: with {k} the map changes its size; odd ones keep it: {below}, {above}"));
            }
        }
        wrong
    }

    fn sizes(&self) -> Sizes {
        // Strides divide known sizes with rounding, symbolic ones only exactly.
        let (mut stride, mut unit) = (1, 1);
        for c in self.stages() {
            stride = c.emb_stride.saturating_mul(stride);
            unit = super::least_common_multiple(unit, c.kv_proj_stride.saturating_mul(stride));
        }
        Sizes { step: [1; 2], square: false, symbolic: Ok([unit; 2]) }
    }

    fn forward<'g>(&self, s: Scope<'g>, img: T<'g>, _: Fit) -> Outputs<'g> {
        let mut x = img;
        for (i, c) in self.stages().into_iter().enumerate() {
            let s = s.at("layers").at(i);
            let embed = Conv::new().stride(c.emb_stride).pad(c.emb_kernel / 2);
            x = conv2d(s.at(0), x, c.emb_dim, c.emb_kernel, embed);
            if self.embedding_norm {
                x = self.norm(s.at(1), x);
            }
            for j in 0..c.depth {
                let layer = s.at("2.layers").at(j);
                let _in = layer.enter();
                x = self.attention(layer.at(0), x, c) + x;
                x = self.feed_forward(layer.at(1), x, c.mlp_mult) + x;
            }
        }
        if self.num_classes == 0 {
            return Outputs::last_hidden_state(map_to_tokens(x));
        }
        Outputs::logits(linear(s.at("to_logits.2"), x.mean(&[2, 3]), self.num_classes))
    }
}

impl CvT {
    /// Depthwise convolution, batch norm, pointwise convolution: `[b, c, H, W] → [b, out, …]`. Keys `net.{0,1,2}`.
    fn project<'g>(&self, s: Scope<'g>, x: T<'g>, out: usize, kernel: usize, stride: usize) -> T<'g> {
        let _in = s.enter();
        if self.dense_projections {
            return conv2d_no_bias(s, x, out, 3, Conv::new().stride(stride).pad(kernel / 2));
        }
        let s = s.at("net");
        let conv = Conv::new().stride(stride).pad(kernel / 2);
        let kernel = if self.kernel_is_3 { 3 } else { kernel };
        let x = batch_norm2d(s.at(1), depthwise_no_bias(s.at(0), x, kernel, conv), Init::ONES);
        pointwise_no_bias(s.at(2), x, out)
    }

    /// Norm and attention over the pixels of a map, `[b, c, H, W] → [b, c, H, W]`. Keys `norm`, `to_q`, `to_kv`,
    /// `to_out.0`.
    fn attention<'g>(&self, s: Scope<'g>, x: T<'g>, c: StageArguments) -> T<'g> {
        let [h, w] = [x.dim(2), x.dim(3)];
        let (heads, dropout) = (c.heads, self.dropout);
        let sizes = Heads::new(heads, DIM_HEAD, dropout, self.map_dropout);
        let x = self.norm(s.at("norm"), x);
        let _in = s.enter();
        let q = self.project(s.at("to_q"), x, sizes.width(), c.proj_kernel, 1);
        let kv = self.project(s.at("to_kv"), x, 2 * sizes.width(), c.proj_kernel, c.kv_proj_stride);
        let [k, v] = kv.chunk(1);
        let [q, k, v] = [q, k, v].map(|t| split_heads(map_to_tokens(t), heads));
        let out = merge_heads(scaled_dot_product(s, q, k, v, sizes));
        let out = out.rearrange("b (h w) c -> b c h w", &[("h", h), ("w", w)]);
        s.dropout(pointwise(s.at("to_out.0"), out, c.emb_dim), dropout)
    }

    /// Norm and two pointwise convolutions with a GELU between. Keys `net.{0,1,4}`.
    fn feed_forward<'g>(&self, s: Scope<'g>, x: T<'g>, mult: usize) -> T<'g> {
        let dim = x.size(1);
        let [norm, up, down] = ["net.0", "net.1", "net.4"].map(|name| s.at(name));
        let _in = s.enter();
        let h = s.dropout(gelu(pointwise(up, self.norm(norm, x), dim * mult)), self.dropout);
        s.dropout(pointwise(down, h, dim), self.dropout)
    }

    fn norm<'g>(&self, s: Scope<'g>, x: T<'g>) -> T<'g> {
        if self.eps_outside_root { deviation_norm(s, x) } else { channel_norm(s, x) }
    }
}

#[cfg(test)]
mod tests {
    use crate::template::{Model, Source};

    #[test]
    fn projections_must_keep_the_size_of_the_map() {
        let fail = |r: &str, rest: &str| {
            let text = format!("variant = 'cvt'\nrelease = '{r}'\nnum_classes = 3\n{rest}");
            Model::resolve(&Source::Text("m.toml", &text), &[]).map_or_else(|e| e.to_string(), |_| String::new())
        };
        assert_eq!(fail("0.16", "s1_proj_kernel = 2"), "");
        assert_eq!(fail("1", "s1_proj_kernel = 5\nchannels = 1"), "");
        assert!(fail("0.16", "s2_proj_kernel = 5").contains("s2_proj_kernel: with 5"));
        assert!(fail("1", "s3_proj_kernel = 2").contains("odd ones keep it: 1, 3"));
        assert!(fail("0.16", "channels = 1").contains("takes only 3; 1 needs release = \"1.6.3\" or a later one"));
        assert!(fail("1", "s4_heads = 2").contains("s4_heads"));
    }
}
