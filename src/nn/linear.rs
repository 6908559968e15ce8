//! `torch.nn.Linear`.

use super::layer_norm;
use crate::build::{Scope, T};
use crate::ir::Init;

/// `y = x Wᵀ + c` over the last axis: `[…, in] → […, out]`. Keys `weight` `[out, in]`, `bias` `[out]`.
#[track_caller]
pub fn linear<'g>(s: Scope<'g>, x: T<'g>, out: usize) -> T<'g> {
    let _in = s.enter();
    let fan_in = x.size(-1);
    linear_no_bias(s, x, out) + s.param("bias", [out], Init::fan_in(fan_in))
}

/// `y = x Wᵀ` over the last axis. Key `weight` `[out, in]`.
#[track_caller]
pub fn linear_no_bias<'g>(s: Scope<'g>, x: T<'g>, out: usize) -> T<'g> {
    let _in = s.enter();
    let fan_in = x.size(-1);
    x.matmul(s.param("weight", [out, fan_in], Init::fan_in(fan_in)).t())
}

/// [`layer_norm`] and [`linear`]: the head of most models. Keys `0` (norm), `1`.
#[track_caller]
pub fn normed_linear<'g>(s: Scope<'g>, x: T<'g>, out: usize) -> T<'g> {
    linear(s.at(1), layer_norm(s.at(0), x), out)
}
