//! The encoder of x-transformers (Vaswani et al. 2017, arXiv 1706.03762).

use super::Inner;
use crate::build::{Scope, T};
use crate::nn::{gelu, layer_norm, linear, linear_no_bias, merge_heads, split_heads, unit_offset_norm};
use crate::variants::argument::{Depth, Flag, Probability, Width, arguments};

arguments! {
    /// Arguments of `x_transformers.Encoder` that are supported.
    pub struct XEncoder {
        /// Pairs of attention and feed-forward layers.
        depth: Depth,
        /// Attention heads.
        heads: Width = 8,
        /// Width of one head, whatever `dim / heads` is.
        attn_dim_head: Width = 64,
        /// Dropout on the attention matrix.
        attn_dropout: Probability = 0.0,
        /// Hidden width of the feed-forward layers, as a multiple of `dim`.
        ff_mult: Width = 4,
        /// Gated feed-forward layers (Shazeer 2020, arXiv 2002.05202).
        ff_glu: Flag = false,
        /// Dropout inside the feed-forward layers.
        ff_dropout: Probability = 0.0,
        /// Adds the logits of all earlier layers to a layer's own (He et al. 2020, arXiv 2012.11747).
        residual_attn: Flag = false,
    }
    options {
        /// Norms with a bias and a plain scale; else without bias, the scale counted from one.
        plain_norms: Flag = false,
        /// A norm after the last layer.
        final_norm: Flag = true,
        /// A bias of the output projection of attention.
        output_bias: Flag = false,
    }
}

impl Inner for XEncoder {
    fn check(&self, _: usize, _: usize) -> Vec<String> {
        Vec::new()
    }

    fn needs_known_length(&self) -> Option<&'static str> {
        None
    }

    /// Keys `layers.{2i}` (attention) and `layers.{2i+1}` (feed-forward), `final_norm`.
    fn forward<'g>(&self, s: Scope<'g>, mut x: T<'g>) -> T<'g> {
        let mut logits = None;
        for i in 0..self.depth {
            let [attention, feed_forward] = [2 * i, 2 * i + 1].map(|k| s.at("layers").at(k));
            x = self.attention(attention, x, &mut logits) + x;
            x = self.feed_forward(feed_forward, x) + x;
        }
        if self.final_norm { self.norm(s.at("final_norm"), x) } else { x }
    }
}

impl XEncoder {
    fn norm<'g>(&self, s: Scope<'g>, x: T<'g>) -> T<'g> {
        if self.plain_norms { layer_norm(s, x) } else { unit_offset_norm(s, x) }
    }

    /// Keys `0.0` (norm), `1.{to_q,to_k,to_v,to_out}`.
    fn attention<'g>(&self, layer: Scope<'g>, x: T<'g>, logits: &mut Option<T<'g>>) -> T<'g> {
        let dim = x.size(-1);
        let x = self.norm(layer.at("0.0"), x);
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
        if self.output_bias { linear(s.at("to_out"), out, dim) } else { linear_no_bias(s.at("to_out"), out, dim) }
    }

    /// Keys `0.0` (norm), `1.ff.{0,2}`; the first is `0.proj` when gated, `0.0` when not.
    fn feed_forward<'g>(&self, layer: Scope<'g>, x: T<'g>) -> T<'g> {
        let dim = x.size(-1);
        let hidden = self.ff_mult * dim;
        let x = self.norm(layer.at("0.0"), x);
        let s = layer.at("1.ff");
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
