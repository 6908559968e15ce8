//! A model loaded into ONNX Runtime.
//!
//! A provider that was asked for is registered or loading fails; the CPU is never a silent substitute.

use super::OrtEngine;
use super::carry::{port, tensor, value};
use crate::ir::Tensor;
use crate::runtime::{Engine as _, EngineError, Port, Provider, Session, SessionOptions, check_inputs};
use ::ort::ep::{CUDA, ExecutionProviderDispatch, TensorRT};
use ::ort::session::Session as Native;
use ::ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ::ort::value::Outlet;
use std::path::{Path, PathBuf};

pub(super) struct OrtSession {
    native: Native,
    engine: String,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    profiled: bool,
}

impl OrtSession {
    /// Loads with the providers asked for, in order; the CPU runs what they cannot.
    pub(super) fn load(engine: &OrtEngine, model: &Path, options: &SessionOptions) -> Result<Self, EngineError> {
        for &provider in &options.providers {
            if !engine.providers().contains(&provider) {
                let reason = format!("{} was built without it", engine.library().path.display());
                return Err(EngineError::Provider { provider, engine: engine.name(), reason });
            }
        }
        if !model.is_file() {
            let reason = if model.exists() { "not a regular file" } else { "no such file" };
            return Err(model_error(model, reason));
        }
        // The CPU can run everything, so nothing after it in the order of preference is ever reached.
        let accelerators = || options.providers.iter().copied().take_while(|p| *p != Provider::Cpu);
        let mut builder = base(engine, options)?;
        for provider in accelerators() {
            builder = builder.with_execution_providers([dispatch(provider)]).map_err(|e| EngineError::Provider {
                provider,
                engine: engine.name(),
                reason: said(&e),
            })?;
        }
        let native = builder.commit_from_file(model).map_err(|e| {
            let reason = said(&e);
            match accelerators().next() {
                // The runtime reports a missing device and a bad model alike; a model that loads on
                // the CPU is not at fault.
                Some(provider) if base(engine, options).is_ok_and(|mut b| b.commit_from_file(model).is_ok()) => {
                    EngineError::Provider { provider, engine: engine.name(), reason }
                }
                _ => model_error(model, reason),
            }
        })?;
        let ports = |outlets: &[Outlet]| {
            outlets.iter().map(|o| port(o).map_err(|reason| model_error(model, reason))).collect::<Result<Vec<_>, _>>()
        };
        let (inputs, outputs) = (ports(native.inputs())?, ports(native.outputs())?);
        Ok(Self { native, engine: engine.name(), inputs, outputs, profiled: options.profile.is_some() })
    }
}

impl Session for OrtSession {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn run(&mut self, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, EngineError> {
        check_inputs(&self.inputs, inputs)?;
        let engine = &self.engine;
        let failed = |e: ::ort::Error| EngineError::Run { engine: engine.clone(), reason: said(&e) };
        let values = inputs
            .iter()
            .map(|(name, tensor)| Ok((name.as_str(), value(tensor)?)))
            .collect::<Result<Vec<_>, ::ort::Error>>()
            .map_err(failed)?;
        let mut results = self.native.run(values).map_err(failed)?;
        self.outputs
            .iter()
            .map(|port| {
                let value = results.remove(&port.name).ok_or_else(|| EngineError::Run {
                    engine: engine.clone(),
                    reason: format!("it gave no output `{}`", port.name),
                })?;
                Ok((port.name.clone(), tensor(port.dtype, &value).map_err(failed)?))
            })
            .collect()
    }

    fn end_profile(&mut self) -> Result<Option<PathBuf>, EngineError> {
        if !std::mem::take(&mut self.profiled) {
            return Ok(None);
        }
        let failed = |e: ::ort::Error| EngineError::Run { engine: self.engine.clone(), reason: said(&e) };
        self.native.end_profiling().map(|path| Some(path.into())).map_err(failed)
    }
}

fn base(engine: &OrtEngine, options: &SessionOptions) -> Result<SessionBuilder, EngineError> {
    let set_up = || -> Result<SessionBuilder, ::ort::Error> {
        let builder = Native::builder(engine.environment())?.with_optimization_level(GraphOptimizationLevel::All)?;
        let builder = match options.threads {
            Some(n) => builder.with_intra_threads(n)?,
            None => builder,
        };
        let builder = if options.shares_processors {
            builder.with_config_entry("session.force_spinning_stop", "1")?
        } else {
            builder
        };
        Ok(match &options.profile {
            Some(path) => builder.with_profiling(path)?,
            None => builder,
        })
    };
    set_up().map_err(|e| EngineError::Unavailable { engine: engine.name(), reason: said(&e) })
}

fn dispatch(provider: Provider) -> ExecutionProviderDispatch {
    match provider {
        Provider::Cpu => ::ort::ep::CPU::default().build(),
        Provider::Cuda => CUDA::default().build(),
        Provider::TensorRt => TensorRT::default().build(),
    }
    .error_on_failure()
}

/// What the runtime says, which may end in empty lines.
fn said<R>(e: &::ort::Error<R>) -> String {
    e.message().trim().to_owned()
}

fn model_error(path: &Path, reason: impl Into<String>) -> EngineError {
    EngineError::Model { path: path.to_path_buf(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::DType;
    use crate::runtime::ErrorKind;
    use crate::runtime::ort::Search;
    use ndarray::{ArrayD, IxDyn};
    use onnx_protobuf::type_proto::{self, Tensor as TensorType};
    use onnx_protobuf::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto};
    use onnx_protobuf::{TypeProto, ValueInfoProto, tensor_shape_proto};
    use protobuf::{Message, MessageField};

    /// The engine of this machine; a machine without one is told so, and the test proves nothing there.
    fn engine() -> Option<OrtEngine> {
        match OrtEngine::discover(&Search::new(None)) {
            Ok(engine) => Some(engine),
            Err(e) => {
                #[allow(clippy::print_stderr)]
                {
                    eprintln!("SKIPPED, nothing was tested: {e}");
                }
                None
            }
        }
    }

    fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        NodeProto { op_type: op.into(), input: owned(inputs), output: owned(&[output]), ..NodeProto::default() }
    }

    /// `elements` is the number of the element type in `TensorProto.DataType`; a size is a number or a name.
    fn info(name: &str, elements: i32, shape: &[&str]) -> ValueInfoProto {
        let mut dims = TensorShapeProto::default();
        for size in shape {
            let mut dim = tensor_shape_proto::Dimension::default();
            match size.parse() {
                Ok(n) => dim.set_dim_value(n),
                Err(_) => dim.set_dim_param((*size).to_owned()),
            }
            dims.dim.push(dim);
        }
        let tensor = TensorType { elem_type: elements, shape: MessageField::some(dims), ..TensorType::default() };
        let value = Some(type_proto::Value::TensorType(tensor));
        let kind = TypeProto { value, ..TypeProto::default() };
        ValueInfoProto { name: name.into(), type_: MessageField::some(kind), ..ValueInfoProto::default() }
    }

    fn weight(name: &str, dims: &[i64], data: &[f32]) -> TensorProto {
        let raw_data = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        TensorProto { name: name.into(), data_type: 1, dims: dims.to_vec(), raw_data, ..TensorProto::default() }
    }

    fn write(
        folder: &Path,
        node: Vec<NodeProto>,
        initializer: Vec<TensorProto>,
        input: Vec<ValueInfoProto>,
        output: Vec<ValueInfoProto>,
    ) -> PathBuf {
        let graph = GraphProto { name: "g".into(), node, initializer, input, output, ..GraphProto::default() };
        let opset = OperatorSetIdProto { version: 17, ..OperatorSetIdProto::default() };
        let graph = MessageField::some(graph);
        let model = ModelProto { ir_version: 8, opset_import: vec![opset], graph, ..ModelProto::default() };
        let path = folder.join("model.onnx");
        std::fs::write(&path, model.write_to_bytes().expect("a complete message")).expect("a folder of the test");
        path
    }

    /// `y = x w + b` with x of `[batch, 2]`.
    fn affine(folder: &Path) -> PathBuf {
        let nodes = vec![node("MatMul", &["x", "w"], "xw"), node("Add", &["xw", "b"], "y")];
        let weights = vec![weight("w", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), weight("b", &[3], &[0.5, 0.0, -0.5])];
        write(folder, nodes, weights, vec![info("x", 1, &["batch", "2"])], vec![info("y", 1, &["batch", "3"])])
    }

    #[test]
    fn a_model_declares_its_ports_and_computes() -> Result<(), EngineError> {
        let Some(engine) = engine() else { return Ok(()) };
        let dir = tempfile::tempdir().expect("a temporary folder");
        let options = SessionOptions { threads: Some(1), providers: vec![Provider::Cpu], ..SessionOptions::default() };
        let mut session = engine.load(&affine(dir.path()), &options)?;
        assert_eq!(session.inputs()[0].signature(), "f32[batch, 2]");
        assert_eq!(session.outputs()[0].signature(), "f32[batch, 3]");
        // Column-major elements: the same matrix must come out of another memory order.
        let columns =
            ArrayD::from_shape_vec(IxDyn(&[2, 2]), vec![1.0f32, 0.0, 2.0, -1.0]).expect("four").reversed_axes();
        let x = Tensor::F32(columns.into_shared());
        assert_eq!(x, Tensor::new(&[2, 2], vec![1.0f32, 2.0, 0.0, -1.0]));
        let y = session.run(&[("x".to_owned(), x)])?;
        let expected = Tensor::new(&[2, 3], vec![9.5f32, 12.0, 14.5, -3.5, -5.0, -6.5]);
        assert_eq!(y, [("y".to_owned(), expected)]);
        let none = session.run(&[("x".to_owned(), Tensor::zeros(DType::F32, &[0, 2]))])?;
        assert_eq!(none[0].1.shape(), [0, 3]);
        Ok(())
    }

    #[test]
    fn every_element_type_passes_through() -> Result<(), EngineError> {
        let Some(engine) = engine() else { return Ok(()) };
        let values = [
            (1, Tensor::new(&[2], vec![1.5f32, f32::INFINITY])),
            (11, Tensor::new(&[2], vec![1e300f64, -0.0])),
            (7, Tensor::new(&[2], vec![i64::MIN, i64::MAX])),
            (9, Tensor::new(&[2], vec![true, false])),
            (1, Tensor::scalar(3.0f32)),
        ];
        for (elements, tensor) in values {
            let dir = tempfile::tempdir().expect("a temporary folder");
            let shape: &[&str] = if tensor.rank() == 0 { &[] } else { &["n"] };
            let ports = (vec![info("x", elements, shape)], vec![info("y", elements, shape)]);
            let model = write(dir.path(), vec![node("Identity", &["x"], "y")], vec![], ports.0, ports.1);
            let y = engine.load(&model, &SessionOptions::default())?.run(&[("x".to_owned(), tensor.clone())])?;
            assert_eq!(y[0].1, tensor);
        }
        Ok(())
    }

    #[test]
    fn inputs_that_do_not_fit_are_named() -> Result<(), EngineError> {
        let Some(engine) = engine() else { return Ok(()) };
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut session = engine.load(&affine(dir.path()), &SessionOptions::default())?;
        let e = session.run(&[("z".to_owned(), Tensor::scalar(1.0f32))]).expect_err("there is no z");
        assert_eq!(e.kind(), ErrorKind::BadFile);
        assert!(e.to_string().contains("missing input `x`") && e.to_string().contains("unknown input `z`"), "{e}");
        Ok(())
    }

    #[test]
    fn a_file_that_is_no_model_is_a_bad_file() {
        let Some(engine) = engine() else { return };
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("text.onnx");
        std::fs::write(&path, "this is not a model").expect("a folder of the test");
        for path in [path.as_path(), dir.path(), &dir.path().join("absent.onnx")] {
            let e = engine.load(path, &SessionOptions::default()).err().expect("no model");
            assert_eq!(e.kind(), ErrorKind::BadFile, "{e}");
            assert!(e.to_string().contains(&path.display().to_string()), "{e}");
        }
        let half = write(
            dir.path(),
            vec![node("Identity", &["x"], "y")],
            vec![],
            vec![info("x", 10, &["1"])],
            vec![info("y", 10, &["1"])],
        );
        let e = engine.load(&half, &SessionOptions::default()).err().expect("half floats cannot be fed");
        assert!(e.kind() == ErrorKind::BadFile && e.to_string().contains("f16"), "{e}");
    }

    #[test]
    fn a_provider_that_is_not_there_is_never_replaced() {
        let Some(engine) = engine() else { return };
        let dir = tempfile::tempdir().expect("a temporary folder");
        let model = affine(dir.path());
        for provider in Provider::ALL.into_iter().filter(|p| !engine.providers().contains(p)) {
            for providers in [vec![provider], vec![Provider::Cpu, provider]] {
                let e = engine
                    .load(&model, &SessionOptions { providers, ..SessionOptions::default() })
                    .err()
                    .expect("it is not built in");
                assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
                assert!(e.to_string().contains(provider.name()), "{e}");
            }
        }
    }

    #[test]
    fn a_second_library_cannot_be_entered() {
        let Some(engine) = engine() else { return };
        assert!(OrtEngine::enter(engine.library()).is_ok());
        let mut other = engine.library().clone();
        other.path = PathBuf::from("/another/libonnxruntime.so");
        assert_eq!(OrtEngine::enter(&other).err().map(|e| e.kind()), Some(ErrorKind::Unavailable));
    }
}
