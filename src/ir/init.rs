//! Initial values of parameters without a checkpoint.

use super::{Literal, Real};

/// The distribution of a parameter's initial values, as in PyTorch's modules.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Init {
    /// Every element equals this number.
    Constant(Real),
    /// Normal with mean 0 and this standard deviation.
    Normal(Real),
    /// Uniform on `[-bound, bound)`.
    Uniform(Real),
    /// A buffer whose contents are computed, not drawn (index tables, frequency scales).
    Value(Literal),
}

impl Init {
    /// All zero.
    pub const ZEROS: Self = Self::Constant(Real(0.0));
    /// All one.
    pub const ONES: Self = Self::Constant(Real(1.0));
    /// `N(0, 1)`: class tokens and position embeddings of vit-pytorch.
    pub const NORMAL: Self = Self::Normal(Real(1.0));

    /// PyTorch's default for `Linear` and `Conv` weights and biases: `U(-1/√fan_in, 1/√fan_in)`.
    pub fn fan_in(fan_in: usize) -> Self {
        Self::Uniform(Real(1.0 / (fan_in.max(1) as f64).sqrt()))
    }
}
