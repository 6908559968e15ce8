//! The optimiser: pipelines as data, one file per pass, and the driver.
//!
//! A pass reads a [`Program`] and returns another. It makes rewrites through [`Ctx`], which counts
//! them per rule, spends fuel and collects the reasons of rules that refused. The driver verifies
//! what the last pass left, in debug builds what every pass left: a pass has left a valid program
//! or has failed. Fuel limits every rewrite but those of `specialize`, without which nothing lowers.

mod batch_norm;
mod canonicalize;
mod cse;
mod fold;
pub mod fuse;
mod layout;
mod specialize;
#[cfg(test)]
mod testing;

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

    /// How often any rule fired.
    pub fn rewrites(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Applies pattern rules to the run graph until none fires, at most a fixed number of sweeps.
    pub fn rewrite(&mut self, p: &Program, rules: &[Rule]) -> Result<Program, BuildErrors> {
        /// Rules shrink what they match, so a handful of sweeps reaches the end; more would be a loop.
        const SWEEPS: usize = 8;
        let mut out = p.clone();
        for _ in 0..SWEEPS {
            let mut plan = Plan::new(&out.graph, rules, &mut self.fuel);
            for (rule, _) in plan.at.values() {
                *self.counts.entry(rule.name).or_default() += 1;
            }
            if plan.at.is_empty() {
                plan.near_misses(&out.graph, rules);
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
    // Before attention and gelu: it removes the reductions their matchers would wade through. Before batch norm,
    // which would merge the bias of a layer norm with a position embedding added to it, and so hide it.
    fuse::LAYER_NORM,
    batch_norm::PASS,
    // After batch norm, whose shift it takes too.
    fuse::CONV_BIAS,
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

/// Runs passes in order and verifies. `after` sees the program after every pass.
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
        let last = passes.last().is_some_and(|p| p.name == pass.name);
        let stop = options.stop_after.as_deref() == Some(pass.name);
        if cfg!(debug_assertions) || last || stop {
            out.verify().map_err(|reason| PassError::Invalid { pass: pass.name, reason })?;
        }
        after(pass, &out);
        if stop {
            break;
        }
    }
    Ok((out, ctx))
}

#[cfg(test)]
mod tests {
    use super::testing::{batched, graph, input, once, param, positive, same_meaning, same_text};
    use super::*;
    use crate::build::{Builder, T};
    use crate::ir::{Dim, Stage};
    use crate::ops::{Conv, composite};
    use crate::template::{Model, Source, presets};
    use crate::variants::{Declare, VARIANTS};

    /// A variant's tiny preset as declared.
    fn tiny(variant: &str, sets: &[(&str, i64)]) -> Program {
        let sets: Vec<_> = sets.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
        let m = Model::resolve(&Source::Preset(variant, "tiny"), &sets).unwrap_or_else(|e| panic!("{e}"));
        Program::new(m.declaration.declare(&Declare::default()).expect("well typed"))
    }

    fn inference(p: &Program, fuel: Option<u64>) -> (Program, Ctx) {
        run(p, INFERENCE, &Options { fuel, stop_after: None }, &mut |_, _| ()).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn passes_have_unique_names_and_say_what_they_do() {
        let mut names: Vec<&str> = all().map(|p| p.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(all().all(|p| !p.doc.is_empty() && find(p.name).is_ok_and(|found| found.name == p.name)));
        let mut rules: Vec<&str> = fuse::rules().iter().map(|r| r.name).collect();
        rules.sort_unstable();
        rules.dedup();
        assert_eq!(rules.len(), fuse::rules().len());
    }

    #[test]
    fn an_unknown_pass_is_refused_with_the_list_of_known_ones() {
        let p = Program::new(graph(Stage::Built, |b| input(b, "x", [1])));
        let options = Options { fuel: None, stop_after: Some("fuse-everything".into()) };
        let e = run(&p, INFERENCE, &options, &mut |_, _| panic!("nothing runs")).expect_err("there is none");
        let message = e.to_string();
        assert!(message.starts_with("there is no pass `fuse-everything`; the passes are specialize, canonicalize,"));
        assert!(message.contains("cse-legal"), "{message}");
    }

    #[test]
    fn the_driver_stops_after_the_pass_it_was_told() {
        let p = tiny("vit", &[("depth", 1)]);
        let options = Options { fuel: None, stop_after: Some("fold".into()) };
        let mut seen = Vec::new();
        run(&p, INFERENCE, &options, &mut |pass, _| seen.push(pass.name)).expect("valid passes");
        assert_eq!(seen, ["specialize", "canonicalize", "fold"]);
    }

    /// A pass that breaks what it is given is found out and named.
    #[test]
    fn a_pass_that_changes_a_type_is_found_out() {
        use crate::rewrite::{Rule, Vars};
        const WRONG: Rule = Rule {
            name: "wrong",
            doc: "exp(x) becomes the sum of x",
            lhs: |x: Vars| x.op(crate::ops::Unary { kind: crate::ops::UnaryKind::Exp }, vec![x.any("x")]),
            when: |_| Ok(()),
            rhs: |_, var| var("x").sum(&[0]),
            hint: None,
        };
        let pass = Pass { name: "broken", doc: "", run: |p, ctx| ctx.rewrite(p, &[WRONG]) };
        let p = Program::new(graph(Stage::Built, |b| input(b, "x", [2, 3]).exp()));
        let e = run(&p, &[pass], &Options::default(), &mut |_, _| ()).expect_err("it is wrong");
        assert!(e.to_string().contains("`broken`"), "{e}");
        assert!(e.to_string().contains("a rewrite of exp must give f32[2, 3], it gives f32[3]"), "{e}");
    }

    /// A transformer block between a convolution and a head: every rule but the exotic ones has work here.
    fn block(b: &Builder) -> T<'_> {
        let image = batched(b, "image", [2, 4, 4]);
        let y = image.conv(Conv::new().stride(2), param(b, "patch.w", [6, 2, 2, 2]), Some(param(b, "patch.b", [6])));
        let y = y * positive(b, "bn.w", [6, 1, 1]) + param(b, "bn.b", [6, 1, 1]);
        let x = y.reshape([b.symbol("batch"), 6.into(), 4.into()]).t() + param(b, "pos", [1, 4, 6]);
        let norm = composite::layer_norm(x, positive(b, "norm.w", [6]), param(b, "norm.b", [6]), x.scalar(1e-5));
        let qkv = (norm + param(b, "pos2", [1, 4, 6])).matmul(param(b, "qkv", [18, 6]).t());
        let [q, k, v] = qkv.chunk::<3>(-1).map(|t| {
            let heads: [Dim; 4] = [b.symbol("batch"), 4.into(), 2.into(), 3.into()];
            t.reshape(heads).transpose(&[0, 2, 1, 3])
        });
        let y =
            ((q / 2.0).matmul(k.t()) + param(b, "bias", [2, 4, 4]) + param(b, "mask", [4, 4])).softmax(-1).matmul(v);
        let y = y.transpose(&[0, 2, 1, 3]).reshape([b.symbol("batch"), 4.into(), 6.into()]);
        let x = x + b.root().dropout(y, 0.1) * param(b, "scale", [6]);
        let hidden = x.matmul(param(b, "up", [8, 6]).t()) + param(b, "up.b", [8]);
        let y = composite::gelu(hidden).matmul(param(b, "down", [6, 8]).t()) + param(b, "down.b", [6]);
        composite::hard_swish((x + y * param(b, "scale2", [6])).mean(&[1]))
    }

    /// Bisection works: a run with fuel for `n` makes the first `n` rewrites and leaves a valid program of the
    /// same meaning. What `specialize` does is not up for bisection.
    #[test]
    fn every_prefix_of_the_rewrites_keeps_the_meaning() {
        let before = Program::new(graph(Stage::Built, block));
        let (_, ctx) = inference(&before, None);
        for rule in ["layer-norm", "sdpa-bias", "gelu", "hard-swish", "scale-into-weights", "merge-biases"] {
            assert!(ctx.counts.get(rule).is_some_and(|&n| n > 0), "{rule}: {:?} {:?}", ctx.counts, ctx.refusals);
        }
        let mandatory = ctx.counts["inference-identity"];
        let total = ctx.rewrites() - mandatory;
        for fuel in 0..=total + 1 {
            let (p, ctx) = inference(&before, Some(fuel));
            assert_eq!(ctx.rewrites() - mandatory, fuel.min(total));
            same_meaning(&before, &p);
        }
    }

    /// The bias of the norm and the embedding added to it would merge, and the norm would not be recognised.
    #[test]
    fn an_embedding_added_to_a_layer_norm_does_not_hide_it() {
        let (p, ctx) = inference(
            &Program::new(graph(Stage::Built, |b| {
                let x = batched(b, "x", [3, 4]);
                let w = positive(b, "w", [4]);
                composite::layer_norm(x, w, param(b, "b", [4]), x.scalar(1e-5)) + param(b, "pos", [1, 3, 4])
            })),
            None,
        );
        assert_eq!(ctx.counts.get("layer-norm"), Some(&1), "{}", p.graph);
    }

    #[test]
    fn every_pass_is_idempotent_on_every_tiny_variant() {
        for v in VARIANTS {
            assert!(presets(v).iter().any(|p| p == "tiny"), "{}", v.name);
            let mut p = tiny(v.name, &[]);
            for pass in INFERENCE {
                p = once(pass, &p, u64::MAX).program;
                let again = once(pass, &p, u64::MAX);
                same_text(&format!("{} on {}", pass.name, v.name), &again.program, &p);
            }
            for target in crate::lower::Target::ALL {
                let mut p = crate::lower::legalize(&p, target, target.default_opset()).expect("it lowers");
                for pass in CLEANUP {
                    p = once(pass, &p, u64::MAX).program;
                    let again = once(pass, &p, u64::MAX);
                    same_text(&format!("{} on {} for {target}", pass.name, v.name), &again.program, &p);
                }
            }
        }
    }
}
