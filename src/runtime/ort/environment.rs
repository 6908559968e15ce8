//! Loads ONNX Runtime: one library and one environment for the life of the process.

use super::session::OrtSession;
use super::{Found, Search, Version};
use crate::runtime::{Engine, EngineError, Provider, Session, SessionOptions};
use ::ort::ep::{self, ExecutionProvider as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// ONNX Runtime as an engine.
#[derive(Clone, Debug)]
pub struct OrtEngine {
    environment: ::ort::environment::Environment,
    library: Found,
    providers: Vec<Provider>,
}

/// The library loaded first; `ort` can hold no other.
static LOADED: Mutex<Option<OrtEngine>> = Mutex::new(None);

impl OrtEngine {
    /// Searches for the library and loads it.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] when none can be used, naming everything that was tried.
    pub fn discover(search: &Search) -> Result<Self, EngineError> {
        let found = search.find().map_err(|e| unavailable(e.to_string()))?;
        Self::open(&found)
    }

    /// Loads a library that was found, or returns its engine when it is loaded already.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] when it cannot be loaded or the process holds another one.
    pub fn open(found: &Found) -> Result<Self, EngineError> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = &*loaded {
            return if same_library(&engine.library.path, &found.path) {
                Ok(engine.clone())
            } else {
                Err(unavailable(format!(
                    "{} cannot be used: this process already runs {}",
                    found.path.display(),
                    engine.library.path.display()
                )))
            };
        }
        let failed = |e: &dyn std::fmt::Display| unavailable(format!("{}: {e}", found.path.display()));
        let environment = ::ort::init_from(&found.path)
            .map_err(|e| failed(&e))?
            .with_name("vit-onnx")
            .with_telemetry(false)
            // Failures come back as error values; messages must not reach stderr.
            .with_logger(Arc::new(|_, _, _, _, _| {}))
            .build()
            .map_err(|e| failed(&e))?;
        // The environment asks for messages of every level; nobody reads them.
        environment.set_log_level(::ort::logging::LogLevel::Fatal);
        let engine = Self { environment, library: found.clone(), providers: offered() };
        *loaded = Some(engine.clone());
        Ok(engine)
    }

    /// The library in use.
    pub const fn library(&self) -> &Found {
        &self.library
    }

    /// The version the library states.
    pub const fn version(&self) -> &Version {
        &self.library.version
    }

    /// Providers that the library was built with. This machine may lack the hardware and drivers for them, which shows
    /// when a model is loaded.
    pub fn providers(&self) -> &[Provider] {
        &self.providers
    }

    pub(super) const fn environment(&self) -> &::ort::environment::Environment {
        &self.environment
    }
}

impl Engine for OrtEngine {
    fn name(&self) -> String {
        let providers: Vec<&str> = self.providers.iter().map(|p| p.name()).collect();
        format!("ONNX Runtime {} ({})", self.library.version, providers.join(", "))
    }

    fn load(&self, model: &Path, options: &SessionOptions) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(OrtSession::load(self, model, options)?))
    }
}

fn offered() -> Vec<Provider> {
    let built_in = |p: &Provider| {
        let answer = match p {
            Provider::Cpu => ep::CPU::is_available(),
            Provider::Cuda => ep::CUDA::is_available(),
            Provider::TensorRt => ep::TensorRT::is_available(),
        };
        answer.unwrap_or(false)
    };
    Provider::ALL.into_iter().filter(built_in).collect()
}

fn same_library(a: &Path, b: &Path) -> bool {
    let real = |p: &Path| p.canonicalize().unwrap_or_else(|_| PathBuf::from(p));
    real(a) == real(b)
}

fn unavailable(reason: String) -> EngineError {
    EngineError::Unavailable { engine: "ONNX Runtime".to_owned(), reason }
}
