//! Arguments that steer the optimizer, of `build` and `opt`.

use crate::ir::{Bindings, Symbol};
use crate::target::Target;
use clap::Args;

/// The target, the opset and the limits of the optimizer.
#[derive(Debug, Args)]
#[command(next_help_heading = "Debugging")]
pub(in crate::cli) struct Steer {
    /// The target to compile for: `portable` (any runtime), `ort-cpu`, `ort-cuda` or `tensorrt`. Files can be built for
    /// any target on any machine.
    #[arg(long, help_heading = "Target", default_value = "portable", value_name = "TARGET", value_parser = Target::find)]
    pub(in crate::cli) target: &'static Target,
    /// The ai.onnx opset, 17 to 23 [default: the lowest that can express the model, which most runtimes can read].
    #[arg(long, help_heading = "Target", value_name = "N", value_parser = clap::value_parser!(i64).range(17..=23))]
    pub(in crate::cli) opset: Option<i64>,
    /// Run only these optional passes, such as `canonicalize,fold`. `vit-onnx opt --list` lists all passes and rules.
    #[arg(long, alias = "pass", value_name = "PASS,…", value_delimiter = ',')]
    pub(in crate::cli) passes: Option<Vec<String>>,
    /// Leave out this optional pass or this rule. May be repeated.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(in crate::cli) no_pass: Vec<String>,
    /// Stop after N rewrites, to find the rewrite that breaks something.
    #[arg(long, value_name = "N")]
    pub(in crate::cli) fuel: Option<u64>,
    /// Leave out the optional passes after this one.
    #[arg(long, value_name = "PASS")]
    pub(in crate::cli) stop_after: Option<String>,
    /// Do at most this much arithmetic on constants and parameters before the run, in operations [default: 2e11].
    #[arg(long, value_name = "FLOP", value_parser = flop)]
    pub(in crate::cli) compile_budget: Option<f64>,
    /// Compare costs with this size of a symbol, such as `batch=8` [default: 1]. May be repeated.
    #[arg(long, value_name = "SYMBOL=N", value_parser = assumption)]
    pub(in crate::cli) assume: Vec<(Symbol, i64)>,
}

impl Steer {
    /// For the pass driver.
    pub(in crate::cli) fn options(&self, explain: bool) -> crate::passes::Options {
        crate::passes::Options {
            fuel: self.fuel,
            stop_after: self.stop_after.clone(),
            only: self.passes.clone(),
            without: self.no_pass.clone(),
            assume: self.assume.iter().cloned().collect::<Bindings>(),
            explain,
            compile_budget: self.compile_budget,
        }
    }
}

fn flop(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n: &f64| *n >= 0.0);
    number.ok_or_else(|| "expected a number of operations, such as 2e11 or 0".into())
}

fn assumption(text: &str) -> Result<(Symbol, i64), String> {
    let (name, n) = text.split_once('=').ok_or("expected a symbol and its size, such as batch=8")?;
    let symbol = Symbol::new(name).ok_or_else(|| format!("`{name}` is not a name of a symbol, such as batch"))?;
    match n.parse() {
        Ok(n @ 1..=1_048_576) => Ok((symbol, n)),
        _ => Err(format!("`{n}` is not a size from 1 to 1048576")),
    }
}
