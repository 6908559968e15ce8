//! Every fact about every op, one file per family.
//!
//! The `ops!` table below is the only list of ops. An op implements [`OpDef`] in its own file: its type
//! rule, its value, its gradient, its ONNX spelling and reading, its traits and sample instances. None of these
//! has a default, so a missing decision does not compile. What depends on neighbors, target or
//! budget is not a fact about an op and lives in passes.
//!
//! *Primitives* decide everything themselves. *Composites* (module [`composite`]) are a formula in
//! the vocabulary of primitives; value and gradient follow from it.
//!
//! Gradients and definitions are written with the authoring handle [`T`], so `ops` and `build` know
//! each other; neither knows files, protobuf or runtimes.

mod attributes;
mod axes;
pub mod check;
mod cost;
mod program;
mod region;
mod site;
mod spell;
mod vocab;

mod batch_norm;
mod binary;
pub mod composite;
mod constant;
mod conv;
mod gather;
mod layout;
mod logic;
mod matmul;
mod reduce;
mod resize;
mod softmax;
mod top_k;
mod training;
mod unary;

pub use attributes::{Attr, AttrValue, Attrs};
pub(crate) use attributes::{kinds, op};
pub use axes::{Along, Link};
pub use cost::Cost;
pub use program::Program;
pub use region::{Region, Wanted};
pub use site::{OnnxOp, Operand, Site, Unread};
pub use spell::{Arg, Call, MICROSOFT, OnnxAttr, Spell, Unspellable};
pub use vocab::Vocab;

use crate::build::T;
use crate::ir::{self, Bindings, Dim, Operator, Stage, Tensor, TensorType, TypeError};
use std::fmt::Debug;

/// What the files of ops are written with.
mod prelude {
    pub(super) use super::{
        Along, Call, Cost, EvalError, Grad, Link, OnnxOp, OpDef, Sample, Site, Spell, Traits, Unread, Unspellable, Vjp,
        Wanted, axes, op,
    };
    pub(super) use crate::build::T;
    pub(super) use crate::ir::{Array, Bindings, DType, Dim, Element, Real, Shape, Tensor, TensorType, TypeError};
}

/// A graph of [`Op`]s.
pub type Graph = ir::Graph<Op>;
/// A node of a [`Graph`].
pub type Node = ir::Node<Op>;

/// Why an op could not be evaluated: only ever bad index values or unbound symbols, since types are checked before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvalError(pub String);

/// How results may differ between engines that compute the same op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exactness {
    /// Bit for bit.
    Exact,
    /// Up to rounding; sums may be taken in another order.
    Rounding,
}

/// Facts that passes ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct Traits {
    /// The operands may be swapped.
    pub commutative: bool,
    /// How engines may differ.
    pub exactness: Exactness,
    /// Equal operands give equal results, so that two applications may become one and a known one may be computed
    /// early. Not so where training draws random numbers.
    pub pure: bool,
    /// Whether a result that is known before the run may be stored although it is larger than its operands: computing
    /// it in every run costs more than reading it.
    pub store_grown: bool,
    /// Whether elements are moved and not computed with: `eval` is then given every element type as it is; the values
    /// of other ops are asked for in f32, f64, i64 and bool only.
    pub moves: bool,
}

impl Traits {
    /// Data movement.
    pub const MOVES: Self = Self { moves: true, ..Self::EXACT };
    /// Comparisons, signs and integer arithmetic.
    pub const EXACT: Self =
        Self { commutative: false, exactness: Exactness::Exact, pure: true, store_grown: false, moves: false };
    /// Floating-point arithmetic.
    pub const ROUNDING: Self = Self { exactness: Exactness::Rounding, ..Self::EXACT };
}

/// What a gradient rule is given: operands, results, and for each result its cotangent if one flows.
#[derive(Clone, Copy, Debug)]
pub struct Vjp<'g, 'a> {
    /// Operands.
    pub x: &'a [T<'g>],
    /// Results.
    pub y: &'a [T<'g>],
    /// Cotangents of the results.
    pub g: &'a [Option<T<'g>>],
}

impl<'g> Vjp<'g, '_> {
    /// The cotangent of result `i`; zeros when none flows.
    pub fn grad(&self, i: usize) -> T<'g> {
        self.g[i].unwrap_or_else(|| self.y[i].zeros_like())
    }
}

/// How cotangents flow through an op.
#[derive(Clone, Debug)]
pub enum Grad<'g> {
    /// One per operand; `None` where nothing flows. A cotangent may still carry broadcast axes:
    /// the autodiff driver sums them away.
    To(Vec<Option<T<'g>>>),
    /// Deliberately flat: comparisons, argmax, integers.
    Zero,
    /// A composite: differentiate its definition.
    ByDecomposition,
    /// Reaching this op with a live cotangent is an error, for this reason.
    Never(&'static str),
}

impl<'g> Grad<'g> {
    /// The gradient of an op of one operand.
    pub fn one(g: T<'g>) -> Self {
        Self::To(vec![Some(g)])
    }
}

/// An instance of an op with operands, for the conformance suite. Operand values are drawn by the
/// suite from `range`; integer operands are given.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The instance.
    pub op: Op,
    /// Operand types, or values where the op needs particular ones (indices).
    pub operands: Vec<SampleOperand>,
    /// Where float operands are drawn from; chosen to stay clear of kinks and poles.
    pub range: (f64, f64),
    /// Lowest opset that can spell the instance.
    pub since: i64,
}

/// An operand of a [`Sample`].
#[derive(Clone, Debug)]
pub enum SampleOperand {
    /// Drawn by the suite. Symbols are bound to 2.
    Drawn(TensorType),
    /// Given.
    Given(Tensor),
}

impl Sample {
    /// Drawn f32 operands of these shapes, from (-2, 2).
    pub fn new<const N: usize>(op: impl Into<Op>, shapes: [&[i64]; N]) -> Self {
        let drawn = |s: &[i64]| SampleOperand::Drawn(TensorType::new(ir::DType::F32, s));
        Self { op: op.into(), operands: shapes.into_iter().map(drawn).collect(), range: (-2.0, 2.0), since: 17 }
    }
    /// Another range.
    pub fn range(mut self, lo: f64, hi: f64) -> Self {
        self.range = (lo, hi);
        self
    }
    /// A higher first opset.
    pub fn since(mut self, opset: i64) -> Self {
        self.since = opset;
        self
    }
    /// The size `batch`.
    pub fn batch() -> Dim {
        Dim::symbol(ir::Symbol::new("batch").expect("a name"))
    }
    /// The first axes of these drawn operands have the size `batch`, whatever was given.
    pub fn batched<const N: usize>(mut self, operands: [usize; N]) -> Self {
        for i in operands {
            if let SampleOperand::Drawn(t) = &mut self.operands[i] {
                t.shape[0] = Self::batch();
            }
        }
        self
    }
    /// One more operand, of this value.
    pub fn given(mut self, t: Tensor) -> Self {
        self.operands.push(SampleOperand::Given(t));
        self
    }
}

/// The text form of an op: mnemonic and attributes, implemented by the `op!` macro or by hand for families.
pub trait Mnemonic: Sized {
    /// The mnemonic, `snake_case`.
    fn mnemonic(&self) -> &'static str;
    /// Attributes in order of declaration, defaults included.
    fn attrs(&self) -> Vec<(&'static str, AttrValue)>;
    /// The op of this mnemonic; `None` when the mnemonic is another op's.
    fn parse(name: &str, attrs: &mut Attrs) -> Option<Result<Self, String>>;
}

/// Facts about an op. The semantic methods have no default bodies, but for what follows from others.
pub trait OpDef: Debug {
    /// Result types from operand types.
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError>;
    /// The reference meaning. Operands have the types that `infer` accepted, or those it [computes in](ir::DType::computes_in);
    /// see [`Traits::moves`].
    fn eval(&self, x: &[Tensor], env: &Bindings) -> Result<Vec<Tensor>, EvalError>;
    /// The vector-Jacobian product, emitted as ops.
    fn vjp<'g>(&self, v: &Vjp<'g, '_>) -> Grad<'g>;
    /// The ONNX spelling.
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable>;
    /// The ONNX ops that are read as this one or as formulas around it; no two ops name the same.
    fn onnx_ops() -> Vec<OnnxOp>
    where
        Self: Sized;
    /// The reading of a node of one of [`onnx_ops`](Self::onnx_ops), in every opset from 7 on: one value for each result.
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread>
    where
        Self: Sized;
    /// Facts that passes ask for.
    fn traits(&self) -> Traits;
    /// What a run costs, from the types of operands and results.
    fn cost(&self, x: &[&TensorType], y: &[&TensorType]) -> Cost;
    /// How operand axes become result axes.
    fn axes(&self, x: &[&TensorType], y: &[&TensorType]) -> Vec<Link>;
    /// Sets of operands in which the results are linear, all other operands fixed: `{a, b}` of `a + b` jointly, `{a}` and
    /// `{b}` of `a·b` each. Up to rounding; complete for single operands.
    fn linear_in(&self, x: &[&TensorType]) -> Vec<Vec<usize>>;
    /// A fragment that computes a window of a result, itself or with a slice after it, from less than the whole op:
    /// narrower operands, fewer of them, or a smaller op. `None` when only the whole op gives the window. The window is
    /// within the result. Operands are narrowed along the axes that [`axes`](Self::axes) links element by element, unless
    /// the op can do more.
    fn restricted<'g>(&self, w: &Wanted<'g, '_>) -> Option<T<'g>> {
        w.narrowed(&[]).apply(w.op.clone())
    }
    /// Instances for the conformance suite.
    fn samples() -> Vec<Sample>
    where
        Self: Sized;

    /// The formula of a composite, one value for each result; `None` for primitives.
    fn definition<'g>(&self, _x: &[T<'g>]) -> Option<Vec<T<'g>>> {
        None
    }
    /// The last stage at which the op may occur.
    fn until(&self) -> Stage {
        Stage::Legal
    }
}

macro_rules! ops {
    ($($name:ident: $path:path,)*) => {
        /// Every op there is.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs)]
        pub enum Op { $($name($path),)* }

        $(impl From<$path> for Op { fn from(op: $path) -> Self { Self::$name(op) } })*
        $(pub use $path;)*

        impl Op {
            /// The facts about this op.
            pub fn def(&self) -> &dyn OpDef {
                match self { $(Self::$name(op) => op,)* }
            }
            /// Its text mnemonic.
            pub fn mnemonic(&self) -> &'static str {
                match self { $(Self::$name(op) => op.mnemonic(),)* }
            }
            /// Its attributes, in order of declaration.
            pub fn attrs(&self) -> Vec<(&'static str, AttrValue)> {
                match self { $(Self::$name(op) => op.attrs(),)* }
            }
            /// The op of this mnemonic with these attributes; every attribute must be known.
            pub fn parse(name: &str, mut attrs: Attrs) -> Result<Self, String> {
                $(if let Some(op) = <$path as Mnemonic>::parse(name, &mut attrs) {
                    let op = op.map_err(|e| format!("{name}: {e}"))?;
                    if let Some(a) = attrs.leftover() { return Err(format!("{name} has no attribute `{a}`")); }
                    return Ok(Self::$name(op));
                })*
                Err(format!("there is no op `{name}`"))
            }
            /// The values that a node of an ONNX model means.
            pub fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
                let named = |o: &&OnnxOp| (o.0, o.1) == (s.domain, s.op_type);
                $(if let Some(&(_, _, since)) = <$path as OpDef>::onnx_ops().iter().find(named) {
                    return s.read(since, <$path as OpDef>::read);
                })*
                s.unknown()
            }
            /// Every ONNX op that can be read.
            pub fn onnx_ops() -> Vec<OnnxOp> {
                let mut all = Vec::new();
                $(all.extend(<$path as OpDef>::onnx_ops());)*
                all
            }
            /// Whether its value depends on its operands only: it draws no random numbers, and no attribute holds a size
            /// that is known only when the graph runs.
            pub fn is_settled(&self) -> bool {
                let symbolic = |a: &AttrValue| match a {
                    AttrValue::Dim(d) => d.value().is_none(),
                    AttrValue::Dims(d) => d.iter().any(|d| d.value().is_none()),
                    _ => false,
                };
                self.def().traits().pure && !self.attrs().iter().any(|(_, a)| symbolic(a))
            }
            /// Sample instances of every op.
            pub fn samples() -> Vec<Sample> {
                let mut all = Vec::new();
                $(all.extend(<$path as OpDef>::samples());)*
                all
            }
        }
    };
}

ops! {
    Const: constant::Const,
    Unary: unary::Unary,
    Binary: binary::Binary,
    Compare: logic::Compare,
    Where: logic::Where,
    Cast: logic::Cast,
    MatMul: matmul::MatMul,
    Conv: conv::Conv,
    ConvTranspose: conv::ConvTranspose,
    Reduce: reduce::Reduce,
    Softmax: softmax::Softmax,
    Reshape: layout::Reshape,
    Transpose: layout::Transpose,
    Expand: layout::Expand,
    Slice: layout::Slice,
    Pad: layout::Pad,
    Concat: layout::Concat,
    Resize: resize::Resize,
    Gather: gather::Gather,
    GatherElements: gather::GatherElements,
    ScatterElements: gather::ScatterElements,
    TopK: top_k::TopK,
    ArgMax: top_k::ArgMax,
    Dropout: training::Dropout,
    StopGradient: training::StopGradient,
    BatchNormalization: batch_norm::BatchNormalization,
    Activation: composite::Activation,
    LayerNormalization: composite::LayerNormalization,
    Attention: composite::Attention,
    FusedMatMul: composite::FusedMatMul,
}

pub use binary::BinaryKind;
pub use composite::ActivationKind;
pub(crate) use layout::ranges;
pub use logic::CompareKind;
pub use reduce::ReduceKind;
pub use unary::UnaryKind;

impl Operator for Op {
    fn name(&self) -> &'static str {
        self.mnemonic()
    }
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        self.def().infer(x)
    }
    fn allowed(&self, stage: Stage) -> bool {
        stage <= self.def().until()
    }
}
