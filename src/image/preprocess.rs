//! Settings for preparing an image as the input of a model, and their JSON form.
//!
//! The JSON is that of Hugging Face's `preprocessor_config.json`, so the settings of a model file can be
//! used there and their files can be used here. Ambiguous settings are refused.

use serde::{Deserialize, Serialize};

/// The size, crop and normalization of a model's input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Config", into = "Config")]
pub struct Preprocessing {
    /// Height and width of the input, cut out of the center after resizing.
    pub image_size: [usize; 2],
    /// The step before the crop.
    pub resize: Resizing,
    /// Factor from bytes to the range of `mean` and `std`, normally 1/255.
    pub rescale: f64,
    /// The mean, subtracted after rescaling; one number for each channel: three for RGB, one for gray.
    pub mean: Vec<f32>,
    /// The deviation, by which the difference is divided; as many numbers as `mean`.
    pub std: Vec<f32>,
}

/// The resizing of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resizing {
    /// The target size.
    pub mode: ResizeMode,
    /// The filter, antialiased when it shrinks an image, as in Pillow.
    pub interpolation: Interpolation,
}

/// The size to which an image is resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResizeMode {
    /// The length of the shorter edge; the longer one keeps the proportions.
    ShortestEdge(usize),
    /// Height and width, whatever the proportions of the image.
    Exact([usize; 2]),
}

/// A resampling filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpolation {
    /// Triangle filter; Pillow's `BILINEAR` (2).
    Bilinear,
    /// Cubic convolution with a = -0.5; Pillow's `BICUBIC` (3).
    Bicubic,
}

/// An image ready for a model.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// `f32[1, channels, height, width]`.
    pub pixel_values: crate::ir::Tensor,
    /// The same pixels for display: resized and cropped, not normalized.
    pub shown: image::RgbImage,
}

/// An error for settings that cannot be applied.
#[allow(missing_docs, reason = "the message of a variant names its fields")]
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum PreprocessingError {
    /// A field is missing or has an unknown value.
    #[error("preprocessing: `{field}`: {problem}")]
    Field { field: &'static str, problem: String },
    /// The resized image would be too large.
    #[error("an image of {width}x{height} pixels would become {}x{} pixels: it is too narrow to be resized", to.0, to.1)]
    TooNarrow { width: u32, height: u32, to: (u64, u64) },
}

impl Preprocessing {
    /// Returns the usual evaluation settings: the shorter edge to size/0.875 (rounded down), bicubic, center
    /// crop; `ImageNet` mean and deviation for three channels, 0.5 for one. Returns `None` for other channel
    /// counts, which photographs do not have.
    pub fn standard(image_size: [usize; 2], channels: usize) -> Option<Self> {
        let (mean, std) = match channels {
            1 => (vec![0.5], vec![0.5]),
            3 => (vec![0.485, 0.456, 0.406], vec![0.229, 0.224, 0.225]),
            _ => return None,
        };
        // The longer side decides where the input is not square, so that no image needs padding.
        let edge = image_size[0].max(image_size[1]) * 8 / 7;
        let resize = Resizing { mode: ResizeMode::ShortestEdge(edge), interpolation: Interpolation::Bicubic };
        Some(Self { image_size, resize, rescale: 1.0 / 255.0, mean, std })
    }

    /// Returns the number of channels of the input: 1 or 3.
    pub fn channels(&self) -> usize {
        self.mean.len()
    }

    /// Checks the conditions that the types do not ensure.
    ///
    /// # Errors
    /// Returns [`PreprocessingError::Field`] with the first field that is wrong.
    pub fn check(&self) -> Result<(), PreprocessingError> {
        let bad = |field, problem: &str| Err(PreprocessingError::Field { field, problem: problem.to_owned() });
        let [h, w] = match self.resize.mode {
            ResizeMode::ShortestEdge(n) => [n, n],
            ResizeMode::Exact(size) => size,
        };
        let sane = |n: usize| (1..=LARGEST).contains(&n);
        if ![h, w].into_iter().all(sane) {
            return bad("size", &format!("expected 1 to {LARGEST}"));
        }
        if !self.image_size.into_iter().all(sane) {
            return bad("crop_size", &format!("expected 1 to {LARGEST}"));
        }
        if !matches!(self.mean.len(), 1 | 3) {
            return bad("image_mean", "expected one number (gray) or three (RGB)");
        }
        if self.std.len() != self.mean.len() {
            return bad("image_std", "expected as many numbers as in `image_mean`");
        }
        if !self.mean.iter().all(|x| x.is_finite()) || !self.rescale.is_finite() {
            return bad("image_mean", "expected finite numbers");
        }
        if !self.std.iter().all(|x| x.is_finite() && *x > 0.0) {
            return bad("image_std", "expected positive numbers");
        }
        Ok(())
    }
}

/// The longest side of an input.
const LARGEST: usize = 8192;

/// The JSON form, with Hugging Face's names. Other names are ignored.
#[derive(Clone, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "a file format of others")]
struct Config {
    #[serde(default = "yes")]
    do_resize: bool,
    size: Option<Size>,
    #[serde(default = "bilinear")]
    resample: u8,
    #[serde(default)]
    do_center_crop: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crop_size: Option<Size>,
    #[serde(default = "yes")]
    do_rescale: bool,
    #[serde(default = "one_255th")]
    rescale_factor: f64,
    #[serde(default = "yes")]
    do_normalize: bool,
    image_mean: Vec<f32>,
    image_std: Vec<f32>,
}

const fn yes() -> bool {
    true
}
const fn bilinear() -> u8 {
    2
}
const fn one_255th() -> f64 {
    1.0 / 255.0
}

/// A size as Hugging Face writes it; a plain number is a square.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(untagged)]
enum Size {
    Square(usize),
    Exact { height: usize, width: usize },
    Shortest { shortest_edge: usize },
}

impl From<Preprocessing> for Config {
    fn from(p: Preprocessing) -> Self {
        let exact = |[height, width]: [usize; 2]| Size::Exact { height, width };
        let (size, whole) = match p.resize.mode {
            ResizeMode::ShortestEdge(shortest_edge) => (Size::Shortest { shortest_edge }, false),
            ResizeMode::Exact(size) => (exact(size), size == p.image_size),
        };
        Self {
            do_resize: true,
            size: Some(size),
            resample: if p.resize.interpolation == Interpolation::Bilinear { 2 } else { 3 },
            do_center_crop: !whole,
            crop_size: (!whole).then(|| exact(p.image_size)),
            do_rescale: true,
            rescale_factor: p.rescale,
            do_normalize: true,
            image_mean: p.mean,
            image_std: p.std,
        }
    }
}

impl TryFrom<Config> for Preprocessing {
    type Error = PreprocessingError;

    fn try_from(c: Config) -> Result<Self, PreprocessingError> {
        let bad = |field, problem: &str| PreprocessingError::Field { field, problem: problem.to_owned() };
        if !c.do_resize {
            return Err(bad("do_resize", "expected true: a model takes one size"));
        }
        let fixed = |size| match size {
            Size::Square(n) => Some([n, n]),
            Size::Exact { height, width } => Some([height, width]),
            Size::Shortest { .. } => None,
        };
        let mode = match c.size {
            Some(Size::Shortest { shortest_edge }) => ResizeMode::ShortestEdge(shortest_edge),
            Some(size) => ResizeMode::Exact(fixed(size).expect("only the shortest edge leaves a side open")),
            None => return Err(bad("size", "missing: expected {height, width} or {shortest_edge}")),
        };
        let image_size = match (c.do_center_crop, mode) {
            (true, _) => c.crop_size.and_then(fixed).ok_or_else(|| bad("crop_size", "expected {height, width}"))?,
            (false, ResizeMode::Exact(size)) => size,
            (false, ResizeMode::ShortestEdge(_)) => {
                return Err(bad("do_center_crop", "expected true beside `shortest_edge`: a model takes one size"));
            }
        };
        let interpolation = match c.resample {
            2 => Interpolation::Bilinear,
            3 => Interpolation::Bicubic,
            _ => return Err(bad("resample", "expected 2 (bilinear) or 3 (bicubic)")),
        };
        let (mean, std) = if c.do_normalize {
            (c.image_mean, c.image_std)
        } else {
            (vec![0.0; c.image_mean.len()], vec![1.0; c.image_mean.len()])
        };
        let rescale = if c.do_rescale { c.rescale_factor } else { 1.0 };
        let settings = Self { image_size, resize: Resizing { mode, interpolation }, rescale, mean, std };
        settings.check()?;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_settings_are_those_of_imagenet_evaluation() {
        let p = Preprocessing::standard([224, 224], 3).expect("three channels");
        assert_eq!(p.resize.mode, ResizeMode::ShortestEdge(256));
        assert_eq!(
            Preprocessing::standard([256, 256], 1).expect("one channel").resize.mode,
            ResizeMode::ShortestEdge(292)
        );
        assert_eq!(Preprocessing::standard([224, 224], 4), None);
    }

    #[test]
    fn settings_survive_json() {
        let standard = Preprocessing::standard([224, 192], 3).expect("three channels");
        let exact = Resizing { mode: ResizeMode::Exact([224, 192]), interpolation: Interpolation::Bilinear };
        for p in [standard.clone(), Preprocessing { resize: exact, ..standard }] {
            let json = serde_json::to_string(&p).expect("plain data");
            assert_eq!(serde_json::from_str::<Preprocessing>(&json).expect("what was written"), p, "{json}");
        }
    }

    #[test]
    fn configurations_from_elsewhere_are_understood() {
        let read = |json: &str| serde_json::from_str::<Preprocessing>(json);
        let vit = read(
            r#"{"do_normalize": true, "do_resize": true, "feature_extractor_type": "ViTFeatureExtractor",
                "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 2, "size": 224}"#,
        );
        let vit = vit.expect("the file of google/vit-base-patch16-224");
        assert_eq!((vit.image_size, vit.resize.mode), ([224, 224], ResizeMode::Exact([224, 224])));
        let deit = read(
            r#"{"crop_size": 224, "do_center_crop": true, "do_normalize": true, "do_resize": true, "size": 256,
                "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 3}"#,
        );
        let deit = deit.expect("the file of facebook/deit-base-patch16-224");
        assert_eq!((deit.image_size, deit.resize.mode), ([224, 224], ResizeMode::Exact([256, 256])));
    }

    #[test]
    fn what_cannot_be_carried_out_is_named() {
        let error =
            |json: &str| serde_json::from_str::<Preprocessing>(json).map_err(|e| e.to_string()).expect_err(json);
        let normalize = r#""image_mean": [0.5], "image_std": [0.5]"#;
        assert!(error(&format!(r#"{{"size": {{"shortest_edge": 256}}, {normalize}}}"#)).contains("do_center_crop"));
        assert!(error(&format!(r#"{{"size": 0, {normalize}}}"#)).contains("`size`"));
        assert!(error(&format!(r#"{{"size": 32, "resample": 1, {normalize}}}"#)).contains("resample"));
        assert!(error(r#"{"size": 32, "image_mean": [0.5, 0.5], "image_std": [1, 1]}"#).contains("image_mean"));
        assert!(error(r#"{"size": 32, "image_mean": [0.5], "image_std": [0]}"#).contains("image_std"));
    }
}
