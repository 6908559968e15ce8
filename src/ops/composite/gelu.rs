//! The Gaussian error linear unit.

use super::super::check::{float, operands};
use super::super::{MICROSOFT, Vocab};
use super::evaluate;
use crate::ops::prelude::*;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

/// `x · Φ(x)`, exactly: `x · (erf(x/√2) + 1) / 2` (Hendrycks and Gimpel, 1606.08415).
pub fn gelu<V: Vocab>(x: V) -> V {
    x.clone() * ((x * FRAC_1_SQRT_2).erf() + 1.0) * 0.5
}

op! {
    /// [`gelu`] elementwise.
    pub struct Gelu = "gelu" {}
}

impl OpDef for Gelu {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(x)?;
        float(x)?;
        Ok(vec![x.clone()])
    }
    fn eval(&self, x: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        evaluate(self, x)
    }
    fn vjp<'g>(&self, _: &Vjp<'g, '_>) -> Grad<'g> {
        Grad::ByDecomposition
    }
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        if s.opset >= 20 {
            return Ok(s.node("Gelu").str("approximate", "none"));
        }
        s.microsoft("Gelu before opset 20")?;
        Ok(s.node("Gelu").domain(MICROSOFT))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![("", "Gelu", 20), (MICROSOFT, "Gelu", 1), (MICROSOFT, "BiasGelu", 1), (MICROSOFT, "FastGelu", 1)]
    }
    /// The approximation by tanh is a formula in primitives.
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        let x = if s.op_type != "Gelu" && s.has(1) { s.x(0)? + s.x(1)? } else { s.x(0)? };
        let tanh = match s.domain {
            MICROSOFT => s.op_type == "FastGelu",
            _ => match s.str("approximate", "none")?.as_str() {
                "none" => false,
                "tanh" => true,
                other => return s.refuse(format!("approximate = {other} is not supported; none and tanh are")),
            },
        };
        if !tanh {
            return s.apply(Self {}, &[x]);
        }
        Ok(vec![x * (((x + x * x * x * 0.044715) * FRAC_2_PI.sqrt()).tanh() + 1.0) * 0.5])
    }
    fn traits(&self) -> Traits {
        Traits::ROUNDING
    }
    fn cost(&self, x: &[&TensorType], y: &[&TensorType]) -> Cost {
        Cost::each(5, x, y)
    }
    fn axes(&self, x: &[&TensorType], y: &[&TensorType]) -> Vec<Link> {
        axes::elementwise(x, y)
    }
    fn linear_in(&self, _: &[&TensorType]) -> Vec<Vec<usize>> {
        Vec::new()
    }
    fn definition<'g>(&self, x: &[T<'g>]) -> Option<Vec<T<'g>>> {
        let [x] = *x else { return None };
        Some(vec![gelu(x)])
    }
    fn samples() -> Vec<Sample> {
        vec![Sample::new(Self {}, [&[2, 3, 4]]).since(20), Sample::new(Self {}, [&[2, 3]]).since(20).batched([0])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval;

    #[test]
    fn agrees_with_the_normal_distribution() {
        let y = eval::op(&Gelu {}.into(), &[Tensor::new(&[3], vec![0.0f64, 1.0, -2.0])]).expect("runs");
        let want = Tensor::new(&[3], vec![0.0, 0.841_344_746_068_542_9, -2.0 * 0.022_750_131_948_179_2]);
        assert!(y[0].max_abs_diff(&want).is_some_and(|d| d < 1e-14));
    }

    #[test]
    fn is_spelled_by_opset_and_domain() {
        let t = TensorType::new(crate::ir::DType::F32, [2]);
        let spell =
            |opset, contrib| Gelu {}.onnx(&Spell { opset, contrib, x: &[&t], y: &[&t] }).map(|call| call.domain);
        assert_eq!(spell(20, false), Ok(""));
        assert_eq!(spell(17, true), Ok(MICROSOFT));
        assert!(spell(17, false).is_err());
    }
}
