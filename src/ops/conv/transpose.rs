//! The adjoint of a convolution in its image.

use super::super::check::{equal, fail, operands};
use super::{Conv, images, kernel, span};
use crate::ops::prelude::*;

op! {
    /// Each pixel of `x: [n, in, height, width]` adds its multiple of the kernel `w: [in, out/groups, kh, kw]`
    /// to the result, `strides` apart; then `pads` are cut off and `output_padding` is added. What [`Conv`] with the
    /// same attributes maps from an image to `x`'s shape, this maps back.
    pub struct ConvTranspose = "conv_transpose" {
        /// Rows and columns between the kernels of neighboring pixels.
        pub strides: [usize; 2],
        /// Cut off the result: top, left, bottom, right.
        pub pads: [usize; 4],
        /// Rows and columns between neighboring kernel elements.
        pub dilations: [usize; 2],
        /// Rows and columns that the result has more at its end, less than the stride: those that the strides of
        /// [`Conv`] left over.
        pub output_padding: [usize; 2],
        /// Independent convolutions side by side.
        pub groups: usize,
    }
}

impl ConvTranspose {
    /// The adjoint of a convolution, whose bias plays no part in it.
    pub(super) fn of(c: &Conv, output_padding: [usize; 2]) -> Self {
        Self { strides: c.strides, pads: c.pads, dilations: c.dilations, output_padding, groups: c.groups }
    }

    /// The convolution that this is the adjoint of.
    fn adjoint(&self) -> Conv {
        Conv { strides: self.strides, pads: self.pads, dilations: self.dilations, groups: self.groups, bias: false }
    }

    fn size(&self, i: usize, steps: &Dim, kernel: &Dim) -> Dim {
        let covered = (steps - 1) * Dim::from(self.strides[i]) + span(kernel, self.dilations[i]);
        covered + Dim::from(self.output_padding[i]) - Dim::from(self.pads[i]) - Dim::from(self.pads[2 + i])
    }
}

impl OpDef for ConvTranspose {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, w] = operands(x)?;
        self.adjoint().check()?;
        images(x, w)?;
        equal(format_args!("channels of {x} and {w}"), &x.shape[1], &w.shape[0])?;
        let groups = Dim::from(self.groups);
        if x.shape[1].exact_div(&groups).is_none() {
            return fail(format!("{} input channels do not split in {groups} groups", x.shape[1]));
        }
        let mut shape = vec![x.shape[0].clone(), &w.shape[1] * groups];
        for i in 0..2 {
            if self.output_padding[i] >= self.strides[i] {
                let (padding, strides) = (self.output_padding, self.strides);
                return fail(format!("output_padding {padding:?} must be less than the strides {strides:?}"));
            }
            let size = self.size(i, &x.shape[2 + i], &w.shape[2 + i]);
            if x.shape[2 + i].is(0) || size.value().is_some_and(|s| s < 0) {
                return fail(format!("nothing is left of {x} with the kernel {w} and pads {:?}", self.pads));
            }
            shape.push(size);
        }
        Ok(vec![TensorType::new(x.dtype, shape)])
    }
    fn eval(&self, x: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        let (steps, taps) = (&x[0].shape()[2..], &x[1].shape()[2..]);
        let size = |i: usize| self.size(i, &Dim::from(steps[i]), &Dim::from(taps[i])).size();
        let (Some(h), Some(w)) = (size(0), size(1)) else {
            return Err(EvalError(format!("conv_transpose: nothing is left of an image of {steps:?}")));
        };
        let slides = self.adjoint().slides(&[h, w], taps, steps);
        Ok(vec![match (&x[0], &x[1]) {
            (Tensor::F32(x), Tensor::F32(w)) => Tensor::F32(kernel::spread(x, w, &slides, self.groups)),
            (Tensor::F64(x), Tensor::F64(w)) => Tensor::F64(kernel::spread(x, w, &slides, self.groups)),
            _ => return Err(EvalError("conv_transpose of other than two float tensors of one type".into())),
        }])
    }
    fn vjp<'g>(&self, v: &Vjp<'g, '_>) -> Grad<'g> {
        let (x, w, g) = (v.x[0], v.x[1], v.grad(0));
        let dx = g.conv(self.adjoint(), w, None);
        Grad::To(vec![Some(dx), Some(self.adjoint().weight_gradient(g, x, [w.dim(2), w.dim(3)]))])
    }
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        s.bf16_since("ConvTranspose", 22)?;
        let w = s.x[1];
        Ok(self.adjoint().spell(s.node("ConvTranspose"), w).ints("output_padding", self.output_padding))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![("", "ConvTranspose", 7)]
    }
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        let (x, w) = (s.x(0)?, s.x(1)?);
        let op = Self::of(&Conv::read_attributes(s, x, w)?, s.sizes("output_padding", 0)?);
        let y = s.builder.apply(op, &[x, w]);
        let column = |c: T<'g>| c.reshape([c.dim(0), 1.into(), 1.into()]);
        Ok(vec![if s.has(2) { y + column(s.x(2)?) } else { y }])
    }
    fn traits(&self) -> Traits {
        Traits::ROUNDING
    }
    fn cost(&self, x: &[&TensorType], y: &[&TensorType]) -> Cost {
        Cost::new(x[0].shape.elements() * x[1].shape[1..].iter().product::<Dim>() * 2, x, y)
    }
    /// Which pixels reach a position depends on its remainder by the stride: all may.
    fn axes(&self, _: &[&TensorType], _: &[&TensorType]) -> Vec<Link> {
        let mut links = vec![Link::to(0, 0, 0, Along::Each)];
        links.extend([2, 3].map(|a| Link::to(0, a, a, Along::Whole)));
        links.extend([2, 3].map(|a| Link::gone(1, a, Along::Whole)));
        if self.groups == 1 {
            links.extend([Link::gone(0, 1, Along::Sum), Link::gone(1, 0, Along::Sum), Link::to(1, 1, 1, Along::Each)]);
        } else {
            links.extend([Link::to(0, 1, 1, Along::Whole), Link::to(1, 0, 1, Along::Whole)]);
            links.push(Link::to(1, 1, 1, Along::Merged { inner: 1.into() }));
        }
        links
    }
    fn linear_in(&self, _: &[&TensorType]) -> Vec<Vec<usize>> {
        vec![vec![0], vec![1]]
    }
    fn samples() -> Vec<Sample> {
        let of = |c: Conv, output_padding| Self::of(&c, output_padding);
        let c = Conv::new;
        vec![
            Sample::new(of(c(), [0, 0]), [&[2, 3, 3, 4], &[3, 2, 1, 1]]),
            Sample::new(of(c().pad(1), [0, 0]), [&[2, 3, 3, 4], &[3, 2, 3, 3]]),
            Sample::new(of(c().stride(2).pad(1), [1, 0]), [&[2, 3, 3, 4], &[3, 2, 3, 3]]),
            Sample::new(of(c().stride(4), [0, 1]), [&[1, 2, 2, 2], &[2, 3, 4, 4]]),
            Sample::new(of(c().stride(2).pad(1).groups(4), [1, 1]), [&[2, 4, 3, 2], &[4, 1, 3, 3]]),
            Sample::new(of(c().groups(2), [0, 0]), [&[1, 4, 3, 3], &[4, 3, 2, 3]]),
            Sample::new(of(c().dilation(2).pad(1), [0, 0]), [&[1, 2, 3, 3], &[2, 2, 2, 3]]),
            Sample::new(of(c().stride(2), [0, 0]), [&[2, 2, 2, 2], &[2, 2, 2, 2]]).batched([0]),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::DType;

    fn upsample(output_padding: [usize; 2]) -> ConvTranspose {
        ConvTranspose::of(&Conv::new().stride(2), output_padding)
    }

    #[test]
    fn spreads_each_pixel() {
        let x = Tensor::new(&[1, 1, 1, 2], vec![1.0f64, 10.0]);
        let w = Tensor::new(&[1, 1, 1, 3], vec![1.0f64, 2.0, 3.0]);
        let y = upsample([0, 1]).eval(&[x, w], &Bindings::new()).expect("fits");
        assert_eq!(y[0], Tensor::new(&[1, 1, 1, 6], vec![1.0, 2.0, 13.0, 20.0, 30.0, 0.0]));
    }

    #[test]
    fn is_the_adjoint_of_conv() {
        let x = Tensor::new(&[1, 2, 5, 4], (0..40).map(|i| f64::from(i * i % 17)).collect());
        let w = Tensor::new(&[3, 2, 3, 2], (0..36).map(|i| f64::from(i * 7 % 11)).collect());
        let conv = Conv { pads: [1, 0, 0, 1], ..Conv::new().stride(2) };
        let y = conv.eval(&[x.clone(), w.clone()], &Bindings::new()).expect("fits").remove(0);
        let g = Tensor::new(y.shape(), (0..y.len()).map(|i| (i as f64).sin()).collect());
        let back = ConvTranspose::of(&conv, [1, 1]);
        let dx = back.eval(&[g.clone(), w], &Bindings::new()).expect("fits").remove(0);
        assert_eq!(dx.shape(), x.shape());
        let dot = |a: &Tensor, b: &Tensor| a.to_f64_vec().iter().zip(b.to_f64_vec()).map(|(a, b)| a * b).sum::<f64>();
        assert!((dot(&y, &g) - dot(&x, &dx)).abs() < 1e-9);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let t = |s: [i64; 4]| TensorType::new(DType::F32, s);
        let e = |op: ConvTranspose, x, w| op.infer(&[&t(x), &t(w)]).expect_err("refused").0;
        assert!(e(upsample([2, 0]), [1, 2, 3, 3], [2, 1, 2, 2]).contains("output_padding"));
        assert!(e(upsample([0, 0]), [1, 2, 3, 3], [3, 1, 2, 2]).contains("channels"));
        assert!(e(ConvTranspose { pads: [9; 4], ..upsample([0, 0]) }, [1, 2, 3, 3], [2, 1, 2, 2]).contains("nothing"));
        assert!(e(ConvTranspose { groups: 2, ..upsample([0, 0]) }, [1, 3, 3, 3], [3, 1, 2, 2]).contains("2 groups"));
    }
}
