//! `vit-onnx bench`: files and providers against each other.

mod load;
mod report;

pub(super) use load::run as load;

use super::args::{Bench, ClockChoice, EngineArgs, EngineChoice};
use super::{Exit, Failure, Outcome, engine, files, output};
use crate::bench::{self, Agreement, Clock as _, Machine, Percentiles, Plan, Profile, Ratio, Series, Sizes};
use crate::ir::Tensor;
use crate::runtime::{Engine, Port, Provider, Session, SessionOptions};
use load::Loading;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Runs of a profile that are counted: at least and at most, and those before them that warm up.
const PROFILED: (usize, usize) = (5, 50);
const PROFILE_WARM_UP: usize = 3;
/// A difference of outputs, as a part of their largest number, that rounding does not explain.
const SAME: f64 = 1e-3;

/// A file with a provider.
struct Subject<'a> {
    label: String,
    model: &'a Path,
    provider: Provider,
}

/// One table: all subjects with the same batch and number of threads.
struct Run<'a> {
    batch: Option<usize>,
    threads: Option<usize>,
    results: Vec<Measured<'a>>,
}

/// All that is known of a subject.
struct Measured<'a> {
    subject: &'a Subject<'a>,
    /// Type and shape of the inputs.
    inputs: Vec<(String, String)>,
    series: Series,
    wall: Percentiles,
    /// The median of the rounds.
    processor: Option<f64>,
    ratio: Option<Ratio>,
    processor_ratio: Option<Ratio>,
    disturbances: Vec<String>,
    agreement: Agreement,
    loading: Option<Loading>,
    profile: Option<Profile>,
}

pub(super) fn run(a: &Bench) -> Outcome {
    a.models.iter().try_for_each(|m| files::model(m))?;
    let subjects = subjects(a);
    if a.fail_over.is_some() && subjects.len() < 2 {
        return Err(Failure::usage(
            "--fail-over compares with the first model; give a second one, or another provider",
        ));
    }
    let engine = engine::choose(&engine_args(a, a.provider.clone(), None), &a.provider)?;
    output::say(engine.name());
    let each = |v: &[usize]| if v.is_empty() { vec![None] } else { v.iter().copied().map(Some).collect() };
    let mut runs = Vec::new();
    for batch in each(&a.batch) {
        for threads in each(&a.threads) {
            let run = Setting { a, engine: &*engine, batch, threads }.measure(&subjects)?;
            if !a.json {
                report::print(a, &run)?;
            }
            run.notes();
            runs.push(run);
        }
    }
    if a.json {
        report::json(a, &engine.name(), &runs)?;
    }
    let missed = a.fail_over.map_or(0, |most| runs.iter().map(|r| r.missed(most, a.fail_clock)).sum());
    Ok(if missed == 0 { Exit::Fine } else { Exit::Difference })
}

/// Every file with every provider. A label is the name of the file, or its path where names are equal.
fn subjects(a: &Bench) -> Vec<Subject<'_>> {
    let name = |m: &Path| m.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let paths: BTreeSet<&Path> = a.models.iter().map(|m| &**m).collect();
    let names: BTreeSet<String> = paths.iter().map(|m| name(m)).collect();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut out = Vec::new();
    for model in &a.models {
        for &provider in &a.provider {
            let mut label = if names.len() == paths.len() { name(model) } else { model.display().to_string() };
            if a.provider.len() > 1 {
                label = format!("{label} {provider}");
            }
            let times = seen.entry(label.clone()).or_default();
            *times += 1;
            if *times > 1 {
                label = format!("{label} ({times})");
            }
            out.push(Subject { label, model, provider });
        }
    }
    out
}

fn engine_args(a: &Bench, provider: Vec<Provider>, threads: Option<usize>) -> EngineArgs {
    EngineArgs { engine: a.engine, provider, allow_cpu_nodes: a.allow_cpu_nodes, ort_lib: a.ort_lib.clone(), threads }
}

/// What a table is measured with.
struct Setting<'a> {
    a: &'a Bench,
    engine: &'a dyn Engine,
    batch: Option<usize>,
    threads: Option<usize>,
}

type Inputs = Vec<(String, Tensor)>;

impl Setting<'_> {
    fn measure<'s>(&self, subjects: &'s [Subject<'s>]) -> Result<Run<'s>, Failure> {
        let a = self.a;
        let mut sessions = subjects.iter().map(|s| self.load(s, None)).collect::<Result<Vec<_>, _>>()?;
        let inputs = self.inputs(subjects, &sessions)?;
        let outputs = sessions
            .iter_mut()
            .zip(&inputs)
            .map(|(s, i)| s.run(i))
            .collect::<Result<Vec<_>, _>>()
            .map_err(Failure::from)?;
        let agreements = outputs.iter().map(|found| bench::agreement(found, &outputs[0]));
        let agreements: Vec<Agreement> = agreements.collect();
        drop(outputs);
        let profiles = if a.profiling.profile { self.profiles(subjects, &inputs)? } else { Vec::new() };
        let loadings = load::measure(a, subjects, self.threads, &inputs);

        let mut calls: Vec<_> = sessions.iter_mut().zip(&inputs).map(|(s, i)| move || s.run(i).map(drop)).collect();
        let plan = Plan { rounds: a.length.rounds, seconds: a.length.seconds, warm_up: a.length.warm_up.into() };
        let bar = output::bar("measuring");
        let all = bench::measure(&mut calls, &plan, &Machine::start(), |part| output::advance(&bar, part))?;
        bar.finish_and_clear();

        let (base_wall, base_processor) = (all[0].wall.clone(), all[0].processor.clone());
        let (mut profiles, mut loadings) = (profiles.into_iter(), loadings.into_iter());
        let rest = subjects.iter().zip(inputs).zip(agreements).zip(all).enumerate();
        let results = rest.map(|(i, (((subject, inputs), agreement), series))| Measured {
            subject,
            inputs: inputs.iter().map(|(n, t)| (n.clone(), format!("{}{:?}", t.dtype(), t.shape()))).collect(),
            wall: Percentiles::of(&series.calls),
            processor: (!series.processor.is_empty()).then(|| bench::median(series.processor.iter().copied())),
            ratio: Ratio::of(&series.wall, &base_wall).filter(|_| i > 0),
            processor_ratio: Ratio::of(&series.processor, &base_processor).filter(|_| i > 0),
            disturbances: bench::disturbances(&series, self.computing(subject)),
            series,
            agreement,
            loading: loadings.next().flatten(),
            profile: profiles.next(),
        });
        Ok(Run { batch: self.batch, threads: self.threads, results: results.collect() })
    }

    /// How many threads of the processors compute a subject, where that is known.
    fn computing(&self, s: &Subject) -> Option<usize> {
        match (self.a.engine, s.provider) {
            (EngineChoice::Interpreter, _) => Some(1),
            (_, Provider::Cpu) => self.threads,
            _ => None,
        }
    }

    fn load(&self, s: &Subject, profile: Option<&Path>) -> Result<Box<dyn Session>, Failure> {
        let options = SessionOptions {
            threads: self.threads,
            providers: vec![s.provider],
            allow_cpu_nodes: self.a.allow_cpu_nodes,
            profile: profile.map(Path::to_owned),
            shares_processors: true,
        };
        self.engine.load(s.model, &options).map_err(Failure::from)
    }

    /// The same numbers for all subjects: an input that the baseline does not have goes by the name of the one at its
    /// place there, where both have as many.
    fn inputs(&self, subjects: &[Subject], sessions: &[Box<dyn Session>]) -> Result<Vec<Inputs>, Failure> {
        let base = sessions[0].inputs();
        let names = |ports: &[Port]| -> Vec<String> {
            let name = |(i, p): (usize, &Port)| match base.get(i) {
                Some(b) if base.len() == ports.len() && base.iter().all(|b| b.name != p.name) => b.name.clone(),
                _ => p.name.clone(),
            };
            ports.iter().enumerate().map(name).collect()
        };
        let names: Vec<Vec<String>> = sessions.iter().map(|s| names(s.inputs())).collect();
        let own = || sessions.iter().zip(&names).flat_map(|(s, names)| s.inputs().iter().map(|p| &p.name).zip(names));
        let mut sizes = Sizes { shapes: BTreeMap::new(), batch: self.batch };
        for (given, shape) in &self.a.shapes {
            let Some((_, name)) = own().find(|(own, name)| *own == given || *name == given) else {
                let there: BTreeSet<String> = own().map(|(own, _)| format!("`{own}`")).collect();
                let there = there.into_iter().collect::<Vec<_>>().join(", ");
                return Err(Failure::usage(format!(
                    "--shape {given}=…: no model has an input `{given}`; there are {there}"
                )));
            };
            sizes.shapes.insert(name.clone(), shape.clone());
        }
        let draw = |(i, s): (usize, &Subject)| {
            let names: Vec<&str> = names[i].iter().map(String::as_str).collect();
            let drawn = sizes.draw(sessions[i].inputs(), &names, self.a.seed);
            drawn.map_err(|e| Failure::usage(format!("{}: {e}", s.model.display())))
        };
        subjects.iter().enumerate().map(draw).collect()
    }

    /// Where the time of every subject goes. They are profiled in turn, in sessions of their own: writing a profile
    /// takes time.
    fn profiles(&self, subjects: &[Subject], inputs: &[Inputs]) -> Result<Vec<Profile>, Failure> {
        let internal = |e: &dyn std::fmt::Display| Failure::new(Exit::Internal, e);
        // What is written there is gone with the folder.
        let dir = tempfile::tempdir().map_err(|e| internal(&e))?;
        let path = |i: usize| dir.path().join(i.to_string());
        let mut sessions = Vec::new();
        for (i, s) in subjects.iter().enumerate() {
            sessions.push(self.load(s, Some(&path(i)))?);
        }
        let clock = Machine::start();
        let enough = |round: usize| match self.a.length.rounds {
            Some(n) => round >= PROFILE_WARM_UP + n.clamp(PROFILED.0, PROFILED.1),
            None => {
                let spent = clock.wall() > self.a.length.seconds * subjects.len() as f64;
                round >= PROFILE_WARM_UP + if spent { PROFILED.0 } else { PROFILED.1 }
            }
        };
        for round in (0..).take_while(|r| !enough(*r)) {
            for i in bench::order(round, subjects.len()) {
                sessions[i].run(&inputs[i])?;
            }
        }
        let read = |mut s: Box<dyn Session>| {
            let path = s.end_profile()?.ok_or_else(|| internal(&"the runtime wrote no profile"))?;
            let trace = std::fs::read(&path).map_err(|e| internal(&format!("{}: {e}", path.display())))?;
            Profile::read(&trace, PROFILE_WARM_UP).map_err(|e| internal(&e))
        };
        sessions.into_iter().map(read).collect()
    }
}

impl Run<'_> {
    /// How many subjects took more than `most` times as long as the baseline; each is named.
    fn missed(&self, most: f64, clock: ClockChoice) -> usize {
        let (what, ratio): (_, fn(&Measured) -> Option<Ratio>) = match clock {
            ClockChoice::Wall => ("as long as", |m| m.ratio),
            ClockChoice::Processor => ("the processor time of", |m| m.processor_ratio),
        };
        let over = self.results.iter().filter_map(|m| ratio(m).filter(|r| r.median > most).map(|r| (m, r)));
        let said = |(m, r): (&Measured, Ratio)| {
            let (label, base) = (&m.subject.label, &self.results[0].subject.label);
            output::error(&format!("{label} takes {:.3} times {what} {base}, more than {most}", r.median));
        };
        over.map(said).count()
    }

    /// What stands against the figures.
    fn notes(&self) {
        for m in &self.results {
            let (label, base) = (&m.subject.label, &self.results[0].subject.label);
            for nan in &m.agreement.nan {
                output::note(format_args!("output `{nan}` of {label} has NaN in it"));
            }
            for why in &m.agreement.unmatched {
                output::note(format_args!("{label} does not compute the same as {base}: {why}"));
            }
            if let Some(d) = m.agreement.difference.filter(|d| *d > SAME) {
                output::note(format_args!("{label} does not compute the same as {base}: outputs differ by {d:.1e}"));
            }
        }
        let busy: Vec<&Measured> = self.results.iter().filter(|m| !m.disturbances.is_empty()).collect();
        if let Some((m, more)) = busy.split_first() {
            let alike = if more.is_empty() { String::new() } else { format!(" ({} more alike)", more.len()) };
            let instead = if self.threads == Some(1) { "" } else { " with --threads 1" };
            output::note(format_args!(
                "the machine was busy: {}: {}{alike}; do not quote the wall clock of this table: measure again, or go by \
                 the processor time{instead}",
                m.subject.label,
                m.disturbances.join(", "),
            ));
        }
    }
}
