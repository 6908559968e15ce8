//! Nyströmformer (Xiong et al. 2021, arXiv 2102.03902), as in nystrom-attention 0.0.11 to 0.0.14.
//!
//! Attention through landmark tokens: its three factors are tokens × landmarks, landmarks × landmarks
//! and landmarks × tokens, so there is no map from token to token to observe.
//!
//! **Images of one batch influence each other**: the iteration for the pseudo-inverse starts from a
//! matrix divided by a maximum over the whole batch and all heads. The iteration has not converged
//! when it stops, so the output for an image depends, slightly, on the images beside it.

use super::Inner;
use crate::build::{Scope, T};
use crate::ir::{Init, Tensor};
use crate::nn::{gelu, layer_norm, linear, linear_no_bias, merge_heads, split_heads};
use crate::ops::Conv;
use crate::variants::argument::{Depth, Flag, Probability, Width, arguments};

/// The inverse begins from an identity matrix of landmarks by landmarks.
const MOST_LANDMARKS: usize = 2048;

arguments! {
    /// Arguments of `nystrom_attention.Nystromformer`.
    pub struct Nystrom {
        /// Blocks.
        depth: Depth,
        /// Width of one head, whatever `dim / heads` is.
        dim_head: Width = 64,
        /// Attention heads.
        heads: Width = 8,
        /// Landmark tokens.
        num_landmarks: Width = 256,
        /// Steps of the iteration for the pseudo-inverse.
        pinv_iterations: Depth = 6,
        /// Whether a convolution of the values along the tokens is added.
        attn_values_residual: Flag = true,
        /// Its length; odd.
        attn_values_residual_conv_kernel: Width = 33,
        /// Dropout after the output projection.
        attn_dropout: Probability = 0.0,
        /// Dropout inside the feed-forward layers.
        ff_dropout: Probability = 0.0,
    }
    options {
        /// Missing tokens come after the others; else before them.
        pads_after: Flag = false,
        /// The first rows are the result, whatever stands before the tokens.
        takes_first_rows: Flag = false,
    }
}

impl Inner for Nystrom {
    fn check(&self, _: usize, _: usize) -> Vec<String> {
        let k = self.attn_values_residual_conv_kernel;
        let even = self.attn_values_residual && k.is_multiple_of(2);
        let reason = || format!("attn_values_residual_conv_kernel: {k} is even; odd kernels keep the number of tokens");
        let many = self.num_landmarks > MOST_LANDMARKS;
        let too_many = || format!("num_landmarks: {} is more than {MOST_LANDMARKS}", self.num_landmarks);
        even.then(reason).into_iter().chain(many.then(too_many)).collect()
    }

    fn needs_known_length(&self) -> Option<&'static str> {
        Some("the Nyström transformer pads its tokens to a multiple of the landmarks, so their number must be known")
    }

    /// Keys `layers.i.{0,1}`, the same in every release of the package; no norm at the end.
    fn forward<'g>(&self, s: Scope<'g>, mut x: T<'g>) -> T<'g> {
        let dim = x.size(-1);
        for i in 0..self.depth {
            let layer = s.at("layers").at(i);
            x = self.attention(layer.at(0), x) + x;
            let (norm, net) = (layer.at("1.norm"), layer.at("1.fn.net"));
            let h = gelu(linear(net.at(0), layer_norm(norm, x), 4 * dim));
            x = linear(net.at(3), net.dropout(h, self.ff_dropout), dim) + x;
        }
        x
    }
}

impl Nystrom {
    /// Keys `norm`, `fn.{to_qkv,to_out.0,res_conv}`.
    fn attention<'g>(&self, s: Scope<'g>, x: T<'g>) -> T<'g> {
        let (dim, n, m) = (x.size(-1), x.size(1), self.num_landmarks);
        let x = layer_norm(s.at("norm"), x);
        let s = s.at("fn");
        let _in = s.enter();
        // Missing tokens are zero rows; as keys they take part with logit 0.
        let missing = n.next_multiple_of(m) - n;
        let before = if self.pads_after { 0 } else { missing };
        let x = x.pad(1, before, missing - before);
        let qkv = linear_no_bias(s.at("to_qkv"), x, 3 * self.heads * self.dim_head);
        let [q, k, v] = qkv.chunk(-1).map(|t| split_heads(t, self.heads));
        let q = q * (self.dim_head as f64).powf(-0.5);
        let landmarks = |t: T<'g>| t.rearrange("b h (m l) e -> b h m l e", &[("m", m.into())]).mean(&[3]);
        let (ql, kl) = (landmarks(q), landmarks(k));
        let [a1, a2, a3] = [q.matmul(kl.t()), ql.matmul(kl.t()), ql.matmul(k.t())].map(|dots| dots.softmax(-1));
        let mut out = a1.matmul(pseudo_inverse(a2, self.pinv_iterations)).matmul(a3.matmul(v));
        if self.attn_values_residual {
            let kernel = self.attn_values_residual_conv_kernel;
            let weight = s.at("res_conv").param("weight", [self.heads, 1, kernel, 1], Init::fan_in(kernel));
            let pad = kernel / 2;
            let along = Conv { pads: [pad, 0, pad, 0], ..Conv::new().groups(self.heads) };
            out = out + v.conv(along, weight, None);
        }
        let out = linear(s.at("to_out.0"), merge_heads(out), dim);
        s.dropout(out, self.attn_dropout).narrow(1, if self.takes_first_rows { 0 } else { before }, n)
    }
}

/// Moore–Penrose inverse of `[b, h, m, m]` row-stochastic matrices by the iteration of the paper (section 3.2.3).
fn pseudo_inverse(a: T<'_>, iterations: usize) -> T<'_> {
    // One maximum for the whole batch and all heads, not one for each matrix: this couples the images of a batch.
    let [rows, columns] = [-1, -2].map(|along| a.sum_keep(&[along]).max_keep(&[0, 1, 2, 3]));
    let mut z = a.t() / (rows * columns);
    let m = a.size(-1);
    let mut identity = vec![0.0f32; m * m];
    identity.iter_mut().step_by(m + 1).for_each(|x| *x = 1.0);
    let identity = a.builder().constant(Tensor::new(&[m, m], identity)).cast(a.dtype());
    for _ in 0..iterations {
        let az = a.matmul(z);
        let inner = identity * 15.0 - az.matmul(identity * 7.0 - az);
        z = (z * 0.25).matmul(identity * 13.0 - az.matmul(inner));
    }
    z
}
