//! What a run of an op costs: arithmetic and memory traffic.

use crate::ir::{Bindings, Dim, TensorType};
use std::ops::Add;

/// The cost of an op, as polynomials over the symbols of its operand types.
///
/// An op reads each operand once and writes each result once, unless its `cost` says why not: a gather reads only the
/// entries it copies, a reshape moves nothing. That a runtime may read an operand more than once is not counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Arithmetic operations, a multiply-add counting as two. Moving, selecting and converting elements costs none.
    pub flops: Dim,
    /// Bytes read.
    pub read: Dim,
    /// Bytes written.
    pub written: Dim,
}

impl Cost {
    /// Nothing: the elements stay where they are.
    pub const FREE: Self = Self { flops: Dim::known(0), read: Dim::known(0), written: Dim::known(0) };

    /// This much arithmetic; every operand is read and every result is written.
    pub fn new(flops: Dim, x: &[&TensorType], y: &[&TensorType]) -> Self {
        Self { flops, read: bytes(x), written: bytes(y) }
    }

    /// `n` operations for each element of `y[0]`.
    pub(super) fn each(n: usize, x: &[&TensorType], y: &[&TensorType]) -> Self {
        Self::new(y[0].shape.elements() * n, x, y)
    }

    /// Elements are moved without arithmetic.
    pub(super) fn moves(x: &[&TensorType], y: &[&TensorType]) -> Self {
        Self::new(Dim::known(0), x, y)
    }

    /// Elements are moved without arithmetic; of the first operand only those that become elements of the result are
    /// read.
    pub(super) fn picks(x: &[&TensorType], y: &[&TensorType]) -> Self {
        Self { flops: Dim::known(0), read: bytes(y) + bytes(&x[1..]), written: bytes(y) }
    }

    /// The bytes of the operands that are `known` before the run: weights and constants.
    pub fn weights(x: &[&TensorType], known: impl Fn(usize) -> bool) -> Dim {
        x.iter().enumerate().filter(|&(i, _)| known(i)).fold(Dim::known(0), |sum, (_, t)| sum + t.bytes())
    }

    /// Operations, bytes read and bytes written under `env`; `None` when a symbol is unbound or a number does not fit.
    pub fn eval(&self, env: &Bindings) -> Option<[u64; 3]> {
        let at = |d: &Dim| u64::try_from(d.eval(env)?).ok();
        Some([at(&self.flops)?, at(&self.read)?, at(&self.written)?])
    }
}

impl Add for Cost {
    type Output = Self;
    fn add(self, rhs: Self) -> Self {
        Self { flops: self.flops + rhs.flops, read: self.read + rhs.read, written: self.written + rhs.written }
    }
}

fn bytes(t: &[&TensorType]) -> Dim {
    Cost::weights(t, |_| true)
}
