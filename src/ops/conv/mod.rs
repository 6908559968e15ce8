//! Two-dimensional convolution and its gradients.
//!
//! As everywhere in deep learning the kernel is not flipped: this is a cross-correlation. Authors
//! spell a bias as an addition; the third operand is what passes fuse it into. [`ConvTranspose`] is the adjoint of
//! [`Conv`] in the image, and the adjoint in the kernel is a `Conv` again, so the two are closed
//! under differentiation. How fast either runs on a target is not decided here.

mod kernel;
mod transpose;

pub use transpose::ConvTranspose;

use super::check::{equal, fail, float, operands_and_bias, rank, same_dtype};
use super::prelude::*;
use super::region::{Narrowed, overlap};
use super::{Binary, BinaryKind};
use kernel::Slide;

op! {
    /// `y[n, o, i, j] = Σ_{c,p,q} x[n, c, i·s₀ + p·d₀ − top, j·s₁ + q·d₁ − left] · w[o, c, p, q]` on
    /// `x: [n, in, height, width]` and `w: [out, in/groups, kh, kw]`; group `k` of the outputs sees
    /// group `k` of the inputs, and outside of the image is zero. A bias `[out]`, if any, is the third operand and is
    /// added to every position of its channel.
    pub struct Conv = "conv" {
        /// Rows and columns between neighboring outputs.
        pub strides: [usize; 2],
        /// Zeros around the image: top, left, bottom, right.
        pub pads: [usize; 4],
        /// Rows and columns between neighboring kernel elements.
        pub dilations: [usize; 2],
        /// Independent convolutions side by side.
        pub groups: usize,
        /// Whether there is a bias.
        pub bias: bool,
    }
}

impl Default for Conv {
    fn default() -> Self {
        Self { strides: [1; 2], pads: [0; 4], dilations: [1; 2], groups: 1, bias: false }
    }
}

impl Conv {
    /// Stride 1, no padding, no dilation, one group, no bias.
    pub fn new() -> Self {
        Self::default()
    }
    /// This stride along both axes.
    pub fn stride(self, s: usize) -> Self {
        Self { strides: [s; 2], ..self }
    }
    /// This many zeros on each side.
    pub fn pad(self, p: usize) -> Self {
        Self { pads: [p; 4], ..self }
    }
    /// This dilation along both axes.
    pub fn dilation(self, d: usize) -> Self {
        Self { dilations: [d; 2], ..self }
    }
    /// This many groups; as many as channels for a depthwise convolution.
    pub fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }
    /// With a third operand that is added.
    pub fn with_bias(self) -> Self {
        Self { bias: true, ..self }
    }

    /// The gradient of `w` (of height and width `size`), from the image and the cotangent of the result.
    ///
    /// Where windows do not overlap (patch embeddings, pointwise convolutions) it is one matrix product.
    /// Elsewhere it is one `Conv`: batch and channels trade places, the cotangent is the kernel, strides and
    /// dilations trade places. The alternative, a slice and a product for each kernel position, costs
    /// `3·kh·kw` nodes and as many passes over the image; it was left because depthwise kernels are the
    /// common case here and every pass is then bound by memory.
    fn weight_gradient<'g>(&self, x: T<'g>, g: T<'g>, size: [Dim; 2]) -> T<'g> {
        let [n, c, o] = [x.dim(0), x.dim(1), g.dim(1)];
        let g = g.transpose(&[1, 0, 2, 3]);
        if let Some(patches) = self.patches(x, g, &size) {
            let places = &(&n * g.dim(2)) * g.dim(3);
            return g.reshape([o.clone(), places]).matmul(patches).reshape([o, c, size[0].clone(), size[1].clone()]);
        }
        let groups = Dim::from(self.groups);
        let part = c.exact_div(&groups).unwrap_or(c);
        let (h, w) = (x.dim(2), x.dim(3));
        let x = if self.groups == 1 {
            x.transpose(&[1, 0, 2, 3])
        } else {
            let split = x.reshape([n.clone(), groups.clone(), part.clone(), h.clone(), w.clone()]);
            split.transpose(&[2, 1, 0, 3, 4]).reshape([part, &n * groups, h, w])
        };
        let swapped = Self { strides: self.dilations, dilations: self.strides, bias: false, ..self.clone() };
        // Rows and columns that the stride never reached make the result larger than the kernel.
        let [kh, kw] = size;
        x.conv(swapped, g, None).narrow(2, 0, kh).narrow(3, 0, kw).transpose(&[1, 0, 2, 3])
    }

    /// `[n·oh·ow, c·kh·kw]`: the patches that the outputs see, when no two share a pixel.
    /// `g` is the cotangent as `[out, n, oh, ow]`.
    fn patches<'g>(&self, mut x: T<'g>, g: T<'g>, size: &[Dim; 2]) -> Option<T<'g>> {
        let [kh, kw] = [size[0].size()?, size[1].size()?];
        if self.groups != 1 || self.pads != [0; 4] {
            return None;
        }
        if [kh, kw] == [1, 1] {
            for (axis, stride) in [2, 3].into_iter().zip(self.strides) {
                x = if stride == 1 { x } else { x.every(axis, stride) };
            }
        } else if self.strides != [kh, kw] || self.dilations != [1, 1] {
            return None;
        }
        let ([n, c], [oh, ow]) = ([x.dim(0), x.dim(1)], [g.dim(2), g.dim(3)]);
        let x = x.narrow(2, 0, &oh * kh).narrow(3, 0, &ow * kw);
        let cut = x.reshape([n.clone(), c.clone(), oh.clone(), kh.into(), ow.clone(), kw.into()]);
        Some(cut.transpose(&[0, 2, 4, 1, 3, 5]).reshape([&(&n * oh) * ow, &c * (kh * kw)]))
    }

    /// The two axes of a window of `kernel` over `image`, taking `steps`.
    fn slides(&self, image: &[usize], kernel: &[usize], steps: &[usize]) -> [Slide; 2] {
        [0, 1].map(|i| Slide {
            stride: self.strides[i],
            pad: self.pads[i],
            dilation: self.dilations[i],
            kernel: kernel[i],
            image: image[i],
            steps: steps[i],
        })
    }

    /// Narrows operands to the groups that a window of channels meets; how many they are. `None` without such a window,
    /// or when its bounds are no numbers.
    fn some_groups(&self, n: &mut Narrowed<'_, '_>, y: &TensorType) -> Option<usize> {
        let (start, size) = n.rest.axes[1].as_ref()?;
        let (start, size) = (start.size()?, size.size().filter(|&s| s > 0)?);
        let [inputs, outputs] = [n.x[1].dim(1).size()?, y.shape[1].size()? / self.groups];
        let (first, end) = (start / outputs, (start + size).div_ceil(outputs));
        let groups = end - first;
        if groups == self.groups {
            return None;
        }
        // Within one group any channels will do.
        let (from, taken) = if groups == 1 { (start, size) } else { (first * outputs, groups * outputs) };
        let left = (start - from, size);
        n.rest.axes[1] = (left != (0, taken)).then(|| (left.0.into(), left.1.into()));
        n.narrow(0, 1, first * inputs, groups * inputs);
        (1..n.x.len()).for_each(|i| n.narrow(i, 0, from, taken));
        Some(groups)
    }

    /// What does not depend on the operands.
    fn check(&self) -> Result<(), TypeError> {
        if self.strides.contains(&0) || self.dilations.contains(&0) || self.groups == 0 {
            return fail(format!(
                "strides, dilations and groups must be positive: {:?}, {:?} and {}",
                self.strides, self.dilations, self.groups
            ));
        }
        Ok(())
    }

    /// The attributes of `Conv` and `ConvTranspose` in ONNX, without the bias.
    fn read_attributes<'g>(s: &Site<'_, 'g>, x: T<'g>, w: T<'g>) -> Result<Self, Unread> {
        if x.rank() != 4 || w.rank() != 4 {
            return s.refuse(format!(
                "images of two dimensions are supported, not {} with the kernel {}",
                x.ty(),
                w.ty()
            ));
        }
        let kernel = &w.dims()[2..];
        if s.ints("kernel_shape")?.is_some_and(|k| k.iter().map(|&n| Dim::known(n)).ne(kernel.iter().cloned())) {
            return s.refuse(format!("kernel_shape is not that of the kernel {}", w.ty()));
        }
        let Some(groups) = usize::try_from(s.int("group", 1)?).ok() else { return s.refuse("group is negative") };
        let op = Self { strides: s.sizes("strides", 1)?, dilations: s.sizes("dilations", 1)?, groups, ..Self::new() };
        let pads = match s.str("auto_pad", "NOTSET")?.as_str() {
            "NOTSET" => s.sizes("pads", 0)?,
            "VALID" => [0; 4],
            "SAME_UPPER" if s.op_type == "Conv" => op.same(s, x, kernel, false)?,
            "SAME_LOWER" if s.op_type == "Conv" => op.same(s, x, kernel, true)?,
            other => return s.refuse(format!("auto_pad = {other} is not supported; give pads")),
        };
        Ok(Self { pads, ..op })
    }

    /// The padding with which there is an output for each stride begun; the odd one goes before with `lower`, else after.
    fn same<'g>(&self, s: &Site<'_, 'g>, x: T<'g>, kernel: &[Dim], lower: bool) -> Result<[usize; 4], Unread> {
        let mut pads = [0; 4];
        for i in 0..2 {
            let window = span(&kernel[i], self.dilations[i]).size();
            let (Some(size), Some(window), stride @ 1..) = (x.dim(2 + i as i64).size(), window, self.strides[i]) else {
                return s.refuse("auto_pad = SAME needs an image and a kernel of known size and a positive stride");
            };
            let reach = (size.div_ceil(stride).max(1) - 1).saturating_mul(stride).saturating_add(window);
            let all = reach.saturating_sub(size);
            pads[i] = if lower { all.div_ceil(2) } else { all / 2 };
            pads[2 + i] = all - pads[i];
        }
        Ok(pads)
    }

    /// The attributes in ONNX, and the kernel size where it is known.
    fn spell(&self, call: Call, w: &TensorType) -> Call {
        let call = call.ints("strides", self.strides).ints("pads", self.pads).ints("dilations", self.dilations);
        let call = call.int("group", self.groups as i64);
        match (w.shape[2].size(), w.shape[3].size()) {
            (Some(h), Some(w)) => call.ints("kernel_shape", [h, w]),
            _ => call,
        }
    }
}

/// The size of the kernel with gaps: `(kernel − 1)·dilation + 1`.
fn span(kernel: &Dim, dilation: usize) -> Dim {
    (kernel - 1) * Dim::from(dilation) + 1
}

/// Rank-4 float operands of one element type, with a kernel that is not empty.
fn images(x: &TensorType, w: &TensorType) -> Result<(), TypeError> {
    float(x)?;
    same_dtype(x, w)?;
    rank(x, 4)?;
    rank(w, 4)?;
    if w.shape[2..].iter().any(|d| d.is(0)) { fail(format!("the kernel {w} is empty")) } else { Ok(()) }
}

impl OpDef for Conv {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let ([x, w], bias) = operands_and_bias(x, self.bias)?;
        self.check()?;
        images(x, w)?;
        if let Some(c) = bias {
            same_dtype(x, c)?;
            rank(c, 1)?;
            equal(format_args!("outputs of {w} and size of the bias {c}"), &w.shape[0], &c.shape[0])?;
        }
        let groups = Dim::from(self.groups);
        equal(format_args!("channels of {x} and of {w} in {groups} groups"), &x.shape[1], &(&w.shape[1] * &groups))?;
        if w.shape[0].exact_div(&groups).is_none() {
            return fail(format!("{} output channels do not split in {groups} groups", w.shape[0]));
        }
        let mut shape = vec![x.shape[0].clone(), w.shape[0].clone()];
        for (i, name) in ["height", "width"].into_iter().enumerate() {
            let (image, kernel, stride) = (&x.shape[2 + i], span(&w.shape[2 + i], self.dilations[i]), self.strides[i]);
            let padded = image + Dim::from(self.pads[i]) + Dim::from(self.pads[2 + i]);
            let room = &padded - &kernel;
            if room.value().is_some_and(|r| r < 0) {
                return fail(format!("a window of {name} {kernel} does not fit in {padded}, padding included"));
            }
            let Some(steps) = i64::try_from(stride).ok().and_then(|s| room.floor_div(s)) else {
                return fail(format!(
                    "the {name} {image} with a window of {kernel} is not a whole number of steps of {stride} for every \
                     value of its symbols; give it as a number"
                ));
            };
            shape.push(steps + 1);
        }
        Ok(vec![TensorType::new(x.dtype, shape)])
    }
    fn eval(&self, x: &[Tensor], env: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        let (image, size) = (&x[0].shape()[2..], &x[1].shape()[2..]);
        let steps = |i: usize| {
            let room =
                (image[i] + self.pads[i] + self.pads[2 + i]).checked_sub((size[i] - 1) * self.dilations[i] + 1)?;
            Some(room / self.strides[i] + 1)
        };
        let (Some(h), Some(w)) = (steps(0), steps(1)) else {
            return Err(EvalError(format!("conv: a kernel of {size:?} does not fit in an image of {image:?}")));
        };
        let slides = self.slides(image, size, &[h, w]);
        let y = match (&x[0], &x[1]) {
            (Tensor::F32(x), Tensor::F32(w)) => Tensor::F32(kernel::correlate(x, w, &slides, self.groups)),
            (Tensor::F64(x), Tensor::F64(w)) => Tensor::F64(kernel::correlate(x, w, &slides, self.groups)),
            _ => return Err(EvalError("conv of other than two float tensors of one type".into())),
        };
        let Some(bias) = x.get(2) else { return Ok(vec![y]) };
        let column = bias.reshape(&[bias.len(), 1, 1]);
        Binary { kind: BinaryKind::Add }.eval(&[y, column], env)
    }
    fn vjp<'g>(&self, v: &Vjp<'g, '_>) -> Grad<'g> {
        let (x, w, g) = (v.x[0], v.x[1], v.grad(0));
        let left_over = |i: usize| {
            let axis = 2 + i as i64;
            let reached = (g.dim(axis) - 1) * Dim::from(self.strides[i]) + span(&w.dim(axis), self.dilations[i]);
            (x.dim(axis) + Dim::from(self.pads[i]) + Dim::from(self.pads[2 + i]) - reached).size()
        };
        let (Some(h), Some(w_)) = (left_over(0), left_over(1)) else {
            return Grad::Never("the rows that its stride leaves over depend on a symbol");
        };
        let dx = x.builder().apply(ConvTranspose::of(self, [h, w_]), &[g, w]);
        let mut to = vec![Some(dx), Some(self.weight_gradient(x, g, [w.dim(2), w.dim(3)]))];
        if self.bias {
            to.push(Some(g.sum(&[0, 2, 3])));
        }
        Grad::To(to)
    }
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        s.bf16_since("Conv", 22)?;
        let w = s.x[1];
        Ok(self.spell(s.node("Conv"), w))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![("", "Conv", 7)]
    }
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        let (x, w) = (s.x(0)?, s.x(1)?);
        let op = Self::read_attributes(s, x, w)?;
        if s.has(2) { s.apply(op.with_bias(), &[x, w, s.x(2)?]) } else { s.apply(op, &[x, w]) }
    }
    fn traits(&self) -> Traits {
        Traits::ROUNDING
    }
    fn cost(&self, x: &[&TensorType], y: &[&TensorType]) -> Cost {
        let window = x[1].shape[1..].iter().product::<Dim>() * 2 + usize::from(self.bias);
        Cost::new(y[0].shape.elements() * window, x, y)
    }
    fn axes(&self, x: &[&TensorType], y: &[&TensorType]) -> Vec<Link> {
        let groups = Dim::from(self.groups);
        let channels = match (y[0].shape[1].exact_div(&groups), &x[1].shape[1]) {
            _ if self.groups == 1 => Link::gone(0, 1, Along::Sum),
            (Some(out), inputs) if out.is(1) => {
                let how = Along::Window { start: 0.into(), step: inputs.clone(), extent: inputs.clone() };
                Link::to(0, 1, 1, how)
            }
            (Some(inner), inputs) if inputs.is(1) => Link::to(0, 1, 1, Along::Merged { inner }),
            _ => Link::to(0, 1, 1, Along::Whole),
        };
        let mut links = vec![Link::to(0, 0, 0, Along::Each), channels, Link::to(1, 0, 1, Along::Each)];
        for i in 0..2 {
            let (start, step) = (Dim::from(self.pads[i]) * -1, self.strides[i].into());
            let extent = span(&x[1].shape[2 + i], self.dilations[i]);
            links.push(Link::to(0, 2 + i, 2 + i, Along::Window { start, step, extent }));
        }
        links.extend((1..4).map(|a| Link::gone(1, a, Along::Sum)));
        links.extend(self.bias.then(|| Link::to(2, 0, 1, Along::Each)));
        links
    }
    fn linear_in(&self, _: &[&TensorType]) -> Vec<Vec<usize>> {
        if self.bias { vec![vec![0, 2], vec![1, 2]] } else { vec![vec![0], vec![1]] }
    }
    /// Of the image what the window sees; of groups those that it meets.
    fn restricted<'g>(&self, w: &Wanted<'g, '_>) -> Option<T<'g>> {
        let mut n = w.narrowed(if self.groups == 1 { &[] } else { &[1] });
        let mut op = self.clone();
        if self.groups > 1 {
            op.groups = self.some_groups(&mut n, &w.y[0]).unwrap_or(self.groups);
        }
        for i in 0..2 {
            let (axis, kernel) = (2 + i, span(&w.x[1].dim(2 + i as i64), self.dilations[i]));
            let Some((start, size)) = &n.rest.axes[axis] else { continue };
            // What the window sees: of the image, and of the zeros around it.
            let first = start * self.strides[i] - Dim::from(self.pads[i]);
            let seen = (first, (size - 1) * Dim::from(self.strides[i]) + kernel);
            let Some(Some(met)) = overlap(&seen, &0.into(), &w.x[0].dim(axis as i64)) else { continue };
            if let (Some(before), Some(after), false) = (met.before.size(), met.after.size(), size.is(0)) {
                n.narrow(0, axis, met.start, met.size);
                (op.pads[i], op.pads[2 + i]) = (before, after);
                n.rest.axes[axis] = None;
            }
        }
        n.apply(op)
    }
    fn samples() -> Vec<Sample> {
        let c = Self::new;
        vec![
            Sample::new(c(), [&[2, 3, 4, 5], &[4, 3, 1, 1]]),
            Sample::new(c().stride(2), [&[2, 3, 5, 4], &[4, 3, 1, 1]]),
            Sample::new(c().pad(1), [&[2, 3, 4, 5], &[4, 3, 3, 3]]),
            Sample::new(c().stride(2).pad(1), [&[2, 3, 6, 7], &[4, 3, 3, 3]]),
            Sample::new(c().stride(4), [&[2, 3, 8, 9], &[5, 3, 4, 4]]),
            Sample::new(c().stride(4).pad(3), [&[1, 2, 10, 9], &[3, 2, 7, 7]]),
            Sample::new(c().pad(1).groups(4), [&[2, 4, 5, 4], &[4, 1, 3, 3]]),
            Sample::new(c().stride(2).pad(1).groups(3), [&[2, 3, 6, 5], &[6, 1, 3, 3]]),
            Sample::new(c().groups(2), [&[2, 4, 4, 4], &[6, 2, 2, 3]]),
            Sample::new(c().groups(2).stride(2), [&[1, 4, 3, 3], &[2, 2, 1, 1]]),
            Sample::new(c().dilation(2).pad(2), [&[1, 2, 6, 5], &[3, 2, 3, 3]]),
            Sample::new(
                Self { strides: [2, 1], pads: [0, 1, 2, 0], dilations: [1, 2], ..c() },
                [&[2, 2, 5, 6], &[3, 2, 2, 3]],
            ),
            Sample::new(c().with_bias(), [&[2, 3, 4, 5], &[4, 3, 1, 1], &[4]]),
            Sample::new(c().stride(2).pad(1), [&[2, 2, 5, 4], &[3, 2, 3, 3]]).batched([0]),
            Sample::new(c().pad(1).groups(2), [&[1, 2, 3, 3], &[6, 1, 3, 3]]),
            Sample::new(c().stride(2).pad(1).groups(3).with_bias(), [&[2, 3, 6, 5], &[6, 1, 3, 3], &[6]]),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::gradients;
    use crate::build::Builder;
    use crate::eval;
    use crate::ir::{DType, Stage};

    fn infer(op: &Conv, x: &[i64], w: &[i64]) -> Result<TensorType, TypeError> {
        let (x, w) = (TensorType::new(DType::F32, x), TensorType::new(DType::F32, w));
        Ok(op.infer(&[&x, &w])?.remove(0))
    }

    #[test]
    fn sums_the_window_and_takes_zero_outside() {
        let x = Tensor::new(&[1, 1, 3, 3], (1..=9).map(f64::from).collect());
        let w = Tensor::new(&[1, 1, 2, 2], vec![1.0, 10.0, 100.0, 1000.0]);
        let y = Conv::new().eval(&[x.clone(), w.clone()], &Bindings::new()).expect("fits");
        assert_eq!(y[0], Tensor::new(&[1, 1, 2, 2], vec![5421.0, 6532.0, 8754.0, 9865.0]));
        let y = Conv { pads: [1, 1, 0, 0], ..Conv::new().stride(2) }.eval(&[x, w], &Bindings::new()).expect("fits");
        assert_eq!(y[0], Tensor::new(&[1, 1, 2, 2], vec![1000.0, 3200.0, 7040.0, 9865.0]));
    }

    #[test]
    fn groups_see_only_their_channels() {
        let x = Tensor::new(&[1, 4, 1, 1], vec![1.0f32, 2.0, 3.0, 4.0]);
        let w = Tensor::new(&[2, 2, 1, 1], vec![1.0f32, 10.0, 100.0, 1000.0]);
        let y = Conv::new().groups(2).eval(&[x, w], &Bindings::new()).expect("fits");
        assert_eq!(y[0], Tensor::new(&[1, 2, 1, 1], vec![21.0f32, 4300.0]));
    }

    #[test]
    fn symbolic_sizes_divide_or_are_refused_by_name() {
        let b = Builder::new("t", Stage::Built);
        let h = b.symbol("h");
        let image = |h: Dim| TensorType::new(DType::F32, vec![1.into(), 3.into(), h, 32.into()]);
        let w = TensorType::new(DType::F32, [8, 3, 16, 16]);
        let patch = Conv::new().stride(16);
        let y = patch.infer(&[&image(&h * 16), &w]).expect("divides");
        assert_eq!(y[0].shape[2], h);
        let e = patch.infer(&[&image(h), &w]).expect_err("h is no multiple of 16");
        assert!(e.0.contains("the height h") && e.0.contains("give it as a number"), "{e}");
    }

    /// Neither form of the weight's gradient needs to know the batch.
    #[test]
    fn gradients_are_of_any_batch() {
        let gradient = |op: &Conv, symbolic: bool| {
            let b = Builder::new("t", Stage::Built);
            let n = if symbolic { b.symbol("n") } else { 3.into() };
            let x = b.input("x", TensorType::new(DType::F64, vec![n, 4.into(), 5.into(), 5.into()]));
            let w =
                b.input("w", TensorType::new(DType::F64, vec![4.into(), Dim::from(4 / op.groups), 2.into(), 2.into()]));
            let y = x.conv(op.clone(), w, None);
            let g = gradients(&b, (y * y).sum(&[0, 1, 2, 3]), &[x, w]).expect("differentiable");
            b.output("x", g[0]);
            b.output("w", g[1]);
            let numbers = |n: usize| (0..n).map(|i| (i as f64).sin()).collect();
            let inputs = [
                ("x", Tensor::new(&[3, 4, 5, 5], numbers(300))),
                ("w", Tensor::new(&[4, 4 / op.groups, 2, 2], numbers(64 / op.groups))),
            ];
            eval::run(&b.finish().expect("well typed"), &mut |p, _| Err(p.to_owned()), &inputs).expect("runs")
        };
        for op in
            [Conv::new().stride(2), Conv::new().pad(1), Conv::new().stride(2).pad(1).groups(4), Conv::new().groups(2)]
        {
            assert_eq!(gradient(&op, true), gradient(&op, false), "{op:?}");
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let e = |op: Conv, x: &[i64], w: &[i64]| infer(&op, x, w).expect_err("refused").0;
        assert!(e(Conv::new(), &[1, 3, 4, 4], &[8, 4, 1, 1]).contains("channels"));
        assert!(e(Conv::new().groups(2), &[1, 4, 4, 4], &[3, 2, 1, 1]).contains("do not split in 2 groups"));
        assert!(e(Conv::new(), &[1, 3, 2, 4], &[8, 3, 3, 3]).contains("height 3 does not fit in 2"));
        assert!(e(Conv::new().stride(0), &[1, 3, 4, 4], &[8, 3, 1, 1]).contains("positive"));
        assert!(e(Conv::new(), &[3, 4, 4], &[8, 3, 1, 1]).contains("4 axes"));
        assert!(e(Conv::new(), &[1, 3, 4, 4], &[8, 3, 0, 1]).contains("empty"));
        assert!(e(Conv::new().with_bias(), &[1, 3, 4, 4], &[8, 3, 1, 1]).contains("3 operands"));
        let t = |s: &[i64]| TensorType::new(DType::F32, s);
        let of = |c: &[i64]| Conv::new().with_bias().infer(&[&t(&[1, 3, 4, 4]), &t(&[8, 3, 1, 1]), &t(c)]);
        assert!(of(&[7]).expect_err("refused").0.contains("size of the bias"));
        assert!(of(&[8, 1, 1]).expect_err("refused").0.contains("1 axes"));
    }

    #[test]
    fn a_bias_is_added_to_its_channel() {
        let x = Tensor::new(&[1, 1, 1, 2], vec![1.0f32, 2.0]);
        let (w, c) = (Tensor::new(&[2, 1, 1, 1], vec![3.0f32, 5.0]), Tensor::new(&[2], vec![10.0f32, 20.0]));
        let y = Conv::new().with_bias().eval(&[x, w, c], &Bindings::new()).expect("fits");
        assert_eq!(y[0], Tensor::new(&[1, 2, 1, 2], vec![13.0f32, 16.0, 25.0, 30.0]));
    }
}
