//! Which engine runs a model, as the command line asks.

use super::args::{EngineArgs, EngineChoice};
use super::{Exit, Failure, files, output};
use crate::runtime::{Engine, Interpreter, Provider, Session, SessionOptions};
use std::path::Path;

/// Loads a model with the engine asked for. Gives the engine's name too.
pub(super) fn load(model: &Path, a: &EngineArgs) -> Result<(String, Box<dyn Session>), Failure> {
    files::model(model)?;
    let engine = choose(a)?;
    let options = SessionOptions { threads: a.threads, providers: a.provider.clone(), ..SessionOptions::default() };
    let session = engine.load(model, &options).map_err(Failure::from)?;
    Ok((engine.name(), session))
}

/// The engine: a library that was named must work, one that was looked for may be absent.
pub(super) fn choose(a: &EngineArgs) -> Result<Box<dyn Engine>, Failure> {
    match a.engine {
        EngineChoice::Interpreter => Ok(Box::new(Interpreter)),
        EngineChoice::Ort => ort(a),
        EngineChoice::Auto => {
            let named = a.ort_lib.is_some() || std::env::var_os("ORT_DYLIB_PATH").is_some_and(|v| !v.is_empty());
            let needed = named || a.provider.iter().any(|p| *p != Provider::Cpu);
            match ort(a) {
                Err(f) if needed || f.exit != Exit::Unavailable => Err(f),
                Err(_) => {
                    output::note(
                        "no ONNX Runtime was found (see `vit-onnx doctor`): the built-in interpreter runs the model",
                    );
                    Ok(Box::new(Interpreter))
                }
                found => found,
            }
        }
    }
}

#[cfg(feature = "runtime")]
fn ort(a: &EngineArgs) -> Result<Box<dyn Engine>, Failure> {
    use crate::runtime::ort::{OrtEngine, Search};
    Ok(Box::new(OrtEngine::discover(&Search::new(a.ort_lib.clone()))?))
}

#[cfg(not(feature = "runtime"))]
fn ort(_: &EngineArgs) -> Result<Box<dyn Engine>, Failure> {
    Err(Failure::new(Exit::Unavailable, "this program was built without ONNX Runtime; use --engine interpreter"))
}
