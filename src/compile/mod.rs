//! The whole way, from a model declaration to a file: declare, optimize, legalize, emit, write.
//!
//! Building never needs the weights: [`compile`] takes milliseconds at any model size, and
//! [`Compiled::write`] streams the numbers from wherever they are.

pub mod confirm;
pub mod release;

use crate::build::BuildErrors;
use crate::image::Preprocessing;
use crate::lower::{self, EmitError};
use crate::onnx::{self, External, Model as OnnxModel, TensorData, WriteError, Written};
use crate::ops::{Graph, Program};
use crate::passes::{self, Ctx, Pass, PassError};
use crate::target::Target;
use crate::variants::{self, Declaration, Declare, ImageSize};
use crate::weights::{self, Checkpoint, Supply};
use std::path::Path;

/// Metadata keys of the files this tool writes.
pub mod metadata {
    /// The resolved model file (TOML); absent in files of variants that are not registered.
    pub const MODEL: &str = "vit-onnx.model";
    /// The tool's version.
    pub const VERSION: &str = "vit-onnx.version";
    /// The target it was compiled for.
    pub const TARGET: &str = "vit-onnx.target";
    /// `HxW` or `dynamic`, where the file is for other images than the checkpoint: what `--image-size` was.
    pub const IMAGE_SIZE: &str = "vit-onnx.image_size";
    /// What to do with an image before the model sees it (JSON).
    pub const PREPROCESSING: &str = "vit-onnx.preprocessing";
    /// Class names, one a line.
    pub const LABELS: &str = "vit-onnx.labels";
}

/// What to compile for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The target.
    pub target: &'static Target,
    /// The `ai.onnx` opset; `None` for the target's default, or the lowest that can say the model.
    pub opset: Option<i64>,
    /// A number of images, or `None` for a symbolic batch.
    pub batch: Option<usize>,
    /// Which images the model is compiled for.
    pub image_size: ImageSize,
    /// Intermediate values to output too.
    pub taps: Vec<String>,
    /// Class names, to travel with the file.
    pub labels: Option<String>,
    /// How passes are steered.
    pub passes: passes::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            target: Target::PORTABLE,
            opset: None,
            batch: None,
            image_size: ImageSize::Trained,
            taps: Vec::new(),
            labels: None,
            passes: passes::Options::default(),
        }
    }
}

/// Why a model could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The model cannot have images of this size.
    #[error("{0}")]
    ImageSize(String),
    /// The declaration does not type: sizes that do not fit.
    #[error("{0}")]
    Build(#[from] BuildErrors),
    /// The target cannot say the model, or a pass failed.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// The result cannot be written: a defect of this tool.
    #[error(transparent)]
    Emit(#[from] EmitError),
}

/// A compiled model; its numbers are still where they were.
#[derive(Debug)]
pub struct Compiled {
    /// As declared: its parameters are the checkpoint's.
    pub declared: Graph,
    /// Optimized, not yet decided for the target.
    pub optimized: Program,
    /// Legal for the target.
    pub program: Program,
    /// The ONNX model.
    pub model: OnnxModel,
    /// What the passes did and the reasons of rules that refused.
    pub report: Ctx,
    /// What whoever builds should know: position tables that are not used as they were learned.
    pub notes: Vec<String>,
}

/// Compiles a declaration.
pub fn compile(m: &Declaration, options: &Options) -> Result<Compiled, CompileError> {
    compile_with(m, options, &mut |_, _| ())
}

/// Compiles a declaration; `after` sees the program after every pass.
pub fn compile_with(
    m: &Declaration,
    options: &Options,
    after: &mut dyn FnMut(&Pass, &Program),
) -> Result<Compiled, CompileError> {
    m.decide(options.image_size).map_err(CompileError::ImageSize)?;
    let declare = Declare { batch: options.batch, image_size: options.image_size, taps: options.taps.clone() };
    let declared = m.declare(&declare)?;
    let passes::Run { program, optimized, ctx: report } =
        passes::compile(&Program::new(declared.clone()), options.target, options.opset, &options.passes, after)?;
    let optimized = optimized.expect("every pipeline legalizes");
    let opset = report.opset.expect("legalization decides the opset");
    let mut model = lower::emit(&program.graph, options.target, opset, describe(m, options))?;
    let order = weights::order(&program);
    model.graph.initializers.sort_by_key(|i| order.get(i.name.as_str()).copied().unwrap_or(usize::MAX));
    let notes = variants::resampled_tables(&declared);
    Ok(Compiled { declared, optimized, program, model, report, notes })
}

fn describe(m: &Declaration, options: &Options) -> Vec<(String, String)> {
    let image = m.variant.image();
    let size = m.preferred(options.image_size);
    let model = m.model_file().map(|file| (metadata::MODEL.to_owned(), file.to_string()));
    let mut out: Vec<(String, String)> = model.into_iter().collect();
    out.extend([
        (metadata::VERSION.to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        (metadata::TARGET.to_owned(), options.target.name.to_owned()),
    ]);
    if options.image_size != ImageSize::Trained {
        out.push((metadata::IMAGE_SIZE.to_owned(), options.image_size.to_string()));
    }
    // Photographs have one or three channels; other inputs have no standard preprocessing.
    if let Some(p) = Preprocessing::standard(size, image.channels) {
        let json = serde_json::to_string(&p).expect("preprocessing is plain data");
        out.push((metadata::PREPROCESSING.to_owned(), json));
    }
    if let Some(labels) = &options.labels {
        out.push((metadata::LABELS.to_owned(), labels.clone()));
    }
    out
}

impl Compiled {
    /// Bytes of all parameters of the file.
    pub fn weight_bytes(&self) -> u64 {
        let deferred = self.model.graph.initializers.iter().filter(|i| matches!(i.data, TensorData::Deferred));
        deferred.filter_map(onnx::Initializer::byte_len).sum()
    }

    /// Writes the file, streaming every parameter; `progress` is told the bytes of each as it is done.
    /// The file appears whole or not at all.
    pub fn write(
        &self,
        path: &Path,
        checkpoint: &Checkpoint,
        external: External,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Written, WriteError> {
        let supply = Supply::new(&self.program, checkpoint);
        onnx::write(&self.model, path, external, |i, out| {
            supply.write(&i.name, out)?;
            progress(i.byte_len().unwrap_or(0));
            Ok::<(), weights::SupplyError>(())
        })
    }
}
