//! Ops whose form or meaning changed between opset 7 and 23: one small model for each of them and each of its forms, run in
//! ONNX Runtime and in the interpreter that reads it back. What cannot be said in our ops is refused, and why is asserted.

use crate::support::engines::ort;
use std::path::Path;
use vit_onnx::ir::verify::verify;
use vit_onnx::ir::{DType, Tensor};
use vit_onnx::lower;
use vit_onnx::onnx::{self, Attribute, ElemType, External, Initializer, Model, Node, ValueInfo};
use vit_onnx::runtime::{Engine, Interpreter, SessionOptions};

/// A model of one node: inputs `x0`, `x1`, …, constants `c0`, `c1`, …, results `y0`, `y1`, ….
struct Case {
    node: Node,
    inputs: Vec<Tensor>,
    constants: Vec<Initializer>,
}

fn op(op_type: &str) -> Case {
    Case { node: Node::new(op_type, "it").outputs(["y0"]), inputs: Vec::new(), constants: Vec::new() }
}

fn initializer(name: &str, t: &Tensor) -> Initializer {
    let dims: Vec<i64> = t.shape().iter().map(|&d| d as i64).collect();
    Initializer::inline(name, t.dtype(), &dims, t.to_le_bytes())
}

impl Case {
    /// An operand that is an input of the model.
    fn x(mut self, t: Tensor) -> Self {
        self.node = self.node.inputs([format!("x{}", self.inputs.len())]);
        self.inputs.push(t);
        self
    }
    /// An operand that is constant.
    fn c(mut self, t: Tensor) -> Self {
        let name = format!("c{}", self.constants.len());
        self.constants.push(initializer(&name, &t));
        self.node = self.node.inputs([name]);
        self
    }
    /// An operand that is a constant vector of integers.
    fn i(self, v: &[i64]) -> Self {
        self.c(Tensor::new(&[v.len()], v.to_vec()))
    }
    /// An operand left out.
    fn none(mut self) -> Self {
        self.node = self.node.inputs([""]);
        self
    }
    fn a(mut self, name: &str, v: impl Into<Attribute>) -> Self {
        self.node = self.node.attribute(name, v);
        self
    }
    fn ints(self, name: &str, v: &[i64]) -> Self {
        self.a(name, v)
    }
    fn domain(mut self, domain: &str) -> Self {
        self.node = self.node.domain(domain);
        self
    }
    fn results(mut self, n: usize) -> Self {
        self.node.outputs = (0..n).map(|i| format!("y{i}")).collect();
        self
    }

    fn model(&self, opset: i64, results: &[ElemType]) -> Model {
        let mut imports = vec![(String::new(), opset)];
        if !self.node.domain.is_empty() {
            imports.push((self.node.domain.clone(), 1));
        }
        let input = |(i, t): (usize, &Tensor)| {
            let shape: Vec<_> = t.shape().iter().map(|&d| (d as i64).into()).collect();
            ValueInfo::new(format!("x{i}"), t.dtype(), shape)
        };
        let output = |(name, elem): (&String, &ElemType)| ValueInfo { name: name.clone(), elem: *elem, shape: None };
        Model {
            ir_version: 8,
            opset_imports: imports,
            graph: onnx::Graph {
                name: "older".into(),
                nodes: vec![self.node.clone()],
                inputs: self.inputs.iter().enumerate().map(input).collect(),
                outputs: self.node.outputs.iter().zip(results).map(output).collect(),
                initializers: self.constants.clone(),
                value_info: Vec::new(),
            },
            ..Model::default()
        }
    }

    fn given(&self) -> Vec<(String, Tensor)> {
        self.inputs.iter().enumerate().map(|(i, t)| (format!("x{i}"), t.clone())).collect()
    }
}

/// Numbers from -2 to 2, no two equal.
fn f(shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    let number = |i: usize| ((i * 37 + 11) % 101) as f32 / 25.25 - 2.0;
    Tensor::new(shape, (0..n).map(number).collect())
}

fn ints(shape: &[usize], v: &[i64]) -> Tensor {
    Tensor::new(shape, v.to_vec())
}

const END: i64 = i64::MAX;

/// A form of an op and the opsets in which it is compared: at least the first and the last of each version that has it.
fn forms() -> Vec<(Vec<i64>, Case)> {
    let s = |v: &[i64]| v.to_vec();
    let x = || f(&[2, 3, 4]);
    let positive = || Tensor::new(&[2, 3], vec![0.5f32, 1.0, 1.5, 2.0, 2.5, 3.0]);
    let norm = |c: usize| [0.5f32, 1.5, 0.75, 2.0].into_iter().cycle().take(c).collect::<Vec<_>>();
    let channels = || Tensor::new(&[3], norm(3));
    let mut all: Vec<(Vec<i64>, Case)> = vec![
        // Up to 12 all axes from `axis` on are one, the default is 1; after, `axis` is alone and the default -1.
        (s(&[7, 10, 11, 12, 13, 17, 23]), op("Softmax").x(x())),
        (s(&[7, 10, 11, 12, 13, 23]), op("Softmax").x(x()).a("axis", 0)),
        (s(&[7, 12, 13]), op("Softmax").x(x()).a("axis", 2)),
        (s(&[11, 12, 13, 23]), op("Softmax").x(x()).a("axis", -2)),
        (s(&[7, 12, 13, 23]), op("LogSoftmax").x(x())),
        (s(&[7, 12, 13]), op("LogSoftmax").x(x()).a("axis", 0)),
        // Bounds are attributes up to 9.
        (s(&[7, 9]), op("Slice").x(x()).ints("starts", &[1, -3]).ints("ends", &[2, END]).ints("axes", &[0, 2])),
        (s(&[7, 9]), op("Slice").x(x()).ints("starts", &[0, 1]).ints("ends", &[9, -1])),
        (s(&[10, 11, 12, 13, 23]), op("Slice").x(x()).i(&[1, -3]).i(&[2, END])),
        (s(&[11, 13, 23]), op("Slice").x(x()).i(&[0, -9]).i(&[-1, 9]).i(&[-2, -1]).i(&[1, 2])),
        (s(&[10, 13]), op("Slice").x(x()).i(&[3]).i(&[1]).i(&[2])),
        // Axes are an attribute up to 12.
        (s(&[7, 10, 11, 12]), op("Squeeze").x(f(&[1, 3, 1, 2])).ints("axes", &[0, 2])),
        (s(&[11, 12]), op("Squeeze").x(f(&[1, 3, 1, 2])).ints("axes", &[-2])),
        (s(&[13, 21, 23]), op("Squeeze").x(f(&[1, 3, 1, 2])).i(&[0, -2])),
        (s(&[7, 11, 13, 23]), op("Squeeze").x(f(&[1, 3, 1, 2]))),
        (s(&[7, 10, 11, 12]), op("Unsqueeze").x(f(&[3, 2])).ints("axes", &[0, 3])),
        (s(&[11, 12]), op("Unsqueeze").x(f(&[3, 2])).ints("axes", &[-1, 1])),
        (s(&[13, 21, 23]), op("Unsqueeze").x(f(&[3, 2])).i(&[-1, 1])),
        (s(&[7, 9, 11, 13, 23]), op("Flatten").x(x())),
        (s(&[7, 9, 11, 13, 23]), op("Flatten").x(x()).a("axis", 0)),
        (s(&[7, 9, 11, 13, 23]), op("Flatten").x(x()).a("axis", 3)),
        (s(&[11, 13, 23]), op("Flatten").x(x()).a("axis", -1)),
        (s(&[7, 12, 13, 14, 19, 23]), op("Reshape").x(x()).i(&[0, -1, 2])),
        (s(&[14, 19, 23]), op("Reshape").x(Tensor::zeros(DType::F32, &[0, 3])).i(&[3, 0]).a("allowzero", 1)),
        (s(&[7, 13, 14]), op("Reshape").x(Tensor::zeros(DType::F32, &[3, 0, 2])).i(&[0, 0, 2])),
        // Pads are an attribute up to 10; axes exist from 18 on; negative ones cut off.
        (s(&[7, 10]), op("Pad").x(f(&[2, 3])).ints("pads", &[0, 1, 2, 0]).a("value", 1.5f32)),
        (s(&[7, 10]), op("Pad").x(f(&[2, 4])).ints("pads", &[1, -1, 0, -2]).a("mode", "constant")),
        (s(&[11, 13, 18, 19, 21, 23]), op("Pad").x(f(&[2, 3])).i(&[0, 1, 2, 0]).c(Tensor::scalar(1.5f32))),
        (s(&[11, 13, 23]), op("Pad").x(f(&[2, 4])).i(&[1, -1, 0, -2])),
        (s(&[18, 19, 23]), op("Pad").x(f(&[2, 3])).i(&[1, 2]).c(Tensor::scalar(-1.0f32)).i(&[-1])),
        // Bounds are attributes up to 10.
        (s(&[7, 10]), op("Clip").x(f(&[2, 3])).a("min", -0.5f32).a("max", 1.0f32)),
        (s(&[7, 10]), op("Clip").x(f(&[2, 3])).a("max", 0.25f32)),
        (s(&[11, 12, 13, 23]), op("Clip").x(f(&[2, 3])).c(Tensor::scalar(-0.5f32)).c(Tensor::scalar(1.0f32))),
        (s(&[11, 13]), op("Clip").x(f(&[2, 3])).none().x(Tensor::scalar(0.25f32))),
        (s(&[12, 13]), op("Clip").x(ints(&[3], &[-5, 1, 9])).c(Tensor::scalar(0i64)).c(Tensor::scalar(4i64))),
        // Sizes are an attribute up to 12; `num_outputs`, of 18, need not divide.
        (s(&[7, 11, 12]), op("Split").x(f(&[2, 6])).ints("split", &[1, 2, 3]).a("axis", 1).results(3)),
        (s(&[7, 11, 13]), op("Split").x(f(&[2, 6])).a("axis", 1).results(3)),
        (s(&[13, 18, 23]), op("Split").x(f(&[2, 6])).i(&[1, 2, 3]).a("axis", -1).results(3)),
        (s(&[18, 23]), op("Split").x(f(&[2, 7])).a("axis", 1).a("num_outputs", 3).results(3)),
        (s(&[7, 9, 10]), op("Dropout").x(f(&[2, 3])).a("ratio", 0.25f32)),
        (s(&[12, 13, 22, 23]), op("Dropout").x(f(&[2, 3])).c(Tensor::scalar(0.25f32)).c(Tensor::scalar(false))),
        (s(&[7, 10, 12, 22]), op("Dropout").x(f(&[2, 3]))),
        // k is an attribute up to 9; the smallest exist from 11 on.
        (s(&[7, 9]), op("TopK").x(f(&[2, 5])).a("k", 2).results(2)),
        (s(&[10, 11, 23]), op("TopK").x(f(&[2, 5])).i(&[2]).a("axis", 1).results(2)),
        (s(&[11, 23]), op("TopK").x(f(&[2, 5])).i(&[3]).a("axis", -2 + 1).a("largest", 0).results(2)),
        (s(&[7, 11, 12, 13, 23]), op("ArgMax").x(x()).a("axis", 1)),
        (s(&[7, 11, 12, 13]), op("ArgMin").x(x()).a("keepdims", 0)),
        (s(&[12, 13]), op("ArgMax").x(x()).a("axis", -1).a("keepdims", 0).a("select_last_index", 0)),
        (s(&[7, 9, 14, 15]), {
            let x = op("BatchNormalization").x(f(&[2, 3, 2, 2]));
            x.c(channels()).c(f(&[3])).c(f(&[3])).c(channels()).a("epsilon", 0.125f32)
        }),
        (
            s(&[7, 8]),
            op("BatchNormalization").x(f(&[2, 3])).c(channels()).c(f(&[3])).c(f(&[3])).c(channels()).a("spatial", 1),
        ),
        // Types may differ from 12 on.
        (s(&[7, 12, 13, 15, 23]), op("Pow").x(positive()).x(f(&[3]))),
        (s(&[12, 13, 15]), op("Pow").x(positive()).x(ints(&[3], &[2, -1, 3]))),
        (s(&[12, 13, 15]), op("Pow").x(positive()).x(f(&[3]).cast(DType::F64))),
        (s(&[12, 13, 15]), op("Pow").x(ints(&[3], &[2, 3, 5])).x(Tensor::new(&[1], vec![2.0f32]))),
        // C may be left out from 11 on.
        (
            s(&[7, 9, 11, 13]),
            op("Gemm").x(f(&[4, 2])).x(f(&[3, 4])).x(f(&[3])).a("transA", 1).a("transB", 1).a("alpha", 0.5f32),
        ),
        (s(&[7, 9, 11, 13]), op("Gemm").x(f(&[2, 4])).x(f(&[4, 3])).x(f(&[2, 1])).a("beta", -2.0f32)),
        (s(&[11, 13]), op("Gemm").x(f(&[2, 4])).x(f(&[4, 3]))),
        (s(&[7, 9, 13]), op("MatMul").x(f(&[4])).x(f(&[2, 4, 3]))),
        (s(&[7, 9, 13]), op("MatMul").x(f(&[2, 3, 4])).x(f(&[4]))),
        (s(&[7, 13]), op("MatMul").x(f(&[4])).x(f(&[4]))),
        (s(&[7, 9, 13, 19, 21, 23]), op("Cast").x(f(&[2, 3])).a("to", 7)),
        (s(&[19, 23]), op("Cast").x(f(&[2, 3])).a("to", 11).a("saturate", 1)),
        (s(&[15, 19, 23]), op("CastLike").x(ints(&[2], &[-3, 4])).x(f(&[1]))),
        (
            s(&[7, 11, 22]),
            op("ConvTranspose").x(f(&[1, 2, 3, 3])).x(f(&[2, 3, 2, 2])).x(f(&[3])).ints("strides", &[2, 2]),
        ),
        (s(&[7, 11, 22]), op("Conv").x(f(&[1, 2, 5, 4])).x(f(&[3, 2, 2, 2])).x(f(&[3])).a("auto_pad", "VALID")),
        (s(&[7, 11, 13]), op("Gather").x(x()).x(ints(&[2, 2], &[0, 2, 1, 1])).a("axis", 1)),
        (s(&[11, 13, 23]), op("Gather").x(x()).x(ints(&[2], &[-1, 0])).a("axis", -1)),
        (s(&[11, 13]), op("GatherElements").x(f(&[2, 3])).x(ints(&[2, 2], &[0, -1, 2, 1])).a("axis", 1)),
        (s(&[16, 18, 23]), {
            let x = op("ScatterElements").x(f(&[2, 3])).x(ints(&[2, 2], &[0, 0, 2, 1]));
            x.x(f(&[2, 2])).a("axis", -1).a("reduction", "add")
        }),
        (s(&[7, 11, 13, 19]), op("Equal").x(ints(&[2, 2], &[1, 2, 3, 4])).x(ints(&[2], &[1, 4]))),
        (s(&[11, 13, 19]), op("Equal").x(f(&[2, 2])).x(f(&[2]))),
        (s(&[7, 9, 13]), op("Greater").x(f(&[2, 2])).x(f(&[2]))),
        (s(&[7, 9, 13]), op("Less").x(f(&[2, 2])).x(f(&[2]))),
        (s(&[9, 16]), op("Where").x(Tensor::new(&[2], vec![true, false])).x(f(&[2, 2])).x(f(&[1]))),
        (s(&[8, 13]), op("Expand").x(f(&[3, 1])).i(&[2, 1, 4])),
        (s(&[7, 13]), op("Tile").x(f(&[3, 1])).i(&[2, 4])),
        (s(&[9, 20, 23]), op("ConstantOfShape").i(&[2, 3]).a("value", initializer("", &ints(&[1], &[7])))),
        (s(&[9, 20, 23]), op("ConstantOfShape").i(&[5, 4])),
        (s(&[7, 9, 11, 13, 23]), op("Constant").a("value", initializer("", &f(&[2, 2])))),
        (s(&[12, 13, 23]), op("Constant").a("value_float", 0.1f32)),
        (s(&[12, 13, 23]), op("Constant").a("value_floats", vec![0.1f32, 2.0])),
        (s(&[12, 13, 23]), op("Constant").a("value_int", 3)),
        (s(&[12, 13, 23]), op("Constant").ints("value_ints", &[3, 4])),
        (s(&[7, 13, 14]), op("Relu").x(f(&[5]))),
        (s(&[7, 22]), op("Sin").x(f(&[5]))),
        (s(&[7, 13, 23]), op("Transpose").x(x())),
        (s(&[7, 11, 13]), op("Concat").x(f(&[2, 1])).x(f(&[2, 3])).a("axis", 1)),
        (s(&[7, 22]), op("GlobalAveragePool").x(f(&[1, 2, 3, 3]))),
        (s(&[7, 13, 23]), op("Identity").x(f(&[2]))),
        // Functions of later opsets.
        (s(&[14, 22]), op("HardSwish").x(f(&[9]))),
        (s(&[17, 23]), op("LayerNormalization").x(x()).c(f(&[3, 4])).c(f(&[3, 4])).a("axis", 1)),
        (s(&[17, 23]), op("LayerNormalization").x(x()).c(f(&[4])).a("epsilon", 0.125f32).a("stash_type", 1)),
        (s(&[20, 23]), op("Gelu").x(f(&[9]))),
        (s(&[20, 23]), op("Gelu").x(f(&[9])).a("approximate", "tanh")),
        (s(&[17]), op("Gelu").x(f(&[9])).domain("com.microsoft")),
        (s(&[17]), op("BiasGelu").x(f(&[2, 3])).x(f(&[3])).domain("com.microsoft")),
        (s(&[17]), op("FastGelu").x(f(&[2, 3])).x(f(&[3])).domain("com.microsoft")),
        (s(&[23]), op("Attention").x(f(&[1, 2, 3, 4])).x(f(&[1, 2, 5, 4])).x(f(&[1, 2, 5, 4]))),
    ];
    // Images of even and odd size, stride 2, kernel 3: padding differs, and which side gets more of it.
    for (mode, size) in [("SAME_UPPER", 6), ("SAME_UPPER", 5), ("SAME_LOWER", 6), ("SAME_LOWER", 5)] {
        let c = op("Conv").x(f(&[1, 2, size, 4])).x(f(&[3, 2, 3, 2])).ints("strides", &[2, 1]).a("auto_pad", mode);
        all.push((s(&[7, 11, 22]), c.ints("kernel_shape", &[3, 2])));
    }
    // Any number of operands; they broadcast from 8 on.
    for name in ["Max", "Min", "Sum", "Mean"] {
        all.push((s(&[7, 8, 13]), op(name).x(f(&[2, 3])).x(positive()).x(f(&[2, 3]))));
        all.push((s(&[8, 12, 13]), op(name).x(f(&[2, 1])).x(f(&[3])).x(f(&[1]))));
        all.push((s(&[7, 8]), op(name).x(f(&[3]))));
    }
    for (name, operand) in
        [("Sum", 13), ("Mean", 18), ("Max", 18), ("Min", 18), ("L1", 18), ("L2", 18), ("SumSquare", 18)]
    {
        let name = format!("Reduce{name}");
        all.push((s(&[7, 11, operand - 1]), op(&name).x(x()).ints("axes", &[0, 2]).a("keepdims", 0)));
        all.push((s(&[11, operand - 1]), op(&name).x(x()).ints("axes", &[-1])));
        all.push((s(&[7, operand - 1, operand, 23]), op(&name).x(x())));
        all.push((s(&[operand, 20, 23]), op(&name).x(x()).i(&[-1, 0]).a("keepdims", 0)));
        all.push((s(&[operand, 23]), op(&name).x(x()).i(&[]).a("noop_with_empty_axes", 0)));
        if ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"].contains(&name.as_str()) {
            all.push((s(&[operand, 23]), op(&name).x(x()).a("noop_with_empty_axes", 1)));
        }
    }
    all
}

fn write(model: &Model, path: &Path) {
    let supply = |i: &Initializer, _: &mut dyn vit_onnx::files::Sink| Err(format!("{} is deferred", i.name));
    onnx::write(model, path, External::Never, supply).expect("a file");
}

#[test]
fn older_forms_mean_what_onnx_runtime_computes() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("older.onnx");
    let (mut n, mut worst, mut wrong) = (0, (0.0f64, String::new()), Vec::new());
    for (opsets, case) in forms() {
        for opset in opsets {
            let what = format!("{:?} with {:?}, opset {opset}", case.node.op_type, case.node.attributes);
            // The interpreter says of what type the results are; ONNX Runtime infers it and refuses another.
            let raised = match lower::raise(&case.model(opset, &[DType::F32.into(); 8])) {
                Ok(r) => r.graph,
                Err(e) => {
                    wrong.push(format!("{what}: {e}"));
                    continue;
                }
            };
            let results: Vec<ElemType> = raised.outputs().iter().map(|o| raised.ty(o.value).dtype.into()).collect();
            write(&case.model(opset, &results), &path);
            let engines: [&dyn Engine; 2] = [&Interpreter, &ort()];
            let [ours, theirs] = engines.map(|engine| {
                let session = engine.load(&path, &SessionOptions::default());
                session.and_then(|mut s| s.run(&case.given())).map_err(|e| format!("{what} in {}: {e}", engine.name()))
            });
            match (ours, theirs) {
                (Ok(ours), Ok(theirs)) => {
                    for ((name, a), (_, b)) in ours.iter().zip(&theirs) {
                        if (a.dtype(), a.shape()) != (b.dtype(), b.shape()) {
                            wrong.push(format!("{what}: {name} is {a:?} here, {b:?} in ONNX Runtime"));
                            continue;
                        }
                        let scale = b.to_f64_vec().into_iter().fold(1.0f64, |m, v| m.max(v.abs()));
                        let d = a.max_abs_diff(b).expect("one shape") / scale;
                        if d > 2e-6 {
                            wrong.push(format!("{what}: {name} differs by {d:e}: {a:?} here, {b:?} in ONNX Runtime"));
                        }
                        if d > worst.0 {
                            worst = (d, what.clone());
                        }
                    }
                    assert_eq!(ours.len(), theirs.len(), "{what}");
                    n += 1;
                }
                (a, b) => wrong.extend([a.err(), b.err()].into_iter().flatten()),
            }
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    eprintln!("{n} models of older and newer forms, largest relative difference {:e} ({})", worst.0, worst.1);
    assert!(n > 300, "only {n} models");
}

/// Each is refused with these words, and with its name and opset.
#[test]
fn what_cannot_be_said_is_refused_with_the_reason() {
    let x = || f(&[2, 3, 4]);
    let image = || f(&[1, 2, 4, 4]);
    let refused: Vec<(i64, Case, &[&str])> = vec![
        (12, op("Softmax").x(x()).a("axis", 3), &["no axis 3 of 3"]),
        (12, op("Softmax").x(x()).a("axis", "last"), &["`axis` must be an integer"]),
        (12, op("Softmax").x(x()).a("temperature", 2.0f32), &["`temperature` is not supported"]),
        (12, op("Squeeze").x(f(&[1, 2])).i(&[0]), &["operand 1 is not supported"]),
        (13, op("Squeeze").x(f(&[1, 2])).ints("axes", &[0]), &["`axes` is not supported"]),
        (13, op("Squeeze").x(f(&[1, 2])).i(&[1]), &["axis 1", "size 1"]),
        (13, op("Unsqueeze").x(f(&[1, 2])).i(&[1, 1]), &["given twice"]),
        (9, op("Slice").x(x()).i(&[0]).i(&[1]), &["`starts` and `ends` are missing"]),
        (13, op("Slice").x(x()).i(&[0]).i(&[1]).ints("starts", &[0]), &["`starts` is not supported"]),
        (13, op("Slice").x(x()).i(&[-1]).i(&[-9]).i(&[0]).i(&[-1]), &["a step of -1", "positive ones are"]),
        (13, op("Slice").x(x()).i(&[0, 0]).i(&[1, 1]).i(&[1, -2]), &["given twice"]),
        (10, op("Clip").x(x()).c(Tensor::scalar(0.0f32)), &["operand 1 is not supported"]),
        (11, op("Clip").x(x()).a("min", 0.0f32), &["`min` is not supported"]),
        (17, op("Pad").x(x()).i(&[0, 0, 1, 0, 0, 1]).a("mode", "reflect"), &["mode = reflect", "constant is"]),
        (17, op("Pad").x(x()).i(&[0, 1]).none().i(&[2]), &["2 pads", "3 axes"]),
        (17, op("Split").x(f(&[2, 7])).a("axis", 1).results(3), &["does not split into 3 equal parts"]),
        (18, op("Split").x(f(&[2, 6])).a("axis", 1).results(3), &["num_outputs must be the number of results, 3"]),
        (13, op("Split").x(f(&[2, 6])).i(&[2, 3]).a("axis", 1).results(2), &["[2, 3]", "axis 1"]),
        (13, op("Dropout").x(x()).c(Tensor::scalar(0.5f32)).c(Tensor::scalar(true)), &["training_mode"]),
        (13, op("Dropout").x(x()).results(2), &["result 1 is not supported"]),
        (9, op("TopK").x(x()).i(&[1]).results(2), &["k must be a number"]),
        (13, op("TopK").x(x()).x(ints(&[1], &[1])).results(2), &["operand 1 must be integers that are constant"]),
        (13, op("ArgMax").x(x()).a("select_last_index", 1), &["select_last_index"]),
        (
            8,
            op("BatchNormalization").x(f(&[2, 3])).c(f(&[3])).c(f(&[3])).c(f(&[3])).c(f(&[3])).a("spatial", 0),
            &["spatial"],
        ),
        (
            9,
            op("BatchNormalization").x(f(&[2, 3])).c(f(&[3])).c(f(&[3])).c(f(&[3])).c(f(&[3])).results(5),
            &["training"],
        ),
        (
            15,
            op("BatchNormalization").x(f(&[2, 3])).c(f(&[3])).c(f(&[3])).c(f(&[3])).c(f(&[3])).a("training_mode", 1),
            &["training"],
        ),
        (7, op("Max").x(f(&[2, 3])).x(f(&[3])), &["from opset 8 on"]),
        (11, op("Pow").x(f(&[3])).x(ints(&[3], &[1, 2, 3])), &["from opset 12 on"]),
        (13, op("Gemm").x(f(&[2, 3])).x(f(&[3, 2])).x(f(&[2, 2, 2])), &["operand 2 must broadcast"]),
        (6, op("Relu").x(x()), &["opset 6 is not read; 7 to 23 are"]),
        (24, op("Relu").x(x()), &["opset 24 is not read; 7 to 23 are"]),
        (8, op("Erf").x(x()), &["exists since opset 9"]),
        (19, op("Gelu").x(x()), &["exists since opset 20"]),
        (20, op("Gelu").x(x()).a("approximate", "sigmoid"), &["approximate = sigmoid", "none and tanh are"]),
        (9, op("Scatter").x(f(&[2, 3])).x(ints(&[2, 1], &[0, 1])).x(f(&[2, 1])), &["reduction = none", "add"]),
        (13, op("ScatterElements").x(f(&[2, 3])).x(ints(&[2, 1], &[0, 1])).x(f(&[2, 1])), &["reduction = none", "add"]),
        (
            18,
            op("ScatterElements").x(f(&[2, 3])).x(ints(&[2, 1], &[0, 1])).x(f(&[2, 1])).a("reduction", "mul"),
            &["mul"],
        ),
        (7, op("Upsample").x(image()).a("scales", vec![1.0f32, 1.0, 2.0, 2.0]), &["bicubic"]),
        (9, op("Upsample").x(image()).c(Tensor::new(&[4], vec![1.0f32, 1.0, 2.0, 2.0])), &["bicubic"]),
        (11, op("Resize").x(image()).none().none().i(&[1, 2, 8, 8]).a("mode", "cubic"), &["bicubic", "opset 18"]),
        (18, op("Resize").x(image()).none().none().i(&[1, 2, 8, 8]).a("mode", "cubic"), &["antialias = 1"]),
        (17, op("LayerNormalization").x(x()).c(f(&[4])).c(f(&[4])).a("axis", 1), &["weight and bias"]),
        (17, op("Conv").x(f(&[1, 2, 9])).x(f(&[3, 2, 2])), &["two dimensions"]),
        (17, op("Conv").x(image()).x(f(&[3, 2, 2, 2])).ints("kernel_shape", &[3, 3]), &["kernel_shape"]),
        (17, op("Conv").x(image()).x(f(&[3, 2, 2, 2])).ints("strides", &[-1, 1]), &["`strides` must be 2 numbers"]),
        (17, op("Conv").x(image()).x(f(&[3, 5, 2, 2])), &["channels"]),
        (17, op("ConvTranspose").x(image()).x(f(&[2, 2, 2, 2])).ints("output_shape", &[8, 8]), &["`output_shape`"]),
        (23, op("Attention").x(image()).x(image()).x(image()).a("is_causal", 1), &["is_causal"]),
        (17, op("Cast").x(x()).a("to", 8), &["element type 8"]),
        (17, op("Celu").x(x()), &["the op Celu is not supported"]),
        (17, op("Gelu").x(x()).domain("ai.example"), &["the op Gelu is not supported", "ai.example::Gelu"]),
        (17, op("FusedMatMul").x(x()).x(x()).a("transBatchA", 1).domain("com.microsoft"), &["transBatchA"]),
        (17, op("Add").x(f(&[2])).x(f(&[3])), &["do not broadcast"]),
        (17, op("Reshape").x(x()).i(&[5, -1]), &["24 elements are not divisible by 5"]),
        (17, op("Reshape").x(x()).x(ints(&[1], &[24])), &["operand 1 must be integers that are constant"]),
    ];
    for (opset, case, words) in refused {
        let e = lower::raise(&case.model(opset, &[DType::F32.into(); 8])).expect_err(&case.node.op_type).to_string();
        let name = [format!("node `it` ({}", case.node.op_type), format!("opset {opset}")];
        let known = (7..24).contains(&opset) && case.node.domain.is_empty();
        let missing =
            words.iter().copied().chain(name.iter().map(String::as_str).filter(|_| known)).find(|w| !e.contains(w));
        assert_eq!(missing, None, "{} of opset {opset}: {e}", case.node.op_type);
    }
}

/// Every form with attributes, constants, shapes, operands and results that it was not made for, in old and new opsets: a
/// graph that verifies, or an error.
#[test]
fn malformed_nodes_are_refused_or_valid() {
    const EXTREMES: [i64; 7] = [i64::MIN, -7, -1, 0, 9, 1 << 40, i64::MAX];
    let (mut taken, mut refused) = (0u64, 0u64);
    let mut hold = |case: &Case| {
        // The versions at which forms change.
        for opset in [7, 9, 10, 11, 12, 13, 18, 23] {
            match lower::raise(&case.model(opset, &[DType::F32.into(); 8])) {
                Ok(raised) => {
                    verify(&raised.graph).unwrap_or_else(|e| panic!("{:?}, opset {opset}: {e}", case.node));
                    taken += 1;
                }
                Err(_) => refused += 1,
            }
        }
    };
    for (_, case) in forms() {
        let with = |change: &dyn Fn(&mut Case)| {
            let mut c =
                Case { node: case.node.clone(), inputs: case.inputs.clone(), constants: case.constants.clone() };
            change(&mut c);
            c
        };
        for i in 0..case.node.attributes.len() {
            for n in EXTREMES {
                let fill = |v: &mut Attribute| match v {
                    Attribute::Ints(v) => v.fill(n),
                    Attribute::Float(f) => *f = n as f32,
                    v => *v = Attribute::Int(n),
                };
                hold(&with(&|c| fill(&mut c.node.attributes[i].1)));
            }
            hold(&with(&|c| c.node.attributes[i].1 = Attribute::Ints(Vec::new())));
            hold(&with(&|c| c.node.attributes[i].1 = "no".into()));
            hold(&with(&|c| drop(c.node.attributes.remove(i))));
        }
        for (i, old) in case.constants.iter().enumerate() {
            let len = old.element_count().expect("a size") as usize;
            for n in EXTREMES {
                hold(&with(&|c| c.constants[i] = initializer(&old.name, &ints(&[len], &vec![n; len]))));
            }
            hold(&with(&|c| c.constants[i] = initializer(&old.name, &ints(&[], &[1]))));
            hold(&with(&|c| c.constants[i] = initializer(&old.name, &f(&[2, 2]))));
        }
        for i in 0..case.inputs.len() {
            for shape in [&[][..], &[0], &[1], &[3, 0, 2], &[1, 2, 1, 2, 1, 2]] {
                hold(&with(&|c| c.inputs[i] = f(shape)));
                hold(&with(&|c| c.inputs[i] = f(shape).cast(DType::I64)));
                hold(&with(&|c| c.inputs[i] = f(shape).cast(DType::Bool)));
            }
        }
        for i in 0..case.node.inputs.len() {
            hold(&with(&|c| c.node.inputs[i].clear()));
            hold(&with(&|c| c.node.inputs.truncate(i)));
        }
        hold(&with(&|c| c.node.outputs.push("more".to_owned())));
        hold(&with(&|c| c.node.outputs.clear()));
    }
    eprintln!("{taken} nodes were taken, {refused} refused");
    assert!(taken > 1000 && refused > 1000, "{taken} nodes were taken, {refused} refused");
}

/// The shape of a batch of unknown size, computed as exporters do, in old and new opsets.
#[test]
fn shapes_computed_in_the_model_are_followed() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("shapes.onnx");
    let int64 = |name: &str, v: &[i64]| Initializer::int64s(name, v);
    let node = |op: &str, inputs: &[&str], out: &str| Node::new(op, out).inputs(inputs.to_vec()).outputs([out]);
    for opset in [9, 11, 12, 13, 17, 23] {
        let old = opset < 13;
        let unsqueeze = |x: &str, out: &str| {
            if old {
                node("Unsqueeze", &[x], out).attribute("axes", vec![0i64])
            } else {
                node("Unsqueeze", &[x, "zero1"], out)
            }
        };
        let nodes = vec![
            // x [batch, 3, 4] → flat [batch, 12], by way of the shape's first number and the product of the rest.
            node("Shape", &["x"], "shape"),
            node("Gather", &["shape", "zero"], "batch"),
            node("Gather", &["shape", "one"], "rows"),
            node("Gather", &["shape", "minus"], "columns"),
            node("Mul", &["rows", "columns"], "size"),
            unsqueeze("batch", "batch1"),
            unsqueeze("size", "size1"),
            node("Concat", &["batch1", "size1"], "to").attribute("axis", 0),
            node("Cast", &["to"], "to64").attribute("to", 7),
            node("Reshape", &["x", "to64"], "flat"),
            // token [1, 12] expanded as `expand(batch, -1)`: where the target says -1, the size stays.
            node("Concat", &["batch1", "minus1"], "want").attribute("axis", -1),
            node("Shape", &["want"], "rank"),
            node("ConstantOfShape", &["rank"], "ones").attribute("value", int64("", &[1])),
            node("Mul", &["ones", "minus"], "minuses"),
            node("Equal", &["want", "minuses"], "open"),
            node("Where", &["open", "ones", "want"], "target"),
            node("Expand", &["token", "target"], "tokens"),
            node("Add", &["flat", "tokens"], "sum"),
            // [batch, 2, 6], with the half of a size.
            node("Div", &["size", "two"], "half"),
            unsqueeze("half", "half1"),
            node("Concat", &["batch1", "two1", "half1"], "split").attribute("axis", 0),
            node("Reshape", &["sum", "split"], "y"),
        ];
        let axes = if old { vec![] } else { vec![int64("zero1", &[0])] };
        let model = Model {
            ir_version: 8,
            opset_imports: vec![(String::new(), opset)],
            graph: onnx::Graph {
                name: "shapes".into(),
                nodes,
                inputs: vec![ValueInfo::new("x", DType::F32, ["batch".into(), 3.into(), 4.into()])],
                outputs: vec![ValueInfo { name: "y".into(), elem: DType::F32.into(), shape: None }],
                initializers: [
                    Initializer::int64("zero", 0),
                    Initializer::int64("one", 1),
                    Initializer::int64("two", 2),
                    Initializer::int64("minus", -1),
                    int64("minus1", &[-1]),
                    int64("two1", &[2]),
                    initializer("token", &f(&[1, 12])),
                ]
                .into_iter()
                .chain(axes)
                .collect(),
                value_info: Vec::new(),
            },
            ..Model::default()
        };
        write(&model, &path);
        let raised = lower::raise(&model).unwrap_or_else(|e| panic!("opset {opset}: {e}")).graph;
        assert_eq!(raised.ty(raised.outputs()[0].value).to_string(), "f32[batch, 2, 6]");
        let engines: [&dyn Engine; 2] = [&Interpreter, &ort()];
        let [ours, theirs] = engines.map(|engine| {
            let mut session = engine.load(&path, &SessionOptions::default()).unwrap_or_else(|e| panic!("{opset}: {e}"));
            session.run(&[("x".to_owned(), f(&[5, 3, 4]))]).unwrap_or_else(|e| panic!("{opset}: {e}"))
        });
        assert_eq!(ours, theirs, "opset {opset}");
    }
}
