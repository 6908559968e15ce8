//! What a checkpoint cannot confirm: arguments that may have other values without another key or shape.
//!
//! Found by trying: each argument is changed alone, and numbers of heads together with their widths, and the parameters
//! of the changed model are compared with those of the model.

use crate::template::{Model, Source};
use crate::variants::Declare;
use crate::weights::{self, ParamSpec};
use toml::{Table, Value};

/// The arguments, as a model file has them, that no key and no shape of a checkpoint says; those that only training
/// reads are left out.
pub fn unconfirmed(m: &Model) -> Vec<String> {
    let Some(own) = parameters(m) else { return Vec::new() };
    let table = m.to_table();
    let inner = table.get("inner").and_then(Value::as_table);
    let keys = table.keys().cloned().chain(inner.into_iter().flat_map(Table::keys).map(|key| format!("inner.{key}")));
    let mut said = Vec::new();
    for key in keys.filter(|key| !["variant", "release", "inner.release", "inner.kind"].contains(&key.as_str())) {
        let Some(value) = get(&table, &key) else { continue };
        let width = key.replace("heads", "dim_head");
        let changes: Vec<Vec<(String, Value)>> = match (value, get(&table, &width)) {
            // As many channels in all, otherwise divided.
            (Value::Integer(n), Some(Value::Integer(w))) if width != key && (n % 2 == 0 || w % 2 == 0) => {
                let (n, w) = if n % 2 == 0 { (n / 2, w * 2) } else { (n * 2, w / 2) };
                vec![vec![(key.clone(), n.into()), (width.clone(), w.into())]]
            }
            (Value::Integer(n), _) => [n * 2, n + 1, n - 1].map(|n| vec![(key.clone(), n.into())]).to_vec(),
            (Value::Boolean(flag), _) => vec![vec![(key.clone(), (!flag).into())]],
            (Value::String(pool), _) if key == "pool" => {
                vec![vec![(key.clone(), if pool == "cls" { "mean" } else { "cls" }.into())]]
            }
            _ => continue,
        };
        let fits = |change: &Vec<(String, Value)>| {
            let other = Model::resolve(&Source::Text("", &table.to_string()), change).ok();
            other.and_then(|m| parameters(&m)).is_some_and(|other| other == own)
        };
        if changes.iter().any(fits) {
            let pair = changes[0].len() == 2;
            let with = if pair {
                format!(" of {width} = {}", get(&table, &width).expect("it was read"))
            } else {
                String::new()
            };
            said.push(format!("{key} = {value}{with}"));
        }
    }
    said
}

fn get<'t>(table: &'t Table, key: &str) -> Option<&'t Value> {
    match key.split_once('.') {
        Some((head, rest)) => get(table.get(head)?.as_table()?, rest),
        None => table.get(key),
    }
}

fn parameters(m: &Model) -> Option<Vec<ParamSpec>> {
    let g = m.declaration.declare(&Declare::default()).ok()?;
    let mut specs = weights::specs(&g);
    specs.sort_by(|a, b| a.path.cmp(&b.path));
    Some(specs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::parse_set;

    fn of(variant: &str, sets: &[&str]) -> Vec<String> {
        let sets: Vec<_> = sets.iter().map(|s| parse_set(s).expect("a setting")).collect();
        unconfirmed(&Model::resolve(&Source::Preset(variant, "tiny"), &sets).expect("a model"))
    }

    #[test]
    fn what_no_shape_says_is_listed_once() {
        assert_eq!(of("vit", &["heads=2"]), ["heads = 2 of dim_head = 8", "pool = \"cls\""]);
        // Mean pooling has another table in the newest release.
        assert_eq!(of("vit", &["heads=2", "release=1"]), ["heads = 2 of dim_head = 8"]);
        let strides: Vec<String> =
            (1..=3).flat_map(|s| [format!("s{s}_emb_stride"), format!("s{s}_kv_proj_stride")]).collect();
        let said = of("cvt", &["release=1"]);
        assert!(strides.iter().all(|key| said.iter().any(|s| s.starts_with(key))), "{said:?}");
        assert!(of("rvt", &["release=1"]).iter().any(|s| s == "use_rotary = true"));
    }
}
