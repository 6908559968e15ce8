//! What a graph is compiled for.

use crate::build::T;
use crate::ops::{Attention, FusedMatMul, Op};
use std::fmt;
use std::str::FromStr;

/// A target: which ops may be used, and how fused ops are best said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Standard ONNX only: any runtime.
    Portable,
    /// ONNX Runtime's CPU provider: `com.microsoft` ops where they save work.
    OrtCpu,
}

impl Target {
    /// Every target.
    pub const ALL: [Self; 2] = [Self::Portable, Self::OrtCpu];

    /// As users type it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::OrtCpu => "ort-cpu",
        }
    }

    /// The opset used unless asked otherwise: the lowest with LayerNormalization, for the widest reach.
    pub const fn default_opset(self) -> i64 {
        17
    }

    /// Whether `com.microsoft` ops may be used.
    pub const fn contrib(self) -> bool {
        matches!(self, Self::OrtCpu)
    }

    /// A better form of an op for this target; `None` to leave it to its spelling or definition.
    pub(super) fn replace<'g>(self, op: &Op, x: &[T<'g>]) -> Option<Vec<T<'g>>> {
        match (self, op) {
            (Self::OrtCpu, Op::Attention(a)) => Some(vec![fused_products(a, x)]),
            // ai.onnx Attention (opset 23) exists, but runtimes differ in how well they run it.
            (Self::Portable, Op::Attention(_)) => op.def().definition(x),
            _ => None,
        }
    }
}

/// Attention around a matrix product that transposes and scales by itself: no copy of the keys, no pass over the scores.
fn fused_products<'g>(a: &Attention, x: &[T<'g>]) -> T<'g> {
    let product = FusedMatMul { trans_a: false, trans_b: true, alpha: a.scale };
    let scores = x[0].builder().apply(product, &[x[0], x[1]]);
    let scores = if a.bias { scores + x[3] } else { scores };
    scores.softmax(-1).matmul(x[2])
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Target {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match Self::ALL.into_iter().find(|t| t.name() == s) {
            Some(t) => Ok(t),
            None if matches!(s, "ort-cuda" | "tensorrt") => Err(format!(
                "target {s} is not available yet; a file built for `portable` runs on every provider of ONNX Runtime"
            )),
            None => Err(format!("there is no target `{s}`; portable and ort-cpu are available")),
        }
    }
}
