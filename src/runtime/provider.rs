//! Execution providers by the names that users type. How an engine reaches them is not known here.

use std::fmt;
use std::str::FromStr;

/// The hardware backend of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Provider {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU through CUDA and cuDNN.
    Cuda,
    /// An NVIDIA GPU through `TensorRT`.
    TensorRt,
}

impl Provider {
    /// Every provider.
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Cuda, Self::TensorRt];

    /// The name on the command line: `cpu`, `cuda`, `tensorrt`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A provider name that is none of [`Provider::ALL`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown provider `{0}`: expected cpu, cuda or tensorrt")]
pub struct UnknownProvider(pub String);

impl FromStr for Provider {
    type Err = UnknownProvider;

    fn from_str(name: &str) -> Result<Self, UnknownProvider> {
        let wanted = name.trim();
        let known = Self::ALL.into_iter().find(|p| p.name().eq_ignore_ascii_case(wanted));
        known.ok_or_else(|| UnknownProvider(wanted.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_refused() {
        for p in Provider::ALL {
            assert_eq!(p.to_string().parse(), Ok(p));
        }
        assert_eq!(" CUDA".parse(), Ok(Provider::Cuda));
        assert_eq!("rocm".parse::<Provider>(), Err(UnknownProvider("rocm".into())));
    }
}
