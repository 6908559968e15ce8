//! Reads JPEG and PNG files: upright, 8 bits a sample, without alpha, up to a limit of pixels.

use crate::files;
use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// The most pixels that an image may have: a small file can announce billions.
pub const MAX_PIXELS: u64 = 100_000_000;

/// An error for a file that cannot be used as an image.
#[allow(missing_docs, reason = "the message of a variant names its fields")]
#[derive(Debug, thiserror::Error)]
pub enum PhotoError {
    /// The file cannot be read.
    #[error("{}: {reason}", path.display())]
    Read { path: PathBuf, reason: std::io::Error },
    /// The bytes are not a JPEG or PNG image, or a damaged one.
    #[error("{}: not a readable JPEG or PNG image: {reason}", path.display())]
    Image { path: PathBuf, reason: String },
    /// The image announces too many pixels.
    #[error("{}: {width}x{height} is too many pixels; the limit is {MAX_PIXELS}", path.display())]
    TooLarge { path: PathBuf, width: u32, height: u32 },
}

/// Reads the image at `path`, whose format its first bytes decide, not its name.
///
/// # Errors
/// Returns a [`PhotoError`] if the file is unreadable, not an image, damaged or too large.
pub fn open(path: &Path) -> Result<DynamicImage, PhotoError> {
    let bytes = files::map(path).map_err(|reason| PhotoError::Read { path: path.to_path_buf(), reason })?;
    decode(&bytes, path)
}

/// Decodes the contents of a file; `path` is for error messages. The result has the EXIF orientation
/// applied and is 8-bit RGB or 8-bit gray; alpha is dropped, as in Pillow's conversion.
///
/// # Errors
/// As [`open`].
pub fn decode(bytes: &[u8], path: &Path) -> Result<DynamicImage, PhotoError> {
    let bad = |e: ImageError| PhotoError::Image { path: path.to_path_buf(), reason: e.to_string() };
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|reason| PhotoError::Read { path: path.to_path_buf(), reason })?;
    let is_jpeg = reader.format() == Some(ImageFormat::Jpeg);
    let mut limits = Limits::default();
    limits.max_alloc = Some(8 * MAX_PIXELS);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(bad)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(PhotoError::TooLarge { path: path.to_path_buf(), width, height });
    }
    if is_jpeg && !has_end(bytes) {
        return Err(PhotoError::Image { path: path.to_path_buf(), reason: "the file is truncated".to_owned() });
    }
    // An image with a damaged EXIF block is still usable.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = eight_bit(DynamicImage::from_decoder(decoder).map_err(bad)?);
    image.apply_orientation(orientation);
    Ok(image)
}

/// Whether a JPEG file has its end marker (ITU-T T.81, B.1.1): without it the decoder makes up the missing pixels. Segments
/// are skipped, because the thumbnail in one has an end marker too.
fn has_end(jpeg: &[u8]) -> bool {
    let mut rest = jpeg.get(2..).unwrap_or_default();
    // Stuffed zeros, restart markers and fill bytes are parts of the data of a scan.
    let starts = |w: &[u8]| w[0] == 0xff && !matches!(w[1], 0 | 1 | 0xd0..=0xd7 | 0xff);
    while let Some(at) = rest.windows(2).position(starts) {
        match rest[at + 1..] {
            [0xd9, ..] => return true,
            [_, high, low, ..] => {
                let segment = at + 2 + usize::from(u16::from_be_bytes([high, low]));
                rest = rest.get(segment..).unwrap_or_default();
            }
            _ => return false,
        }
    }
    false
}

fn eight_bit(image: DynamicImage) -> DynamicImage {
    match image {
        image @ (DynamicImage::ImageRgb8(_) | DynamicImage::ImageLuma8(_)) => image,
        // Gray stays gray; converting it to luma takes the first channel unchanged.
        image @ (DynamicImage::ImageLuma16(_) | DynamicImage::ImageLumaA8(_) | DynamicImage::ImageLumaA16(_)) => {
            image.into_luma8().into()
        }
        image => image.into_rgb8().into(),
    }
}

/// Converts to gray as Pillow's mode `L` does: ITU-R 601-2 luma, in 16-bit fixed point.
pub(super) fn luma(image: &DynamicImage) -> GrayImage {
    if let DynamicImage::ImageLuma8(gray) = image {
        return gray.clone();
    }
    let rgb = image.to_rgb8();
    let gray = rgb.pixels().map(|p| {
        let [r, g, b] = p.0.map(u32::from);
        ((19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16) as u8
    });
    GrayImage::from_raw(rgb.width(), rgb.height(), gray.collect()).expect("one byte for every pixel")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/image").join(name)
    }

    #[test]
    fn a_turned_photograph_is_turned_back() -> Result<(), PhotoError> {
        let (image, upright) =
            (open(&fixture("turned.jpg"))?.to_rgb8(), open(&fixture("turned_upright.png"))?.to_rgb8());
        assert_eq!(image.dimensions(), (16, 24));
        // JPEG decoders may differ by rounding; a wrong orientation differs by far more.
        let worst = image.iter().zip(upright.iter()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst <= Some(3), "{worst:?}");
        Ok(())
    }

    #[test]
    fn deep_and_transparent_gray_become_eight_bit_gray() -> Result<(), PhotoError> {
        for name in ["gray16.png", "gray_alpha.png"] {
            let image = open(&fixture(name))?;
            assert_eq!(
                image.as_luma8().map(|g| g.as_raw().clone()),
                Some(vec![0, 50, 100, 150, 200, 255, 128, 1]),
                "{name}"
            );
        }
        Ok(())
    }

    #[test]
    fn luma_is_that_of_pillow() -> Result<(), PhotoError> {
        let (color, gray) = (open(&fixture("source.png"))?, open(&fixture("source_gray.png"))?);
        assert_eq!(&luma(&color), gray.as_luma8().expect("the fixture is gray"));
        Ok(())
    }

    #[test]
    fn what_is_no_image_is_an_error() {
        let at = Path::new("photo.jpg");
        let text = decode(b"not an image, but long enough to look at", at);
        assert!(matches!(&text, Err(e @ PhotoError::Image { .. }) if e.to_string().contains("photo.jpg")), "{text:?}");
        assert!(decode(&[], at).is_err());
        assert!(matches!(open(Path::new("no such file.png")), Err(PhotoError::Read { .. })));
        assert!(matches!(open(Path::new(env!("CARGO_MANIFEST_DIR"))), Err(PhotoError::Read { .. })));
    }

    #[test]
    fn a_truncated_image_is_an_error() -> std::io::Result<()> {
        let photograph = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/cat.jpg");
        for path in [fixture("source.png"), fixture("turned.jpg"), photograph] {
            let bytes = std::fs::read(&path)?;
            let n = bytes.len();
            for part in [8, n / 3, n / 2, n - n / 10, n - 2] {
                let cut = decode(&bytes[..part], &path);
                // A PNG file ends with a chunk of no data.
                let whole = part == n - 2 && path.extension().is_some_and(|e| e == "png");
                assert!(whole || matches!(cut, Err(PhotoError::Image { .. })), "{path:?} cut to {part} of {n} bytes");
            }
            // Cameras append what they like.
            assert!(decode(&[&bytes[..], b"more"].concat(), &path).is_ok(), "{path:?}");
        }
        Ok(())
    }

    #[test]
    fn the_end_of_a_thumbnail_is_not_that_of_the_photograph() {
        let segment = b"\xff\xe1\0\x06\xff\xd8\xff\xd9";
        let scan = b"\xff\xda\0\x02 data \xff\0\xff\xd3\xff\xff";
        let whole = [&b"\xff\xd8"[..], segment, scan, b"\xd9"].concat();
        assert!(has_end(&whole));
        for n in 0..whole.len() {
            assert!(!has_end(&whole[..n]), "cut to {n} bytes");
        }
    }

    #[test]
    fn a_decompression_bomb_is_refused_from_its_header() {
        // A sound PNG header of 60000x60000 RGB pixels and the start of very little data.
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\xea\x60\0\0\xea\x60\x08\x02\0\0\0".to_vec();
        png.extend(0x0fb0_e215_u32.to_be_bytes());
        png.extend(b"\0\0\0\x10IDAT\x78\x9c");
        let bomb = decode(&png, Path::new("bomb.png"));
        assert!(matches!(bomb, Err(PhotoError::TooLarge { width: 60000, height: 60000, .. })), "{bomb:?}");
    }
}
