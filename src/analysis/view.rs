//! A graph as petgraph sees it: the second opinion on order and depth.
//!
//! The arena keeps operands before their users, so its order is topological by construction. Here the
//! same is found from the edges alone.

use crate::ir::NodeId;
use crate::ops::Graph;
use petgraph::algo;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;
use std::collections::BTreeMap;

/// Live nodes; an edge runs from producer to user and carries the operand's position (255 from there on).
pub type View = DiGraph<NodeId, u8>;

/// The view of a graph. Nodes come in arena order.
pub fn view(g: &Graph) -> View {
    let live = g.live();
    let mut out = View::new();
    let mut place: BTreeMap<NodeId, NodeIndex> = BTreeMap::new();
    for (id, n) in g.nodes().filter(|(_, n)| n.outputs().any(|v| live[v])) {
        let to = out.add_node(id);
        place.insert(id, to);
        for (i, &v) in n.inputs.iter().enumerate() {
            if let Some(from) = g.producer(v).and_then(|p| place.get(&p)) {
                out.add_edge(*from, to, u8::try_from(i).unwrap_or(u8::MAX));
            }
        }
    }
    out
}

/// A topological order found from the edges; `None` when there is a cycle, which no graph of ours has.
pub fn toposort(view: &View) -> Option<Vec<NodeId>> {
    algo::toposort(view, None).ok().map(|order| order.into_iter().map(|i| view[i]).collect())
}

/// The longest chain of nodes each of which needs the one before: its length is the depth, the least
/// number of steps however much runs in parallel.
pub fn critical_path(view: &View) -> Vec<NodeId> {
    let Ok(order) = algo::toposort(view, None) else { return Vec::new() };
    let mut best: Vec<(usize, Option<NodeIndex>)> = vec![(1, None); view.node_count()];
    for &n in &order {
        for e in view.edges(n) {
            let length = best[n.index()].0 + 1;
            if length > best[e.target().index()].0 {
                best[e.target().index()] = (length, Some(n));
            }
        }
    }
    let mut at = view.node_indices().max_by_key(|n| best[n.index()].0);
    let mut path = Vec::new();
    while let Some(n) = at {
        path.push(view[n]);
        at = best[n.index()].1;
    }
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{Options, compile};
    use crate::template::{Model, Source};
    use crate::text;
    use crate::variants::VARIANTS;

    #[test]
    fn depth_is_the_longest_chain() {
        let g = text::parse(
            "graph g  stage built\n  input x : f32[4]\n\n[]\n  %0 = relu x : f32[4]\n  %1 = exp %0 : f32[4]\n  \
             %2 = add %1, %0 : f32[4]\n  %3 = exp x : f32[4]\n\n  output y = %/2\n",
        )
        .expect("a graph");
        let v = view(&g);
        assert_eq!((v.node_count(), v.edge_count()), (3, 3), "the dead node is left out");
        assert_eq!(critical_path(&v).len(), 3);
    }

    /// Every edge leads forward in the arena, and petgraph finds an order too.
    #[test]
    fn the_arena_is_in_topological_order() {
        for e in VARIANTS {
            let m = Model::resolve(&Source::Preset(e.name, "tiny"), &[]).unwrap_or_else(|e| panic!("{e}"));
            let c = compile(&m.declaration, &Options::default()).unwrap_or_else(|x| panic!("{}: {x}", e.name));
            for g in [&c.declared, &c.optimized.graph, &c.program.graph] {
                let v = view(g);
                assert_eq!(toposort(&v).map(|o| o.len()), Some(v.node_count()), "{}", e.name);
                assert!(v.edge_references().all(|e| v[e.source()] < v[e.target()]), "{}", e.name);
                assert!(critical_path(&v).is_sorted(), "{}", e.name);
            }
        }
    }
}
