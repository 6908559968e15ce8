//! PiT: stages joined by pooling, as in convolutional networks (Heo et al. 2021, arXiv 2103.16302).

use super::argument::{Classes, Depth, Flag, LARGEST, List, Probability, Stages, Width, arguments};
use super::{Image, Outputs, PerStage, Sizes, Variant, classify};
use crate::build::{Scope, T};
use crate::ir::{Dim, Init};
use crate::nn::{Fit, Heads, Transformer, class_and_positions, conv2d, layer_norm, linear, normed_linear, transformer};
use crate::ops::Conv;

arguments! {
    /// Arguments of `vit_pytorch.pit.PiT`.
    pub struct PiT {
        /// Side of the images.
        image_size: Width,
        /// Side of a patch; patches overlap by half.
        patch_size: Width,
        /// Classes; 0: no head, the tokens of the last stage are the output.
        num_classes: Classes,
        /// Width of the first stage; every pooling doubles it.
        dim: Width,
        /// Blocks of each stage.
        depth: List<Depth>,
        /// Attention heads.
        heads: Stages<Width>,
        /// Hidden width of the feed-forward layers, the same in all stages.
        mlp_dim: Width,
        /// Width of one head, the same in all stages.
        dim_head: Width = 64,
        /// Dropout in the blocks.
        dropout: Probability = 0.0,
        /// Dropout after the embedding.
        emb_dropout: Probability = 0.0,
        /// Image channels.
        channels: Width = 3,
    }
    options {
        /// Dropout on attention maps too.
        map_dropout: Flag = true,
        /// Pooling widens in its second convolution; else in the first, two channels from each.
        pool_widens_last: Flag = false,
        /// The whole table of positions is added, so only images of `image_size` fit.
        whole_table: Flag = false,
        /// The head is the end of the list of layers, and runs on every token.
        head_on_all_tokens: Flag = false,
    }
}

/// Halves the grid and doubles the width: `[b, 1+n, d] → [b, 1+⌈√n/2⌉², 2d]`. Keys `cls_ff`, `downsample.net.{0,1}`.
fn pool<'g>(s: Scope<'g>, x: T<'g>, widens_last: bool) -> T<'g> {
    let _in = s.enter();
    let (n, d) = (x.size(1) - 1, x.size(-1));
    let cls = linear(s.at("cls_ff"), x.narrow(1, 0, 1), 2 * d);
    // The grid is taken to be square, from the number of patches.
    let map = x.narrow(1, 1, n).rearrange("b (h w) d -> b d h w", &[("h", n.isqrt().into())]);
    let net = s.at("downsample.net");
    let out = if widens_last { d } else { 2 * d };
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

    fn check(&self) -> Vec<String> {
        let grid = super::divides("image_size:", self.image_size, "patch_size", self.patch_size);
        let mut wrong: Vec<String> = grid.into_iter().collect();
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
        let most = (LARGEST / self.dim).checked_ilog2().map_or(0, |n| n as usize) + 1;
        if stages > most {
            wrong.push(format!("depth: dim {} doubles in every stage; at most {most} stages are valid", self.dim));
        }
        wrong
    }

    fn sizes(&self) -> Sizes {
        let why = "its pooling needs tokens laid out as a square map, and a symbolic number of them has no known side";
        Sizes::squares(self.patch_size, why)
    }

    fn forward<'g>(&self, s: Scope<'g>, img: T<'g>, fit: Fit) -> Outputs<'g> {
        let p = self.patch_size;
        let side = (self.image_size - p) / (p / 2) + 1;
        let embedded = self.embed(s.at("to_patch_embedding.2"), img);
        let grid = [Dim::from(embedded.size(1).isqrt()), embedded.size(1).isqrt().into()];
        let fit = if self.whole_table { fit.whole() } else { fit };
        let mut x = s.dropout(class_and_positions(s, embedded, [side; 2], &grid, fit), self.emb_dropout);
        let stages = self.depth.len();
        for (i, &depth) in self.depth.iter().enumerate() {
            let attention = Heads::new(self.heads.at(i), self.dim_head, self.dropout, self.map_dropout);
            let c = Transformer { depth, attention, mlp_dim: self.mlp_dim };
            x = transformer(s.at("layers").at(2 * i), x, &c);
            if i + 1 < stages {
                x = pool(s.at("layers").at(2 * i + 1), x, self.pool_widens_last);
            }
        }
        classify(self.num_classes, x, |x| {
            if self.head_on_all_tokens {
                let [norm, head] = [2 * stages - 1, 2 * stages].map(|i| s.at("layers").at(i));
                return linear(head, layer_norm(norm, x), self.num_classes);
            }
            normed_linear(s.at("mlp_head"), x.pick(1, 0), self.num_classes)
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::template::{Model, Source, parse_set};
    use crate::variants::Declare;

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
            let m = tiny(&[release, "input_size=8"]).expect("a model");
            m.declaration.declare(&Declare::default()).map(|_| ()).map_err(|e| e.to_string())
        };
        assert!(fed("release=0.16").expect_err("the table is larger").contains("add"));
        assert_eq!(fed("release=1"), Ok(()));
    }
}
