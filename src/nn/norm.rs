//! Normalization.

use crate::build::{Scope, T};
use crate::ir::{DType, Init, Shape};
use crate::ops::{BatchNormalization, composite};

/// PyTorch's default epsilon of `LayerNorm` and `BatchNorm`.
pub(super) const EPS: f64 = 1e-5;

/// `torch.nn.LayerNorm` over the last axis, biased variance, eps 1e-5. Keys `weight`, `bias` `[d]`.
#[track_caller]
pub fn layer_norm<'g>(s: Scope<'g>, x: T<'g>) -> T<'g> {
    let _in = s.enter();
    let d = x.size(-1);
    let (w, b) = (s.param("weight", [d], Init::ONES), s.param("bias", [d], Init::ZEROS));
    composite::layer_norm(x, w, Some(b), x.scalar(EPS))
}

/// `torch.nn.BatchNorm2d` of `[b, c, H, W]`, eps 1e-5, momentum 0.1, undecided between inference and training;
/// `gain` is how the weight starts. Keys `weight`, `bias`, `running_mean`, `running_var` `[c]`, and
/// `num_batches_tracked`, a count that only training reads.
#[track_caller]
pub fn batch_norm2d<'g>(s: Scope<'g>, x: T<'g>, gain: Init) -> T<'g> {
    let _in = s.enter();
    let c = x.size(1);
    let (w, b) = (s.param("weight", [c], gain), s.param("bias", [c], Init::ZEROS));
    let mean = s.buffer("running_mean", DType::F32, [c], Init::ZEROS);
    let var = s.buffer("running_var", DType::F32, [c], Init::ONES);
    s.buffer("num_batches_tracked", DType::I64, Shape::default(), Init::ZEROS);
    let op = BatchNormalization { epsilon: EPS.into(), momentum: 0.1.into(), training: false };
    x.builder().apply(op, &[x, w, b, mean, var])
}

/// Layer norm over the channels of `[b, c, H, W]`. Keys `weight`, `bias` `[c]`.
#[track_caller]
pub fn channel_norm<'g>(s: Scope<'g>, x: T<'g>) -> T<'g> {
    let _in = s.enter();
    let c = x.size(1);
    let (gain, bias) = (s.param("weight", [c], Init::ONES), s.param("bias", [c], Init::ZEROS));
    // Channels last: the form that the runtime's layer norm takes.
    let y = composite::layer_norm(x.rearrange("b c h w -> b h w c", &[]), gain, Some(bias), x.scalar(EPS));
    y.rearrange("b h w c -> b c h w", &[])
}

/// [`channel_norm`] as it was written first: `(x - μ) / (√σ² + ε)·weight + bias`.
#[track_caller]
pub fn deviation_norm<'g>(s: Scope<'g>, x: T<'g>) -> T<'g> {
    let _in = s.enter();
    let c = x.size(1);
    let [gain, bias] =
        [("weight", Init::ONES), ("bias", Init::ZEROS)].map(|(name, init)| s.param(name, [c], init).reshape([c, 1, 1]));
    let centered = x - x.mean_keep(&[1]);
    let deviation = (centered * centered).mean_keep(&[1]).sqrt();
    centered / (deviation + EPS) * gain + bias
}
