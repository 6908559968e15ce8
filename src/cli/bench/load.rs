//! The time and memory that loading a model takes, each time in a process of its own: in one that has loaded models
//! before, memory is reused and says nothing.

use super::super::args::{Bench, BenchLoad};
use super::super::{Exit, Failure, Outcome, engine, output};
use super::{Inputs, Subject};
use crate::bench::{self, Clock as _, Machine, Memory, Sizes};
use clap::ValueEnum as _;
use serde::{Deserialize, Serialize};
use std::process::{Command, Stdio};

/// What loading a model takes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Loading {
    /// Seconds from the file to a session.
    pub(super) seconds: f64,
    /// Bytes of resident memory that the session added; `None` where the system does not tell.
    pub(super) memory: Option<u64>,
    /// The most bytes of resident memory of the process, which also ran the model once.
    pub(super) peak: Option<u64>,
}

/// Loads every subject as often as asked, in turn. Medians; `None` for a subject whose process failed.
pub(super) fn measure(
    a: &Bench,
    subjects: &[Subject],
    threads: Option<usize>,
    inputs: &[Inputs],
) -> Vec<Option<Loading>> {
    let times = usize::from(a.length.loads);
    let mut all = vec![Vec::new(); subjects.len()];
    let bar = output::bar("loading");
    for round in 0..times {
        output::advance(&bar, round as f64 / times as f64);
        for i in bench::order(round, subjects.len()) {
            match once(a, &subjects[i], threads, &inputs[i]) {
                Ok(l) => all[i].push(l),
                Err(why) if round == 0 => {
                    output::note(format_args!("{} could not be loaded by itself: {why}", subjects[i].label));
                }
                Err(_) => {}
            }
        }
    }
    bar.finish_and_clear();
    all.iter().map(|v| median(v)).collect()
}

fn median(all: &[Loading]) -> Option<Loading> {
    let of =
        |f: &dyn Fn(&Loading) -> Option<f64>| Some(bench::median(all.iter().filter_map(f))).filter(|m| !m.is_nan());
    let bytes = |f: fn(&Loading) -> Option<u64>| of(&|l| f(l).map(|n| n as f64)).map(|n| n as u64);
    Some(Loading { seconds: of(&|l| Some(l.seconds))?, memory: bytes(|l| l.memory), peak: bytes(|l| l.peak) })
}

fn once(a: &Bench, s: &Subject, threads: Option<usize>, inputs: &Inputs) -> Result<Loading, String> {
    let mut c = Command::new(std::env::current_exe().map_err(|e| e.to_string())?);
    c.arg("bench-load").arg("--provider").arg(s.provider.name());
    if let Some(engine) = a.engine.to_possible_value() {
        c.arg("--engine").arg(engine.get_name());
    }
    if a.allow_cpu_nodes {
        c.arg("--allow-cpu-nodes");
    }
    if let Some(library) = &a.ort_lib {
        c.arg("--ort-lib").arg(library);
    }
    if let Some(n) = threads {
        c.arg("--threads").arg(n.to_string());
    }
    for (name, t) in inputs {
        let sizes: Vec<String> = t.shape().iter().map(ToString::to_string).collect();
        c.arg(format!("--shape={name}={}", sizes.join("x")));
    }
    let done = c.arg("--").arg(s.model).stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        return Err(format!("{}; {}", done.status, said.trim().lines().last().unwrap_or_default()));
    }
    serde_json::from_slice(&done.stdout).map_err(|e| e.to_string())
}

/// Loads one model and runs it once: the process that [`once`] starts.
pub(in crate::cli) fn run(a: &BenchLoad) -> Outcome {
    let engine = engine::choose(&a.engine, &a.engine.provider)?;
    let options = engine::options(&a.engine, a.engine.provider.clone());
    let before = Memory::of_this_process();
    let clock = Machine::start();
    let mut session = engine.load(&a.model, &options)?;
    let seconds = clock.wall();
    let memory = before.zip(Memory::of_this_process()).map(|(b, n)| n.now.saturating_sub(b.now));
    let sizes = Sizes { shapes: a.shapes.iter().cloned().collect(), batch: None };
    let names: Vec<&str> = session.inputs().iter().map(|p| p.name.as_str()).collect();
    let inputs = sizes.draw(session.inputs(), &names, 0).map_err(Failure::usage)?;
    session.run(&inputs)?;
    let loading = Loading { seconds, memory, peak: Memory::of_this_process().map(|m| m.peak) };
    output::json(&serde_json::to_value(loading).map_err(|e| Failure::new(Exit::Internal, e))?)?;
    Ok(Exit::Fine)
}
