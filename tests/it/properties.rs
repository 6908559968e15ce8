//! Random small graphs: every pass keeps what they mean and is done after one run, and they survive the text
//! form and the ONNX file.
//!
//! A graph is a list of [`Step`]s, each applied to values made before it; a step that does not fit the shapes it
//! meets is skipped, so every list is a graph and shrinking is free.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;
use vit_onnx::build::{Builder, T};
use vit_onnx::ir::{DType, Dim, Init, Shape, Stage, Tensor, TensorType};
use vit_onnx::lower;
use vit_onnx::onnx::{self, External};
use vit_onnx::ops::{Graph, Program, composite};
use vit_onnx::passes::{self, Ctx, Options, Pass};
use vit_onnx::runtime::{Engine as _, Interpreter, SessionOptions};
use vit_onnx::target::Target;
use vit_onnx::{eval, text};

/// The symbolic batch, when a graph is run.
const BATCH: usize = 2;

/// One choice of op; numbers choose operands, axes and attributes modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    /// A parameter of a shape that broadcasts to a value: some axes of it dropped or made one.
    Param(usize, u8),
    /// A constant likewise, uniform or not.
    Constant(usize, u8, f32, bool),
    Unary(usize, u8),
    Binary(usize, usize, u8),
    /// With a number, on the right or the left.
    Scalar(usize, u8, f32, bool),
    MatMul(usize, usize),
    /// A linear map with weights, transposed or not, and what may follow it.
    Linear(usize, u8, bool),
    Softmax(usize, u8),
    Reduce(usize, u8, u8, bool),
    Transpose(usize, u8),
    Reshape(usize, u8),
    Slice(usize, u8, u8, u8),
    Concat(usize, usize, u8),
    Expand(usize, u8),
    Gelu(usize),
    HardSwish(usize),
    LayerNorm(usize, u8),
    Attention(usize, bool),
    Dropout(usize),
    Output(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let v = || 0usize..64;
    let n = any::<u8>;
    // Numbers that rules look for, and others.
    let c = || prop_oneof![Just(0.0f32), Just(1.0), Just(-1.0), Just(0.5), Just(2.0), -3.0f32..3.0];
    prop_oneof![
        1 => (v(), n()).prop_map(|(a, s)| Step::Param(a, s)),
        1 => (v(), n(), c(), any::<bool>()).prop_map(|(a, s, x, u)| Step::Constant(a, s, x, u)),
        1 => (v(), n()).prop_map(|(a, k)| Step::Unary(a, k)),
        3 => (v(), v(), n()).prop_map(|(a, b, k)| Step::Binary(a, b, k)),
        3 => (v(), n(), c(), any::<bool>()).prop_map(|(a, k, x, left)| Step::Scalar(a, k, x, left)),
        1 => (v(), v()).prop_map(|(a, b)| Step::MatMul(a, b)),
        2 => (v(), n(), any::<bool>()).prop_map(|(a, w, t)| Step::Linear(a, w, t)),
        1 => (v(), n()).prop_map(|(a, x)| Step::Softmax(a, x)),
        1 => (v(), n(), n(), any::<bool>()).prop_map(|(a, k, x, keep)| Step::Reduce(a, k, x, keep)),
        2 => (v(), n()).prop_map(|(a, p)| Step::Transpose(a, p)),
        2 => (v(), n()).prop_map(|(a, p)| Step::Reshape(a, p)),
        1 => (v(), n(), n(), n()).prop_map(|(a, x, s, l)| Step::Slice(a, x, s, l)),
        1 => (v(), v(), n()).prop_map(|(a, b, x)| Step::Concat(a, b, x)),
        1 => (v(), n()).prop_map(|(a, k)| Step::Expand(a, k)),
        1 => v().prop_map(Step::Gelu),
        1 => v().prop_map(Step::HardSwish),
        1 => (v(), 0..3u8).prop_map(|(a, form)| Step::LayerNorm(a, form)),
        1 => (v(), any::<bool>()).prop_map(|(a, b)| Step::Attention(a, b)),
        1 => v().prop_map(Step::Dropout),
        1 => v().prop_map(Step::Output),
    ]
}

/// `shape` with its axes dropped from the left or made one, as the bits of `how` say.
fn narrowed(shape: &[Dim], how: u8) -> Option<Vec<i64>> {
    let dropped = usize::from(how & 3).min(shape.len());
    let rest = shape[dropped..].iter().enumerate();
    rest.map(|(i, d)| if how >> (i + 2) & 1 == 1 { Some(1) } else { d.value() }).collect()
}

/// The graph being made, and what is in reach.
struct Maker<'g> {
    b: &'g Builder,
    dtype: DType,
    values: Vec<T<'g>>,
    outputs: Vec<T<'g>>,
    params: usize,
}

impl<'g> Maker<'g> {
    /// The chosen value; later ones are chosen as often as all earlier ones, so that chains grow.
    fn value(&self, i: usize) -> T<'g> {
        let n = self.values.len();
        if i.is_multiple_of(2) { self.values[n - 1 - (i / 2) % n.min(3)] } else { self.values[(i / 2) % n] }
    }

    fn param(&mut self, shape: Vec<i64>, init: Init) -> T<'g> {
        self.params += 1;
        self.b.param(&format!("p{}", self.params), TensorType::new(self.dtype, shape.as_slice()), init, true)
    }

    /// The value of a step, where it fits.
    fn make(&mut self, step: &Step) -> Option<T<'g>> {
        let broadcast = |a: T<'_>, b: T<'_>| a.ty().shape.broadcast(&b.ty().shape);
        match *step {
            Step::Param(a, how) => {
                let shape = narrowed(&self.value(a).dims(), how)?;
                Some(self.param(shape, Init::NORMAL))
            }
            Step::Constant(a, how, x, uniform) => {
                let shape: Vec<usize> = narrowed(&self.value(a).dims(), how)?.iter().map(|&d| d as usize).collect();
                let n: usize = shape.iter().product();
                let data = (0..n).map(|i| f64::from(if uniform { x } else { x + i as f32 * 0.25 })).collect();
                Some(self.b.constant(tensor(self.dtype, &shape, data)))
            }
            Step::Unary(a, kind) => {
                let x = self.value(a);
                Some(match kind % 6 {
                    0 => -x,
                    1 => x.tanh(),
                    2 => x.erf(),
                    3 => x.relu(),
                    4 => x.sigmoid(),
                    _ => (x * x + 1.0).sqrt(),
                })
            }
            Step::Binary(a, b, kind) => {
                let (x, y) = (self.value(a), self.value(b));
                broadcast(x, y)?;
                Some(match kind % 6 {
                    0 | 1 => x + y,
                    2 | 3 => x * y,
                    4 => x - y,
                    _ => x.maximum(y),
                })
            }
            Step::Scalar(a, kind, c, left) => {
                let (x, c) = (self.value(a), f64::from(c));
                let number = x.scalar(c);
                let (l, r) = if left { (number, x) } else { (x, number) };
                Some(match kind % 4 {
                    0 => l + r,
                    1 => l * r,
                    2 => l - r,
                    _ if c.abs() > 0.1 => x / number,
                    _ => x.clamp(-1.0, 1.0),
                })
            }
            Step::MatMul(a, b) => {
                let (x, y) = (self.value(a), self.value(b));
                if x.rank() < 2 || y.rank() < 2 {
                    return None;
                }
                let lead = |t: T<'_>| Shape::from(&t.dims()[..t.rank() - 2]);
                lead(x).broadcast(&lead(y))?;
                if x.dim(-1) == y.dim(-2) {
                    Some(x.matmul(y))
                } else {
                    (x.dim(-1) == y.dim(-1)).then(|| x.matmul(y.t()))
                }
            }
            Step::Linear(a, width, transposed) => {
                let x = self.value(a);
                let (from, to) = (x.dim(-1).value()?, i64::from(width % 3) + 2);
                if x.rank() < 2 {
                    return None;
                }
                let y = if transposed {
                    x.matmul(self.param(vec![to, from], Init::fan_in(4)).t())
                } else {
                    x.matmul(self.param(vec![from, to], Init::fan_in(4)))
                };
                // A bias, a scale, and an affine map after a bias, as often as not.
                let along = |m: &mut Self, init| m.param(vec![to], init);
                Some(match width / 3 % 6 {
                    0 => y + along(self, Init::NORMAL),
                    1 => y * along(self, Init::ONES),
                    2 => (y + along(self, Init::NORMAL)) * along(self, Init::ONES) + along(self, Init::NORMAL),
                    _ => y,
                })
            }
            Step::Softmax(a, axis) => {
                let x = self.value(a);
                (x.rank() > 0).then(|| x.softmax(i64::from(axis) % x.rank() as i64))
            }
            Step::Reduce(a, kind, axis, keep) => {
                let x = self.value(a);
                let axis = i64::from(axis) % x.rank().max(1) as i64;
                if x.rank() < 2 || x.dim(axis).value().is_none() {
                    return None;
                }
                Some(match (kind % 3, keep) {
                    (0, false) => x.mean(&[axis]),
                    (0, true) => x.mean_keep(&[axis]),
                    (1, false) => x.sum(&[axis]),
                    (1, true) => x.sum_keep(&[axis]),
                    _ => x.max_keep(&[axis]),
                })
            }
            Step::Transpose(a, how) => {
                let x = self.value(a);
                let mut perm: Vec<usize> = (0..x.rank()).collect();
                let mut how = usize::from(how);
                for i in (1..perm.len()).rev() {
                    perm.swap(i, how % (i + 1));
                    how /= i + 1;
                }
                Some(x.transpose(&perm))
            }
            Step::Reshape(a, how) => {
                let x = self.value(a);
                let mut dims = x.dims().to_vec();
                let at = usize::from(how / 4) % dims.len().max(1);
                match how % 4 {
                    0 => dims.insert(at, Dim::known(1)),
                    1 if dims.len() >= 2 => {
                        let at = at.min(dims.len() - 2);
                        let right = dims.remove(at + 1);
                        dims[at] = &dims[at] * right;
                    }
                    2 => dims = vec![dims.iter().product()],
                    _ => {
                        let half = dims.get(at)?.exact_div(&Dim::known(2))?;
                        dims[at] = Dim::known(2);
                        dims.insert(at + 1, half);
                    }
                }
                (dims.len() <= 5).then(|| x.reshape(dims))
            }
            Step::Slice(a, axis, start, len) => {
                let x = self.value(a);
                let axis = i64::from(axis) % x.rank().max(1) as i64;
                let n = x.dim(axis).size().filter(|&n| n > 0 && x.rank() > 0)?;
                let start = usize::from(start) % n;
                Some(x.narrow(axis, start, 1 + usize::from(len) % (n - start)))
            }
            Step::Concat(a, b, axis) => {
                let (x, y) = (self.value(a), self.value(b));
                let axis = usize::from(axis) % x.rank().max(1);
                let fits = x.rank() == y.rank() && x.rank() > 0;
                let others =
                    |t: T<'_>| t.dims().iter().cloned().enumerate().filter(|(i, _)| *i != axis).collect::<Vec<_>>();
                (fits && others(x) == others(y) && x.dim(axis as i64).size()? + y.dim(axis as i64).size()? < 12)
                    .then(|| T::concat(&[x, y], axis as i64))
            }
            Step::Expand(a, n) => {
                let x = self.value(a);
                let mut dims = x.dims().to_vec();
                if let Some(d) = dims.iter_mut().find(|d| d.is(1)) {
                    *d = if n % 3 == 0 { self.b.symbol("batch") } else { Dim::from(i64::from(n % 3) + 1) };
                } else {
                    dims.insert(0, Dim::known(2));
                }
                (dims.len() <= 5).then(|| x.expand(dims))
            }
            Step::Gelu(a) => Some(composite::gelu(self.value(a))),
            Step::HardSwish(a) => Some(composite::hard_swish(self.value(a))),
            Step::LayerNorm(a, form) => {
                let x = self.value(a);
                let width = x.dims().last()?.value()?;
                let w = self.param(vec![width], Init::ONES);
                let b = (form > 0).then(|| self.param(vec![width], Init::NORMAL));
                let y = composite::layer_norm(x, w, b, x.scalar(0.1));
                Some(if form < 2 { y } else { y + self.param(vec![1, width], Init::NORMAL) })
            }
            Step::Attention(a, bias) => {
                let x = self.value(a);
                let [batch, tokens, width] = <[Dim; 3]>::try_from(x.dims().to_vec()).ok()?;
                let (tokens, half) = (tokens.value()?, width.exact_div(&Dim::known(2))?);
                let heads = |t: T<'g>| {
                    t.reshape([batch.clone(), tokens.into(), 2.into(), half.clone()]).transpose(&[0, 2, 1, 3])
                };
                let bias = bias.then(|| self.param(vec![2, tokens, tokens], Init::NORMAL));
                let y = composite::sdpa(heads(x), heads(x.tanh()), heads(x), x.scalar(0.5), bias);
                Some(y.transpose(&[0, 2, 1, 3]).reshape([batch.clone(), tokens.into(), width.clone()]))
            }
            Step::Dropout(a) => Some(self.b.root().dropout(self.value(a), 0.25)),
            Step::Output(a) => {
                self.outputs.push(self.value(a));
                None
            }
        }
    }
}

/// Values are kept small enough to interpret, and few enough.
fn small(t: T<'_>) -> bool {
    let limit = |d: &Dim| d.value().map_or(d.as_symbol().is_some(), |n| n <= 64);
    t.rank() <= 5 && t.dims().iter().all(limit) && t.dims().iter().filter(|d| d.value().is_none()).count() <= 1
}

fn graph(dtype: DType, steps: &[Step]) -> Graph {
    let b = Builder::new("random", Stage::Built);
    {
        let batch = b.symbol("batch");
        let x = b.input("x", TensorType::new(dtype, vec![batch.clone(), 3.into(), 4.into()]));
        let z = b.input("z", TensorType::new(dtype, vec![batch, 2.into(), 3.into(), 4.into()]));
        let mut m = Maker { b: &b, dtype, values: vec![z, x], outputs: Vec::new(), params: 0 };
        for step in steps {
            if let Some(t) = m.make(step).filter(|t| small(*t)) {
                m.values.push(t);
            }
        }
        let last = *m.values.last().expect("the inputs");
        m.outputs.push(last);
        m.outputs.iter().enumerate().for_each(|(i, &t)| b.output(&format!("y{i}"), t));
    }
    b.finish().unwrap_or_else(|e| panic!("{e}"))
}

/// A tensor of floats.
fn tensor(dtype: DType, shape: &[usize], data: Vec<f64>) -> Tensor {
    match dtype {
        DType::F64 => Tensor::new(shape, data),
        _ => Tensor::new(shape, data.into_iter().map(|x| x as f32).collect()),
    }
}

/// Numbers of a name: a sawtooth on (-2, 2), around one where gains start at one.
fn numbers(dtype: DType, name: &str, shape: &[usize], gain: bool) -> Tensor {
    let mut x = name.bytes().fold(0.37f64, |x, b| (x * 7.3 + f64::from(b) * 0.618).fract());
    let mut next = || {
        x = (x * 997.0 + 0.123).fract();
        if gain { 0.5 + x } else { 4.0 * x - 2.0 }
    };
    tensor(dtype, shape, (0..shape.iter().product()).map(|_| next()).collect())
}

fn inputs(g: &Graph) -> Vec<(&str, Tensor)> {
    let bind = |d: &Dim| d.size().unwrap_or(BATCH);
    let shape = |ty: &TensorType| ty.shape.iter().map(bind).collect::<Vec<_>>();
    let of = |name: &str, ty: &TensorType| numbers(ty.dtype, name, &shape(ty), false);
    g.inputs().iter().map(|i| (i.name.as_str(), of(&i.name, g.ty(i.value)))).collect()
}

/// A parameter of a graph as stored.
fn stored(g: &Graph, path: &str) -> Result<Tensor, String> {
    let q = g.params().find(|q| *q.path == *path).ok_or_else(|| format!("{path} was never declared"))?;
    Ok(numbers(g.ty(q.value).dtype, path, &g.ty(q.value).shape.known().expect("known"), q.init == Init::ONES))
}

fn run(
    g: &Graph,
    param: &mut dyn FnMut(&str, &TensorType) -> Result<Tensor, String>,
    inputs: &[(&str, Tensor)],
) -> Vec<(String, Tensor)> {
    eval::run(g, param, inputs).unwrap_or_else(|e| panic!("{e}\n{g}"))
}

/// The parameters of the run graph, computed by the weight program where that gives them out.
fn weights(p: &Program) -> impl Fn(&str) -> Result<Tensor, String> {
    let computed: BTreeMap<_, _> = run(&p.weights, &mut |path, _| stored(&p.weights, path), &[]).into_iter().collect();
    move |path| computed.get(path).cloned().map_or_else(|| stored(&p.graph, path), Ok)
}

fn outputs(p: &Program) -> Vec<(String, Tensor)> {
    let weight = weights(p);
    run(&p.graph, &mut |path, _| weight(path), &inputs(&p.graph))
}

/// Asserts equal outputs, up to rounding: a fraction of the largest number that was met on the way.
fn same(what: &str, want: &[(String, Tensor)], got: &[(String, Tensor)], scale: f64) -> Result<(), TestCaseError> {
    prop_assert_eq!(want.len(), got.len());
    for ((name, a), (other, b)) in want.iter().zip(got) {
        prop_assert_eq!(name, other);
        prop_assert_eq!((a.dtype(), a.shape()), (b.dtype(), b.shape()), "{}: {}", what, name);
        let off = a.max_abs_diff(b).expect("one shape");
        let tolerance = if a.dtype() == DType::F64 { 1e-9 } else { 2e-5 };
        prop_assert!(off <= tolerance * scale, "{}: {} is off by {:e} of {:e}", what, name, off, scale);
    }
    Ok(())
}

/// The largest magnitude of any value of the graph: what rounding errors are measured by.
fn largest(g: &Graph, p: &Program) -> f64 {
    let mut all = g.clone();
    all.retain_outputs(|_| false);
    let values: Vec<_> = g.nodes().flat_map(|(_, n)| n.outputs()).collect();
    values.into_iter().enumerate().for_each(|(i, v)| all.add_output(format!("v{i}"), v));
    let all = p.with_graph(all);
    let each = outputs(&all).into_iter().flat_map(|(_, t)| t.to_f64_vec());
    each.fold(1.0, |m, x| if x.is_nan() { f64::INFINITY } else { m.max(x.abs()) })
}

fn once(target: &'static Target, pass: &Pass, p: &Program) -> Result<Program, TestCaseError> {
    let out = (pass.run)(p, &mut Ctx::new(target, Some(target.default_opset), &Options::default()))
        .map_err(|e| TestCaseError::fail(format!("{}: {e}\n{}", pass.name, p.graph)))?;
    out.verify().map_err(|e| TestCaseError::fail(format!("{}: {e}\n{}", pass.name, p.graph)))?;
    Ok(out)
}

fn print(p: &Program) -> String {
    format!("{}\n{}", p.graph, p.weights)
}

/// The text without declarations of parameters, which stand where a pass first met them.
fn code(p: &Program) -> String {
    let declares = |line: &&str| line.starts_with("  param ") || line.starts_with("  buffer ");
    print(p).lines().filter(|line| !declares(line)).flat_map(|line| [line, "\n"]).collect()
}

/// Runs the passes one by one and holds each to its promises.
fn hold(
    target: &'static Target,
    mut p: Program,
    want: &[(String, Tensor)],
    scale: f64,
) -> Result<Program, TestCaseError> {
    for pass in passes::pipeline(target) {
        let out = once(target, pass, &p)?;
        same(&format!("{}\n{}\nbecame\n{}", pass.name, print(&p), print(&out)), want, &outputs(&out), scale)?;
        prop_assert_eq!(code(&once(target, pass, &out)?), code(&out), "{} again", pass.name);
        p = out;
    }
    Ok(p)
}

/// Writes the program as a file, reads it, raises it and interprets the raised graph.
fn through_a_file(p: &Program, target: &Target) -> Vec<(String, Tensor)> {
    let opset = target.default_opset;
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("random.onnx");
    let weight = weights(p);
    let model = lower::emit(&p.graph, target, opset, Vec::new()).unwrap_or_else(|e| panic!("{e}\n{}", p.graph));
    onnx::write(&model, &path, External::Auto, |i, out| {
        out.write_all(&weight(&i.name)?.le_bytes())?;
        Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    })
    .unwrap_or_else(|e| panic!("{e}\n{}", p.graph));
    let mut session =
        Interpreter.load(&path, &SessionOptions::default()).unwrap_or_else(|e| panic!("{e}\n{}", p.graph));
    let given: Vec<_> = inputs(&p.graph).into_iter().map(|(name, t)| (name.to_owned(), t)).collect();
    session.run(&given).unwrap_or_else(|e| panic!("{e}\n{}", p.graph))
}

fn case(dtype: DType, steps: &[Step]) -> Result<(), TestCaseError> {
    let g = graph(dtype, steps);
    let text = g.to_string();
    let back = text::parse(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
    prop_assert_eq!(back.to_string(), text);

    let built = Program::new(g);
    let (want, scale) = (outputs(&built), largest(&built.graph, &built));
    // Beyond this the numbers say nothing: differences of large numbers are noise.
    if scale > 1e4 {
        return Ok(());
    }
    for target in [Target::PORTABLE, Target::ORT_CPU] {
        let legal = hold(target, built.clone(), &want, scale)?;
        same(&format!("a file for {target}\n{}", print(&legal)), &want, &through_a_file(&legal, target), scale)?;
    }
    Ok(())
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..24)
}

/// Few cases, for every run of the tests; `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let default = ProptestConfig { max_shrink_iters: 4000, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() { default } else { ProptestConfig { cases: 64, ..default } }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn passes_keep_the_meaning_of_random_graphs(steps in steps()) {
        case(DType::F32, &steps)?;
    }

    /// In f64 rounding is no excuse.
    #[test]
    fn passes_keep_the_meaning_of_random_graphs_in_f64(steps in steps()) {
        case(DType::F64, &steps)?;
    }
}

/// The graphs are such that every rule has work: a property that holds of nothing proves nothing.
#[test]
fn random_graphs_reach_every_rule() {
    let mut runner = TestRunner::deterministic();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for _ in 0..400 {
        let steps = steps().new_tree(&mut runner).expect("a strategy without filters").current();
        let p = Program::new(graph(DType::F32, &steps));
        let run = passes::compile(&p, Target::ORT_CPU, None, &Options::default(), &mut |_, _| ());
        let rules = run.unwrap_or_else(|e| panic!("{e}")).ctx.rules;
        for (rule, t) in rules {
            *counts.entry(rule).or_default() += t.count;
        }
    }
    for rule in [
        "add-zero",
        "common-subexpression",
        "constant-right",
        "divide-by-constant",
        "fold-constant",
        "gelu",
        "hard-swish",
        "identity-transpose",
        "inference-identity",
        "inverse-transposes",
        "layer-norm",
        "merge-biases",
        "merge-constants",
        "merge-reshapes",
        "move-to-weight-program",
        "multiply-by-one",
        "scale-into-weights",
        "sdpa",
        "sdpa-bias",
        "subtract-constant",
    ] {
        assert!(counts.get(rule).is_some_and(|&n| n >= 3), "{rule} is hardly ever reached: {counts:?}");
    }
}
