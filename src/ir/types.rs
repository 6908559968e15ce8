//! Shapes and tensor types.

use super::{Bindings, DType, Dim};
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;

/// The sizes of all axes, outermost first. Clones share them: a graph that is made from another has mostly its types.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape(Arc<[Dim]>);

impl Default for Shape {
    fn default() -> Self {
        Self::from(Vec::new())
    }
}

impl std::ops::Deref for Shape {
    type Target = [Dim];
    fn deref(&self) -> &[Dim] {
        &self.0
    }
}

impl std::ops::DerefMut for Shape {
    fn deref_mut(&mut self) -> &mut [Dim] {
        Arc::make_mut(&mut self.0)
    }
}

impl<'a> IntoIterator for &'a Shape {
    type Item = &'a Dim;
    type IntoIter = std::slice::Iter<'a, Dim>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<D: Into<Dim>> FromIterator<D> for Shape {
    fn from_iter<I: IntoIterator<Item = D>>(iter: I) -> Self {
        // An iterator of unknown length would be collected on the heap twice.
        let dims: SmallVec<[Dim; 6]> = iter.into_iter().map(Into::into).collect();
        Self(dims.as_slice().into())
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
        Self(dims.into())
    }
}

impl Shape {
    /// Returns the number of elements.
    pub fn elements(&self) -> Dim {
        self.iter().product()
    }

    /// Returns the number of elements if no symbol occurs and it can be counted.
    pub fn count(&self) -> Option<i64> {
        self.iter().try_fold(1i64, |n, d| n.checked_mul(d.value()?)).filter(|&n| n != i64::MAX)
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
