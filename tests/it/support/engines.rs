//! ONNX Runtime for the tests: found where users have it, else fetched as `vit-onnx runtime install` does.

use std::sync::OnceLock;
use vit_onnx::runtime::ort::{OrtEngine, Search, install};

/// The engine, the same for the whole test process.
///
/// # Panics
/// When there is no library and none can be fetched: a test that silently compared nothing would be worse.
pub(crate) fn ort() -> OrtEngine {
    static ENGINE: OnceLock<OrtEngine> = OnceLock::new();
    ENGINE
        .get_or_init(|| {
            if let Ok(e) = OrtEngine::discover(&Search::new(None)) {
                return e;
            }
            eprintln!("no ONNX Runtime on this machine: fetching one");
            install(&mut |_| ()).unwrap_or_else(|e| panic!("tests need ONNX Runtime, and it cannot be fetched: {e}"));
            OrtEngine::discover(&Search::new(None)).unwrap_or_else(|e| panic!("{e}"))
        })
        .clone()
}
