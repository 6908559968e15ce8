//! Engines, which load model files and run tensors through them.
//!
//! The traits are neutral: ONNX Runtime (feature `runtime`) and the built-in interpreter both
//! implement them, and callers can tell them apart by name only. A provider that was asked for is used
//! or loading fails; nothing here falls back silently.
//!
//! This room knows neither variants nor passes: a model is a path, an input is a named [`Tensor`].

mod bound;
mod error;
mod interpreter;
#[cfg(feature = "runtime")]
pub mod ort;
mod placement;
mod port;
mod provider;

pub use bound::{BindProblem, Bound};
pub use error::{EngineError, ErrorKind, InputProblem};
pub use interpreter::Interpreter;
pub use placement::{Placed, Placement};
pub use port::{Port, PortDim, check_inputs};
pub use provider::{Provider, UnknownProvider};

use crate::ir::Tensor;
use std::path::{Path, PathBuf};

/// How a session is set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionOptions {
    /// Threads used inside one operator; `None` leaves the choice to the engine.
    pub threads: Option<usize>,
    /// Providers in order of preference; empty means the CPU. Nodes that a provider cannot run are run by the next one.
    pub providers: Vec<Provider>,
    /// Let the CPU run nodes that none of `providers` can run. They are refused otherwise, unless `providers` names the
    /// CPU too.
    pub allow_cpu_nodes: bool,
    /// Record every node that runs, with its time, in a JSON file whose path starts with this one; see
    /// [`Session::end_profile`].
    pub profile: Option<PathBuf>,
    /// Threads rest as soon as a run ends, instead of waiting for the next one actively for a while: other sessions
    /// would be slowed down by them.
    pub shares_processors: bool,
}

/// Runs ONNX models.
pub trait Engine: Send + Sync {
    /// Name, version and the providers it offers, for people: `ONNX Runtime 1.31.1 (cpu, cuda)`.
    fn name(&self) -> String;

    /// Reads a model file and prepares it to run.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when a provider of `options` is not available or cannot run every node,
    /// [`ErrorKind::BadFile`] when the file is not a model this engine can run.
    fn load(&self, model: &Path, options: &SessionOptions) -> Result<Box<dyn Session>, EngineError>;
}

/// A loaded model.
pub trait Session: Send {
    /// The inputs of the model, in the order of the file.
    fn inputs(&self) -> &[Port];

    /// The outputs of the model, in the order of the file.
    fn outputs(&self) -> &[Port];

    /// Where the nodes are placed; `None` when [`SessionOptions::providers`] named no provider or the engine has none.
    fn placement(&self) -> Option<&Placement> {
        None
    }

    /// Runs the model once. `inputs` may come in any order; outputs come in the order of
    /// [`Session::outputs`].
    ///
    /// # Errors
    /// [`EngineError::Inputs`] naming every missing, unknown, repeated or wrongly shaped input;
    /// [`EngineError::Run`] when the engine fails while computing.
    fn run(&mut self, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, EngineError>;

    /// Keeps inputs in the engine: at each step of the [`Bound`] session, the output of a pair `(input, output)` becomes
    /// the input of the next step, without a copy through the caller. `start` holds the first value of each carried
    /// input, in any order.
    ///
    /// # Errors
    /// [`EngineError::Bind`] naming every unknown or repeated name, every pair of different type or shape, and every
    /// start value that is missing or does not fit; [`EngineError::Run`] when the engine cannot hold the values.
    fn bind(self: Box<Self>, carried: &[(&str, &str)], start: &[(String, Tensor)]) -> Result<Bound, EngineError>;

    /// Ends the profile that [`SessionOptions::profile`] asked for and returns the file it was written to, which is
    /// complete only now. Returns `None` when no profile was asked for or it has ended.
    ///
    /// # Errors
    /// [`EngineError::Run`] when the engine cannot write the file.
    fn end_profile(&mut self) -> Result<Option<PathBuf>, EngineError> {
        Ok(None)
    }
}
