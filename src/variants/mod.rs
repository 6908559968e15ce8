//! One page per variant; this file is the registry.
//!
//! A variant is a struct whose fields are the original constructor's arguments, and a `forward` in
//! the authoring vocabulary. `variants!` below is the only list: `list`, help, tests and errors
//! enumerate it.

mod cait;
mod cross_vit;
mod cvt;
mod deepvit;
mod efficient;
mod image_size;
pub mod inner;
mod levit;
mod local_vit;
mod pit;
mod rvt;
mod t2t;
mod vit;

use crate::build::{BuildErrors, Builder, Scope, T};
use crate::ir::{DType, Dim, Stage, TensorType};
use crate::nn::{Fit, Release};
use crate::ops::Graph;
use serde::{Deserialize, Serialize};

pub use cait::CaiT;
pub use cross_vit::CrossViT;
pub use cvt::CvT;
pub use deepvit::DeepViT;
pub use efficient::Efficient;
pub use image_size::{ImageSize, Sizes, resampled_tables};
pub use levit::LeViT;
pub use local_vit::LocalViT;
pub use pit::PiT;
pub use rvt::RvT;
pub use t2t::T2T;
pub use vit::ViT;

/// One image or patch size: an integer for a square, or `[height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged, expecting = "an integer or [height, width]")]
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

/// One number for all stages, or a list with one for each.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged, expecting = "an integer or a list of integers")]
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

    /// One number for each of `stages`; a list that is too short goes on with its last entry.
    pub fn of(&self, stages: usize) -> Vec<usize> {
        (0..stages).map(|i| self.at(i)).collect()
    }
}

/// How tokens become one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pool {
    /// The class token.
    #[default]
    Cls,
    /// The mean over all tokens.
    Mean,
}

/// What a model computes, in the order of the file's outputs.
#[derive(Clone, Debug)]
pub struct Outputs<'g>(pub Vec<(&'static str, T<'g>)>);

impl<'g> Outputs<'g> {
    /// Class scores `[batch, classes]`.
    pub fn logits(x: T<'g>) -> Self {
        Self(vec![("logits", x)])
    }
    /// Tokens of a model without a head.
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

/// A model declaration.
pub trait Variant: std::fmt::Debug {
    /// The images it takes.
    fn image(&self) -> Image;

    /// Relations between fields that types cannot say; each broken one as `key: reason`.
    fn check(&self, r: Release) -> Vec<String>;

    /// Which other images it can be declared for.
    fn sizes(&self, r: Release) -> Sizes;

    /// Emits the model. `img` is `[batch, channels, height, width]`; `fit` says what position tables do when it is
    /// not of the size they are made for.
    fn forward<'g>(&self, r: Release, s: Scope<'g>, img: T<'g>, fit: Fit) -> Outputs<'g>;

    /// The resolved arguments, defaults included.
    fn arguments(&self) -> toml::Table;
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
    /// Releases that have it.
    pub releases: &'static [Release],
    /// The template file that ships with the tool: presets.
    pub template: &'static str,
    /// From arguments to a declaration.
    pub parse: fn(toml::Table) -> Result<Box<dyn Variant>, toml::de::Error>,
    /// The names of its arguments.
    pub keys: fn() -> &'static [&'static str],
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

macro_rules! variants {
    ($($name:literal => $ty:ty, $title:literal, $paper:literal, $releases:expr;)*) => {
        /// Every variant.
        pub const VARIANTS: &[Entry] = &[$(Entry {
            name: $name,
            title: $title,
            paper: $paper,
            releases: $releases,
            template: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/templates/", $name, ".toml")),
            parse: |t| Ok(Box::new(t.try_into::<$ty>()?)),
            keys: || serde_fields::<$ty>(),
        },)*];
    };
}

variants! {
    "vit" => ViT, "Vision Transformer", "2010.11929", &Release::ALL;
    "deepvit" => DeepViT, "Deep Vision Transformer", "2103.11886", &Release::ALL;
    "cait" => CaiT, "Class-attention in Image Transformers", "2103.17239", &Release::ALL;
    "t2t" => T2T, "Tokens-to-Token ViT", "2101.11986", &Release::ALL;
    "cross_vit" => CrossViT, "Cross-attention multi-scale Vision Transformer", "2103.14899", &Release::ALL;
    "pit" => PiT, "Pooling-based Vision Transformer", "2103.16302", &Release::ALL;
    "levit" => LeViT, "LeViT", "2104.01136", &Release::ALL;
    "cvt" => CvT, "Convolutional vision Transformer", "2103.15808", &Release::ALL;
    "local_vit" => LocalViT, "LocalViT", "2104.05707", &Release::ALL;
    "rvt" => RvT, "Rotary Vision Transformer", "2104.09864", &Release::ALL;
    "efficient" => Efficient, "Vision Transformer around a transformer of choice", "2102.03902", &Release::ALL;
}

/// The entry of this name; `-` and `_` are the same.
pub fn find(name: &str) -> Option<&'static Entry> {
    let name = name.replace('-', "_");
    VARIANTS.iter().find(|e| e.name == name)
}

/// The field names that `T` deserializes from.
fn serde_fields<T: for<'d> Deserialize<'d>>() -> &'static [&'static str] {
    use serde::de::{Deserializer, Error, Visitor, value::Error as Stop};
    struct Spy<'a>(&'a mut &'static [&'static str]);
    impl<'de> Deserializer<'de> for Spy<'_> {
        type Error = Stop;
        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
            Err(Stop::custom("only structs are asked for"))
        }
        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Stop> {
            *self.0 = fields;
            Err(Stop::custom("the names are all that is wanted"))
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let mut fields: &'static [&'static str] = &[];
    let _ = T::deserialize(Spy(&mut fields));
    fields
}

/// Resolved arguments of a declaration, in order of its fields.
fn arguments<V: Serialize>(v: &V) -> toml::Table {
    toml::Table::try_from(v).expect("declarations are plain numbers, names and lists")
}

/// The default of `channels`.
fn channels() -> usize {
    3
}

/// The default of an argument: this number.
fn number<const N: usize>() -> usize {
    N
}

/// The default of `dim_head`.
fn dim_head() -> usize {
    64
}

/// Rows and columns of patches of an image.
fn grid(image: Size2, patch: Size2) -> [usize; 2] {
    [0, 1].map(|i| image.hw()[i] / patch.hw()[i])
}

/// Whether the image divides in patches, and whether the release takes rectangles.
fn patch_grid(r: Release, image: Size2, patch: Size2) -> Vec<String> {
    let mut wrong = Vec::new();
    for (key, v) in [("image_size", image), ("patch_size", patch)] {
        if r == Release::V0_16 && matches!(v, Size2::Rect([h, w]) if h != w) {
            wrong.push(format!("{key}: release 0.16 takes one integer; [height, width] needs release = \"1\""));
        }
    }
    for (i, side) in ["height", "width"].into_iter().enumerate() {
        let (n, p) = (image.hw()[i], patch.hw()[i]);
        wrong.extend(divides(&format!("image_size: {side}"), n, "patch_size", p));
    }
    wrong
}

/// Whether `n`, called `what`, is a multiple of `p`, called `by`; if not, what is.
fn divides(what: &str, n: usize, by: &str, p: usize) -> Option<String> {
    let (below, above) = (n / p * p, n.div_ceil(p) * p);
    let near = if below > 0 { format!("{below} or {above}") } else { above.to_string() };
    (!n.is_multiple_of(p)).then(|| format!("{what} {n} does not divide by {by} {p}; {near} would"))
}

/// The smallest multiple of both, neither of them 0.
fn least_common_multiple(a: usize, b: usize) -> usize {
    let (mut gcd, mut rest) = (a, b);
    while rest != 0 {
        (gcd, rest) = (rest, gcd % rest);
    }
    (a / gcd).saturating_mul(b)
}

/// What a variant that always has a head says of `num_classes = 0`.
fn no_classes(num_classes: usize) -> Option<String> {
    (num_classes == 0).then(|| "num_classes: 0 is out of range; the head needs at least 1".into())
}

/// What a variant says of `channels` that got this argument in release 1.
fn not_rgb(r: Release, channels: usize) -> Option<String> {
    (r == Release::V0_16 && channels != 3)
        .then(|| format!("channels: release 0.16 takes only 3; {channels} needs release = \"1\""))
}

/// What to declare besides the model itself.
#[derive(Clone, Debug, Default)]
pub struct Declare {
    /// A number of images, or `None` for a symbolic batch.
    pub batch: Option<usize>,
    /// Height and width of the images fed; `None` for the model's own.
    pub input_size: Option<[usize; 2]>,
    /// Which images the model is declared for.
    pub image_size: ImageSize,
    /// Intermediate values to give out too; `attentions` is the only kind.
    pub taps: Vec<String>,
}

/// The kinds of intermediate values that can be asked for.
pub const TAPS: &[&str] = &["attentions"];

/// Builds the graph of a declaration: input `pixel_values`, outputs as the model names them, and taps.
pub fn declare(name: &str, v: &dyn Variant, r: Release, options: &Declare) -> Result<Graph, BuildErrors> {
    let b = Builder::new(name, Stage::Built);
    options.taps.iter().for_each(|t| b.want(t));
    let image = v.image();
    let ([h, w], fit) = match options.image_size.decide(name, v, r, options.input_size) {
        Ok(decided) => decided,
        Err(e) => {
            b.error(e, &[]);
            return b.finish();
        }
    };
    let batch = options.batch.map_or_else(|| b.symbol("batch"), Dim::from);
    let shape = [batch, image.channels.into(), h, w];
    let img = b.input("pixel_values", TensorType::new(DType::F32, shape));
    let outputs = v.forward(r, b.root(), img, fit);
    for (name, t) in &outputs.0 {
        b.output(name, *t);
    }
    for tap in &options.taps {
        give_out(&b, tap);
    }
    b.finish()
}

/// All observed values stacked as `[batch, layers, …]` when their shapes agree, else one output for each.
fn give_out(b: &Builder, tap: &str) {
    let seen = b.observed(tap);
    let Some(first) = seen.first() else {
        b.error(format!("the model has no `{tap}` to give out"), &[]);
        return;
    };
    if seen.iter().all(|t| t.ty() == first.ty()) {
        let layers: Vec<T<'_>> = seen.iter().map(|t| t.unsqueeze(1)).collect();
        b.output(tap, T::concat(&layers, 1));
    } else {
        seen.iter().enumerate().for_each(|(i, t)| b.output(&format!("{tap}.{i}"), *t));
    }
}
