//! Transformers that plug into another model: the `[inner]` table of `efficient` and `t2t`.
//!
//! Each is a declaration of its own, tokens in and tokens out, from a package of its own. `inner!`
//! below is the only list; a new transformer is one file and one line. Embedding, position table and
//! head are the model's around it. Its width is the model's: `dim` may be repeated, and then must agree.

mod nystrom;
mod routing;
mod sinkhorn;
mod x_encoder;

use super::argument::{Argument, Arguments, Reader, Reading, nearest};
use super::era::{self, Era, Eras, Version};
use crate::build::{Names, Scope, T};
use toml::{Table, Value};

pub use nystrom::Nystrom;
pub use routing::Routing;
pub use sinkhorn::Sinkhorn;
pub use x_encoder::XEncoder;

/// A transformer that can be plugged in.
pub trait Inner: std::fmt::Debug {
    /// Relations that types cannot say, for sequences of `tokens` vectors of width `dim`; each broken one as `key: reason`.
    fn check(&self, dim: usize, tokens: usize) -> Vec<String>;

    /// Why the number of tokens must be known when the graph is built, if so.
    fn needs_known_length(&self) -> Option<&'static str>;

    /// Emits the transformer: `[batch, tokens, dim] → [batch, tokens, dim]`.
    fn forward<'g>(&self, s: Scope<'g>, x: T<'g>) -> T<'g>;
}

/// A line of the registry.
struct Kind {
    /// The value of `kind`.
    name: &'static str,
    /// Eras of its package.
    eras: Eras,
    /// Which release it is by default: from which release of vit-pytorch around it, which of its own.
    defaults: &'static [(&'static str, &'static str)],
    /// From arguments to a transformer and its resolved arguments, without `dim`.
    read: fn(&Kind, &mut Reader<'_, '_>) -> Option<(Box<dyn Inner>, Table)>,
}

fn read<I: Inner + Arguments + 'static>(kind: &Kind, from: &mut Reader<'_, '_>) -> Option<(Box<dyn Inner>, Table)> {
    from.known(kind.name, I::KEYS, &["kind", "release", "dim"]);
    let inner = I::read(from)?;
    let arguments = inner.write();
    Some((Box::new(inner), arguments))
}

macro_rules! inner {
    ($($name:literal => $ty:ty, $eras:expr, $defaults:expr;)*) => {
        /// Every transformer that can be plugged in.
        const INNER: &[Kind] = &[$(Kind { name: $name, eras: $eras, defaults: $defaults, read: read::<$ty> },)*];
    };
}

inner! {
    "nystrom" => Nystrom, era::nystrom::ERAS, &[("0", "0.0.14")];
    "x_encoder" => XEncoder, era::x_encoder::ERAS, &[("0", "0.10.2"), ("1.0.2", "2.31.10")];
    "routing" => Routing, era::unchanged("routing-transformer"), &[];
    "sinkhorn" => Sinkhorn, era::unchanged("sinkhorn-transformer"), &[];
}

/// The `[inner]` table: `kind`, possibly `dim`, and the arguments of that kind.
#[derive(Debug)]
pub struct Plugged {
    kind: &'static str,
    /// Absent where all are alike.
    release: Option<String>,
    names: Names,
    dim: Option<usize>,
    inner: Box<dyn Inner>,
    arguments: Table,
}

impl Plugged {
    /// Relations for sequences of `tokens` vectors of width `dim`; each broken one as `inner.key: reason`.
    pub fn check(&self, dim: usize, tokens: usize) -> Vec<String> {
        let mut wrong = self.inner.check(dim, tokens);
        if let Some(given) = self.dim.filter(|&d| d != dim) {
            wrong.push(format!("dim: {given} differs from the model's dim {dim}; leave it out or make them equal"));
        }
        wrong.into_iter().map(|w| format!("inner.{w}")).collect()
    }

    /// Why the number of tokens must be known when the graph is built, if so.
    pub fn needs_known_length(&self) -> Option<&'static str> {
        self.inner.needs_known_length()
    }

    /// Emits the transformer: `[batch, tokens, dim] → [batch, tokens, dim]`.
    pub fn forward<'g>(&self, s: Scope<'g>, x: T<'g>) -> T<'g> {
        self.inner.forward(s.named(self.names), x)
    }
}

impl Kind {
    /// The release that a model file gives, or the default, and its era; nothing and the only era where all are alike.
    fn era(&self, given: Option<&Value>, key: &str, to: &mut Reading<'_>) -> Option<(Option<String>, &'static Era)> {
        let around = Version::parse(to.release);
        let default = self.defaults.iter().rev().find(|(since, _)| Version::parse(since) <= around);
        let release = match given {
            Some(v) => era::release(&format!("{key}.release"), v, to)?,
            None => default.or(self.defaults.first()).map_or(String::new(), |(_, release)| (*release).to_owned()),
        };
        if release.is_empty() {
            return Some((None, self.eras.newest()));
        }
        let (era, note) =
            self.eras.of(self.name, &release).map_err(|e| to.wrong.push(format!("{key}.release: {e}"))).ok()?;
        to.notes.extend(note);
        Some((Some(release), era))
    }
}

/// The kinds of transformers, as `inner.kind` names them.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    INNER.iter().map(|k| k.name)
}

/// The eras of a kind of transformer; none where all are alike.
pub fn eras(kind: &str) -> Option<Eras> {
    let kind = INNER.iter().find(|k| k.name == kind).filter(|k| !k.defaults.is_empty());
    kind.map(|k| k.eras)
}

impl Argument for Plugged {
    type Value = Self;

    fn valid() -> String {
        let kinds: Vec<&str> = INNER.iter().map(|k| k.name).collect();
        format!("a table whose kind is one of {}", kinds.join(", "))
    }

    fn read(key: &str, v: &Value, to: &mut Reading<'_>) -> Option<Self> {
        let kinds: Vec<&str> = INNER.iter().map(|k| k.name).collect();
        let Some(table) = v.as_table() else { return super::argument::unexpected::<Self>(key, v, to) };
        let Some(given) = table.get("kind") else {
            to.wrong.push(format!("{key}.kind: missing; one of {} is valid", kinds.join(", ")));
            return None;
        };
        let name = given.as_str().map_or_else(|| given.to_string(), |s| s.replace('-', "_"));
        let Some(kind) = INNER.iter().find(|k| k.name == name) else {
            to.wrong.push(format!("{key}.kind: there is no `{name}`; {}", nearest(&name, &kinds)));
            return None;
        };
        let (release, era) = kind.era(table.get("release"), key, to)?;
        era.check("inner.", table, &kind.eras, to);
        let mut from = Reader { table, era: &era.options(), path: "inner.", to };
        let dim = from.argument::<super::argument::Maybe<super::argument::Width>>("dim", None);
        let (inner, arguments) = (kind.read)(kind, &mut from)?;
        Some(Self { kind: kind.name, release, names: era.names, dim: dim?, inner, arguments })
    }

    fn write(v: &Self) -> Option<Value> {
        let mut t = Table::from_iter([("kind".to_owned(), v.kind.into())]);
        t.extend(v.release.iter().map(|release| ("release".to_owned(), release.as_str().into())));
        t.extend(v.arguments.clone());
        Some(t.into())
    }
}

/// The width of one head where it may be left out, as in the routing and Sinkhorn transformers: the model's width shared.
fn head_width(given: Option<usize>, dim: usize, heads: usize) -> usize {
    given.unwrap_or(dim / heads)
}

/// Whether the model's width can be shared among the heads.
fn shared_width(given: Option<usize>, dim: usize, heads: usize) -> Option<String> {
    let uneven = given.is_none() && !dim.is_multiple_of(heads);
    uneven.then(|| format!("heads: dim {dim} is not divisible by {heads}; give dim_head or a divisor of {dim}"))
}

#[cfg(test)]
mod tests {
    use crate::template::{Model, Source};
    use crate::variants::Declare;

    const SHELL: &str = "variant = 'efficient'\nimage_size = 28\npatch_size = 4\nnum_classes = 7\ndim = 16\n";

    fn model(inner: &str) -> Result<Model, String> {
        let text = format!("{SHELL}[inner]\n{inner}");
        Model::resolve(&Source::Text("m.toml", &text), &[]).map_err(|e| e.to_string())
    }

    fn fail(inner: &str) -> String {
        model(inner).expect_err("it is wrong")
    }

    #[test]
    fn the_table_can_be_written_and_read_again() {
        let m = model("kind = 'x-encoder'\ndepth = 2").expect("a model").to_table();
        assert_eq!(m["inner"]["kind"].as_str(), Some("x_encoder"));
        assert_eq!(m["inner"]["attn_dim_head"].as_integer(), Some(64));
        assert!(m["inner"].get("dim").is_none());
        let again = Model::resolve(&Source::Text("again", &m.to_string()), &[]).expect("a model");
        assert_eq!(again.to_table(), m);
    }

    #[test]
    fn mistakes_name_what_is_valid() {
        assert!(fail("depth = 2").contains("inner.kind: missing; one of nystrom, x_encoder, routing, sinkhorn"));
        assert!(fail("kind = 'linear'\ndepth = 2").contains("there is no `linear`"));
        let e = fail("kind = 'nystrom'\ndepth = 2\nwindow_size = 4");
        assert!(e.contains("window_size: nystrom has no such key") && e.contains("num_landmarks"), "{e}");
        let e = fail("kind = 'nystrom'\ndepth = 2\nheads = 'two'");
        assert!(e.contains("inner") && e.contains("heads:"), "{e}");
        assert!(fail("kind = 'nystrom'").contains("depth"));
        assert!(fail("kind = 'nystrom'\ndepth = 0").contains("inner.depth: 0 is out of range"));
        assert!(
            fail("kind = 'nystrom'\ndepth = 2\ndim = 32").contains("inner.dim: 32 differs from the model's dim 16")
        );
        assert!(
            fail("kind = 'nystrom'\ndepth = 2\ndim = 'x'").contains("inner.dim: found \"x\"; 1 to 1048576 is valid")
        );
    }

    #[test]
    fn presets_have_the_original_numbers_of_parameters() {
        let count = |preset: &str, release: &str| {
            let set = [("release".to_owned(), release.into())];
            let m = Model::resolve(&Source::Preset("efficient", preset), &set).expect("a model");
            let g = m.declaration.declare(&Declare::default()).expect("a graph");
            let trained = g.params().filter(|p| p.trainable);
            trained.map(|p| g.ty(p.value).shape.elements().size().expect("known sizes")).sum::<usize>()
        };
        assert_eq!((count("readme", "0.16"), count("readme", "1")), (41_998_920, 42_006_088));
        assert_eq!((count("x_encoder", "0.16"), count("x_encoder", "1")), (51_426_792, 51_411_432));
        assert_eq!((count("routing", "0.16"), count("sinkhorn", "0.16")), (7_309_800, 8_415_208));
    }

    #[test]
    fn only_maps_from_token_to_token_are_observed() {
        for (preset, layers) in [("tiny", 0), ("tiny-x_encoder", 2), ("tiny-routing", 0), ("tiny-sinkhorn", 0)] {
            let m = Model::resolve(&Source::Preset("efficient", preset), &[]).expect("a model");
            let options = Declare { taps: vec!["attentions".into()], ..Declare::default() };
            let g = m.declaration.declare(&options);
            let shape = g.map(|g| g.ty(g.outputs()[1].value).shape.to_string());
            match layers {
                0 => assert!(shape.expect_err("there are none").to_string().contains("no `attentions`"), "{preset}"),
                n => assert_eq!(shape.expect("a graph"), format!("[batch, {n}, 3, 17, 17]")),
            }
        }
    }

    #[test]
    fn relations_are_checked() {
        let e = fail("kind = 'sinkhorn'\ndepth = 1\nbucket_size = 12\nn_top_buckets = 9\nheads = 3");
        assert!(e.contains("bucket_size") && e.contains("10, 25"), "{e}");
        assert!(e.contains("non_permutative") && e.contains("heads: dim 16"), "{e}");
        let e = fail("kind = 'sinkhorn'\ndepth = 1\nbucket_size = 10\nn_top_buckets = 6\nnon_permutative = true");
        assert!(e.contains("inner.n_top_buckets") && e.contains("1 to 5"), "{e}");
        let e = fail("kind = 'routing'\ndepth = 1\nmax_seq_len = 50\nwindow_size = 12\nheads = 5");
        assert!(e.contains("inner.max_seq_len") && e.contains("48 or 60") && e.contains("heads"), "{e}");
        let e = fail("kind = 'nystrom'\ndepth = 1\nattn_values_residual_conv_kernel = 4");
        assert!(e.contains("attn_values_residual_conv_kernel") && e.contains("odd"), "{e}");
    }
}
