//! Batched matrix product.

use super::binary::common;
use super::check::{equal, fail, float, operands, rank_at_least, same_dtype};
use super::prelude::*;
use ndarray::{Array3, Ix2, IxDyn, LinalgScalar, linalg::general_mat_mul};

op! {
    /// `y[…, i, j] = Σₖ a[…, i, k] · b[…, k, j]`, leading axes broadcast; both operands have at least two axes.
    pub struct MatMul = "matmul" {}
}

fn batch(t: &TensorType) -> Shape {
    Shape::from(&t.shape[..t.rank() - 2])
}

/// One product per batch entry; a right operand without batch is multiplied once by all rows.
fn product<A: Element + LinalgScalar>(a: &Array<A>, b: &Array<A>) -> Array<A> {
    let (ra, rb) = (a.ndim(), b.ndim());
    let (m, k, n) = (a.shape()[ra - 2], a.shape()[ra - 1], b.shape()[rb - 1]);
    if rb == 2 {
        let rows = a.len() / k.max(1);
        let rows = if k == 0 { a.shape()[..ra - 1].iter().product() } else { rows };
        let left = a.to_shape((rows, k)).expect("a reshape keeps the element count");
        let right = b.view().into_dimensionality::<Ix2>().expect("rank 2");
        let mut shape = a.shape().to_vec();
        shape[ra - 1] = n;
        return left.dot(&right).into_dyn().into_shape_with_order(shape).expect("rows × n elements").into_shared();
    }
    let mut shape = common(&a.shape()[..ra - 2], &b.shape()[..rb - 2]);
    let count: usize = shape.iter().product();
    let expand = |x: &Array<A>, r: usize, c: usize| {
        let to: Vec<usize> = shape.iter().copied().chain([r, c]).collect();
        let x = x.broadcast(IxDyn(&to)).expect("shapes were checked to broadcast");
        x.to_shape((count, r, c)).expect("a reshape keeps the element count").into_owned()
    };
    let (left, right) = (expand(a, m, k), expand(b, k, n));
    let mut out = Array3::<A>::from_elem((count, m, n), A::zero());
    for i in 0..count {
        let mut slot = out.index_axis_mut(ndarray::Axis(0), i);
        let (l, r) = (left.index_axis(ndarray::Axis(0), i), right.index_axis(ndarray::Axis(0), i));
        general_mat_mul(A::one(), &l, &r, A::zero(), &mut slot);
    }
    shape.extend([m, n]);
    out.into_dyn().into_shape_with_order(shape).expect("count × m × n elements").into_shared()
}

/// `alpha·A·B + beta·C` of matrices; `C` broadcasts to the product and may be left out from opset 11 on.
fn gemm<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
    let matrix = |i: usize, transposed: &str| {
        let x = s.x(i)?;
        if x.rank() != 2 {
            return s.refuse(format!("operand {i} must be a matrix, it is {}", x.ty()));
        }
        Ok(if s.flag(transposed)? { x.t() } else { x })
    };
    let times = |x: T<'g>, factor: f64| if factor == 1.0 { x } else { x * factor };
    let y = times(matrix(0, "transA")?.matmul(matrix(1, "transB")?), s.float("alpha", 1.0)?);
    let beta = s.float("beta", 1.0)?;
    if !s.has(2) || beta == 0.0 {
        return Ok(vec![y]);
    }
    let sum = y + times(s.x(2)?, beta);
    if sum.dims() != y.dims() {
        return s.refuse(format!("operand 2 must broadcast to the product {}, it is {}", y.ty(), s.x(2)?.ty()));
    }
    Ok(vec![sum])
}

impl OpDef for MatMul {
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [a, b] = operands(x)?;
        float(a)?;
        same_dtype(a, b)?;
        rank_at_least(a, 2)?;
        rank_at_least(b, 2)?;
        let (ra, rb) = (a.rank(), b.rank());
        equal(format_args!("inner sizes of {a} and {b}"), &a.shape[ra - 1], &b.shape[rb - 2])?;
        let Some(shape) = batch(a).broadcast(&batch(b)) else {
            return fail(format!("batch axes do not broadcast: {a} and {b}"));
        };
        let shape = shape.iter().chain([&a.shape[ra - 2], &b.shape[rb - 1]]).collect();
        Ok(vec![TensorType { dtype: a.dtype, shape }])
    }
    fn eval(&self, x: &[Tensor], _: &Bindings) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![match (&x[0], &x[1]) {
            (Tensor::F32(a), Tensor::F32(b)) => Tensor::F32(product(a, b)),
            (Tensor::F64(a), Tensor::F64(b)) => Tensor::F64(product(a, b)),
            _ => return Err(EvalError("matmul of other than two float tensors of one type".into())),
        }])
    }
    /// The autodiff driver sums the cotangents over broadcast batch axes. A weight without batch gets its
    /// gradient from one product over all rows instead: a batched one would be as large as the batch before it is summed.
    fn vjp<'g>(&self, v: &Vjp<'g, '_>) -> Grad<'g> {
        let (a, b, g) = (v.x[0], v.x[1], v.grad(0));
        let db = if b.rank() == 2 && a.rank() > 2 {
            let flat = |t: T<'g>| {
                let dims = t.dims();
                let (last, lead) = dims.split_last().expect("operands of a product have at least two axes");
                t.reshape([lead.iter().product(), last.clone()])
            };
            flat(a).t().matmul(flat(g))
        } else {
            a.t().matmul(g)
        };
        Grad::To(vec![Some(g.matmul(b.t())), Some(db)])
    }
    fn onnx(&self, s: &Spell<'_>) -> Result<Call, Unspellable> {
        Ok(s.node("MatMul"))
    }
    fn onnx_ops() -> Vec<OnnxOp> {
        vec![("", "MatMul", 7), ("", "Gemm", 7)]
    }
    /// A vector on the left is a row, on the right a column; the axis of size 1 is dropped again, as in numpy.
    fn read<'g>(s: &Site<'_, 'g>) -> Result<Vec<T<'g>>, Unread> {
        if s.op_type == "Gemm" {
            return gemm(s);
        }
        let (a, b) = (s.x(0)?, s.x(1)?);
        let (row, column) = (a.rank() == 1, b.rank() == 1);
        let y = if row { a.unsqueeze(0) } else { a }.matmul(if column { b.unsqueeze(1) } else { b });
        let mut to = y.dims().to_vec();
        if column {
            to.pop();
        }
        if row && !to.is_empty() {
            to.remove(to.len() - 1 - usize::from(!column));
        }
        Ok(vec![y.reshape(to)])
    }
    fn traits(&self) -> Traits {
        Traits::ROUNDING
    }
    fn cost(&self, x: &[&TensorType], y: &[&TensorType]) -> Cost {
        let inner = &x[0].shape[x[0].rank() - 1];
        Cost::new(y[0].shape.elements() * inner * 2, x, y)
    }
    fn axes(&self, x: &[&TensorType], y: &[&TensorType]) -> Vec<Link> {
        axes::product(x, y, [1, 2])
    }
    fn linear_in(&self, _: &[&TensorType]) -> Vec<Vec<usize>> {
        vec![vec![0], vec![1]]
    }
    fn samples() -> Vec<Sample> {
        vec![
            Sample::new(Self {}, [&[3, 4], &[4, 2]]),
            Sample::new(Self {}, [&[2, 3, 4], &[4, 2]]),
            Sample::new(Self {}, [&[2, 1, 3, 4], &[3, 4, 2]]),
            Sample::new(Self {}, [&[3, 4], &[2, 4, 2]]),
            Sample::new(Self {}, [&[2, 3, 4], &[4, 2]]).batched([0]),
            Sample::new(Self {}, [&[2, 3, 4], &[2, 4, 2]]).batched([0, 1]),
        ]
    }
}
