//! `x·(erf(x/√2) + 1)·½` becomes Gelu.

use crate::ops::{Gelu, Op, UnaryKind, composite};
use crate::rewrite::Rule;

/// Exact GELU.
pub(super) const RULE: Rule = Rule {
    name: "gelu",
    doc: "x·(erf(x/√2) + 1)·½ becomes Gelu",
    lhs: |x| composite::gelu(x.any("x")),
    when: |_| Ok(()),
    rhs: |_, var| var("x").builder().apply(Gelu {}, &[var("x")]),
    hint: Some(|op| matches!(op, Op::Unary(u) if u.kind == UnaryKind::Erf)),
};
