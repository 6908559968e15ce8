//! Activations of ONNX that variants spell as formulas.

use super::evaluate;
use crate::ops::check::{float, operands};
use crate::ops::prelude::*;
use crate::ops::{MICROSOFT, Vocab, kinds};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

/// The Gaussian error linear unit `x · Φ(x)`, exactly: `x · (erf(x/√2) + 1) / 2` (Hendrycks and Gimpel, 1606.08415).
pub fn gelu<V: Vocab>(x: V) -> V {
    x.clone() * ((x * FRAC_1_SQRT_2).erf() + 1.0) * 0.5
}

/// The activation of `MobileNetV3` and LeViT, `x · clamp(x + 3, 0, 6) / 6` (Howard et al., 1905.02244).
pub fn hard_swish<V: Vocab>(x: V) -> V {
    x.clone() * (x + 3.0).clamp(0.0, 6.0) * (1.0 / 6.0)
}

kinds! {
    /// The function.
    pub enum ActivationKind {
        /// [`gelu`]
        Gelu = "gelu", "Gelu";
        /// [`hard_swish`]
        HardSwish = "hard_swish", "HardSwish";
    }
    /// An activation, elementwise.
    pub struct Activation {}
}

impl OpDef for Activation {
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
    /// ONNX fixes `x · max(0, min(1, x/6 + 1/2))` for `HardSwish`, the same function.
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        let call = s.node(self.kind.onnx());
        Ok(match self.kind {
            ActivationKind::Gelu if s.opset >= 20 => call.str("approximate", "none"),
            ActivationKind::Gelu => {
                s.microsoft("Gelu before opset 20")?;
                call.domain(MICROSOFT)
            }
            ActivationKind::HardSwish => {
                s.bf16_since("HardSwish", 22)?;
                s.since("HardSwish", 14)?;
                call
            }
        })
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        let microsoft = ["Gelu", "BiasGelu", "FastGelu"].map(|name| (MICROSOFT, name, 1));
        [("", "Gelu", 20), ("", "HardSwish", 14)].into_iter().chain(microsoft).collect()
    }
    /// The approximation of GELU by tanh is a formula in primitives.
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        if s.op_type == "HardSwish" {
            return s.apply(Self { kind: ActivationKind::HardSwish }, &[s.x(0)?]);
        }
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
            return s.apply(Self { kind: ActivationKind::Gelu }, &[x]);
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
        Some(vec![match self.kind {
            ActivationKind::Gelu => gelu(x),
            ActivationKind::HardSwish => hard_swish(x),
        }])
    }
    fn samples() -> Vec<Sample> {
        let (gelu, hard_swish) = (Self { kind: ActivationKind::Gelu }, Self { kind: ActivationKind::HardSwish });
        vec![
            Sample::new(gelu.clone(), [&[2, 3, 4]]).since(20),
            Sample::new(gelu, [&[2, 3]]).since(20).batched([0]),
            Sample::new(hard_swish.clone(), [&[2, 3, 4]]),
            Sample::new(hard_swish.clone(), [&[5]]).range(3.5, 6.0),
            Sample::new(hard_swish, [&[5]]).range(-6.0, -3.5),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval;

    #[test]
    fn gelu_agrees_with_the_normal_distribution() {
        let x = Tensor::new(&[3], vec![0.0f64, 1.0, -2.0]);
        let y = eval::op(&Activation { kind: ActivationKind::Gelu }.into(), &[x]).expect("runs");
        let want = Tensor::new(&[3], vec![0.0, 0.841_344_746_068_542_9, -2.0 * 0.022_750_131_948_179_2]);
        assert!(y[0].max_abs_diff(&want).is_some_and(|d| d < 1e-14));
    }

    #[test]
    fn gelu_is_spelled_by_opset_and_domain() {
        let t = TensorType::new(DType::F32, [2]);
        let gelu = Activation { kind: ActivationKind::Gelu };
        let spell = |opset, contrib| gelu.onnx(&Spell { opset, contrib, x: &[&t] }).map(|call| call.domain);
        assert_eq!(spell(20, false), Ok(""));
        assert_eq!(spell(17, true), Ok(MICROSOFT));
        assert!(spell(17, false).is_err());
    }

    #[test]
    fn hard_swish_is_flat_below_and_the_identity_above() {
        let x = Tensor::new(&[4], vec![-4.0f64, -1.0, 1.5, 7.0]);
        let y = eval::op(&Activation { kind: ActivationKind::HardSwish }.into(), &[x]).expect("runs");
        let want = Tensor::new(&[4], vec![0.0, -1.0 / 3.0, 1.125, 7.0]);
        assert!(y[0].max_abs_diff(&want).is_some_and(|d| d < 1e-15));
    }
}
