//! Runs an ONNX file through an engine: ONNX Runtime where one is found, else the built-in interpreter.
//!
//! Run with `cargo run --example run_file -- vit.onnx`. Every input is filled with zeros, a symbolic
//! size being 1.

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use vit_onnx::ir::Tensor;
use vit_onnx::runtime::{Engine, Interpreter, PortDim, SessionOptions};

#[cfg(feature = "runtime")]
fn engine() -> Box<dyn Engine> {
    use vit_onnx::runtime::ort::{OrtEngine, Search};
    match OrtEngine::discover(&Search::new(None)) {
        Ok(engine) => Box::new(engine),
        Err(_) => Box::new(Interpreter),
    }
}

#[cfg(not(feature = "runtime"))]
fn engine() -> Box<dyn Engine> {
    Box::new(Interpreter)
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).map(PathBuf::from).ok_or("give the path of an ONNX file")?;
    let engine = engine();
    let mut session = engine.load(&path, &SessionOptions::default())?;

    let size = |d: &PortDim| if let PortDim::Known(n) = d { *n } else { 1 };
    let mut inputs = Vec::new();
    for port in session.inputs() {
        let shape: Vec<usize> = port.shape.iter().map(size).collect();
        inputs.push((port.name.clone(), Tensor::zeros(port.dtype, &shape)));
    }

    let mut out = std::io::stdout();
    writeln!(out, "{}", engine.name())?;
    for (name, t) in session.run(&inputs)? {
        let values = t.to_f64_vec();
        let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        writeln!(out, "{name}: {}{:?}, largest value {largest:.4}", t.dtype(), t.shape())?;
    }
    Ok(())
}
