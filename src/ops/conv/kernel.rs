//! The arithmetic of convolutions on contiguous images: windows are unfolded into columns and
//! multiplied as matrices; depthwise kernels are applied tap by tap.
//!
//! Knows sizes, not types: callers checked that everything fits.

use crate::ir::{Array, Element};
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, IxDyn, LinalgScalar};
use std::ops::AddAssign;

/// One axis of a window sliding over an image: tap `k` at step `s` is pixel `s·stride + k·dilation − pad`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slide {
    /// Pixels between steps.
    pub(super) stride: usize,
    /// Zeros in front of the image.
    pub(super) pad: usize,
    /// Pixels between taps.
    pub(super) dilation: usize,
    /// Number of taps.
    pub(super) kernel: usize,
    /// Pixels.
    pub(super) image: usize,
    /// Number of steps.
    pub(super) steps: usize,
}

impl Slide {
    /// The steps `[first, end)` at which tap `k` is inside of the image, and the pixel it is at first.
    fn inside(&self, k: usize) -> (usize, usize, usize) {
        let ahead = k * self.dilation;
        let first = self.pad.saturating_sub(ahead).div_ceil(self.stride);
        let end = (self.image + self.pad).saturating_sub(ahead).div_ceil(self.stride).min(self.steps);
        if first >= end { (0, 0, 0) } else { (first, end, first * self.stride + ahead - self.pad) }
    }
}

/// Calls `f(step, pixel, count)` for each row of steps at which tap `(i, j)` is inside of the image;
/// pixels of a row are `cols.stride` apart.
fn rows_inside([rows, cols]: &[Slide; 2], i: usize, j: usize, mut f: impl FnMut(usize, usize, usize)) {
    let (first, end, pixel) = rows.inside(i);
    let (left, right, column) = cols.inside(j);
    for row in first..end {
        let pixel = pixel + (row - first) * rows.stride;
        f(row * cols.steps + left, pixel * cols.image + column, right - left);
    }
}

/// Calls `f(tap, i, j)` for each kernel element.
fn taps([rows, cols]: &[Slide; 2], mut f: impl FnMut(usize, usize, usize)) {
    for i in 0..rows.kernel {
        for j in 0..cols.kernel {
            f(i * cols.kernel + j, i, j);
        }
    }
}

/// Sizes of an image, a kernel and a map of steps.
fn areas([rows, cols]: &[Slide; 2]) -> (usize, usize, usize) {
    (rows.image * cols.image, rows.kernel * cols.kernel, rows.steps * cols.steps)
}

fn matrix<A>(data: &[A], rows: usize, cols: usize) -> ArrayView2<'_, A> {
    ArrayView2::from_shape((rows, cols), data).expect("rows × cols elements")
}

/// A convolution: `x: [n, c, …image]`, `w: [o, c/groups, …kernel]` to `[n, o, …steps]`.
pub(super) fn correlate<A>(x: &Array<A>, w: &Array<A>, slides: &[Slide; 2], groups: usize) -> Array<A>
where
    A: Element + LinalgScalar + AddAssign,
{
    let (image, kernel, steps) = areas(slides);
    let (n, c, o, part) = (x.shape()[0], x.shape()[1], w.shape()[0], w.shape()[1]);
    let out = o / groups;
    let (x, w) = (x.as_standard_layout(), w.as_standard_layout());
    let (x, w) = (x.as_slice().expect("standard layout"), w.as_slice().expect("standard layout"));
    let mut y = vec![A::zero(); n * o * steps];
    // With one pixel for each step in the same order, the image is its own unfolding.
    let pointwise = kernel == 1 && slides.iter().all(|s| s.stride == 1 && s.pad == 0 && s.steps == s.image);
    let mut columns = if pointwise || part == 1 { Vec::new() } else { vec![A::zero(); part * kernel * steps] };
    for (b, g) in (0..n).flat_map(|b| (0..groups).map(move |g| (b, g))) {
        let x = &x[(b * c + g * part) * image..][..part * image];
        let w = &w[g * out * part * kernel..][..out * part * kernel];
        let y = &mut y[(b * o + g * out) * steps..][..out * steps];
        if part == 1 {
            for (k, y) in y.chunks_exact_mut(steps.max(1)).enumerate() {
                let w = &w[k * kernel..][..kernel];
                taps(slides, |tap, i, j| each_seen(x, slides, i, j, y, |y, x| *y += w[tap] * x));
            }
            continue;
        }
        let unfolded = if pointwise {
            x
        } else {
            for c in 0..part {
                let x = &x[c * image..][..image];
                let columns = &mut columns[c * kernel * steps..][..kernel * steps];
                // Steps outside of the image are zero from the start.
                taps(slides, |tap, i, j| {
                    each_seen(x, slides, i, j, &mut columns[tap * steps..][..steps], |column, x| *column = x);
                });
            }
            &columns
        };
        let (w, unfolded) = (matrix(w, out, part * kernel), matrix(unfolded, part * kernel, steps));
        let mut y = ArrayViewMut2::from_shape((out, steps), y).expect("out × steps elements");
        general_mat_mul(A::one(), &w, &unfolded, A::zero(), &mut y);
    }
    let shape = [n, o, slides[0].steps, slides[1].steps];
    Array::from_shape_vec(IxDyn(&shape), y).expect("n × o × steps elements")
}

/// Calls `f` with each step and the pixel that tap `(i, j)` sees there. Steps at which it is outside of the image are left.
fn each_seen<A: Copy>(x: &[A], slides: &[Slide; 2], i: usize, j: usize, y: &mut [A], f: impl Fn(&mut A, A)) {
    let stride = slides[1].stride;
    rows_inside(slides, i, j, |step, pixel, count| {
        for (y, &x) in y[step..step + count].iter_mut().zip(x[pixel..].iter().step_by(stride)) {
            f(y, x);
        }
    });
}

/// The adjoint of [`correlate`] in the image: `x: [n, c, …steps]`, `w: [c, o/groups, …kernel]` to `[n, o, …image]`.
pub(super) fn spread<A>(x: &Array<A>, w: &Array<A>, slides: &[Slide; 2], groups: usize) -> Array<A>
where
    A: Element + LinalgScalar + AddAssign,
{
    let (image, kernel, steps) = areas(slides);
    let (n, c, out) = (x.shape()[0], x.shape()[1], w.shape()[1]);
    let (part, o) = (c / groups, out * groups);
    let (x, w) = (x.as_standard_layout(), w.as_standard_layout());
    let (x, w) = (x.as_slice().expect("standard layout"), w.as_slice().expect("standard layout"));
    let mut y = vec![A::zero(); n * o * image];
    let mut columns = vec![A::zero(); out * kernel * steps];
    for (b, g) in (0..n).flat_map(|b| (0..groups).map(move |g| (b, g))) {
        let x = matrix(&x[(b * c + g * part) * steps..][..part * steps], part, steps);
        let w = matrix(&w[g * part * out * kernel..][..part * out * kernel], part, out * kernel);
        let mut target = ArrayViewMut2::from_shape((out * kernel, steps), &mut columns).expect("sized above");
        general_mat_mul(A::one(), &w.t(), &x, A::zero(), &mut target);
        for k in 0..out {
            let y = &mut y[(b * o + g * out + k) * image..][..image];
            taps(slides, |tap, i, j| {
                let column = &columns[(k * kernel + tap) * steps..][..steps];
                rows_inside(slides, i, j, |step, pixel, count| {
                    let pixels = y[pixel..].iter_mut().step_by(slides[1].stride);
                    for (y, &v) in pixels.zip(&column[step..step + count]) {
                        *y += v;
                    }
                });
            });
        }
    }
    let shape = [n, o, slides[0].image, slides[1].image];
    Array::from_shape_vec(IxDyn(&shape), y).expect("n × o × image elements")
}
