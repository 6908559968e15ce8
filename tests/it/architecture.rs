//! What ARCHITECTURE.md promises about the shape of the code, checked against the code.
//!
//! The table of allowed dependencies is read from ARCHITECTURE.md itself, so that the document cannot
//! say one thing and the code do another.

use crate::support::reference::cases;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use vit_onnx::{passes, template, variants};

/// Lines of a file, beyond which it holds more than one idea.
const LONGEST: usize = 600;
/// The files that may hold unsafe code: a memory map, and the probe of a shared library.
const UNSAFE: [&str; 2] = ["runtime/ort/probe.rs", "files/map.rs"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every Rust file under `dir`, sorted.
fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            out.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
    out.sort();
    out
}

/// A file of `src`.
struct File {
    /// Relative to `src`, with `/`.
    name: String,
    text: String,
}

impl File {
    /// The room it stands in: the first folder.
    fn room(&self) -> Option<&str> {
        self.name.split_once('/').map(|(room, _)| room)
    }

    /// Its lines without comments and without its tests.
    fn code(&self) -> impl Iterator<Item = &str> {
        let is_test = self.name.contains("tests/") || self.name.ends_with("tests.rs");
        let text = if is_test { "" } else { self.text.split("#[cfg(test)]\nmod ").next().unwrap_or_default() };
        text.lines().filter(|l| !l.trim_start().starts_with("//"))
    }
}

fn source() -> Vec<File> {
    let src = root().join("src");
    let name = |p: &Path| {
        let parts = p.strip_prefix(&src).expect("a file of src").iter();
        parts.map(|c| c.to_string_lossy()).collect::<Vec<_>>().join("/")
    };
    rust_files(&src).iter().map(|p| File { name: name(p), text: read(p) }).collect()
}

/// The rooms that code reaches through `crate::`, alone or in braces; re-exports and macros of the root are none.
fn reached(code: &str, rooms: &BTreeSet<String>) -> BTreeSet<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => names.extend(first_names(list)),
            None => names.extend(rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()),
        }
    }
    names.into_iter().filter(|n| rooms.contains(*n)).map(str::to_owned).collect()
}

/// `a::b, c::{d, e}}` names `a` and `c`.
fn first_names(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut out) = (0, Some(0), Vec::new());
    for (i, c) in list.char_indices() {
        let word = c.is_alphanumeric() || c == '_';
        match start {
            Some(s) if !word && depth == 0 && !list[s..i].trim().is_empty() => {
                out.push(list[s..i].trim());
                start = None;
            }
            _ => {}
        }
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = Some(i + 1),
            _ => {}
        }
    }
    out
}

/// `| room | may use |` rows of ARCHITECTURE.md.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let text = read(&root().join("ARCHITECTURE.md"));
    let table = text.split("| room | may use |").nth(1).expect("ARCHITECTURE.md has the table of dependencies");
    let cell = |c: &str| c.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<String>>();
    let rows = table.lines().skip(2).take_while(|l| l.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let room = cell(cells[0]).pop_first().unwrap_or_else(|| panic!("a room in {row}"));
        (room, cell(cells[1]))
    })
    .collect()
}

#[test]
fn names_are_read_from_braces() {
    let rooms = ["ir", "nn", "weights", "ops"].map(str::to_owned).into();
    let found =
        reached("use crate::{\n nn::{Release, ops}, weights };\nlet x = crate::ir::Dim::new(crate::other::y);", &rooms);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["ir", "nn", "weights"]);
}

#[test]
fn rooms_use_only_the_rooms_they_may() {
    let (files, allowed) = (source(), allowed());
    let rooms: BTreeSet<String> = files.iter().filter_map(File::room).map(str::to_owned).collect();
    assert!(rooms.len() > 15, "the rooms are found");
    for room in &rooms {
        assert!(allowed.contains_key(room), "ARCHITECTURE.md says nothing of the room `{room}`");
    }
    let mut wrong = Vec::new();
    for f in &files {
        let Some(room) = f.room() else { continue };
        let code: Vec<&str> = f.code().collect();
        let found = reached(&code.join("\n"), &rooms);
        wrong.extend(
            found.iter().filter(|r| *r != room && !allowed[room].contains(*r)).map(|r| format!("{} uses {r}", f.name)),
        );
    }
    assert!(wrong.is_empty(), "not allowed by the table of ARCHITECTURE.md:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for_and_holds_one_idea() {
    let mut files: Vec<(String, String)> = source().into_iter().map(|f| (f.name, f.text)).collect();
    for dir in ["tests/it", "benches", "examples"] {
        files.extend(rust_files(&root().join(dir)).iter().map(|p| (p.display().to_string(), read(p))));
    }
    for (name, text) in &files {
        assert!(text.starts_with("//! "), "{name} does not open with a `//!` doc");
        let lines = text.lines().count();
        assert!(lines <= LONGEST, "{name} has {lines} lines, more than {LONGEST}");
    }
}

#[test]
fn only_the_command_line_prints() {
    for f in source().iter().filter(|f| f.room() != Some("cli")) {
        for line in f.code() {
            let prints = ["println!", "print!(", "dbg!("].iter().any(|p| line.contains(p));
            assert!(!prints, "{} prints: {}", f.name, line.trim());
        }
    }
}

#[test]
fn unsafe_code_stands_in_two_files_with_its_reason() {
    for f in source() {
        let uses: Vec<&str> = f.code().filter(|l| l.contains("unsafe {") || l.contains("unsafe impl")).collect();
        if UNSAFE.contains(&f.name.as_str()) {
            let reasons = f.text.matches("SAFETY: ").count();
            assert!(!uses.is_empty() && reasons >= uses.len(), "{}: a SAFETY comment for each", f.name);
        } else {
            assert!(uses.is_empty(), "{}: {uses:?}", f.name);
        }
    }
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) {
    let mut seen = BTreeSet::new();
    for name in names {
        assert!(seen.insert(name), "two {what} are called {name}");
        let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(!name.is_empty() && name.chars().all(kebab), "{what} are named in kebab-case, not {name}");
    }
    assert!(!seen.is_empty(), "{what} are found");
}

/// The string that follows `key: "` after `from`.
fn field<'a>(from: &'a str, key: &str) -> &'a str {
    from.split_once(&format!("{key}: \"")).and_then(|(_, s)| s.split_once('"')).map_or("", |(s, _)| s)
}

#[test]
fn passes_and_rules_have_a_name_of_their_own_and_a_sentence() {
    unique("passes", passes::all().iter().map(|p| p.name));
    for p in passes::all() {
        assert!(p.doc.len() > 8, "{} says what it does", p.name);
    }
    let files = source();
    let rules: Vec<(&str, &str)> = (files.iter().filter(|f| f.room() == Some("passes")))
        .flat_map(|f| f.text.split(" Rule {").skip(1))
        .map(|rest| (field(rest, "name"), field(rest, "doc")))
        .collect();
    unique("rules", rules.iter().map(|r| r.0));
    for (name, doc) in rules {
        assert!(doc.len() > 8, "{name} says what it recognizes");
    }
}

#[test]
fn every_variant_has_presets_and_numbers_of_the_original() {
    let cases = cases();
    let readme = read(&root().join("README.md"));
    for v in variants::VARIANTS {
        let presets = template::presets(v);
        assert!(["readme", "tiny"].iter().all(|p| presets.iter().any(|q| q == p)), "{}: {presets:?}", v.name);
        for release in ["0.16", "1"].into_iter().filter(|r| v.eras.of(v.name, r).is_ok()) {
            let numbers = cases.iter().any(|c| c.release() == release && c.variant() == v.name);
            assert!(numbers, "golden/reference has no case of {} in release {release}", v.name);
        }
        assert!(readme.contains(&format!("`{}`", v.name)), "README.md names {}", v.name);
    }
}
