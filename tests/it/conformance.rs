//! What every op owes, checked on every sample of every op: its type rule says what its value is, its
//! text form reads back, its gradient is the slope of its value, and its gradient can be spelled in
//! ONNX's own ops.
//!
//! An op whose gradient is flat or refused is listed here by name, so that this is a decision and not an accident.

mod axes;
mod facts;

use vit_onnx::autodiff::{AutodiffError, gradients};
use vit_onnx::build::{Builder, T};
use vit_onnx::eval;
use vit_onnx::ir::{Bindings, DType, Entity, Graph, Stage, Symbol, Tensor, TensorType};
use vit_onnx::ops::{
    Attrs, Binary, BinaryKind, Compare, CompareKind, Grad, Op, Reduce, ReduceKind, Sample, SampleOperand, Spell, TopK,
    Unary, UnaryKind, Vjp,
};
use vit_onnx::text;

/// Steele's `SplitMix64`: the same numbers on every machine.
struct Random(u64);

impl Random {
    /// Uniform on `[lo, hi)`.
    fn uniform(&mut self, (lo, hi): (f64, f64)) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let unit = ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64;
        lo + unit * (hi - lo)
    }

    fn tensor(&mut self, dtype: DType, shape: &[usize], range: (f64, f64)) -> Tensor {
        let n = shape.iter().product();
        Tensor::new(shape, (0..n).map(|_| self.uniform(range)).collect::<Vec<f64>>()).cast(dtype)
    }
}

/// A sample with numbers.
struct Case {
    op: Op,
    types: Vec<TensorType>,
    values: Vec<Tensor>,
    env: Bindings,
    random: Random,
}

impl Case {
    /// Floats are in `float`; symbols are 2.
    fn new(index: usize, s: &Sample, float: DType) -> Self {
        let of = |d: DType| if d.is_float() { float } else { d };
        let mut random = Random(index as u64);
        let (mut types, mut values, mut env) = (Vec::new(), Vec::new(), Bindings::new());
        for x in &s.operands {
            match x {
                SampleOperand::Drawn(t) => {
                    let symbols = t.shape.iter().flat_map(|d| d.symbols().cloned()).collect::<Vec<Symbol>>();
                    env.extend(symbols.into_iter().map(|s| (s, 2)));
                    let shape = t.shape.eval(&env).expect("every symbol is bound");
                    values.push(random.tensor(of(t.dtype), &shape, s.range));
                    types.push(TensorType { dtype: of(t.dtype), shape: t.shape.clone() });
                }
                SampleOperand::Given(t) => {
                    let t = t.cast(of(t.dtype()));
                    types.push(TensorType::new(t.dtype(), t.shape()));
                    values.push(t);
                }
            }
        }
        Self { op: s.op.clone(), types, values, env, random }
    }

    fn result_types(&self) -> Vec<TensorType> {
        let x: Vec<&TensorType> = self.types.iter().collect();
        self.op.def().infer(&x).unwrap_or_else(|e| panic!("{:?} on {x:?}: {e}", self.op))
    }

    fn results(&self, x: &[Tensor]) -> Vec<Tensor> {
        eval::op_in(&self.op, x, &self.env).unwrap_or_else(|e| panic!("{:?}: {e}", self.op))
    }

    /// The operands as graph inputs, named by position.
    fn inputs<'g>(&self, b: &'g Builder) -> Vec<T<'g>> {
        self.types.iter().enumerate().map(|(i, t)| b.input(&i.to_string(), t.clone())).collect()
    }

    /// Positions of the operands that can have a gradient.
    fn floats(&self) -> Vec<usize> {
        (0..self.types.len()).filter(|&i| self.types[i].dtype.is_float()).collect()
    }
}

fn cases(float: DType) -> impl Iterator<Item = Case> {
    let mut all = Op::samples();
    assert!(all.len() > 90, "the table of ops has samples");
    all.drain(..).enumerate().map(|(i, s)| Case::new(i, &s, float)).collect::<Vec<_>>().into_iter()
}

fn floats() -> impl Iterator<Item = DType> {
    DType::ALL.into_iter().filter(|d| d.is_float())
}

#[test]
fn types_are_those_of_the_values() {
    for float in floats() {
        for case in cases(float) {
            let (types, values) = (case.result_types(), case.results(&case.values));
            assert_eq!(types.len(), values.len(), "{:?}", case.op);
            for (t, v) in types.iter().zip(&values) {
                let expected = t.shape.eval(&case.env).expect("every symbol is bound");
                assert_eq!((t.dtype, expected.as_slice()), (v.dtype(), v.shape()), "{:?}", case.op);
            }
        }
    }
}

/// Both precisions compute the same function.
#[test]
fn single_precision_is_double_precision_rounded() {
    for (single, double) in cases(DType::F32).zip(cases(DType::F64)) {
        let wide: Vec<Tensor> = single.values.iter().zip(&double.types).map(|(v, t)| v.cast(t.dtype)).collect();
        for (a, b) in single.results(&single.values).iter().zip(double.results(&wide)) {
            let size = b.to_f64_vec().iter().fold(1.0, |m: f64, x| m.max(x.abs()));
            let off = a.max_abs_diff(&b).expect("one shape");
            assert!(off <= 2e-5 * size, "{:?}: off by {off} of {size}", single.op);
        }
    }
}

/// Operands are widened once and results rounded once, also by a composite, whatever its formula has in between.
#[test]
fn half_precision_is_single_precision_rounded() {
    for float in floats().filter(|d| d.size() == 2) {
        for case in cases(float) {
            let wide: Vec<Tensor> = case.values.iter().map(|v| v.cast(v.dtype().computes_in())).collect();
            for (a, b) in case.results(&case.values).iter().zip(case.results(&wide)) {
                // A cast says its result's type itself.
                let rounded = if b.dtype() == DType::F32 { b.cast(a.dtype()) } else { b };
                assert_eq!(*a, rounded, "{:?} in {float}", case.op);
            }
        }
    }
}

/// Sums of small integers wrap around, as machines add.
#[test]
fn integers_wrap() {
    let x = |d: DType, v: &[i64]| Tensor::new(&[v.len()], v.to_vec()).cast(d);
    let op = |kind| Op::from(Binary { kind });
    for (dtype, a, b, sum, difference, product) in [
        (DType::U8, [250, 3], [10, 5], [4, 8], [240, 254], [196, 15]),
        (DType::I8, [100, -100], [100, 100], [-56, 0], [0, 56], [16, -16]),
        (
            DType::I32,
            [i64::from(i32::MAX), -1],
            [1, 7],
            [i64::from(i32::MIN), 6],
            [i64::from(i32::MAX) - 1, -8],
            [i64::from(i32::MAX), -7],
        ),
    ] {
        for (kind, want) in [(BinaryKind::Add, sum), (BinaryKind::Sub, difference), (BinaryKind::Mul, product)] {
            let y = eval::op(&op(kind), &[x(dtype, &a), x(dtype, &b)]).expect("a value");
            assert_eq!(y, [x(dtype, &want)], "{kind:?}");
        }
        let least =
            eval::op(&Compare { kind: CompareKind::Less }.into(), &[x(dtype, &a), x(dtype, &b)]).expect("a value");
        assert_eq!(least, [Tensor::new(&[2], vec![a[0] < b[0], a[1] < b[1]])]);
    }
    let mean = Reduce { kind: ReduceKind::Mean, axes: vec![0], keepdims: false };
    let y = eval::op(&mean.into(), &[x(DType::I32, &[-7, -6, -8, -8])]).expect("a value");
    assert_eq!(y, [Tensor::scalar(-7i32)], "a mean of integers is truncated");
    let sum = Reduce { kind: ReduceKind::Sum, axes: vec![0], keepdims: false };
    let y = eval::op(&sum.into(), &[x(DType::U8, &[200, 100])]).expect("a value");
    assert_eq!(y, [Tensor::scalar(44u8)]);
}

/// Which element types ONNX has an op for, and from which opset.
#[test]
fn spellings_refuse_the_types_that_onnx_does_not_take() {
    let refusal = |op: Op, dtype: DType, shape: &[i64], opset| {
        let t = TensorType::new(dtype, shape);
        op.def().infer(&[&t]).expect("it types");
        spell(&op, &[&t], opset, false).err()
    };
    let sin = || Op::from(Unary { kind: UnaryKind::Sin });
    assert!(refusal(sin(), DType::BF16, &[2], 21).expect("since 22").contains("--opset 22"));
    assert_eq!((refusal(sin(), DType::BF16, &[2], 22), refusal(sin(), DType::F16, &[2], 17)), (None, None));
    let top = || Op::from(TopK { axis: 0, k: 1 });
    assert!(refusal(top(), DType::BF16, &[2], 23).is_some() && refusal(top(), DType::I8, &[2], 17).is_none());
    let sum = |kind| Op::from(Reduce { kind, axes: vec![0], keepdims: true });
    assert!(refusal(sum(ReduceKind::Sum), DType::U8, &[2], 23).expect("not in ONNX").contains("cast to i32"));
    assert_eq!(refusal(sum(ReduceKind::Max), DType::U8, &[2], 17), None);
}

#[test]
fn attributes_read_back() {
    for s in Op::samples() {
        let attrs = Attrs(s.op.attrs().into_iter().map(|(k, v)| (k.to_owned(), v)).collect());
        assert_eq!(Op::parse(s.op.mnemonic(), attrs).as_ref(), Ok(&s.op));
    }
}

/// Operands are inputs; the op stands alone in its scope.
#[test]
fn the_text_form_reads_back() {
    for float in floats() {
        for case in cases(float) {
            let b = Builder::new("sample", Stage::Built);
            let x = case.inputs(&b);
            for (i, y) in b.apply_all(case.op.clone(), &x).into_iter().enumerate() {
                b.output(&format!("y{i}"), y);
            }
            let g = b.finish().unwrap_or_else(|e| panic!("{:?}: {e}", case.op));
            let text = g.to_string();
            let back = text::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
            assert!(back.to_string() == text, "{text}\nreads back as\n{back}");
            let ops: Vec<&Op> = back.nodes().map(|(_, n)| &n.op).collect();
            assert_eq!(ops, [&case.op]);
        }
    }
}

fn spell(op: &Op, x: &[&TensorType], opset: i64, contrib: bool) -> Result<(), String> {
    op.def().onnx(&Spell { opset, contrib, x }).map(drop).map_err(|e| e.to_string())
}

#[test]
fn spellings_exist_from_the_opset_that_samples_name() {
    for (case, s) in cases(DType::F32).zip(Op::samples()) {
        let x: Vec<_> = case.types.iter().collect();
        let spelled = spell(&case.op, &x, s.since, true);
        match &case.op {
            Op::BatchNormalization(op) if op.training => {
                assert!(spelled.expect_err("has no spelling").contains("decompose"));
            }
            Op::Attention(_) if case.types[0].rank() != 4 => {
                assert!(spelled.expect_err("has no spelling").contains("takes tensors of 4 axes"));
            }
            op => assert_eq!(spelled, Ok(()), "{op:?}"),
        }
        if s.since > 17 {
            assert!(spell(&case.op, &x, s.since - 1, false).is_err(), "{:?}", case.op);
        }
    }
}

/// What an op does with a cotangent.
#[derive(Debug, PartialEq)]
enum Flow {
    Slope,
    Zero,
    Never,
}

/// The ops that are flat or refuse on purpose.
fn intended(op: &Op) -> Flow {
    match op {
        Op::Compare(_) | Op::ArgMax(_) | Op::StopGradient(_) => Flow::Zero,
        Op::Cast(c) if !c.to.is_float() => Flow::Zero,
        Op::Dropout(_) => Flow::Never,
        _ => Flow::Slope,
    }
}

fn flow(case: &Case) -> Flow {
    let b = Builder::new("flow", Stage::Built);
    let x = case.inputs(&b);
    let y = b.apply_all(case.op.clone(), &x);
    let g: Vec<Option<T<'_>>> = y.iter().map(|y| y.dtype().is_float().then(|| y.ones_like())).collect();
    match case.op.def().vjp(&Vjp { x: &x, y: &y, g: &g }) {
        Grad::Zero => Flow::Zero,
        Grad::Never(_) => Flow::Never,
        Grad::To(to) => {
            assert_eq!(to.len(), x.len(), "{:?} has one cotangent for each operand", case.op);
            Flow::Slope
        }
        Grad::ByDecomposition => {
            let parts = case.op.def().definition(&x).unwrap_or_default();
            let types = |v: &[T<'_>]| v.iter().map(|t| t.ty()).collect::<Vec<_>>();
            assert_eq!(types(&parts), types(&y), "{:?} is its definition", case.op);
            Flow::Slope
        }
    }
}

#[test]
fn only_ops_listed_as_such_have_no_gradient() {
    for case in cases(DType::F64).filter(|c| !c.floats().is_empty()) {
        assert_eq!(flow(&case), intended(&case.op), "{:?}", case.op);
    }
}

/// `Σ wᵢ·yᵢ` over all float results.
fn weighted_sum(y: &[Tensor], weights: &[Tensor]) -> f64 {
    let floats = y.iter().filter(|t| t.dtype().is_float());
    floats.zip(weights).flat_map(|(y, w)| y.to_f64_vec().into_iter().zip(w.to_f64_vec())).map(|(y, w)| y * w).sum()
}

/// The graph of the gradients of `Σ wᵢ·yᵢ` with respect to the float operands, as outputs; the weights are inputs.
fn gradient_graph(case: &Case) -> Result<Graph<Op>, AutodiffError> {
    let b = Builder::new("gradient", Stage::Built);
    let x = case.inputs(&b);
    let y = b.apply_all(case.op.clone(), &x);
    let mut loss: Option<T<'_>> = None;
    for (i, y) in y.into_iter().filter(|y| y.dtype().is_float()).enumerate() {
        let axes: Vec<i64> = (0..y.rank() as i64).collect();
        let part = y * b.input(&format!("w{i}"), y.ty());
        let part = if axes.is_empty() { part } else { part.sum(&axes) }.cast(DType::F64);
        loss = Some(loss.map_or(part, |l| l + part));
    }
    let wrt: Vec<T<'_>> = case.floats().into_iter().map(|i| x[i]).collect();
    let g = gradients(&b, loss.expect("the op has a float result"), &wrt)?;
    for (i, g) in case.floats().into_iter().zip(g) {
        assert_eq!(g.ty(), case.types[i], "{:?}: gradient of operand {i}", case.op);
        b.output(&i.to_string(), g);
    }
    Ok(b.finish().unwrap_or_else(|e| panic!("{:?}: {e}", case.op)))
}

/// Along one random direction for each operand: ⟨gradient, d⟩ against `(f(x + h·d) − f(x − h·d)) / 2h`.
#[test]
fn gradients_are_slopes() {
    let mut checked = 0;
    for mut case in cases(DType::F64) {
        let results = case.result_types();
        if case.floats().is_empty() || !results.iter().any(|t| t.dtype.is_float()) {
            continue;
        }
        let shapes = case.results(&case.values).into_iter().filter(|t| t.dtype().is_float());
        let shapes: Vec<Vec<usize>> = shapes.map(|t| t.shape().to_vec()).collect();
        let weights: Vec<Tensor> = shapes.iter().map(|s| case.random.tensor(DType::F64, s, (-1.0, 1.0))).collect();
        let graph = match (gradient_graph(&case), intended(&case.op)) {
            (Err(AutodiffError::Never { .. }), Flow::Never) => continue,
            (Ok(g), Flow::Slope | Flow::Zero) => g,
            (other, flow) => panic!("{:?} should give {flow:?}, gave {other:?}", case.op),
        };
        let names: Vec<String> = (0..case.values.len()).map(|i| i.to_string()).collect();
        let mut inputs: Vec<(&str, Tensor)> = names.iter().map(String::as_str).zip(case.values.clone()).collect();
        let named = (0..weights.len()).map(|i| format!("w{i}")).collect::<Vec<String>>();
        let floats = results.iter().filter(|t| t.dtype.is_float());
        inputs.extend(named.iter().zip(&weights).zip(floats).map(|((n, w), t)| (n.as_str(), w.cast(t.dtype))));
        let gradients =
            eval::run(&graph, &mut |p, _| Err(p.to_owned()), &inputs).unwrap_or_else(|e| panic!("{:?}: {e}", case.op));
        // Results in f32 are too coarse for a small step.
        let coarse = results.iter().any(|t| t.dtype == DType::F32);
        let (h, tolerance) = if coarse { (1e-2, 1e-4) } else { (1e-5, 1e-7) };
        for (i, (_, g)) in case.floats().into_iter().zip(gradients) {
            let d = case.random.tensor(DType::F64, case.values[i].shape(), (-1.0, 1.0));
            let at = |sign: f64| {
                let mut x = case.values.clone();
                let moved = x[i].to_f64_vec().iter().zip(d.to_f64_vec()).map(|(x, d)| x + sign * h * d).collect();
                x[i] = Tensor::new(d.shape(), moved);
                weighted_sum(&case.results(&x), &weights)
            };
            let slope = if intended(&case.op) == Flow::Zero { 0.0 } else { (at(1.0) - at(-1.0)) / (2.0 * h) };
            let told = weighted_sum(&[g], std::slice::from_ref(&d));
            let off = (slope - told).abs();
            assert!(off <= tolerance * (1.0 + slope.abs()), "{:?}, operand {i}: {told}, not {slope}", case.op);
            checked += 1;
        }
    }
    assert!(checked > 130, "only {checked} gradients were checked");
}

/// Training graphs run on any runtime: gradients consist of `ai.onnx` ops of opset 17.
#[test]
fn gradients_are_spelled_without_contributed_ops() {
    for case in cases(DType::F64) {
        let floats = case.result_types().iter().any(|t| t.dtype.is_float());
        if case.floats().is_empty() || !floats || intended(&case.op) != Flow::Slope {
            continue;
        }
        let g = gradient_graph(&case).unwrap_or_else(|e| panic!("{:?}: {e}", case.op));
        for (n, node) in g.nodes().filter(|(_, n)| n.origin.rule.is_some()) {
            let x: Vec<&TensorType> = node.inputs.iter().map(|&v| g.ty(v)).collect();
            let spelled = spell(&node.op, &x, 17, false);
            assert_eq!(spelled, Ok(()), "node {} of the gradient of {:?}", n.index(), case.op);
        }
    }
}
