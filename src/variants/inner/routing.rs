//! Routing Transformer (Roy et al. 2020, arXiv 2003.05997), as in routing-transformer 1.6.1.
//!
//! Tokens attend inside clusters: every head keeps one mean vector for each cluster, a cluster takes
//! the queries and the keys that point most in its direction. A token may be in several clusters or
//! in none, so there is no single map from token to token to observe.
//!
//! The means must be initialized: the original finds them by k-means from a random subset in the
//! first forward, in inference too, as long as `initted` is false. A graph holds the means of the
//! checkpoint, so only one saved after a first forward gives what the original gives. Moving
//! averages of the means during training and the commitment loss are not part of the graph.

use super::{Inner, head_width, shared_width};
use crate::build::{Scope, T};
use crate::ir::{DType, Dim, Init, Literal, Tensor};
use crate::nn::{chunked_feed_forward, layer_norm, linear_no_bias, merge_heads, split_heads};
use crate::variants::argument::{Depth, Flag, Maybe, Probability, Width, arguments};

arguments! {
    /// Arguments of `routing_transformer.RoutingTransformer` that are supported: all heads route.
    pub struct Routing {
        /// Blocks.
        depth: Depth,
        /// The number of clusters, times `window_size`.
        max_seq_len: Width,
        /// Attention heads.
        heads: Width = 8,
        /// Width of one head; `dim / heads` when left out.
        dim_head: Maybe<Width>,
        /// Queries, and keys, that a cluster takes.
        window_size: Width = 64,
        /// Dropout on the attention matrices.
        attn_dropout: Probability = 0.0,
        /// Dropout inside the feed-forward layers.
        ff_dropout: Probability = 0.0,
        /// Dropout after the output projection.
        attn_layer_dropout: Probability = 0.0,
        /// Gated feed-forward layers.
        ff_glu: Flag = false,
    }
}

impl Inner for Routing {
    fn check(&self, dim: usize, _: usize) -> Vec<String> {
        let mut wrong: Vec<String> = shared_width(self.dim_head, dim, self.heads).into_iter().collect();
        let (n, w) = (self.max_seq_len, self.window_size);
        if !n.is_multiple_of(w) {
            let near = if n > w { format!("{} or {}", n / w * w, n.next_multiple_of(w)) } else { w.to_string() };
            wrong.push(format!("max_seq_len: {n} is not divisible by window_size {w}; {near} would"));
        }
        wrong
    }

    fn needs_known_length(&self) -> Option<&'static str> {
        Some(
            "clusters of the routing transformer take at most as many tokens as there are, so their number must be known",
        )
    }

    /// Keys `fn.layers.layers.i.{0,1}`. The module returns tokens and a loss; `fn` is the module inside the
    /// wrapper that keeps the tokens.
    fn forward<'g>(&self, s: Scope<'g>, mut x: T<'g>) -> T<'g> {
        for i in 0..self.depth {
            let layer = s.at("fn.layers.layers").at(i);
            x = self.attention(layer.at(0), x) + x;
            x = chunked_feed_forward(layer.at(1), x, self.ff_glu, self.ff_dropout) + x;
        }
        x
    }
}

impl Routing {
    /// Keys `norm`, `fn.{to_q,to_k,to_v,to_out}.weight`, `fn.global_attn.{mem_key,mem_value,kmeans.means,kmeans.initted}`.
    fn attention<'g>(&self, s: Scope<'g>, x: T<'g>) -> T<'g> {
        let (dim, h) = (x.size(-1), self.heads);
        let e = head_width(self.dim_head, dim, h);
        let x = layer_norm(s.at("norm"), x);
        let s = s.at("fn");
        let _in = s.enter();
        let [q, k, v] = ["to_q", "to_k", "to_v"].map(|name| split_heads(linear_no_bias(s.at(name), x, h * e), h));
        let out = self.clustered(s.at("global_attn"), q, k, v);
        let out = linear_no_bias(s.at("to_out"), merge_heads(out), dim);
        s.dropout(out, self.attn_layer_dropout)
    }

    /// Attention inside clusters. `q`, `k`, `v`: `[b, h, n, e]`.
    fn clustered<'g>(&self, s: Scope<'g>, q: T<'g>, k: T<'g>, v: T<'g>) -> T<'g> {
        let _in = s.enter();
        let (h, n, e) = (self.heads, q.size(2), q.size(3));
        let clusters = self.max_seq_len / self.window_size;
        let window = self.window_size.min(n);
        // Memory keys and values exist in the checkpoint, none of them unless the model is causal.
        for name in ["mem_key", "mem_value"] {
            s.param(name, [h, clusters, 0, e], Init::NORMAL);
        }
        let kmeans = s.at("kmeans");
        // Without a checkpoint random directions; the length of a mean does not change what its cluster takes.
        let means = kmeans.buffer("means", DType::F32, [h, clusters, e], Init::NORMAL);
        kmeans.buffer("initted", DType::Bool, Vec::new(), Init::Value(Literal::new(Tensor::scalar(true))));

        let chosen: Vec<Dim> = vec![q.dim(0), h.into(), (clusters * window).into(), 1.into()];
        let wide: Vec<Dim> = vec![q.dim(0), h.into(), (clusters * window).into(), e.into()];
        let nearest = |t: T<'g>| {
            let scores = l2_normalize(t).matmul(means.t());
            let (_, tokens) = scores.top_k(window, 2);
            tokens.t().reshape(chosen.clone())
        };
        let (of_q, of_k) = (nearest(q), nearest(k));
        let take = |t: T<'g>, tokens: T<'g>| {
            let taken = t.gather_elements(2, tokens.expand(wide.clone()));
            taken.rearrange("b h (c w) e -> b h c w e", &[("c", clusters.into())])
        };
        let (qc, kc, vc) = (take(q, of_q), take(k, of_k), take(v, of_k));
        let map = (qc.matmul(kc.t()) * (e as f64).powf(-0.5)).softmax(-1);
        let out = s.dropout(map, self.attn_dropout).matmul(vc).reshape(wide.clone());
        // The mean of what a token gets from its clusters; zero for a token of no cluster.
        let sum = q.zeros_like().scatter_add(2, of_q.expand(wide), out);
        let none = q.narrow(3, 0, 1).zeros_like();
        let count = none.scatter_add(2, of_q, q.scalar(1.0).expand(chosen));
        sum / (count + 1e-5)
    }
}

/// `x / max(‖x‖₂, 1e-12)` over the last axis, as `torch.nn.functional.normalize`.
fn l2_normalize(x: T<'_>) -> T<'_> {
    x / (x * x).sum_keep(&[-1]).sqrt().maximum(x.scalar(1e-12))
}
