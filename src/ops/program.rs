//! A run graph and the weight program that feeds it.
//!
//! The weight program is a graph without inputs whose parameters are the checkpoint's and whose
//! outputs are the run graph's *computed* parameters ([`Init::Computed`]), by name. Any other run
//! parameter is the checkpoint's tensor as it is. Passes move parameter arithmetic out of the
//! run graph into the weight program; nothing is computed until a file is written or a session made.

use super::Graph;
use crate::ir::{Init, Output, Param, Stage, verify};
use hashbrown::HashSet;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A run graph and its weight program. Clones share both.
#[derive(Clone, Debug)]
pub struct Program {
    /// The graph that runs.
    pub graph: Arc<Graph>,
    /// The graph that computes its parameters.
    pub weights: Arc<Graph>,
}

impl Program {
    /// A graph whose parameters are the checkpoint's.
    pub fn new(graph: Graph) -> Self {
        let weights = Graph::new(format!("{}.weights", graph.name), Stage::Legal);
        Self { graph: graph.into(), weights: weights.into() }
    }

    /// Another run graph with the same weight program.
    pub fn with_graph(&self, graph: Graph) -> Self {
        Self { graph: graph.into(), weights: self.weights.clone() }
    }

    /// Drops outputs of the weight program that the run graph does not declare any more.
    pub fn forget_unread(&mut self) {
        let declared: HashSet<&str> = self.graph.params().map(|p| &*p.path).collect();
        let unread = |o: &Output| !declared.contains(o.name.as_str());
        if self.weights.outputs().iter().any(unread) {
            Arc::make_mut(&mut self.weights).retain_outputs(|o| !unread(o));
        }
    }

    /// Checks both graphs and what stands between them: every computed run parameter is an output of the weight program,
    /// of the same type; every output of the weight program is such a parameter; the weight program's own parameters are
    /// the checkpoint's.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify(&self) -> Result<(), String> {
        verify::verify(&self.graph).map_err(|e| e.to_string())?;
        verify::verify(&self.weights).map_err(|e| format!("weight program: {e}"))?;
        if let Some(i) = self.weights.inputs().first() {
            return Err(format!("the weight program has the input `{}`; it may read parameters only", i.name));
        }
        if let Some(p) = self.weights.params().find(|p| p.init == Init::Computed) {
            return Err(format!(
                "the weight program reads `{}`, which is computed; it may read the checkpoint's",
                p.path
            ));
        }
        let mut wanted: BTreeMap<&str, &Param> = self.graph.params().map(|p| (&*p.path, p)).collect();
        for o in self.weights.outputs() {
            let p = wanted.remove(o.name.as_str());
            let Some(p) = p.filter(|p| p.init == Init::Computed) else {
                return Err(format!(
                    "the weight program makes `{}`, which is no computed parameter of the graph",
                    o.name
                ));
            };
            let (made, wanted) = (self.weights.ty(o.value), self.graph.ty(p.value));
            if made != wanted {
                return Err(format!("the weight program makes `{}` as {made}, the graph reads {wanted}", o.name));
            }
        }
        match wanted.values().find(|p| p.init == Init::Computed) {
            Some(p) => Err(format!("parameter `{}` is computed, but the weight program does not make it", p.path)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Builder;
    use crate::ir::{DType, TensorType};

    fn program(run: &[(&str, Init)], params: &[(&str, Init)], outputs: &[&str]) -> Result<(), String> {
        let ty = || TensorType::new(DType::F32, [2]);
        let graph = |params: &[(&str, Init)]| {
            let b = Builder::new("g", Stage::Legal);
            for (path, init) in params {
                b.param(path, ty(), init.clone(), false);
            }
            b
        };
        let weights = graph(params);
        for o in outputs {
            let p = weights.param(params[0].0, ty(), params[0].1.clone(), false);
            weights.output(o, -p);
        }
        let finish = |b: Builder| b.finish().expect("well typed");
        Program { graph: finish(graph(run)).into(), weights: finish(weights).into() }.verify()
    }

    #[test]
    fn the_two_graphs_agree_in_both_directions() {
        let (made, stored) = (("w.neg", Init::Computed), ("w", Init::ONES));
        let fails = |run: &[_], params: &[_], outputs: &[&str], why: &str| {
            let e = program(run, params, outputs).expect_err(why);
            assert!(e.contains(why), "{e}");
        };
        assert_eq!(program(&[made.clone(), stored.clone()], std::slice::from_ref(&stored), &["w.neg"]), Ok(()));
        fails(
            std::slice::from_ref(&made),
            &[],
            &[],
            "parameter `w.neg` is computed, but the weight program does not make it",
        );
        fails(&[], std::slice::from_ref(&stored), &["w.neg"], "makes `w.neg`, which is no computed parameter");
        fails(&[("w.neg", Init::ZEROS)], std::slice::from_ref(&stored), &["w.neg"], "which is no computed parameter");
        fails(std::slice::from_ref(&made), &[("w", Init::Computed)], &["w.neg"], "reads `w`, which is computed");
    }
}
