//! LeViT: a vision transformer in convnet's clothing (Graham et al. 2021, arXiv 2104.01136).
//!
//! Convolutions shrink the image sixteenfold; stages of attention on the map follow, each half the side of the
//! one before. Every attention adds a learned number for each pair of offsets. No pre-norm: batch norms follow
//! the projections.

use super::argument::{Classes, Depth, Flag, Maybe, Number, Probability, Stages, Width, arguments};
use super::{Image, Outputs, PerStage, Sizes, Variant};
use crate::build::{Scope, T};
use crate::ir::{Init, Tensor};
use crate::nn::{
    Fit, batch_norm2d, conv2d, conv2d_no_bias, gelu, linear, map_to_tokens, merge_heads, pointwise, resample,
    split_heads,
};
use crate::ops::{Conv, composite};

/// The table of offsets between pixels grows with the fourth power of the image: here it takes 128 MiB.
const LARGEST: usize = 1024;

arguments! {
    /// Arguments of `vit_pytorch.levit.LeViT`.
    pub struct LeViT {
        /// Side of the images, a multiple of 16.
        image_size: Width,
        /// Classes; 0: no head, the pixels of the last map are the output.
        num_classes: Classes,
        /// Channels of the stages.
        dim: Stages<Width>,
        /// Blocks of the stages.
        depth: Stages<Depth>,
        /// Heads of the stages.
        heads: Stages<Width>,
        /// Hidden width of the feed-forward layers of a stage, in multiples of its channels.
        mlp_mult: Width,
        /// Stages.
        stages: Depth = 3,
        /// Width of a head's queries and keys.
        dim_key: Width = 32,
        /// Width of a head's values.
        dim_value: Width = 64,
        /// Dropout in the stages.
        dropout: Probability = 0.0,
        /// Classes of a second head, for distillation; none when absent.
        num_distill_classes: Maybe<Width>,
    }
    options {
        /// Dropout on attention maps too.
        map_dropout: Flag = true,
        /// Position biases are multiplied by this power of the scale of the scores.
        bias_scale: Number = -1.0,
        /// The activation of feed-forward layers is GELU; else hard swish.
        gelu: Flag = false,
        /// The norm after an attention layer starts with a gain of 0; else 1.
        zero_gain: Flag = true,
    }
}

/// An attention layer and the feed-forward layer after it.
#[derive(Clone, Copy)]
struct Block {
    heads: usize,
    out: usize,
    mlp_mult: usize,
    /// Queries at every second row and column, and no residual around the attention.
    shrink: bool,
    dropout: f64,
    bias: Bias,
}

/// What a table of position biases is made for.
#[derive(Clone, Copy)]
struct Bias {
    /// Side of its map.
    trained: usize,
    /// What becomes of it on another map.
    fit: Fit,
}

impl Variant for LeViT {
    fn image(&self) -> Image {
        Image { channels: 3, size: Some([self.image_size; 2]) }
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        wrong.extend(super::divides("image_size:", self.image_size, "the strides'", 16));
        if self.num_distill_classes.is_some() {
            let why = "num_distill_classes is of a second head beside one";
            wrong.extend(super::needs_head(self.num_classes, why));
        }
        if self.image_size > LARGEST {
            let n = self.image_size;
            wrong.push(format!("image_size: {n} is too large for tables of offsets; up to {LARGEST} is valid"));
        }
        for (key, list) in [("dim", &self.dim), ("depth", &self.depth), ("heads", &self.heads)] {
            if let PerStage::Each(list) = list
                && !(1..=self.stages).contains(&list.len())
            {
                let (n, stages) = (list.len(), self.stages);
                wrong.push(format!("{key}: {n} entries for {stages} stages; an integer or 1 to {stages} entries"));
            }
        }
        wrong
    }

    fn sizes(&self) -> Sizes {
        Sizes::squares(16, "its position biases are tables of offsets on a map of known size")
    }

    fn forward<'g>(&self, s: Scope<'g>, img: T<'g>, fit: Fit) -> Outputs<'g> {
        let mut x = img;
        for (i, out) in [32, 64, 128, self.dim.at(0)].into_iter().enumerate() {
            x = conv2d(s.at("conv_embedding").at(i), x, out, 3, Conv::new().stride(2).pad(1));
        }
        let (backbone, mut trained) = (s.at("backbone"), self.image_size / 16);
        for stage in 0..self.stages {
            let (heads, out) = (self.heads.at(stage), self.dim.at(stage));
            let bias = Bias { trained, fit };
            let block = Block { heads, out, mlp_mult: self.mlp_mult, shrink: false, dropout: self.dropout, bias };
            for i in 0..self.depth.at(stage) {
                x = self.block(backbone.at(2 * stage).at("layers").at(i), x, block);
            }
            if stage + 1 < self.stages {
                // Between stages `mlp_mult` and `dropout` are not passed on: they stay 2 and 0.
                let out = self.dim.at(stage + 1);
                let between = Block { heads: 2 * heads, out, mlp_mult: 2, shrink: true, dropout: 0.0, bias };
                x = self.block(backbone.at(2 * stage + 1).at("layers.0"), x, between);
                trained = trained.div_ceil(2);
            }
        }
        if self.num_classes == 0 {
            return Outputs::last_hidden_state(map_to_tokens(x));
        }
        let x = x.mean(&[2, 3]);
        let mut outputs = Outputs::logits(linear(s.at("mlp_head"), x, self.num_classes));
        if let Some(classes) = self.num_distill_classes {
            outputs.0.push(("distill_logits", linear(s.at("distill_head"), x, classes)));
        }
        outputs
    }
}

impl LeViT {
    /// `[b, c, H, W] → [b, out, …]`.
    fn block<'g>(&self, s: Scope<'g>, x: T<'g>, c: Block) -> T<'g> {
        let _in = s.enter();
        let attended = self.attention(s.at(0), x, c);
        let x = if c.shrink { attended } else { attended + x };
        let s = s.at(1);
        let h = pointwise(s.at("net.0"), x, c.out * c.mlp_mult);
        let h = s.dropout(if self.gelu { gelu(h) } else { composite::hard_swish(h) }, c.dropout);
        s.dropout(pointwise(s.at("net.3"), h, c.out), c.dropout) + x
    }

    /// Attention over the pixels of a map. Keys `to_q`, `to_k`, `to_v` (`0` convolution, `1` batch norm),
    /// `pos_bias.weight`, `pos_indices`, `to_out` (`1` convolution, `2` batch norm).
    fn attention<'g>(&self, s: Scope<'g>, x: T<'g>, c: Block) -> T<'g> {
        let _in = s.enter();
        let project = |name: &str, width: usize, op: Conv| {
            let s = s.at(name);
            let x = conv2d_no_bias(s.at(0), x, c.heads * width, 1, op);
            batch_norm2d(s.at(1), x, Init::ONES)
        };
        let q = project("to_q", self.dim_key, Conv::new().stride(if c.shrink { 2 } else { 1 }));
        let k = project("to_k", self.dim_key, Conv::new());
        let v = project("to_v", self.dim_value, Conv::new());
        let side = (q.dim(2), q.dim(3));
        let [q, k, v] = [q, k, v].map(|t| split_heads(map_to_tokens(t), c.heads));

        let scale = (self.dim_key as f64).powf(-0.5);
        let bias = position_bias(s, x.size(2), c);
        let bias = if self.bias_scale == 0.0 { bias } else { bias * scale.powf(self.bias_scale) };
        let map = (q.matmul(k.t()) * scale + bias).softmax(-1);
        s.observe("attentions", map);
        let map = if self.map_dropout { s.dropout(map, c.dropout) } else { map };
        let out = merge_heads(map.matmul(v)).rearrange("b (h w) c -> b c h w", &[("h", side.0), ("w", side.1)]);
        let out = pointwise(s.at("to_out.1"), gelu(out), c.out);
        let gain = if self.zero_gain { Init::ZEROS } else { Init::ONES };
        s.dropout(batch_norm2d(s.at("to_out.2"), out, gain), c.dropout)
    }
}

/// The number of an offset in a table, for each query and key on a square map: `[queries, keys]`.
fn offsets(side: usize, shrink: bool) -> Tensor {
    let pixels = |step: usize| (0..side).step_by(step).flat_map(move |i| (0..side).step_by(step).map(move |j| (i, j)));
    let step = if shrink { 2 } else { 1 };
    let offset = |(i, j): (usize, usize), (k, l): (usize, usize)| (i.abs_diff(k) * side + j.abs_diff(l)) as i64;
    let indices: Vec<i64> = pixels(step).flat_map(|q| pixels(1).map(move |k| offset(q, k))).collect();
    Tensor::new(&[side.div_ceil(step).pow(2), side * side], indices)
}

/// A learned number for each head and pair of offsets, `[heads, queries, keys]`, on a map of this side.
fn position_bias(s: Scope<'_>, side: usize, c: Block) -> T<'_> {
    let trained = c.bias.trained;
    let table = s.at("pos_bias").param("weight", [trained * trained, c.heads], Init::NORMAL);
    // The checkpoint's indices are for the map it was trained on; another map has its own.
    let indices = s.computed("pos_indices", offsets(trained, c.shrink));
    if side == trained {
        return table.gather(0, indices).transpose(&[2, 0, 1]);
    }
    if c.bias.fit != Fit::Resampled {
        s.builder().error(format!("position biases are made for a map of {trained}×{trained}"), &[table]);
        return table.poison();
    }
    // No convention exists: rows and columns of offsets, 0 to side - 1 each, are resampled as those of a map.
    let table = resample(table, 0, [trained; 2], &[side.into(), side.into()]);
    table.gather(0, s.constant(offsets(side, c.shrink))).transpose(&[2, 0, 1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Builder;
    use crate::eval;
    use crate::ir::Stage;
    use crate::ops::Resize;
    use crate::template::{Model, Source};

    fn resolve(arguments: &str) -> Result<Model, String> {
        let text = format!("variant = 'levit'\nnum_classes = 3\nmlp_mult = 2\nstages = 2\n{arguments}");
        Model::resolve(&Source::Text("m.toml", &text), &[]).map_err(|e| e.to_string())
    }

    #[test]
    fn shorter_lists_go_on_with_their_last_entry() {
        let list = PerStage::Each(vec![4, 6]);
        assert_eq!([0, 1, 2, 7].map(|i| list.at(i)), [4, 6, 6, 6]);
        assert_eq!([0, 7].map(|i| PerStage::Same(5).at(i)), [5, 5]);
        let m = resolve("image_size = 32\ndim = [8]\ndepth = 1\nheads = [2, 3]").expect("valid");
        assert_eq!(m.to_table()["heads"].to_string(), "[2, 3]");
        assert!(!m.to_table().contains_key("num_distill_classes"));
    }

    /// On a map twice as large, each pair of pixels gets the entry of its offset in the resampled table.
    #[test]
    fn biases_of_another_map_are_those_of_the_resampled_table() {
        for shrink in [false, true] {
            let bias = Bias { trained: 2, fit: Fit::Resampled };
            let c = Block { heads: 3, out: 8, mlp_mult: 2, shrink, dropout: 0.0, bias };
            let b = Builder::new("t", Stage::Built);
            b.output("y", position_bias(b.root(), 4, c));
            let g = b.finish().expect("a graph");
            let shapes: Vec<String> = g.params().map(|p| g.ty(p.value).shape.to_string()).collect();
            assert_eq!(shapes, ["[4, 3]".to_owned(), if shrink { "[1, 4]" } else { "[4, 4]" }.to_owned()]);
            let table = Tensor::new(&[4, 3], (0..12).map(|i| (i * i % 7) as f32).collect::<Vec<_>>());
            let y = eval::run(&g, &mut |_, _| Ok(table.clone()), &[]).expect("a value");
            let y = y[0].1.to_f64_vec();
            let map = |h: usize| {
                Tensor::new(&[1, 1, 2, 2], (0..4).map(|i| ((3 * i + h).pow(2) % 7) as f32).collect::<Vec<_>>())
            };
            let (step, side) = if shrink { (2, 2) } else { (1, 4) };
            assert_eq!(y.len(), 3 * side * side * 16);
            for h in 0..3 {
                let larger = Resize { to: [4, 4].into() };
                let larger = eval::op(&larger.into(), &[map(h)]).expect("a value")[0].to_f64_vec();
                for (q, k) in (0..side * side).flat_map(|q| (0..16).map(move |k| (q, k))) {
                    let rows = (q / side * step).abs_diff(k / 4);
                    let columns = (q % side * step).abs_diff(k % 4);
                    assert_eq!(y[(h * side * side + q) * 16 + k], larger[rows * 4 + columns], "{h} {q} {k}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let e = resolve("image_size = 40\ndim = 8\ndepth = [1, 1, 1]\nheads = []").expect_err("refused");
        for part in [
            "40 is not divisible by the strides' 16; 32 or 48 would",
            "depth: 3 entries for 2 stages",
            "heads: 0 entries",
        ] {
            assert!(e.contains(part), "{e}");
        }
        let e = resolve("image_size = 32\ndim = 'wide'\ndepth = 1\nheads = 2").expect_err("refused");
        assert!(e.contains("dim") && e.contains("an integer or a list of integers"), "{e}");
    }
}
