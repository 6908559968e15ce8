//! Floating-point operations of a graph, with every symbol 1: for one image.
//!
//! Counts are those of the ops ([`crate::ops::OpDef::cost`]): a multiply-add is two, data movement is free. What
//! no output depends on is not counted.

use crate::ir::{Bindings, TensorType};
use crate::ops::{Graph, Node};
use std::collections::BTreeMap;

/// Operations of one run with every symbol 1; `None` when they are too many to count.
pub fn flops(g: &Graph) -> Option<u64> {
    flops_by_scope(g)?.into_values().try_fold(0u64, u64::checked_add)
}

/// Operations by full scope path, sorted; scopes without any are listed with 0.
pub fn flops_by_scope(g: &Graph) -> Option<BTreeMap<String, u64>> {
    let one: Bindings = g.symbols().iter().map(|s| (s.clone(), 1)).collect();
    let live = g.live();
    let mut out = BTreeMap::new();
    for (_, n) in g.nodes().filter(|(_, n)| n.outputs().any(|v| live[v])) {
        let sum: &mut u64 = out.entry(g.scope_path(n.origin.scope).to_owned()).or_default();
        *sum = sum.checked_add(of_node(g, n, &one)?)?;
    }
    Some(out)
}

fn of_node(g: &Graph, n: &Node, env: &Bindings) -> Option<u64> {
    let x: Vec<&TensorType> = n.inputs.iter().map(|&v| g.ty(v)).collect();
    let y: Vec<&TensorType> = n.outputs().map(|v| g.ty(v)).collect();
    u64::try_from(n.op.def().cost(&x, &y).flops.eval(env)?).ok()
}

/// The block that a module path belongs to: two components, and the number after them where the second is the name of
/// a list, so that `transformer.layers.0.1.fn` is of `transformer.layers.0`.
pub fn block_of(path: &str) -> String {
    let parts: Vec<&str> = path.split('.').collect();
    let is_number = |i: usize| parts.get(i).is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()));
    let n = if !is_number(1) && is_number(2) { 3 } else { 2 };
    parts[..n.min(parts.len())].join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text;

    #[test]
    fn multiply_adds_count_twice_and_dead_nodes_do_not_count() {
        let g = text::parse(
            "graph g  stage built\n  symbol batch\n  input x : f32[batch, 4]\n\n[head]\n  \
             param weight : f32[4, 10] uniform(0.5)\n  %0 = matmul x, @weight : f32[batch, 10]\n  \
             %1 = matmul x, @weight : f32[batch, 10]\n\n  output y = %head/0\n",
        )
        .expect("a graph");
        assert_eq!(flops(&g), Some(2 * 4 * 10));
        assert_eq!(flops_by_scope(&g).expect("countable").into_iter().collect::<Vec<_>>(), [("head".to_owned(), 80)]);
    }

    #[test]
    fn blocks_are_two_names_deep_with_their_number() {
        let block = |p: &str| block_of(p);
        assert_eq!(block("transformer.layers.0.1.fn.net"), "transformer.layers.0");
        assert_eq!(block("layers.3.attn"), "layers.3");
        assert_eq!(block("mlp_head.1"), "mlp_head.1");
        assert_eq!(block("to_patch_embedding.norm.weight"), "to_patch_embedding.norm");
        assert_eq!(block(""), "");
    }
}
