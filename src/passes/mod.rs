//! The optimiser: pipelines as data, one file per pass, and the driver.
//!
//! A pass reads a [`Program`] and returns another. It makes rewrites through [`Ctx`], which counts
//! them per rule, spends fuel and collects the reasons of rules that refused. The driver verifies
//! after every pass, so a pass can be trusted to have left a valid program or to have failed.

mod batch_norm;
mod canonicalize;
mod cse;
mod fold;
pub mod fuse;
mod layout;
mod specialize;

use crate::build::BuildErrors;
use crate::ir::Stage;
use crate::ops::Program;
use crate::rewrite::{Plan, Rule};
use std::collections::BTreeMap;
use std::fmt;

/// Why a pass failed: always a defect of the pass.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The pass emitted something ill-typed.
    #[error("pass `{pass}` emitted an ill-typed graph: {source}")]
    Emit {
        /// Which pass.
        pass: &'static str,
        /// What was wrong.
        source: BuildErrors,
    },
    /// The pass left an invalid program.
    #[error("pass `{pass}` left an invalid program: {reason}")]
    Invalid {
        /// Which pass.
        pass: &'static str,
        /// What was wrong.
        reason: String,
    },
    /// There is no such pass.
    #[error("there is no pass `{0}`; the passes are {1}")]
    Unknown(String, String),
}

/// A transformation of programs.
#[derive(Clone, Copy)]
pub struct Pass {
    /// Unique, kebab-case.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub doc: &'static str,
    /// The transformation.
    pub run: fn(&Program, &mut Ctx) -> Result<Program, BuildErrors>,
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Why a rule did not apply somewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The rule.
    pub rule: &'static str,
    /// Where.
    pub scope: String,
    /// Why.
    pub reason: String,
}

/// What the driver tells passes, and what they tell it.
#[derive(Debug)]
pub struct Ctx {
    /// Rewrites still allowed.
    pub fuel: u64,
    /// How often each rule fired.
    pub counts: BTreeMap<&'static str, u64>,
    /// Where rules refused.
    pub refusals: Vec<Refusal>,
}

impl Default for Ctx {
    fn default() -> Self {
        Self { fuel: u64::MAX, counts: BTreeMap::new(), refusals: Vec::new() }
    }
}

impl Ctx {
    /// Asks to rewrite once by `rule`; false when the fuel is used up.
    pub fn spend(&mut self, rule: &'static str) -> bool {
        if self.fuel == 0 {
            return false;
        }
        self.fuel -= 1;
        *self.counts.entry(rule).or_default() += 1;
        true
    }

    /// Applies pattern rules to the run graph until none fires, at most a fixed number of sweeps.
    pub fn rewrite(&mut self, p: &Program, rules: &[Rule]) -> Result<Program, BuildErrors> {
        /// Rules shrink what they match, so a handful of sweeps reaches the end; more would be a loop.
        const SWEEPS: usize = 8;
        let mut out = p.clone();
        for _ in 0..SWEEPS {
            let plan = Plan::new(&out.graph, rules, &mut self.fuel);
            for (rule, _) in plan.at.values() {
                *self.counts.entry(rule.name).or_default() += 1;
            }
            if plan.at.is_empty() {
                for (rule, node, reason) in &plan.refused {
                    let scope = out.graph.scope_path(out.graph.node(*node).origin.scope).to_owned();
                    self.refusals.push(Refusal { rule, scope, reason: reason.clone() });
                }
                break;
            }
            let graph = plan.apply(&out.graph, out.graph.stage)?;
            out.graph = graph;
        }
        Ok(out)
    }
}

/// What the driver should do besides running the passes.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Stop after this many rewrites: bisection.
    pub fuel: Option<u64>,
    /// Stop after the pass of this name.
    pub stop_after: Option<String>,
}

/// Passes of an inference build, in order.
pub const INFERENCE: &[Pass] = &[
    specialize::INFERENCE,
    canonicalize::PASS,
    fold::PASS,
    cse::PASS,
    batch_norm::PASS,
    // After batch norm, whose shift it takes too.
    fuse::CONV_BIAS,
    // Before attention and gelu: it removes the reductions their matchers would wade through.
    fuse::LAYER_NORM,
    fuse::GELU,
    fuse::HARD_SWISH,
    fuse::ATTENTION,
    fold::AGAIN,
];

/// Passes after legalisation: what only makes sense once fused ops are decided.
pub const CLEANUP: &[Pass] = &[layout::PASS, canonicalize::AGAIN, fold::LAST, cse::AGAIN];

/// Every pass, for lookups by name.
pub fn all() -> impl Iterator<Item = &'static Pass> {
    INFERENCE.iter().chain(CLEANUP)
}

/// The pass of this name.
pub fn find(name: &str) -> Result<&'static Pass, PassError> {
    let names = || all().map(|p| p.name).collect::<Vec<_>>().join(", ");
    all().find(|p| p.name == name).ok_or_else(|| PassError::Unknown(name.to_owned(), names()))
}

/// Runs the passes of an inference build; the result is at stage `optimized` unless stopped before.
pub fn optimize(
    p: &Program,
    options: &Options,
    after: &mut dyn FnMut(&Pass, &Program),
) -> Result<(Program, Ctx), PassError> {
    let (mut out, ctx) = run(p, INFERENCE, options, after)?;
    if options.stop_after.is_none() {
        out.graph.stage = Stage::Optimized;
    }
    Ok((out, ctx))
}

/// Runs passes in order; verifies after each. `after` sees the program after every pass.
pub fn run(
    p: &Program,
    passes: &[Pass],
    options: &Options,
    after: &mut dyn FnMut(&Pass, &Program),
) -> Result<(Program, Ctx), PassError> {
    if let Some(name) = &options.stop_after {
        find(name)?;
    }
    let mut ctx = Ctx { fuel: options.fuel.unwrap_or(u64::MAX), ..Ctx::default() };
    let mut out = p.clone();
    for pass in passes {
        out = (pass.run)(&out, &mut ctx).map_err(|source| PassError::Emit { pass: pass.name, source })?;
        out.verify().map_err(|reason| PassError::Invalid { pass: pass.name, reason })?;
        after(pass, &out);
        if options.stop_after.as_deref() == Some(pass.name) {
            break;
        }
    }
    Ok((out, ctx))
}
