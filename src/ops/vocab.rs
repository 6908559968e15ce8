//! What formulas of composites are written in.
//!
//! A formula is a generic function over [`Vocab`]. Run on [`T`] it emits nodes; run on patterns it
//! is the left-hand side of a fusion rule. So a fused op and its rule cannot drift apart. A formula
//! never asks for types or shapes: patterns have none.

use crate::build::T;
use std::ops::{Add, Div, Mul, Sub};

/// Things that formulas are made of: values being computed, or patterns.
pub trait Vocab:
    Clone
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Add<f64, Output = Self>
    + Mul<f64, Output = Self>
{
    /// The error function.
    fn erf(self) -> Self;
    /// √x
    fn sqrt(self) -> Self;
    /// Limits to `[lo, hi]`.
    fn clamp(self, lo: f64, hi: f64) -> Self;
    /// The matrix product over the last two axes.
    fn matmul(self, rhs: Self) -> Self;
    /// Swaps the last two axes.
    fn t(self) -> Self;
    /// Softmax over the last axis.
    fn softmax_last(self) -> Self;
    /// The mean over the last axis, which stays with size 1.
    fn mean_last(self) -> Self;
}

impl Vocab for T<'_> {
    #[track_caller]
    fn erf(self) -> Self {
        T::erf(self)
    }
    #[track_caller]
    fn sqrt(self) -> Self {
        T::sqrt(self)
    }
    #[track_caller]
    fn clamp(self, lo: f64, hi: f64) -> Self {
        T::clamp(self, lo, hi)
    }
    #[track_caller]
    fn matmul(self, rhs: Self) -> Self {
        T::matmul(self, rhs)
    }
    #[track_caller]
    fn t(self) -> Self {
        T::t(self)
    }
    #[track_caller]
    fn softmax_last(self) -> Self {
        self.softmax(-1)
    }
    #[track_caller]
    fn mean_last(self) -> Self {
        self.mean_keep(&[-1])
    }
}
