//! The optimizer: one pipeline for each target as data, one file for each pass, and the driver.
//!
//! A pass reads a [`Program`] and returns another. It makes rewrites through [`Ctx`], which counts
//! them per rule, spends fuel and collects the reasons of rules that refused. The driver verifies the program that
//! the last pass leaves, in debug builds the program that every pass leaves: a pass leaves a valid program or fails.
//! Two passes are required, because no file can be written without them: `specialize` and `legalize`. Neither fuel
//! nor a selection of passes reaches their decisions; everything else is optional.

mod canonicalize;
mod context;
mod cse;
mod fold;
pub mod fuse;
mod layout;
mod legalize;
mod specialize;
#[cfg(test)]
mod testing;

use context::SWEEPS;
pub use context::{COMPILE_BUDGET, Ctx, PassCost, Refusal, Tally};

use crate::build::BuildErrors;
use crate::ir::Bindings;
use crate::ops::Program;
use crate::rewrite::{Facts, Row};
use crate::target::Target;
use crate::text;
use std::fmt;

/// Why a program could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// A pass emitted an ill-typed graph: a defect of the pass.
    #[error("pass `{pass}` emitted an ill-typed graph: {source}")]
    Emit {
        /// The pass.
        pass: &'static str,
        /// The mistakes.
        source: BuildErrors,
    },
    /// A pass left an invalid program: a defect of the pass.
    #[error("pass `{pass}` left an invalid program: {reason}")]
    Invalid {
        /// The pass.
        pass: &'static str,
        /// The broken promise.
        reason: String,
    },
    /// The rules of a pass still fired when they should long have come to an end: a defect of a rule.
    #[error("pass `{pass}` did not terminate; these rules still fired: {rules}")]
    Unsettled {
        /// The pass.
        pass: &'static str,
        /// The rules.
        rules: String,
    },
    /// The target and opset have no spelling for an op.
    #[error("{op} in [{scope}]: {reason}")]
    Unspellable {
        /// Its mnemonic.
        op: &'static str,
        /// Its place in the module tree.
        scope: String,
        /// The reason.
        reason: String,
    },
    /// The opset is not supported.
    #[error("opset {0} is not supported; 17 to 23 are")]
    Opset(i64),
    /// There is no such pass, or no such pass or rule.
    #[error("there is no {what} `{name}`; {hint}")]
    Unknown {
        /// `pass`, or `pass or rule`.
        what: &'static str,
        /// The name given.
        name: String,
        /// The names there are.
        hint: String,
    },
    /// A required pass cannot be left out.
    #[error("pass `{0}` cannot be left out: no file can be written without its decisions")]
    Required(&'static str),
}

/// The driver adds which pass it was.
impl From<BuildErrors> for PassError {
    fn from(source: BuildErrors) -> Self {
        Self::Emit { pass: "", source }
    }
}

impl PassError {
    fn of(self, name: &'static str) -> Self {
        match self {
            Self::Emit { source, .. } => Self::Emit { pass: name, source },
            Self::Unsettled { rules, .. } => Self::Unsettled { pass: name, rules },
            other => other,
        }
    }
}

/// A transformation of programs.
#[derive(Clone, Copy)]
pub struct Pass {
    /// Unique, kebab-case.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub doc: &'static str,
    /// The rules it makes rewrites by.
    pub rules: &'static [Row],
    /// Whether no file can be written without it.
    pub required: bool,
    /// The transformation.
    pub run: fn(&Program, &mut Ctx) -> Result<Program, PassError>,
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The rows of rules that a pass applies by code of its own, as constants and as `ROWS`.
macro_rules! rows {
    ($($id:ident = $name:literal: $doc:literal;)*) => {
        $(const $id: crate::rewrite::Row = crate::rewrite::Row { name: $name, doc: $doc };)*
        const ROWS: &[crate::rewrite::Row] = &[$($id),*];
    };
}
use rows;

/// How passes are steered.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Stop making rewrites after this many: bisection.
    pub fuel: Option<u64>,
    /// Leave out the optional passes after this one.
    pub stop_after: Option<String>,
    /// Run only these optional passes; all when absent.
    pub only: Option<Vec<String>>,
    /// Leave out these optional passes and these rules.
    pub without: Vec<String>,
    /// Sizes of symbols under which costs are compared; a symbol that is not here counts as 1.
    pub assume: Bindings,
    /// Collect near misses of rules and the cost before and after every pass, which takes time.
    pub explain: bool,
    /// Operations that may be done before the run; [`COMPILE_BUDGET`] when absent.
    pub compile_budget: Option<f64>,
}

/// The passes from a declared model to one that can be written, for every target, in order.
const INFERENCE: &[Pass] = &[
    specialize::INFERENCE,
    canonicalize::PASS,
    // Before folding, so that a constant that many blocks make is computed once.
    cse::PASS,
    fold::PASS,
    // Composites first: canonicalization keeps their formulas, and every pass after these sees one op instead of many.
    fuse::LAYER_NORM,
    fuse::GELU,
    fuse::HARD_SWISH,
    fuse::AFFINE,
    // After the affine maps, whose shift it takes too.
    fuse::CONV_BIAS,
    fuse::ATTENTION,
    fold::AGAIN,
    legalize::PASS,
    // Attention is decided: the transpose of its keys may merge with that of the heads.
    layout::PASS,
    canonicalize::AGAIN,
    fold::LAST,
    cse::AGAIN,
];

/// The passes for a target, in order. Targets differ in data so far, not in passes.
pub fn pipeline(_: &Target) -> &'static [Pass] {
    INFERENCE
}

/// Every pass, in order of the pipelines.
pub fn all() -> &'static [Pass] {
    INFERENCE
}

/// The pass of this name.
///
/// # Errors
/// There is none; the message lists the names.
pub fn find(name: &str) -> Result<&'static Pass, PassError> {
    let names = || all().iter().map(|p| p.name).collect::<Vec<_>>().join(", ");
    let unknown =
        || PassError::Unknown { what: "pass", name: name.to_owned(), hint: format!("the passes are {}", names()) };
    all().iter().find(|p| p.name == name).ok_or_else(unknown)
}

/// A program that was taken through a pipeline.
#[derive(Debug)]
pub struct Run {
    /// The result.
    pub program: Program,
    /// The program that was optimized but not yet decided for the target.
    pub optimized: Option<Program>,
    /// What the passes did.
    pub ctx: Ctx,
}

/// The passes of a target's pipeline that `options` leave: required passes stay, whatever is left out.
///
/// # Errors
/// A name is unknown, or that of a required pass.
pub fn select(target: &Target, options: &Options) -> Result<Vec<Pass>, PassError> {
    for name in options.only.iter().flatten().chain(&options.stop_after) {
        find(name)?;
    }
    let is_rule = |name: &str| all().iter().flat_map(|p| p.rules).any(|r| r.name == name);
    for name in options.without.iter().filter(|name| !is_rule(name)) {
        match find(name) {
            Ok(p) if p.required => return Err(PassError::Required(p.name)),
            Ok(_) => {}
            Err(_) => {
                let hint = "`vit-onnx opt --list` lists them".to_owned();
                return Err(PassError::Unknown { what: "pass or rule", name: name.clone(), hint });
            }
        }
    }
    let named = |list: &[String], p: &Pass| list.iter().any(|n| n == p.name);
    let mut stopped = false;
    let chosen = pipeline(target).iter().filter(|p| {
        let optional = !stopped && !named(&options.without, p) && options.only.as_ref().is_none_or(|o| named(o, p));
        stopped |= options.stop_after.as_deref() == Some(p.name);
        p.required || optional
    });
    Ok(chosen.copied().collect())
}

/// Compiles a program for a target. `opset` is decided where it is not given; `after` sees the program after every
/// pass.
///
/// # Errors
/// Those of [`select`] and [`drive`].
pub fn compile(
    p: &Program,
    target: &'static Target,
    opset: Option<i64>,
    options: &Options,
    after: &mut dyn FnMut(&Pass, &Program),
) -> Result<Run, PassError> {
    drive(p, &select(target, options)?, Ctx::new(target, opset, options), after)
}

/// Runs passes in order and verifies. `after` sees the program after every pass.
///
/// # Errors
/// The target cannot say an op, or a pass is defective.
pub fn drive(
    p: &Program,
    passes: &[Pass],
    mut ctx: Ctx,
    after: &mut dyn FnMut(&Pass, &Program),
) -> Result<Run, PassError> {
    let total = |p: &Program, ctx: &Ctx| ctx.explain.then(|| Facts::new(&p.graph, &ctx.setting).total());
    let (mut out, mut optimized) = (p.clone(), None);
    let mut before = total(&out, &ctx);
    for (i, pass) in passes.iter().enumerate() {
        let done = ctx.rewrites();
        ctx.rows = Some(pass.rules);
        let mut new = (pass.run)(&out, &mut ctx).map_err(|e| e.of(pass.name))?;
        new.forget_unread();
        ctx.rows = None;
        let old = std::mem::replace(&mut out, new);
        if cfg!(debug_assertions) || i + 1 == passes.len() {
            out.verify().map_err(|e| PassError::Invalid { pass: pass.name, reason: text::explain(&out, e) })?;
        }
        let now = total(&out, &ctx);
        if let Some((before, after)) = before.zip(now) {
            ctx.passes.push(PassCost { pass: pass.name, rewrites: ctx.rewrites() - done, before, after });
        }
        before = now;
        after(pass, &out);
        if pass.name == legalize::PASS.name {
            optimized = Some(old);
        }
    }
    Ok(Run { program: out, optimized, ctx })
}

#[cfg(test)]
mod tests {
    use super::testing::{batched, graph, input, once_in, param, positive, same_meaning, same_text};
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
        let options = Options { fuel, ..Options::default() };
        let run = compile(p, Target::ORT_CPU, None, &options, &mut |_, _| ()).unwrap_or_else(|e| panic!("{e}"));
        (run.program, run.ctx)
    }

    /// The names of the passes that run, and the message of the error.
    fn ran(options: &Options) -> (Vec<&'static str>, Option<String>) {
        let p = tiny("vit", &[("depth", 1)]);
        let mut seen = Vec::new();
        let run = compile(&p, Target::PORTABLE, None, options, &mut |pass, _| seen.push(pass.name));
        (seen, run.err().map(|e| e.to_string()))
    }

    #[test]
    fn passes_and_rules_have_unique_names_and_say_what_they_do() {
        let mut names: Vec<&str> = all().iter().map(|p| p.name).collect();
        // A pass that runs again has the rules of the first time.
        let mut rules: Vec<Row> = all().iter().flat_map(|p| p.rules).copied().collect();
        rules.sort_unstable();
        rules.dedup();
        assert!(rules.len() > 20 && rules.iter().all(|r| !r.doc.is_empty()));
        names.extend(rules.iter().map(|r| r.name));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(all().iter().all(|p| !p.doc.is_empty() && find(p.name).is_ok_and(|found| found.name == p.name)));
    }

    #[test]
    fn unknown_names_are_refused_with_the_list_of_known_ones() {
        let name = || Some("fuse-everything".to_owned());
        for options in [
            Options { stop_after: name(), ..Options::default() },
            Options { only: Some(vec!["fuse-everything".into()]), ..Options::default() },
        ] {
            let (seen, message) = ran(&options);
            let message = message.expect("there is none");
            assert!(
                message.starts_with("there is no pass `fuse-everything`; the passes are specialize, canonicalize,")
            );
            assert!(message.contains("legalize") && message.contains("cse-legal") && seen.is_empty(), "{message}");
        }
        let (_, message) = ran(&Options { without: vec!["fuse-everything".into()], ..Options::default() });
        assert_eq!(
            message.expect("there is none"),
            "there is no pass or rule `fuse-everything`; `vit-onnx opt --list` lists them"
        );
    }

    /// Every selection of passes ends in a program that can be written.
    #[test]
    fn selections_reach_every_pass_but_the_required_ones() {
        let all: Vec<&str> = all().iter().map(|p| p.name).collect();
        assert_eq!(ran(&Options::default()), (all.clone(), None));
        let stop = |name: &str| ran(&Options { stop_after: Some(name.into()), ..Options::default() }).0;
        assert_eq!(stop("fold"), ["specialize", "canonicalize", "cse", "fold", "legalize"]);
        assert_eq!(stop("specialize"), ["specialize", "legalize"]);
        assert_eq!(stop("cse-legal"), all);
        let only = Options { only: Some(vec!["cse-legal".into(), "fold".into()]), ..Options::default() };
        assert_eq!(ran(&only).0, ["specialize", "fold", "legalize", "cse-legal"]);
        let without = |name: &str| ran(&Options { without: vec![name.into()], ..Options::default() });
        assert_eq!(without("layout").0, all.iter().copied().filter(|n| *n != "layout").collect::<Vec<_>>());
        assert!(without("legalize").1.is_some_and(|m| m.starts_with("pass `legalize` cannot be left out")));
        assert_eq!(without("sdpa").0, all, "a rule may be left out of its pass");
    }

    #[test]
    fn a_rule_that_is_left_out_does_not_fire() {
        let p = tiny("vit", &[]);
        let fired = |without: &[&str], rule: &str| {
            let without = without.iter().map(|&s| s.to_owned()).collect();
            let options = Options { without, ..Options::default() };
            let run = compile(&p, Target::PORTABLE, None, &options, &mut |_, _| ()).expect("it compiles");
            run.ctx.count(rule)
        };
        for rule in ["sdpa", "common-subexpression", "gelu", "merge-constants"] {
            assert!(rule == "merge-constants" || fired(&[], rule) > 0, "{rule}");
            assert_eq!(fired(&[rule], rule), 0, "{rule}");
        }
        assert_eq!(fired(&["fuse-gelu"], "gelu"), 0);
    }

    #[test]
    fn explaining_adds_costs_that_fall() {
        let options = Options { explain: true, ..Options::default() };
        let p = tiny("levit", &[]);
        let run = compile(&p, Target::ORT_CPU, None, &options, &mut |_, _| ()).expect("it compiles");
        assert_eq!(run.ctx.passes.len(), all().len());
        let (first, last) = (run.ctx.passes[0].before, run.ctx.passes[all().len() - 1].after);
        assert!(last.bytes < first.bytes && last.nodes < first.nodes && last.flops < first.flops);
        let affine = run.ctx.rules["scale-into-weights"];
        assert!(affine.count > 10 && affine.after.nodes < affine.before.nodes, "{affine:?}");
    }

    #[test]
    fn rules_that_never_end_are_found_out() {
        use crate::rewrite::{Rule, Vars};
        const SWAP: Rule = Rule {
            row: Row { name: "swap", doc: "x + y becomes y + x" },
            lhs: |x: Vars| x.any("x") + x.any("y"),
            when: |_, _| Ok(()),
            rhs: |_, var| vec![var("y") + var("x")],
            results: &[],
            hint: None,
        };
        let pass = Pass {
            name: "endless",
            doc: "",
            rules: &[SWAP.row],
            required: false,
            run: |p, ctx| ctx.rewrite(p, &[SWAP]),
        };
        let p = Program::new(graph(Stage::Built, |b| input(b, "x", [2]) + input(b, "y", [2])));
        let e = drive(&p, &[pass], Ctx::default(), &mut |_, _| ()).expect_err("it has no end");
        assert_eq!(e.to_string(), "pass `endless` did not terminate; these rules still fired: swap");
    }

    /// A replay declares only parameters that are read; those that nothing reads are not computed either.
    #[test]
    fn a_parameter_that_a_pass_drops_is_not_computed_any_more() {
        let ty = || crate::ir::TensorType::new(crate::ir::DType::F32, [2]);
        let (run, weights) = (Builder::new("g", Stage::Legal), Builder::new("w", Stage::Legal));
        for name in ["read", "unread"] {
            let p = run.param(name, ty(), crate::ir::Init::Computed, false);
            if name == "read" {
                run.output("y", p + p);
            }
            weights.output(name, -weights.param("w", ty(), crate::ir::Init::ONES, true));
        }
        let finish = |b: Builder| b.finish().expect("well typed");
        let p = Program { graph: finish(run).into(), weights: finish(weights).into() };
        p.verify().expect("valid");
        let out = drive(&p, &[cse::PASS], Ctx::default(), &mut |_, _| ()).expect("valid").program;
        assert_eq!(out.weights.outputs().iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["read"]);
    }

    /// A pass that breaks what it is given is found out and named.
    #[test]
    fn a_pass_that_changes_a_type_is_found_out() {
        use crate::rewrite::{Rule, Vars};
        const WRONG: Rule = Rule {
            row: Row { name: "wrong", doc: "exp(x) becomes the sum of x" },
            lhs: |x: Vars| x.op(crate::ops::Unary { kind: crate::ops::UnaryKind::Exp }, vec![x.any("x")]),
            when: |_, _| Ok(()),
            rhs: |_, var| vec![var("x").sum(&[0])],
            results: &[],
            hint: None,
        };
        let pass = Pass {
            name: "broken",
            doc: "",
            rules: &[WRONG.row],
            required: false,
            run: |p, ctx| ctx.rewrite(p, &[WRONG]),
        };
        let p = Program::new(graph(Stage::Built, |b| input(b, "x", [2, 3]).exp()));
        let e = drive(&p, &[pass], Ctx::default(), &mut |_, _| ()).expect_err("it is wrong");
        assert!(e.to_string().contains("`broken`"), "{e}");
        assert!(e.to_string().contains("a rewrite of exp must give f32[2, 3], it gives f32[3]"), "{e}");
    }

    /// A transformer block between a convolution and a head: every rule but the exotic ones has work here.
    fn block(b: &Builder) -> T<'_> {
        let image = batched(b, "image", [2, 4, 4]);
        let y = image.conv(Conv::new().stride(2), param(b, "patch.w", [6, 2, 2, 2]), Some(param(b, "patch.b", [6])));
        let y = y * positive(b, "bn.w", [6, 1, 1]) + param(b, "bn.b", [6, 1, 1]);
        let x = y.reshape([b.symbol("batch"), 6.into(), 4.into()]).t() + param(b, "pos", [1, 4, 6]);
        let norm = composite::layer_norm(x, positive(b, "norm.w", [6]), Some(param(b, "norm.b", [6])), x.scalar(1e-5));
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
    /// same meaning. The decisions of required passes are not up for bisection.
    #[test]
    fn every_prefix_of_the_rewrites_keeps_the_meaning() {
        let before = Program::new(graph(Stage::Built, block));
        let (_, ctx) = inference(&before, None);
        for rule in ["layer-norm", "sdpa-bias", "gelu", "hard-swish", "scale-into-weights", "merge-biases"] {
            assert!(ctx.count(rule) > 0, "{rule}: {:?} {:?}", ctx.rules, ctx.refusals);
        }
        let total = ctx.rewrites();
        for fuel in 0..=total + 1 {
            let (p, ctx) = inference(&before, Some(fuel));
            assert_eq!(ctx.rewrites(), fuel.min(total));
            same_meaning(&before, &p);
        }
    }

    /// The bias of the norm and the embedding added to it would merge, and the norm would not be recognized.
    #[test]
    fn an_embedding_added_to_a_layer_norm_does_not_hide_it() {
        let (p, ctx) = inference(
            &Program::new(graph(Stage::Built, |b| {
                let x = batched(b, "x", [3, 4]);
                let w = positive(b, "w", [4]);
                composite::layer_norm(x, w, Some(param(b, "b", [4])), x.scalar(1e-5)) + param(b, "pos", [1, 3, 4])
            })),
            None,
        );
        assert_eq!(ctx.count("layer-norm"), 1, "{}", p.graph);
    }

    #[test]
    fn every_pass_is_idempotent_on_every_tiny_variant() {
        for v in VARIANTS {
            assert!(presets(v).iter().any(|p| p == "tiny"), "{}", v.name);
            for target in Target::ALL {
                let mut p = tiny(v.name, &[]);
                for pass in pipeline(target) {
                    let ctx = || Ctx::new(target, None, &Options::default());
                    p = once_in(ctx(), pass, &p).program;
                    let again = once_in(ctx(), pass, &p);
                    same_text(&format!("{} on {} for {target}", pass.name, v.name), &again.program, &p);
                }
            }
        }
    }
}
