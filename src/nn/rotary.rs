//! Rotary position embedding along two axes (Su et al. 2021, arXiv 2104.09864).

use crate::build::T;
use crate::ir::Tensor;
use std::f64::consts::PI;

/// `steps` numbers from `first` to `last`, both included; one alone is the first. As `torch.linspace`, in f32.
pub fn linspace(first: f32, last: f32, steps: usize) -> Vec<f32> {
    let step = (last - first) / (steps.max(2) - 1) as f32;
    let from_either_end =
        |i: usize| if i < steps.div_ceil(2) { first + step * i as f32 } else { last - step * (steps - 1 - i) as f32 };
    (0..steps).map(from_either_end).collect()
}

/// Sine and cosine tables `[side², 4·scales]` of a square map: each pixel's row and column, both on `[-1, 1]`,
/// times `scales` times π; every angle twice, for the pair it turns.
#[track_caller]
pub fn axial_angles(scales: T<'_>, side: usize) -> [T<'_>; 2] {
    let n = scales.dim(0);
    let places = scales.builder().constant(Tensor::new(&[side, 1], linspace(-1.0, 1.0, side)));
    let angles = places * scales * PI;
    let whole = [side.into(), side.into(), n.clone()];
    [angles.sin(), angles.cos()].map(|t| {
        let rows = t.reshape([side.into(), 1.into(), n.clone()]).expand(whole.clone());
        let columns = t.reshape([1.into(), side.into(), n.clone()]).expand(whole.clone());
        let t = T::concat(&[rows, columns], 2).reshape([(side * side).into(), &n * 2, 1.into()]);
        T::concat(&[t, t], 2).reshape([(side * side).into(), &n * 4])
    })
}

/// Turns each pair of neighboring channels of `x: […, tokens, 2m]` by its angle.
#[track_caller]
pub fn rotate<'g>(x: T<'g>, [sin, cos]: [T<'g>; 2]) -> T<'g> {
    let mut pairs = x.dims().to_vec();
    if let Some(last) = pairs.last_mut() {
        *last = (x.size(-1) / 2).into();
        pairs.push(2.into());
    }
    let [a, b] = x.reshape(pairs).chunk(-1);
    x * cos + T::concat(&[-b, a], -1).reshape(x.dims()) * sin
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Builder;
    use crate::eval;
    use crate::ir::{DType, Stage, TensorType};

    #[test]
    fn linspace_has_both_ends() {
        assert_eq!(linspace(-1.0, 1.0, 5), [-1.0, -0.5, 0.0, 0.5, 1.0]);
        assert_eq!(linspace(1.0, 8.0, 1), [1.0]);
        assert!(linspace(1.0, 8.0, 0).is_empty());
    }

    #[test]
    fn pairs_turn_by_the_place_of_their_token() {
        let b = Builder::new("t", Stage::Built);
        let x = b.input("x", TensorType::new(DType::F32, [4, 4]));
        let scales = b.constant(Tensor::new(&[1], vec![0.5f32]));
        b.output("y", rotate(x, axial_angles(scales, 2)));
        let x = Tensor::new(&[4, 4], [1.0f32, 0.0, 0.0, 1.0].repeat(4));
        let no_param = &mut |p: &str, _: &TensorType| Err(p.to_owned());
        let y = eval::run(&b.finish().expect("well typed"), no_param, &[("x", x)]).expect("runs");
        // A quarter turn forward or back: (1, 0) to (0, ±1) by row, (0, 1) to (∓1, 0) by column.
        let by_hand = [[0.0, -1.0, 1.0, 0.0], [0.0, -1.0, -1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 1.0, -1.0, 0.0]];
        let by_hand = Tensor::new(&[4, 4], by_hand.concat().into_iter().map(|v: f64| v as f32).collect());
        assert!(y[0].1.max_abs_diff(&by_hand).is_some_and(|d| d < 1e-6), "{:?}", y[0].1);
    }
}
