//! The encoder of x-transformers (Vaswani et al. 2017, arXiv 1706.03762).

use super::Inner;
use crate::build::{Scope, T};
use crate::ir::Init;
use crate::nn::{gelu, linear, linear_no_bias, merge_heads, split_heads};
use crate::ops::composite;
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
        /// Norms have a bias.
        norm_bias: Flag = false,
        /// The scale of norms is counted from one.
        unit_offset: Flag = true,
        /// A norm after the last layer.
        final_norm: Flag = true,
        /// A bias of the output projection of attention.
        output_bias: Flag = false,
        /// The gate of a gated layer is the value itself; what it computes for a gate is not used.
        gates_itself: Flag = false,
        /// What a block adds to is its normed input.
        normed_residual: Flag = false,
        /// With residual attention, blocks are normed after the sum, but for the last.
        post_norm: Flag = false,
        /// `residual_attn` has an effect.
        residual_attn_works: Flag = true,
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
        for k in 0..2 * self.depth {
            let layer = s.at("layers").at(k);
            let mut block =
                |x| if k % 2 == 0 { self.attention(layer, x, &mut logits) } else { self.feed_forward(layer, x) };
            let norm = |x| self.norm(layer.at("0.0"), x);
            x = if self.post_norm && self.residual_attn {
                let y = block(x) + x;
                // The norm of the last block has parameters and is not used.
                let normed = norm(y);
                if k + 1 == 2 * self.depth { y } else { normed }
            } else {
                let y = norm(x);
                block(y) + if self.normed_residual { y } else { x }
            };
        }
        if self.final_norm { self.norm(s.at("final_norm"), x) } else { x }
    }
}

impl XEncoder {
    fn norm<'g>(&self, s: Scope<'g>, x: T<'g>) -> T<'g> {
        let _in = s.enter();
        let d = x.size(-1);
        let gamma = s.param("gamma", [d], if self.unit_offset { Init::ZEROS } else { Init::ONES });
        let bias = self.norm_bias.then(|| s.param("bias", [d], Init::ZEROS));
        let gain = if self.unit_offset { gamma + 1.0 } else { gamma };
        composite::layer_norm(x, gain, bias, x.scalar(1e-5))
    }

    /// Keys `1.{to_q,to_k,to_v,to_out}`.
    fn attention<'g>(&self, layer: Scope<'g>, x: T<'g>, logits: &mut Option<T<'g>>) -> T<'g> {
        let dim = x.size(-1);
        let s = layer.at(1);
        let _in = s.enter();
        let inner = self.heads * self.attn_dim_head;
        let [q, k, v] =
            ["to_q", "to_k", "to_v"].map(|name| split_heads(linear_no_bias(s.at(name), x, inner), self.heads));
        let mut dots = q.matmul(k.t()) * (self.attn_dim_head as f64).powf(-0.5);
        if self.residual_attn && self.residual_attn_works {
            // What is handed on already contains the sum over the earlier layers.
            dots = logits.map_or(dots, |earlier| dots + earlier);
            *logits = Some(dots);
        }
        let map = dots.softmax(-1);
        s.observe("attentions", map);
        let out = merge_heads(s.dropout(map, self.attn_dropout).matmul(v));
        if self.output_bias { linear(s.at("to_out"), out, dim) } else { linear_no_bias(s.at("to_out"), out, dim) }
    }

    /// Keys `1.ff.{0,2}`; the first is `0.proj` when gated, `0.0` when not.
    fn feed_forward<'g>(&self, layer: Scope<'g>, x: T<'g>) -> T<'g> {
        let dim = x.size(-1);
        let hidden = self.ff_mult * dim;
        let s = layer.at("1.ff");
        let _in = s.enter();
        let h = if self.ff_glu {
            let [value, gate] = linear(s.at("0.proj"), x, 2 * hidden).chunk(-1);
            value * gelu(if self.gates_itself { value } else { gate })
        } else {
            gelu(linear(s.at("0.0"), x, hidden))
        };
        linear(s.at(2), s.dropout(h, self.ff_dropout), dim)
    }
}
