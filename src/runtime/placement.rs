//! Which provider runs which nodes of a loaded model.

use std::collections::BTreeMap;
use std::fmt;

/// Where an engine placed the nodes of a model, after its own optimizations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Providers that run at least one node, in the engine's order.
    pub placed: Vec<Placed>,
}

/// The nodes of one provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placed {
    /// `cpu`, `cuda`, `tensorrt`, or the engine's name of another provider.
    pub provider: String,
    /// Number of nodes.
    pub nodes: usize,
    /// Number of nodes by op type; empty where the engine gives only the total, as it does when one provider runs all.
    pub ops: BTreeMap<String, usize>,
    /// Nodes, by op type, that the engine placed here by choice though a preferred provider can run them too: arithmetic
    /// on sizes, for example, which is faster on the CPU. They are counted in `ops` as well.
    pub chosen: BTreeMap<String, usize>,
}

impl Placement {
    /// Number of all nodes.
    pub fn nodes(&self) -> usize {
        self.placed.iter().map(|p| p.nodes).sum()
    }

    /// The nodes on the CPU that no preferred provider can run: their number, and how many of each op type where the
    /// engine says so.
    pub fn only_on_cpu(&self) -> (usize, BTreeMap<String, usize>) {
        let Some(cpu) = self.placed.iter().find(|p| p.provider == "cpu") else { return (0, BTreeMap::new()) };
        let left = |(op, n): (&String, &usize)| (op.clone(), n - cpu.chosen.get(op).unwrap_or(&0).min(n));
        let ops: BTreeMap<_, _> = cpu.ops.iter().map(left).filter(|(_, n)| *n > 0).collect();
        (cpu.nodes.saturating_sub(cpu.chosen.values().sum()), ops)
    }
}

/// `3 Add, 1 Det`, the most frequent first.
pub(super) fn counts(ops: &BTreeMap<String, usize>) -> String {
    let mut ops: Vec<_> = ops.iter().collect();
    ops.sort_by_key(|(op, n)| (std::cmp::Reverse(**n), *op));
    ops.iter().map(|(op, n)| format!("{n} {op}")).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Placement {
    /// `49 nodes on cuda (40 Add, 9 MatMul); 3 on cpu (3 Gather, of which 3 Gather by choice)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [all] = self.placed.as_slice() {
            return write!(f, "all {} nodes on {}", all.nodes, all.provider);
        }
        for (i, p) in self.placed.iter().enumerate() {
            let (before, nodes) = if i == 0 { ("", " nodes") } else { ("; ", "") };
            write!(f, "{before}{}{nodes} on {} ({}", p.nodes, p.provider, counts(&p.ops))?;
            if !p.chosen.is_empty() {
                write!(f, ", of which {} by choice", counts(&p.chosen))?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}
