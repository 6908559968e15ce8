//! Multi-head self-attention as in vit-pytorch's `vit.py`.

use super::{layer_norm, linear, linear_no_bias};
use crate::build::{Scope, T};

/// Sizes of an attention layer.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Number of heads.
    pub heads: usize,
    /// Width of one head.
    pub dim_head: usize,
    /// Dropout after the output projection.
    pub dropout: f64,
    /// Whether there is dropout on the attention map too.
    pub map_dropout: bool,
    /// The width whose root divides the scores, where it is not that of a head.
    pub scale_of: Option<usize>,
    /// Whether one head as wide as the model has an output projection.
    pub always_projects: bool,
}

impl Heads {
    /// Attention as usual.
    pub fn new(heads: usize, dim_head: usize, dropout: f64, map_dropout: bool) -> Self {
        Self { heads, dim_head, dropout, map_dropout, scale_of: None, always_projects: false }
    }

    /// Width of all heads together.
    pub fn width(&self) -> usize {
        self.heads * self.dim_head
    }

    /// The attention map, after dropout where there is one.
    #[track_caller]
    pub fn drop<'g>(&self, s: Scope<'g>, map: T<'g>) -> T<'g> {
        if self.map_dropout { s.dropout(map, self.dropout) } else { map }
    }
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
pub fn scaled_dot_product<'g>(s: Scope<'g>, q: T<'g>, k: T<'g>, v: T<'g>, c: Heads) -> T<'g> {
    let _in = s.enter();
    let width = c.scale_of.unwrap_or(q.size(-1));
    let map = (q.matmul(k.t()) * (width as f64).powf(-0.5)).softmax(-1);
    s.observe("attentions", map);
    c.drop(s, map).matmul(v)
}

/// Norm, packed q/k/v, attention, output projection. `[b, n, d] → [b, n, d]`; the residual is the caller's.
/// Without a projection when there is one head as wide as the model. Keys `norm`, `to_qkv.weight`
/// `[3·heads·dim_head, d]`, `to_out.0`.
#[track_caller]
pub fn attention<'g>(s: Scope<'g>, x: T<'g>, c: Heads) -> T<'g> {
    let projects = c.always_projects || c.heads != 1 || c.dim_head != x.size(-1);
    if projects { attention_to_out(s, x, c) } else { merged_heads(s, x, c) }
}

/// [`attention`] that always has its output projection.
#[track_caller]
pub fn attention_to_out<'g>(s: Scope<'g>, x: T<'g>, c: Heads) -> T<'g> {
    let out = merged_heads(s, x, c);
    let _in = s.enter();
    s.dropout(linear(s.at("to_out.0"), out, x.size(-1)), c.dropout)
}

/// Norm, packed q/k/v and attention: `[b, n, d] → [b, n, heads·dim_head]`.
#[track_caller]
fn merged_heads<'g>(s: Scope<'g>, x: T<'g>, c: Heads) -> T<'g> {
    let x = layer_norm(s.at("norm"), x);
    let _in = s.enter();
    let qkv = linear_no_bias(s.at("to_qkv"), x, 3 * c.width());
    let [q, k, v] = qkv.chunk(-1).map(|t| split_heads(t, c.heads));
    merge_heads(scaled_dot_product(s, q, k, v, c))
}
