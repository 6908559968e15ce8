//! What computing parameters takes: memory far below their own size where rows can be computed by themselves.

use std::collections::BTreeMap;
use std::io::{self, Write};
use vit_onnx::build::Builder;
use vit_onnx::files::Sink;
use vit_onnx::ir::{DType, Init, Stage, Tensor, TensorType};
use vit_onnx::ops::Program;
use vit_onnx::passes;
use vit_onnx::target::Target;
use vit_onnx::weights::{Checkpoint, ImportOptions, Supply, Writer, open};

/// Counts bytes and forgets them.
struct Nowhere(u64);

impl Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
impl Sink for Nowhere {}

/// A scaled and transposed matrix of 16 MiB: two f64 copies of it, as an evaluation op by op holds, take 64.
#[test]
fn elementwise_chains_take_the_memory_of_a_few_blocks() {
    const N: usize = 2048;
    const ALLOWED: u64 = 12 << 20;
    let b = Builder::new("g", Stage::Built);
    let ty = |shape: &[usize]| TensorType::new(DType::F32, shape);
    let x = b.input("x", ty(&[1, N]));
    let (w, s) = (b.param("w", ty(&[N, N]), Init::NORMAL, true), b.param("s", ty(&[N]), Init::ONES, true));
    b.output("y", x.matmul(w.t() * s.exp()));
    let declared = b.finish().expect("well typed");
    let program = Program::new(declared.clone());
    let run = passes::compile(&program, Target::PORTABLE, None, &passes::Options::default(), &mut |_, _| ());
    let program = run.expect("valid passes").program;
    let computed: Vec<&str> = program.weights.outputs().iter().map(|o| o.name.as_str()).collect();
    assert_eq!(computed, ["w.mul"]);

    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("w.safetensors");
    let stored = [("w", vec![N, N]), ("s", vec![N])]
        .map(|(name, shape)| (name.to_owned(), Tensor::new(&shape, vec![0.5f32; shape.iter().product()])));
    Writer::save(&path, &stored, &BTreeMap::new()).expect("saved");
    let source = open(&path, None).expect("opened");
    let checkpoint = Checkpoint::open(source, &declared, &ImportOptions::default(), 0).expect("matched");
    let supply = Supply::new(&program, &checkpoint);
    let mut out = Nowhere(0);
    let peak = allocation_counter::measure(|| supply.write("w.mul", &mut out).expect("computed")).bytes_max;
    assert_eq!(out.0, (N * N * 4) as u64);
    assert!(peak < ALLOWED, "{peak} bytes were held, more than {ALLOWED}");
}
