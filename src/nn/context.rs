//! Queries of one sequence, keys and values of it and of another.

use super::{linear_no_bias, split_heads};
use crate::build::{Scope, T};

/// Queries from `x`, keys and values from `x` followed by `context`: `[b, heads, n, dim_head]` each.
/// `context` is used as it is: whoever normalizes `x` does not normalize it. Without one this is
/// self-attention. Keys `to_q.weight` `[heads·dim_head, d]`, `to_kv.weight` `[2·heads·dim_head, d]`.
#[track_caller]
pub fn context_qkv<'g>(s: Scope<'g>, x: T<'g>, context: Option<T<'g>>, heads: usize, dim_head: usize) -> [T<'g>; 3] {
    let _in = s.enter();
    let inner = heads * dim_head;
    let all = context.map_or(x, |c| T::concat(&[x, c], 1));
    let q = linear_no_bias(s.at("to_q"), x, inner);
    let [k, v] = linear_no_bias(s.at("to_kv"), all, 2 * inner).chunk(-1);
    [q, k, v].map(|t| split_heads(t, heads))
}
