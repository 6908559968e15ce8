//! Reading and adding at computed places. Negative indices count from the end; an index out of
//! range is an error of evaluation, not of typing.

use super::check::{axis, dtype, fail, float, operands, same_dtype};
use super::prelude::*;
use crate::with_array;
use ndarray::{IxDyn, LinalgScalar};
use std::cmp::Ordering;

/// Index tensors as positions on an axis of `size` elements.
fn positions(indices: &Tensor, size: usize) -> Result<Vec<usize>, EvalError> {
    let a = indices.array::<i64>().ok_or_else(|| EvalError(format!("indices are {}", indices.dtype())))?;
    let place = |&i: &i64| {
        let from_start = if i < 0 { i.checked_add(size as i64)? } else { i };
        usize::try_from(from_start).ok().filter(|&p| p < size)
    };
    a.iter()
        .map(|i| place(i).ok_or_else(|| EvalError(format!("index {i} is out of range for an axis of {size} elements"))))
        .collect()
}

/// The shape as `[product before axis, size of axis, product after]`.
fn around(shape: &[usize], axis: usize) -> [usize; 3] {
    [shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product()]
}

op! {
    /// `y[a…, i…, b…] = x[a…, indices[i…], b…]`: entries of an axis, chosen by an i64 tensor of any shape.
    pub struct Gather = "gather" {
        /// The axis that the indices' shape takes the place of.
        pub axis: usize,
    }
}

impl OpDef for Gather {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, indices] = operands(x)?;
        dtype(indices, DType::I64)?;
        axis(x, self.axis)?;
        let mut shape = x.shape.to_vec();
        shape.splice(self.axis..=self.axis, indices.shape.iter().cloned());
        Ok(vec![TensorType::new(x.dtype, shape)])
    }
    fn eval(&self, x: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        fn go<A: Element>(a: &Array<A>, at: &[usize], axis: usize, shape: &[usize]) -> Tensor {
            let [before, size, after] = around(a.shape(), axis);
            let a = a.as_standard_layout();
            let a = a.as_slice().expect("standard layout");
            let mut y = Vec::with_capacity(before * at.len() * after);
            for outer in 0..before {
                for &i in at {
                    y.extend_from_slice(&a[(outer * size + i) * after..][..after]);
                }
            }
            Tensor::new(shape, y)
        }
        let at = positions(&x[1], x[0].shape()[self.axis])?;
        let mut shape = x[0].shape().to_vec();
        shape.splice(self.axis..=self.axis, x[1].shape().iter().copied());
        Ok(vec![with_array!(&x[0], a => go(a, &at, self.axis, &shape))])
    }
    /// Adds each entry of the cotangent to the place it was read from.
    fn vjp<'g>(&self, v: &Vjp<'g, '_>) -> Grad<'g> {
        let (x, indices) = (v.x[0], v.x[1]);
        let mut along = vec![Dim::known(1); x.rank()];
        along[self.axis] = indices.ty().shape.elements();
        let mut flat = x.dims();
        flat[self.axis] = along[self.axis].clone();
        let places = indices.reshape(along).expand(flat.clone());
        let dx = x.zeros_like().scatter_add(self.axis as i64, places, v.grad(0).reshape(flat));
        Grad::To(vec![Some(dx), None])
    }
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        Ok(s.node("Gather").int("axis", self.axis as i64))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![("", "Gather", 7)]
    }
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        let x = s.x(0)?;
        s.apply(Self { axis: s.axis(0, x)? }, &[x, s.indices(1)?])
    }
    fn traits(&self) -> Traits {
        Traits::MOVES
    }
    fn cost(&self, x: &[&TensorType], y: &[&TensorType]) -> Cost {
        Cost::picks(x, y)
    }
    fn axes(&self, x: &[&TensorType], _: &[&TensorType]) -> Vec<Link> {
        let at = |a| self.axis + a;
        let mut links = axes::unary(&x[..1], |a| match a.cmp(&self.axis) {
            Ordering::Less => (Some(a), Along::Each),
            Ordering::Equal => (None, Along::Whole),
            Ordering::Greater => (Some(a + x[1].rank() - 1), Along::Each),
        });
        links.extend((0..x[1].rank()).map(|a| Link::to(1, a, at(a), Along::Each)));
        links
    }
    fn linear_in(&self, _: &[&TensorType]) -> Vec<Vec<usize>> {
        vec![vec![0]]
    }
    fn samples() -> Vec<Sample> {
        vec![
            Sample::new(Self { axis: 0 }, [&[4, 3]]).given(Tensor::new(&[2, 3], vec![0i64, 3, 3, 1, -1, 0])),
            Sample::new(Self { axis: 1 }, [&[2, 3, 2]]).given(Tensor::new(&[2], vec![2i64, -3])),
            Sample::new(Self { axis: 1 }, [&[2, 3]]).given(Tensor::scalar(1i64)),
            Sample::new(Self { axis: 1 }, [&[2, 3, 2]]).batched([0]).given(Tensor::new(&[2], vec![2i64, -3])),
        ]
    }
}

/// Data and indices of one rank, the indices within the data on every axis but `along`.
fn aligned(x: &TensorType, indices: &TensorType, along: usize) -> Result<(), TypeError> {
    dtype(indices, DType::I64)?;
    axis(x, along)?;
    if x.rank() != indices.rank() {
        return fail(format!("ranks differ: {x} and indices {indices}"));
    }
    for (i, (d, n)) in x.shape.iter().zip(indices.shape.iter()).enumerate() {
        let within = d == n || matches!((d.value(), n.value()), (Some(d), Some(n)) if n <= d);
        if i != along && !within {
            return fail(format!("axis {i} of the indices {indices} exceeds that of {x}"));
        }
    }
    Ok(())
}

/// For each element of an index tensor of `shape`: where on the other tensor, of shape `data`, it points to.
fn targets(data: &[usize], indices: &Tensor, axis: usize) -> Result<Vec<usize>, EvalError> {
    let at = positions(indices, data[axis])?;
    let mut strides = vec![1; data.len()];
    for i in (1..data.len()).rev() {
        strides[i - 1] = strides[i] * data[i];
    }
    let place = |(index, at): (IxDyn, usize)| {
        let on = |i: usize| if i == axis { at } else { index[i] };
        (0..data.len()).map(|i| on(i) * strides[i]).sum()
    };
    Ok(ndarray::indices(IxDyn(indices.shape())).into_iter().zip(at).map(place).collect())
}

op! {
    /// `y[…, i, …] = x[…, indices[…, i, …], …]`: as `torch.gather`. The result has the indices' shape.
    pub struct GatherElements = "gather_elements" {
        /// The axis that indices are positions on.
        pub axis: usize,
    }
}

impl OpDef for GatherElements {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, indices] = operands(x)?;
        aligned(x, indices, self.axis)?;
        Ok(vec![TensorType { dtype: x.dtype, shape: indices.shape.clone() }])
    }
    fn eval(&self, x: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        let at = targets(x[0].shape(), &x[1], self.axis)?;
        Ok(vec![with_array!(&x[0], a => {
            let a = a.as_standard_layout();
            let a = a.as_slice().expect("standard layout");
            Tensor::new(x[1].shape(), at.iter().map(|&i| a[i]).collect())
        })])
    }
    fn vjp<'g>(&self, v: &Vjp<'g, '_>) -> Grad<'g> {
        let dx = v.x[0].zeros_like().scatter_add(self.axis as i64, v.x[1], v.grad(0));
        Grad::To(vec![Some(dx), None])
    }
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        Ok(s.node("GatherElements").int("axis", self.axis as i64))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![("", "GatherElements", 11)]
    }
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        let x = s.x(0)?;
        s.apply(Self { axis: s.axis(0, x)? }, &[x, s.indices(1)?])
    }
    fn traits(&self) -> Traits {
        Traits::MOVES
    }
    fn cost(&self, x: &[&TensorType], y: &[&TensorType]) -> Cost {
        Cost::picks(x, y)
    }
    fn axes(&self, x: &[&TensorType], _: &[&TensorType]) -> Vec<Link> {
        let data = axes::unary(x, |a| if a == self.axis { (None, Along::Whole) } else { (Some(a), Along::Each) });
        data.into_iter().chain((0..x[1].rank()).map(|a| Link::to(1, a, a, Along::Each))).collect()
    }
    fn linear_in(&self, _: &[&TensorType]) -> Vec<Vec<usize>> {
        vec![vec![0]]
    }
    fn samples() -> Vec<Sample> {
        let at = || Tensor::new(&[2, 3], vec![0i64, 3, 3, 1, -1, 0]);
        vec![
            Sample::new(Self { axis: 1 }, [&[2, 4]]).given(at()),
            Sample::new(Self { axis: 0 }, [&[4, 3]]).given(at()),
            Sample::new(Self { axis: 1 }, [&[3, 4]]).given(at()),
        ]
    }
}

op! {
    /// The first operand with `updates[…, i, …]` added at `[…, indices[…, i, …], …]`: as `torch.scatter_add`.
    /// Operands are data, indices and updates; the last two have one shape.
    pub struct ScatterElements = "scatter_elements" {
        /// The axis that indices are positions on.
        pub axis: usize,
    }
}

impl OpDef for ScatterElements {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, indices, updates] = operands(x)?;
        float(x)?;
        same_dtype(x, updates)?;
        aligned(x, indices, self.axis)?;
        if indices.shape != updates.shape {
            return fail(format!("shapes of indices {indices} and updates {updates} differ"));
        }
        Ok(vec![x.clone()])
    }
    fn eval(&self, x: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        fn go<A: Element + LinalgScalar>(a: &Array<A>, at: &[usize], updates: &Array<A>) -> Tensor {
            let mut y: Vec<A> = a.iter().copied().collect();
            for (&i, &u) in at.iter().zip(updates) {
                y[i] = y[i] + u;
            }
            Tensor::new(a.shape(), y)
        }
        let at = targets(x[0].shape(), &x[1], self.axis)?;
        Ok(vec![match (&x[0], &x[2]) {
            (Tensor::F32(a), Tensor::F32(u)) => go(a, &at, u),
            (Tensor::F64(a), Tensor::F64(u)) => go(a, &at, u),
            _ => return Err(EvalError("scatter of other than two float tensors of one type".into())),
        }])
    }
    fn vjp<'g>(&self, v: &Vjp<'g, '_>) -> Grad<'g> {
        let g = v.grad(0);
        Grad::To(vec![Some(g), None, Some(g.gather_elements(self.axis as i64, v.x[1]))])
    }
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        s.since("ScatterElements that adds", 16)?;
        Ok(s.node("ScatterElements").int("axis", self.axis as i64).str("reduction", "add"))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![("", "ScatterElements", 11), ("", "Scatter", 9)]
    }
    /// Only what adds; before opset 16 every scatter overwrites.
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        let x = s.x(0)?;
        let axis = s.axis(0, x)?;
        let reduction = if s.opset >= 16 { s.str("reduction", "none")? } else { "none".to_owned() };
        if reduction != "add" {
            return s.refuse(format!("reduction = {reduction} is not supported; add, of opset 16 and later, is"));
        }
        s.apply(Self { axis }, &[x, s.indices(1)?, s.x(2)?])
    }
    /// Repeated indices may be added in any order.
    fn traits(&self) -> Traits {
        Traits::ROUNDING
    }
    fn cost(&self, x: &[&TensorType], y: &[&TensorType]) -> Cost {
        Cost::new(x[2].shape.elements(), x, y)
    }
    fn axes(&self, x: &[&TensorType], y: &[&TensorType]) -> Vec<Link> {
        let how = |i: usize, a: usize| match (i, a == self.axis, x[i].shape[a] == y[0].shape[a]) {
            (0, ..) | (_, false, true) => Along::Each,
            (_, true, _) => Along::Whole,
            _ => Along::Part { at: 0.into() },
        };
        let axes = (0..3).flat_map(|i| (0..x[0].rank()).map(move |a| (i, a)));
        axes.map(|(i, a)| Link::to(i, a, a, how(i, a))).collect()
    }
    fn linear_in(&self, _: &[&TensorType]) -> Vec<Vec<usize>> {
        vec![vec![0, 2]]
    }
    fn samples() -> Vec<Sample> {
        let one = |axis, data: &[i64]| {
            let mut s = Sample::new(Self { axis }, [data]).given(Tensor::new(&[2, 3], vec![0i64, 3, 3, 1, -1, 0]));
            s.operands.extend(Sample::new(Self { axis }, [&[2, 3]]).operands);
            s
        };
        vec![one(1, &[2, 4]), one(0, &[4, 3]), one(1, &[3, 4])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval;

    fn i64s(v: &[i64]) -> Tensor {
        Tensor::new(&[v.len()], v.to_vec())
    }

    #[test]
    fn gather_puts_the_index_shape_in_place_of_the_axis() {
        let x = Tensor::new(&[2, 3], vec![1i64, 2, 3, 4, 5, 6]);
        let at = Tensor::new(&[1, 2], vec![2i64, -3]);
        let y = eval::op(&Gather { axis: 1 }.into(), &[x, at]).expect("in range");
        assert_eq!(y[0], Tensor::new(&[2, 1, 2], vec![3i64, 1, 6, 4]));
    }

    #[test]
    fn elements_are_read_and_added_one_by_one() {
        let x = Tensor::new(&[2, 2], vec![1.0f32, 2.0, 3.0, 4.0]);
        let at = Tensor::new(&[2, 3], vec![0i64, 0, 1, 1, 1, -2]);
        let y = eval::op(&GatherElements { axis: 1 }.into(), &[x.clone(), at.clone()]).expect("in range");
        assert_eq!(y[0], Tensor::new(&[2, 3], vec![1.0f32, 1.0, 2.0, 4.0, 4.0, 3.0]));
        let u = Tensor::new(&[2, 3], vec![10.0f32, 20.0, 30.0, 40.0, 50.0, 60.0]);
        let y = eval::op(&ScatterElements { axis: 1 }.into(), &[x, at, u]).expect("in range");
        assert_eq!(y[0], Tensor::new(&[2, 2], vec![31.0f32, 32.0, 63.0, 94.0]));
    }

    #[test]
    fn an_index_out_of_range_is_an_error() {
        let x = Tensor::new(&[3], vec![1.0f32, 2.0, 3.0]);
        for bad in [3, -4, i64::MIN, i64::MAX] {
            for op in [super::super::Op::from(Gather { axis: 0 }), GatherElements { axis: 0 }.into()] {
                let e = eval::op(&op, &[x.clone(), i64s(&[0, bad])]).expect_err("out of range");
                assert!(e.0.contains(&format!("index {bad} is out of range")), "{e}");
            }
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let t = |d, s: &[i64]| TensorType::new(d, s);
        let (x, at) = (t(DType::F32, &[2, 3]), t(DType::I64, &[3, 3]));
        assert!(Gather { axis: 2 }.infer(&[&x, &at]).is_err());
        assert!(Gather { axis: 0 }.infer(&[&x, &x]).is_err());
        assert!(GatherElements { axis: 1 }.infer(&[&x, &at]).is_err());
        assert!(GatherElements { axis: 0 }.infer(&[&x, &at]).is_ok());
        assert!(ScatterElements { axis: 0 }.infer(&[&x, &at, &x]).is_err());
    }
}
