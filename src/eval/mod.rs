//! The reference interpreter: the second opinion at every stage, and the engine of last resort.
//!
//! Walks a graph in order, asks each op for its value and drops every value after its last reader,
//! so peak memory is what the model itself needs. It computes in the element types that the graph
//! says; a graph built in f64 is evaluated in f64.

use crate::ir::{Bindings, Operator, Tensor, TensorType, ValueId};
use crate::ops::{EvalError, Graph, Op};

/// Why a graph could not be run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An input is missing.
    #[error("input `{0}` ({1}) was not given")]
    MissingInput(String, TensorType),
    /// An input does not fit its declared type.
    #[error("input `{name}` should be {expected}, found {found}")]
    Input {
        /// Which input.
        name: String,
        /// The declared type.
        expected: TensorType,
        /// What was given.
        found: String,
    },
    /// A parameter could not be had.
    #[error("parameter `{0}`: {1}")]
    Param(String, String),
    /// An op failed.
    #[error("{op} in [{scope}]: {source}")]
    Op {
        /// Its mnemonic.
        op: &'static str,
        /// Where it stands.
        scope: String,
        /// Why.
        source: EvalError,
    },
}

/// Checks a tensor against a declared type and binds the symbols that its shape decides.
pub fn bind(name: &str, ty: &TensorType, t: &Tensor, env: &mut Bindings) -> Result<(), RunError> {
    let found = || format!("{}{:?}", t.dtype(), t.shape());
    let mismatch = || RunError::Input { name: name.to_owned(), expected: ty.clone(), found: found() };
    if t.dtype() != ty.dtype || t.rank() != ty.rank() {
        return Err(mismatch());
    }
    for (d, &n) in ty.shape.iter().zip(t.shape()) {
        let n = n as i64;
        if d.eval(env) == Some(n) {
            continue;
        }
        match d.solve(n) {
            Some((s, v)) if !env.contains_key(&s) => {
                env.insert(s, v);
            }
            _ => return Err(mismatch()),
        }
    }
    Ok(())
}

/// Runs a graph: inputs by name, parameters from `param`, outputs in order.
pub fn run(
    g: &Graph,
    param: &mut dyn FnMut(&str, &TensorType) -> Result<Tensor, String>,
    inputs: &[(&str, Tensor)],
) -> Result<Vec<(String, Tensor)>, RunError> {
    let mut env = Bindings::new();
    let mut values: Vec<Option<Tensor>> = vec![None; g.value_count()];
    let index = |v: ValueId| crate::ir::Entity::index(v);
    for i in g.inputs() {
        let ty = g.ty(i.value);
        let given = inputs.iter().find(|(n, _)| *n == i.name);
        let (_, t) = given.ok_or_else(|| RunError::MissingInput(i.name.clone(), ty.clone()))?;
        bind(&i.name, ty, t, &mut env)?;
        values[index(i.value)] = Some(t.clone());
    }
    let live = g.live();
    let mut left = g.uses();
    for (_, n) in g.nodes() {
        if !n.outputs().any(|v| live[v]) {
            n.inputs.iter().for_each(|&v| left[v] -= 1);
            continue;
        }
        let mut x = Vec::with_capacity(n.inputs.len());
        for &v in &n.inputs {
            x.push(fetch(g, v, &mut values, param)?);
            left[v] -= 1;
        }
        for &v in &n.inputs {
            if left[v] == 0 {
                values[index(v)] = None;
            }
        }
        let fail = |source| RunError::Op { op: n.op.name(), scope: g.scope_path(n.origin.scope).to_owned(), source };
        let y = n.op.def().eval(&x, &env).map_err(fail)?;
        for (v, t) in n.outputs().zip(y) {
            if left[v] > 0 {
                values[index(v)] = Some(t);
            }
        }
    }
    let mut out = Vec::with_capacity(g.outputs().len());
    for o in g.outputs() {
        out.push((o.name.clone(), fetch(g, o.value, &mut values, param)?));
    }
    Ok(out)
}

fn fetch(
    g: &Graph,
    v: ValueId,
    values: &mut [Option<Tensor>],
    param: &mut dyn FnMut(&str, &TensorType) -> Result<Tensor, String>,
) -> Result<Tensor, RunError> {
    let slot = &mut values[crate::ir::Entity::index(v)];
    if let Some(t) = slot {
        return Ok(t.clone());
    }
    let p = g.as_param(v).expect("operands are earlier, so only parameters are made on demand");
    let t = param(&p.path, g.ty(v)).map_err(|e| RunError::Param(p.path.clone(), e))?;
    bind(&p.path, g.ty(v), &t, &mut Bindings::new())?;
    *slot = Some(t.clone());
    Ok(t)
}

/// One value of a graph without inputs, such as a weight program: only what it depends on is
/// computed, and every operand is dropped as soon as it was read.
pub fn value(
    g: &Graph,
    v: ValueId,
    param: &mut dyn FnMut(&str, &TensorType) -> Result<Tensor, String>,
) -> Result<Tensor, RunError> {
    let Some(node) = g.producer(v) else { return fetch(g, v, &mut vec![None; g.value_count()], param) };
    let n = g.node(node);
    let x: Vec<Tensor> = n.inputs.iter().map(|&v| value(g, v, param)).collect::<Result<_, _>>()?;
    let fail = |source| RunError::Op { op: n.op.name(), scope: g.scope_path(n.origin.scope).to_owned(), source };
    let y = op(&n.op, &x).map_err(fail)?;
    let index = crate::ir::Entity::index(v) - crate::ir::Entity::index(n.first);
    Ok(y.into_iter().nth(index).expect("an op has as many results as its types say"))
}

/// Evaluates one op on operands; composites through their definition.
pub fn op(op: &Op, x: &[Tensor]) -> Result<Vec<Tensor>, EvalError> {
    op.def().eval(x, &Bindings::new())
}
