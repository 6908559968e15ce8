//! The names of values, parameters and scopes in the text form.
//!
//! Broken graphs have names too: an id that is out of range gets a name that cannot be read back.

use crate::ir::{Def, Entity, ScopeId, ValueId};
use crate::ops::{Graph, Node};
use std::collections::HashMap;

/// Returns true if a name is written without quotes.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(is_name_char)
}

/// Returns true if a character may occur in a name without quotes.
pub(super) const fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

/// Returns the name, in quotes if it needs them.
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

/// Returns the full path of a parameter whose name relative to `scope` is `name`.
pub(super) fn join(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") }
}

/// Returns the path relative to a scope that it is below; the inverse of [`join`].
pub(super) fn below<'p>(scope: &str, path: &'p str) -> Option<&'p str> {
    if scope.is_empty() { Some(path) } else { path.strip_prefix(scope).and_then(|rest| rest.strip_prefix('.')) }
}

/// Returns the name of a parameter in a scope: relative if its path begins with the scope, else `/` and the path.
pub(super) fn path_from(scope: Option<&str>, path: &str) -> String {
    let relative = scope.and_then(|scope| below(scope, path));
    relative.map_or_else(|| format!("/{}", quote(path)), quote)
}

/// The names of all values and scopes of a graph.
#[derive(Debug)]
pub(super) struct Names<'g> {
    scopes: Vec<&'g str>,
    values: Vec<Name<'g>>,
}

#[derive(Clone, Copy, Debug)]
enum Name<'g> {
    Input(&'g str),
    Param(&'g str),
    Result {
        scope: &'g str,
        number: usize,
    },
    /// Nothing defines the value, which occurs in broken graphs only.
    Nothing,
}

impl<'g> Names<'g> {
    pub(super) fn of(g: &'g Graph) -> Self {
        let scopes: Vec<&str> = g.scopes().map(|(_, path)| path).collect();
        let mut names = Self { scopes, values: vec![Name::Nothing; g.value_count()] };
        let params: Vec<&str> = g.params().map(|p| &*p.path).collect();
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

    /// Returns the path of a scope.
    pub(super) fn scope(&self, s: ScopeId) -> &'g str {
        self.scopes.get(s.index()).copied().unwrap_or("?")
    }

    /// Returns the results of a node that exist.
    pub(super) fn results(&self, node: &Node) -> impl Iterator<Item = ValueId> + use<> {
        let first = node.first.index();
        let end = first.saturating_add(node.results as usize).min(self.values.len());
        (first..end).map(ValueId::new)
    }

    /// Returns the name of a value in a scope; with `None`, outside all scopes.
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
