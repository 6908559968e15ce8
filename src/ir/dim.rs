//! Sizes of axes: polynomials over named symbols with integer coefficients.
//!
//! A [`Dim`] is kept in one normal form (sorted monomials, no zero coefficients), so equality of
//! dims is equality of values for every binding of the symbols, and no solver is needed. The price is
//! that division must be exact.

use smallvec::SmallVec;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Add, Mul, Sub};
use std::sync::Arc;

/// A named size that is not known before a graph runs, such as `batch`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Symbol(Arc<str>);

impl Symbol {
    /// Creates the symbol of this name: a letter followed by letters, digits and `_`.
    pub fn new(name: &str) -> Option<Self> {
        let mut c = name.chars();
        let first = c.next().is_some_and(|c| c.is_ascii_alphabetic());
        (first && c.all(|c| c.is_ascii_alphanumeric() || c == '_')).then(|| Self(name.into()))
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The values of symbols when a graph runs.
pub type Bindings = BTreeMap<Symbol, i64>;

/// A product of symbols, sorted, never empty.
type Monomial = SmallVec<[Symbol; 2]>;

/// The size of one axis, e.g. `196`, `batch`, `8*batch`, `h*w + 1`.
///
/// Arithmetic saturates: a size that does not fit `i64` becomes [`Dim::OVERFLOW`], which every
/// type rule refuses, so absurd configurations end in an error instead of a wrapped number.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Dim {
    terms: Terms,
    constant: i64,
}

/// Non-constant terms, highest degree first, then by name. Types are copied all the time, so clones share them.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Terms(Option<Arc<Vec<(Monomial, i64)>>>);

impl std::ops::Deref for Terms {
    type Target = [(Monomial, i64)];
    fn deref(&self) -> &Self::Target {
        self.0.as_ref().map_or(&[], |terms| terms)
    }
}

impl From<Vec<(Monomial, i64)>> for Terms {
    fn from(terms: Vec<(Monomial, i64)>) -> Self {
        Self((!terms.is_empty()).then(|| terms.into()))
    }
}

fn order(a: &Monomial, b: &Monomial) -> Ordering {
    b.len().cmp(&a.len()).then_with(|| a.cmp(b))
}

impl Dim {
    /// A size too large to count, which is never valid in a graph.
    pub const OVERFLOW: Self = Self { terms: Terms(None), constant: i64::MAX };

    /// Creates a known size.
    pub const fn known(n: i64) -> Self {
        Self { terms: Terms(None), constant: n }
    }

    /// Creates the size that a symbol names.
    pub fn symbol(s: Symbol) -> Self {
        Self { terms: vec![(SmallVec::from_iter([s]), 1)].into(), constant: 0 }
    }

    /// Returns the number if no symbol occurs.
    #[inline]
    pub fn value(&self) -> Option<i64> {
        (self.terms.is_empty() && self.constant != i64::MAX).then_some(self.constant)
    }

    /// Returns the number as an index type if it is known and not negative.
    pub fn size(&self) -> Option<usize> {
        self.value().and_then(|v| usize::try_from(v).ok())
    }

    /// Returns true if this is the number `n`.
    pub fn is(&self, n: i64) -> bool {
        self.value() == Some(n)
    }

    /// Returns false for [`Dim::OVERFLOW`] and negative numbers.
    pub fn is_valid(&self) -> bool {
        self.constant != i64::MAX && (!self.terms.is_empty() || self.constant >= 0)
    }

    /// Returns the symbol if the dim is a single symbol.
    pub fn as_symbol(&self) -> Option<&Symbol> {
        match &*self.terms {
            [(m, 1)] if m.len() == 1 && self.constant == 0 => m.first(),
            _ => None,
        }
    }

    /// Returns every symbol that occurs, in order of first appearance.
    pub fn symbols(&self) -> impl Iterator<Item = &Symbol> {
        self.terms.iter().flat_map(|(m, _)| m.iter())
    }

    /// Returns the non-constant terms as `(symbols, coefficient)`, and the constant.
    pub fn parts(&self) -> (impl Iterator<Item = (&[Symbol], i64)>, i64) {
        (self.terms.iter().map(|(m, c)| (m.as_slice(), *c)), self.constant)
    }

    /// Evaluates the size under `env`. Returns `None` if a symbol is unbound or the result does not fit.
    pub fn eval(&self, env: &Bindings) -> Option<i64> {
        if self.constant == i64::MAX {
            return None;
        }
        self.terms.iter().try_fold(self.constant, |sum, (m, c)| {
            let p = m.iter().try_fold(*c, |p, s| p.checked_mul(*env.get(s)?))?;
            sum.checked_add(p)
        })
    }

    /// Solves for the one symbol of this dim so that the dim equals `n`: `16*h` at 224 binds `h = 14`.
    /// Returns `None` unless there is exactly one linear unknown and the division is exact.
    pub fn solve(&self, n: i64) -> Option<(Symbol, i64)> {
        let (c, constant) = self.linear()?;
        let rest = n.checked_sub(constant)?;
        let s = self.symbols().next()?;
        (rest % c == 0 && rest / c >= 0).then(|| (s.clone(), rest / c))
    }

    /// Returns `(c, d)` if the dim is `c·s + d` for one symbol `s`.
    pub fn linear(&self) -> Option<(i64, i64)> {
        match &*self.terms {
            [(m, c)] if m.len() == 1 => Some((*c, self.constant)),
            _ => None,
        }
    }

    /// Multiplies the dim by `n`.
    fn times(mut self, n: i64) -> Self {
        if self.constant == i64::MAX {
            return Self::OVERFLOW;
        }
        if n == 0 {
            return Self::known(0);
        }
        let scaled = |x: &mut i64| x.checked_mul(n).map(|y| *x = y);
        let terms = self.terms.0.as_mut().map(Arc::make_mut).into_iter().flatten();
        let fits = terms.map(|(_, c)| c).chain([&mut self.constant]).try_for_each(scaled);
        if fits.is_some() && self.constant != i64::MAX { self } else { Self::OVERFLOW }
    }

    fn build(mut terms: Vec<(Monomial, i128)>, constant: i128) -> Self {
        terms.sort_by(|a, b| order(&a.0, &b.0));
        let mut merged: Vec<(Monomial, i128)> = Vec::with_capacity(terms.len());
        for (m, c) in terms {
            match merged.last_mut() {
                Some(last) if last.0 == m => last.1 += c,
                _ => merged.push((m, c)),
            }
        }
        merged.retain(|(_, c)| *c != 0);
        let mut out = Vec::with_capacity(merged.len());
        for (m, c) in merged {
            match i64::try_from(c) {
                Ok(c) => out.push((m, c)),
                Err(_) => return Self::OVERFLOW,
            }
        }
        match i64::try_from(constant) {
            Ok(constant) if constant != i64::MAX => Self { terms: out.into(), constant },
            _ => Self::OVERFLOW,
        }
    }

    fn wide(&self) -> impl Iterator<Item = (Monomial, i128)> + '_ {
        self.terms.iter().map(|(m, c)| (m.clone(), i128::from(*c)))
    }

    /// Returns the quotient by `by` if it is exact for every binding and `by` is a single term.
    pub fn exact_div(&self, by: &Self) -> Option<Self> {
        if !self.is_valid() || !by.is_valid() {
            return None;
        }
        if self == by && !by.is(0) {
            return Some(Self::known(1));
        }
        let (divisor, coefficient): (&[Symbol], i64) = match &*by.terms {
            [] if by.constant != 0 => (&[], by.constant),
            [(m, c)] if by.constant == 0 => (m, *c),
            _ => return None,
        };
        let mut terms = Vec::new();
        let mut constant = 0i128;
        if self.constant != 0 {
            if !divisor.is_empty() || self.constant % coefficient != 0 {
                return None;
            }
            constant = i128::from(self.constant / coefficient);
        }
        for (m, c) in &*self.terms {
            let mut rest = m.clone();
            for s in divisor {
                let at = rest.iter().position(|x| x == s)?;
                rest.remove(at);
            }
            if c % coefficient != 0 {
                return None;
            }
            if rest.is_empty() {
                constant += i128::from(c / coefficient);
            } else {
                terms.push((rest, i128::from(c / coefficient)));
            }
        }
        Some(Self::build(terms, constant))
    }

    /// Returns `floor(self / by)` if it is the same polynomial for every binding.
    pub fn floor_div(&self, by: i64) -> Option<Self> {
        if by <= 0 || !self.is_valid() && self.constant == i64::MAX || self.terms.iter().any(|(_, c)| c % by != 0) {
            return None;
        }
        let terms = self.wide().map(|(m, c)| (m, c / i128::from(by))).collect();
        Some(Self::build(terms, i128::from(self.constant.div_euclid(by))))
    }
}

impl From<i64> for Dim {
    fn from(n: i64) -> Self {
        Self::known(n)
    }
}
impl From<i32> for Dim {
    fn from(n: i32) -> Self {
        Self::known(i64::from(n))
    }
}
impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        i64::try_from(n).map_or(Self::OVERFLOW, Self::known)
    }
}
impl From<&Dim> for Dim {
    fn from(d: &Dim) -> Self {
        d.clone()
    }
}

impl<D: Into<Dim>> Add<D> for &Dim {
    type Output = Dim;
    fn add(self, rhs: D) -> Dim {
        let rhs = rhs.into();
        if self.constant == i64::MAX || rhs.constant == i64::MAX {
            return Dim::OVERFLOW;
        }
        // A number and a polynomial keep the terms of the polynomial; nearly every sum is one.
        if self.terms.is_empty() || rhs.terms.is_empty() {
            let Some(constant) = self.constant.checked_add(rhs.constant).filter(|&c| c != i64::MAX) else {
                return Dim::OVERFLOW;
            };
            return Dim { terms: if rhs.terms.is_empty() { self.terms.clone() } else { rhs.terms }, constant };
        }
        Dim::build(self.wide().chain(rhs.wide()).collect(), i128::from(self.constant) + i128::from(rhs.constant))
    }
}

impl<D: Into<Dim>> Sub<D> for &Dim {
    type Output = Dim;
    fn sub(self, rhs: D) -> Dim {
        self + &rhs.into() * -1
    }
}

impl<D: Into<Dim>> Mul<D> for &Dim {
    type Output = Dim;
    fn mul(self, rhs: D) -> Dim {
        let rhs = rhs.into();
        if self.constant == i64::MAX || rhs.constant == i64::MAX {
            return Dim::OVERFLOW;
        }
        // A number of times a polynomial keeps its normal form; nearly every product is one.
        match (self.value(), rhs.value()) {
            (_, Some(n)) => return self.clone().times(n),
            (Some(n), _) => return rhs.times(n),
            _ => {}
        }
        let side = |d: &Dim| -> Vec<(Monomial, i128)> {
            d.wide().chain((d.constant != 0).then(|| (Monomial::new(), i128::from(d.constant)))).collect()
        };
        let mut terms = Vec::new();
        let mut constant = 0i128;
        for (a, c) in side(self) {
            for (b, d) in side(&rhs) {
                let Some(p) = c.checked_mul(d) else { return Dim::OVERFLOW };
                let mut m: Monomial = a.iter().chain(&b).cloned().collect();
                m.sort();
                if m.is_empty() { constant += p } else { terms.push((m, p)) }
            }
        }
        Dim::build(terms, constant)
    }
}

macro_rules! by_value {
    ($($tr:ident $f:ident;)*) => {$(
        impl<D: Into<Dim>> $tr<D> for Dim {
            type Output = Dim;
            fn $f(self, rhs: D) -> Dim { (&self).$f(rhs) }
        }
    )*};
}
by_value! { Add add; Sub sub; Mul mul; }

/// The product of all dims, which is 1 for none.
impl<'a> std::iter::Product<&'a Dim> for Dim {
    fn product<I: Iterator<Item = &'a Dim>>(iter: I) -> Self {
        let (mut number, mut symbolic): (Option<i64>, Option<Self>) = (Some(1), None);
        for d in iter {
            match (d.value(), symbolic.as_mut()) {
                (Some(n), _) => number = number.and_then(|p| p.checked_mul(n)),
                (None, None) => symbolic = Some(d.clone()),
                (None, Some(p)) => *p = &*p * d,
            }
        }
        let number = number.map_or(Self::OVERFLOW, Self::known);
        match symbolic {
            Some(p) => p * number,
            None => number,
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.constant == i64::MAX {
            return f.write_str("overflow");
        }
        for (i, (m, c)) in self.terms.iter().enumerate() {
            let (sign, c) = if *c < 0 { ("-", c.unsigned_abs()) } else { ("+", c.unsigned_abs()) };
            match (i, sign) {
                (0, "-") => f.write_str("-")?,
                (0, _) => {}
                _ => write!(f, " {sign} ")?,
            }
            if c != 1 {
                write!(f, "{c}*")?;
            }
            for (j, s) in m.iter().enumerate() {
                write!(f, "{}{s}", if j == 0 { "" } else { "*" })?;
            }
        }
        match (self.terms.is_empty(), self.constant) {
            (true, c) => write!(f, "{c}"),
            (false, 0) => Ok(()),
            (false, c) => write!(f, " {} {}", if c < 0 { "-" } else { "+" }, c.unsigned_abs()),
        }
    }
}
impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(name: &str) -> Dim {
        Dim::symbol(Symbol::new(name).expect("a name"))
    }

    #[test]
    fn one_normal_form() {
        let (h, w) = (s("h"), s("w"));
        assert_eq!((&h + 1) * (&w + 1), &h * &w + &w + &h + 1);
        assert_eq!(&h * &w - &w * &h, Dim::known(0));
        assert_eq!((&h * &w * 2 + 1).to_string(), "2*h*w + 1");
        assert_eq!((Dim::known(3) - &h).to_string(), "-h + 3");
    }

    #[test]
    fn division_is_exact_or_refused() {
        let (b, h) = (s("b"), s("h"));
        assert_eq!((&b * &h * 48).exact_div(&(&h * 16)), Some(&b * 3));
        assert_eq!((&b * 48 + 1).exact_div(&Dim::known(16)), None);
        assert_eq!((&b * 48).exact_div(&(&b + 1)), None);
        assert_eq!((&b + 1).exact_div(&(&b + 1)), Some(Dim::known(1)));
        assert_eq!((&h * 16 - 1).floor_div(4), Some(&h * 4 - 1));
        assert_eq!(h.floor_div(2), None);
    }

    #[test]
    fn products_do_not_depend_on_the_order() {
        let (b, h) = (s("b"), s("h"));
        let factors = [Dim::known(3), &b + 1, Dim::known(-4), &h * 2, b];
        let one_by_one = factors.iter().fold(Dim::known(1), |p, d| &p * d);
        assert_eq!(factors.iter().product::<Dim>(), one_by_one);
        assert_eq!(factors.iter().rev().product::<Dim>(), one_by_one);
        assert_eq!(one_by_one.to_string(), "-24*b*b*h - 24*b*h");
    }

    #[test]
    fn overflow_is_sticky_and_invalid() {
        let many = [Dim::known(i64::MAX / 2), 4.into(), 0.into(), s("b")];
        assert!(!many.iter().product::<Dim>().is_valid());
        assert!(!(s("b") * (i64::MAX / 2) * 4).is_valid());
        let big = Dim::known(i64::MAX / 2);
        assert!(!(&big * 4).is_valid());
        assert!(!(&(&big * 4) - &big).is_valid());
        assert_eq!((&big * 4).value(), None);
    }

    #[test]
    fn symbols_are_solved_from_sizes() {
        let h = Symbol::new("h").expect("a name");
        assert_eq!((s("h") * 16).solve(224), Some((h.clone(), 14)));
        assert_eq!((s("h") * 16).solve(225), None);
        assert_eq!((s("h") * s("w")).solve(4), None);
        assert_eq!((s("h") * 2 + 1).eval(&Bindings::from([(h, 3)])), Some(7));
    }
}
