//! The tokens and positions that patches get before the first block.

use super::{Fit, positions, prepend_class_token};
use crate::build::{Scope, T};
use crate::ir::{Dim, Init};

/// The class token before the sequence, then learned positions: `[b, n, d] → [b, n+1, d]`, with a table made for a
/// grid of `trained` rows and columns where the image has `grid`.
/// Keys `cls_token` `[1, 1, d]`, `pos_embedding` `[1, rows·columns + 1, d]`.
#[track_caller]
pub fn class_and_positions<'g>(s: Scope<'g>, x: T<'g>, trained: [usize; 2], grid: &[Dim; 2], fit: Fit) -> T<'g> {
    let d = x.size(-1);
    let x = prepend_class_token(s, x);
    let pos = s.param("pos_embedding", [1, trained[0] * trained[1] + 1, d], Init::NORMAL);
    x + positions(pos, x, 1, trained, grid, fit)
}
