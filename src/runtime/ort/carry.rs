//! Carries declarations and tensors between this program's types and the runtime's.
//!
//! Inputs are borrowed, not copied, unless their elements are not in row-major order; outputs are
//! copied once, out of the runtime's memory.

use crate::ir::{Array, DType, Element, Tensor};
use crate::runtime::{Port, PortDim};
use crate::with_dtype;
use ::ort::session::SessionInputValue;
use ::ort::value::{DynValue, IntoTensorElementType, Outlet, PrimitiveTensorElementType, TensorRef, ValueType};
use std::fmt::Debug;

/// The declared port, or why it cannot be fed or read here.
pub(super) fn port(outlet: &Outlet) -> Result<Port, String> {
    let name = outlet.name().to_owned();
    let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else {
        return Err(format!("`{name}` is a {}, expected a tensor", outlet.dtype()));
    };
    let ours = DType::ALL.into_iter().find(|&d| with_dtype!(d, A => A::into_tensor_element_type()) == *ty);
    let Some(dtype) = ours else {
        return Err(format!("`{name}` has element type {ty}, expected one of {}", DType::names()));
    };
    let symbol = |i: usize| dimension_symbols.get(i).cloned().unwrap_or_default();
    let dim = |(i, &n): (usize, &i64)| usize::try_from(n).map_or_else(|_| PortDim::Symbol(symbol(i)), PortDim::Known);
    Ok(Port { name, dtype, shape: shape.iter().enumerate().map(dim).collect() })
}

/// The tensor as a runtime value that keeps a share of the elements alive.
pub(super) fn value(tensor: &Tensor) -> Result<SessionInputValue<'static>, ::ort::Error> {
    fn go<A: Element + PrimitiveTensorElementType>(a: &Array<A>) -> Result<SessionInputValue<'static>, ::ort::Error> {
        let rows = if a.is_standard_layout() { a.clone() } else { a.as_standard_layout().into_owned().into_shared() };
        Ok(TensorRef::from_array_view(rows)?.into())
    }
    crate::with_array!(tensor, a => go(a))
}

/// A copy of a runtime value of a known element type.
pub(super) fn tensor(dtype: DType, value: &DynValue) -> Result<Tensor, ::ort::Error> {
    fn go<A: Element + PrimitiveTensorElementType + Debug>(value: &DynValue) -> Result<Tensor, ::ort::Error> {
        let (shape, data) = value.try_extract_tensor::<A>()?;
        let shape: Vec<usize> = shape.iter().map(|&n| n as usize).collect();
        Ok(Tensor::new(&shape, data.to_vec()))
    }
    with_dtype!(dtype, A => go::<A>(value))
}
