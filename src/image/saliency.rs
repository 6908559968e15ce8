//! Reduces attention maps to one weight for each patch: of a head, of a layer, of the whole network.
//!
//! A layer is a tensor `[heads, queries, keys]` of one image. An [`AttentionLayout`] describes its
//! tokens, because the shapes of hierarchical models do not determine them.

use crate::ir::Tensor;
use ndarray::{Array2, Array3, Axis, Ix3, Ix4, s};

/// The meaning of a sequence of tokens: `prefix` tokens (class, distillation), then a grid of patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Tokens before the patches; the first of them is the class token.
    pub prefix: usize,
    /// Rows and columns of patches; `None` if the tokens are not a grid of patches.
    pub grid: Option<[usize; 2]>,
}

impl Tokens {
    /// Creates a layout of `prefix` tokens and then a grid of `rows` x `columns` patches.
    pub const fn new(prefix: usize, rows: usize, columns: usize) -> Self {
        Self { prefix, grid: Some([rows, columns]) }
    }
}

/// The meaning of the queries and the keys of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionLayout {
    /// The axis before the last.
    pub queries: Tokens,
    /// The last axis.
    pub keys: Tokens,
}

impl AttentionLayout {
    /// Creates the layout of self-attention, where queries and keys are the same tokens.
    pub const fn square(tokens: Tokens) -> Self {
        Self { queries: tokens, keys: tokens }
    }
}

/// An error for attention maps that cannot be drawn.
#[allow(missing_docs, reason = "the message of a variant names its fields")]
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttentionError {
    /// There is no layer to draw.
    #[error("none of the {layers} attention layers has keys that are a grid of patches")]
    NoGrid { layers: usize },
    /// The requested layer does not exist.
    #[error("there is no attention layer {layer}: the model has {layers}, counted from 0")]
    NoSuchLayer { layer: usize, layers: usize },
    /// A tensor does not fit its layout.
    #[error("attention layer {layer}: expected {expected}, found {found}")]
    Shape { layer: usize, expected: String, found: String },
    /// Layers and layouts differ in number.
    #[error("{layers} attention layers with {layouts} layouts: expected one each")]
    Layouts { layers: usize, layouts: usize },
    /// A map holds infinities or NaN.
    #[error("attention layer {layer} has values that are not finite")]
    NotFinite { layer: usize },
    /// Rollout multiplies maps, which requires the same tokens in every layer.
    #[error("attention rollout needs the same tokens in every layer: layer {layer} is {found}, layer 0 is {first}")]
    Rollout { layer: usize, found: String, first: String },
}

/// Splits `[layers, heads, queries, keys]` of one image into its layers. A leading batch axis of 1 is
/// accepted.
///
/// # Errors
/// Returns [`AttentionError::Shape`] for any other shape.
pub fn split_layers(maps: &Tensor) -> Result<Vec<Tensor>, AttentionError> {
    let shape = maps.shape();
    let inner = if shape.len() == 5 && shape[0] == 1 { &shape[1..] } else { shape };
    let four = maps.cast(crate::ir::DType::F32).reshape(inner);
    let array = four.array::<f32>().and_then(|a| a.clone().into_dimensionality::<Ix4>().ok());
    let array = array.ok_or_else(|| AttentionError::Shape {
        layer: 0,
        expected: "[layers, heads, queries, keys]".to_owned(),
        found: format!("{shape:?}"),
    })?;
    Ok(array.axis_iter(Axis(0)).map(|layer| Tensor::F32(layer.into_dyn().to_shared())).collect())
}

/// Returns the layer as an array, checked against its layout.
fn checked(layer: usize, map: &Tensor, layout: &AttentionLayout) -> Result<Array3<f32>, AttentionError> {
    let array = array(layer, map)?;
    let fits = |n: usize, t: &Tokens| {
        t.grid.map_or(n >= t.prefix, |[h, w]| Some(n) == h.checked_mul(w).and_then(|g| g.checked_add(t.prefix)))
    };
    let (_, queries, keys) = array.dim();
    if !fits(queries, &layout.queries) || !fits(keys, &layout.keys) || queries == 0 || array.is_empty() {
        let side =
            |t: &Tokens| t.grid.map_or_else(|| format!("{}+n", t.prefix), |[h, w]| format!("{}+{h}*{w}", t.prefix));
        let expected = format!("[heads, {}, {}]", side(&layout.queries), side(&layout.keys));
        return Err(AttentionError::Shape { layer, expected, found: format!("{:?}", array.shape()) });
    }
    Ok(array)
}

fn array(layer: usize, map: &Tensor) -> Result<Array3<f32>, AttentionError> {
    let map = map.cast(crate::ir::DType::F32);
    let array = map.array::<f32>().and_then(|a| a.clone().into_dimensionality::<Ix3>().ok());
    let array = array.map(ndarray::ArcArray::into_owned).ok_or_else(|| AttentionError::Shape {
        layer,
        expected: "[heads, queries, keys]".to_owned(),
        found: format!("{:?}", map.shape()),
    })?;
    if array.iter().all(|x| x.is_finite()) { Ok(array) } else { Err(AttentionError::NotFinite { layer }) }
}

/// Returns the weight of every patch for each head: the row of the class token, or the mean over all queries if
/// there is no class token.
pub(super) fn patch_weights(
    layer: usize,
    map: &Tensor,
    layout: &AttentionLayout,
) -> Result<Vec<Vec<f32>>, AttentionError> {
    let array = checked(layer, map, layout)?;
    let weights = |head: ndarray::ArrayView2<'_, f32>| {
        let row = if layout.queries.prefix > 0 {
            head.row(0).to_owned()
        } else {
            head.mean_axis(Axis(0)).expect("a checked map has queries")
        };
        row.slice(s![layout.keys.prefix..]).to_vec()
    };
    Ok(array.axis_iter(Axis(0)).map(weights).collect())
}

/// Attention rollout (Abnar & Zuidema 2020, arXiv 2005.00928): with A the mean over the heads of a
/// layer, the product over layers, first to last, of the row-normalized `0.5 A + 0.5 I`. Returns
/// `[1, tokens, tokens]`, which can be drawn like a layer of one head. Negative weights, which
/// re-attention produces, count as zero.
///
/// # Errors
/// Returns an [`AttentionError`] if the layers do not have the same tokens.
pub fn rollout(layers: &[Tensor]) -> Result<Tensor, AttentionError> {
    let mut product: Option<Array2<f64>> = None;
    for (i, map) in layers.iter().enumerate() {
        let array = array(i, map)?;
        let (heads, queries, keys) = array.dim();
        let tokens = product.as_ref().map_or(queries, Array2::nrows);
        if queries != keys || queries != tokens || heads == 0 || queries == 0 {
            return Err(AttentionError::Rollout {
                layer: i,
                found: format!("{queries}x{keys}"),
                first: format!("{:?}", layers[0].shape()),
            });
        }
        let mean = array.mapv(|x| f64::from(x.max(0.0))).mean_axis(Axis(0)).expect("there is a head");
        let mut step = mean * 0.5 + Array2::<f64>::eye(tokens) * 0.5;
        for mut row in step.rows_mut() {
            // At least the identity's half.
            let sum = row.sum();
            row /= sum;
        }
        product = Some(product.map_or_else(|| step.clone(), |before| step.dot(&before)));
    }
    let product = product.ok_or(AttentionError::NoGrid { layers: 0 })?;
    Ok(Tensor::F32(product.mapv(|x| x as f32).insert_axis(Axis(0)).into_dyn().into_shared()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rollout_of_two_layers_by_hand() {
        // A1 attends from token 0 to token 1 only, A2 is the identity in both heads.
        let a1 = Tensor::new(&[1, 2, 2], vec![0.0f32, 1.0, 0.0, 1.0]);
        let a2 = Tensor::new(&[2, 2, 2], vec![1.0f32, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]);
        assert_eq!(rollout(&[a1.clone(), a2]), Ok(Tensor::new(&[1, 2, 2], vec![0.5f32, 0.5, 0.0, 1.0])));
        assert_eq!(rollout(&[a1.clone(), a1]), Ok(Tensor::new(&[1, 2, 2], vec![0.25f32, 0.75, 0.0, 1.0])));
    }

    #[test]
    fn later_layers_multiply_from_the_left() {
        let a = Tensor::new(&[1, 2, 2], vec![0.0f32, 1.0, 0.0, 1.0]);
        let b = Tensor::new(&[1, 2, 2], vec![1.0f32, 0.0, 1.0, 0.0]);
        // B' A' = [[1, 0], [.5, .5]] [[.5, .5], [0, 1]]
        assert_eq!(rollout(&[a, b]), Ok(Tensor::new(&[1, 2, 2], vec![0.5f32, 0.5, 0.25, 0.75])));
    }

    #[test]
    fn rollout_needs_one_set_of_tokens() {
        let layers = [Tensor::new(&[1, 2, 2], vec![0.5f32; 4]), Tensor::new(&[1, 1, 2], vec![0.5f32; 2])];
        assert!(matches!(rollout(&layers), Err(AttentionError::Rollout { layer: 1, .. })));
        assert!(rollout(&[]).is_err());
    }

    #[test]
    fn the_class_row_is_taken_and_the_class_column_left_out() {
        let map = Tensor::new(&[1, 3, 3], (0..9u8).map(f32::from).collect());
        let with_class = AttentionLayout::square(Tokens::new(1, 1, 2));
        assert_eq!(patch_weights(0, &map, &with_class), Ok(vec![vec![1.0, 2.0]]));
        let without = AttentionLayout::square(Tokens::new(0, 1, 3));
        assert_eq!(patch_weights(0, &map, &without), Ok(vec![vec![3.0, 4.0, 5.0]]));
    }

    #[test]
    fn a_map_that_is_not_its_layout_is_an_error() {
        let map = Tensor::new(&[1, 3, 3], vec![0.0f32; 9]);
        for tokens in [Tokens::new(0, 2, 2), Tokens::new(4, 0, 0), Tokens::new(0, usize::MAX, 3)] {
            let e = patch_weights(2, &map, &AttentionLayout::square(tokens)).expect_err("not 3 tokens");
            assert!(e.to_string().contains("layer 2"), "{e}");
        }
        let nan = Tensor::new(&[1, 1, 1], vec![f32::NAN]);
        let e = patch_weights(0, &nan, &AttentionLayout::square(Tokens::new(0, 1, 1)));
        assert_eq!(e, Err(AttentionError::NotFinite { layer: 0 }));
    }

    #[test]
    fn layers_are_split() {
        let maps = Tensor::new(&[1, 2, 1, 1, 2], vec![1.0f32, 2.0, 3.0, 4.0]);
        let layers = split_layers(&maps).expect("one image");
        assert_eq!(layers[1], Tensor::new(&[1, 1, 2], vec![3.0f32, 4.0]));
        assert!(split_layers(&Tensor::new(&[2, 1, 1, 1, 1], vec![0.0f32; 2])).is_err(), "two images");
    }
}
