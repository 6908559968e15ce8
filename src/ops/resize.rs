//! Resampling of maps to another size: bicubic, antialiased.
//!
//! One filter, the one that position tables are resampled with everywhere: cubic convolution with a = -0.5 (Keys 1981),
//! pixel centers at halves, widened when shrinking, weights outside of the map dropped and the rest brought to a sum
//! of one. This is `interpolate(mode="bicubic", antialias=True)` of PyTorch and `BICUBIC` of Pillow. The weights are
//! computed in f64.

use super::Arg;
use super::check::{fail, float, operands, rank};
use super::layout::bound;
use super::prelude::*;

op! {
    /// `[n, c, h, w]` to `[n, c, to[0], to[1]]`; see the module.
    pub struct Resize = "resize" {
        /// Height and width of the result.
        pub to: Shape,
    }
}

/// Half the width of the kernel.
const SUPPORT: f64 = 2.0;
/// The slope of the kernel at distance 1.
const CUBIC_A: f64 = -0.5;

fn cubic(x: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((CUBIC_A + 2.0) * x - (CUBIC_A + 3.0)) * x * x + 1.0
    } else if x < SUPPORT {
        (((x - 5.0) * x + 8.0) * x - 4.0) * CUBIC_A
    } else {
        0.0
    }
}

/// What each of `to` samples takes from the `from ≥ 1` samples of one axis: the first one and the weights from it on.
fn taps(from: usize, to: usize) -> Vec<(usize, Vec<f64>)> {
    let scale = from as f64 / to as f64;
    let wider = scale.max(1.0);
    let reach = SUPPORT * wider;
    let one = |i: usize| {
        let center = (i as f64 + 0.5) * scale;
        let first = (center - reach + 0.5).max(0.0) as usize;
        let end = ((center + reach + 0.5) as usize).min(from);
        let weights: Vec<f64> = (first..end).map(|j| cubic((j as f64 + 0.5 - center) / wider)).collect();
        let sum: f64 = weights.iter().sum();
        (first, weights.into_iter().map(|w| w / sum).collect())
    };
    (0..to).map(one).collect()
}

/// The same as a matrix `[to, from]`.
fn matrix(from: usize, to: usize) -> Tensor {
    let mut m = vec![0.0; to * from];
    for (row, (first, weights)) in m.chunks_mut(from).zip(taps(from, to)) {
        row[first..first + weights.len()].copy_from_slice(&weights);
    }
    Tensor::new(&[to, from], m)
}

/// Resamples the middle axis of `[outer, from, inner]`.
fn along(x: &[f64], [outer, from, inner]: [usize; 3], to: usize) -> Vec<f64> {
    let taps = taps(from, to);
    let mut y = vec![0.0; outer * to * inner];
    for o in 0..outer {
        for (i, (first, weights)) in taps.iter().enumerate() {
            let out = &mut y[(o * to + i) * inner..][..inner];
            for (j, w) in weights.iter().enumerate() {
                let row = &x[(o * from + first + j) * inner..][..inner];
                out.iter_mut().zip(row).for_each(|(y, x)| *y += w * x);
            }
        }
    }
    y
}

impl Resize {
    /// Sizes before and after, when all are known.
    fn known(&self, x: &TensorType) -> Option<[[usize; 2]; 2]> {
        let two = |d: &[Dim]| Some([d.first()?.size()?, d.get(1)?.size()?]);
        Some([two(x.shape.get(2..)?)?, two(&self.to)?])
    }
}

impl OpDef for Resize {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(x)?;
        float(x)?;
        rank(x, 4)?;
        if x.shape[2..].iter().any(|d| d.is(0)) {
            return fail(format!("{x} has no pixels to resample"));
        }
        if self.to.len() != 2 || self.to.iter().any(|d| !d.is_valid() || d.is(0)) {
            return fail(format!("the new size must be a height and a width, found {}", Shape::from(&*self.to)));
        }
        let shape = x.shape[..2].iter().chain(&self.to).cloned().collect();
        Ok(vec![TensorType { dtype: x.dtype, shape }])
    }
    fn eval(&self, x: &[Tensor], env: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        let (&[n, c, h, w], &[rows, columns]) = (x[0].shape(), &*bound(&self.to, env)?) else {
            return Err(EvalError("resize of other than two of four axes".into()));
        };
        if h * w * rows * columns == 0 {
            return Err(EvalError(format!("{h}×{w} does not resample to {rows}×{columns}")));
        }
        let wide = along(&x[0].to_f64_vec(), [n * c * h, w, 1], columns);
        let y = along(&wide, [n * c, h, columns], rows);
        Ok(vec![Tensor::new(&[n, c, rows, columns], y).cast(x[0].dtype())])
    }
    fn vjp<'g>(&self, v: &Vjp<'g, '_>) -> Grad<'g> {
        match self.known(&v.x[0].ty()) {
            Some(_) => Grad::ByDecomposition,
            None => Grad::Never("a resampling to a symbolic size has no gradient"),
        }
    }
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        s.since("an antialiased Resize", 18)?;
        let sizes = s.x[0].shape[..2].iter().chain(&self.to).cloned().collect();
        let call = s
            .node("Resize")
            .arg(Arg::Absent)
            .arg(Arg::Absent)
            .arg(Arg::Dims(sizes))
            .str("mode", "cubic")
            .str("coordinate_transformation_mode", "half_pixel")
            .float("cubic_coeff_a", CUBIC_A)
            .int("antialias", 1)
            .int("exclude_outside", 1);
        Ok(call)
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![("", "Resize", 10), ("", "Upsample", 7)]
    }
    /// Only what this op spells; the region of interest, the extrapolated value and the rounding of the nearest do not
    /// concern it.
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        let ours = s.op_type == "Resize"
            && s.opset >= 18
            && s.str("mode", "nearest")? == "cubic"
            && s.str("coordinate_transformation_mode", "half_pixel")? == "half_pixel"
            && s.str("keep_aspect_ratio_policy", "stretch")? == "stretch"
            && s.float("cubic_coeff_a", -0.75)? == CUBIC_A
            && s.flag("antialias")?
            && s.flag("exclude_outside")?
            && !(s.has(2) && *s.x(2)?.dims() != [Dim::known(0)])
            && s.has(3);
        if !ours {
            return s.refuse(format!(
                "of resampling, the antialiased bicubic one of opset 18 and later to a given size is supported: mode = \
                 cubic, antialias = 1, cubic_coeff_a = {CUBIC_A}, exclude_outside = 1, and operand 3"
            ));
        }
        let irrelevant = (s.has(1), s.float("extrapolation_value", 0.0)?, s.str("nearest_mode", "")?);
        drop(irrelevant);
        let (x, to) = (s.x(0)?, s.dims(3)?);
        if x.rank() != 4 || to.len() != 4 || x.dims()[..2] != to[..2] {
            return s.refuse(format!(
                "only the last two of four axes can be resampled, not {} to {}",
                x.ty(),
                Shape::from(to)
            ));
        }
        s.apply(Self { to: to[2..].into() }, &[x])
    }
    fn traits(&self) -> Traits {
        Traits { store_grown: true, ..Traits::ROUNDING }
    }
    /// Of the two matrix products, as if the matrices were dense up to the kernel's width.
    fn cost(&self, x: &[&TensorType], y: &[&TensorType]) -> Cost {
        Cost::new((x[0].shape.elements() + y[0].shape.elements()) * 8, x, y)
    }
    fn axes(&self, x: &[&TensorType], _: &[&TensorType]) -> Vec<Link> {
        axes::unary(x, |a| (Some(a), if a < 2 { Along::Each } else { Along::Whole }))
    }
    fn linear_in(&self, _: &[&TensorType]) -> Vec<Vec<usize>> {
        vec![vec![0]]
    }
    /// A matrix product for each axis, where sizes are known.
    fn definition<'g>(&self, x: &[T<'g>]) -> Option<Vec<T<'g>>> {
        let [x] = *x else { return None };
        let [[h, w], [rows, columns]] = self.known(&x.ty())?;
        let constant = |t: Tensor| x.builder().constant(t.cast(x.dtype()));
        let across = constant(matrix(w, columns)).t();
        Some(vec![constant(matrix(h, rows)).matmul(x.matmul(across))])
    }
    fn samples() -> Vec<Sample> {
        let to = |h: i64, w: i64| Self { to: [h, w].into() };
        vec![
            Sample::new(to(6, 5), [&[1, 2, 4, 3]]),
            Sample::new(to(2, 3), [&[2, 1, 5, 7]]),
            Sample::new(to(3, 9), [&[1, 1, 6, 4]]),
            Sample::new(to(3, 2), [&[2, 1, 2, 4]]).batched([0]),
        ]
        .into_iter()
        .map(|s| s.since(18))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Builder;
    use crate::eval;
    use crate::ir::{DType, Stage, Symbol};
    use crate::ops::Op;
    use std::path::Path;

    /// Written by `tests/fixtures/resample/make.py`: a map, and what PyTorch makes of it in f32 and in f64.
    fn fixtures() -> Vec<[Tensor; 3]> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/resample/pytorch.json");
        let text = std::fs::read_to_string(path).expect("the fixture");
        let json: Vec<serde_json::Value> = serde_json::from_str(&text).expect("JSON");
        let tensor = |v: &serde_json::Value| {
            let numbers = |k: &str| v[k].as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number"));
            let shape: Vec<usize> = numbers("shape").map(|n| n as usize).collect();
            Tensor::new(&shape, numbers("data").collect::<Vec<_>>())
        };
        json.iter().map(|case| ["input", "f32", "f64"].map(|k| tensor(&case[k]))).collect()
    }

    #[test]
    fn equals_pytorch() {
        let cases = fixtures();
        assert!(cases.len() >= 4);
        for [x, single, double] in cases {
            let op = Op::from(Resize { to: single.shape()[2..].iter().map(|&n| Dim::from(n)).collect() });
            // PyTorch computes the places of pixels in the type of the map.
            for (dtype, want, bound) in [(DType::F32, &single, 1e-5), (DType::F64, &double, 1e-8)] {
                let got = eval::op(&op, &[x.cast(dtype)]).expect("a value");
                let off = got[0].cast(DType::F64).max_abs_diff(want).expect("one shape");
                assert!(off <= bound, "{dtype} {:?} to {:?}: off by {off:e}", x.shape(), want.shape());
            }
        }
    }

    #[test]
    fn the_same_size_is_the_identity_and_constants_stay() {
        let identity = matrix(7, 7).to_f64_vec();
        assert!(identity.iter().enumerate().all(|(i, &w)| w == f64::from(u8::from(i % 8 == 0))));
        for (from, to) in [(1, 5), (5, 1), (14, 24), (24, 14)] {
            for row in matrix(from, to).to_f64_vec().chunks(from) {
                assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{from} to {to}");
            }
        }
    }

    #[test]
    fn the_definition_is_the_value() {
        let x = Tensor::new(&[1, 2, 3, 5], (0..30).map(|i| f64::from(i * i % 17)).collect::<Vec<_>>());
        let op = Resize { to: [6, 4].into() };
        let b = Builder::new("g", Stage::Built);
        let handle = b.constant(x.clone());
        b.output("y", op.definition(&[handle]).expect("sizes are known")[0]);
        let g = b.finish().expect("a graph");
        let y = eval::run(&g, &mut |p, _| Err(p.to_owned()), &[]).expect("a value");
        let direct = eval::op(&op.into(), &[x]).expect("a value");
        assert!(y[0].1.max_abs_diff(&direct[0]).expect("one shape") < 1e-12);
    }

    #[test]
    fn sizes_may_be_symbolic_and_not_empty() {
        let (h, w) = (Symbol::new("h").expect("a name"), Symbol::new("w").expect("a name"));
        let op = Resize { to: [&h, &w].map(|s| Dim::symbol(s.clone())).into() };
        let x = TensorType::new(DType::F32, [1, 2, 4, 4]);
        assert_eq!(op.infer(&[&x]).expect("a type")[0].to_string(), "f32[1, 2, h, w]");
        let value = Tensor::zeros(DType::F32, &[1, 2, 4, 4]);
        let run = |env: &Bindings| op.eval(std::slice::from_ref(&value), env);
        assert!(run(&Bindings::new()).expect_err("unbound").0.contains("unbound"));
        assert!(run(&Bindings::from([(h.clone(), 0), (w.clone(), 2)])).is_err());
        assert_eq!(run(&Bindings::from([(h, 3), (w, 2)])).expect("a value")[0].shape(), [1, 2, 3, 2]);
        let bad = |to: &[i64], x: &[i64]| Resize { to: to.into() }.infer(&[&TensorType::new(DType::F32, x)]).is_err();
        assert!(bad(&[2], &[1, 1, 4, 4]) && bad(&[0, 2], &[1, 1, 4, 4]) && bad(&[2, 2], &[1, 1, 0, 4]));
        assert!(bad(&[2, 2], &[4, 4]));
    }
}
