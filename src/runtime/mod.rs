//! Engines: what loads a model file and runs tensors through it.
//!
//! The traits are neutral: ONNX Runtime (feature `runtime`) and the built-in interpreter both
//! implement them, and no caller can tell which it holds other than by its name. A provider that was
//! asked for is used or the load fails; nothing here falls back silently.
//!
//! Knows neither variants nor passes: a model is a path, an input is a named [`Tensor`].

mod error;
mod interpreter;
#[cfg(feature = "runtime")]
pub mod ort;
mod port;
mod provider;

pub use error::{EngineError, ErrorKind, InputProblem};
pub use interpreter::Interpreter;
pub use port::{Port, PortDim, check_inputs};
pub use provider::{Provider, UnknownProvider};

use crate::ir::Tensor;
use std::path::{Path, PathBuf};

/// How a session is set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionOptions {
    /// Threads used inside one operator; `None` leaves the choice to the engine.
    pub threads: Option<usize>,
    /// Providers in order of preference; empty means the CPU. Operators a provider cannot run are
    /// run by the next one, the CPU being the implied last.
    pub providers: Vec<Provider>,
    /// Record every node that runs, with its time, in a JSON file whose path starts with this one; see
    /// [`Session::end_profile`].
    pub profile: Option<PathBuf>,
    /// Threads rest as soon as a run ends, instead of waiting for the next one actively for a while: other sessions
    /// would be slowed down by them.
    pub shares_processors: bool,
}

/// Something that can run ONNX models.
pub trait Engine: Send + Sync {
    /// Name, version and the providers it offers, for people: `ONNX Runtime 1.31.1 (cpu, cuda)`.
    fn name(&self) -> String;

    /// Reads a model file and prepares it to run.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when a provider of `options` cannot be had,
    /// [`ErrorKind::BadFile`] when the file is not a model this engine can run.
    fn load(&self, model: &Path, options: &SessionOptions) -> Result<Box<dyn Session>, EngineError>;
}

/// A loaded model.
pub trait Session: Send {
    /// What the model takes, in the order of the file.
    fn inputs(&self) -> &[Port];

    /// What the model gives, in the order of the file.
    fn outputs(&self) -> &[Port];

    /// Runs the model once. `inputs` may come in any order; outputs come in the order of
    /// [`Session::outputs`].
    ///
    /// # Errors
    /// [`EngineError::Inputs`] naming every missing, unknown, repeated or wrongly shaped input;
    /// [`EngineError::Run`] when the engine fails while computing.
    fn run(&mut self, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, EngineError>;

    /// Ends the profile that [`SessionOptions::profile`] asked for and returns the file it was written to, which is
    /// complete only now. Returns `None` when no profile was asked for or it has ended.
    ///
    /// # Errors
    /// [`EngineError::Run`] when the engine cannot write the file.
    fn end_profile(&mut self) -> Result<Option<PathBuf>, EngineError>;
}
