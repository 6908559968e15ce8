//! Inputs for a model: open sizes closed, numbers drawn.

use crate::ir::{DType, Init, Real, Tensor};
use crate::runtime::{Port, PortDim};
use crate::weights::{self, WeightError};
use std::collections::BTreeMap;

/// The sizes that a user gives for what a model leaves open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// The shape of an input by its name.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// The size of the batch: of dimensions called `batch`, `batch_size` or `N`, and of the first one of an input. Where
    /// it is `None`, an open batch has the size of `shapes`, or 1.
    pub batch: Option<usize>,
}

/// Why there is no input.
#[allow(missing_docs, reason = "the message of a variant names its fields")]
#[derive(Debug, thiserror::Error)]
pub enum InputsError {
    /// A size is open.
    #[error(
        "input `{name}` is {signature}: its size {dim} is open; give it, for example with --shape {name}={example}"
    )]
    Open { name: String, signature: String, dim: String, example: String },
    /// The shape given is not one of the input's.
    #[error("--shape {name}={found}: input `{name}` is {signature}; for example {example} fits")]
    Shape { name: String, found: String, signature: String, example: String },
    /// The model has a batch of its own.
    #[error("--batch {asked}: input `{name}` is {signature}; build the model with an open batch, or leave --batch out")]
    Batch { name: String, signature: String, asked: usize },
    /// The numbers cannot be drawn.
    #[error(transparent)]
    Draw(#[from] WeightError),
}

impl Sizes {
    /// Inputs for these ports: normal numbers of deviation 1 where elements are floats, 0 and 1 elsewhere. They depend
    /// on the seed, the shape and the input's name. `names` are the names that the inputs go by in `shapes` and when
    /// drawn; where models call the same input differently, these are the baseline's.
    ///
    /// # Errors
    /// When a size is open, or one given does not fit.
    pub fn draw(&self, ports: &[Port], names: &[&str], seed: u64) -> Result<Vec<(String, Tensor)>, InputsError> {
        self.check_batch(ports)?;
        let mut bound: BTreeMap<&str, usize> = BTreeMap::new();
        for (port, name) in ports.iter().zip(names) {
            self.bind(port, name, &mut bound)?;
        }
        let draw = |(port, name): (&Port, &&str)| {
            let shape = self.shape(port, name, &bound)?;
            Ok((port.name.clone(), numbers(port.dtype, &shape, name, seed)?))
        };
        ports.iter().zip(names).map(draw).collect()
    }

    /// Binds the symbols of a port that the user decides, and checks what is decided twice.
    fn bind<'p>(&self, port: &'p Port, name: &str, bound: &mut BTreeMap<&'p str, usize>) -> Result<(), InputsError> {
        let given = self.shapes.get(name);
        let wrong = |shape: &[usize]| InputsError::Shape {
            name: name.to_owned(),
            found: joined(shape),
            signature: port.signature(),
            example: example(port),
        };
        if let Some(shape) = given.filter(|s| s.len() != port.shape.len()) {
            return Err(wrong(shape));
        }
        for (i, dim) in port.shape.iter().enumerate() {
            let asked = given.map(|s| s[i]);
            match dim {
                PortDim::Known(n) if asked.is_some_and(|a| a != *n) => {
                    return Err(wrong(given.map_or(&[], Vec::as_slice)));
                }
                PortDim::Symbol(s) if !s.is_empty() => {
                    let n = self.batch.filter(|_| is_batch(i, s)).or(asked);
                    if let Some(n) = n.filter(|n| *bound.entry(s).or_insert(*n) != *n) {
                        return Err(wrong(given.map_or(&[n], Vec::as_slice)));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A batch that was asked for must reach a model.
    fn check_batch(&self, ports: &[Port]) -> Result<(), InputsError> {
        let Some(asked) = self.batch else { return Ok(()) };
        let takes = |(i, dim): (usize, &PortDim)| match dim {
            PortDim::Known(n) => i == 0 && *n == asked,
            PortDim::Symbol(s) => is_batch(i, s),
        };
        match ports.first() {
            Some(p) if !ports.iter().any(|p| p.shape.iter().enumerate().any(takes)) => {
                Err(InputsError::Batch { name: p.name.clone(), signature: p.signature(), asked })
            }
            _ => Ok(()),
        }
    }

    fn shape(&self, port: &Port, name: &str, bound: &BTreeMap<&str, usize>) -> Result<Vec<usize>, InputsError> {
        let size = |(i, dim): (usize, &PortDim)| match dim {
            PortDim::Known(n) => Ok(*n),
            PortDim::Symbol(s) => {
                let given = || self.shapes.get(name).map(|s| s[i]);
                let batch = is_batch(i, s);
                let asked = if batch { self.batch.or_else(given) } else { given() };
                let asked = asked.or_else(|| bound.get(s.as_str()).copied()).or(batch.then_some(1));
                asked.ok_or_else(|| InputsError::Open {
                    name: name.to_owned(),
                    signature: port.signature(),
                    dim: if s.is_empty() { format!("number {}", i + 1) } else { format!("`{s}`") },
                    example: example(port),
                })
            }
        };
        port.shape.iter().enumerate().map(size).collect()
    }
}

/// Whether an open dimension counts images.
fn is_batch(i: usize, symbol: &str) -> bool {
    i == 0 || ["batch", "batch_size", "n"].contains(&symbol.to_lowercase().as_str())
}

/// A shape that fits the port: photographs are usually 224 high and wide, texts have some length.
fn example(port: &Port) -> String {
    let open = |i: usize| if port.shape.len() == 4 { [1, 3, 224, 224][i] } else { [1, 16][i.min(1)] };
    let size = |(i, dim): (usize, &PortDim)| match dim {
        PortDim::Known(n) => *n,
        PortDim::Symbol(_) => open(i),
    };
    joined(&port.shape.iter().enumerate().map(size).collect::<Vec<_>>())
}

fn joined(shape: &[usize]) -> String {
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x")
}

fn numbers(dtype: DType, shape: &[usize], name: &str, seed: u64) -> Result<Tensor, WeightError> {
    let normal = |dtype| weights::fill(&Init::Normal(Real(1.0)), seed, name, shape, dtype);
    if dtype.is_float() {
        return normal(dtype);
    }
    let bits = normal(DType::F32)?.to_f64_vec().into_iter().map(|x| f32::from(u8::from(x > 0.0))).collect();
    Ok(Tensor::new(shape, bits).cast(dtype))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A size is a number, a name, or nothing.
    fn port(name: &str, dtype: DType, shape: &[&str]) -> Port {
        let dim = |s: &&str| s.parse().map_or_else(|_| PortDim::Symbol((*s).to_owned()), PortDim::Known);
        Port { name: name.to_owned(), dtype, shape: shape.iter().map(dim).collect() }
    }

    fn sizes(shapes: &[(&str, &[usize])], batch: Option<usize>) -> Sizes {
        Sizes { shapes: shapes.iter().map(|(n, s)| ((*n).to_owned(), s.to_vec())).collect(), batch }
    }

    fn drawn(s: &Sizes, ports: &[Port]) -> Result<Vec<Vec<usize>>, String> {
        let names: Vec<&str> = ports.iter().map(|p| p.name.as_str()).collect();
        let inputs = s.draw(ports, &names, 0).map_err(|e| e.to_string())?;
        Ok(inputs.iter().map(|(_, t)| t.shape().to_vec()).collect())
    }

    #[test]
    fn open_sizes_are_closed_by_the_batch_and_the_shapes() {
        let image = [port("x", DType::F32, &["batch", "3", "h", "w"]), port("y", DType::I64, &["batch", "h"])];
        let both = sizes(&[("x", &[2, 3, 8, 4])], None);
        assert_eq!(drawn(&both, &image), Ok(vec![vec![2, 3, 8, 4], vec![2, 8]]), "a symbol is one size in all inputs");
        let both = Sizes { batch: Some(5), ..both };
        assert_eq!(drawn(&both, &image), Ok(vec![vec![5, 3, 8, 4], vec![5, 8]]), "--batch replaces the first size");
        let fixed = [port("x", DType::F32, &["", "3"]), port("y", DType::F32, &[])];
        assert_eq!(drawn(&sizes(&[], None), &fixed), Ok(vec![vec![1, 3], vec![]]));
        assert_eq!(drawn(&sizes(&[], Some(4)), &fixed), Ok(vec![vec![4, 3], vec![]]));
    }

    #[test]
    fn what_does_not_fit_is_said_with_an_example() {
        let open = [port("x", DType::F32, &["batch", "3", "h", "224"])];
        let says = |s: Sizes, ports: &[Port], parts: &[&str]| {
            let e = drawn(&s, ports).expect_err("it does not fit");
            assert!(parts.iter().all(|p| e.contains(p)), "{e}");
        };
        says(sizes(&[], None), &open, &["`h` is open", "--shape x=1x3x224x224"]);
        says(sizes(&[("x", &[1, 3, 8])], None), &open, &["x=1x3x8", "f32[batch, 3, h, 224]", "1x3x224x224"]);
        says(sizes(&[("x", &[1, 4, 8, 224])], None), &open, &["x=1x4x8x224"]);
        says(sizes(&[], Some(8)), &[port("x", DType::F32, &["1", "3"])], &["--batch 8", "f32[1, 3]"]);
        says(sizes(&[], None), &[port("ids", DType::I64, &["", ""])], &["number 2", "ids=1x16"]);
        let twice = [port("x", DType::F32, &["b", "n2"]), port("y", DType::F32, &["b", "n2"])];
        says(sizes(&[("x", &[1, 2]), ("y", &[1, 3])], None), &twice, &["--shape y=1x3"]);
    }

    #[test]
    fn numbers_depend_on_the_seed_and_suit_the_type() {
        let ports = [port("x", DType::F32, &["64"]), port("i", DType::I64, &["64"]), port("b", DType::Bool, &["64"])];
        let draw = |seed| sizes(&[], None).draw(&ports, &["x", "i", "b"], seed).expect("all sizes are known");
        let (a, b) = (draw(1), draw(2));
        assert_eq!(a, draw(1));
        assert_ne!(a[0], b[0]);
        assert_eq!(a.iter().map(|(_, t)| t.dtype()).collect::<Vec<_>>(), [DType::F32, DType::I64, DType::Bool]);
        let whole = a[1].1.to_f64_vec();
        assert!(whole.contains(&0.0) && whole.contains(&1.0) && whole.iter().all(|x| *x == 0.0 || *x == 1.0));
    }
}
