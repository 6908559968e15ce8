//! T2T-ViT: tokens-to-token (Yuan et al. 2021, arXiv 2101.11986).

use super::argument::{Classes, Depth, Flag, LARGEST, List, Maybe, Pair, Probability, Width, arguments};
use super::inner::Plugged;
use super::{Image, Outputs, Pool, Sizes, TokenModel, Variant};
use crate::build::{Scope, T};
use crate::ir::Dim;
use crate::nn::{Fit, Heads, Transformer, class_and_positions, layer_norm, linear, transformer, unfold};

arguments! {
    /// Arguments of `vit_pytorch.t2t.T2TViT`.
    pub struct T2T {
        /// Side of the images the position table is made for.
        image_size: Width,
        /// Classes; 0: no head.
        num_classes: Classes,
        /// Model width.
        dim: Width,
        /// Blocks of the transformer; with `inner` it, `heads` and `mlp_dim` are not needed and have no effect.
        depth: Maybe<Depth>,
        /// Its attention heads.
        heads: Maybe<Width>,
        /// Hidden width of its feed-forward layers.
        mlp_dim: Maybe<Width>,
        /// What the head looks at.
        pool: Pool = Pool::Cls,
        /// Image channels.
        channels: Width = 3,
        /// Width of one head of the transformer, whatever `dim / heads` is.
        dim_head: Width = 64,
        /// Dropout in the blocks.
        dropout: Probability = 0.0,
        /// Dropout after the embedding.
        emb_dropout: Probability = 0.0,
        /// Kernel and stride of every overlapping window.
        t2t_layers: List<Pair<Width>> = vec![[7, 4], [3, 2], [3, 2]],
        /// Another transformer; the original's argument `transformer`.
        inner: Maybe<Plugged>,
    }
    options {
        /// Dropout on attention maps too.
        map_dropout: Flag = true,
        /// Every stack ends in a norm.
        stack_norms: Flag = true,
        /// There is a norm of the pooled vector.
        norm_in_head: Flag = false,
        /// There is a transformer after the last window too: 97 % of the parameters of the README's model.
        transformer_after_last_window: Flag = false,
        /// The whole table of positions is added, so only images of `image_size` fit.
        whole_table: Flag = false,
        /// One head as wide as its tokens has an output projection too.
        always_projects: Flag = false,
    }
}

impl T2T {
    fn attention(&self, heads: usize, dim_head: usize) -> Heads {
        let usual = Heads::new(heads, dim_head, self.dropout, self.map_dropout);
        Heads { always_projects: self.always_projects, ..usual }
    }

    /// The transformer's own sizes, when they are all given.
    fn transformer(&self) -> Option<Transformer> {
        let attention = self.attention(self.heads?, self.dim_head);
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
            if width > LARGEST {
                let reason = "tokens grow by kernel² at every layer, beyond the largest width";
                return Err(format!("t2t_layers[{i}]: {reason}, {LARGEST}"));
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

impl T2T {
    /// One block of one head as wide as its tokens, hence as a rule without an output projection.
    fn token_transformer<'g>(&self, s: Scope<'g>, x: T<'g>) -> T<'g> {
        let width = x.size(-1);
        let attention = self.attention(1, width);
        let x = transformer(s, x, &Transformer { depth: 1, attention, mlp_dim: width });
        if self.stack_norms { layer_norm(s.at("norm"), x) } else { x }
    }
}

impl Variant for T2T {
    fn image(&self) -> Image {
        Image { channels: self.channels, size: Some([self.image_size; 2]) }
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.inner.is_none() {
            for (key, v) in [("depth", self.depth), ("heads", self.heads), ("mlp_dim", self.mlp_dim)] {
                if v.is_none() {
                    wrong.push(format!("{key}: missing; it is needed unless [inner] gives the transformer"));
                }
            }
        }
        match (self.side(), &self.inner) {
            (Err(e), _) => wrong.push(e),
            (Ok(side), Some(inner)) => wrong.extend(inner.check(self.dim, side * side + 1)),
            (Ok(_), None) => {}
        }
        wrong
    }

    fn sizes(&self) -> Sizes {
        let why = "its windows need tokens laid out as a square map, and a symbolic number of them has no known side";
        Sizes::squares(1, why)
    }

    fn forward<'g>(&self, s: Scope<'g>, img: T<'g>, fit: Fit) -> Outputs<'g> {
        self.steps(s, img, fit)
    }

    fn tokens(&self) -> Option<&dyn TokenModel> {
        Some(self)
    }
}

impl TokenModel for T2T {
    fn classes(&self) -> usize {
        self.num_classes
    }

    /// Windows of windows: the vectors that the embedding takes are tokens of transformers already.
    fn patches<'g>(&self, s: Scope<'g>, img: T<'g>) -> T<'g> {
        let last = self.t2t_layers.len().saturating_sub(1);
        let mut x = img;
        for (i, &[kernel, stride]) in self.t2t_layers.iter().enumerate() {
            let at = |k: usize| s.at("to_patch_embedding").at(4 * i + k);
            let _in = at(1).enter();
            if i > 0 {
                x = to_map(x);
            }
            x = unfold(x, kernel, stride, stride / 2).t();
            if i < last || self.transformer_after_last_window {
                // The original's recorder sees the main transformer only.
                x = s.unobserved(|| self.token_transformer(at(3), x));
            }
        }
        x
    }

    fn embed<'g>(&self, s: Scope<'g>, patches: T<'g>, _: &[Dim; 2], fit: Fit) -> T<'g> {
        let x = linear(s.at("to_patch_embedding").at(4 * self.t2t_layers.len().max(1)), patches, self.dim);
        let grid = [Dim::from(x.size(1).isqrt()), x.size(1).isqrt().into()];
        let fit = if self.whole_table { fit.whole() } else { fit };
        class_and_positions(s, x, [self.side().unwrap_or(1); 2], &grid, fit)
    }

    fn encode<'g>(&self, s: Scope<'g>, tokens: T<'g>) -> T<'g> {
        let x = s.dropout(tokens, self.emb_dropout);
        let stack = s.at("transformer");
        match (&self.inner, self.transformer()) {
            (Some(inner), _) => inner.forward(stack, x),
            (None, Some(sizes)) => {
                let x = transformer(stack, x, &sizes);
                if self.stack_norms { layer_norm(stack.at("norm"), x) } else { x }
            }
            (None, None) => {
                s.builder().error("depth, heads and mlp_dim are needed without an inner transformer", &[]);
                x.poison()
            }
        }
    }

    fn pool<'g>(&self, tokens: T<'g>) -> T<'g> {
        self.pool.of(tokens)
    }

    fn head<'g>(&self, s: Scope<'g>, x: T<'g>) -> T<'g> {
        let s = s.at("mlp_head");
        linear(s, if self.norm_in_head { layer_norm(s.at("norm"), x) } else { x }, self.num_classes)
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::Graph;
    use crate::template::{Model, Source};
    use crate::variants::Declare;

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
        m.declaration.declare(&Declare { taps, ..Declare::default() }).expect("a graph")
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
