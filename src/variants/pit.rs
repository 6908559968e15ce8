//! PiT: stages joined by pooling, as in convolutional networks (Heo et al. 2021, arXiv 2103.16302).

use super::{Image, Outputs, PerStage, Sizes, Variant};
use crate::build::{Scope, T};
use crate::ir::{Dim, Init};
use crate::nn::{
    Attention, Fit, Release, Transformer, conv2d, layer_norm, linear, positions, prepend_class_token, transformer,
};
use crate::ops::Conv;
use serde::{Deserialize, Serialize};

/// Widths above this are mistakes, as in any other argument.
const WIDEST: usize = 1 << 20;

/// Arguments of `vit_pytorch.pit.PiT`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PiT {
    /// Side of the images.
    pub image_size: usize,
    /// Side of a patch; patches overlap by half.
    pub patch_size: usize,
    /// Classes.
    pub num_classes: usize,
    /// Width of the first stage; every pooling doubles it.
    pub dim: usize,
    /// Blocks of each stage.
    pub depth: Vec<usize>,
    /// Attention heads.
    pub heads: PerStage,
    /// Hidden width of the feed-forward layers, the same in all stages.
    pub mlp_dim: usize,
    /// Width of one head, the same in all stages.
    #[serde(default = "super::dim_head")]
    pub dim_head: usize,
    /// Dropout in the blocks.
    #[serde(default)]
    pub dropout: f64,
    /// Dropout after the embedding.
    #[serde(default)]
    pub emb_dropout: f64,
    /// Image channels.
    #[serde(default = "super::channels")]
    pub channels: usize,
}

/// Halves the grid and doubles the width: `[b, 1+n, d] → [b, 1+⌈√n/2⌉², 2d]`. Keys `cls_ff`, `downsample.net.{0,1}`.
fn pool<'g>(s: Scope<'g>, r: Release, x: T<'g>) -> T<'g> {
    let _in = s.enter();
    let (n, d) = (x.size(1) - 1, x.size(-1));
    let cls = linear(s.at("cls_ff"), x.narrow(1, 0, 1), 2 * d);
    // The grid is taken to be square, from the number of patches.
    let map = x.narrow(1, 1, n).rearrange("b (h w) d -> b d h w", &[("h", n.isqrt().into())]);
    let net = s.at("downsample.net");
    // Release 0.16 widens in the second convolution; 1 already in the first, two channels from each.
    let out = if r == Release::V0_16 { d } else { 2 * d };
    let map = conv2d(net.at(0), map, out, 3, Conv::new().stride(2).pad(1).groups(d));
    let map = conv2d(net.at(1), map, 2 * d, 1, Conv::new());
    T::concat(&[cls, map.rearrange("b d h w -> b (h w) d", &[])], 1)
}

impl PiT {
    /// Overlapping patches and their linear embedding. Key `weight` `[dim, channels·p·p]`, `bias` `[dim]`.
    fn embed<'g>(&self, s: Scope<'g>, img: T<'g>) -> T<'g> {
        let _in = s.enter();
        let (c, p, d) = (self.channels, self.patch_size, self.dim);
        let init = Init::fan_in(c * p * p);
        // In an unfolded patch the channel is slowest (elsewhere it is fastest), so that unfolding and the linear
        // layer are one convolution, whose kernel is the linear layer's weight as it lies.
        let kernel = s.param("weight", [d, c * p * p], init.clone()).reshape([d, c, p, p]);
        let map = img.conv(Conv::new().stride(p / 2), kernel, Some(s.param("bias", [d], init)));
        map.rearrange("b d h w -> b (h w) d", &[])
    }
}

impl Variant for PiT {
    fn image(&self) -> Image {
        Image { channels: self.channels, size: Some([self.image_size; 2]) }
    }

    fn check(&self, r: Release) -> Vec<String> {
        let grid = super::divides("image_size:", self.image_size, "patch_size", self.patch_size);
        let mut wrong: Vec<String> = grid.into_iter().chain(super::no_classes(self.num_classes)).collect();
        wrong.extend(super::not_rgb(r, self.channels));
        if self.patch_size < 2 {
            wrong.push("patch_size: 1 has no half to step by; at least 2 is valid".into());
        }
        let stages = self.depth.len();
        if stages == 0 {
            wrong.push("depth: no stages; a list with the number of blocks of each stage is valid".into());
        }
        if let PerStage::Each(heads) = &self.heads
            && heads.len() != stages
        {
            let n = heads.len();
            wrong.push(format!("heads: {n} entries for {stages} stages; one number or one for each stage is valid"));
        }
        let most = (WIDEST / self.dim).checked_ilog2().map_or(0, |n| n as usize) + 1;
        if stages > most {
            wrong.push(format!("depth: dim {} doubles in every stage; at most {most} stages are valid", self.dim));
        }
        wrong
    }

    fn sizes(&self, _: Release) -> Sizes {
        let why = "its pooling needs tokens laid out as a square map, and a symbolic number of them has no known side";
        Sizes::squares(self.patch_size, why)
    }

    fn forward<'g>(&self, r: Release, s: Scope<'g>, img: T<'g>, fit: Fit) -> Outputs<'g> {
        let (p, d) = (self.patch_size, self.dim);
        let side = (self.image_size - p) / (p / 2) + 1;
        let embedded = self.embed(s.at("to_patch_embedding.2"), img);
        let grid = [Dim::from(embedded.size(1).isqrt()), embedded.size(1).isqrt().into()];
        let mut x = prepend_class_token(s, embedded, [1, 1, d]);
        let mut pos = s.param("pos_embedding", [1, side * side + 1, d], Init::NORMAL);
        // Release 0.16 adds the whole table, so that only images of `image_size` fit.
        if r == Release::V1 || fit == Fit::Resampled {
            pos = positions(pos, x, 1, [side; 2], &grid, fit);
        }
        x = s.dropout(x + pos, self.emb_dropout);
        let stages = self.depth.len();
        for (i, (&depth, heads)) in self.depth.iter().zip(self.heads.of(stages)).enumerate() {
            let attention = Attention { heads, dim_head: self.dim_head, dropout: self.dropout };
            let c = Transformer { depth, attention, mlp_dim: self.mlp_dim };
            x = transformer(s.at("layers").at(2 * i), r, x, &c);
            if i + 1 < stages {
                x = pool(s.at("layers").at(2 * i + 1), r, x);
            }
        }
        let cls = layer_norm(s.at("mlp_head.0"), x.pick(1, 0));
        Outputs::logits(linear(s.at("mlp_head.1"), cls, self.num_classes))
    }

    fn arguments(&self) -> toml::Table {
        super::arguments(self)
    }
}

#[cfg(test)]
mod tests {
    use crate::template::{Model, Source, parse_set};
    use crate::variants::{Declare, declare};

    fn tiny(sets: &[&str]) -> Result<Model, String> {
        let sets: Vec<_> = sets.iter().map(|s| parse_set(s).expect("a setting")).collect();
        Model::resolve(&Source::Preset("pit", "tiny"), &sets).map_err(|e| e.to_string())
    }

    #[test]
    fn mistakes_are_named() {
        let wrong = |set: &str| tiny(&["release=0.16", set]).expect_err("it is wrong");
        assert!(wrong("heads=[1, 2, 3]").contains("3 entries for 2 stages"));
        assert!(wrong("depth=[]").contains("no stages"));
        assert!(wrong("depth=2").contains("depth"));
        assert!(wrong("heads='many'").contains("an integer or a list"));
        assert!(wrong("patch_size=1").contains("at least 2"));
        assert!(wrong("patch_size=5").contains("15 or 20"));
        assert!(wrong("dim=600000").contains("at most 1 stages"));
        assert!(wrong("channels=1").contains("needs release"));
    }

    #[test]
    fn only_release_1_takes_smaller_images() {
        let fed = |release: &str| {
            let m = tiny(&[release]).expect("a model");
            let options = Declare { input_size: Some([8, 8]), ..Declare::default() };
            declare("pit", &*m.variant, m.release, &options).map(|_| ()).map_err(|e| e.to_string())
        };
        assert!(fed("release=0.16").expect_err("the table is larger").contains("add"));
        assert_eq!(fed("release=1"), Ok(()));
    }
}
