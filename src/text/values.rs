//! Reads types, sizes, tensors and attribute values.
//!
//! Nothing is allocated before its text has been read, and sizes whose products could become
//! large are refused, so that a short text cannot use much memory.

use super::cursor::{Cursor, ParseError};
use crate::ir::{DType, Dim, Element, Init, Kind, Literal, Real, Shape, Symbol, Tensor, TensorType};
use crate::ops::{AttrValue, Attrs};
use crate::with_dtype;
use std::collections::BTreeSet;

type Result<T> = std::result::Result<T, ParseError>;

/// The most axes of a type. Models have at most eight.
const MOST_AXES: usize = 64;
/// The most terms that the product of a list of sizes may have: `(h*w + 1) * (h*w + 1)` counts four.
const MOST_TERMS: usize = 256;
/// The most factors in one size.
const MOST_FACTORS: usize = 64;

/// The declared symbols.
pub(super) type Symbols = BTreeSet<Symbol>;

/// Reads an element type.
fn dtype(c: &mut Cursor<'_>) -> Result<DType> {
    let start = c.start();
    let word = c.word("an element type")?;
    DType::parse(word)
        .ok_or_else(|| c.error_at(start, format!("expected an element type ({}), found `{word}`", DType::names())))
}

/// Reads an element type with a shape: `f32[batch, 3, 16*h]`.
pub(super) fn tensor_type(c: &mut Cursor<'_>, symbols: &Symbols) -> Result<TensorType> {
    let dtype = dtype(c)?;
    let start = c.offset();
    c.expect('[')?;
    let sizes = sizes(c, symbols)?;
    let ty = TensorType::new(dtype, sizes.into_iter().map(|s| s.dim).collect::<Shape>());
    if ty.rank() > MOST_AXES {
        return Err(c.error_at(start, format!("a tensor has at most {MOST_AXES} axes, found {}", ty.rank())));
    }
    if let Some(bad) = ty.shape.iter().find(|d| !d.is_valid()) {
        return Err(c.error_at(start, format!("an axis cannot have size {bad}")));
    }
    if !ty.shape.elements().is_valid() {
        return Err(c.error_at(start, format!("{ty} has more elements than can be counted")));
    }
    Ok(ty)
}

/// Reads a size, and returns the number as written if it is a plain number.
struct Size {
    dim: Dim,
    number: Option<i64>,
}

/// Reads sizes up to the closing bracket, whose product has few terms.
fn sizes(c: &mut Cursor<'_>, symbols: &Symbols) -> Result<Vec<Size>> {
    let start = c.offset();
    let sizes = c.items(']', |c| size(c, symbols))?;
    let terms = sizes.iter().try_fold(1usize, |n, s| {
        let (terms, constant) = s.dim.parts();
        n.checked_mul((terms.count() + usize::from(constant != 0)).max(1)).filter(|&n| n <= MOST_TERMS)
    });
    if terms.is_none() {
        return Err(c.error_at(start, format!("the product of these sizes may have more than {MOST_TERMS} terms")));
    }
    Ok(sizes)
}

/// Reads a polynomial: terms with `+` and `-` between them, each a product of a number and symbols.
fn size(c: &mut Cursor<'_>, symbols: &Symbols) -> Result<Size> {
    let start = c.start();
    let mut factors = 0;
    let negative = c.eat('-');
    let Size { mut dim, mut number } = term(c, symbols, negative, &mut factors)?;
    loop {
        let negative = match (c.eat('+'), c.eat('-')) {
            (true, negative) => negative,
            (false, true) => true,
            (false, false) => break,
        };
        dim = dim + term(c, symbols, negative, &mut factors)?.dim;
        number = None;
    }
    if number.is_none() && dim == Dim::OVERFLOW {
        return Err(c.error_at(start, "the size does not fit 64 bits"));
    }
    Ok(Size { dim, number })
}

fn term(c: &mut Cursor<'_>, symbols: &Symbols, negative: bool, factors: &mut usize) -> Result<Size> {
    let mut dim = Dim::known(if negative { -1 } else { 1 });
    let mut number = None;
    let mut first = true;
    loop {
        let start = c.start();
        *factors += 1;
        if *factors > MOST_FACTORS {
            return Err(c.error_at(start, format!("a size has at most {MOST_FACTORS} factors")));
        }
        let word = c.word("a size: a number, a symbol, or a sum of products of them")?;
        if word.starts_with(|x: char| x.is_ascii_digit()) {
            let magnitude: Option<i128> = word.parse().ok();
            let signed = magnitude.map(|m| if negative && first { -m } else { m });
            let Some(n) = signed.and_then(|n| i64::try_from(n).ok()) else {
                return Err(c.error_at(start, format!("expected a number of 64 bits, found `{word}`")));
            };
            if first {
                (dim, number) = (Dim::known(n), Some(n));
            } else {
                dim = dim * n;
            }
        } else {
            let symbol = Symbol::new(word).filter(|s| symbols.contains(s));
            let Some(symbol) = symbol else {
                return Err(c.error_at(start, format!("`{word}` is not a symbol of this graph: declare it before use")));
            };
            dim = dim * Dim::symbol(symbol);
        }
        if !c.eat('*') {
            return Ok(Size { dim, number });
        }
        (first, number) = (false, None);
    }
}

/// An element of a tensor, or an attribute that is a number.
fn element<A: Element>(c: &mut Cursor<'_>) -> Result<A> {
    let start = c.start();
    let text = c.number();
    if A::DTYPE.is_float() && text == "nan" && c.peek_here() == Some('(') {
        c.expect('(')?;
        let hex = c.number();
        c.expect(')')?;
        let bits = hex.strip_prefix("0x").and_then(|h| u64::from_str_radix(h, 16).ok()).map(u64::to_le_bytes);
        let fits = bits.filter(|b| b[A::DTYPE.size()..].iter().all(|&b| b == 0));
        return fits
            .map(|b| A::get(&b[..A::DTYPE.size()]))
            .filter(|x| x.to_f64().is_nan())
            .ok_or_else(|| c.error_at(start, format!("`{hex}` are not the bits of a NaN of {}", A::DTYPE)));
    }
    match A::parse(text) {
        Some(x) if x.to_f64().is_infinite() && text.contains(|d: char| d.is_ascii_digit()) => {
            Err(c.error_at(start, format!("`{text}` is too large for {}", A::DTYPE)))
        }
        Some(x) => Ok(x),
        None => {
            let wanted = match A::DTYPE.kind() {
                Kind::Float | Kind::Half => "a number",
                Kind::Int => "an integer",
                Kind::Bool => "`true` or `false`",
            };
            Err(c.error_at(start, format!("expected {wanted} of {}, found `{text}`", A::DTYPE)))
        }
    }
}

/// Reads a tensor: its type, then its elements in one pair of brackets (none for rank 0).
fn literal(c: &mut Cursor<'_>, dtype: DType) -> Result<Literal> {
    let start = c.offset();
    c.expect('[')?;
    let shape = c.items(']', |c| {
        let start = c.start();
        usize::try_from(element::<i64>(c)?).map_err(|_| c.error_at(start, "a size cannot be negative"))
    })?;
    // The axes of empty tensors must be addressable too.
    let room = isize::MAX as usize / 8;
    let extent = shape.iter().filter(|&&d| d != 0).try_fold(1usize, |n, &d| n.checked_mul(d));
    if extent.is_none_or(|n| n > room) {
        return Err(c.error_at(start, format!("{dtype}{shape:?} is too large for a constant")));
    }
    let tensor = with_dtype!(dtype, A => elements::<A>(c, &shape))?;
    Ok(Literal::new(tensor))
}

fn elements<A: Element>(c: &mut Cursor<'_>, shape: &[usize]) -> Result<Tensor> {
    let start = c.start();
    if c.peek_here() == Some('#') {
        let message = "this constant was printed as a digest: print the graph complete to read it back";
        return Err(c.error_at(start, message));
    }
    if shape.is_empty() {
        return Ok(Tensor::scalar(element::<A>(c)?));
    }
    c.expect('[')?;
    let data = c.items(']', element::<A>)?;
    let count: usize = shape.iter().product();
    if data.len() != count {
        let message = format!("{}{shape:?} has {count} elements, found {}", A::DTYPE, data.len());
        return Err(c.error_at(start, message));
    }
    Ok(Tensor::new(shape, data))
}

/// Reads initial values: `constant(0.0)`, `normal(1.0)`, `uniform(0.5)`, `value(TENSOR)` or `computed`.
pub(super) fn init(c: &mut Cursor<'_>, ty: &TensorType) -> Result<Init> {
    let start = c.start();
    let how = c.word("how the parameter starts: constant(x), normal(x), uniform(x), value(tensor) or computed")?;
    let real: fn(Real) -> Init = match how {
        "constant" => Init::Constant,
        "normal" => Init::Normal,
        "uniform" => Init::Uniform,
        "computed" => return Ok(Init::Computed),
        "value" => {
            c.expect('(')?;
            let start = c.offset();
            let dtype = dtype(c)?;
            let literal = literal(c, dtype)?;
            let found = TensorType { dtype, shape: Shape::from(literal.tensor().shape()) };
            if found != *ty {
                return Err(c.error_at(start, format!("the parameter is {ty} but its contents are {found}")));
            }
            c.expect(')')?;
            return Ok(Init::Value(literal));
        }
        _ => {
            let message =
                format!("expected constant(x), normal(x), uniform(x), value(tensor) or computed, found `{how}`");
            return Err(c.error_at(start, message));
        }
    };
    c.expect('(')?;
    let x = element(c)?;
    c.expect(')')?;
    Ok(real(Real(x)))
}

/// Reads `{name = value, …}`, or nothing.
pub(super) fn attributes(c: &mut Cursor<'_>, symbols: &Symbols) -> Result<Attrs> {
    let mut attrs = Attrs::default();
    if !c.eat('{') {
        return Ok(attrs);
    }
    c.items('}', |c| {
        let start = c.start();
        let name = c.word("the name of an attribute")?;
        c.expect('=')?;
        let value = attribute(c, symbols)?;
        if attrs.0.insert(name.to_owned(), value).is_some() {
            return Err(c.error_at(start, format!("attribute `{name}` is given twice")));
        }
        Ok(())
    })?;
    Ok(attrs)
}

fn attribute(c: &mut Cursor<'_>, symbols: &Symbols) -> Result<AttrValue> {
    if c.peek() == Some('[') {
        c.expect('[')?;
        let sizes = sizes(c, symbols)?;
        let numbers: Option<Vec<i64>> = sizes.iter().map(|s| s.number).collect();
        return Ok(numbers.map_or_else(|| AttrValue::Dims(sizes.into_iter().map(|s| s.dim).collect()), AttrValue::Ints));
    }
    let text = c.clone().number();
    let unsigned = text.trim_start_matches(['-', '+']);
    match unsigned {
        "" => c.expected("a number, a size, `true`, `false`, an element type, a list or a tensor"),
        "true" | "false" => element(c).map(AttrValue::Bool),
        word if DType::parse(word).is_some() => {
            let dtype = dtype(c)?;
            if c.peek_here() == Some('[') {
                literal(c, dtype).map(AttrValue::Literal)
            } else {
                Ok(AttrValue::DType(dtype))
            }
        }
        word if !is_reserved(word) && (word.bytes().all(|b| b.is_ascii_digit()) || is_symbol_like(word)) => {
            let size = size(c, symbols)?;
            Ok(size.number.map_or(AttrValue::Dim(size.dim), AttrValue::Int))
        }
        _ => element(c).map(|x| AttrValue::Real(Real(x))),
    }
}

fn is_symbol_like(word: &str) -> bool {
    word.starts_with(|x: char| x.is_ascii_alphabetic())
}

/// Returns true if a word has a meaning as the value of an attribute, so that it cannot name a symbol.
pub(super) fn is_reserved(word: &str) -> bool {
    matches!(word, "true" | "false" | "nan" | "inf") || DType::parse(word).is_some()
}
