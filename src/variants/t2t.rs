//! T2T-ViT: tokens-to-token (Yuan et al. 2021, arXiv 2101.11986).

use super::inner::Plugged;
use super::{Image, Outputs, Pool, Sizes, Variant};
use crate::build::{Scope, T};
use crate::ir::{Dim, Init};
use crate::nn::{
    Attention, Fit, Release, Transformer, layer_norm, linear, positions, prepend_class_token, transformer, unfold,
};
use serde::{Deserialize, Serialize};

/// Widest token that is accepted.
const WIDEST: usize = 1 << 20;

/// Arguments of `vit_pytorch.t2t.T2TViT`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct T2T {
    /// Side of the images the position table is made for.
    pub image_size: usize,
    /// Classes.
    pub num_classes: usize,
    /// Model width.
    pub dim: usize,
    /// Blocks of the transformer; with `inner` it, `heads` and `mlp_dim` are not needed and have no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// Its attention heads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heads: Option<usize>,
    /// Hidden width of its feed-forward layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mlp_dim: Option<usize>,
    /// What the head looks at.
    #[serde(default)]
    pub pool: Pool,
    /// Image channels.
    #[serde(default = "super::channels")]
    pub channels: usize,
    /// Width of one head of the transformer, whatever `dim / heads` is.
    #[serde(default = "super::dim_head")]
    pub dim_head: usize,
    /// Dropout in the blocks.
    #[serde(default)]
    pub dropout: f64,
    /// Dropout after the embedding.
    #[serde(default)]
    pub emb_dropout: f64,
    /// Kernel and stride of every overlapping window.
    #[serde(default = "t2t_layers")]
    pub t2t_layers: Vec<[usize; 2]>,
    /// Another transformer; the original's argument `transformer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inner: Option<Plugged>,
}

fn t2t_layers() -> Vec<[usize; 2]> {
    vec![[7, 4], [3, 2], [3, 2]]
}

impl T2T {
    /// The transformer's own sizes, when they are all given.
    fn sizes(&self) -> Option<Transformer> {
        let attention = Attention { heads: self.heads?, dim_head: self.dim_head, dropout: self.dropout };
        Some(Transformer { depth: self.depth?, attention, mlp_dim: self.mlp_dim? })
    }

    /// Side of the final token grid, or what is wrong with `t2t_layers`.
    fn side(&self) -> Result<usize, String> {
        if self.t2t_layers.is_empty() {
            return Err("t2t_layers: empty; at least one [kernel, stride] is needed".into());
        }
        let (mut side, mut width) = (self.image_size, self.channels);
        for (i, &[kernel, stride]) in self.t2t_layers.iter().enumerate() {
            let padded = side + 2 * (stride / 2);
            if kernel > padded {
                return Err(format!("t2t_layers[{i}]: kernel {kernel} exceeds the padded map of {padded}×{padded}"));
            }
            width = width.saturating_mul(kernel).saturating_mul(kernel);
            if width > WIDEST {
                let reason = "tokens grow by kernel² at every layer, beyond the largest width";
                return Err(format!("t2t_layers[{i}]: {reason}, {WIDEST}"));
            }
            side = (padded - kernel) / stride + 1;
        }
        Ok(side)
    }
}

/// Tokens as a square map: `[b, n, c] → [b, c, √n, √n]`.
fn to_map(x: T<'_>) -> T<'_> {
    x.rearrange("b (h w) c -> b c h w", &[("h", x.size(1).isqrt().into())])
}

/// One block of one head as wide as its tokens, hence without an output projection. Release 1 ends it with a norm.
fn token_transformer<'g>(s: Scope<'g>, r: Release, x: T<'g>, dropout: f64) -> T<'g> {
    let width = x.size(-1);
    let attention = Attention { heads: 1, dim_head: width, dropout };
    let x = transformer(s, r, x, &Transformer { depth: 1, attention, mlp_dim: width });
    match r {
        Release::V0_16 => x,
        Release::V1 => layer_norm(s.at("norm"), x),
    }
}

impl Variant for T2T {
    fn image(&self) -> Image {
        Image { channels: self.channels, size: Some([self.image_size; 2]) }
    }

    fn check(&self, r: Release) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.num_classes == 0 {
            wrong.push("num_classes: 0 (no head) is an option of vit only; 1 or more is valid".into());
        }
        if self.inner.is_none() {
            for (key, v) in [("depth", self.depth), ("heads", self.heads), ("mlp_dim", self.mlp_dim)] {
                if v.is_none() {
                    wrong.push(format!("{key}: missing; it is needed unless [inner] gives the transformer"));
                }
            }
        }
        match (self.side(), &self.inner) {
            (Err(e), _) => wrong.push(e),
            (Ok(side), Some(inner)) => wrong.extend(inner.check(r, self.dim, side * side + 1)),
            (Ok(_), None) => {}
        }
        wrong
    }

    fn sizes(&self, _: Release) -> Sizes {
        let why = "its windows need tokens laid out as a square map, and a symbolic number of them has no known side";
        Sizes::squares(1, why)
    }

    fn forward<'g>(&self, r: Release, s: Scope<'g>, img: T<'g>, fit: Fit) -> Outputs<'g> {
        let (d, last) = (self.dim, self.t2t_layers.len().saturating_sub(1));
        let embedding = s.at("to_patch_embedding");
        let mut x = img;
        for (i, &[kernel, stride]) in self.t2t_layers.iter().enumerate() {
            let at = |k: usize| embedding.at(4 * i + k);
            let _in = at(1).enter();
            if i > 0 {
                x = to_map(x);
            }
            x = unfold(x, kernel, stride, stride / 2).t();
            // Release 0.16 also has a transformer after the last window: 97 % of the parameters of the README's model.
            if r == Release::V0_16 || i < last {
                // The original's recorder sees the main transformer only.
                x = s.unobserved(|| token_transformer(at(3), r, x, self.dropout));
            }
        }
        x = linear(embedding.at(4 * (last + 1)), x, d);

        let grid = [Dim::from(x.size(1).isqrt()), x.size(1).isqrt().into()];
        x = prepend_class_token(s, x, [1, 1, d]);
        let trained = self.side().unwrap_or(1);
        let pos = s.param("pos_embedding", [1, trained * trained + 1, d], Init::NORMAL);
        // Release 0.16 adds the whole table, so that only images of `image_size` fit.
        let whole = r == Release::V0_16 && fit == Fit::LeadingRows;
        let pos = if whole { pos } else { positions(pos, x, 1, [trained; 2], &grid, fit) };
        x = s.dropout(x + pos, self.emb_dropout);

        let stack = s.at("transformer");
        x = match (&self.inner, self.sizes()) {
            (Some(inner), _) => inner.forward(r, stack, x),
            (None, Some(sizes)) => {
                let x = transformer(stack, r, x, &sizes);
                if r == Release::V1 { layer_norm(stack.at("norm"), x) } else { x }
            }
            (None, None) => {
                s.builder().error("depth, heads and mlp_dim are needed without an inner transformer", &[]);
                x.poison()
            }
        };
        x = match self.pool {
            Pool::Cls => x.pick(1, 0),
            Pool::Mean => x.mean(&[1]),
        };
        Outputs::logits(match r {
            Release::V0_16 => linear(s.at("mlp_head.1"), layer_norm(s.at("mlp_head.0"), x), self.num_classes),
            Release::V1 => linear(s.at("mlp_head"), x, self.num_classes),
        })
    }

    fn arguments(&self) -> toml::Table {
        super::arguments(self)
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::Graph;
    use crate::template::{Model, Source};
    use crate::variants::{Declare, declare};

    const TINY: &str = "variant = 't2t'\nimage_size = 16\nnum_classes = 7\ndim = 24\n";
    const SIZES: &str = "depth = 2\nheads = 3\nmlp_dim = 40\n";

    fn fail(text: &str) -> String {
        let text = format!("{TINY}{text}");
        Model::resolve(&Source::Text("m.toml", &text), &[]).expect_err("it is wrong").to_string()
    }

    fn declared(preset: &str, release: &str, taps: &[&str]) -> Graph {
        let set = [("release".to_owned(), release.into())];
        let m = Model::resolve(&Source::Preset("t2t", preset), &set).expect("a model");
        let taps = taps.iter().map(|t| (*t).to_owned()).collect();
        declare("t2t", &*m.variant, m.release, &Declare { taps, ..Declare::default() }).expect("a graph")
    }

    #[test]
    fn the_readme_model_has_the_original_number_of_parameters() {
        let count = |release| {
            let g = declared("readme", release, &[]);
            g.params().map(|p| g.ty(p.value).shape.elements().size().expect("known sizes")).sum::<usize>()
        };
        assert_eq!((count("0.16"), count("1")), (732_417_733, 23_465_986));
    }

    #[test]
    fn only_the_main_transformer_is_observed() {
        for release in ["0.16", "1"] {
            let g = declared("tiny", release, &["attentions"]);
            let outputs: Vec<(&str, String)> =
                g.outputs().iter().map(|o| (o.name.as_str(), g.ty(o.value).shape.to_string())).collect();
            assert_eq!(outputs[1..], [("attentions", "[batch, 1, 3, 26, 26]".to_owned())]);
        }
    }

    #[test]
    fn mistakes_are_named() {
        assert!(fail("depth = 1\nheads = 2").contains("mlp_dim: missing"));
        assert!(fail(&format!("{SIZES}t2t_layers = []")).contains("t2t_layers: empty"));
        let e = fail(&format!("{SIZES}t2t_layers = [[7, 4], [7, 2]]"));
        assert!(e.contains("t2t_layers[1]: kernel 7 exceeds the padded map of 6×6"), "{e}");
        let e = fail(&format!("{SIZES}t2t_layers = [[3, 2]]\nchannels = 1048576"));
        assert!(e.contains("t2t_layers[0]: tokens grow"), "{e}");
        let e = fail("t2t_layers = [[3, 2]]\n[inner]\nkind = 'sinkhorn'\ndepth = 1\nnon_permutative = true\nheads = 3");
        assert!(e.contains("inner.bucket_size: 65 tokens"), "{e}");
    }
}
