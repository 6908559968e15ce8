//! Models of the form `head(pool(encode(embed(patches))))`.
//!
//! Training wrappers act between these steps: masked patch prediction replaces patches before they are embedded,
//! distillation appends a token before they are encoded and takes it off before pooling. Intermediate values that
//! are only looked at are [observed](Scope::observe) instead.

use super::{Fit, Outputs, Variant, classify};
use crate::build::{Scope, T};
use crate::ir::Dim;

/// A model of one sequence of tokens.
pub trait TokenModel: Variant {
    /// Classes; 0 for a model without a head.
    fn classes(&self) -> usize;

    /// The image as the sequence `[b, n, p·p·c]` that is embedded.
    fn patches<'g>(&self, s: Scope<'g>, img: T<'g>) -> T<'g>;

    /// Patches of an image of `size`, height and width, as tokens `[b, n, d]` with their positions, other tokens
    /// first.
    fn embed<'g>(&self, s: Scope<'g>, patches: T<'g>, size: &[Dim; 2], fit: Fit) -> T<'g>;

    /// `[b, n, d] → [b, n, d]` for any number of tokens that the encoder takes.
    fn encode<'g>(&self, s: Scope<'g>, tokens: T<'g>) -> T<'g>;

    /// `[b, n, d] → [b, d]`.
    fn pool<'g>(&self, tokens: T<'g>) -> T<'g>;

    /// `[b, d] → [b, classes]`.
    fn head<'g>(&self, s: Scope<'g>, x: T<'g>) -> T<'g>;

    /// All steps: the `forward` of such a model.
    fn steps<'g>(&self, s: Scope<'g>, img: T<'g>, fit: Fit) -> Outputs<'g> {
        let size = [img.dim(2), img.dim(3)];
        let tokens = self.encode(s, self.embed(s, self.patches(s, img), &size, fit));
        classify(self.classes(), tokens, |x| self.head(s, self.pool(x)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Builder;
    use crate::ir::{DType, Init, Stage, TensorType};
    use crate::template::{Model, Source};
    use crate::variants::VARIANTS;

    /// Distillation on masked patches: a wrapper between the steps of each model, in each era.
    #[test]
    fn wrappers_act_between_the_steps() {
        let mut wrapped = 0;
        for (entry, era) in VARIANTS.iter().flat_map(|v| v.eras.list.iter().map(move |era| (v, era))) {
            let set = ("release".to_owned(), era.releases[1].into());
            let m = Model::resolve(&Source::Preset(entry.name, "tiny"), &[set]).expect("a preset");
            let Some(model) = m.declaration.variant.tokens() else { continue };
            let b = Builder::new("t", Stage::Built);
            let image = m.declaration.variant.image();
            let [h, w] = image.size.expect("the preset says").map(Dim::from);
            let img = b.input("x", TensorType::new(DType::F32, [b.symbol("batch"), image.channels.into(), h, w]));
            let s = b.root().named(era.names);
            let patches = model.patches(s, img);
            let patches = patches * s.param("mask", [patches.dim(1), 1.into()], Init::ONES);
            let tokens = model.embed(s, patches, &[img.dim(2), img.dim(3)], Fit::LeadingRows);
            let one = [tokens.dim(0), 1.into(), tokens.dim(2)];
            let token = s.param("distillation_token", [1.into(), 1.into(), tokens.dim(2)], Init::NORMAL).expand(one);
            let (n, encoded) = (tokens.dim(1), model.encode(s, T::concat(&[tokens, token], 1)));
            b.output("logits", model.head(s, model.pool(encoded.narrow(1, 0, n.clone()))));
            b.output("distilled", encoded.narrow(1, n, 1));
            let g = b.finish().unwrap_or_else(|e| panic!("{m}: {e}"));
            let shapes: Vec<String> = g.outputs().iter().map(|o| g.ty(o.value).shape.to_string()).collect();
            assert_eq!(shapes, ["[batch, 7]", "[batch, 1, 24]"], "{m}");
            // The wrapped model has the parameters of the model, and its own.
            let plain = m.declaration.declare(&super::super::Declare::default()).expect("a graph");
            let mut own: Vec<&str> = g.params().map(|p| &*p.path).collect();
            own.retain(|path| !plain.params().any(|p| *p.path == **path));
            assert_eq!((own, g.params().count()), (vec!["mask", "distillation_token"], plain.params().count() + 2));
            wrapped += 1;
        }
        assert_eq!(wrapped, 33, "five models in all their eras");
    }
}
