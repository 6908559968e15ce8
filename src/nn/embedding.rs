//! What is added to patches before the first block.

use super::prepend_class_token;
use crate::build::{Scope, T};
use crate::ir::Init;

/// The class token before the sequence, then learned positions: `[b, n, d] → [b, n+1, d]`, with a table made for
/// `patches` of them. Keys `cls_token` `[1, 1, d]`, `pos_embedding` `[1, patches+1, d]`.
#[track_caller]
pub fn class_and_positions<'g>(s: Scope<'g>, x: T<'g>, patches: usize) -> T<'g> {
    let d = x.size(-1);
    let x = prepend_class_token(s, x, [1, 1, d]);
    let pos = s.param("pos_embedding", [1, patches + 1, d], Init::NORMAL);
    // An image smaller than the table uses its leading rows, not a 2-D crop.
    x + pos.narrow(1, 0, x.dim(1))
}
