//! How values, parameters and scopes are called in the text form.
//!
//! Total on broken graphs: an id that is out of range gets a name that says so and never parses.

use crate::ir::{Def, Entity, ScopeId, ValueId};
use crate::ops::{Graph, Node};
use std::collections::HashMap;

/// Whether a name is written without quotes.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(is_name_char)
}

/// Whether a character may stand in a name without quotes.
pub(super) const fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

/// The name, quoted when it has to be.
pub(super) fn quote(name: &str) -> String {
    if is_plain(name) {
        return name.to_owned();
    }
    let mut out = String::from("\"");
    for c in name.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push_str(&c.escape_unicode().to_string()),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The full path of a parameter that is called `name` relative to `scope`.
pub(super) fn join(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") }
}

/// A parameter as seen from a scope: relative where its path begins with the scope, else `/` and the path.
pub(super) fn path_from(scope: Option<&str>, path: &str) -> String {
    let relative = match scope {
        None => None,
        Some("") => Some(path),
        Some(scope) => path.strip_prefix(scope).and_then(|rest| rest.strip_prefix('.')),
    };
    relative.map_or_else(|| format!("/{}", quote(path)), quote)
}

/// Names of everything in one graph.
#[derive(Debug)]
pub(super) struct Names<'g> {
    scopes: Vec<&'g str>,
    values: Vec<Name<'g>>,
}

#[derive(Clone, Copy, Debug)]
enum Name<'g> {
    Input(&'g str),
    Param(&'g str),
    Result { scope: &'g str, number: usize },
    /// Nothing defines it: only in broken graphs.
    Nothing,
}

impl<'g> Names<'g> {
    pub(super) fn of(g: &'g Graph) -> Self {
        let scopes: Vec<&str> = g.scopes().map(|(_, path)| path).collect();
        let mut names = Self { scopes, values: vec![Name::Nothing; g.value_count()] };
        let params: Vec<&str> = g.params().map(|p| p.path.as_str()).collect();
        for (v, value) in g.values() {
            names.values[v.index()] = match value.def {
                Def::Input(i) => g.inputs().get(i).map_or(Name::Nothing, |x| Name::Input(&x.name)),
                Def::Param(p) => params.get(p.index()).map_or(Name::Nothing, |path| Name::Param(path)),
                Def::Result { .. } => Name::Nothing,
            };
        }
        let mut next: HashMap<&str, usize> = HashMap::new();
        for (_, node) in g.nodes() {
            let scope = names.scope(node.origin.scope);
            let number = next.entry(scope).or_default();
            for v in names.results(node) {
                names.values[v.index()] = Name::Result { scope, number: *number };
                *number += 1;
            }
        }
        names
    }

    /// The path of a scope.
    pub(super) fn scope(&self, s: ScopeId) -> &'g str {
        self.scopes.get(s.index()).copied().unwrap_or("?")
    }

    /// The results of a node that exist.
    pub(super) fn results(&self, node: &Node) -> impl Iterator<Item = ValueId> + use<> {
        let first = node.first.index();
        let end = first.saturating_add(node.results as usize).min(self.values.len());
        (first..end).map(ValueId::new)
    }

    /// A value as written in a scope, or outside of all with `None`.
    pub(super) fn reference(&self, v: ValueId, from: Option<&str>) -> String {
        match self.values.get(v.index()) {
            Some(Name::Input(name)) => quote(name),
            Some(Name::Param(path)) => format!("@{}", path_from(from, path)),
            Some(Name::Result { scope, number }) if from == Some(*scope) => format!("%{number}"),
            Some(Name::Result { scope: "", number }) => format!("%/{number}"),
            Some(Name::Result { scope, number }) => format!("%{}/{number}", quote(scope)),
            Some(Name::Nothing) | None => format!("%?{}", v.index()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_when_they_must_be() {
        assert_eq!(quote("to_out.0-x"), "to_out.0-x");
        assert_eq!(quote(""), "\"\"");
        assert_eq!(quote("a \"b\"\\\n\u{7}é"), "\"a \\\"b\\\"\\\\\\n\\u{7}é\"");
    }

    #[test]
    fn parameters_are_relative_below_their_scope_only() {
        assert_eq!(path_from(Some("a.b"), "a.b.weight"), "weight");
        assert_eq!(path_from(Some("a"), "a.b.weight"), "b.weight");
        assert_eq!(path_from(Some("a"), "ab.weight"), "/ab.weight");
        assert_eq!(path_from(Some("a"), "a"), "/a");
        assert_eq!(path_from(Some(""), "a.b"), "a.b");
        assert_eq!(path_from(None, "a.b"), "/a.b");
    }
}
