//! Overlapping windows of a map as vectors.

use crate::build::T;
use crate::ops::Slice;

/// `torch.nn.Unfold` with a square kernel: zero-pads all sides, then `[b, c, H, W] → [b, c·k·k, L]`, `L` row-major
/// over the positions of the window, **channel slowest** inside a vector: `index = (c·k + row)·k + column`.
///
/// Spelled as `k` strided slices of each axis: every slice moves whole rows, and no index table is stored.
/// A kernel larger than the padded map, or a stride of 0, is a diagnostic.
#[track_caller]
pub fn unfold(img: T<'_>, kernel: usize, stride: usize, pad: usize) -> T<'_> {
    if img.poisoned() {
        return img;
    }
    let x = img.pad(2, pad, pad).pad(3, pad, pad);
    let (h, w) = (x.size(2), x.size(3));
    if kernel == 0 || stride == 0 || kernel > h.min(w) {
        let message = format!("no window of {kernel}×{kernel} moves by {stride} over {h}×{w}");
        img.builder().error(message, &[img]);
        return img.poison();
    }
    let (rows, columns) = ((h - kernel) / stride + 1, (w - kernel) / stride + 1);
    let x = shifts(x, 2, kernel, stride, rows);
    let x = shifts(x, 4, kernel, stride, columns);
    // [b, c, row, y, column, x] to [b, c, row, column, y, x]
    x.rearrange("b c i y j x -> b (c i j) (y x)", &[])
}

/// `y[…, i, t, …] = x[…, i + stride·t, …]`: an axis becomes two, `kernel` shifts of `steps` elements each.
fn shifts(x: T<'_>, axis: usize, kernel: usize, stride: usize, steps: usize) -> T<'_> {
    let shift = |i: usize| {
        let end = i + stride * (steps - 1) + 1;
        let slice = Slice { axis, start: i.into(), end: end.into(), step: stride };
        x.builder().apply(slice, &[x]).unsqueeze(axis)
    };
    let all: Vec<T<'_>> = (0..kernel).map(shift).collect();
    T::concat(&all, axis as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Builder;
    use crate::eval;
    use crate::ir::{DType, Stage, Tensor, TensorType};
    use crate::ops::Graph;

    fn declared(shape: &[i64; 4], kernel: usize, stride: usize, pad: usize) -> Result<Graph, String> {
        let b = Builder::new("unfold", Stage::Built);
        let x = b.input("x", TensorType::new(DType::F32, *shape));
        b.output("y", unfold(x, kernel, stride, pad));
        b.finish().map_err(|e| e.to_string())
    }

    /// The definition, element by element.
    fn by_definition(x: &[f32], [n, c, h, w]: [usize; 4], k: usize, s: usize, p: usize) -> Vec<f32> {
        let at = |b: usize, ch: usize, y: usize, x_: usize| {
            let inside = (p..h + p).contains(&y) && (p..w + p).contains(&x_);
            if inside { x[((b * c + ch) * h + y - p) * w + x_ - p] } else { 0.0 }
        };
        let (rows, columns) = ((h + 2 * p - k) / s + 1, (w + 2 * p - k) / s + 1);
        let mut out = Vec::new();
        for b in 0..n {
            for (ch, i, j) in (0..c * k * k).map(|m| (m / (k * k), m / k % k, m % k)) {
                for (y, x) in (0..rows * columns).map(|l| (l / columns, l % columns)) {
                    out.push(at(b, ch, y * s + i, x * s + j));
                }
            }
        }
        out
    }

    #[test]
    fn is_the_definition() {
        for (shape, k, s, p) in [([2, 3, 7, 9], 3, 2, 1), ([1, 2, 8, 8], 7, 4, 2), ([1, 1, 6, 6], 2, 1, 0)] {
            let data: Vec<f32> = (1..=shape.iter().product::<usize>()).map(|i| i as f32).collect();
            let graph = declared(&shape.map(|n| n as i64), k, s, p).expect("a graph");
            let x = Tensor::new(&shape, data.clone());
            let mut none = |_: &str, _: &TensorType| Err("there are no parameters".to_owned());
            let y = eval::run(&graph, &mut none, &[("x", x)]).expect("a run");
            assert_eq!(y[0].1.to_vec::<f32>().expect("f32"), by_definition(&data, shape, k, s, p), "{k} {s} {p}");
        }
    }

    #[test]
    fn refuses_windows_that_do_not_fit() {
        assert!(declared(&[1, 1, 4, 4], 7, 2, 1).expect_err("7 of 6").contains("7×7"));
        assert!(declared(&[1, 1, 4, 4], 3, 0, 1).expect_err("no stride").contains("moves by 0"));
    }
}
