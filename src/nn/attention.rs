//! Multi-head self-attention as in vit-pytorch's `vit.py`.

use super::{Release, layer_norm, linear, linear_no_bias};
use crate::build::{Scope, T};

/// Sizes of an attention layer.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Number of heads.
    pub heads: usize,
    /// Width of one head.
    pub dim_head: usize,
    /// Dropout after the output projection (and, in release 1, on the attention matrix).
    pub dropout: f64,
}

/// `[b, n, heads·d] → [b, heads, n, d]`.
#[track_caller]
pub fn split_heads(x: T<'_>, heads: usize) -> T<'_> {
    x.rearrange("b n (h d) -> b h n d", &[("h", heads.into())])
}

/// `[b, heads, n, d] → [b, n, heads·d]`.
#[track_caller]
pub fn merge_heads(x: T<'_>) -> T<'_> {
    x.rearrange("b h n d -> b n (h d)", &[])
}

/// `softmax(q·kᵀ·d^-½)·v` per head (Vaswani et al. 2017, arXiv 1706.03762); the map is observed as `attentions`.
/// `q`, `k`, `v`: `[b, heads, n, d]`.
#[track_caller]
pub fn scaled_dot_product<'g>(s: Scope<'g>, r: Release, q: T<'g>, k: T<'g>, v: T<'g>, p: f64) -> T<'g> {
    let _in = s.enter();
    let map = (q.matmul(k.t()) * (q.size(-1) as f64).powf(-0.5)).softmax(-1);
    s.observe("attentions", map);
    let map = if r == Release::V1 { s.dropout(map, p) } else { map };
    map.matmul(v)
}

/// Norm, packed q/k/v, attention, output projection. `[b, n, d] → [b, n, d]`; the residual is the caller's.
/// Without a projection when there is one head as wide as the model. Keys `norm`, then (under `fn` in 0.16)
/// `to_qkv.weight` `[3·heads·dim_head, d]`, `to_out.0`.
#[track_caller]
pub fn attention<'g>(s: Scope<'g>, r: Release, x: T<'g>, c: Attention) -> T<'g> {
    if c.heads == 1 && c.dim_head == x.size(-1) { merged_heads(s, r, x, c) } else { attention_to_out(s, r, x, c) }
}

/// [`attention`] that always has its output projection.
#[track_caller]
pub fn attention_to_out<'g>(s: Scope<'g>, r: Release, x: T<'g>, c: Attention) -> T<'g> {
    let out = merged_heads(s, r, x, c);
    let s = r.body(s);
    let _in = s.enter();
    s.dropout(linear(s.at("to_out.0"), out, x.size(-1)), c.dropout)
}

/// Norm, packed q/k/v and attention: `[b, n, d] → [b, n, heads·dim_head]`.
#[track_caller]
fn merged_heads<'g>(s: Scope<'g>, r: Release, x: T<'g>, c: Attention) -> T<'g> {
    let x = layer_norm(s.at("norm"), x);
    let s = r.body(s);
    let _in = s.enter();
    let qkv = linear_no_bias(s.at("to_qkv"), x, 3 * c.heads * c.dim_head);
    let [q, k, v] = qkv.chunk(-1).map(|t| split_heads(t, c.heads));
    merge_heads(scaled_dot_product(s, r, q, k, v, c.dropout))
}
