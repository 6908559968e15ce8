//! A stack of pre-norm blocks.

use super::{Heads, attention, feed_forward};
use crate::build::{Scope, T};

/// Sizes of a transformer.
#[derive(Clone, Copy, Debug)]
pub struct Transformer {
    /// Number of blocks.
    pub depth: usize,
    /// Its attention layers.
    pub attention: Heads,
    /// Hidden width of its feed-forward layers.
    pub mlp_dim: usize,
}

/// `x = Attention(x) + x; x = FeedForward(x) + x`, `depth` times. Keys `layers.i.{0,1}`.
/// A norm at the end is the caller's to add.
#[track_caller]
pub fn transformer<'g>(s: Scope<'g>, mut x: T<'g>, c: &Transformer) -> T<'g> {
    let _in = s.enter();
    for i in 0..c.depth {
        let layer = s.at("layers").at(i);
        x = attention(layer.at(0), x, c.attention) + x;
        x = feed_forward(layer.at(1), x, c.mlp_dim, c.attention.dropout) + x;
    }
    x
}
