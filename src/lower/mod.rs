//! From a program to an ONNX model and back: legalise for a target, emit, raise.
//!
//! Raise-then-choose: passes recognise neutral ops (`Attention`, `Gelu`, …); here a [`Target`] decides
//! whether each stays one op, becomes ops of a contributed domain, or is decomposed again. [`emit`]
//! is a single walk over legal ops; [`raise`] reads a file that we or others wrote back into a graph.

mod emit;
mod legalize;
mod raise;
mod target;

pub use emit::emit;
pub use legalize::legalize;
pub use raise::{RaiseError, Raised, raise};
pub(crate) use raise::{scope_of, tensor};
pub use target::Target;

use crate::ops::Program;
use crate::passes::{self, Ctx, Options, Pass, PassError};

/// Why a program cannot be said in ONNX for a target.
#[derive(Debug, thiserror::Error)]
pub enum LowerError {
    /// A pass failed.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// An op has no spelling.
    #[error("{op} in [{scope}]: {reason}")]
    Unspellable {
        /// Its mnemonic.
        op: &'static str,
        /// Where it stands.
        scope: String,
        /// Why.
        reason: String,
    },
    /// The opset is not supported.
    #[error("opset {0} is not supported; 17 to 23 are")]
    Opset(i64),
}

/// The lowest opset from the target's default on that can say the program; the default when none can.
pub fn least_opset(p: &Program, target: Target) -> i64 {
    let default = target.default_opset();
    let supported = (default..).take_while(|&n| crate::onnx::ir_version_for(n).is_some());
    supported.into_iter().find(|&n| legalize(p, target, n).is_ok()).unwrap_or(default)
}

/// The optimised program, decided for a target: every op has a spelling.
pub fn lower(
    p: &Program,
    target: Target,
    opset: i64,
    after: &mut dyn FnMut(&Pass, &Program),
) -> Result<(Program, Ctx), LowerError> {
    if crate::onnx::ir_version_for(opset).is_none() {
        return Err(LowerError::Opset(opset));
    }
    let legal = legalize(p, target, opset)?;
    Ok(passes::run(&legal, passes::CLEANUP, &Options::default(), after)?)
}
