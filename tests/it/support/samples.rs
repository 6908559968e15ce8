//! Samples of ops, with numbers.

use vit_onnx::ir::{Bindings, Symbol, Tensor, TensorType};
use vit_onnx::ops::{Sample, SampleOperand};

/// Operands of a sample: a fixed sawtooth in its range, given values as they are.
pub(crate) fn operands(s: &Sample) -> Vec<(TensorType, Tensor)> {
    let (lo, hi) = s.range;
    let mut seed = 0.37f64;
    let mut env = Bindings::new();
    let mut draw = || {
        seed = (seed * 997.0 + 0.123).fract();
        lo + (hi - lo) * seed
    };
    let one = |o: &SampleOperand| match o {
        SampleOperand::Given(t) => (TensorType::new(t.dtype(), t.shape()), t.clone()),
        SampleOperand::Drawn(ty) => {
            env.extend(ty.shape.iter().flat_map(|d| d.symbols().cloned().collect::<Vec<Symbol>>()).map(|s| (s, 2)));
            let shape = ty.shape.eval(&env).expect("symbols are bound");
            let data: Vec<f64> = (0..shape.iter().product()).map(|_| draw()).collect();
            (ty.clone(), Tensor::new(&shape, data).cast(ty.dtype))
        }
    };
    s.operands.iter().map(one).collect()
}
