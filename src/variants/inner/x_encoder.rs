//! The encoder of x-transformers: release 0.10.2 inside vit-pytorch 0.16, 2.31 inside 1.

use super::{Inner, heads};
use crate::build::{Scope, T};
use crate::nn::{Release, gelu, layer_norm, linear, linear_no_bias, merge_heads, split_heads, unit_offset_norm};
use crate::variants::{arguments, dim_head};
use serde::{Deserialize, Serialize};

/// Arguments of `x_transformers.Encoder` that are supported.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct XEncoder {
    /// Pairs of attention and feed-forward layers.
    pub depth: usize,
    /// Attention heads.
    #[serde(default = "heads")]
    pub heads: usize,
    /// Width of one head, whatever `dim / heads` is.
    #[serde(default = "dim_head")]
    pub attn_dim_head: usize,
    /// Dropout on the attention matrix.
    #[serde(default)]
    pub attn_dropout: f64,
    /// Hidden width of the feed-forward layers, as a multiple of `dim`.
    #[serde(default = "mult")]
    pub ff_mult: usize,
    /// Gated feed-forward layers (Shazeer 2020, arXiv 2002.05202).
    #[serde(default)]
    pub ff_glu: bool,
    /// Dropout inside the feed-forward layers.
    #[serde(default)]
    pub ff_dropout: f64,
    /// Adds the logits of all earlier layers to a layer's own (He et al. 2020, arXiv 2012.11747).
    #[serde(default)]
    pub residual_attn: bool,
}

fn mult() -> usize {
    4
}

impl Inner for XEncoder {
    fn check(&self, _: Release, _: usize, _: usize) -> Vec<String> {
        Vec::new()
    }

    fn needs_known_length(&self) -> Option<&'static str> {
        None
    }

    /// Keys `layers.{2i}` (attention) and `layers.{2i+1}` (feed-forward); release 1 ends with `final_norm`.
    fn forward<'g>(&self, r: Release, s: Scope<'g>, mut x: T<'g>) -> T<'g> {
        let mut logits = None;
        for i in 0..self.depth {
            let [attention, feed_forward] = [2 * i, 2 * i + 1].map(|k| s.at("layers").at(k));
            x = self.attention(attention, r, x, &mut logits) + x;
            x = self.feed_forward(feed_forward, r, x) + x;
        }
        match r {
            Release::V0_16 => x,
            Release::V1 => unit_offset_norm(s.at("final_norm"), x),
        }
    }

    fn arguments(&self) -> toml::Table {
        arguments(self)
    }
}

/// 0.16: a plain norm, keys `0.{weight,bias}`; 1: no bias and a scale counted from one, key `0.0.gamma`.
fn norm<'g>(layer: Scope<'g>, r: Release, x: T<'g>) -> T<'g> {
    match r {
        Release::V0_16 => layer_norm(layer.at(0), x),
        Release::V1 => unit_offset_norm(layer.at("0.0"), x),
    }
}

impl XEncoder {
    /// Keys `1.{to_q,to_k,to_v,to_out}`; only 0.16 has `to_out.bias`.
    fn attention<'g>(&self, layer: Scope<'g>, r: Release, x: T<'g>, logits: &mut Option<T<'g>>) -> T<'g> {
        let dim = x.size(-1);
        let x = norm(layer, r, x);
        let s = layer.at(1);
        let _in = s.enter();
        let inner = self.heads * self.attn_dim_head;
        let [q, k, v] =
            ["to_q", "to_k", "to_v"].map(|name| split_heads(linear_no_bias(s.at(name), x, inner), self.heads));
        let mut dots = q.matmul(k.t()) * (self.attn_dim_head as f64).powf(-0.5);
        if self.residual_attn {
            // What is handed on already contains the sum over the earlier layers.
            dots = logits.map_or(dots, |earlier| dots + earlier);
            *logits = Some(dots);
        }
        let map = dots.softmax(-1);
        s.observe("attentions", map);
        let out = merge_heads(s.dropout(map, self.attn_dropout).matmul(v));
        match r {
            Release::V0_16 => linear(s.at("to_out"), out, dim),
            Release::V1 => linear_no_bias(s.at("to_out"), out, dim),
        }
    }

    /// Keys `1.net.{0,2}` in 0.16, `1.ff.{0,2}` in 1; the first is `0.proj` when gated, `0.0` when not.
    fn feed_forward<'g>(&self, layer: Scope<'g>, r: Release, x: T<'g>) -> T<'g> {
        let dim = x.size(-1);
        let hidden = self.ff_mult * dim;
        let x = norm(layer, r, x);
        let s = layer.at(match r {
            Release::V0_16 => "1.net",
            Release::V1 => "1.ff",
        });
        let _in = s.enter();
        let h = if self.ff_glu {
            let [value, gate] = linear(s.at("0.proj"), x, 2 * hidden).chunk(-1);
            value * gelu(gate)
        } else {
            gelu(linear(s.at("0.0"), x, hidden))
        };
        linear(s.at(2), s.dropout(h, self.ff_dropout), dim)
    }
}
