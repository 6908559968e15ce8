//! The feed-forward half of a transformer block.

use super::{Release, layer_norm, linear};
use crate::build::{Scope, T};
use crate::ops::composite;

/// Exact GELU, `x·Φ(x)` (Hendrycks & Gimpel 2016, arXiv 1606.08415).
#[track_caller]
pub fn gelu(x: T<'_>) -> T<'_> {
    composite::gelu(x)
}

/// Norm, linear to `hidden`, GELU, dropout, linear back, dropout; the residual is the caller's.
/// Keys: 0.16 `norm`, `fn.net.0`, `fn.net.3`; 1 `net.0` (norm), `net.1`, `net.4`.
#[track_caller]
pub fn feed_forward<'g>(s: Scope<'g>, r: Release, x: T<'g>, hidden: usize, p: f64) -> T<'g> {
    let dim = x.size(-1);
    let (norm, up, down) = match r {
        Release::V0_16 => (s.at("norm"), s.at("fn.net.0"), s.at("fn.net.3")),
        Release::V1 => (s.at("net.0"), s.at("net.1"), s.at("net.4")),
    };
    let _in = s.enter();
    let h = s.dropout(gelu(linear(up, layer_norm(norm, x), hidden)), p);
    s.dropout(linear(down, h, dim), p)
}
