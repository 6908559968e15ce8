//! Between a legal program and an ONNX model: [`emit`] is a single walk over legal ops, [`raise`] reads a file that we
//! or others wrote back into a graph. Passes have decided for the target before.

mod emit;
mod raise;

pub use emit::{EmitError, emit};
#[cfg(feature = "cli")]
pub(crate) use raise::scope_of;
pub(crate) use raise::tensor;
pub use raise::{RaiseError, Raised, raise};

#[cfg(test)]
mod tests {
    /// The opsets that ops have spellings for are those that files can declare.
    #[test]
    fn spellings_and_files_know_the_same_opsets() {
        assert_eq!(crate::target::OPSETS, crate::onnx::OPSETS);
    }
}
