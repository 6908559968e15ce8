//! Eras: ranges of releases of the original packages whose checkpoints and models are alike.
//!
//! An era is data: how it names and stores the page's parameters (`names`), and in which named options of the
//! declaration it differs from the newest release (`options`). Pages declare the newest names and ask their options;
//! neither they nor the layers know of releases. Tables are newest last; the first one is the default.

pub(super) mod cait;
pub(super) mod cross_vit;
pub(super) mod cvt;
pub(super) mod deepvit;
pub(super) mod efficient;
pub(super) mod levit;
pub(super) mod local_vit;
pub(super) mod nystrom;
pub(super) mod pit;
mod rules;
pub(super) mod rvt;
pub(super) mod simple_vit;
pub(super) mod t2t;
pub(super) mod vit;
pub(super) mod x_encoder;

pub(super) use rules::unchanged;

use super::Size2;
use super::argument::{Argument, Reading};
use crate::build::Names;
use std::fmt;
use toml::{Table, Value};

/// A range of releases.
#[derive(Clone, Copy, Debug)]
pub struct Era {
    /// The first and the last release of it.
    pub releases: [&'static str; 2],
    /// From the page's paths to the keys of its checkpoints.
    pub names: Names,
    /// Options and defaults that are not the newest's, as TOML.
    pub options: &'static str,
    /// Arguments that its constructor does not have, or not in full.
    pub limits: &'static [(&'static str, Limit)],
}

/// Releases of which no model can be built, first and last, and why.
pub type Refused = ([&'static str; 2], &'static str);

/// The eras of a model of a package, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct Eras {
    /// The package.
    pub package: &'static str,
    /// The eras; never empty.
    pub list: &'static [Era],
    /// Releases that lie before, between or in the eras and have no usable model.
    pub refused: &'static [Refused],
}

/// What an era takes for an argument.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// This value only, as TOML: there is no such argument, and it computes as if this were given.
    Only(&'static str),
    /// One integer, where others also take height and width.
    Square,
}

/// A version of a package, or the beginning of one, which stands for the newest release that begins so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version([u32; 3]);

impl Version {
    /// Reads up to three numbers. `0.16` is 0.16.6, the first release that this tool knew.
    pub fn parse(text: &str) -> Option<Self> {
        let text = if text == "0.16" { "0.16.6" } else { text };
        let numbers = text.split('.').map(|n| n.bytes().all(|c| c.is_ascii_digit()).then(|| n.parse().ok())?);
        let numbers: Vec<u32> = numbers.collect::<Option<_>>()?;
        let at = |i: usize| numbers.get(i).copied().unwrap_or(u32::MAX);
        (numbers.len() <= 3).then(|| Self([at(0), at(1), at(2)]))
    }

    fn of(release: &str) -> Self {
        Self::parse(release).expect("eras begin and end with versions")
    }
}

impl Eras {
    /// The newest era.
    pub fn newest(&self) -> &'static Era {
        self.list.last().expect("every model has an era")
    }

    /// The first and the newest release.
    pub fn range(&self) -> String {
        format!("{} to {}", self.list[0].releases[0], self.newest().releases[1])
    }

    /// The era of a release, and what to note about it.
    ///
    /// # Errors
    /// It is no version, the package had no such model then, or none that can be built; with what would be valid.
    pub fn of(&self, model: &str, release: &str) -> Result<(&'static Era, Option<String>), String> {
        let package = self.package;
        let Some(version) = Version::parse(release) else {
            return Err(format!("\"{release}\" is no version; \"0.16\", \"1.4.5\" or \"1\" is valid"));
        };
        let within = |[first, last]: [&str; 2]| Version::of(first) <= version && version <= Version::of(last);
        let before = self.list.iter().rev().find(|e| Version::of(e.releases[0]) <= version);
        if let Some((range, why)) = self.refused.iter().find(|(range, _)| within(*range)) {
            let after = self.list.iter().find(|e| Version::of(e.releases[1]) > Version::of(range[1]));
            let near = [before.filter(|e| Version::of(e.releases[0]) < Version::of(range[0])), after];
            let mut near: Vec<String> = near.into_iter().flatten().map(ToString::to_string).collect();
            near.dedup();
            return Err(format!("{package} {release}: {why}; the nearest that can be built: {}", near.join(", ")));
        }
        let Some(era) = before else {
            return Err(format!("{package} {release} has no {model} that can be built; {} is the first", self.list[0]));
        };
        let [_, last] = self.newest().releases;
        // `1` is the newest that begins so.
        let newer = version.0.iter().zip(Version::of(last).0).find(|(n, last)| *n != last);
        let newer = newer.is_some_and(|(n, last)| *n > last && *n != u32::MAX);
        let note = format!("{package} {release} is newer than {last}, the newest that is known; building it as {last}");
        Ok((era, newer.then_some(note)))
    }
}

impl fmt::Display for Era {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, last] = self.releases;
        if first == last { f.write_str(first) } else { write!(f, "{first} to {last}") }
    }
}

impl Era {
    /// The options.
    pub fn options(&self) -> Table {
        self.options.parse().expect("options are valid TOML")
    }

    /// Reports arguments that later ones of `eras` have and this one does not.
    pub fn check(&self, path: &str, table: &Table, eras: &Eras, to: &mut Reading<'_>) {
        for &(key, limit) in self.limits {
            let Some(given) = table.get(key) else { continue };
            let takes = match limit {
                Limit::Only(value) if given.to_string() != value => format!("only {value}; {given}"),
                Limit::Square if is_rectangle(given) => "one integer; [height, width]".to_owned(),
                _ => continue,
            };
            let later = eras.list.iter().skip_while(|e| e.releases != self.releases);
            let free =
                later.filter(|e| e.limits.iter().all(|(limited, _)| *limited != key)).map(|e| e.releases[0]).next();
            let needs = free.map_or("another era".to_owned(), |first| format!("release = \"{first}\" or a later one"));
            to.wrong.push(format!("{path}{key}: {} {self} takes {takes} needs {needs}", eras.package));
        }
    }
}

/// A release as a model file gives it: text, so that 1.10 is not 1.1. Of numbers, 0.16 and 1 are clear.
pub fn release(key: &str, v: &Value, to: &mut Reading<'_>) -> Option<String> {
    let clear = |v: &Value| ["0.16", "1"].contains(&v.to_string().as_str());
    if let Some(text) = v.as_str() {
        return Some(text.to_owned());
    }
    if clear(v) {
        return Some(v.to_string());
    }
    to.wrong.push(format!("{key}: found the number {v}; text is valid, such as {key} = \"{v}\" or {key} = \"{v}0\""));
    None
}

fn is_rectangle(v: &Value) -> bool {
    let mut ignored = Reading { release: "", wrong: Vec::new(), notes: Vec::new() };
    matches!(Size2::read("", v, &mut ignored), Some(Size2::Rect([h, w])) if h != w)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_of_arguments_that_are_given() {
        let wrong = |text: &str| {
            let mut to = Reading { release: "0.16", wrong: Vec::new(), notes: Vec::new() };
            for eras in [rvt::ERAS, vit::ERAS] {
                let (era, _) = eras.of("model", "0.16").expect("a release");
                era.check("", &text.parse().expect("TOML"), &eras, &mut to);
            }
            to.wrong
        };
        let none: [String; 0] = [];
        assert_eq!(wrong("use_glu = true\nimage_size = [8, 8]\npatch_size = 4"), none);
        let both = wrong("use_glu = false\nimage_size = [8, 16]");
        assert_eq!(
            both,
            [
                "use_glu: vit-pytorch 0.16.5 to 0.16.6 takes only true; false needs release = \"0.17.2\" or a later one",
                "image_size: vit-pytorch 0.10.1 to 0.17.2 takes one integer; [height, width] needs release = \"0.17.3\" or a later one",
            ]
        );
    }
}
