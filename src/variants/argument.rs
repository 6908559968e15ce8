//! Arguments of the original constructors: one table makes a struct, its keys, defaults and checks.
//!
//! The type of an argument carries its range, so a page never sees a size of zero or a probability of two. Everything
//! wrong with a table is reported at once, with the key, the value and what would be valid.

use super::Size2;
use std::marker::PhantomData;
use toml::{Table, Value};

/// Sizes above this are mistakes: no transformer is a million wide.
pub const LARGEST: usize = 1 << 20;

/// The type of an argument: how a model file writes it, and which values are valid.
pub trait Argument {
    /// A valid value.
    type Value;
    /// Its value when it is absent and has no default.
    const ABSENT: Option<Self::Value> = None;

    /// Completes "… is valid".
    fn valid() -> String;

    /// Reads the value of `key`, or reports why there is none.
    fn read(key: &str, v: &Value, to: &mut Reading<'_>) -> Option<Self::Value>;

    /// The value as [`read`](Self::read) takes it; nothing where it is absent.
    fn write(v: &Self::Value) -> Option<Value>;
}

/// Reports a value of another type.
pub(super) fn unexpected<A: Argument>(key: &str, v: &Value, to: &mut Reading<'_>) -> Option<A::Value> {
    to.wrong.push(format!("{key}: found {v}; {} is valid", A::valid()));
    None
}

/// An integer in a range, both ends included.
#[derive(Debug)]
pub struct Integer<const LEAST: usize, const MOST: usize>;
/// A size or count.
pub type Width = Integer<1, LARGEST>;
/// A number of layers or steps; memory and time grow with each.
pub type Depth = Integer<1, 10_000>;
/// A number of classes; 0 is a model without a head.
pub type Classes = Integer<0, LARGEST>;

impl<const LEAST: usize, const MOST: usize> Argument for Integer<LEAST, MOST> {
    type Value = usize;

    fn valid() -> String {
        format!("{LEAST} to {MOST}")
    }

    fn read(key: &str, v: &Value, to: &mut Reading<'_>) -> Option<usize> {
        let Some(n) = v.as_integer() else { return unexpected::<Self>(key, v, to) };
        let valid = usize::try_from(n).ok().filter(|n| (LEAST..=MOST).contains(n));
        if valid.is_none() {
            to.wrong.push(format!("{key}: {n} is out of range; {} is valid", Self::valid()));
        }
        valid
    }

    fn write(v: &usize) -> Option<Value> {
        Some((*v as i64).into())
    }
}

/// A probability below 1; an integer 0 is one too.
#[derive(Debug)]
pub struct Probability;

impl Argument for Probability {
    type Value = f64;

    fn valid() -> String {
        "a probability at least 0 and below 1".into()
    }

    fn read(key: &str, v: &Value, to: &mut Reading<'_>) -> Option<f64> {
        let Some(p) = v.as_float().or(v.as_integer().map(|n| n as f64)) else {
            return unexpected::<Self>(key, v, to);
        };
        let valid = (0.0..1.0).contains(&p);
        if !valid {
            to.wrong.push(format!("{key}: {v} is out of range; {} is valid", Self::valid()));
        }
        valid.then_some(p)
    }

    fn write(v: &f64) -> Option<Value> {
        Some((*v).into())
    }
}

/// A number; of options only.
#[derive(Debug)]
pub struct Number;

impl Argument for Number {
    type Value = f64;

    fn valid() -> String {
        "a number".into()
    }

    fn read(key: &str, v: &Value, to: &mut Reading<'_>) -> Option<f64> {
        v.as_float().or_else(|| unexpected::<Self>(key, v, to))
    }

    fn write(v: &f64) -> Option<Value> {
        Some((*v).into())
    }
}

/// True or false.
#[derive(Debug)]
pub struct Flag;

impl Argument for Flag {
    type Value = bool;

    fn valid() -> String {
        "true or false".into()
    }

    fn read(key: &str, v: &Value, to: &mut Reading<'_>) -> Option<bool> {
        v.as_bool().or_else(|| unexpected::<Self>(key, v, to))
    }

    fn write(v: &bool) -> Option<Value> {
        Some((*v).into())
    }
}

impl Argument for Size2 {
    type Value = Self;

    fn valid() -> String {
        "an integer or [height, width]".into()
    }

    fn read(key: &str, v: &Value, to: &mut Reading<'_>) -> Option<Self> {
        match v {
            Value::Integer(_) => Width::read(key, v, to).map(Self::Square),
            Value::Array(a) if a.len() == 2 => Pair::<Width>::read(key, v, to).map(Self::Rect),
            _ => unexpected::<Self>(key, v, to),
        }
    }

    fn write(v: &Self) -> Option<Value> {
        match v {
            Self::Square(n) => Width::write(n),
            Self::Rect(hw) => Pair::<Width>::write(hw),
        }
    }
}

/// A list of arguments.
#[derive(Debug)]
pub struct List<A>(PhantomData<A>);

impl<A: Argument> Argument for List<A> {
    type Value = Vec<A::Value>;

    fn valid() -> String {
        format!("a list, each entry {}", A::valid())
    }

    fn read(key: &str, v: &Value, to: &mut Reading<'_>) -> Option<Self::Value> {
        let Some(list) = v.as_array() else { return unexpected::<Self>(key, v, to) };
        let each = list.iter().enumerate().map(|(i, v)| A::read(&format!("{key}[{i}]"), v, to));
        // All of them are read, so that all problems are reported.
        each.collect::<Vec<_>>().into_iter().collect()
    }

    fn write(v: &Self::Value) -> Option<Value> {
        Some(Value::Array(v.iter().filter_map(A::write).collect()))
    }
}

/// Two arguments of one type.
#[derive(Debug)]
pub struct Pair<A>(PhantomData<A>);

impl<A: Argument> Argument for Pair<A> {
    type Value = [A::Value; 2];

    fn valid() -> String {
        format!("a list of two, each {}", A::valid())
    }

    fn read(key: &str, v: &Value, to: &mut Reading<'_>) -> Option<Self::Value> {
        if v.as_array().is_none_or(|a| a.len() != 2) {
            return unexpected::<Self>(key, v, to);
        }
        List::<A>::read(key, v, to)?.try_into().ok()
    }

    fn write(v: &Self::Value) -> Option<Value> {
        Some(Value::Array(v.iter().filter_map(A::write).collect()))
    }
}

/// An argument that may be absent.
#[derive(Debug)]
pub struct Maybe<A>(PhantomData<A>);

impl<A: Argument> Argument for Maybe<A> {
    type Value = Option<A::Value>;
    const ABSENT: Option<Self::Value> = Some(None);

    fn valid() -> String {
        A::valid()
    }

    fn read(key: &str, v: &Value, to: &mut Reading<'_>) -> Option<Self::Value> {
        A::read(key, v, to).map(Some)
    }

    fn write(v: &Self::Value) -> Option<Value> {
        v.as_ref().and_then(A::write)
    }
}

/// One number for all stages, or a list with one for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PerStage {
    /// The same for all.
    Same(usize),
    /// The first stage's first.
    Each(Vec<usize>),
}

impl PerStage {
    /// The number of one stage; after the end of a list, its last entry.
    pub fn at(&self, stage: usize) -> usize {
        match self {
            Self::Same(n) => *n,
            Self::Each(list) => list.get(stage).or(list.last()).copied().unwrap_or(1),
        }
    }
}

/// An argument of every stage.
#[derive(Debug)]
pub struct Stages<A>(PhantomData<A>);

impl<A: Argument<Value = usize>> Argument for Stages<A> {
    type Value = PerStage;

    fn valid() -> String {
        "an integer or a list of integers".into()
    }

    fn read(key: &str, v: &Value, to: &mut Reading<'_>) -> Option<PerStage> {
        match v {
            Value::Integer(_) => A::read(key, v, to).map(PerStage::Same),
            Value::Array(_) => List::<A>::read(key, v, to).map(PerStage::Each),
            _ => unexpected::<Self>(key, v, to),
        }
    }

    fn write(v: &PerStage) -> Option<Value> {
        match v {
            PerStage::Same(n) => A::write(n),
            PerStage::Each(list) => List::<A>::write(list),
        }
    }
}

/// What an argument is, for people.
#[derive(Clone, Debug)]
pub struct Description {
    /// Its key in a model file.
    pub key: &'static str,
    /// Its meaning.
    pub about: String,
    /// Which values are valid.
    pub valid: String,
    /// Its value where none is given, as TOML; none where one must be given or nothing is the default.
    pub default: Option<String>,
    /// Whether a value must be given.
    pub required: bool,
}

/// A struct of arguments, made by `arguments!`.
pub trait Arguments: Sized {
    /// The keys, in the order of the fields.
    const KEYS: &'static [&'static str];

    /// What each argument is.
    fn describe() -> Vec<Description>;

    /// Reads every argument.
    fn read(from: &mut Reader<'_, '_>) -> Option<Self>;

    /// Every argument with its value.
    fn write(&self) -> Table;
}

/// A model file being read.
#[derive(Debug)]
pub struct Reading<'a> {
    /// The release that the model file is for.
    pub release: &'a str,
    /// What is wrong with it so far.
    pub wrong: Vec<String>,
    /// What whoever wrote it should know.
    pub notes: Vec<String>,
}

/// Reads the arguments of one table.
#[derive(Debug)]
pub struct Reader<'a, 'b> {
    /// What the user wrote.
    pub table: &'a Table,
    /// Values that the era gives to options, and to arguments that are absent.
    pub era: &'a Table,
    /// Written in front of keys, such as `inner.`.
    pub path: &'static str,
    /// The release, and what is wrong so far.
    pub to: &'a mut Reading<'b>,
}

impl Reader<'_, '_> {
    /// Reports keys that `name` does not have, besides `other` ones.
    pub fn known(&mut self, name: &str, keys: &[&str], other: &[&str]) {
        for key in self.table.keys().filter(|k| !keys.contains(&k.as_str()) && !other.contains(&k.as_str())) {
            let all: Vec<&str> = keys.iter().chain(other).copied().collect();
            self.to.wrong.push(format!("{}{key}: {name} has no such key; {}", self.path, nearest(key, &all)));
        }
    }

    /// The argument's value, the era's or the default.
    pub fn argument<A: Argument>(&mut self, key: &str, default: Option<A::Value>) -> Option<A::Value> {
        match self.table.get(key) {
            Some(v) => A::read(&format!("{}{key}", self.path), v, self.to),
            None => self.option::<A>(key, default),
        }
    }

    /// The era's value or the default.
    pub fn option<A: Argument>(&mut self, key: &str, default: Option<A::Value>) -> Option<A::Value> {
        if let Some(v) = self.era.get(key) {
            return A::read(key, v, self.to);
        }
        let value = default.or(A::ABSENT);
        if value.is_none() {
            self.to.wrong.push(format!("{}{key}: missing; {} is valid", self.path, A::valid()));
        }
        value
    }
}

/// "did you mean …" when something is close, and in any case what there is.
pub fn nearest(word: &str, all: &[&str]) -> String {
    let best = all.iter().map(|a| (strsim::jaro_winkler(word, a), a)).max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = match best {
        Some((score, a)) if score > 0.8 => format!("did you mean `{a}`? "),
        _ => String::new(),
    };
    format!("{hint}there are {}", all.join(", "))
}

/// Makes a struct of the arguments of an original constructor: `key: Type = default`, each with its documentation.
/// `options` are fields too, but no keys: eras of the package differ in them, the default is the newest's.
macro_rules! arguments {
    (
        $(#[$doc:meta])* $vis:vis struct $name:ident { $($(#[doc = $about:literal])* $key:ident: $kind:ty $(= $default:expr)?,)* }
        $(options { $($(#[$why:meta])* $option:ident: $option_kind:ty = $newest:expr,)* })?
    ) => {
        $(#[$doc])*
        #[derive(Debug)]
        $vis struct $name {
            $($(#[doc = $about])* pub $key: <$kind as $crate::variants::argument::Argument>::Value,)*
            $($($(#[$why])* pub $option: <$option_kind as $crate::variants::argument::Argument>::Value,)*)?
        }

        impl $crate::variants::argument::Arguments for $name {
            const KEYS: &'static [&'static str] = &[$(stringify!($key)),*];

            fn describe() -> Vec<$crate::variants::argument::Description> {
                use $crate::variants::argument::{Argument, Description};
                vec![$({
                    let default: Option<<$kind as Argument>::Value> = arguments!(@ $($default)?);
                    Description {
                        key: stringify!($key),
                        about: concat!($($about),*).trim().to_owned(),
                        valid: <$kind as Argument>::valid(),
                        required: default.is_none() && <$kind as Argument>::ABSENT.is_none(),
                        default: default.as_ref().and_then(<$kind as Argument>::write).map(|v| v.to_string()),
                    }
                },)*]
            }

            fn read(from: &mut $crate::variants::argument::Reader<'_, '_>) -> Option<Self> {
                $(let $key = from.argument::<$kind>(stringify!($key), arguments!(@ $($default)?));)*
                $($(let $option = from.option::<$option_kind>(stringify!($option), Some($newest));)*)?
                Some(Self { $($key: $key?,)* $($($option: $option?,)*)? })
            }

            fn write(&self) -> toml::Table {
                use $crate::variants::argument::Argument;
                let all = [$((stringify!($key), <$kind as Argument>::write(&self.$key))),*];
                all.into_iter().filter_map(|(key, v)| Some((key.to_owned(), v?))).collect()
            }
        }
    };
    (@) => { None };
    (@ $default:expr) => { Some($default) };
}
pub(crate) use arguments;

#[cfg(test)]
mod tests {
    use super::*;

    arguments! {
        /// Arguments of all kinds.
        struct All {
            /// One.
            width: Width,
            /// Another.
            depth: Depth = 2,
            /// None is valid.
            classes: Classes,
            /// An integer or a fraction.
            dropout: Probability = 0.5,
            /// A list of pairs.
            windows: List<Pair<Width>> = vec![[7, 4]],
            /// One or several.
            heads: Stages<Width> = PerStage::Same(8),
            /// May be absent.
            extra: Maybe<Flag>,
        }
        options {
            /// No key.
            old: Flag = false,
        }
    }

    fn read(text: &str, era: &str) -> Result<All, Vec<String>> {
        let (table, era) = (text.parse().expect("TOML"), era.parse().expect("TOML"));
        let mut to = Reading { release: "1", wrong: Vec::new(), notes: Vec::new() };
        let mut reader = Reader { table: &table, era: &era, path: "at.", to: &mut to };
        reader.known("all", All::KEYS, &["kind"]);
        let all = All::read(&mut reader);
        all.filter(|_| to.wrong.is_empty()).ok_or(to.wrong)
    }

    #[test]
    fn values_defaults_and_what_the_era_says() {
        let all = read("width = 3\nclasses = 0\ndropout = 0", "old = true\ndepth = 7").expect("valid");
        assert_eq!((all.width, all.depth, all.classes, all.old), (3, 7, 0, true));
        assert_eq!((all.dropout, all.extra, all.windows.as_slice()), (0.0, None, &[[7, 4]][..]));
        let written = all.write().to_string();
        assert!(written.contains("dropout = 0.0") && written.contains("windows = [[7, 4]]"), "{written}");
        assert!(!written.contains("old") && !written.contains("extra"), "{written}");
        let again = read(&written, "").expect("what was written is read");
        assert_eq!((again.write().to_string(), again.old), (written, false));
        assert_eq!(read("width = 3\nclasses = 1\ndepth = 1", "depth = 7").expect("valid").depth, 1);
    }

    #[test]
    fn everything_wrong_is_reported_at_once() {
        let text = "width = 'x'\ndepth = 0\ndropout = 1\nwindows = [[1], [0, 2]]\nheads = true\nextra = 1\nheds = 2\nold = true";
        let wrong = read(text, "").expect_err("it is wrong");
        for part in [
            "at.heds: all has no such key; did you mean `heads`?",
            "at.old: all has no such key",
            "at.width: found \"x\"; 1 to 1048576 is valid",
            "at.depth: 0 is out of range; 1 to 10000 is valid",
            "at.classes: missing; 0 to 1048576 is valid",
            "at.dropout: 1 is out of range; a probability at least 0 and below 1 is valid",
            "at.windows[0]: found [1]; a list of two, each 1 to 1048576 is valid",
            "at.windows[1][0]: 0 is out of range",
            "at.heads: found true; an integer or a list of integers is valid",
            "at.extra: found 1; true or false is valid",
        ] {
            assert!(wrong.iter().any(|w| w.starts_with(part)), "{part}: {wrong:#?}");
        }
        assert_eq!(wrong.len(), 10);
        for p in ["-0.1", "1.5", "nan", "inf"] {
            let wrong = read(&format!("width = 1\nclasses = 1\ndropout = {p}"), "").expect_err("out of range");
            assert!(wrong[0].contains("dropout"), "{wrong:?}");
        }
    }
}
