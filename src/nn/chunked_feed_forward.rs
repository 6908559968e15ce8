//! The feed-forward layer that the routing and Sinkhorn transformers share.

use super::{gelu, layer_norm, linear};
use crate::build::{Scope, T};

/// Norm, linear to four times the width, GELU, dropout, linear back; the residual is the caller's. With `glu` the
/// first linear is twice as wide and the GELU of its first half is multiplied by its second half.
/// Keys `norm`, `fn.fn.w1`, `fn.fn.w2`: the layer is wrapped in one that could process tokens in chunks.
#[track_caller]
pub fn chunked_feed_forward<'g>(s: Scope<'g>, x: T<'g>, glu: bool, p: f64) -> T<'g> {
    let dim = x.size(-1);
    let x = layer_norm(s.at("norm"), x);
    let s = s.at("fn.fn");
    let _in = s.enter();
    let h = if glu {
        // The first half is the gate here; in x-transformers it is the second.
        let [gate, value] = linear(s.at("w1"), x, 8 * dim).chunk(-1);
        gelu(gate) * value
    } else {
        gelu(linear(s.at("w1"), x, 4 * dim))
    };
    linear(s.at("w2"), s.dropout(h, p), dim)
}
