//! Finding the state dict inside whatever a training script pickled.
//!
//! A state dict's keys are dotted paths (`layers.0.weight`) and its values tensors; scripts put
//! it beside epoch numbers, optimizer state and averaged copies. A pickled module is a tree of
//! dictionaries instead, whose keys have no dots. Works on the outline of the pickle only:
//! knows no files and reads no values.

use pytorch_reader::PickleValue;
use std::collections::BTreeMap;

/// A pickled object reduced to what matters here.
#[derive(Debug)]
pub(super) enum Outline {
    /// A tensor.
    Tensor,
    /// A dictionary, list or tuple that holds tensors somewhere.
    Branch(BTreeMap<String, Outline>),
}

/// The part of a pickle that is the state dict.
#[derive(Debug, PartialEq)]
pub(super) struct StateDict {
    /// Dictionary keys from the root.
    pub(super) path: Vec<String>,
    /// Dotted names under `path` of its tensors, sorted.
    pub(super) names: Vec<String>,
}

/// Why no state dict was chosen: a clause, and the keys to choose from with their tensor counts.
pub(super) type Undecided = (String, Vec<(String, usize)>);

impl Outline {
    /// The outline of `value`; `None` when it holds no tensor or is an optimizer's state.
    pub(super) fn of(value: PickleValue) -> Option<Self> {
        let children: BTreeMap<_, _> = match value {
            PickleValue::Unsupported(name) => return (name == "torch.Tensor").then_some(Self::Tensor),
            PickleValue::Dict(d) if d.contains_key("param_groups") && d.contains_key("state") => return None,
            PickleValue::Dict(d) => d.into_iter().filter_map(|(k, v)| Some((k, Self::of(v)?))).collect(),
            PickleValue::List(l) => {
                l.into_iter().enumerate().filter_map(|(i, v)| Some((i.to_string(), Self::of(v)?))).collect()
            }
            _ => return None,
        };
        (!children.is_empty()).then_some(Self::Branch(children))
    }

    /// Number of tensors.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Tensor => 1,
            Self::Branch(b) => b.values().map(Self::count).sum(),
        }
    }

    /// Whether some dictionary in here has the dotted keys of a state dict.
    fn has_state_dict(&self) -> bool {
        match self {
            Self::Tensor => false,
            Self::Branch(b) => {
                b.iter().any(|(k, v)| (matches!(v, Self::Tensor) && k.contains('.')) || v.has_state_dict())
            }
        }
    }

    fn names(&self, at: &str, out: &mut Vec<String>) {
        match self {
            Self::Tensor => out.push(at.to_owned()),
            Self::Branch(b) => b.iter().for_each(|(k, v)| v.names(&join(at, k), out)),
        }
    }

    fn branch(&self) -> Option<&BTreeMap<String, Self>> {
        if let Self::Branch(b) = self { Some(b) } else { None }
    }
}

fn join(a: &str, b: &str) -> String {
    if a.is_empty() { b.to_owned() } else { format!("{a}.{b}") }
}

/// The state dict in `root`: the one under `key` (a key, or several joined by dots), or without
/// one the only dictionary that looks like one.
pub(super) fn find(root: &Outline, key: Option<&str>) -> Result<StateDict, Undecided> {
    let mut path = Vec::new();
    let mut here = root;
    if let Some(key) = key {
        let mut rest = key;
        while !rest.is_empty() {
            let children = here.branch().ok_or_else(|| absent(root, key))?;
            // The longest key that fits, because keys may contain dots themselves.
            let (name, child) = children
                .iter()
                .filter(|(k, _)| rest.strip_prefix(k.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('.')))
                .max_by_key(|(k, _)| k.len())
                .ok_or_else(|| absent(root, key))?;
            rest = rest[name.len()..].trim_start_matches('.');
            path.push(name.clone());
            here = child;
        }
        if here.branch().is_none() {
            return Err((format!("`{key}` is a tensor, not a dictionary of tensors"), dictionaries(root)));
        }
    } else {
        while let Some(children) = here.branch() {
            let dictionaries: Vec<_> = children.iter().filter(|(_, v)| v.branch().is_some()).collect();
            let state_dicts: Vec<_> = dictionaries.iter().filter(|(_, v)| v.has_state_dict()).collect();
            let only = match (state_dicts.as_slice(), dictionaries.as_slice()) {
                ([one], _) => one,
                ([], [one]) if children.len() == 1 => one,
                ([], _) => break,
                (several, _) => {
                    let at = path.join(".");
                    let candidates = several.iter().map(|(k, v)| (join(&at, k), v.count())).collect();
                    return Err(("several dictionaries hold tensors".to_owned(), candidates));
                }
            };
            path.push(only.0.clone());
            here = only.1;
        }
    }
    let mut names = Vec::new();
    here.names("", &mut names);
    names.sort();
    Ok(StateDict { path, names })
}

fn absent(root: &Outline, key: &str) -> Undecided {
    (format!("no dictionary of tensors under the key `{key}`"), dictionaries(root))
}

fn dictionaries(root: &Outline) -> Vec<(String, usize)> {
    let children = root.branch().into_iter().flatten();
    children.filter(|(_, v)| v.branch().is_some()).map(|(k, v)| (k.clone(), v.count())).collect()
}

/// A call in the pickle that no checkpoint has a reason to make: where, and what it would call.
///
/// Objects of other unknown classes (configurations, NumPy scalars) are harmless, because nothing
/// in a pickle is ever executed; these say that the file was made to attack whoever loads it.
pub(super) fn code(value: &PickleValue) -> Option<(String, String)> {
    fn walk(value: &PickleValue, at: &str) -> Option<(String, String)> {
        match value {
            PickleValue::Unsupported(name) if runs_code(name) => Some((at.to_owned(), name.clone())),
            PickleValue::Dict(d) => {
                let mut keys: Vec<_> = d.iter().collect();
                keys.sort_by_key(|(k, _)| k.as_str());
                keys.into_iter().find_map(|(k, v)| walk(v, &join(at, k)))
            }
            PickleValue::List(l) => l.iter().enumerate().find_map(|(i, v)| walk(v, &join(at, &i.to_string()))),
            _ => None,
        }
    }
    walk(value, "")
}

fn runs_code(name: &str) -> bool {
    const MODULES: &str = "os posix nt subprocess sys shutil socket pty runpy importlib ctypes code commands webbrowser \
                           platform pdb timeit asyncio multiprocessing requests urllib httplib";
    const BUILTINS: &str = "eval exec execfile compile open __import__ getattr apply input";
    const FUNCTIONS: &str =
        "pickle.loads pickle.load operator.attrgetter operator.methodcaller torch.load torch.hub.load";
    let listed = |list: &str, word: &str| list.split_whitespace().any(|w| w == word);
    let (module, function) = name.rsplit_once('.').unwrap_or(("", name));
    let root = module.split('.').next().unwrap_or(module);
    listed(MODULES, root)
        || (matches!(module, "builtins" | "__builtin__") && listed(BUILTINS, function))
        || listed(FUNCTIONS, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t() -> PickleValue {
        PickleValue::Unsupported("torch.Tensor".into())
    }
    fn dict<const N: usize>(items: [(&str, PickleValue); N]) -> PickleValue {
        PickleValue::Dict(items.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
    }
    fn state() -> PickleValue {
        dict([("a.weight", t()), ("a.bias", t()), ("cls_token", t())])
    }
    fn optimizer() -> PickleValue {
        dict([("state", dict([("0", dict([("exp.avg", t())]))])), ("param_groups", PickleValue::List(vec![]))])
    }
    fn find_in(v: PickleValue, key: Option<&str>) -> Result<(String, usize), Undecided> {
        find(&Outline::of(v).expect("tensors"), key).map(|s| (s.path.join("/"), s.names.len()))
    }

    #[test]
    fn finds_the_only_state_dict() {
        assert_eq!(find_in(state(), None), Ok((String::new(), 3)));
        let training = dict([
            ("epoch", PickleValue::Int(3)),
            ("rng_state", t()),
            ("optimizer", optimizer()),
            ("state_dict", state()),
        ]);
        assert_eq!(find_in(training, None), Ok(("state_dict".into(), 3)));
        assert_eq!(find_in(dict([("x", dict([("model", state())]))]), None), Ok(("x/model".into(), 3)));
        assert_eq!(find_in(dict([("model", dict([("weight", t())]))]), None), Ok(("model".into(), 1)));
    }

    #[test]
    fn a_pickled_module_is_taken_whole() {
        let layer = || dict([("weight", t()), ("bias", t())]);
        assert_eq!(
            find_in(dict([("cls_token", t()), ("net", layer()), ("head", layer())]), None),
            Ok((String::new(), 5))
        );
        assert_eq!(find_in(dict([("net", layer()), ("head", layer())]), None), Ok((String::new(), 4)));
    }

    #[test]
    fn several_need_a_key() {
        let two = || dict([("model", state()), ("ema", dict([("shadow", state())]))]);
        let (_, candidates) = find_in(two(), None).expect_err("ambiguous");
        assert_eq!(candidates, [("ema".to_owned(), 3), ("model".to_owned(), 3)]);
        assert_eq!(find_in(two(), Some("ema.shadow")), Ok(("ema/shadow".into(), 3)));
        assert_eq!(find_in(two(), Some("model")), Ok(("model".into(), 3)));
        for bad in ["none", "model.a", "model.a.weight", "model.a.weight.b", "ema.shado"] {
            assert!(find_in(two(), Some(bad)).is_err(), "{bad}");
        }
        assert_eq!(find_in(dict([("a.b", dict([("c", state())]))]), Some("a.b.c")), Ok(("a.b/c".into(), 3)));
    }

    #[test]
    fn calls_that_run_code_are_found_and_plain_objects_are_not() {
        let call =
            |name: &str| dict([("w", t()), ("x", PickleValue::List(vec![PickleValue::Unsupported(name.into())]))]);
        for evil in
            ["posix.system", "os.system", "subprocess.Popen", "builtins.eval", "__builtin__.exec", "os.path.join"]
        {
            assert_eq!(code(&call(evil)), Some(("x.0".into(), evil.into())));
        }
        for fine in ["argparse.Namespace", "numpy.core.multiarray.scalar", "torch.device", "builtins.slice", "timm.os"]
        {
            assert_eq!(code(&call(fine)), None, "{fine}");
        }
    }

    #[test]
    fn without_tensors_there_is_no_outline() {
        assert!(Outline::of(dict([("epoch", PickleValue::Int(1)), ("optimizer", optimizer())])).is_none());
    }
}
