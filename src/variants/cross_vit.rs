//! CrossViT: two patch sizes whose class tokens look at each other's patches (Chen et al. 2021, arXiv 2103.14899).

use super::argument::{Classes, Depth, Flag, Probability, Width, arguments};
use super::{Image, Outputs, Sizes, Variant};
use crate::build::{Scope, T};
use crate::nn::{
    Fit, Heads, class_and_positions, context_qkv, feed_forward, layer_norm, linear, merge_heads, normed_linear,
    patch_embedding, patch_grid, patches, scaled_dot_product,
};

arguments! {
    /// Arguments of `vit_pytorch.cross_vit.CrossViT`; `sm` is the branch of small patches, `lg` of large ones.
    pub struct CrossViT {
        /// Side of the images the position tables are made for.
        image_size: Width,
        /// Classes; at least 1, because there is no one sequence of tokens to output.
        num_classes: Classes,
        /// Width of the small branch.
        sm_dim: Width,
        /// Width of the large branch.
        lg_dim: Width,
        /// Side of a small patch.
        sm_patch_size: Width = 12,
        /// Blocks of the small branch in a level.
        sm_enc_depth: Depth = 1,
        /// Attention heads of the small branch.
        sm_enc_heads: Width = 8,
        /// Hidden width of the feed-forward layers of the small branch.
        sm_enc_mlp_dim: Width = 2048,
        /// Width of one head of the small branch.
        sm_enc_dim_head: Width = 64,
        /// Side of a large patch.
        lg_patch_size: Width = 16,
        /// Blocks of the large branch in a level.
        lg_enc_depth: Depth = 4,
        /// Attention heads of the large branch.
        lg_enc_heads: Width = 8,
        /// Hidden width of the feed-forward layers of the large branch.
        lg_enc_mlp_dim: Width = 2048,
        /// Width of one head of the large branch.
        lg_enc_dim_head: Width = 64,
        /// Rounds of cross-attention in a level.
        cross_attn_depth: Depth = 2,
        /// Heads of the cross-attention.
        cross_attn_heads: Width = 8,
        /// Width of one head of the cross-attention.
        cross_attn_dim_head: Width = 64,
        /// Levels.
        depth: Depth = 3,
        /// Dropout in the blocks.
        dropout: Probability = 0.1,
        /// Dropout after the embedding.
        emb_dropout: Probability = 0.1,
        /// Image channels.
        channels: Width = 3,
    }
    options {
        /// Norms before and after the embedding of patches.
        embedding_norms: Flag = true,
        /// Dropout on attention maps too.
        map_dropout: Flag = true,
        /// What the cross-attention computes is not used.
        cross_attention_is_lost: Flag = false,
    }
}

/// One of the two branches.
#[derive(Clone, Copy)]
struct Branch {
    name: &'static str,
    dim: usize,
    patch: usize,
    depth: usize,
    mlp_dim: usize,
    attention: Heads,
}

/// Attention from the normalized `x` to itself and, behind it, `context`. Keys `norm`, then `to_q`, `to_kv`, `to_out.0`.
fn attention<'g>(s: Scope<'g>, x: T<'g>, context: Option<T<'g>>, c: Heads) -> T<'g> {
    let y = layer_norm(s.at("norm"), x);
    let _in = s.enter();
    let [q, k, v] = context_qkv(s, y, context, c.heads, c.dim_head);
    let y = merge_heads(scaled_dot_product(s, q, k, v, c));
    s.dropout(linear(s.at("to_out.0"), y, x.size(-1)), c.dropout)
}

/// Cross-attention of class tokens at the width of `context`. Keys `project_in`, `fn`, `project_out`.
fn cross_attention<'g>(s: Scope<'g>, cls: T<'g>, context: T<'g>, c: Heads) -> T<'g> {
    let (dim, wide) = (cls.size(-1), context.size(-1));
    if dim == wide {
        return attention(s.at("fn"), cls, Some(context), c);
    }
    let y = linear(s.at("project_in"), cls, wide);
    // Only the projected token is normalized: the context left the encoder's last norm.
    linear(s.at("project_out"), attention(s.at("fn"), y, Some(context), c), dim)
}

impl CrossViT {
    fn heads(&self, heads: usize, dim_head: usize) -> Heads {
        Heads::new(heads, dim_head, self.dropout, self.map_dropout)
    }

    fn branches(&self) -> [Branch; 2] {
        [
            Branch {
                name: "sm",
                dim: self.sm_dim,
                patch: self.sm_patch_size,
                depth: self.sm_enc_depth,
                mlp_dim: self.sm_enc_mlp_dim,
                attention: self.heads(self.sm_enc_heads, self.sm_enc_dim_head),
            },
            Branch {
                name: "lg",
                dim: self.lg_dim,
                patch: self.lg_patch_size,
                depth: self.lg_enc_depth,
                mlp_dim: self.lg_enc_mlp_dim,
                attention: self.heads(self.lg_enc_heads, self.lg_enc_dim_head),
            },
        ]
    }

    fn embed<'g>(&self, s: Scope<'g>, img: T<'g>, fit: Fit, c: Branch) -> T<'g> {
        let s = s.at(format!("{}_image_embedder", c.name));
        let (side, patch) = (self.image_size / c.patch, [c.patch; 2]);
        let grid = patch_grid(&[img.dim(2), img.dim(3)], patch);
        let embedding = s.at("to_patch_embedding");
        let x = patch_embedding(embedding, patches(embedding, img, patch), c.dim, self.embedding_norms);
        s.dropout(class_and_positions(s, x, [side; 2], &grid, fit), self.emb_dropout)
    }

    /// The class tokens look at the other branch's patches, in rounds. Keys `layers.i.{0,1}`.
    fn cross<'g>(&self, s: Scope<'g>, x: [T<'g>; 2]) -> [T<'g>; 2] {
        let _in = s.enter();
        let c = self.heads(self.cross_attn_heads, self.cross_attn_dim_head);
        let mut cls = x.map(|t| t.narrow(1, 0, 1));
        let patches = x.map(|t| t.narrow(1, 1, t.dim(1) - 1));
        for i in 0..self.cross_attn_depth {
            let s = s.at("layers").at(i);
            // Both look at patches only, so the small branch's new token does not enter the large one's.
            cls = [0, 1].map(|j| cls[j] + cross_attention(s.at(j), cls[j], patches[1 - j], c));
        }
        [0, 1].map(|j| T::concat(&[cls[j], patches[j]], 1))
    }
}

/// A branch's blocks. Their norm comes last in every level, so every level normalizes the residual stream again.
/// Keys `layers.i.{0,1}`, `norm`.
fn encode<'g>(s: Scope<'g>, mut x: T<'g>, c: Branch) -> T<'g> {
    let _in = s.enter();
    for i in 0..c.depth {
        let layer = s.at("layers").at(i);
        x = attention(layer.at(0), x, None, c.attention) + x;
        x = feed_forward(layer.at(1), x, c.mlp_dim, c.attention.dropout) + x;
    }
    layer_norm(s.at("norm"), x)
}

impl Variant for CrossViT {
    fn image(&self) -> Image {
        Image { channels: self.channels, size: Some([self.image_size; 2]) }
    }

    fn check(&self) -> Vec<String> {
        let grids = [("sm_patch_size", self.sm_patch_size), ("lg_patch_size", self.lg_patch_size)];
        let grids = grids.into_iter().filter_map(|(by, p)| super::divides("image_size:", self.image_size, by, p));
        let head = super::needs_head(self.num_classes, "here there are two sequences, of different widths");
        grids.chain(head).collect()
    }

    fn sizes(&self) -> Sizes {
        // Both branches see whole patches.
        Sizes::patches([super::least_common_multiple(self.sm_patch_size, self.lg_patch_size); 2])
    }

    fn forward<'g>(&self, s: Scope<'g>, img: T<'g>, fit: Fit) -> Outputs<'g> {
        let branches = self.branches();
        let mut x = branches.map(|c| self.embed(s, img, fit, c));
        for i in 0..self.depth {
            let level = s.at("multi_scale_encoder.layers").at(i);
            x = [0, 1].map(|j| encode(level.at(j), x[j], branches[j]));
            let crossed = self.cross(level.at(2), x);
            x = if self.cross_attention_is_lost { x } else { crossed };
        }
        let [sm, lg] = [0, 1].map(|j| {
            let s = s.at(format!("{}_mlp_head", branches[j].name));
            normed_linear(s, x[j].pick(1, 0), self.num_classes)
        });
        Outputs::logits(sm + lg)
    }
}

#[cfg(test)]
mod tests {
    use crate::template::{Model, Source, parse_set};

    #[test]
    fn mistakes_are_named() {
        let wrong = |set: &str| {
            let sets = [parse_set(set).expect("a setting"), parse_set("release=0.16").expect("a setting")];
            Model::resolve(&Source::Preset("cross_vit", "tiny"), &sets).expect_err("it is wrong").to_string()
        };
        assert!(wrong("sm_patch_size=3").contains("is not divisible by sm_patch_size 3; 15 or 18 would"));
        assert!(wrong("lg_patch_size=32").contains("is not divisible by lg_patch_size 32; 32 would"));
        assert!(wrong("channels=1").contains("needs release"));
        assert!(wrong("num_classes=0").contains("1 or more is valid"));
    }

    #[test]
    fn defaults_are_those_of_the_original() {
        let text = "variant = 'cross_vit'\nimage_size = 48\nnum_classes = 2\nsm_dim = 8\nlg_dim = 8";
        let t = Model::resolve(&Source::Text("m.toml", text), &[]).expect("a model").to_table();
        let got = ["sm_patch_size", "lg_patch_size", "sm_enc_depth", "lg_enc_depth", "depth", "cross_attn_depth"];
        assert_eq!(got.map(|k| t[k].as_integer()), [12, 16, 1, 4, 3, 2].map(Some));
        assert_eq!(t["dropout"].as_float(), Some(0.1));
    }
}
