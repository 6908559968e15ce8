//! Learned positions for a grid of patches, on images of the size they were learned for and of others.
//!
//! A table has one row for each patch, row-major, after rows for tokens that are no patches. Where an image is of
//! another size there are two answers: the original packages take the leading rows, whatever places these were
//! learned for; fine-tuning at another resolution resamples the table as an image (as timm does).

use crate::build::T;
use crate::ir::Dim;
use crate::ops::Resize;

/// The positions of an image of another size than the table's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The leading rows of the table, as in the original packages.
    LeadingRows,
    /// The whole table, as in some releases of them: only images of its own size fit.
    Whole,
    /// The table resampled to the image's grid.
    Resampled,
}

impl Fit {
    /// The whole table in place of its leading rows.
    pub fn whole(self) -> Self {
        if self == Self::LeadingRows { Self::Whole } else { self }
    }
}

/// Rows and columns of patches of an image of `size`; that they divide is the embedding's to check.
pub fn patch_grid(size: &[Dim; 2], patch: [usize; 2]) -> [Dim; 2] {
    [0, 1].map(|i| size[i].floor_div(patch[i] as i64).unwrap_or(Dim::known(1)))
}

/// A table's entries for the tokens `x: [b, prefix + n, d]`, which lie on `grid`. `table` is
/// `[…, prefix + rows·columns, d]`, made for a grid of `trained` rows and columns.
#[track_caller]
pub fn positions<'g>(table: T<'g>, x: T<'g>, prefix: usize, trained: [usize; 2], grid: &[Dim; 2], fit: Fit) -> T<'g> {
    match fit {
        // An image smaller than the table uses its leading rows, not a 2-D crop.
        Fit::LeadingRows => table.narrow(-2, 0, x.dim(1)),
        Fit::Whole => table,
        Fit::Resampled => resample(table, prefix, trained, grid),
    }
}

/// Resamples `[…, prefix + from[0]·from[1], d]` as a map of `d` channels to `to`, bicubic with antialiasing; the
/// `prefix` rows stay. The table itself where the sizes are the same.
#[track_caller]
pub fn resample<'g>(table: T<'g>, prefix: usize, from: [usize; 2], to: &[Dim; 2]) -> T<'g> {
    if from.map(Dim::from) == *to || table.poisoned() {
        return table;
    }
    let d = table.dim(-1);
    let map = table.narrow(-2, prefix, from[0] * from[1]).reshape([1.into(), from[0].into(), from[1].into(), d]);
    let map = map.transpose(&[0, 3, 1, 2]);
    let map = map.builder().apply(Resize { to: to.as_slice().into() }, &[map]).transpose(&[0, 2, 3, 1]);
    let mut rows = table.dims();
    let axis = rows.len() - 2;
    rows[axis] = &to[0] * &to[1];
    let map = map.reshape(rows);
    if prefix == 0 { map } else { T::concat(&[table.narrow(-2, 0, prefix), map], -2) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Builder;
    use crate::eval;
    use crate::ir::{DType, Stage, Tensor, TensorType};

    fn run(shape: &[i64], prefix: usize, from: [usize; 2], to: [usize; 2]) -> (Tensor, Tensor) {
        let b = Builder::new("t", Stage::Built);
        let table = b.input("table", TensorType::new(DType::F32, shape));
        b.output("y", resample(table, prefix, from, &to.map(Dim::from)));
        let g = b.finish().expect("a graph");
        let n: i64 = shape.iter().product();
        let shape: Vec<usize> = shape.iter().map(|&n| n as usize).collect();
        let x = Tensor::new(&shape, (0..n).map(|i| ((i * 37) % 11) as f32).collect::<Vec<_>>());
        let y = eval::run(&g, &mut |p, _| Err(p.to_owned()), &[("table", x.clone())]).expect("a value");
        (x, y.into_iter().next().expect("one output").1)
    }

    #[test]
    fn rows_in_front_stay_and_channels_do_not_mix() {
        let (x, y) = run(&[1, 7, 2], 1, [2, 3], [4, 4]);
        let (x, y) = (x.to_f64_vec(), y.to_f64_vec());
        assert_eq!((y.len(), &x[..2]), (34, &y[..2]));
        // Each channel alone is resampled as the op resamples a map of one channel.
        for c in 0..2 {
            let map: Vec<f32> = (0..6).map(|i| x[2 + 2 * i + c] as f32).collect();
            let op = Resize { to: [4, 4].into() };
            let want = eval::op(&op.into(), &[Tensor::new(&[1, 1, 2, 3], map)]).expect("a value");
            let got: Vec<f64> = (0..16).map(|i| y[2 + 2 * i + c]).collect();
            assert_eq!(got, want[0].to_f64_vec());
        }
    }

    #[test]
    fn the_same_grid_is_the_table() {
        let (x, y) = run(&[6, 3], 0, [2, 3], [2, 3]);
        assert_eq!(x, y);
        assert_eq!(run(&[7, 3], 1, [2, 3], [4, 5]).1.shape(), [21, 3]);
    }
}
