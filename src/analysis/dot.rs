//! Draws a graph for Graphviz: nodes as boxes, the module tree as nested clusters.

use super::view;
use crate::ir::NodeId;
use crate::ops::Graph;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The depth of clusters. The names of a file decide how deep its modules nest; modules below this depth share the cluster
/// of the one that holds them.
const DEEPEST: usize = 32;

/// Returns the live part of the graph in the DOT language. Parameters are not drawn.
pub fn dot(g: &Graph) -> String {
    let view = view(g);
    let mut root = Tree::default();
    for id in view.node_weights() {
        let path = g.scope_path(g.node(*id).origin.scope);
        path.split('.').filter(|p| !p.is_empty()).take(DEEPEST).fold(&mut root, Tree::child).nodes.push(*id);
    }
    let mut out = String::new();
    let _ = writeln!(out, "digraph {} {{", quote(&g.name));
    out.push_str(
        "  rankdir=TB; node [shape=box, style=filled, fillcolor=white, fontname=\"sans-serif\", fontsize=10];\n",
    );
    out.push_str("  graph [style=rounded, color=gray, fontname=\"sans-serif\", fontsize=10];\n");
    let live = g.live();
    for i in g.inputs().iter().filter(|i| live[i.value]) {
        let label = format!("{}\n{}", i.name, g.ty(i.value));
        let _ = writeln!(out, "  {} [shape=ellipse, label={}];", quote(&format!("in {}", i.name)), quote(&label));
    }
    root.write(g, "", 1, &mut out);
    for e in view.edge_indices() {
        let (from, to) = view.edge_endpoints(e).expect("an edge of this view");
        let _ = writeln!(out, "  {} -> {};", view[from], view[to]);
    }
    for (id, v) in view.node_weights().flat_map(|id| g.node(*id).inputs.iter().map(move |v| (id, v))) {
        if let Some(i) = g.inputs().iter().find(|i| i.value == *v) {
            let _ = writeln!(out, "  {} -> {id};", quote(&format!("in {}", i.name)));
        }
    }
    for o in g.outputs() {
        let name = quote(&format!("out {}", o.name));
        let label = format!("{}\n{}", o.name, g.ty(o.value));
        let _ = writeln!(out, "  {name} [shape=ellipse, label={}];", quote(&label));
        if let Some(n) = g.producer(o.value) {
            let _ = writeln!(out, "  {n} -> {name};");
        }
    }
    out.push_str("}\n");
    out
}

/// The module tree, children by name.
#[derive(Default)]
struct Tree {
    children: BTreeMap<String, Tree>,
    nodes: Vec<NodeId>,
}

impl Tree {
    fn child(&mut self, name: &str) -> &mut Self {
        self.children.entry(name.to_owned()).or_default()
    }

    fn write(&self, g: &Graph, path: &str, depth: usize, out: &mut String) {
        let pad = "  ".repeat(depth);
        for id in &self.nodes {
            let n = g.node(*id);
            let ty = n.outputs().next().map_or(String::new(), |v| format!("\n{}", g.ty(v)));
            let _ = writeln!(out, "{pad}{id} [label={}];", quote(&format!("{}{ty}", n.op.mnemonic())));
        }
        for (name, child) in &self.children {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let _ = writeln!(out, "{pad}subgraph {} {{", quote(&format!("cluster {path}")));
            let _ = writeln!(out, "{pad}  label={};", quote(name));
            child.write(g, &path, depth + 1, out);
            let _ = writeln!(out, "{pad}}}");
        }
    }
}

/// Quotes an id. A backslash would begin an escape of labels.
fn quote(s: &str) -> String {
    let mut out = String::from("\"");
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{Options, compile};
    use crate::template::{Model, Source};
    use std::collections::BTreeSet;

    #[test]
    fn quotes_and_lines_are_escaped() {
        assert_eq!(quote("a\"b\\c\nd"), r#""a\"b\\c\nd""#);
    }

    /// The file decides how deep modules nest, not the stack.
    #[test]
    fn deep_modules_share_a_cluster() {
        let deep = vec!["m"; 100_000].join(".");
        let text = format!(
            "graph g  stage built\n  input x : f32[4]\n\n[{deep}]\n  %0 = relu x : f32[4]\n\n  output y = %{deep}/0\n"
        );
        let drawn = dot(&crate::text::parse(&text).expect("a graph"));
        assert_eq!(drawn.matches("subgraph").count(), DEEPEST);
    }

    /// Braces balance, ids are declared before edges use them, every statement ends.
    #[test]
    fn a_model_is_well_formed() {
        let m = Model::resolve(&Source::Preset("vit", "tiny"), &[]).unwrap_or_else(|e| panic!("{e}"));
        let c = compile(&m.declaration, &Options::default()).unwrap_or_else(|e| panic!("{e}"));
        let text = dot(&c.program.graph);
        let (mut depth, mut declared, mut edges) = (0i32, BTreeSet::new(), 0);
        for line in text.lines().map(str::trim) {
            match line {
                "}" => depth -= 1,
                l if l.ends_with('{') => depth += 1,
                l => {
                    let l = l.strip_suffix(';').unwrap_or_else(|| panic!("`{l}` does not end"));
                    if let Some((a, b)) = l.split_once(" -> ") {
                        assert!(declared.contains(a) && declared.contains(b), "{l}");
                        edges += 1;
                    } else if let Some((id, _)) = l.split_once(" [") {
                        declared.insert(id.to_owned());
                    }
                }
            }
            assert!(depth >= 0);
        }
        assert_eq!(depth, 0);
        assert!(edges >= c.program.graph.nodes().len(), "{edges} edges");
        assert!(text.contains("subgraph \"cluster transformer.layers.0\""));
    }
}
