//! A run graph and the weight program that feeds it.
//!
//! The weight program is a graph without inputs whose parameters are the checkpoint's and whose
//! outputs are parameters of the run graph, by name. A run parameter that is no output of the
//! weight program is the checkpoint's tensor as it is. Passes move parameter arithmetic out of the
//! run graph into the weight program; nothing is computed until a file is written or a session made.

use super::Graph;
use crate::ir::{Param, Stage, verify};
use std::collections::{BTreeMap, BTreeSet};

/// A run graph and its weight program.
#[derive(Clone, Debug)]
pub struct Program {
    /// What runs.
    pub graph: Graph,
    /// What makes its parameters.
    pub weights: Graph,
}

impl Program {
    /// A graph whose parameters are the checkpoint's.
    pub fn new(graph: Graph) -> Self {
        let weights = Graph::new(format!("{}.weights", graph.name), Stage::Legal);
        Self { graph, weights }
    }

    /// Checkpoint tensors that the run graph depends on, in order of first need, once each.
    pub fn sources(&self) -> Vec<&Param> {
        let computed: BTreeSet<&str> = self.weights.outputs().iter().map(|o| o.name.as_str()).collect();
        let live = self.graph.live();
        let direct = self.graph.params().filter(|p| live[p.value] && !computed.contains(p.path.as_str()));
        let mut by_path: BTreeMap<&str, &Param> = BTreeMap::new();
        direct.chain(self.weights.params()).for_each(|p| {
            by_path.entry(&p.path).or_insert(p);
        });
        by_path.into_values().collect()
    }

    /// Both graphs verify, and every output of the weight program has the type of the run parameter it feeds.
    pub fn verify(&self) -> Result<(), String> {
        verify::verify(&self.graph).map_err(|e| e.to_string())?;
        verify::verify(&self.weights).map_err(|e| format!("weight program: {e}"))?;
        let params: BTreeMap<&str, &Param> = self.graph.params().map(|p| (p.path.as_str(), p)).collect();
        for o in self.weights.outputs() {
            if let Some(p) = params.get(o.name.as_str()) {
                let (made, wanted) = (self.weights.ty(o.value), self.graph.ty(p.value));
                if made != wanted {
                    return Err(format!("the weight program makes `{}` as {made}, the graph reads {wanted}", o.name));
                }
            }
        }
        Ok(())
    }
}
