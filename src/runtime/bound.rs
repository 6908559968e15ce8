//! Bound sessions: values that stay in the engine from one run to the next.
//!
//! Training reads `param.x` and returns `param_after.x` at every step. A bound session carries the one over to the
//! other inside the engine; the caller passes and gets only what changes. Everything that does not depend on an engine
//! is checked here, so that all engines report the same problems in the same words, all at once.

use super::port::problems;
use super::{EngineError, InputProblem, Port, PortDim, check_inputs};
use crate::ir::Tensor;

/// One way in which carried pairs or their start values do not fit a model.
#[allow(missing_docs, reason = "the message of a variant names its fields")]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindProblem {
    /// A pair names an input or an output that the model does not have.
    #[error("the model has no {kind} `{name}`: it has {known}")]
    Unknown { kind: &'static str, name: String, known: String },
    /// An input or an output is in more than one pair.
    #[error("{kind} `{name}` is carried more than once")]
    Repeated { kind: &'static str, name: String },
    /// The output has another type or shape than the input that it becomes.
    #[error("output `{output}` cannot become input `{input}`: expected {expected}, found {found}")]
    Mismatch { input: String, output: String, expected: String, found: String },
    /// A start value is missing or does not fit its input.
    #[error("start values: {0}")]
    Start(InputProblem),
}

/// An input and the output that becomes it at the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Carried {
    /// The input; its sizes are those of the start value.
    pub(super) input: Port,
    pub(super) output: String,
}

/// Who supplies and who gets what at each step.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) carried: Vec<Carried>,
    /// Inputs of a step; sizes that the start values decide are fixed.
    pub(super) data: Vec<Port>,
    /// Outputs of a step.
    pub(super) results: Vec<Port>,
}

impl Plan {
    /// Checks pairs and start values against a model's inputs and outputs. Returns the start values in the order of
    /// [`Plan::carried`] too.
    pub(super) fn new(
        inputs: &[Port],
        outputs: &[Port],
        pairs: &[(&str, &str)],
        start: &[(String, Tensor)],
    ) -> Result<(Self, Vec<Tensor>), EngineError> {
        let mut wrong = Vec::new();
        for (kind, ports, names) in [
            ("input", inputs, pairs.iter().map(|p| p.0).collect::<Vec<_>>()),
            ("output", outputs, pairs.iter().map(|p| p.1).collect()),
        ] {
            for (i, &name) in names.iter().enumerate() {
                if ports.iter().all(|p| p.name != name) {
                    let known = list(ports.iter().map(|p| p.name.as_str()));
                    wrong.push(BindProblem::Unknown { kind, name: name.to_owned(), known });
                } else if names[..i].iter().filter(|n| **n == name).count() == 1 {
                    wrong.push(BindProblem::Repeated { kind, name: name.to_owned() });
                }
            }
        }
        let (kept, data): (Vec<Port>, Vec<Port>) =
            inputs.iter().cloned().partition(|p| pairs.iter().any(|(input, _)| *input == p.name));
        let (misfits, sizes) = problems(&kept, start);
        let known = || list(kept.iter().map(|p| p.name.as_str()));
        wrong.extend(misfits.into_iter().map(|p| match p {
            InputProblem::Unknown { name, .. } => BindProblem::Start(InputProblem::NotCarried { name, known: known() }),
            other => BindProblem::Start(other),
        }));

        let fixed = |p: &Port| {
            let size = |d: &PortDim| match d {
                PortDim::Symbol(s) => sizes.get(s.as_str()).map_or_else(|| d.clone(), |&n| PortDim::Known(n)),
                PortDim::Known(_) => d.clone(),
            };
            Port { shape: p.shape.iter().map(size).collect(), ..p.clone() }
        };
        let (mut carried, mut values) = (Vec::new(), Vec::new());
        for &(input, output) in pairs {
            let find = |ports: &[Port], name| ports.iter().find(|p| p.name == name).map(&fixed);
            let (Some(mut to), Some(from)) = (find(&kept, input), find(outputs, output)) else { continue };
            if let Some((_, t)) = start.iter().find(|(n, t)| n == input && t.rank() == to.shape.len()) {
                to.shape = t.shape().iter().map(|&n| PortDim::Known(n)).collect();
                values.push(t.clone());
            }
            if !agree(&to, &from) {
                let (expected, found) = (to.signature(), from.signature());
                let (input, output) = (input.to_owned(), output.to_owned());
                wrong.push(BindProblem::Mismatch { input, output, expected, found });
            }
            carried.push(Carried { input: to, output: output.to_owned() });
        }
        let results =
            outputs.iter().filter(|p| pairs.iter().all(|(_, output)| *output != p.name)).map(&fixed).collect();
        let data = data.iter().map(&fixed).collect();
        if wrong.is_empty() { Ok((Self { carried, data, results }, values)) } else { Err(EngineError::Bind(wrong)) }
    }
}

/// Whether type and sizes do not contradict each other. A size that the model leaves open is checked at every step.
fn agree(to: &Port, from: &Port) -> bool {
    let open = |(a, b): (&PortDim, &PortDim)| a == b || !matches!((a, b), (PortDim::Known(_), PortDim::Known(_)));
    to.dtype == from.dtype && to.shape.len() == from.shape.len() && to.shape.iter().zip(&from.shape).all(open)
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|n| format!("`{n}`")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// How an engine keeps carried values. [`Bound`] has checked everything that is passed here.
pub(super) trait Keep: Send {
    /// Runs the model once on the carried values and `data`, returns the results in the order of [`Plan::results`], and
    /// replaces the carried values. They stay as they were when it fails.
    fn step(&mut self, plan: &Plan, data: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, EngineError>;
    /// A copy of carried value `i`.
    fn get(&self, plan: &Plan, i: usize) -> Result<Tensor, EngineError>;
    /// Replaces carried value `i`.
    fn set(&mut self, i: usize, value: &Tensor) -> Result<(), EngineError>;
}

/// A session that carries values from each run to the next inside the engine; see
/// [`Session::bind`](super::Session::bind).
pub struct Bound {
    plan: Plan,
    keep: Box<dyn Keep>,
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl Bound {
    pub(super) fn new(plan: Plan, keep: Box<dyn Keep>) -> Self {
        Self { plan, keep }
    }

    /// The inputs that [`Bound::step`] takes: those of the model that are not carried, in the order of the file. Sizes
    /// that the start values decide are fixed.
    pub fn data(&self) -> &[Port] {
        &self.plan.data
    }

    /// The outputs that [`Bound::step`] returns: those of the model that are not carried, in the order of the file.
    pub fn results(&self) -> &[Port] {
        &self.plan.results
    }

    /// Names of the carried inputs, in the order of the pairs.
    pub fn carried(&self) -> impl Iterator<Item = &str> {
        self.plan.carried.iter().map(|c| c.input.name.as_str())
    }

    /// Runs the model once on the carried values and `data`, which may come in any order. Every carried input then has
    /// the value of its output. Returns the other outputs in the order of [`Bound::results`].
    ///
    /// # Errors
    /// [`EngineError::Inputs`] as [`Session::run`](super::Session::run) gives it; [`EngineError::Run`] when the engine
    /// fails, also because an output has another shape than the input that it becomes. The carried values are then
    /// those before the step.
    pub fn step(&mut self, data: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, EngineError> {
        let (mut wrong, _) = problems(&self.plan.data, data);
        for p in &mut wrong {
            if let InputProblem::Unknown { name, .. } = p
                && self.carried().any(|c| c == name)
            {
                *p = InputProblem::Carried { name: std::mem::take(name) };
            }
        }
        if !wrong.is_empty() {
            return Err(EngineError::Inputs(wrong));
        }
        self.keep.step(&self.plan, data)
    }

    /// A copy of the value that carried input `input` has now.
    ///
    /// # Errors
    /// [`EngineError::Inputs`] when it is not carried; [`EngineError::Run`] when the engine cannot copy it.
    pub fn get(&self, input: &str) -> Result<Tensor, EngineError> {
        self.keep.get(&self.plan, self.index(input)?)
    }

    /// Replaces the value of carried input `input`.
    ///
    /// # Errors
    /// [`EngineError::Inputs`] when it is not carried or `value` has another type or shape than its start value;
    /// [`EngineError::Run`] when the engine cannot copy it.
    pub fn set(&mut self, input: &str, value: &Tensor) -> Result<(), EngineError> {
        let i = self.index(input)?;
        check_inputs(std::slice::from_ref(&self.plan.carried[i].input), &[(input.to_owned(), value.clone())])?;
        self.keep.set(i, value)
    }

    fn index(&self, input: &str) -> Result<usize, EngineError> {
        let known = || list(self.carried());
        self.carried().position(|c| c == input).ok_or_else(|| {
            EngineError::Inputs(vec![InputProblem::NotCarried { name: input.to_owned(), known: known() }])
        })
    }
}
