//! A declaration: a variant, the era of its checkpoint, and the images it is fed.

use super::{Era, Fit, Image, ImageSize, Outputs, Variant};
use crate::build::{BuildErrors, Builder, T};
use crate::ir::{DType, Dim, Stage, Symbol, TensorType};
use crate::ops::Graph;
use toml::{Table, Value};

/// A variant with everything decided.
#[derive(Debug)]
pub struct Declaration {
    /// What the graph is called.
    pub name: String,
    /// The model.
    pub variant: Box<dyn Variant>,
    /// The model file it was read from; none for a variant of one's own, whose parameters are named as it says.
    pub registered: Option<Registered>,
    /// Height and width of the images fed, where they are smaller than those the model is made for: position tables
    /// are cut to their leading rows.
    pub input_size: Option<[usize; 2]>,
}

/// A resolved model file, which travels in the ONNX file.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The variant's name in the registry.
    pub variant: &'static str,
    /// Its release, as the model file says it.
    pub release: String,
    /// The era that names its parameters.
    pub era: &'static Era,
    /// Its arguments, defaults included.
    pub arguments: Table,
}

/// Options of one graph of a declaration.
#[derive(Clone, Debug, Default)]
pub struct Declare {
    /// A number of images, or `None` for a symbolic batch.
    pub batch: Option<usize>,
    /// Which images the graph is for.
    pub image_size: ImageSize,
    /// Intermediate values to output too; `attentions` is the only kind.
    pub taps: Vec<String>,
}

impl Declaration {
    /// A variant of one's own.
    pub fn new(name: impl Into<String>, variant: impl Variant + 'static) -> Self {
        Self { name: name.into(), variant: Box::new(variant), registered: None, input_size: None }
    }

    /// The model file that resolves to this declaration; there is none for a variant of one's own.
    pub fn model_file(&self) -> Option<Table> {
        let Registered { variant, release, arguments, .. } = self.registered.as_ref()?;
        let head = [("variant".to_owned(), (*variant).into()), ("release".to_owned(), release.as_str().into())];
        let mut t = Table::from_iter(head);
        if let Some([h, w]) = self.input_size {
            t.insert("input_size".into(), Value::Array(vec![(h as i64).into(), (w as i64).into()]));
        }
        t.extend(arguments.clone());
        Some(t)
    }

    /// Builds the graph: input `pixel_values`, outputs as the model names them, and taps.
    pub fn declare(&self, options: &Declare) -> Result<Graph, BuildErrors> {
        let b = Builder::new(self.name.as_str(), Stage::Built);
        options.taps.iter().for_each(|t| b.want(t));
        let decided = self.decide(options.image_size).map_err(|e| vec![e]);
        // A registered variant was checked when its arguments were read.
        let checked = if self.registered.is_none() { self.variant.check() } else { Vec::new() };
        let ([h, w], fit) = match decided {
            Ok(decided) if checked.is_empty() => decided,
            refused => {
                checked.into_iter().chain(refused.err().into_iter().flatten()).for_each(|e| b.error(e, &[]));
                return b.finish();
            }
        };
        let Image { channels, .. } = self.variant.image();
        let batch = options.batch.map_or_else(|| b.symbol("batch"), Dim::from);
        let img = b.input("pixel_values", TensorType::new(DType::F32, [batch, channels.into(), h, w]));
        let root = b.root().named(self.registered.as_ref().map_or(&[], |r| r.era.names));
        let Outputs(outputs) = self.variant.forward(root, img, fit);
        for (name, t) in outputs {
            b.output(name, t);
        }
        for tap in &options.taps {
            give_out(&b, tap);
        }
        b.finish()
    }

    /// Height and width of the images and the treatment of position tables, or why the model cannot take such images.
    /// Symbolic sizes are multiples of `h` and `w`. `input_size` applies to images of the checkpoint's size only.
    pub fn decide(&self, size: ImageSize) -> Result<([Dim; 2], Fit), String> {
        let (name, sizes) = (&self.name, self.variant.sizes());
        match size {
            ImageSize::Trained => {
                let size = self.input_size.or(self.variant.image().size).unwrap_or([224, 224]);
                Ok((size.map(Dim::from), Fit::LeadingRows))
            }
            ImageSize::Resampled([h, w]) => {
                if sizes.square && h != w {
                    return Err(format!("variant {name} takes square images only, not {size}; {h} or {w} is valid"));
                }
                for (side, n, step) in [("height", h, sizes.step[0]), ("width", w, sizes.step[1])] {
                    let (below, above) = (n / step * step, n.div_ceil(step).saturating_mul(step));
                    if n == 0 || below != n {
                        let near = if below > 0 { format!("{below} or {above}") } else { above.max(step).to_string() };
                        return Err(format!("image size {size}: {side} {n} is not a multiple of {step}; {near} is"));
                    }
                }
                Ok(([h.into(), w.into()], Fit::Resampled))
            }
            ImageSize::Dynamic => {
                let refused = |why| format!("variant {name} cannot have a symbolic image size: {why}; give a number");
                let unit = sizes.symbolic.map_err(refused)?;
                if unit.iter().any(|&n| n > ImageSize::LARGEST) {
                    return Err(refused("its strides multiply to more than the largest image"));
                }
                let dim = |name, n: usize| Dim::symbol(Symbol::new(name).expect("a letter")) * n;
                Ok(([dim("h", unit[0]), dim("w", unit[1])], Fit::Resampled))
            }
        }
    }

    /// The size to which photographs are best brought for the model.
    pub fn preferred(&self, size: ImageSize) -> [usize; 2] {
        let own = self.variant.image().size;
        match size {
            ImageSize::Resampled(hw) => hw,
            ImageSize::Trained => self.input_size.or(own).unwrap_or([224, 224]),
            ImageSize::Dynamic => own.unwrap_or_else(|| self.variant.sizes().usual()),
        }
    }
}

/// All observed values stacked as `[batch, layers, …]` when their shapes agree, else one output for each.
fn give_out(b: &Builder, tap: &str) {
    let seen = b.observed(tap);
    let Some(first) = seen.first() else {
        b.error(format!("the model has no `{tap}` to output"), &[]);
        return;
    };
    if seen.iter().all(|t| t.ty() == first.ty()) {
        let layers: Vec<T<'_>> = seen.iter().map(|t| t.unsqueeze(1)).collect();
        b.output(tap, T::concat(&layers, 1));
    } else {
        seen.iter().enumerate().for_each(|(i, t)| b.output(&format!("{tap}.{i}"), *t));
    }
}
