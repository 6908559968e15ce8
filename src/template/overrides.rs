//! `--set key=value`.

use toml::{Table, Value};

/// Reads `key=value`: the value is TOML, or else a bare word taken as a string.
pub fn parse_set(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not key=value"))?;
    let (key, value) = (key.trim(), value.trim());
    if key.is_empty() || key.split('.').any(str::is_empty) {
        return Err(format!("`{text}` has no key before the `=`"));
    }
    // A release is text: as a number, 1.10 would be 1.1.
    let text_of_release = key.rsplit('.').next() == Some("release") && !value.starts_with(['"', '\'']);
    if text_of_release && !value.is_empty() {
        return Ok((key.to_owned(), value.into()));
    }
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    match format!("v = {value}").parse::<Table>() {
        Ok(mut t) if t.len() == 1 => Ok((key.to_owned(), t.remove("v").ok_or("no value")?)),
        _ if !value.is_empty() && value.chars().all(bare) => Ok((key.to_owned(), Value::String(value.to_owned()))),
        _ => Err(format!("`{value}` is neither a TOML value nor a bare word (in `{text}`)")),
    }
}

/// Sets a dotted key, making tables on the way.
pub(super) fn apply(table: &mut Table, key: &str, value: Value) -> Result<(), String> {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
            Ok(())
        }
        Some((head, rest)) => match table.entry(head.to_owned()).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(t) => apply(t, rest, value),
            _ => Err(format!("`{head}` is not a table, so `{key}` cannot be set")),
        },
    }
}
