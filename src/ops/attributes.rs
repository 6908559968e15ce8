//! Attributes of ops as the text form sees them: one way to print, one way to read.

use crate::ir::{DType, Dim, Literal, Real, Shape};
use std::collections::BTreeMap;

/// The value of one attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum AttrValue {
    /// An integer.
    Int(i64),
    /// A float.
    Real(Real),
    /// `true` or `false`.
    Bool(bool),
    /// A list of integers.
    Ints(Vec<i64>),
    /// A size.
    Dim(Dim),
    /// A list of sizes.
    Dims(Shape),
    /// An element type.
    DType(DType),
    /// A tensor.
    Literal(Literal),
}

/// A Rust type that can be an attribute.
pub trait Attr: Sized {
    /// To the text form.
    fn to_value(&self) -> AttrValue;
    /// From the text form; `None` when the value is of another kind.
    fn from_value(v: AttrValue) -> Option<Self>;
}

macro_rules! attr {
    ($($t:ty: $variant:ident, $to:expr, $from:expr;)*) => {$(
        impl Attr for $t {
            fn to_value(&self) -> AttrValue { let to: fn(&Self) -> _ = $to; AttrValue::$variant(to(self)) }
            fn from_value(v: AttrValue) -> Option<Self> {
                let AttrValue::$variant(x) = v else { return None };
                let from: fn(_) -> Option<Self> = $from;
                from(x)
            }
        }
    )*};
}
attr! {
    i64: Int, |x| *x, Some;
    usize: Int, |x| *x as i64, |x: i64| usize::try_from(x).ok();
    bool: Bool, |x| *x, Some;
    Real: Real, |x| *x, Some;
    DType: DType, |x| *x, Some;
    Literal: Literal, Clone::clone, Some;
    Vec<i64>: Ints, Clone::clone, Some;
}
impl Attr for Vec<usize> {
    fn to_value(&self) -> AttrValue {
        AttrValue::Ints(self.iter().map(|&x| x as i64).collect())
    }
    fn from_value(v: AttrValue) -> Option<Self> {
        Vec::<i64>::from_value(v)?.into_iter().map(|x| usize::try_from(x).ok()).collect()
    }
}
impl<const N: usize> Attr for [usize; N] {
    fn to_value(&self) -> AttrValue {
        self.to_vec().to_value()
    }
    fn from_value(v: AttrValue) -> Option<Self> {
        Vec::<usize>::from_value(v)?.try_into().ok()
    }
}
impl Attr for Dim {
    fn to_value(&self) -> AttrValue {
        AttrValue::Dim(self.clone())
    }
    /// A plain number reads as an integer; both are sizes here.
    fn from_value(v: AttrValue) -> Option<Self> {
        match v {
            AttrValue::Dim(d) => Some(d),
            AttrValue::Int(n) => Some(Self::known(n)),
            _ => None,
        }
    }
}
impl Attr for Shape {
    fn to_value(&self) -> AttrValue {
        AttrValue::Dims(self.clone())
    }
    /// A list of plain numbers reads as integers; both are sizes here.
    fn from_value(v: AttrValue) -> Option<Self> {
        match v {
            AttrValue::Dims(d) => Some(d),
            AttrValue::Ints(d) => Some(d.into_iter().map(Dim::known).collect()),
            _ => None,
        }
    }
}

/// Named attribute values, read one by one by the op that they belong to.
#[derive(Debug, Default)]
pub struct Attrs(pub BTreeMap<String, AttrValue>);

impl Attrs {
    /// Takes the attribute `name` out.
    pub fn take<A: Attr>(&mut self, name: &str) -> Result<A, String> {
        let v = self.0.remove(name).ok_or_else(|| format!("attribute `{name}` is missing"))?;
        A::from_value(v).ok_or_else(|| format!("attribute `{name}` is of the wrong kind"))
    }

    /// The first attribute that nobody took.
    pub fn leftover(&self) -> Option<&str> {
        self.0.keys().next().map(String::as_str)
    }
}

/// Declares an op struct whose text form lists its fields in order of declaration.
/// `op! { /// doc \n pub struct Softmax = "softmax" { /// doc \n pub axis: usize } }`
macro_rules! op {
    ($(#[$doc:meta])* pub struct $name:ident = $text:literal { $($(#[$fdoc:meta])* pub $field:ident: $ty:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct $name { $($(#[$fdoc])* pub $field: $ty,)* }
        impl $crate::ops::Mnemonic for $name {
            fn mnemonic(&self) -> &'static str { $text }
            fn attrs(&self) -> Vec<(&'static str, $crate::ops::AttrValue)> {
                vec![$((stringify!($field), $crate::ops::Attr::to_value(&self.$field)),)*]
            }
            #[allow(unused_variables)]
            fn parse(name: &str, a: &mut $crate::ops::Attrs) -> Option<Result<Self, String>> {
                if name != $text { return None; }
                let read = |a: &mut $crate::ops::Attrs| Ok(Self { $($field: a.take(stringify!($field))?,)* });
                Some(read(a))
            }
        }
    };
}
pub(crate) use op;

/// Declares a family of ops that differ in a kind only, whose mnemonic is the kind: the kinds with their mnemonics and
/// names in ONNX, then the op, with its attributes in order of declaration.
/// `kinds! { /// doc \n pub enum UnaryKind { /// doc \n Exp = "exp", "Exp"; } /// doc \n pub struct Unary {} }`
macro_rules! kinds {
    (
        $(#[$doc:meta])* pub enum $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal, $onnx:literal;)* }
        $(#[$odoc:meta])* pub struct $op:ident { $($(#[$fdoc:meta])* pub $field:ident: $ty:ty,)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }
        impl $name {
            /// Every kind, in order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// The text mnemonic.
            pub const fn text(self) -> &'static str { match self { $(Self::$variant => $text,)* } }
            /// The name in ONNX.
            const fn onnx(self) -> &'static str { match self { $(Self::$variant => $onnx,)* } }
        }
        $(#[$odoc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct $op { #[doc = "Which of the family."] pub kind: $name, $($(#[$fdoc])* pub $field: $ty,)* }
        impl $crate::ops::Mnemonic for $op {
            fn mnemonic(&self) -> &'static str { self.kind.text() }
            fn attrs(&self) -> Vec<(&'static str, $crate::ops::AttrValue)> {
                vec![$((stringify!($field), $crate::ops::Attr::to_value(&self.$field)),)*]
            }
            #[allow(unused_variables)]
            fn parse(name: &str, a: &mut $crate::ops::Attrs) -> Option<Result<Self, String>> {
                let kind = $name::ALL.iter().copied().find(|k| k.text() == name)?;
                let read = |a: &mut $crate::ops::Attrs| Ok(Self { kind, $($field: a.take(stringify!($field))?,)* });
                Some(read(a))
            }
        }
    };
}
pub(crate) use kinds;
