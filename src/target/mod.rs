//! What a graph is compiled for, as data: which ops exist, which forms pay, how fast the machine is.
//!
//! Passes, rules and the emitter read a [`Target`]; none of them asks for one by name. A new target is a new
//! constant here and a line in [`Target::ALL`]. Knows no ops and no graphs.

use std::fmt;
use std::ops::RangeInclusive;

/// The `ai.onnx` opsets that every op has a spelling for.
pub const OPSETS: RangeInclusive<i64> = 17..=23;

/// How attention is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionForm {
    /// As products, a scale and a softmax.
    Formula,
    /// As the formula, around `com.microsoft` `FusedMatMul`, which transposes the keys and scales on the way.
    FusedProducts,
    /// As one `ai.onnx` `Attention`, where the opset has it (from 23 on).
    Op,
}

/// The speed of a machine, as far as the cost model needs it. The numbers are orders of magnitude: rules compare
/// two ways to compute one value, so only the balance between arithmetic, memory and dispatch matters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// Floating-point operations a second.
    pub flops: f64,
    /// Bytes a second, to and from memory.
    pub bytes: f64,
    /// Seconds to dispatch one op.
    pub dispatch: f64,
}

/// What a graph is compiled for.
#[derive(Debug)]
pub struct Target {
    /// As users type it, unique.
    pub name: &'static str,
    /// One line for people.
    pub doc: &'static str,
    /// The opset used unless asked otherwise: the lowest that has LayerNormalization, for the widest reach.
    pub default_opset: i64,
    /// Whether `com.microsoft` ops may be used.
    pub contrib: bool,
    /// How attention is written.
    pub attention: AttentionForm,
    /// The machine that rules optimize for.
    pub machine: Machine,
}

/// Two desktop cores with AVX2.
const CPU: Machine = Machine { flops: 5e10, bytes: 1e10, dispatch: 2e-6 };
/// A data-center GPU. Not measured: the files of the two GPU targets use plain forms only.
const GPU: Machine = Machine { flops: 2e13, bytes: 1e12, dispatch: 5e-6 };

impl Target {
    /// Standard ONNX only: any runtime.
    pub const PORTABLE: &'static Self = &Self {
        name: "portable",
        doc: "standard ONNX, for any runtime",
        default_opset: 17,
        contrib: false,
        attention: AttentionForm::Formula,
        machine: CPU,
    };
    /// ONNX Runtime's CPU provider: `com.microsoft` ops where they save work.
    pub const ORT_CPU: &'static Self = &Self {
        name: "ort-cpu",
        doc: "ONNX Runtime on the CPU, com.microsoft ops where they save work",
        contrib: true,
        attention: AttentionForm::FusedProducts,
        ..*Self::PORTABLE
    };
    /// ONNX Runtime's CUDA provider: `com.microsoft` Gelu, attention as plain products.
    pub const ORT_CUDA: &'static Self = &Self {
        name: "ort-cuda",
        doc: "ONNX Runtime on CUDA; plain forms, not tuned yet",
        contrib: true,
        machine: GPU,
        ..*Self::PORTABLE
    };
    /// TensorRT, through ONNX Runtime or on its own: standard ONNX, which TensorRT fuses by itself.
    pub const TENSORRT: &'static Self =
        &Self { name: "tensorrt", doc: "TensorRT; plain forms, not tuned yet", machine: GPU, ..*Self::PORTABLE };

    /// Every target.
    pub const ALL: [&'static Self; 4] = [Self::PORTABLE, Self::ORT_CPU, Self::ORT_CUDA, Self::TENSORRT];

    /// The target of this name.
    ///
    /// # Errors
    /// There is none; the message lists the names.
    pub fn find(name: &str) -> Result<&'static Self, String> {
        let names = || Self::ALL.map(|t| t.name).join(", ");
        let found = Self::ALL.into_iter().find(|t| t.name == name);
        found.ok_or_else(|| format!("there is no target `{name}`; the targets are {}", names()))
    }
}

/// Targets are equal when they are the same entry of [`Target::ALL`].
impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}
impl Eq for Target {}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for t in Target::ALL {
            assert_eq!(Target::find(t.name), Ok(t));
            assert!(OPSETS.contains(&t.default_opset) && !t.doc.is_empty());
        }
        let e = Target::find("ort-gpu").expect_err("there is none");
        assert_eq!(e, "there is no target `ort-gpu`; the targets are portable, ort-cpu, ort-cuda, tensorrt");
    }
}
