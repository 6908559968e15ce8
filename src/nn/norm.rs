//! Normalisation.

use crate::build::{Scope, T};
use crate::ir::Init;
use crate::ops::composite;

/// PyTorch's default epsilon of `LayerNorm` and `BatchNorm`.
pub(super) const EPS: f64 = 1e-5;

/// `torch.nn.LayerNorm` over the last axis, biased variance, eps 1e-5. Keys `weight`, `bias` `[d]`.
#[track_caller]
pub fn layer_norm<'g>(s: Scope<'g>, x: T<'g>) -> T<'g> {
    let _in = s.enter();
    let d = x.size(-1);
    let (w, b) = (s.param("weight", [d], Init::ONES), s.param("bias", [d], Init::ZEROS));
    composite::layer_norm(x, w, b, x.scalar(EPS))
}

/// The norm of current x-transformers: [`layer_norm`] without a bias, its scale counted from one. Key `gamma` `[d]`.
#[track_caller]
pub fn unit_offset_norm<'g>(s: Scope<'g>, x: T<'g>) -> T<'g> {
    let _in = s.enter();
    let gamma = s.param("gamma", [x.size(-1)], Init::ZEROS);
    composite::layer_norm(x, gamma + 1.0, gamma.zeros_like(), x.scalar(EPS))
}
