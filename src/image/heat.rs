//! Draws attention: the photograph, the attention over it, and every head by itself.
//!
//! ```text
//! +-------+ +-------+ +--+ +--+
//! | photo | | mean  | |h0| |h1|
//! |       | |       | +--+ +--+
//! |       | |       | |h2| |h3|
//! +-------+ +-------+ +--+ +--+
//! ```

use super::colormap::inferno;
use super::resample::{smooth, smooth_map};
use super::saliency::{AttentionError, AttentionLayout, patch_weights, rollout};
use crate::files::AtomicFile;
use crate::ir::Tensor;
use image::imageops::replace;
use image::{ImageFormat, Rgb, RgbImage};
use std::path::Path;

/// Options of [`draw`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeatOptions {
    /// The layer, counted from 0; `None` is the last one whose keys are a grid.
    pub layer: Option<usize>,
    /// Shows the attention rollout up to that layer in the large overlay, instead of the mean over
    /// its heads.
    pub rollout: bool,
    /// Height of the picture in pixels.
    pub height: u32,
}

impl Default for HeatOptions {
    fn default() -> Self {
        Self { layer: None, rollout: false, height: 448 }
    }
}

/// Pixels between the parts; there is no margin around them.
const GAP: u32 = 6;
const BACKGROUND: Rgb<u8> = Rgb([255; 3]);

/// Draws attention over the photograph as the model received it. `layers` are `[heads, queries,
/// keys]` of one image and `layouts` describe their tokens, one for each layer.
///
/// # Errors
/// Returns an [`AttentionError`] if a tensor and its layout disagree, no layer can be drawn, or rollout is
/// requested and the tokens change between layers.
pub fn draw(
    photo: &RgbImage,
    layers: &[Tensor],
    layouts: &[AttentionLayout],
    options: &HeatOptions,
) -> Result<RgbImage, AttentionError> {
    if layers.len() != layouts.len() {
        return Err(AttentionError::Layouts { layers: layers.len(), layouts: layouts.len() });
    }
    let layer = match options.layer {
        Some(layer) if layer >= layers.len() => {
            return Err(AttentionError::NoSuchLayer { layer, layers: layers.len() });
        }
        Some(layer) => layer,
        None => {
            let drawable = layouts.iter().rposition(|l| l.keys.grid.is_some());
            drawable.ok_or(AttentionError::NoGrid { layers: layers.len() })?
        }
    };
    let layout = &layouts[layer];
    let grid = layout.keys.grid.ok_or(AttentionError::NoGrid { layers: layers.len() })?;
    let heads = patch_weights(layer, &layers[layer], layout)?;
    let overall = if options.rollout {
        let whole = rollout(&layers[..=layer])?;
        patch_weights(layer, &whole, layout)?.swap_remove(0)
    } else {
        mean(&heads)
    };
    Ok(compose(photo, grid, &overall, &heads, options.height.clamp(64, 4096)))
}

fn mean(heads: &[Vec<f32>]) -> Vec<f32> {
    let patches = heads.first().map_or(0, Vec::len);
    (0..patches).map(|i| heads.iter().map(|h| h[i]).sum::<f32>() / heads.len() as f32).collect()
}

fn compose(photo: &RgbImage, grid: [usize; 2], overall: &[f32], heads: &[Vec<f32>], height: u32) -> RgbImage {
    let width_of = |height: u32| {
        let w = u64::from(height) * u64::from(photo.width()) / u64::from(photo.height().max(1));
        w.clamp(1, 4 * u64::from(height)) as u32
    };
    let [rows, columns] = tiling(heads.len());
    let tile_height = (height.saturating_sub((rows - 1) * GAP) / rows).max(8);
    let tile = [width_of(tile_height), tile_height];
    // The tiles decide the height, so that all parts end at the same line.
    let height = rows * tile_height + (rows - 1) * GAP;
    let large = [width_of(height), height];
    let width = 2 * (large[0] + GAP) + columns * (tile[0] + GAP) - GAP;
    let mut out = RgbImage::from_pixel(width, height, BACKGROUND);
    let shown = smooth(photo, large[0], large[1]);
    let small = smooth(photo, tile[0], tile[1]);
    replace(&mut out, &shown, 0, 0);
    replace(&mut out, &overlay(&shown, grid, overall), i64::from(large[0] + GAP), 0);
    for (i, head) in (0u32..).zip(heads) {
        let (row, column) = (i / columns, i % columns);
        let x = 2 * (large[0] + GAP) + column * (tile[0] + GAP);
        replace(&mut out, &overlay(&small, grid, head), i64::from(x), i64::from(row * (tile[1] + GAP)));
    }
    out
}

/// Returns the rows and columns for a number of tiles: about square, tall rather than wide because the large parts
/// are wide already, and without empty places if possible.
fn tiling(tiles: usize) -> [u32; 2] {
    let tiles = tiles.max(1) as u32;
    let square = tiles.isqrt() + u32::from(tiles.isqrt().pow(2) < tiles);
    let rows = (square..2 * square).find(|r| tiles.is_multiple_of(*r)).unwrap_or(square);
    [rows, tiles.div_ceil(rows)]
}

/// Draws the map over the photograph: dim and gray where the weight is low, glowing where it is high.
fn overlay(photo: &RgbImage, grid: [usize; 2], weights: &[f32]) -> RgbImage {
    let (low, high) = weights.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), &w| (l.min(w), h.max(w)));
    let range = high - low;
    let even: Vec<f32> = weights.iter().map(|w| if range > 0.0 { (w - low) / range } else { 0.0 }).collect();
    let map = smooth_map(&even, grid, photo.width(), photo.height());
    let mut out = photo.clone();
    for (pixel, &heat) in out.pixels_mut().zip(&map) {
        let [r, g, b] = pixel.0.map(|x| f32::from(x) / 255.0);
        let gray = 0.299 * r + 0.587 * g + 0.114 * b;
        let share = 0.45 + 0.3 * heat;
        let color = inferno(heat);
        pixel.0 = std::array::from_fn(|c| (((1.0 - share) * gray + share * color[c]) * 255.0).round() as u8);
    }
    out
}

/// Returns the format that the name of a picture asks for: PNG, or JPEG; PNG without an extension.
///
/// # Errors
/// Returns a message for any other extension.
pub fn format(path: &Path) -> Result<ImageFormat, String> {
    let Some(extension) = path.extension() else { return Ok(ImageFormat::Png) };
    let found = ImageFormat::from_extension(extension);
    let known = found.filter(|f| matches!(f, ImageFormat::Png | ImageFormat::Jpeg));
    known.ok_or_else(|| format!("{}: pictures are written as .png or .jpg", path.display()))
}

/// Writes a picture in the [`format()`] that its name asks for; the file appears whole or not at all.
///
/// # Errors
/// Returns the error of the file system, or that of [`format()`].
pub fn write(picture: &RgbImage, path: &Path) -> std::io::Result<()> {
    let format = format(path).map_err(std::io::Error::other)?;
    let mut file = AtomicFile::create(path)?;
    picture.write_to(&mut file, format).map_err(|e| match e {
        image::ImageError::IoError(e) => e,
        e => std::io::Error::other(e),
    })?;
    file.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Tokens;

    /// A map of `heads` heads over a class token and a `rows` x `columns` grid, all weight on `patch`.
    fn looking_at(patch: usize, heads: usize, rows: usize, columns: usize) -> Tensor {
        let n = 1 + rows * columns;
        let mut map = vec![0.0f32; heads * n * n];
        for head in 0..heads {
            map[head * n * n + 1 + patch] = 1.0;
        }
        Tensor::new(&[heads, n, n], map)
    }

    fn gray() -> RgbImage {
        RgbImage::from_pixel(32, 32, Rgb([128; 3]))
    }

    #[test]
    fn the_glow_is_over_the_patch_that_was_looked_at() {
        let layout = AttentionLayout::square(Tokens::new(1, 4, 4));
        // Row 1, column 2.
        let map = looking_at(6, 4, 4, 4);
        let picture = draw(&gray(), &[map], &[layout], &HeatOptions { height: 134, ..HeatOptions::default() });
        let picture = picture.expect("a sound map");
        assert_eq!(picture.dimensions(), (134 * 2 + 64 * 2 + 3 * GAP, 134));
        let red = |x: u32, y: u32| picture.get_pixel(x, y).0[0];
        let at = |row: u32, column: u32| red(134 + GAP + (2 * column + 1) * 134 / 8, (2 * row + 1) * 134 / 8);
        let hot = at(1, 2);
        for (row, column) in [(0, 0), (2, 1), (1, 0), (3, 3)] {
            assert!(at(row, column) + 80 < hot, "row {row} column {column}: {} against {hot}", at(row, column));
        }
        assert_eq!(red(10, 10), 128, "the photograph is left as it is");
    }

    #[test]
    fn the_last_layer_with_a_picture_is_drawn() {
        let pooled = AttentionLayout::square(Tokens { prefix: 1, grid: None });
        let grid = AttentionLayout { queries: Tokens { prefix: 1, grid: None }, keys: Tokens::new(1, 2, 2) };
        let layers = [Tensor::new(&[1, 1, 5], vec![0.2f32; 5]), Tensor::new(&[1, 1, 1], vec![1.0f32])];
        let options = HeatOptions::default();
        assert!(draw(&gray(), &layers, &[grid, pooled], &options).is_ok());
        assert_eq!(draw(&gray(), &layers[1..], &[pooled], &options), Err(AttentionError::NoGrid { layers: 1 }));
        assert!(draw(&gray(), &layers, &[grid, pooled], &HeatOptions { layer: Some(1), ..options }).is_err());
        assert!(draw(&gray(), &layers, &[grid, pooled], &HeatOptions { layer: Some(2), ..options }).is_err());
        assert!(draw(&gray(), &layers, &[grid], &options).is_err());
    }

    #[test]
    fn heads_fill_a_rectangle() {
        assert_eq!([1, 3, 6, 7, 8, 12, 16].map(tiling), [[1, 1], [3, 1], [3, 2], [3, 3], [4, 2], [4, 3], [4, 4]]);
    }

    #[test]
    fn the_file_is_a_picture_and_nothing_is_left_beside_it() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("heat.png");
        write(&gray(), &path)?;
        write(&gray(), &path)?;
        assert_eq!(std::fs::read_dir(dir.path())?.count(), 1);
        assert_eq!(crate::image::open(&path).map(|i| i.to_rgb8()).ok(), Some(gray()));
        assert!(write(&gray(), &dir.path().join("absent").join("heat.png")).is_err());
        assert!(write(&gray(), &dir.path().join("heat.gif")).is_err_and(|e| e.to_string().contains(".png or .jpg")));
        for (name, magic) in [("heat.JPG", &b"\xff\xd8"[..]), ("heat.jpeg", b"\xff\xd8"), ("heat", b"\x89PNG")] {
            write(&gray(), &dir.path().join(name))?;
            assert!(std::fs::read(dir.path().join(name))?.starts_with(magic), "{name}");
        }
        Ok(())
    }
}
