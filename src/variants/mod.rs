//! One page per variant; this file is the registry.
//!
//! A variant is a struct whose fields are the original constructor's arguments, and a `forward` in
//! the authoring vocabulary. `variants!` below is the only list: `list`, help, tests and errors
//! enumerate it.

pub mod argument;
mod cait;
mod cross_vit;
mod cvt;
mod declaration;
mod deepvit;
mod efficient;
pub mod era;
mod image_size;
pub mod inner;
mod levit;
mod local_vit;
mod pit;
mod rvt;
mod simple_vit;
mod t2t;
mod token;
mod vit;

use crate::build::{Scope, T};
use argument::{Argument, Arguments, Description, Reader, Reading};
use toml::{Table, Value};

pub use crate::nn::Fit;
pub use argument::PerStage;
pub use cait::CaiT;
pub use cross_vit::CrossViT;
pub use cvt::CvT;
pub use declaration::{Declaration, Declare, Registered};
pub use deepvit::DeepViT;
pub use efficient::Efficient;
pub use era::{Era, Eras, Limit};
pub use image_size::{ImageSize, Sizes, resampled_tables};
pub use levit::LeViT;
pub use local_vit::LocalViT;
pub use pit::PiT;
pub use rvt::RvT;
pub use simple_vit::SimpleViT;
pub use t2t::T2T;
pub use token::TokenModel;
pub use vit::ViT;

/// One image or patch size: an integer for a square, or `[height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size2 {
    /// A square.
    Square(usize),
    /// Height, width.
    Rect([usize; 2]),
}

impl Size2 {
    /// Height and width.
    pub const fn hw(self) -> [usize; 2] {
        match self {
            Self::Square(n) => [n, n],
            Self::Rect(hw) => hw,
        }
    }
}

/// How tokens become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// The class token.
    Cls,
    /// The mean over all tokens.
    Mean,
}

impl Pool {
    /// `[b, n, d] → [b, d]`.
    #[track_caller]
    pub fn of(self, x: T<'_>) -> T<'_> {
        match self {
            Self::Cls => x.pick(1, 0),
            Self::Mean => x.mean(&[1]),
        }
    }
}

impl Argument for Pool {
    type Value = Self;

    fn valid() -> String {
        "cls or mean".into()
    }

    fn read(key: &str, v: &Value, to: &mut Reading<'_>) -> Option<Self> {
        match v.as_str() {
            Some("cls") => Some(Self::Cls),
            Some("mean") => Some(Self::Mean),
            _ => argument::unexpected::<Self>(key, v, to),
        }
    }

    fn write(v: &Self) -> Option<Value> {
        Some(if *v == Self::Cls { "cls" } else { "mean" }.into())
    }
}

/// The values that a model computes, in the order of the file's outputs.
#[derive(Clone, Debug)]
pub struct Outputs<'g>(pub Vec<(&'static str, T<'g>)>);

impl<'g> Outputs<'g> {
    /// Class scores `[batch, classes]`.
    pub fn logits(x: T<'g>) -> Self {
        Self(vec![("logits", x)])
    }

    /// Tokens `[batch, n, width]` of a model without a head, as they enter pooling.
    pub fn last_hidden_state(x: T<'g>) -> Self {
        Self(vec![("last_hidden_state", x)])
    }
}

/// The images a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// Channels.
    pub channels: usize,
    /// Height and width; `None` where the model takes any (the default input size is 224).
    pub size: Option<[usize; 2]>,
}

/// A model. `image` and `forward` are all it takes to compile a variant of one's own.
pub trait Variant: std::fmt::Debug {
    /// The images it takes.
    fn image(&self) -> Image;

    /// Emits the model. `img` is `[batch, channels, height, width]`; `fit` says what position tables do when it is
    /// not of the size they are made for.
    fn forward<'g>(&self, s: Scope<'g>, img: T<'g>, fit: Fit) -> Outputs<'g>;

    /// Its steps, where it is a model of one sequence of tokens.
    fn tokens(&self) -> Option<&dyn TokenModel> {
        None
    }

    /// Which other images it can be declared for: any of known size that the graph of `forward` takes.
    fn sizes(&self) -> Sizes {
        Sizes { step: [1; 2], square: false, symbolic: Err("it does not say that it can") }
    }

    /// Relations between fields that types cannot say; each broken one as `key: reason`.
    fn check(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A line of the registry.
#[derive(Clone, Copy)]
pub struct Entry {
    /// As users type it.
    pub name: &'static str,
    /// What it is.
    pub title: &'static str,
    /// arXiv number.
    pub paper: &'static str,
    /// Its eras.
    pub eras: Eras,
    /// The template file that ships with the tool: presets.
    pub template: &'static str,
    /// What its arguments are.
    pub arguments: fn() -> Vec<Description>,
    /// From a table of arguments to a model and its resolved arguments.
    read: Read,
}

type Read = fn(&Entry, &Table, &Era, &mut Reading<'_>) -> Option<(Box<dyn Variant>, Table)>;

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Entry {
    /// Reads the arguments of a model of this era; everything wrong with them is added to `to`.
    pub fn read(&self, arguments: &Table, era: &'static Era, to: &mut Reading<'_>) -> Option<Declaration> {
        let (variant, arguments) = (self.read)(self, arguments, era, to)?;
        let registered = Some(Registered { variant: self.name, release: to.release.to_owned(), era, arguments });
        Some(Declaration { name: self.name.to_owned(), variant, registered, input_size: None })
    }
}

/// Keys of every model file, besides the variant's arguments.
pub const COMMON_KEYS: &[&str] = &["variant", "release", "input_size"];

fn read<V: Variant + Arguments + 'static>(
    entry: &Entry,
    table: &Table,
    era: &Era,
    to: &mut Reading<'_>,
) -> Option<(Box<dyn Variant>, Table)> {
    era.check("", table, &entry.eras, to);
    let mut from = Reader { table, era: &era.options(), path: "", to };
    from.known(entry.name, V::KEYS, COMMON_KEYS);
    let v = V::read(&mut from)?;
    to.wrong.extend(v.check());
    let arguments = v.write();
    Some((Box::new(v), arguments))
}

macro_rules! variants {
    ($($name:literal => $ty:ty, $title:literal, $paper:literal, $eras:expr;)*) => {
        /// Every variant.
        pub const VARIANTS: &[Entry] = &[$(Entry {
            name: $name,
            title: $title,
            paper: $paper,
            eras: $eras,
            template: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/templates/", $name, ".toml")),
            arguments: <$ty as Arguments>::describe,
            read: read::<$ty>,
        },)*];
    };
}

variants! {
    "vit" => ViT, "Vision Transformer", "2010.11929", era::vit::ERAS;
    "simple_vit" => SimpleViT, "SimpleViT", "2205.01580", era::simple_vit::ERAS;
    "deepvit" => DeepViT, "Deep Vision Transformer", "2103.11886", era::deepvit::ERAS;
    "cait" => CaiT, "Class-attention in Image Transformers", "2103.17239", era::cait::ERAS;
    "t2t" => T2T, "Tokens-to-Token ViT", "2101.11986", era::t2t::ERAS;
    "cross_vit" => CrossViT, "Cross-attention multi-scale Vision Transformer", "2103.14899", era::cross_vit::ERAS;
    "pit" => PiT, "Pooling-based Vision Transformer", "2103.16302", era::pit::ERAS;
    "levit" => LeViT, "LeViT", "2104.01136", era::levit::ERAS;
    "cvt" => CvT, "Convolutional vision Transformer", "2103.15808", era::cvt::ERAS;
    "local_vit" => LocalViT, "LocalViT", "2104.05707", era::local_vit::ERAS;
    "rvt" => RvT, "Rotary Vision Transformer", "2104.09864", era::rvt::ERAS;
    "efficient" => Efficient, "Vision Transformer around a transformer of choice", "2102.03902", era::efficient::ERAS;
}

/// The entry of this name; `-` and `_` are the same.
pub fn find(name: &str) -> Option<&'static Entry> {
    let name = name.replace('-', "_");
    VARIANTS.iter().find(|e| e.name == name)
}

/// The kinds of intermediate values that can be asked for.
pub const TAPS: &[&str] = &["attentions"];

/// Class scores of `tokens`, or the tokens themselves where there are no classes.
fn classify<'g>(classes: usize, tokens: T<'g>, head: impl FnOnce(T<'g>) -> T<'g>) -> Outputs<'g> {
    if classes == 0 { Outputs::last_hidden_state(tokens) } else { Outputs::logits(head(tokens)) }
}

/// Reports `num_classes = 0` of a model that has no one sequence of tokens.
fn needs_head(classes: usize, why: &str) -> Option<String> {
    (classes == 0).then(|| {
        format!("num_classes: 0 is a model without a head, which outputs its tokens; {why}; 1 or more is valid")
    })
}

/// Rows and columns of patches of an image.
fn grid(image: Size2, patch: Size2) -> [usize; 2] {
    [0, 1].map(|i| image.hw()[i] / patch.hw()[i])
}

/// Whether the image divides into patches.
fn divides_into_patches(image: Size2, patch: Size2) -> Vec<String> {
    let sides = ["height", "width"].into_iter().zip(image.hw()).zip(patch.hw());
    sides.filter_map(|((side, n), p)| divides(&format!("image_size: {side}"), n, "patch_size", p)).collect()
}

/// Whether `n`, called `what`, is a multiple of `p`, called `by`; if not, what is.
fn divides(what: &str, n: usize, by: &str, p: usize) -> Option<String> {
    let (below, above) = (n / p * p, n.div_ceil(p) * p);
    let near = if below > 0 { format!("{below} or {above}") } else { above.to_string() };
    (!n.is_multiple_of(p)).then(|| format!("{what} {n} is not divisible by {by} {p}; {near} would"))
}

/// The smallest multiple of both, neither of them 0.
fn least_common_multiple(a: usize, b: usize) -> usize {
    let (mut gcd, mut rest) = (a, b);
    while rest != 0 {
        (gcd, rest) = (rest, gcd % rest);
    }
    (a / gcd).saturating_mul(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::{Model, Source, parse_set};

    /// Tokens without a head, by variant: `[batch, n, d]` of its preset `tiny`.
    const TOKENS: &[(&str, &str)] = &[
        ("vit", "[batch, 5, 24]"),
        ("simple_vit", "[batch, 4, 24]"),
        ("deepvit", "[batch, 5, 24]"),
        ("cait", "[batch, 5, 24]"),
        ("t2t", "[batch, 26, 24]"),
        ("pit", "[batch, 5, 16]"),
        ("levit", "[batch, 4, 12]"),
        ("cvt", "[batch, 4, 10]"),
        ("local_vit", "[batch, 17, 4]"),
        ("rvt", "[batch, 5, 24]"),
        ("efficient", "[batch, 17, 24]"),
    ];

    #[test]
    fn no_classes_is_no_head_everywhere() {
        let none = parse_set("num_classes=0").expect("a setting");
        for (v, era) in VARIANTS.iter().flat_map(|v| v.eras.list.iter().map(move |era| (v, era))) {
            let set = [none.clone(), ("release".to_owned(), era.releases[1].into())];
            let m = match Model::resolve(&Source::Preset(v.name, "tiny"), &set) {
                Ok(m) => m.declaration,
                Err(e) => {
                    assert_eq!(v.name, "cross_vit", "{e}");
                    assert!(e.to_string().contains("num_classes: 0 is a model without a head"), "{e}");
                    continue;
                }
            };
            let g = m.declare(&Declare::default()).unwrap_or_else(|e| panic!("{}: {e}", v.name));
            let [tokens] = g.outputs() else { panic!("{}: one output", v.name) };
            let shape = g.ty(tokens.value).shape.to_string();
            assert!(TOKENS.contains(&(v.name, &shape)), "{} {era}: {shape}", v.name);
            assert_eq!(tokens.name, "last_hidden_state");
            let head = |path: &str| ["mlp_head", "to_logits", "layers.5"].iter().any(|h| path.starts_with(h));
            assert!(g.params().all(|p| !head(&p.path)), "{}", v.name);
        }
        let two = [none, parse_set("num_distill_classes=3").expect("a setting")];
        let e = Model::resolve(&Source::Preset("levit", "tiny"), &two).expect_err("two heads").to_string();
        assert!(e.contains("num_classes: 0 is a model without a head") && e.contains("1 or more is valid"), "{e}");
    }

    #[test]
    fn a_dropout_of_zero_may_be_an_integer() {
        for v in VARIANTS.iter().filter(|v| !["efficient", "simple_vit"].contains(&v.name)) {
            let set = [parse_set("dropout=0").expect("a setting")];
            let m = Model::resolve(&Source::Preset(v.name, "tiny"), &set).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(m.to_table()["dropout"].as_float(), Some(0.0), "{}", v.name);
        }
    }
}
