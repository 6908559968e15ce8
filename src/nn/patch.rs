//! From an image to a sequence of tokens.

use super::{layer_norm, linear};
use crate::build::{Scope, T};
use crate::ir::{Dim, Init};

/// Cuts NCHW images into patches: `[b, c, h·p1, w·p2] → [b, h·w, p1·p2·c]`, row-major over the grid,
/// **channel fastest** inside a patch.
#[track_caller]
pub fn patches<'g>(s: Scope<'g>, img: T<'g>, patch: [usize; 2]) -> T<'g> {
    let _in = s.enter();
    img.rearrange("b c (h p1) (w p2) -> b (h w) (p1 p2 c)", &[("p1", patch[0].into()), ("p2", patch[1].into())])
}

/// The linear embedding of patches, between norms where there are `norms`: `[b, n, p1·p2·c] → [b, n, dim]`.
/// Keys `1` (norm), `2` (linear), `3` (norm); 0 cuts the patches.
#[track_caller]
pub fn patch_embedding<'g>(s: Scope<'g>, patches: T<'g>, dim: usize, norms: bool) -> T<'g> {
    let _in = s.enter();
    if norms {
        layer_norm(s.at(3), linear(s.at(2), layer_norm(s.at(1), patches), dim))
    } else {
        linear(s.at(2), patches, dim)
    }
}

/// Puts the class token before the sequence: `[b, n, d] → [b, n+1, d]`. Key `cls_token` `[1, 1, d]`.
#[track_caller]
pub fn prepend_class_token<'g>(s: Scope<'g>, x: T<'g>) -> T<'g> {
    let cls = s.param("cls_token", [1.into(), 1.into(), x.dim(-1)], Init::NORMAL);
    let to: Vec<Dim> = vec![x.dim(0), 1.into(), x.dim(-1)];
    T::concat(&[cls.expand(to), x], 1)
}
