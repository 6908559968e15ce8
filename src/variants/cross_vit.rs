//! CrossViT: two patch sizes whose class tokens look at each other's patches (Chen et al. 2021, arXiv 2103.14899).

use super::{Image, Outputs, Sizes, Variant};
use crate::build::{Scope, T};
use crate::nn::{
    Attention, Fit, Release, class_and_positions, context_qkv, feed_forward, layer_norm, linear, merge_heads,
    patch_embedding, patch_grid, scaled_dot_product,
};
use serde::{Deserialize, Serialize};

/// Arguments of `vit_pytorch.cross_vit.CrossViT`; `sm` is the branch of small patches, `lg` of large ones.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CrossViT {
    /// Side of the images the position tables are made for.
    pub image_size: usize,
    /// Classes.
    pub num_classes: usize,
    /// Width of the small branch.
    pub sm_dim: usize,
    /// Width of the large branch.
    pub lg_dim: usize,
    /// Side of a small patch.
    #[serde(default = "super::number::<12>")]
    pub sm_patch_size: usize,
    /// Blocks of the small branch in a level.
    #[serde(default = "super::number::<1>")]
    pub sm_enc_depth: usize,
    /// Attention heads of the small branch.
    #[serde(default = "super::number::<8>")]
    pub sm_enc_heads: usize,
    /// Hidden width of the feed-forward layers of the small branch.
    #[serde(default = "super::number::<2048>")]
    pub sm_enc_mlp_dim: usize,
    /// Width of one head of the small branch.
    #[serde(default = "super::dim_head")]
    pub sm_enc_dim_head: usize,
    /// Side of a large patch.
    #[serde(default = "super::number::<16>")]
    pub lg_patch_size: usize,
    /// Blocks of the large branch in a level.
    #[serde(default = "super::number::<4>")]
    pub lg_enc_depth: usize,
    /// Attention heads of the large branch.
    #[serde(default = "super::number::<8>")]
    pub lg_enc_heads: usize,
    /// Hidden width of the feed-forward layers of the large branch.
    #[serde(default = "super::number::<2048>")]
    pub lg_enc_mlp_dim: usize,
    /// Width of one head of the large branch.
    #[serde(default = "super::dim_head")]
    pub lg_enc_dim_head: usize,
    /// Rounds of cross-attention in a level.
    #[serde(default = "super::number::<2>")]
    pub cross_attn_depth: usize,
    /// Heads of the cross-attention.
    #[serde(default = "super::number::<8>")]
    pub cross_attn_heads: usize,
    /// Width of one head of the cross-attention.
    #[serde(default = "super::dim_head")]
    pub cross_attn_dim_head: usize,
    /// Levels.
    #[serde(default = "super::number::<3>")]
    pub depth: usize,
    /// Dropout in the blocks.
    #[serde(default = "a_tenth")]
    pub dropout: f64,
    /// Dropout after the embedding.
    #[serde(default = "a_tenth")]
    pub emb_dropout: f64,
    /// Image channels.
    #[serde(default = "super::channels")]
    pub channels: usize,
}

/// The default of both dropouts.
fn a_tenth() -> f64 {
    0.1
}

/// One of the two branches.
#[derive(Clone, Copy)]
struct Branch {
    name: &'static str,
    dim: usize,
    patch: usize,
    depth: usize,
    mlp_dim: usize,
    attention: Attention,
}

/// Attention from the normalised `x` to itself and, behind it, `context`. Keys `norm`, then `to_q`, `to_kv`, `to_out.0`.
fn attention<'g>(s: Scope<'g>, r: Release, x: T<'g>, context: Option<T<'g>>, c: Attention) -> T<'g> {
    let y = layer_norm(s.at("norm"), x);
    let s = r.body(s);
    let _in = s.enter();
    let [q, k, v] = context_qkv(s, y, context, c.heads, c.dim_head);
    let y = merge_heads(scaled_dot_product(s, r, q, k, v, c.dropout));
    s.dropout(linear(s.at("to_out.0"), y, x.size(-1)), c.dropout)
}

/// Cross-attention of class tokens at the width of `context`. Keys `project_in`, `fn`, `project_out`.
fn cross_attention<'g>(s: Scope<'g>, r: Release, cls: T<'g>, context: T<'g>, c: Attention) -> T<'g> {
    let (dim, wide) = (cls.size(-1), context.size(-1));
    if dim == wide {
        return attention(s.at("fn"), r, cls, Some(context), c);
    }
    let y = linear(s.at("project_in"), cls, wide);
    // Only the projected token is normalised: the context left the encoder's last norm.
    linear(s.at("project_out"), attention(s.at("fn"), r, y, Some(context), c), dim)
}

impl CrossViT {
    fn branches(&self) -> [Branch; 2] {
        let attention = |heads, dim_head| Attention { heads, dim_head, dropout: self.dropout };
        let (sm, lg) = ((self.sm_enc_heads, self.sm_enc_dim_head), (self.lg_enc_heads, self.lg_enc_dim_head));
        [
            Branch {
                name: "sm",
                dim: self.sm_dim,
                patch: self.sm_patch_size,
                depth: self.sm_enc_depth,
                mlp_dim: self.sm_enc_mlp_dim,
                attention: attention(sm.0, sm.1),
            },
            Branch {
                name: "lg",
                dim: self.lg_dim,
                patch: self.lg_patch_size,
                depth: self.lg_enc_depth,
                mlp_dim: self.lg_enc_mlp_dim,
                attention: attention(lg.0, lg.1),
            },
        ]
    }

    fn embed<'g>(&self, s: Scope<'g>, r: Release, img: T<'g>, fit: Fit, c: Branch) -> T<'g> {
        let s = s.at(format!("{}_image_embedder", c.name));
        let (side, patch) = (self.image_size / c.patch, [c.patch; 2]);
        let x = patch_embedding(s.at("to_patch_embedding"), r, img, patch, c.dim);
        s.dropout(class_and_positions(s, x, [side; 2], &patch_grid(img, patch), fit), self.emb_dropout)
    }

    /// The class tokens look at the other branch's patches, in rounds. Keys `layers.i.{0,1}`.
    fn cross<'g>(&self, s: Scope<'g>, r: Release, x: [T<'g>; 2]) -> [T<'g>; 2] {
        let _in = s.enter();
        let c = Attention { heads: self.cross_attn_heads, dim_head: self.cross_attn_dim_head, dropout: self.dropout };
        let mut cls = x.map(|t| t.narrow(1, 0, 1));
        let patches = x.map(|t| t.narrow(1, 1, t.dim(1) - 1));
        for i in 0..self.cross_attn_depth {
            let s = s.at("layers").at(i);
            // Both look at patches only, so the small branch's new token does not enter the large one's.
            cls = [0, 1].map(|j| cls[j] + cross_attention(s.at(j), r, cls[j], patches[1 - j], c));
        }
        [0, 1].map(|j| T::concat(&[cls[j], patches[j]], 1))
    }
}

/// A branch's blocks. Their norm comes last in every level, so the residual stream is normalised again and again.
/// Keys `layers.i.{0,1}`, `norm`.
fn encode<'g>(s: Scope<'g>, r: Release, mut x: T<'g>, c: Branch) -> T<'g> {
    let _in = s.enter();
    for i in 0..c.depth {
        let layer = s.at("layers").at(i);
        x = attention(layer.at(0), r, x, None, c.attention) + x;
        x = feed_forward(layer.at(1), r, x, c.mlp_dim, c.attention.dropout) + x;
    }
    layer_norm(s.at("norm"), x)
}

impl Variant for CrossViT {
    fn image(&self) -> Image {
        Image { channels: self.channels, size: Some([self.image_size; 2]) }
    }

    fn check(&self, r: Release) -> Vec<String> {
        let grids = [("sm_patch_size", self.sm_patch_size), ("lg_patch_size", self.lg_patch_size)];
        let grids = grids.into_iter().filter_map(|(by, p)| super::divides("image_size:", self.image_size, by, p));
        grids.chain(super::no_classes(self.num_classes)).chain(super::not_rgb(r, self.channels)).collect()
    }

    fn sizes(&self, _: Release) -> Sizes {
        // Both branches see whole patches.
        Sizes::patches([super::least_common_multiple(self.sm_patch_size, self.lg_patch_size); 2])
    }

    fn forward<'g>(&self, r: Release, s: Scope<'g>, img: T<'g>, fit: Fit) -> Outputs<'g> {
        let branches = self.branches();
        let mut x = branches.map(|c| self.embed(s, r, img, fit, c));
        for i in 0..self.depth {
            let level = s.at("multi_scale_encoder.layers").at(i);
            x = [0, 1].map(|j| encode(level.at(j), r, x[j], branches[j]));
            x = self.cross(level.at(2), r, x);
        }
        let [sm, lg] = [0, 1].map(|j| {
            let s = s.at(format!("{}_mlp_head", branches[j].name));
            linear(s.at(1), layer_norm(s.at(0), x[j].pick(1, 0)), self.num_classes)
        });
        Outputs::logits(sm + lg)
    }

    fn arguments(&self) -> toml::Table {
        super::arguments(self)
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
        assert!(wrong("sm_patch_size=3").contains("does not divide by sm_patch_size 3; 15 or 18 would"));
        assert!(wrong("lg_patch_size=32").contains("does not divide by lg_patch_size 32; 32 would"));
        assert!(wrong("channels=1").contains("needs release"));
        assert!(wrong("num_classes=0").contains("num_classes"));
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
