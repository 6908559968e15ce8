//! Applies a [`Preprocessing`]: resizes as Pillow does, crops and rounds as torchvision does.

use super::decode::{MAX_PIXELS, luma};
use super::preprocess::{Interpolation, Prepared, Preprocessing, PreprocessingError, ResizeMode, Resizing};
use crate::ir::Tensor;
use fast_image_resize::images::{Image, ImageRef, TypedImage, TypedImageRef};
use fast_image_resize::pixels::F32;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{DynamicImage, GrayImage, RgbImage};

impl Preprocessing {
    /// Prepares one image for a model.
    ///
    /// # Errors
    /// Returns [`PreprocessingError::Field`] if the settings are inconsistent and
    /// [`PreprocessingError::TooNarrow`] if the resized image would be too large.
    pub fn apply(&self, image: &DynamicImage) -> Result<Prepared, PreprocessingError> {
        self.check()?;
        let (width, height) = (image.width(), image.height());
        let (to_width, to_height) = resized_size(self.resize.mode, width, height)?;
        let size = [to_width, to_height];
        let gray = self.channels() == 1;
        let bytes = if gray {
            scale(luma(image).as_raw(), [width, height], size, PixelType::U8, self.resize)
        } else {
            scale(image.to_rgb8().as_raw(), [width, height], size, PixelType::U8x3, self.resize)
        };
        let cropped = center_crop(&bytes, size, self.image_size, self.channels());
        let [h, w] = self.image_size;
        let shown = if gray {
            let gray = GrayImage::from_raw(w as u32, h as u32, cropped.clone()).expect("one byte for every pixel");
            DynamicImage::from(gray).to_rgb8()
        } else {
            RgbImage::from_raw(w as u32, h as u32, cropped.clone()).expect("three bytes for every pixel")
        };
        Ok(Prepared { pixel_values: self.normalize(&cropped), shown })
    }

    /// Converts interleaved bytes to `f32[1, C, H, W]`.
    fn normalize(&self, bytes: &[u8]) -> Tensor {
        let channels = self.channels();
        let mut values = Vec::with_capacity(bytes.len());
        for (c, (&mean, &std)) in self.mean.iter().zip(&self.std).enumerate() {
            let table: Vec<f32> = (0..=255u8)
                .map(|x| ((f64::from(x) * self.rescale - f64::from(mean)) / f64::from(std)) as f32)
                .collect();
            values.extend(bytes.iter().skip(c).step_by(channels).map(|&x| table[usize::from(x)]));
        }
        Tensor::new(&[1, channels, self.image_size[0], self.image_size[1]], values)
    }
}

/// Returns width and height after resizing, rounded as in torchvision's `Resize`: the longer side is rounded down.
fn resized_size(mode: ResizeMode, width: u32, height: u32) -> Result<(u32, u32), PreprocessingError> {
    let (w, h) = (u64::from(width.max(1)), u64::from(height.max(1)));
    let to = match mode {
        ResizeMode::Exact([h, w]) => (w as u64, h as u64),
        ResizeMode::ShortestEdge(n) if w <= h => (n as u64, n as u64 * h / w),
        ResizeMode::ShortestEdge(n) => (n as u64 * w / h, n as u64),
    };
    // `scale` holds an image of the new width and the old height in between.
    if to.0.saturating_mul(to.1.max(h)) > MAX_PIXELS {
        return Err(PreprocessingError::TooNarrow { width, height, to });
    }
    Ok((to.0 as u32, to.1 as u32))
}

/// Resizes interleaved bytes, widths first. Both steps round and clip to bytes, so their order is visible
/// where a cubic filter overshoots: Pillow resizes rows first, the resizer by itself columns.
fn scale(bytes: &[u8], from: [u32; 2], to: [u32; 2], kind: PixelType, how: Resizing) -> Vec<u8> {
    let filter = match how.interpolation {
        Interpolation::Bilinear => FilterType::Bilinear,
        Interpolation::Bicubic => FilterType::CatmullRom,
    };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false);
    let step = |bytes: &[u8], from: [u32; 2], to: [u32; 2]| {
        let source = ImageRef::new(from[0], from[1], bytes, kind).expect("the bytes of a decoded image");
        let mut target = Image::new(to[0], to[1], kind);
        Resizer::new().resize(&source, &mut target, &options).expect("both images have one pixel type");
        target.into_vec()
    };
    let between = [to[0], from[1]];
    let wide = if from == between { bytes.to_vec() } else { step(bytes, from, between) };
    if between == to { wide } else { step(&wide, between, to) }
}

/// Cuts `[height, width]` out of the center of interleaved bytes of `[width, height]`, as torchvision's
/// `CenterCrop` does: halves round to even, and an image that is too small is first padded with zeros.
fn center_crop(bytes: &[u8], size: [u32; 2], to: [usize; 2], channels: usize) -> Vec<u8> {
    let [width, height] = size.map(|n| n as usize);
    let ([top, rows, above], [left, columns, before]) = (crop_span(height, to[0]), crop_span(width, to[1]));
    let mut out = vec![0; to[0] * to[1] * channels];
    for row in 0..rows {
        let source = ((top + row) * width + left) * channels;
        let target = ((above + row) * to[1] + before) * channels;
        let n = columns * channels;
        out[target..target + n].copy_from_slice(&bytes[source..source + n]);
    }
    out
}

/// Returns, for one axis, the first pixel taken, the number of pixels and the number of zeros before them.
fn crop_span(length: usize, to: usize) -> [usize; 3] {
    if length < to {
        [0, length, (to - length) / 2]
    } else {
        [((length - to) as f64 / 2.0).round_ties_even() as usize, to, 0]
    }
}

/// Resizes a picture for display, without a particular rounding.
pub(super) fn smooth(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    let how = Resizing { mode: ResizeMode::Exact([1, 1]), interpolation: Interpolation::Bicubic };
    let bytes = scale(image.as_raw(), [image.width(), image.height()], [width, height], PixelType::U8x3, how);
    RgbImage::from_raw(width, height, bytes).expect("three bytes for every pixel")
}

/// Resizes a map of `[height, width]` numbers in 0..=1, bicubic, limited to 0..=1.
pub(super) fn smooth_map(values: &[f32], grid: [usize; 2], width: u32, height: u32) -> Vec<f32> {
    let pixels: Vec<F32> = values.iter().map(|&v| F32::new(v)).collect();
    let source = TypedImageRef::new(grid[1] as u32, grid[0] as u32, &pixels).expect("one number for every patch");
    let mut target = TypedImage::<F32>::new(width, height);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
    Resizer::new().resize_typed(&source, &mut target, &options).expect("no crop is asked for");
    target.pixels().iter().map(|p| p.0.clamp(0.0, 1.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn fixture(name: &str) -> DynamicImage {
        super::super::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/image").join(name))
            .expect("a fixture")
    }

    fn settings(mode: ResizeMode, interpolation: Interpolation, image_size: [usize; 2]) -> Preprocessing {
        let resize = Resizing { mode, interpolation };
        Preprocessing { image_size, resize, rescale: 1.0 / 255.0, mean: vec![0.0; 3], std: vec![1.0; 3] }
    }

    #[test]
    fn resizing_agrees_with_pillow() {
        for (name, interpolation) in [("bilinear", Interpolation::Bilinear), ("bicubic", Interpolation::Bicubic)] {
            for (w, h) in [(29, 23), (16, 40), (64, 64), (128, 99), (7, 5)] {
                let p = settings(ResizeMode::Exact([h, w]), interpolation, [h, w]);
                let ours = p.apply(&fixture("source.png")).expect("sound settings");
                let theirs = fixture(&format!("{name}_{w}x{h}.png")).to_rgb8();
                let worst = ours.shown.iter().zip(theirs.iter()).map(|(a, b)| a.abs_diff(*b)).max();
                assert!(worst <= Some(1), "{name} {w}x{h}: {worst:?}");
                let expected: Vec<f32> =
                    (0..3).flat_map(|c| theirs.pixels().map(move |p| f32::from(p.0[c]) / 255.0)).collect();
                let expected = Tensor::new(&[1, 3, h, w], expected);
                let difference = ours.pixel_values.max_abs_diff(&expected).expect("one shape");
                assert!(difference <= 1.0 / 255.0 + 1e-6, "{name} {w}x{h}: {difference}");
            }
        }
    }

    #[test]
    fn sizes_round_as_in_torchvision() {
        let size = |n, w, h| resized_size(ResizeMode::ShortestEdge(n), w, h);
        assert_eq!(size(256, 451, 300), Ok((384, 256)));
        assert_eq!(size(256, 300, 451), Ok((256, 384)));
        assert_eq!(size(64, 61, 47), Ok((83, 64)));
        assert_eq!(size(7, 7, 7), Ok((7, 7)));
        assert!(matches!(size(256, 1, 60000), Err(PreprocessingError::TooNarrow { .. })));
        assert_eq!(crop_span(7, 4), [2, 4, 0], "1.5 rounds to 2");
        assert_eq!(crop_span(9, 4), [2, 4, 0], "2.5 rounds to 2");
        assert_eq!(crop_span(3, 6), [0, 3, 1], "the odd zero goes behind");
    }

    #[test]
    fn a_crop_larger_than_the_image_is_padded_with_black() {
        let image = DynamicImage::from(RgbImage::from_pixel(2, 2, image::Rgb([255, 0, 255])));
        let p = settings(ResizeMode::Exact([2, 2]), Interpolation::Bilinear, [4, 3]);
        let out = p.apply(&image).expect("sound settings");
        let lit: Vec<bool> = out.shown.pixels().map(|p| p.0[0] == 255).collect();
        let (o, x) = (false, true);
        assert_eq!(lit, [o, o, o, x, x, o, x, x, o, o, o, o]);
    }

    #[test]
    fn one_channel_is_normalized_gray() {
        let p = Preprocessing::standard([8, 8], 1).expect("one channel");
        let out =
            p.apply(&DynamicImage::from(RgbImage::from_pixel(5, 9, image::Rgb([255; 3])))).expect("sound settings");
        assert_eq!(out.pixel_values, Tensor::new(&[1, 1, 8, 8], vec![1.0f32; 64]));
    }
}
