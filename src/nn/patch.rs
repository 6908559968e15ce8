//! From an image to a sequence of tokens.

use super::{Release, layer_norm, linear};
use crate::build::{Scope, T};
use crate::ir::{Dim, Init, Shape};

/// Cuts NCHW images in patches: `[b, c, h·p1, w·p2] → [b, h·w, p1·p2·c]`, row-major over the grid,
/// **channel fastest** inside a patch.
#[track_caller]
pub fn patches(img: T<'_>, patch: [usize; 2]) -> T<'_> {
    img.rearrange("b c (h p1) (w p2) -> b (h w) (p1 p2 c)", &[("p1", patch[0].into()), ("p2", patch[1].into())])
}

/// Patches and their linear embedding: `[b, c, H, W] → [b, n, dim]`. Keys: 0.16 `1` (linear; 0 is the
/// rearrangement); 1 `1` (norm), `2` (linear), `3` (norm).
#[track_caller]
pub fn patch_embedding<'g>(s: Scope<'g>, r: Release, img: T<'g>, patch: [usize; 2], dim: usize) -> T<'g> {
    let _in = s.enter();
    let x = patches(img, patch);
    match r {
        Release::V0_16 => linear(s.at(1), x, dim),
        Release::V1 => layer_norm(s.at(3), linear(s.at(2), layer_norm(s.at(1), x), dim)),
    }
}

/// Puts the class token before the sequence: `[b, n, d] → [b, n+1, d]`. Key `cls_token`, of shape
/// `[1, 1, d]` or (release 1 of ViT) `[1, d]`.
#[track_caller]
pub fn prepend_class_token<'g>(s: Scope<'g>, x: T<'g>, shape: impl Into<Shape>) -> T<'g> {
    let cls = s.param("cls_token", shape, Init::NORMAL);
    let to: Vec<Dim> = vec![x.dim(0), 1.into(), x.dim(-1)];
    T::concat(&[cls.expand(to), x], 1)
}
