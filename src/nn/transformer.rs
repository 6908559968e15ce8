//! A stack of pre-norm blocks.

use super::{Attention, Release, attention, feed_forward};
use crate::build::{Scope, T};

/// Sizes of a transformer.
#[derive(Clone, Copy, Debug)]
pub struct Transformer {
    /// Number of blocks.
    pub depth: usize,
    /// Its attention layers.
    pub attention: Attention,
    /// Hidden width of its feed-forward layers.
    pub mlp_dim: usize,
}

/// `x = Attention(x) + x; x = FeedForward(x) + x`, `depth` times. Keys `layers.i.{0,1}`.
/// Release 1 ends the stack with a norm of its own (key `norm`), which is the caller's to add where it exists.
#[track_caller]
pub fn transformer<'g>(s: Scope<'g>, r: Release, mut x: T<'g>, c: &Transformer) -> T<'g> {
    let _in = s.enter();
    for i in 0..c.depth {
        let layer = s.at("layers").at(i);
        x = attention(layer.at(0), r, x, c.attention) + x;
        x = feed_forward(layer.at(1), r, x, c.mlp_dim, c.attention.dropout) + x;
    }
    x
}
