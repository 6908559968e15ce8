//! Sinkhorn Transformer (Tay et al. 2020, arXiv 2002.11296), as in sinkhorn-transformer 0.11.4.
//!
//! Tokens are cut in buckets; every bucket attends to itself and to the buckets it is matched with,
//! so there is no map from token to token to observe. Only the deterministic form is offered, which
//! keeps the best matches; the other draws Gumbel noise in every forward, in inference too.

use super::{Inner, head_width, shared_width};
use crate::build::{Scope, T};
use crate::ir::Tensor;
use crate::nn::{chunked_feed_forward, layer_norm, linear, linear_no_bias, merge_heads, split_heads};
use crate::variants::argument::{Depth, Flag, Maybe, Probability, Width, arguments};

/// The largest bucket size that an error proposes.
const LARGEST_SHOWN: usize = 1024;

arguments! {
    /// Arguments of `sinkhorn_transformer.SinkhornTransformer` that are supported.
    pub struct Sinkhorn {
        /// Blocks.
        depth: Depth,
        /// Attention heads.
        heads: Width = 8,
        /// Width of one head; `dim / heads` when left out.
        dim_head: Maybe<Width>,
        /// Tokens of a bucket.
        bucket_size: Width = 64,
        /// Must be true; the original's default is false.
        non_permutative: Flag = false,
        /// Buckets that a bucket is matched with.
        n_top_buckets: Depth = 1,
        /// Dropout inside the feed-forward layers.
        ff_dropout: Probability = 0.0,
        /// Dropout on the attention matrices.
        attn_dropout: Probability = 0.0,
        /// Dropout after the output projection.
        attn_layer_dropout: Probability = 0.0,
        /// Gated feed-forward layers.
        ff_glu: Flag = false,
    }
}

impl Inner for Sinkhorn {
    fn check(&self, dim: usize, tokens: usize) -> Vec<String> {
        let mut wrong: Vec<String> = shared_width(self.dim_head, dim, self.heads).into_iter().collect();
        let (size, top) = (self.bucket_size, self.n_top_buckets);
        if !tokens.is_multiple_of(size) {
            // Larger buckets are no use, and the number of tokens may be absurd.
            let fits = (1..=tokens.min(LARGEST_SHOWN)).filter(|&d| tokens.is_multiple_of(d));
            let sizes = fits.map(|d| d.to_string()).collect::<Vec<_>>().join(", ");
            wrong.push(format!("bucket_size: {tokens} tokens are not divisible by {size}; sizes are {sizes}"));
        } else if top > tokens / size {
            let buckets = tokens / size;
            wrong.push(format!("n_top_buckets: {top} of {buckets} buckets; 1 to {buckets} is valid"));
        }
        if !self.non_permutative {
            wrong.push(
                "non_permutative: false, the default, adds fresh Gumbel noise in every forward, in inference too, so \
                 the output is not a function of the image; true selects the deterministic form"
                    .into(),
            );
        }
        wrong
    }

    fn needs_known_length(&self) -> Option<&'static str> {
        Some("the Sinkhorn transformer splits its tokens in buckets, so their number must be known")
    }

    /// Keys `layers.layers.i.{0,1}`.
    fn forward<'g>(&self, s: Scope<'g>, mut x: T<'g>) -> T<'g> {
        for i in 0..self.depth {
            let layer = s.at("layers.layers").at(i);
            x = self.attention(layer.at(0), x) + x;
            x = chunked_feed_forward(layer.at(1), x, self.ff_glu, self.ff_dropout) + x;
        }
        x
    }
}

impl Sinkhorn {
    /// Keys `norm`, `fn.to_q.weight`, `fn.to_kv.weight`, `fn.to_out`.
    fn attention<'g>(&self, s: Scope<'g>, x: T<'g>) -> T<'g> {
        let (dim, h) = (x.size(-1), self.heads);
        let e = head_width(self.dim_head, dim, h);
        let x = layer_norm(s.at("norm"), x);
        let s = s.at("fn");
        let _in = s.enter();
        let q = linear_no_bias(s.at("to_q"), x, h * e);
        let [k, v] = linear_no_bias(s.at("to_kv"), x, 2 * h * e).chunk(-1);
        let buckets =
            |t: T<'g>| split_heads(t, h).rearrange("b h (u t) e -> b h u t e", &[("t", self.bucket_size.into())]);
        let (q, k, v) = (buckets(q), buckets(k), buckets(v));
        let scale = (e as f64).powf(-0.5);
        let matched = self.matched(q.mean(&[3]).matmul(k.mean(&[3]).t()) * scale, k);
        let keys = T::concat(&[matched, k], 3);
        // The values of matched buckets are their keys, not their values: the original copies the wrong tensor.
        let values = T::concat(&[matched, v], 3);
        let map = (q.matmul(keys.t()) * scale).softmax(-1);
        let out = s.dropout(map, self.attn_dropout).matmul(values);
        let out = merge_heads(out.rearrange("b h u t e -> b h (u t) e", &[]));
        s.dropout(linear(s.at("to_out"), out, dim), self.attn_layer_dropout)
    }

    /// For every bucket the buckets it scores highest, best first, each times its weight:
    /// scores `[b, h, u, u]` and `[b, h, u, t, e]` to `[b, h, u, top·t, e]`.
    fn matched<'g>(&self, mut scores: T<'g>, buckets: T<'g>) -> T<'g> {
        let u = scores.size(-1);
        let flat = buckets.rearrange("b h u t e -> b h u (t e)", &[]);
        let columns = Tensor::new(&[u], (0..u as i64).collect());
        let columns = scores.builder().constant(columns);
        let mut picks = Vec::with_capacity(self.n_top_buckets);
        for _ in 0..self.n_top_buckets {
            if let Some(&(_, taken)) = picks.last() {
                scores = columns.equal(taken).select(scores.scalar(f64::NEG_INFINITY), scores);
            }
            // The weight is the softmax among the buckets not taken yet.
            let best = scores.softmax(-1).top_k(1, -1);
            picks.push(best);
        }
        let bring = |&(weight, bucket): &(T<'g>, T<'g>)| {
            (flat.gather_elements(2, bucket.expand(flat.dims())) * weight).reshape(buckets.dims())
        };
        let brought: Vec<T<'g>> = picks.iter().map(bring).collect();
        T::concat(&brought, 3)
    }
}
