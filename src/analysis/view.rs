//! A graph as petgraph sees it: edges, depth, and the nodes that everything passes through.
//!
//! The arena keeps operands before their users, so a view lists its nodes in topological order.

use crate::ir::NodeId;
use crate::ops::Graph;
use petgraph::algo::dominators;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef as _;
use std::collections::BTreeMap;

/// Live nodes in arena order; an edge runs from producer to user, one for each operand.
pub type View = DiGraph<NodeId, ()>;

/// Returns the view of a graph.
pub fn view(g: &Graph) -> View {
    let live = g.live();
    let mut out = View::new();
    let mut place: BTreeMap<NodeId, NodeIndex> = BTreeMap::new();
    for (id, n) in g.nodes().filter(|(_, n)| n.outputs().any(|v| live[v])) {
        let to = out.add_node(id);
        place.insert(id, to);
        for from in n.inputs.iter().filter_map(|&v| place.get(&g.producer(v)?)) {
            out.add_edge(*from, to, ());
        }
    }
    out
}

/// Returns the longest chain of nodes in which each needs the previous one. Its length is the depth of the graph: the least
/// number of steps, however many nodes run in parallel.
pub fn critical_path(view: &View) -> Vec<NodeId> {
    let mut best: Vec<(usize, Option<NodeIndex>)> = vec![(1, None); view.node_count()];
    for n in view.node_indices() {
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

/// Returns the cut points of a graph, in order: the nodes that every path from an input to an output passes through, which
/// are the dominators of all outputs together. The nodes between two cut points are a region with one entry and one exit,
/// so a model can be split there.
pub fn cut_points(g: &Graph, view: &View) -> Vec<NodeId> {
    let mut paths = view.map(|_, id| Some(*id), |_, ()| ());
    let [start, end] = [paths.add_node(None), paths.add_node(None)];
    for n in view.node_indices() {
        let node = g.node(view[n]);
        if node.inputs.iter().any(|&v| g.inputs().iter().any(|i| i.value == v)) {
            paths.add_edge(start, n, ());
        }
        if node.outputs().any(|v| g.outputs().iter().any(|o| o.value == v)) {
            paths.add_edge(n, end, ());
        }
    }
    if g.outputs().iter().any(|o| g.inputs().iter().any(|i| i.value == o.value)) {
        paths.add_edge(start, end, ());
    }
    let tree = dominators::simple_fast(&paths, start);
    let mut out: Vec<NodeId> = tree.strict_dominators(end).into_iter().flatten().filter_map(|n| paths[n]).collect();
    out.reverse();
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{Options, compile};
    use crate::template::{Model, Source};
    use crate::text;
    use crate::variants::VARIANTS;

    fn graph(nodes: &str, outputs: &str) -> Graph {
        let text = format!("graph g  stage built\n  input x : f32[4]\n\n[]\n{nodes}\n{outputs}");
        text::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
    }

    #[test]
    fn depth_is_the_longest_chain() {
        let g = graph(
            "  %0 = relu x : f32[4]\n  %1 = exp %0 : f32[4]\n  %2 = add %1, %0 : f32[4]\n  %3 = exp x : f32[4]\n",
            "  output y = %/2\n",
        );
        let v = view(&g);
        assert_eq!((v.node_count(), v.edge_count()), (3, 3), "the dead node is left out");
        assert_eq!(critical_path(&v).len(), 3);
    }

    /// A residual connection leaves its two ends as cut points; a connection around them leaves none.
    #[test]
    fn cut_points_are_what_every_path_passes_through() {
        let body =
            "  %0 = relu x : f32[4]\n  %1 = exp %0 : f32[4]\n  %2 = add %1, %0 : f32[4]\n  %3 = neg %2 : f32[4]\n";
        let cuts = |g: &Graph| cut_points(g, &view(g)).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(cuts(&graph(body, "  output y = %/3\n")), ["n0", "n2", "n3"]);
        assert_eq!(cuts(&graph(body, "  output y = %/3\n  output z = %/1\n")), ["n0"]);
        let around = format!("{body}  %4 = add %3, x : f32[4]\n");
        assert_eq!(cuts(&graph(&around, "  output y = %/4\n")), ["n4"]);
        assert_eq!(cuts(&graph("", "  output y = x\n")), [""; 0]);
        assert_eq!(cuts(&graph(body, "  output y = x\n  output z = %/3\n")), [""; 0]);
    }

    /// Every edge leads forward in the arena, and the residual stream of a transformer is cut between its blocks.
    #[test]
    fn views_of_variants_are_in_topological_order() {
        for e in VARIANTS {
            let m = Model::resolve(&Source::Preset(e.name, "tiny"), &[]).unwrap_or_else(|e| panic!("{e}"));
            let c = compile(&m.declaration, &Options::default()).unwrap_or_else(|x| panic!("{}: {x}", e.name));
            for g in [&c.declared, &c.optimized.graph, &c.program.graph] {
                let v = view(g);
                assert!(v.edge_references().all(|e| v[e.source()] < v[e.target()]), "{}", e.name);
                assert!(critical_path(&v).is_sorted(), "{}", e.name);
                assert!(cut_points(g, &v).is_sorted(), "{}", e.name);
            }
        }
    }
}
