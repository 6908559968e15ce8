//! `vit-onnx doctor` and `vit-onnx runtime`: reports what this machine offers, and installs ONNX Runtime.

use super::args::{Doctor, Install, Runtime};
use super::{Exit, Failure, Outcome, output};
use serde_json::json;
use std::fmt::Write as _;

/// The result of the search for ONNX Runtime.
struct Found {
    /// Source, path, outcome, and whether this one is used.
    candidates: Vec<(String, String, String, bool)>,
    version: Option<String>,
    providers: Vec<&'static str>,
    /// The reason why there is none.
    problem: Option<String>,
    cache: Option<String>,
    package_client: Option<String>,
}

pub(super) fn run(a: &Doctor) -> Outcome {
    let found = look(a);
    let exit = if found.version.is_some() { Exit::Fine } else { Exit::Unavailable };
    if a.json {
        let candidate = |(source, path, outcome, chosen): &(String, String, String, bool)| json!({ "source": source, "path": path, "outcome": outcome, "chosen": chosen });
        output::json(&json!({
            "version": env!("CARGO_PKG_VERSION"),
            "system": system(),
            "cpu": cpu(),
            "threads": threads(),
            "onnxruntime": found.version,
            "providers": found.providers,
            "problem": found.problem,
            "candidates": found.candidates.iter().map(candidate).collect::<Vec<_>>(),
            "cache": found.cache,
            "package_client": found.package_client,
        }))?;
        return Ok(exit);
    }
    let mut out = String::new();
    let mut line = |what: &str, value: &str| {
        let _ = writeln!(out, "{what:<14}{value}");
    };
    line("vit-onnx", &format!("{} on {}", env!("CARGO_PKG_VERSION"), system()));
    line("CPU", &format!("{}, {} threads", cpu(), threads()));
    line("ONNX Runtime", found.version.as_deref().unwrap_or("none"));
    let providers = if found.providers.is_empty() { "none".to_owned() } else { found.providers.join(", ") };
    line("providers", &providers);
    line("cache", found.cache.as_deref().unwrap_or("none: neither HOME nor XDG_CACHE_HOME is set"));
    line("Python", found.package_client.as_deref().unwrap_or("none with pip; `vit-onnx runtime install` needs one"));
    let rows = found
        .candidates
        .iter()
        .map(|(source, path, outcome, chosen)| [if *chosen { "*" } else { "" }, source, path, outcome]);
    let _ = write!(out, "\n{}", output::table(&["", "ONNX Runtime from", "path", "outcome"], rows));
    output::print(out)?;
    if let Some(problem) = found.problem {
        // The table shows the candidates.
        let said: Vec<&str> = problem.lines().filter(|l| !l.starts_with(' ')).collect();
        output::error(&said.join("; "));
    }
    Ok(exit)
}

#[cfg(feature = "runtime")]
fn look(a: &Doctor) -> Found {
    use crate::runtime::ort::{self, OrtEngine, Outcome as Tried, Search};
    let survey = Search::new(a.ort_lib.clone()).survey();
    let candidates = survey.candidates.iter().enumerate().map(|(i, c)| {
        let outcome = match &c.outcome {
            Tried::Usable(v) => format!("usable, {v}"),
            Tried::Absent => "not found".to_owned(),
            Tried::Refused(e) => format!("refused: {e}"),
        };
        (c.source.to_string(), c.path.display().to_string(), outcome, survey.chosen == Some(i))
    });
    // A library that was found may still fail to load.
    let loaded = OrtEngine::discover(&Search::new(a.ort_lib.clone()));
    Found {
        candidates: candidates.collect(),
        version: loaded.as_ref().ok().map(|e| e.version().to_string()),
        providers: loaded.as_ref().map_or(Vec::new(), |e| e.providers().iter().map(|p| p.name()).collect()),
        problem: loaded.err().map(|e| e.to_string()),
        cache: ort::cache_folder().map(|p| p.display().to_string()),
        package_client: ort::package_client(),
    }
}

#[cfg(not(feature = "runtime"))]
fn look(_: &Doctor) -> Found {
    let problem = Some("this program was built without ONNX Runtime".to_owned());
    Found { candidates: Vec::new(), version: None, providers: Vec::new(), problem, cache: None, package_client: None }
}

fn system() -> String {
    format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Returns the model name if the system reports it, and the relevant vector instructions.
fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name =
        info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':').map(|(_, v)| v.trim().to_owned()));
    let mut parts = vec![name.unwrap_or_else(|| std::env::consts::ARCH.to_owned())];
    parts.extend(vector_instructions().into_iter().map(str::to_owned));
    parts.join(", ")
}

#[cfg(target_arch = "x86_64")]
fn vector_instructions() -> Vec<&'static str> {
    let known = [
        ("AVX2", std::is_x86_feature_detected!("avx2")),
        ("FMA", std::is_x86_feature_detected!("fma")),
        ("AVX-512", std::is_x86_feature_detected!("avx512f")),
        ("VNNI", std::is_x86_feature_detected!("avx512vnni")),
    ];
    known.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn vector_instructions() -> Vec<&'static str> {
    Vec::new()
}

pub(super) fn runtime(a: &Runtime) -> Outcome {
    match a.action {
        Install::Install => install(),
    }
}

#[cfg(feature = "runtime")]
fn install() -> Outcome {
    use crate::runtime::ort::{self, InstallError};
    let bar = output::spinner();
    let installed = ort::install(&mut |p| {
        if bar.is_hidden() { output::say(&p) } else { bar.set_message(p) }
    });
    bar.finish_and_clear();
    let library = installed.map_err(|e| {
        let exit = if matches!(e, InstallError::Cache { .. }) { Exit::BadFile } else { Exit::Unavailable };
        Failure::new(exit, e)
    })?;
    output::print(library.display())?;
    Ok(Exit::Fine)
}

#[cfg(not(feature = "runtime"))]
fn install() -> Outcome {
    Err(Failure::new(Exit::Unavailable, "this program was built without ONNX Runtime"))
}
