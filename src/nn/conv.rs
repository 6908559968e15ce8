//! `torch.nn.Conv2d` with a square kernel.

use crate::build::{Scope, T};
use crate::ir::Init;
use crate::ops::Conv;

/// A convolution of `[b, in, H, W]` to `[b, out, …]` with bias. Keys `weight` `[out, in/groups, k, k]`, `bias` `[out]`.
#[track_caller]
pub fn conv2d<'g>(s: Scope<'g>, x: T<'g>, out: usize, kernel: usize, op: Conv) -> T<'g> {
    let _in = s.enter();
    let weight = weight(s, x, out, kernel, &op);
    let bias = s.param("bias", [out], Init::fan_in(fan_in(x, kernel, &op)));
    x.conv(op, weight, Some(bias))
}

/// The same without bias. Key `weight`.
#[track_caller]
pub fn conv2d_no_bias<'g>(s: Scope<'g>, x: T<'g>, out: usize, kernel: usize, op: Conv) -> T<'g> {
    let _in = s.enter();
    let weight = weight(s, x, out, kernel, &op);
    x.conv(op, weight, None)
}

/// Each channel on its own, `[b, c, H, W] → [b, c, …]`, with bias. Keys as [`conv2d`].
#[track_caller]
pub fn depthwise<'g>(s: Scope<'g>, x: T<'g>, kernel: usize, op: Conv) -> T<'g> {
    let channels = x.size(1);
    conv2d(s, x, channels, kernel, op.groups(channels))
}

/// The same without bias.
#[track_caller]
pub fn depthwise_no_bias<'g>(s: Scope<'g>, x: T<'g>, kernel: usize, op: Conv) -> T<'g> {
    let channels = x.size(1);
    conv2d_no_bias(s, x, channels, kernel, op.groups(channels))
}

/// A linear map of every pixel, `[b, in, H, W] → [b, out, H, W]`, with bias. Keys as [`conv2d`], `k` 1.
#[track_caller]
pub fn pointwise<'g>(s: Scope<'g>, x: T<'g>, out: usize) -> T<'g> {
    conv2d(s, x, out, 1, Conv::new())
}

/// The same without bias.
#[track_caller]
pub fn pointwise_no_bias<'g>(s: Scope<'g>, x: T<'g>, out: usize) -> T<'g> {
    conv2d_no_bias(s, x, out, 1, Conv::new())
}

/// `[b, c, H, W] → [b, H·W, c]`, row-major.
#[track_caller]
pub fn map_to_tokens(x: T<'_>) -> T<'_> {
    x.rearrange("b c h w -> b (h w) c", &[])
}

fn part(x: T<'_>, op: &Conv) -> usize {
    x.size(1) / op.groups
}

fn fan_in(x: T<'_>, kernel: usize, op: &Conv) -> usize {
    part(x, op) * kernel * kernel
}

#[track_caller]
fn weight<'g>(s: Scope<'g>, x: T<'g>, out: usize, kernel: usize, op: &Conv) -> T<'g> {
    s.param("weight", [out, part(x, op), kernel, kernel], Init::fan_in(fan_in(x, kernel, op)))
}
