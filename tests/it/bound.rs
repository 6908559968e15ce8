//! Bound sessions in both engines: the same numbers as runs that pass everything through the caller.

use crate::support::engines::ort;
use crate::support::models::{floats, node, port, write};
use std::path::{Path, PathBuf};
use tempfile::tempdir;
use vit_onnx::ir::Tensor;
use vit_onnx::onnx::{ElemType, Initializer};
use vit_onnx::runtime::{
    BindProblem, Bound, Engine, EngineError, ErrorKind, InputProblem, Interpreter, SessionOptions,
};

type Named = Vec<(String, Tensor)>;

fn engines() -> [Box<dyn Engine>; 2] {
    [Box::new(ort()), Box::new(Interpreter)]
}

const PAIRS: [(&str, &str); 4] = [
    ("count", "count_after"),
    ("param.x", "param_after.x"),
    ("momentum.x", "momentum_after.x"),
    ("param.b", "param_after.b"),
];

/// Descent with momentum on a matrix, the mean of some rows of a table being the gradient:
/// `m' = 0.9 m + mean(table[index])`, `x' = x - lr m'`, `b' = b mean(x')` in double precision, `count' = count + 1`; the
/// results are `loss = sum(x x)` and the rows. An index outside the table fails while running.
fn descent(folder: &Path) -> PathBuf {
    let nodes = vec![
        node("Gather", &["table", "index"], "rows"),
        node("ReduceMean", &["rows"], "g").attribute("axes", vec![0i64]).attribute("keepdims", 0i64),
        node("Mul", &["momentum.x", "decay"], "kept"),
        node("Add", &["kept", "g"], "momentum_after.x"),
        node("Mul", &["lr", "momentum_after.x"], "change"),
        node("Sub", &["param.x", "change"], "param_after.x"),
        node("ReduceMean", &["param_after.x"], "level").attribute("keepdims", 0i64),
        node("Cast", &["level"], "level64").attribute("to", 11i64),
        node("Mul", &["param.b", "level64"], "param_after.b"),
        node("Add", &["count", "one"], "count_after"),
        node("Mul", &["param.x", "param.x"], "squares"),
        node("ReduceSum", &["squares"], "loss").attribute("keepdims", 0i64),
    ];
    let table: Vec<f32> = (0..5 * 6).map(|i| (i as f32 * 0.37).sin()).collect();
    let constants =
        vec![floats("table", &[5, 2, 3], &table), floats("decay", &[], &[0.9]), Initializer::int64("one", 1)];
    let inputs = vec![
        port("param.x", ElemType::Float, &["2", "3"]),
        port("index", ElemType::Int64, &["batch"]),
        port("momentum.x", ElemType::Float, &["2", "3"]),
        port("lr", ElemType::Float, &[]),
        port("param.b", ElemType::Double, &[]),
        port("count", ElemType::Int64, &[]),
    ];
    let outputs = vec![
        port("loss", ElemType::Float, &[]),
        port("param_after.x", ElemType::Float, &["2", "3"]),
        port("momentum_after.x", ElemType::Float, &["2", "3"]),
        port("param_after.b", ElemType::Double, &[]),
        port("rows", ElemType::Float, &["batch", "2", "3"]),
        port("count_after", ElemType::Int64, &[]),
    ];
    write(folder, nodes, constants, inputs, outputs)
}

fn named(name: &str, t: Tensor) -> (String, Tensor) {
    (name.to_owned(), t)
}

fn start() -> Named {
    vec![
        named("param.x", Tensor::new(&[2, 3], vec![1.0f32, -2.0, 0.5, 3.0, 0.0, -1.0])),
        named("momentum.x", Tensor::new(&[2, 3], vec![0.0f32; 6])),
        named("param.b", Tensor::scalar(1.5f64)),
        named("count", Tensor::scalar(0i64)),
    ]
}

/// Batches of different sizes.
fn data(step: i64) -> Named {
    let index: Vec<i64> = (0..=step % 3).map(|i| (step + i) % 5).collect();
    vec![named("index", Tensor::new(&[index.len()], index)), named("lr", Tensor::scalar(0.1f32 / (1 + step) as f32))]
}

fn bound(engine: &dyn Engine, model: &Path) -> Bound {
    let session = engine.load(model, &SessionOptions::default()).expect("a model");
    session.bind(&PAIRS, &start()).expect("it binds")
}

fn value<'t>(of: &'t Named, name: &str) -> &'t Tensor {
    &of.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no {name}")).1
}

#[test]
fn a_hundred_steps_are_a_hundred_runs_bit_for_bit() {
    let dir = tempdir().expect("a folder");
    let model = descent(dir.path());
    for engine in engines() {
        let mut session = engine.load(&model, &SessionOptions::default()).expect("a model");
        let mut steps = bound(&*engine, &model);
        assert_eq!(
            steps.data().iter().map(vit_onnx::runtime::Port::signature).collect::<Vec<_>>(),
            ["i64[batch]", "f32[]"]
        );
        assert_eq!(steps.results().iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["loss", "rows"]);
        let mut state = start();
        for step in 0..100 {
            let all = session.run(&[state.clone(), data(step)].concat()).expect("a run");
            let results = steps.step(&data(step)).expect("a step");
            assert_eq!(
                results,
                [named("loss", value(&all, "loss").clone()), named("rows", value(&all, "rows").clone())]
            );
            for (input, output) in PAIRS {
                let after = value(&all, output).clone();
                assert_eq!(steps.get(input).expect("it is carried"), after, "{input} at step {step}");
                state.iter_mut().find(|(n, _)| n == input).expect("it starts").1 = after;
            }
        }
        assert_eq!(value(&state, "count"), &Tensor::scalar(100i64));
        assert_ne!(value(&state, "param.x"), value(&start(), "param.x"));
    }
}

#[test]
fn values_can_be_replaced_between_steps() {
    let dir = tempdir().expect("a folder");
    let model = descent(dir.path());
    for engine in engines() {
        let (mut one, mut two) = (bound(&*engine, &model), bound(&*engine, &model));
        for step in 0..7 {
            one.step(&data(step)).expect("a step");
        }
        for input in one.carried().map(str::to_owned).collect::<Vec<_>>() {
            two.set(&input, &one.get(&input).expect("it is carried")).expect("it fits");
        }
        for step in 7..12 {
            assert_eq!(one.step(&data(step)).expect("a step"), two.step(&data(step)).expect("a step"));
        }
        assert_eq!(two.get("count").expect("it is carried"), Tensor::scalar(12i64));

        let before = two.get("param.x").expect("it is carried");
        let e = two.set("param.x", &Tensor::new(&[3], vec![0.0f32; 3])).expect_err("another shape");
        assert!(e.to_string().contains("input `param.x`: expected f32[2, 3], found f32[3]"), "{e}");
        let e = two.set("count", &Tensor::scalar(1.0f32)).expect_err("another type");
        assert!(e.to_string().contains("input `count`: expected i64[], found f32[]"), "{e}");
        for e in [two.set("lr", &Tensor::scalar(1.0f32)).err(), two.get("lr").err()] {
            let e = e.expect("it is not carried").to_string();
            assert!(e.contains("`lr` is not carried: carried are `count`, `param.x`, `momentum.x`, `param.b`"), "{e}");
        }
        assert_eq!(two.get("param.x").expect("it is carried"), before);
    }
}

#[test]
fn a_step_that_fails_leaves_the_values_as_they_were() {
    let dir = tempdir().expect("a folder");
    let model = descent(dir.path());
    for engine in engines() {
        let (mut steps, mut other) = (bound(&*engine, &model), bound(&*engine, &model));
        let bad_data = [
            // Of the wrong shape, missing, unknown, carried: found before anything runs.
            (vec![named("index", Tensor::new(&[1, 1], vec![0i64])), data(0)[1].clone()], "expected i64[batch]"),
            (data(0)[..1].to_vec(), "missing input `lr`"),
            (
                [data(0), vec![named("z", Tensor::scalar(0i64))]].concat(),
                "unknown input `z`: the model takes `index`, `lr`",
            ),
            ([data(0), vec![start()[0].clone()]].concat(), "input `param.x` is carried from step to step"),
            // Found by the engine, while running.
            (vec![named("index", Tensor::new(&[2], vec![0i64, 77])), data(0)[1].clone()], "failed while running"),
        ];
        for (step, (bad, says)) in (0..).zip(bad_data) {
            steps.step(&data(step)).expect("a step");
            other.step(&data(step)).expect("a step");
            let e = steps.step(&bad).expect_err(says);
            assert!(e.to_string().contains(says), "{says}: {e}");
            for (input, _) in PAIRS {
                assert_eq!(steps.get(input).expect("carried"), other.get(input).expect("carried"), "{says}: {input}");
            }
        }
        assert_eq!(steps.step(&data(9)).expect("a step"), other.step(&data(9)).expect("a step"));
    }
}

#[test]
fn an_output_that_grows_cannot_become_its_input() {
    let dir = tempdir().expect("a folder");
    let nodes = vec![node("Concat", &["x", "x"], "y").attribute("axis", 0i64)];
    let ports = (vec![port("x", ElemType::Float, &["n"])], vec![port("y", ElemType::Float, &["m"])]);
    let model = write(dir.path(), nodes, vec![], ports.0, ports.1);
    let x = Tensor::new(&[2], vec![1.0f32, 2.0]);
    for engine in engines() {
        let session = engine.load(&model, &SessionOptions::default()).expect("a model");
        let mut steps = session.bind(&[("x", "y")], &[named("x", x.clone())]).expect("the model leaves the sizes open");
        let e = steps.step(&[]).expect_err("4 is not 2");
        assert_eq!(e.kind(), ErrorKind::Failed, "{e}");
        assert_eq!(steps.get("x").expect("it is carried"), x);
    }
}

#[test]
fn every_mistake_in_a_binding_is_named_at_once() {
    let dir = tempdir().expect("a folder");
    let model = descent(dir.path());
    for engine in engines() {
        let session = engine.load(&model, &SessionOptions::default()).expect("a model");
        let pairs = [
            ("param.x", "param_after.x"),
            ("param.x", "momentum_after.x"),
            ("momentum.x", "momentum_after.x"),
            ("count", "param_after.b"),
            ("param.b", "gone"),
            ("missing", "loss"),
        ];
        let start =
            vec![start()[0].clone(), start()[0].clone(), named("count", Tensor::scalar(0.5f32)), data(0)[1].clone()];
        let Err(EngineError::Bind(problems)) = session.bind(&pairs, &start) else { panic!("problems") };
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let (inputs, outputs) = (
            "`param.x`, `index`, `momentum.x`, `lr`, `param.b`, `count`",
            "`loss`, `param_after.x`, `momentum_after.x`, `param_after.b`, `rows`, `count_after`",
        );
        let expected = [
            "input `param.x` is carried more than once".to_owned(),
            format!("the model has no input `missing`: it has {inputs}"),
            "output `momentum_after.x` is carried more than once".to_owned(),
            format!("the model has no output `gone`: it has {outputs}"),
            "start values: input `param.x` is given more than once".to_owned(),
            "start values: missing input `momentum.x`: expected f32[2, 3]".to_owned(),
            "start values: missing input `param.b`: expected f64[]".to_owned(),
            "start values: input `count`: expected i64[], found f32[]".to_owned(),
            "start values: `lr` is not carried: carried are `param.x`, `momentum.x`, `param.b`, `count`".to_owned(),
            "output `param_after.b` cannot become input `count`: expected i64[], found f64[]".to_owned(),
        ];
        assert_eq!(said, expected);
        assert!(matches!(problems[4], BindProblem::Start(InputProblem::Repeated { .. })));
        assert_eq!(EngineError::Bind(problems).kind(), ErrorKind::BadFile);
    }
}
