//! The feed-forward half of a transformer block.

use super::{layer_norm, linear};
use crate::build::{Scope, T};
use crate::ops::composite;

/// Exact GELU, `x·Φ(x)` (Hendrycks & Gimpel 2016, arXiv 1606.08415).
#[track_caller]
pub fn gelu(x: T<'_>) -> T<'_> {
    composite::gelu(x)
}

/// Norm, linear to `hidden`, GELU, dropout, linear back, dropout; the residual is the caller's.
/// Keys `net.0` (norm), `net.1`, `net.4`.
#[track_caller]
pub fn feed_forward<'g>(s: Scope<'g>, x: T<'g>, hidden: usize, p: f64) -> T<'g> {
    let dim = x.size(-1);
    let [norm, up, down] = ["net.0", "net.1", "net.4"].map(|name| s.at(name));
    let _in = s.enter();
    let h = s.dropout(gelu(linear(up, layer_norm(norm, x), hidden)), p);
    s.dropout(linear(down, h, dim), p)
}
