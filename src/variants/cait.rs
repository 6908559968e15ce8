//! CaiT: going deeper with layer scale, talking heads and class attention (Touvron et al. 2021, arXiv 2103.17239).

use super::argument::{Classes, Depth, Flag, List, Maybe, Probability, Width, arguments};
use super::{Image, Outputs, Sizes, Variant};
use crate::build::{Scope, T};
use crate::ir::{Dim, Init, Real};
use crate::nn::{
    Fit, Heads, context_qkv, feed_forward, layer_norm, linear, merge_heads, normed_linear, patch_embedding, patch_grid,
    patches, positions,
};

arguments! {
    /// Arguments of `vit_pytorch.cait.CaiT`, and which layers stay.
    pub struct CaiT {
        /// Side of the images the position table is made for.
        image_size: Width,
        /// Side of a patch.
        patch_size: Width,
        /// Classes; 0: no head, the output is the class token, then the patches.
        num_classes: Classes,
        /// Model width.
        dim: Width,
        /// Blocks among patches.
        depth: Depth,
        /// Blocks of the class token.
        cls_depth: Depth,
        /// Attention heads.
        heads: Width,
        /// Hidden width of the feed-forward layers.
        mlp_dim: Width,
        /// Width of one head.
        dim_head: Width = 64,
        /// Dropout in the blocks.
        dropout: Probability = 0.0,
        /// Dropout after the embedding.
        emb_dropout: Probability = 0.0,
        /// Probability with which the original drops a layer at every forward, in evaluation too. A graph has no such
        /// chance: it has every layer, unless the two lists below say which.
        layer_dropout: Probability = 0.0,
        /// Which blocks among patches stay; all by default.
        keep_patch: Maybe<List<Flag>>,
        /// Which blocks of the class token stay; all by default.
        keep_cls: Maybe<List<Flag>>,
    }
    options {
        /// Norms before and after the embedding of patches.
        embedding_norms: Flag = true,
        /// Dropout on attention maps too.
        map_dropout: Flag = true,
    }
}

/// Mixes maps `[b, h, i, j]` over heads: `map'[g] = Σ_h map[h]·W[h, g]`, contracted over the first axis of `W`.
fn mix_heads<'g>(map: T<'g>, w: T<'g>) -> T<'g> {
    let [b, h, i, j] = [0, 1, 2, 3].map(|a| map.dim(a));
    w.t().matmul(map.reshape([b, h, &i * &j])).reshape(map.dims())
}

/// The initial scale of a layer; layers count from 1 in each stack.
fn layer_scale(layer: usize) -> Init {
    Init::Constant(Real(match layer {
        ..=18 => 0.1,
        19..=24 => 1e-5,
        _ => 1e-6,
    }))
}

impl CaiT {
    /// Talking-heads attention: maps are mixed over heads before and after the softmax. Keys and values come from
    /// the normalized `x` and, behind it, `context`. Also gives the map between the softmax and the second mixing.
    fn attention<'g>(&self, s: Scope<'g>, x: T<'g>, context: Option<T<'g>>) -> (T<'g>, T<'g>) {
        let c = Heads::new(self.heads, self.dim_head, self.dropout, self.map_dropout);
        let y = layer_norm(s.at("norm"), x);
        let _in = s.enter();
        // The context, the output of the patch blocks, is not normalized here.
        let [q, k, v] = context_qkv(s, y, context, self.heads, self.dim_head);
        let [pre, post] = ["mix_heads_pre_attn", "mix_heads_post_attn"]
            .map(|name| s.param(name, [self.heads, self.heads], Init::NORMAL));
        let scores = q.matmul(k.t()) * (self.dim_head as f64).powf(-0.5);
        let map = mix_heads(scores, pre).softmax(-1);
        let y = merge_heads(mix_heads(c.drop(s, map), post).matmul(v));
        (s.dropout(linear(s.at("to_out.0"), y, self.dim), self.dropout), map)
    }

    /// A stack of blocks with layer scale. Keys `layers.i.{0,1}.{scale,fn}`.
    fn stack<'g>(
        &self,
        s: Scope<'g>,
        mut x: T<'g>,
        context: Option<T<'g>>,
        depth: usize,
        keep: Option<&[bool]>,
    ) -> T<'g> {
        let _in = s.enter();
        for i in 0..depth {
            let [attend, feed] = [0, 1].map(|j| s.at("layers").at(i).at(j));
            let [scale, feed_scale] = [attend, feed].map(|s| s.param("scale", [1, 1, self.dim], layer_scale(i + 1)));
            let (y, map) = self.attention(attend.at("fn"), x, context);
            let y = y * scale + x;
            let y = feed_forward(feed.at("fn"), y, self.mlp_dim, self.dropout) * feed_scale + y;
            // The parameters of a dropped layer are in the checkpoint too, so it is declared, but nothing reads it.
            // The survivors are not rescaled.
            if keep.and_then(|k| k.get(i)).is_none_or(|&kept| kept) {
                attend.observe("attentions", map);
                x = y;
            }
        }
        x
    }
}

impl Variant for CaiT {
    fn image(&self) -> Image {
        Image { channels: 3, size: Some([self.image_size; 2]) }
    }

    fn check(&self) -> Vec<String> {
        let grid = super::divides("image_size:", self.image_size, "patch_size", self.patch_size);
        let mut wrong: Vec<String> = grid.into_iter().collect();
        for (key, keep, of, depth) in [
            ("keep_patch", &self.keep_patch, "depth", self.depth),
            ("keep_cls", &self.keep_cls, "cls_depth", self.cls_depth),
        ] {
            let Some(keep) = keep else { continue };
            if keep.len() != depth {
                let n = keep.len();
                wrong.push(format!("{key}: {n} entries for {of} = {depth}; one true or false for each layer is valid"));
            } else if !keep.contains(&true) {
                // The original keeps one at random.
                wrong.push(format!("{key}: every layer is dropped; at least one must be true"));
            }
        }
        wrong
    }

    fn sizes(&self) -> Sizes {
        Sizes::patches([self.patch_size; 2])
    }

    fn forward<'g>(&self, s: Scope<'g>, img: T<'g>, fit: Fit) -> Outputs<'g> {
        let (side, patch, d) = (self.image_size / self.patch_size, [self.patch_size; 2], self.dim);
        let grid = patch_grid(&[img.dim(2), img.dim(3)], patch);
        let embedding = s.at("to_patch_embedding");
        let mut x = patch_embedding(embedding, patches(embedding, img, patch), d, self.embedding_norms);
        let pos = s.param("pos_embedding", [1, side * side, d], Init::NORMAL);
        let pos = positions(pos, x, 0, [side; 2], &grid, fit);
        x = s.dropout(x + pos, self.emb_dropout);
        x = self.stack(s.at("patch_transformer"), x, None, self.depth, self.keep_patch.as_deref());
        let one: [Dim; 3] = [x.dim(0), 1.into(), d.into()];
        let cls = s.param("cls_token", [1, 1, d], Init::NORMAL).expand(one);
        let cls = self.stack(s.at("cls_transformer"), cls, Some(x), self.cls_depth, self.keep_cls.as_deref());
        if self.num_classes == 0 {
            return Outputs::last_hidden_state(T::concat(&[cls, x], 1));
        }
        Outputs::logits(normed_linear(s.at("mlp_head"), cls.pick(1, 0), self.num_classes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::{Model, Source, parse_set};

    fn wrong(set: &str) -> String {
        let set = parse_set(set).expect("a setting");
        Model::resolve(&Source::Preset("cait", "tiny"), &[set]).expect_err("it is wrong").to_string()
    }

    #[test]
    fn mistakes_are_named() {
        assert!(wrong("keep_patch=[true]").contains("1 entries for depth = 2"));
        assert!(wrong("keep_cls=[false]").contains("at least one must be true"));
        assert!(wrong("keep_patch=[1, 2]").contains("keep_patch"));
        assert!(wrong("patch_size=7").contains("14 or 21"));
        assert!(wrong("channels=1").contains("no such key"));
    }

    #[test]
    fn deeper_layers_start_smaller() {
        let starts = [1, 18, 19, 24, 25].map(layer_scale);
        let number = |x| Init::Constant(Real(x));
        assert_eq!(starts, [number(0.1), number(0.1), number(1e-5), number(1e-5), number(1e-6)]);
    }
}
