//! Questions that type rules ask, with one wording for each answer.

use crate::ir::{DType, Dim, Shape, TensorType, TypeError};

/// A type error with this message.
pub fn fail<X>(message: impl Into<String>) -> Result<X, TypeError> {
    Err(TypeError(message.into()))
}

/// Exactly `N` operands.
pub fn operands<'a, const N: usize>(x: &[&'a TensorType]) -> Result<[&'a TensorType; N], TypeError> {
    x.try_into().map_err(|_| TypeError(format!("takes {N} operands, {} were given", x.len())))
}

/// `N` operands, and one more if there is a bias.
pub fn operands_and_bias<'a, const N: usize>(
    x: &[&'a TensorType],
    bias: bool,
) -> Result<([&'a TensorType; N], Option<&'a TensorType>), TypeError> {
    match x.split_first_chunk() {
        Some((first, [])) if !bias => Ok((*first, None)),
        Some((first, [one])) if bias => Ok((*first, Some(one))),
        _ => fail(format!("takes {} operands, {} were given", N + usize::from(bias), x.len())),
    }
}

/// A float type.
pub fn float(t: &TensorType) -> Result<(), TypeError> {
    if t.dtype.is_float() { Ok(()) } else { fail(format!("takes a float tensor, found {t}")) }
}

/// A float or integer type.
pub fn number(t: &TensorType) -> Result<(), TypeError> {
    if t.dtype.is_number() { Ok(()) } else { fail(format!("takes numbers, found {t}")) }
}

/// This element type.
pub fn dtype(t: &TensorType, want: DType) -> Result<(), TypeError> {
    if t.dtype == want { Ok(()) } else { fail(format!("takes a {want} tensor here, found {t}")) }
}

/// Both of one element type.
pub fn same_dtype(a: &TensorType, b: &TensorType) -> Result<(), TypeError> {
    if a.dtype == b.dtype { Ok(()) } else { fail(format!("element types differ: {a} and {b}")) }
}

/// Exactly this rank.
pub fn rank(t: &TensorType, want: usize) -> Result<(), TypeError> {
    if t.rank() == want { Ok(()) } else { fail(format!("takes a tensor of {want} axes, found {t}")) }
}

/// At least this rank.
pub fn rank_at_least(t: &TensorType, want: usize) -> Result<(), TypeError> {
    if t.rank() >= want { Ok(()) } else { fail(format!("takes a tensor of at least {want} axes, found {t}")) }
}

/// An axis of `t`.
pub fn axis(t: &TensorType, axis: usize) -> Result<&Dim, TypeError> {
    t.shape.get(axis).ok_or_else(|| TypeError(format!("has no axis {axis}: {t}")))
}

/// The type of `x` with another size along an axis.
pub fn resized(x: &TensorType, axis: usize, size: Dim) -> TensorType {
    let mut shape = x.shape.clone();
    shape[axis] = size;
    TensorType { dtype: x.dtype, shape }
}

/// The broadcast of two shapes.
pub fn broadcast(a: &TensorType, b: &TensorType) -> Result<Shape, TypeError> {
    a.shape.broadcast(&b.shape).ok_or_else(|| TypeError(format!("shapes do not broadcast: {a} and {b}")))
}

/// Equal sizes, or an error that says what they are the sizes of.
pub fn equal(what: impl std::fmt::Display, a: &Dim, b: &Dim) -> Result<(), TypeError> {
    if a == b { Ok(()) } else { fail(format!("{what} differ: {a} and {b}")) }
}
