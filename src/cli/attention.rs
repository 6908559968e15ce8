//! Draws the attention outputs of a model: finds the outputs, the layout of their tokens and the file names.
//!
//! Model files do not describe their tokens, so the layout is inferred from their number: a grid with the proportions
//! of the image, after at most a class and a distillation token.

use super::args::Predict;
use super::predict::first;
use super::{Failure, output, stream};
use crate::image::{self, AttentionLayout, HeatOptions, Prepared, Tokens};
use crate::ir::Tensor;
use crate::runtime::Port;
use std::path::{Path, PathBuf};

/// The name of the attention output.
const NAME: &str = "attentions";

/// Checks that the model has an attention output. The error says how to build one that has.
pub(super) fn require(outputs: &[Port], model: &Path) -> Result<(), Failure> {
    if outputs.iter().any(|p| layer_of(&p.name).is_some()) {
        return Ok(());
    }
    let (at, stem) = (model.display(), model.file_stem().unwrap_or_default().to_string_lossy());
    Err(Failure::bad_file(format!(
        "{at} does not output its attention. Build it again with\n  vit-onnx build --config {at} --weights \
         <its checkpoint> --output-tensor {NAME} -o {stem}-{NAME}.onnx"
    )))
}

/// `attentions` is every layer, `attentions.3` layer 3.
fn layer_of(output: &str) -> Option<usize> {
    if output == NAME { Some(0) } else { output.strip_prefix(NAME)?.strip_prefix('.')?.parse().ok() }
}

/// Draws the attention for a photograph.
pub(super) fn draw(a: &Predict, shown: &Prepared, outputs: &[(String, Tensor)], path: &Path) -> Result<(), Failure> {
    let layers = layers(outputs)?;
    let size = [shown.shown.height() as usize, shown.shown.width() as usize];
    let layouts: Vec<AttentionLayout> = layers.iter().map(|l| layout(l.shape(), size)).collect();
    let options = HeatOptions { layer: a.layer, rollout: a.rollout, ..HeatOptions::default() };
    let picture = image::draw(&shown.shown, &layers, &layouts, &options).map_err(Failure::bad_file)?;
    let bad = |e| Failure::bad_file(format!("{}: {e}", path.display()));
    stream::write(path, |to| image::write(&picture, to).map_err(bad))?;
    output::say(format_args!("wrote {}", stream::name(path)));
    Ok(())
}

/// Returns the layers `[heads, queries, keys]` of the first image.
fn layers(outputs: &[(String, Tensor)]) -> Result<Vec<Tensor>, Failure> {
    let mut found: Vec<(usize, &str, Tensor)> = Vec::new();
    for (name, t) in outputs {
        found.extend(layer_of(name).map(|i| (i, name.as_str(), first(t))));
    }
    found.sort_by_key(|(i, ..)| *i);
    match found.as_slice() {
        [(_, NAME, all)] => image::split_layers(all).map_err(Failure::bad_file),
        _ => Ok(found.into_iter().map(|(_, _, t)| t).collect()),
    }
}

/// Infers the queries and keys of a layer, for an image of this height and width.
fn layout(shape: &[usize], size: [usize; 2]) -> AttentionLayout {
    let &[_, queries, keys] = shape else {
        // `draw` reports the wrong shape.
        return AttentionLayout::square(Tokens { prefix: 0, grid: None });
    };
    let keys_are = tokens(keys, size);
    let queries_are = match queries {
        _ if queries == keys => keys_are,
        // One query is the class token alone.
        1 => Tokens { prefix: 1, grid: None },
        _ => tokens(queries, size),
    };
    AttentionLayout { queries: queries_are, keys: keys_are }
}

/// Arranges `n` tokens as a grid: prefers exact proportions, then few tokens before it.
fn tokens(n: usize, [height, width]: [usize; 2]) -> Tokens {
    let candidates = (0..=2usize).filter_map(|prefix| {
        let patches = n.checked_sub(prefix).filter(|&p| p > 1)?;
        let rows = (1..=patches).take_while(|r| r * r <= patches).filter(|r| patches % r == 0);
        let grids = rows.flat_map(|r| [[r, patches / r], [patches / r, r]]);
        let off = |[r, c]: [usize; 2]| ((r * width) as f64 / (c * height) as f64).ln().abs();
        let best = grids.map(|g| (off(g), g)).min_by(|a, b| a.0.total_cmp(&b.0))?;
        Some((best.0, prefix, best.1))
    });
    // Strides that do not divide shift the proportions a little.
    const NEAR: f64 = 0.15;
    let best = candidates.filter(|c| c.0 <= NEAR).min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    best.map_or(Tokens { prefix: 0, grid: None }, |(_, prefix, [r, c])| Tokens::new(prefix, r, c))
}

/// Returns a different file name for each photograph: HEAT.png for one, HEAT-<photo>.png for several.
pub(super) fn paths(heat: &Path, photos: &[PathBuf]) -> Vec<PathBuf> {
    if photos.len() == 1 {
        return vec![heat.to_path_buf()];
    }
    let part = |p: Option<&std::ffi::OsStr>| p.unwrap_or_default().to_string_lossy().into_owned();
    let (stem, extension) = (part(heat.file_stem()), part(heat.extension()));
    let dot = if extension.is_empty() { "" } else { "." };
    let mut out: Vec<PathBuf> = Vec::new();
    for photo in photos {
        let name = part(photo.file_stem());
        let numbered = |i: usize| if i == 0 { String::new() } else { format!("-{}", i + 1) };
        let path = |i| heat.with_file_name(format!("{stem}-{name}{}{dot}{extension}", numbered(i)));
        let free = (0..=photos.len()).map(path).find(|p| !out.contains(p)).expect("more names than photographs");
        out.push(free);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_by_their_number() {
        assert_eq!(tokens(197, [224, 224]), Tokens::new(1, 14, 14));
        assert_eq!(tokens(196, [224, 224]), Tokens::new(0, 14, 14));
        assert_eq!(tokens(198, [224, 224]), Tokens::new(2, 14, 14));
        assert_eq!(tokens(65, [256, 256]), Tokens::new(1, 8, 8));
        assert_eq!(tokens(9, [32, 64]), Tokens::new(1, 2, 4));
        assert_eq!(tokens(33, [64, 32]), Tokens::new(1, 8, 4));
        assert_eq!(tokens(2, [16, 16]).grid, None);
        assert_eq!(tokens(24, [224, 224]).grid, None);
    }

    #[test]
    fn a_class_token_alone_may_ask() {
        let l = layout(&[8, 1, 197], [224, 224]);
        assert_eq!((l.queries, l.keys), (Tokens { prefix: 1, grid: None }, Tokens::new(1, 14, 14)));
        let l = layout(&[8, 784, 196], [224, 224]);
        assert_eq!((l.queries, l.keys), (Tokens::new(0, 28, 28), Tokens::new(0, 14, 14)));
    }

    #[test]
    fn files_differ() {
        let photos = ["a/x.jpg", "b/x.png", "y.jpg"].map(PathBuf::from);
        let names = paths(Path::new("out/heat.png"), &photos);
        assert_eq!(names, ["out/heat-x.png", "out/heat-x-2.png", "out/heat-y.png"].map(PathBuf::from));
    }
}
