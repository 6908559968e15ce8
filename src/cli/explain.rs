//! `--explain`: the story of one build, as tables on stderr.

use super::output;
use crate::passes::{Ctx, Refusal};
use crate::rewrite::Estimate;
use crate::target::Machine;
use std::collections::BTreeMap;

/// How many places of a refusal are named.
const PLACES: usize = 3;

/// Prints what every pass and rule did, with estimated costs before and after, and why rules refused.
pub(super) fn explain(ctx: &Ctx) {
    let machine = &ctx.setting.target.machine;
    let sizes: Vec<String> = ctx.setting.assume.iter().map(|(s, n)| format!("{s}={n}")).collect();
    let sizes = if sizes.is_empty() { "every symbol 1".to_owned() } else { sizes.join(", ") };
    output::say(format_args!("passes, with the estimated cost of a run after each ({sizes}):"));
    let declared = ctx.passes.first().map(|first| cost("as declared", String::new(), &first.before, machine));
    let changed = ctx.passes.iter().filter(|p| p.rewrites > 0 || p.before != p.after);
    let rows = declared.into_iter().chain(changed.map(|p| cost(p.pass, p.rewrites.to_string(), &p.after, machine)));
    output::say(output::table(&["  pass", ">rewrites", ">nodes", ">FLOPs", ">moved", ">time"], rows));

    output::say("rules that fired, with the estimated time of what they replaced and of what they emitted:");
    let rows = ctx.rules.iter().map(|(rule, tally)| {
        let time = |e: &Estimate| if tally.before == tally.after { String::new() } else { time(e.seconds(machine)) };
        [format!("  {rule}"), tally.count.to_string(), time(&tally.before), time(&tally.after)]
    });
    output::say(output::table(&["  rule", ">fired", ">before", ">after"], rows));

    if ctx.refusals.is_empty() {
        return;
    }
    output::say("rules that refused:");
    let mut reasons: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for Refusal { rule, scope, reason } in &ctx.refusals {
        reasons.entry((rule, reason)).or_default().push(scope);
    }
    for ((rule, reason), mut scopes) in reasons {
        scopes.dedup();
        let more = scopes.len().saturating_sub(PLACES);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let places: Vec<String> = scopes.iter().take(PLACES).map(|s| format!("[{s}]")).collect();
        output::say(format_args!("  {rule}: {reason}\n    in {}{more}", places.join(", ")));
    }
}

fn cost(name: &str, rewrites: String, e: &Estimate, machine: &Machine) -> [String; 6] {
    [
        format!("  {name}"),
        rewrites,
        e.nodes.to_string(),
        output::count(e.flops as u64),
        output::bytes(e.bytes as u64),
        time(e.seconds(machine)),
    ]
}

/// A time for people.
fn time(seconds: f64) -> String {
    if seconds < 1e-3 { format!("{:.1} µs", seconds * 1e6) } else { format!("{:.2} ms", seconds * 1e3) }
}
