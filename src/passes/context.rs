//! The context that passes share from the first to the last: fuel, counts, refusals, costs.

use super::{Options, PassError};
use crate::ops::Program;
use crate::rewrite::{Estimate, Facts, Plan, Row, Rule, Setting};
use crate::target::Target;
use std::collections::BTreeMap;

/// Sweeps of rules over a graph, or over one value. Rules shrink what they match, so a handful reaches the end; a chain
/// takes one for each link.
pub(super) const SWEEPS: usize = 256;

/// Operations done before the run unless asked otherwise: some seconds to a minute of the interpreter.
pub const COMPILE_BUDGET: f64 = 2e11;

/// Why a rule did not apply somewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The rule.
    pub rule: &'static str,
    /// Its place in the module tree.
    pub scope: String,
    /// The reason.
    pub reason: String,
}

/// What a rule did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// How often it fired.
    pub count: u64,
    /// The estimated cost of the nodes it replaced; zero for rules without a pattern.
    pub before: Estimate,
    /// The estimated cost of what it emitted.
    pub after: Estimate,
}

/// The estimated cost of a graph before and after a pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PassCost {
    /// The pass.
    pub pass: &'static str,
    /// Rewrites it made.
    pub rewrites: u64,
    /// Before it.
    pub before: Estimate,
    /// After it.
    pub after: Estimate,
}

/// The context that passes share.
#[derive(Debug)]
pub struct Ctx {
    /// The target, and the sizes under which costs are compared.
    pub setting: Setting,
    /// The opset: as asked for, decided after `legalize`.
    pub opset: Option<i64>,
    /// Rewrites still allowed.
    pub fuel: u64,
    /// Names of rules that are left out; other names are ignored.
    pub without: Vec<String>,
    /// Whether near misses and costs are collected.
    pub explain: bool,
    /// What each rule did.
    pub rules: BTreeMap<&'static str, Tally>,
    /// Where rules refused.
    pub refusals: Vec<Refusal>,
    /// The cost of every pass, when `explain` is set.
    pub passes: Vec<PassCost>,
    /// Operations that may still be done before the run: on constants, and the weight program's in all.
    pub compile_budget: f64,
    /// The rules of the running pass, when a driver runs it.
    pub(super) rows: Option<&'static [Row]>,
    /// Rewrites made.
    spent: u64,
    /// Rules that still fired when their sweeps ran out.
    pub(super) unsettled: Vec<&'static str>,
}

impl Default for Ctx {
    fn default() -> Self {
        Self {
            setting: Setting::default(),
            opset: None,
            fuel: u64::MAX,
            without: Vec::new(),
            explain: true,
            rules: BTreeMap::new(),
            refusals: Vec::new(),
            passes: Vec::new(),
            compile_budget: COMPILE_BUDGET,
            rows: None,
            spent: 0,
            unsettled: Vec::new(),
        }
    }
}

impl Ctx {
    /// Nothing done yet.
    pub fn new(target: &'static Target, opset: Option<i64>, options: &Options) -> Self {
        Self {
            setting: Setting { target, assume: options.assume.clone() },
            opset,
            fuel: options.fuel.unwrap_or(u64::MAX),
            without: options.without.clone(),
            explain: options.explain,
            compile_budget: options.compile_budget.unwrap_or(COMPILE_BUDGET),
            ..Self::default()
        }
    }

    /// Asks to rewrite once by a rule; false when the rule is left out or the fuel is used up.
    pub fn spend(&mut self, rule: &Row) -> bool {
        if self.fuel == 0 || self.left_out(rule) {
            return false;
        }
        self.fuel -= 1;
        self.spent += 1;
        self.decide(rule);
        true
    }

    /// Counts a decision without which no file can be written: it takes no fuel.
    pub fn decide(&mut self, rule: &Row) {
        debug_assert!(self.rows.is_none_or(|rows| rows.contains(rule)), "`{}` is a rule of the pass", rule.name);
        self.rules.entry(rule.name).or_default().count += 1;
    }

    fn left_out(&self, rule: &Row) -> bool {
        self.without.iter().any(|name| name == rule.name)
    }

    /// How many rewrites were made, decisions of required passes not counted.
    pub fn rewrites(&self) -> u64 {
        self.spent
    }

    /// How often a rule fired.
    pub fn count(&self, rule: &str) -> u64 {
        self.rules.get(rule).map_or(0, |t| t.count)
    }

    /// Applies pattern rules to the run graph until none fires.
    pub fn rewrite(&mut self, p: &Program, rules: &[Rule]) -> Result<Program, PassError> {
        let rules: Vec<Rule> = rules.iter().filter(|r| !self.left_out(&r.row)).copied().collect();
        let mut graph = p.graph.clone();
        for sweep in 1.. {
            let facts = Facts::new(&graph, &self.setting);
            let before = self.fuel;
            let mut plan = Plan::new(&facts, &rules, &mut self.fuel);
            if plan.at.is_empty() {
                if self.explain {
                    plan.near_misses(&facts, &rules);
                }
                for (rule, node, reason) in plan.refused {
                    let scope = graph.scope_path(graph.node(node).origin.scope).to_owned();
                    self.refusals.push(Refusal { rule, scope, reason });
                }
                break;
            }
            self.spent += before - self.fuel;
            let new = plan.apply(&graph)?;
            for r in plan.at.values() {
                let tally = self.rules.entry(r.rule.row.name).or_default();
                tally.count += 1;
                tally.before += r.before;
                tally.after += r.after;
            }
            if sweep == SWEEPS {
                self.unsettled.extend(plan.at.values().map(|r| r.rule.row.name));
                break;
            }
            drop(plan);
            graph = new.into();
        }
        self.settled()?;
        Ok(Program { graph, weights: p.weights.clone() })
    }

    /// An error in tests and debug builds when rules did not come to an end; a refusal otherwise.
    pub(super) fn settled(&mut self) -> Result<(), PassError> {
        let mut rules = std::mem::take(&mut self.unsettled);
        rules.sort_unstable();
        rules.dedup();
        if rules.is_empty() {
            return Ok(());
        }
        if cfg!(debug_assertions) {
            return Err(PassError::Unsettled { pass: "", rules: rules.join(", ") });
        }
        let reason = "it still fired when the pass was stopped; this is a defect, please report it";
        self.refusals.extend(rules.into_iter().map(|rule| Refusal {
            rule,
            scope: String::new(),
            reason: reason.into(),
        }));
        Ok(())
    }
}
