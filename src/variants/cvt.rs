//! CvT: introducing convolutions to vision transformers (Wu et al. 2021, arXiv 2103.15808).
//!
//! Three stages, each a strided convolution and blocks whose queries, keys and values come from depthwise
//! convolutions. No class token and no positions, so images may have any size.

use super::{Image, Outputs, Sizes, Variant};
use crate::build::{Scope, T};
use crate::ir::Init;
use crate::nn::{
    Fit, Release, batch_norm2d, channel_norm, conv2d, depthwise_no_bias, gelu, linear, map_to_tokens, merge_heads,
    pointwise, pointwise_no_bias, scaled_dot_product, split_heads,
};
use crate::ops::Conv;
use serde::{Deserialize, Serialize};

/// The width of a head is not an argument.
const DIM_HEAD: usize = 64;

/// A default.
fn number<const N: usize>() -> usize {
    N
}

/// Arguments of `vit_pytorch.cvt.CvT`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CvT {
    /// Classes.
    pub num_classes: usize,
    /// Channels of stage 1.
    #[serde(default = "number::<64>")]
    pub s1_emb_dim: usize,
    /// Kernel of its embedding.
    #[serde(default = "number::<7>")]
    pub s1_emb_kernel: usize,
    /// Stride of its embedding.
    #[serde(default = "number::<4>")]
    pub s1_emb_stride: usize,
    /// Kernel of its projections.
    #[serde(default = "number::<3>")]
    pub s1_proj_kernel: usize,
    /// Stride of its key and value projections.
    #[serde(default = "number::<2>")]
    pub s1_kv_proj_stride: usize,
    /// Its heads.
    #[serde(default = "number::<1>")]
    pub s1_heads: usize,
    /// Its blocks.
    #[serde(default = "number::<1>")]
    pub s1_depth: usize,
    /// Hidden width of its feed-forward layers, in multiples of its channels.
    #[serde(default = "number::<4>")]
    pub s1_mlp_mult: usize,
    /// Channels of stage 2.
    #[serde(default = "number::<192>")]
    pub s2_emb_dim: usize,
    /// Kernel of its embedding.
    #[serde(default = "number::<3>")]
    pub s2_emb_kernel: usize,
    /// Stride of its embedding.
    #[serde(default = "number::<2>")]
    pub s2_emb_stride: usize,
    /// Kernel of its projections.
    #[serde(default = "number::<3>")]
    pub s2_proj_kernel: usize,
    /// Stride of its key and value projections.
    #[serde(default = "number::<2>")]
    pub s2_kv_proj_stride: usize,
    /// Its heads.
    #[serde(default = "number::<3>")]
    pub s2_heads: usize,
    /// Its blocks.
    #[serde(default = "number::<2>")]
    pub s2_depth: usize,
    /// Hidden width of its feed-forward layers, in multiples of its channels.
    #[serde(default = "number::<4>")]
    pub s2_mlp_mult: usize,
    /// Channels of stage 3.
    #[serde(default = "number::<384>")]
    pub s3_emb_dim: usize,
    /// Kernel of its embedding.
    #[serde(default = "number::<3>")]
    pub s3_emb_kernel: usize,
    /// Stride of its embedding.
    #[serde(default = "number::<2>")]
    pub s3_emb_stride: usize,
    /// Kernel of its projections.
    #[serde(default = "number::<3>")]
    pub s3_proj_kernel: usize,
    /// Stride of its key and value projections.
    #[serde(default = "number::<2>")]
    pub s3_kv_proj_stride: usize,
    /// Its heads. By default 4, in release 1 6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3_heads: Option<usize>,
    /// Its blocks.
    #[serde(default = "number::<10>")]
    pub s3_depth: usize,
    /// Hidden width of its feed-forward layers, in multiples of its channels.
    #[serde(default = "number::<4>")]
    pub s3_mlp_mult: usize,
    /// Dropout in the blocks.
    #[serde(default)]
    pub dropout: f64,
    /// Image channels; always 3 in release 0.16.
    #[serde(default = "super::channels")]
    pub channels: usize,
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
    fn stages(&self, r: Release) -> [StageArguments; 3] {
        let s3_heads = self.s3_heads.unwrap_or(if r == Release::V1 { 6 } else { 4 });
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
                heads: s3_heads,
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

    fn check(&self, r: Release) -> Vec<String> {
        let mut wrong = Vec::new();
        if r == Release::V0_16 && self.channels != 3 {
            wrong.push(format!("channels: release 0.16 has 3, not {}; others need release = \"1\"", self.channels));
        }
        for (i, c) in self.stages(r).iter().enumerate() {
            let (key, k) = (format!("s{}_proj_kernel", i + 1), c.proj_kernel);
            match r {
                Release::V0_16 if k / 2 != 1 => {
                    wrong.push(format!("{key}: with {k} the map changes its size in release 0.16; 2 and 3 keep it"));
                }
                Release::V1 if k % 2 == 0 => {
                    let (below, above) = (k - 1, k + 1);
                    wrong.push(format!("{key}: with {k} the map changes its size; odd ones keep it: {below}, {above}"));
                }
                _ => {}
            }
        }
        wrong
    }

    fn sizes(&self, r: Release) -> Sizes {
        // Strides divide known sizes with rounding, symbolic ones only exactly.
        let (mut stride, mut unit) = (1, 1);
        for c in self.stages(r) {
            stride = c.emb_stride.saturating_mul(stride);
            unit = super::least_common_multiple(unit, c.kv_proj_stride.saturating_mul(stride));
        }
        Sizes { step: [1; 2], square: false, symbolic: Ok([unit; 2]) }
    }

    fn forward<'g>(&self, r: Release, s: Scope<'g>, img: T<'g>, _: Fit) -> Outputs<'g> {
        let mut x = img;
        for (i, c) in self.stages(r).into_iter().enumerate() {
            let s = s.at("layers").at(i);
            let embed = Conv::new().stride(c.emb_stride).pad(c.emb_kernel / 2);
            x = conv2d(s.at(0), x, c.emb_dim, c.emb_kernel, embed);
            let blocks = match r {
                Release::V0_16 => s.at(1),
                Release::V1 => {
                    x = channel_norm(s.at(1), r, x);
                    s.at(2)
                }
            };
            for j in 0..c.depth {
                let layer = blocks.at("layers").at(j);
                let _in = layer.enter();
                x = attention(layer.at(0), r, x, c, self.dropout) + x;
                x = feed_forward(layer.at(1), r, x, c.mlp_mult, self.dropout) + x;
            }
        }
        let head = match r {
            Release::V0_16 => s.at("layers.5"),
            Release::V1 => s.at("to_logits.2"),
        };
        Outputs::logits(linear(head, x.mean(&[2, 3]), self.num_classes))
    }

    fn arguments(&self) -> toml::Table {
        super::arguments(self)
    }
}

/// Depthwise convolution, batch norm, pointwise convolution: `[b, c, H, W] → [b, out, …]`. Keys `net.{0,1,2}`.
fn project<'g>(s: Scope<'g>, r: Release, x: T<'g>, out: usize, kernel: usize, stride: usize) -> T<'g> {
    let s = s.at("net");
    let _in = s.enter();
    let conv = Conv::new().stride(stride).pad(kernel / 2);
    // 0.16 pads for the kernel it is told and then uses 3.
    let kernel = if r == Release::V0_16 { 3 } else { kernel };
    let x = batch_norm2d(s.at(1), depthwise_no_bias(s.at(0), x, kernel, conv), Init::ONES);
    pointwise_no_bias(s.at(2), x, out)
}

/// Norm and attention over the pixels of a map, `[b, c, H, W] → [b, c, H, W]`. Keys `norm`, then (under `fn` in
/// 0.16) `to_q`, `to_kv`, `to_out.0`.
fn attention<'g>(s: Scope<'g>, r: Release, x: T<'g>, c: StageArguments, dropout: f64) -> T<'g> {
    let [h, w] = [x.dim(2), x.dim(3)];
    let inner = c.heads * DIM_HEAD;
    let x = channel_norm(s.at("norm"), r, x);
    let s = r.body(s);
    let _in = s.enter();
    let q = project(s.at("to_q"), r, x, inner, c.proj_kernel, 1);
    let kv = project(s.at("to_kv"), r, x, 2 * inner, c.proj_kernel, c.kv_proj_stride);
    let [k, v] = kv.chunk(1);
    let [q, k, v] = [q, k, v].map(|t| split_heads(map_to_tokens(t), c.heads));
    let out = merge_heads(scaled_dot_product(s, r, q, k, v, dropout));
    let out = out.rearrange("b (h w) c -> b c h w", &[("h", h), ("w", w)]);
    s.dropout(pointwise(s.at("to_out.0"), out, c.emb_dim), dropout)
}

/// Norm and two pointwise convolutions with a GELU between. Keys: 0.16 `norm`, `fn.net.{0,3}`; 1 `net.{0,1,4}`.
fn feed_forward<'g>(s: Scope<'g>, r: Release, x: T<'g>, mult: usize, dropout: f64) -> T<'g> {
    let dim = x.size(1);
    let (norm, up, down) = match r {
        Release::V0_16 => (s.at("norm"), s.at("fn.net.0"), s.at("fn.net.3")),
        Release::V1 => (s.at("net.0"), s.at("net.1"), s.at("net.4")),
    };
    let _in = s.enter();
    let h = s.dropout(gelu(pointwise(up, channel_norm(norm, r, x), dim * mult)), dropout);
    s.dropout(pointwise(down, h, dim), dropout)
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
        assert!(fail("0.16", "channels = 1").contains("channels: release 0.16 has 3"));
        assert!(fail("1", "s4_heads = 2").contains("s4_heads"));
    }
}
