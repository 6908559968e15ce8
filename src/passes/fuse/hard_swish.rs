//! `x·clamp(x + 3, 0, 6)/6` becomes HardSwish.

use crate::ops::{HardSwish, composite};
use crate::rewrite::Rule;

/// Hard swish (Howard et al. 2019, arXiv 1905.02244).
pub(super) const RULE: Rule = Rule {
    name: "hard-swish",
    doc: "x·clamp(x + 3, 0, 6)/6 becomes HardSwish",
    lhs: |x| composite::hard_swish(x.any("x")),
    when: |_| Ok(()),
    rhs: |_, var| var("x").builder().apply(HardSwish {}, &[var("x")]),
    hint: None,
};
