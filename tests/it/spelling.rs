//! Every op's ONNX spelling, executed: ONNX Runtime and the interpreter that reads the file back agree
//! with the value that the op table gives.

use crate::support::engines::ort;
use crate::support::samples::operands;
use vit_onnx::build::Builder;
use vit_onnx::eval;
use vit_onnx::ir::{Stage, Tensor};
use vit_onnx::lower;
use vit_onnx::onnx::{self, External};
use vit_onnx::ops::{Exactness, Op, Program};
use vit_onnx::passes::{self, Ctx, Options};
use vit_onnx::runtime::{Engine, Interpreter, SessionOptions};
use vit_onnx::target::Target;

#[test]
fn every_spelling_means_what_the_table_says() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("op.onnx");
    let (mut n, mut worst) = (0, 0.0f64);
    for s in Op::samples() {
        let x = operands(&s);
        let values: Vec<Tensor> = x.iter().map(|(_, t)| t.clone()).collect();
        for (target, opset) in
            [(Target::PORTABLE, s.since.max(17)), (Target::PORTABLE, 23), (Target::ORT_CPU, s.since.max(17))]
        {
            let b = Builder::new("op", Stage::Built);
            let inputs: Vec<_> =
                x.iter().enumerate().map(|(i, (ty, _))| b.input(&format!("x{i}"), ty.clone())).collect();
            for (i, y) in b.apply_all(s.op.clone(), &inputs).into_iter().enumerate() {
                b.output(&format!("y{i}"), y);
            }
            let graph = b.finish().expect("a sample types");
            let want = eval::run(&graph, &mut |p, _| Err(p.to_owned()), &named(&values)).expect("a value");
            // Without the driver, which would refuse ops that no legal graph has: they have spellings all the same.
            let legalize = passes::find("legalize").expect("a pass").run;
            let p = legalize(&Program::new(graph), &mut Ctx::new(target, Some(opset), &Options::default()));
            let p = p.unwrap_or_else(|e| panic!("{:?}: {e}", s.op));
            let model = lower::emit(&p.graph, target, opset, Vec::new()).unwrap_or_else(|e| panic!("{:?}: {e}", s.op));
            onnx::write(&model, &path, External::Auto, |i, _| Err(format!("{} is deferred", i.name))).expect("a file");
            let owned: Vec<(String, Tensor)> = named(&values).into_iter().map(|(n, t)| (n.to_owned(), t)).collect();
            let engines: [&dyn Engine; 2] = [&ort(), &Interpreter];
            for engine in engines {
                let what = format!("{:?} ({target}, opset {opset}) in {}", s.op, engine.name());
                let mut session =
                    engine.load(&path, &SessionOptions::default()).unwrap_or_else(|e| panic!("{what}: {e}"));
                let got = session.run(&owned).unwrap_or_else(|e| panic!("{what}: {e}"));
                for ((_, g), (_, w)) in got.iter().zip(&want) {
                    assert_eq!((g.dtype(), g.shape()), (w.dtype(), w.shape()), "{what}");
                    let scale = w.to_f64_vec().into_iter().fold(1.0f64, |m, v| m.max(v.abs()).min(1e30));
                    let bound = if s.op.def().traits().exactness == Exactness::Exact { 1e-7 } else { 2e-6 };
                    let d = g.max_abs_diff(w).expect("one shape") / scale;
                    assert!(d <= bound, "{what} differs by {d:e}: {g:?} {w:?}");
                    worst = worst.max(d);
                }
                n += 1;
            }
        }
    }
    eprintln!("{n} runs, largest relative difference {worst:e}");
    assert!(n > 300, "only {n} runs");
}

fn named(values: &[Tensor]) -> Vec<(&'static str, Tensor)> {
    const NAMES: [&str; 8] = ["x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7"];
    values.iter().enumerate().map(|(i, t)| (NAMES[i], t.clone())).collect()
}
