//! The weight program on checkpoints that count what is read of them.

use super::super::source::{Entry, Place, Source, Stored};
use super::super::{ImportOptions, Safetensors, Writer};
use super::*;
use crate::build::{Builder, T};
use crate::eval;
use crate::ir::{DType, Stage};
use crate::ops::{Concat, Graph};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A safetensors file that counts the bytes read of it, or one that gives tensors whole only.
struct Counted {
    file: Safetensors,
    read: Arc<AtomicU64>,
    parts: bool,
}

impl Source for Counted {
    fn origin(&self) -> &str {
        self.file.origin()
    }
    fn entries(&self) -> &[Entry] {
        self.file.entries()
    }
    fn bytes(&self, index: usize) -> Result<Bytes, WeightError> {
        let bytes = self.file.bytes(index)?;
        self.read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }
    fn place(&self, index: usize) -> Option<Place<'_>> {
        self.file.place(index).filter(|_| self.parts)
    }
    fn part(&self, index: usize, range: Range<u64>) -> Result<Bytes, WeightError> {
        if !self.parts {
            return Ok(self.bytes(index)?.slice(range.start as usize..range.end as usize));
        }
        self.read.fetch_add(range.end - range.start, Ordering::Relaxed);
        self.file.part(index, range)
    }
}

/// A vector that counts the bytes that came from a file without being read.
#[derive(Default)]
struct Copied(Vec<u8>, u64);

impl std::io::Write for Copied {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
impl Sink for Copied {
    fn copy(&mut self, file: &mut std::fs::File, range: Range<u64>) -> std::io::Result<()> {
        self.1 += range.end - range.start;
        self.0.copy(file, range)
    }
}

fn random(seed: u32, shape: &[usize], dtype: DType) -> Tensor {
    let mut x = seed;
    let mut next = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(x >> 8) / f64::from(1 << 24) + 0.25
    };
    Tensor::new(shape, (0..shape.iter().product()).map(|_| next()).collect::<Vec<f64>>()).cast(dtype)
}

/// A weight program over f32 parameters, stored in a file, and what was read of it.
struct Case {
    program: Program,
    checkpoint: Checkpoint,
    params: BTreeMap<String, Tensor>,
    read: Arc<AtomicU64>,
    _dir: tempfile::TempDir,
}

impl Case {
    fn new(parts: bool, params: &[(&str, &[usize])], weights: impl for<'g> FnOnce(&[T<'g>]) -> Vec<T<'g>>) -> Self {
        let b = Builder::new("g.weights", Stage::Legal);
        let ty = |shape: &[usize]| TensorType::new(DType::F32, shape);
        let all: Vec<T<'_>> = params.iter().map(|(path, s)| b.param(path, ty(s), Init::ONES, true)).collect();
        weights(&all).into_iter().enumerate().for_each(|(i, t)| b.output(&format!("out.{i}"), t));
        let weights = b.finish().unwrap_or_else(|e| panic!("{e}"));
        let declared = Builder::new("declared", Stage::Built);
        for (path, s) in params {
            declared.param(path, ty(s), Init::ONES, true);
        }
        let run = Builder::new("g", Stage::Legal);
        for o in weights.outputs() {
            run.output(&o.name, run.param(&o.name, weights.ty(o.value).clone(), Init::Computed, false));
        }
        let program = Program { graph: run.finish().expect("well typed").into(), weights: weights.into() };
        program.verify().expect("valid");

        let stored: Vec<(String, Tensor)> =
            (params.iter().zip(1..)).map(|((path, s), i)| ((*path).to_owned(), random(i, s, DType::F32))).collect();
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("w.safetensors");
        Writer::save(&path, &stored, &BTreeMap::new()).expect("saved");
        let read = Arc::<AtomicU64>::default();
        let source = Counted { file: Safetensors::open(&path).expect("opened"), read: read.clone(), parts };
        let declared = declared.finish().expect("well typed");
        let checkpoint = Checkpoint::open(Box::new(source), &declared, &ImportOptions::default(), 0).expect("matched");
        Self { program, checkpoint, params: stored.into_iter().collect(), read, _dir: dir }
    }

    fn supply(&self) -> Supply<'_> {
        Supply::new(&self.program, &self.checkpoint)
    }

    fn read(&self) -> u64 {
        self.read.swap(0, Ordering::Relaxed)
    }

    /// What the weight program gives when the same graph is built and run in f64.
    fn exact(&self) -> Vec<Tensor> {
        let wide = self.program.weights.to_string().replace("f32", "f64");
        let g: Graph = crate::text::parse(&wide).expect("the same graph");
        let mut param = |path: &str, _: &TensorType| Ok(self.params[path].cast(DType::F64));
        let out = eval::run(&g, &mut param, &[]).expect("it runs");
        out.into_iter().map(|(_, t)| t).collect()
    }

    /// Every output is the f64 result rounded once, in whatever order and however often it is asked for.
    fn check(&self) {
        let exact: Vec<Tensor> = self.exact().iter().map(|t| t.cast(DType::F32)).collect();
        let supply = self.supply();
        let forth = 0..exact.len();
        for i in forth.clone().chain(forth.rev()) {
            let found = supply.tensor(&format!("out.{i}")).unwrap_or_else(|e| panic!("{e}"));
            assert!(found == exact[i], "out.{i}\n{}", self.program.weights);
        }
    }
}

fn all_kinds<'g>(p: &[T<'g>]) -> Vec<T<'g>> {
    let [w, v, s] = p else { unreachable!("three parameters") };
    let b = w.builder();
    let shared = (*s * *s + 1.0).sqrt();
    let packed = b.apply(Concat { axis: 0 }, &[v.narrow(0, 3, 4), w.narrow(0, 0, 5)]);
    vec![
        w.t(),
        w.narrow(0, 2, 9).t(),
        (w.t() * 3.0).exp(),
        packed,
        packed.t() * 0.75,
        *w * shared + *v,
        (*v - w.mean(&[0])).matmul(w.t()),
        shared.reshape([6, 50]),
        shared,
        w.sum(&[0, 1]),
        w.narrow(1, 3, 7),
        (*w * *v).t() / shared.reshape([300, 1]),
        *s,
    ]
}

/// Large enough for several blocks, and for values whose parts cannot be had alone.
#[test]
fn every_value_is_the_f64_value_rounded_once() {
    for parts in [true, false] {
        Case::new(parts, &[("w", &[1000, 300]), ("v", &[1000, 300]), ("s", &[300])], all_kinds).check();
    }
}

/// `w·g/√(var + ε)` and `b − mean·g/√(var + ε)`, as batch norm folds into a convolution.
#[test]
fn batch_norm_is_folded_with_one_rounding() {
    let c: &[usize] = &[64];
    let case = Case::new(true, &[("w", &[64, 8, 3, 3]), ("g", c), ("b", c), ("mean", c), ("var", c)], |p| {
        let [w, g, b, mean, var] = p else { unreachable!("five parameters") };
        let s = *g / (*var + 1e-5).sqrt();
        vec![*w * s.reshape([64, 1, 1, 1]), *b - *mean * s]
    });
    case.check();
    // In f32 all the way, some of them would be others.
    let mut param = |path: &str, _: &TensorType| Ok(case.params[path].clone());
    let single = eval::run(&case.program.weights, &mut param, &[]).expect("it runs");
    let exact = case.exact();
    assert!(single.iter().zip(&exact).all(|((_, a), b)| *a != b.cast(DType::F32)));
    // The scale, five ops with its constant, is computed once, and so is everything else.
    let supply = case.supply();
    let (ops, _) = (case.program.weights.nodes().len(), case.read());
    (0..2).for_each(|i| _ = supply.tensor(&format!("out.{i}")).expect("computed"));
    assert_eq!((supply.evaluations(), case.read()), (ops, (64 * 72 + 4 * 64) * 4));
}

/// Values, scale and zero point of a quantized matrix: what they share is read and computed once.
#[test]
fn what_outputs_share_is_computed_once() {
    let case = Case::new(true, &[("w", &[700, 500])], |p| {
        let w = p[0];
        let scale = w.abs().max_keep(&[0, 1]) / 127.0;
        vec![w / scale, scale, scale * 0.0]
    });
    let supply = case.supply();
    (0..3).for_each(|i| _ = supply.tensor(&format!("out.{i}")).expect("computed"));
    assert_eq!(supply.evaluations(), case.program.weights.nodes().len());
    // Once for its largest element, once in blocks for the values.
    assert_eq!(case.read(), 2 * 700 * 500 * 4);
    case.check();
}

#[test]
fn parts_are_read_or_copied_by_themselves() {
    let case = Case::new(true, &[("qkv", &[30, 10])], |p| {
        let qkv = p[0];
        let b = qkv.builder();
        let join = b.apply(Concat { axis: 0 }, &[qkv.narrow(0, 20, 10), qkv.narrow(0, 0, 10)]);
        vec![qkv.narrow(0, 10, 10), join, qkv.narrow(0, 10, 10).t(), qkv.narrow(0, 0, 10) * 2.0]
    });
    case.check();
    let supply = case.supply();
    case.read();
    for (i, copied, read) in [(0, 400, 0), (1, 800, 0), (2, 0, 400), (3, 0, 400)] {
        let mut out = Copied::default();
        supply.write(&format!("out.{i}"), &mut out).expect("supplied");
        assert_eq!((out.1, case.read()), (copied, read), "out.{i}");
    }
    assert_eq!(supply.evaluations(), 2, "one product and its constant");
}

#[test]
fn truth_values_are_made_clean_and_conversions_are_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("w.safetensors");
    let json = r#"{"b":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]},"h":{"dtype":"F16","shape":[2],"data_offsets":[3,7]}}"#;
    let file = [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &[0, 7, 1, 0, 0x3c, 0, 0xc0]].concat();
    std::fs::write(&path, file).expect("written");
    let b = Builder::new("g", Stage::Legal);
    b.output("b", b.param("b", TensorType::new(DType::Bool, [3]), Init::ZEROS, false));
    b.output("h", b.param("h", TensorType::new(DType::F32, [2]), Init::ZEROS, true));
    let program = Program::new(b.finish().expect("well typed"));
    let source = Box::new(Safetensors::open(&path).expect("opened"));
    assert_eq!(source.entries()[1].stored, Stored::Known(DType::F16));
    let checkpoint = Checkpoint::open(source, &program.graph, &ImportOptions::default(), 0).expect("matched");
    let supply = Supply::new(&program, &checkpoint);
    assert_eq!(supply.tensor("b").expect("read"), Tensor::new(&[3], vec![false, true, true]));
    assert_eq!(supply.tensor("h").expect("read"), Tensor::new(&[2], vec![1.0f32, -2.0]));
}

#[test]
fn failures_say_which_parameter_and_why() {
    let case = Case::new(true, &[("w", &[4, 4])], |p| {
        let w = p[0];
        let b = w.builder();
        let at = b.constant(Tensor::new(&[1], vec![9i64]));
        vec![b.apply(crate::ops::Gather { axis: 0 }, &[w, at]), w.narrow(0, 1, 2)]
    });
    let supply = case.supply();
    let e = supply.tensor("out.0").expect_err("out of range").to_string();
    assert!(e.starts_with("computing `out.0`: gather in []: "), "{e}");
    let e = supply.tensor("other").expect_err("unknown").to_string();
    assert_eq!(e, "computing `other`: it was never declared");
    // The file shrinks while it is open.
    let path = case.checkpoint.matching().expect("a file").report.origin.clone();
    std::fs::OpenOptions::new().write(true).open(&path).and_then(|f| f.set_len(40)).expect("cut");
    let e = supply.write("out.1", &mut Copied::default()).expect_err("cut").to_string();
    assert!(e.contains("tensor `w` of ") && e.ends_with("was it changed since it was opened?"), "{e}");
}

/// Parameters that share a computed value stand one after the other; the others stay in the order of need.
#[test]
fn parameters_that_share_a_value_are_neighbors() {
    let b = Builder::new("g.weights", Stage::Legal);
    let ty = TensorType::new(DType::F32, [2]);
    let [v, w] = ["v", "w"].map(|path| b.param(path, ty.clone(), Init::ONES, true));
    let (ev, ew) = (v.exp(), w.exp());
    for (name, t) in [("a", -ev), ("b", -ew), ("c", ev * 2.0), ("d", ew * 2.0), ("e", v * 2.0)] {
        b.output(name, t);
    }
    let weights = b.finish().expect("well typed");
    let run = Builder::new("g", Stage::Legal);
    for name in ["a", "b", "stored", "c", "d", "e"] {
        let init = if name == "stored" { Init::ONES } else { Init::Computed };
        run.output(name, run.param(name, ty.clone(), init, false));
    }
    let program = Program { graph: run.finish().expect("well typed").into(), weights: weights.into() };
    program.verify().expect("valid");
    let mut order: Vec<(usize, &str)> = order(&program).into_iter().map(|(path, i)| (i, path)).collect();
    order.sort_unstable();
    assert_eq!(order.into_iter().map(|(_, path)| path).collect::<Vec<_>>(), ["a", "c", "b", "d", "stored", "e"]);
}
