//! Finds the ONNX Runtime library, and says what was tried and why it failed.
//!
//! A library named by the user (`--ort-lib`, `ORT_DYLIB_PATH`) is the only one considered by
//! [`Search::find`]: its failure is an error, never a silent fall-back to another library.

use super::candidates::{Surroundings, capi, libraries_in, library_name};
use super::probe::{ProbeError, Version, probe};
use super::python;
use super::report::{Candidate, Discovery, Found, NotFound, Outcome, Source};
use std::path::{Path, PathBuf};

/// A search for the library.
#[derive(Clone, Debug)]
pub struct Search {
    argument: Option<PathBuf>,
    surroundings: Surroundings,
}

impl Search {
    /// A search in the surroundings of this process; `argument` is the value of `--ort-lib`.
    pub fn new(argument: Option<PathBuf>) -> Self {
        Self::within(argument, Surroundings::of_process())
    }

    /// A search in given surroundings.
    pub const fn within(argument: Option<PathBuf>, surroundings: Surroundings) -> Self {
        Self { argument, surroundings }
    }

    /// The first library that can be used.
    ///
    /// # Errors
    /// [`NotFound`] with everything that was tried.
    pub fn find(&self) -> Result<Found, NotFound> {
        let mut tried = Vec::new();
        let found = self.walk(&mut |candidate| {
            tried.push(candidate);
            let last = tried.last().filter(|c| matches!(c.outcome, Outcome::Usable(_)));
            // A named library ends the search, whatever the outcome.
            last.is_some() || tried.last().is_some_and(|c| c.source <= Source::Variable)
        });
        match tried.pop() {
            Some(Candidate { source, path, outcome: Outcome::Usable(version) }) if found => {
                Ok(Found { source, path, version })
            }
            last => {
                tried.extend(last);
                Err(NotFound { tried })
            }
        }
    }

    /// Every candidate, also those after the one that would be chosen.
    pub fn survey(&self) -> Discovery {
        let mut candidates = Vec::new();
        self.walk(&mut |candidate| {
            candidates.push(candidate);
            false
        });
        let usable = |c: &Candidate| matches!(c.outcome, Outcome::Usable(_));
        let chosen = match candidates.first() {
            Some(first) if first.source <= Source::Variable => usable(first).then_some(0),
            _ => candidates.iter().position(usable),
        };
        Discovery { candidates, chosen }
    }

    /// Passes candidates to `stop` until it returns true. Returns whether it did.
    fn walk(&self, stop: &mut dyn FnMut(Candidate) -> bool) -> bool {
        let named = [(Source::Argument, &self.argument), (Source::Variable, &self.surroundings.dylib_path)];
        for (source, path) in named {
            if let Some(path) = path
                && stop(self.named(source, path))
            {
                return true;
            }
        }
        let mut folders = self.surroundings.folders();
        // Links and repeated environment variables lead to the same folder.
        let mut seen = Vec::new();
        folders.retain(|(_, p)| {
            let real = p.canonicalize().unwrap_or_else(|_| p.clone());
            let new = !seen.contains(&real);
            seen.push(real);
            new
        });
        if folders.into_iter().any(|(source, folder)| in_folder(source, &folder).into_iter().any(&mut *stop)) {
            return true;
        }
        if self.surroundings.system_loader {
            let name = PathBuf::from(library_name());
            let outcome = match probe(&name) {
                Err(ProbeError::Loader(_)) => Outcome::Absent,
                other => outcome(other),
            };
            if stop(Candidate { source: Source::System, path: name, outcome }) {
                return true;
            }
        }
        if self.surroundings.ask_python
            && let Some(package) = python::onnxruntime_package()
        {
            let folder = package.parent().map_or_else(|| package.join("capi"), capi);
            let known = seen.contains(&folder.canonicalize().unwrap_or_else(|_| folder.clone()));
            return !known && in_folder(Source::Python, &folder).into_iter().any(&mut *stop);
        }
        false
    }

    /// A library the user named: a file, a folder that holds one, or a bare name, which is looked for
    /// in the current folder, beside the executable, and by the system loader.
    fn named(&self, source: Source, path: &Path) -> Candidate {
        if path.is_dir() {
            let inside = in_folder(source, path).into_iter().next();
            return inside.unwrap_or_else(|| Candidate { source, path: path.to_path_buf(), outcome: Outcome::Absent });
        }
        let beside = self.surroundings.executable_folder.as_ref().map(|f| f.join(path)).filter(|p| p.is_file());
        let path = match beside {
            Some(beside) if path.components().count() == 1 && !path.exists() => beside,
            _ => path.to_path_buf(),
        };
        candidate(source, path)
    }
}

fn in_folder(source: Source, folder: &Path) -> Vec<Candidate> {
    let libraries = libraries_in(folder);
    if libraries.is_empty() {
        return vec![Candidate { source, path: folder.to_path_buf(), outcome: Outcome::Absent }];
    }
    libraries.into_iter().map(|path| candidate(source, path)).collect()
}

fn candidate(source: Source, path: PathBuf) -> Candidate {
    let outcome = outcome(probe(&path));
    // `ort` resolves a relative path against the executable, the user means the current folder.
    let path = if path.exists() { std::path::absolute(&path).unwrap_or(path) } else { path };
    Candidate { source, path, outcome }
}

fn outcome(probed: Result<Version, ProbeError>) -> Outcome {
    match probed {
        Ok(version) => Outcome::Usable(version),
        Err(e) => Outcome::Refused(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake(folder: &Path) -> std::io::Result<PathBuf> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(library_name());
        std::fs::write(&path, "a text file that calls itself a library\n")?;
        Ok(path)
    }

    #[test]
    fn a_named_text_file_is_an_error_even_when_others_could_serve() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = fake(dir.path())?;
        let surroundings = Surroundings { dylib_path: Some(path.clone()), ..Surroundings::of_process() };
        let e = Search::within(None, surroundings.clone()).find().expect_err("it is a text file");
        assert_eq!(e.tried.len(), 1, "nothing else is tried: {e}");
        assert!(e.to_string().contains(&path.display().to_string()) && e.to_string().contains("ORT_DYLIB_PATH"), "{e}");
        let survey = Search::within(None, surroundings).survey();
        assert_eq!(survey.chosen, None, "doctor agrees with find");
        Ok(())
    }

    #[test]
    fn the_argument_goes_before_the_variable() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = fake(dir.path())?;
        let surroundings = Surroundings { dylib_path: Some(path), ..Surroundings::default() };
        let e = Search::within(Some(dir.path().join("absent.so")), surroundings).find().expect_err("it is absent");
        assert_eq!(e.tried[0].source, Source::Argument);
        assert_eq!(e.tried[0].outcome, Outcome::Refused(ProbeError::Missing));
        Ok(())
    }

    #[test]
    fn every_place_is_listed_in_order_when_nothing_serves() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name);
        fake(&at("exe"))?;
        fake(&capi(&at("venv/lib/python3.11/site-packages")))?;
        let surroundings = Surroundings {
            dylib_path: None,
            executable_folder: Some(at("exe")),
            cache: Some(at("cache")),
            python_prefixes: vec![at("venv"), at("venv")],
            system_loader: false,
            ask_python: false,
        };
        let e = Search::within(None, surroundings).find().expect_err("only text files");
        let sources: Vec<Source> = e.tried.iter().map(|c| c.source).collect();
        assert_eq!(sources, [Source::Executable, Source::Cache, Source::Python], "{e}");
        assert_eq!(e.tried[1].outcome, Outcome::Absent);
        assert!(e.to_string().contains("runtime install"), "{e}");
        Ok(())
    }
}
