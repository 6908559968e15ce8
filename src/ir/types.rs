//! Shapes and tensor types.

use super::{Bindings, DType, Dim};
use std::fmt;

/// The sizes of all axes, outermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape(pub Vec<Dim>);

impl std::ops::Deref for Shape {
    type Target = [Dim];
    fn deref(&self) -> &[Dim] {
        &self.0
    }
}

impl<D: Into<Dim>> FromIterator<D> for Shape {
    fn from_iter<I: IntoIterator<Item = D>>(iter: I) -> Self {
        Self(iter.into_iter().map(Into::into).collect())
    }
}
impl<D: Into<Dim> + Clone> From<&[D]> for Shape {
    fn from(dims: &[D]) -> Self {
        dims.iter().cloned().collect()
    }
}
impl<D: Into<Dim>, const N: usize> From<[D; N]> for Shape {
    fn from(dims: [D; N]) -> Self {
        dims.into_iter().collect()
    }
}
impl From<Vec<Dim>> for Shape {
    fn from(dims: Vec<Dim>) -> Self {
        Self(dims)
    }
}

impl Shape {
    /// Returns the number of elements.
    pub fn elements(&self) -> Dim {
        self.iter().product()
    }

    /// Returns all sizes if no symbol occurs.
    pub fn known(&self) -> Option<Vec<usize>> {
        self.iter().map(Dim::size).collect()
    }

    /// Evaluates all sizes under `env`.
    pub fn eval(&self, env: &Bindings) -> Option<Vec<usize>> {
        self.iter().map(|d| d.eval(env).and_then(|v| usize::try_from(v).ok())).collect()
    }

    /// Returns the shape to which both broadcast by NumPy's rules, or `None` if they do not.
    pub fn broadcast(&self, other: &Self) -> Option<Self> {
        let rank = self.len().max(other.len());
        let one = Dim::known(1);
        let at = |s: &Self, i: usize| (i + s.len()).checked_sub(rank).map_or(one.clone(), |j| s[j].clone());
        (0..rank)
            .map(|i| {
                let (a, b) = (at(self, i), at(other, i));
                if a == b || b == one {
                    Some(a)
                } else if a == one {
                    Some(b)
                } else {
                    None
                }
            })
            .collect()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, d) in self.iter().enumerate() {
            write!(f, "{}{d}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

/// Element type and shape of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// The element type.
    pub dtype: DType,
    /// The sizes of the axes.
    pub shape: Shape,
}

impl TensorType {
    /// Creates a type.
    pub fn new(dtype: DType, shape: impl Into<Shape>) -> Self {
        Self { dtype, shape: shape.into() }
    }

    /// Returns the size in bytes of a dense tensor of this type.
    pub fn bytes(&self) -> Dim {
        self.shape.elements() * self.dtype.size()
    }

    /// Returns the number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}
