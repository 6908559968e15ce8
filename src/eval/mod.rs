//! The reference interpreter: the second opinion at every stage, and the engine of last resort.
//!
//! Walks a graph in order, asks each op for its value and drops every value after its last reader,
//! so peak memory is what the model itself needs. It computes in the element types that the graph
//! says; a graph built in f64 is evaluated in f64. Of 16-bit floats and small integers each op's operands are widened
//! once and its results rounded once, as runtimes do.

use crate::ir::{Bindings, DType, Operator, Side, Tensor, TensorType, ValueId};
use crate::ops::{EvalError, Graph, Op};

/// Why a graph could not be run.
#[allow(missing_docs, reason = "the message of a variant names its fields")]
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An input is missing.
    #[error("input `{0}` ({1}) is missing")]
    MissingInput(String, TensorType),
    /// An input does not fit its declared type.
    #[error("input `{name}` should be {expected}, found {found}")]
    Input { name: String, expected: TensorType, found: String },
    /// A parameter could not be had.
    #[error("parameter `{0}`: {1}")]
    Param(String, String),
    /// An op failed.
    #[error("{op} in [{scope}]: {source}")]
    Op { op: &'static str, scope: String, source: EvalError },
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

/// Runs a graph: inputs by name, parameters from `param`, outputs in order. Only what the outputs depend on is computed,
/// each value once, and every value is dropped after its last reader.
pub fn run(
    g: &Graph,
    param: &mut dyn FnMut(&str, &TensorType) -> Result<Tensor, String>,
    inputs: &[(&str, Tensor)],
) -> Result<Vec<(String, Tensor)>, RunError> {
    let mut env = Bindings::new();
    let mut values: Side<ValueId, Option<Tensor>> = Side::new(g.value_count(), None);
    for i in g.inputs() {
        let ty = g.ty(i.value);
        let given = inputs.iter().find(|(n, _)| *n == i.name);
        let (_, t) = given.ok_or_else(|| RunError::MissingInput(i.name.clone(), ty.clone()))?;
        bind(&i.name, ty, t, &mut env)?;
        values[i.value] = Some(t.clone());
    }
    let mut left = Side::new(g.value_count(), 0u32);
    for o in g.outputs() {
        left[o.value] += 1;
    }
    let mut needed = Vec::new();
    for (_, n) in g.nodes().rev() {
        if n.outputs().any(|v| left[v] > 0) {
            for &v in &n.inputs {
                left[v] += 1;
            }
            needed.push(n);
        }
    }
    for n in needed.into_iter().rev() {
        let mut x = Vec::with_capacity(n.inputs.len());
        for &v in &n.inputs {
            x.push(fetch(g, v, &mut values, param)?);
            left[v] -= 1;
        }
        for &v in &n.inputs {
            if left[v] == 0 {
                values[v] = None;
            }
        }
        let fail = |source| RunError::Op { op: n.op.name(), scope: g.scope_path(n.origin.scope).to_owned(), source };
        let y = apply(&n.op, x, &env, || Ok(n.outputs().map(|v| g.ty(v).dtype).collect())).map_err(fail)?;
        for (v, t) in n.outputs().zip(y) {
            if left[v] > 0 {
                values[v] = Some(t);
            }
        }
    }
    g.outputs().iter().map(|o| Ok((o.name.clone(), fetch(g, o.value, &mut values, param)?))).collect()
}

fn fetch(
    g: &Graph,
    v: ValueId,
    values: &mut Side<ValueId, Option<Tensor>>,
    param: &mut dyn FnMut(&str, &TensorType) -> Result<Tensor, String>,
) -> Result<Tensor, RunError> {
    let slot = &mut values[v];
    if let Some(t) = slot {
        return Ok(t.clone());
    }
    let p = g.as_param(v).expect("operands are earlier, so only parameters are made on demand");
    let t = param(&p.path, g.ty(v)).map_err(|e| RunError::Param(p.path.to_string(), e))?;
    bind(&p.path, g.ty(v), &t, &mut Bindings::new())?;
    *slot = Some(t.clone());
    Ok(t)
}

/// Evaluates one op on operands; composites through their definition.
pub fn op(op: &Op, x: &[Tensor]) -> Result<Vec<Tensor>, EvalError> {
    op_in(op, x, &Bindings::new())
}

/// [`op`] where the op's attributes have symbols.
pub fn op_in(op: &Op, x: &[Tensor], env: &Bindings) -> Result<Vec<Tensor>, EvalError> {
    apply(op, x.to_vec(), env, || {
        let types: Vec<TensorType> = x.iter().map(|t| TensorType::new(t.dtype(), t.shape())).collect();
        let y = op.def().infer(&types.iter().collect::<Vec<_>>()).map_err(|e| EvalError(e.0))?;
        Ok(y.into_iter().map(|t| t.dtype).collect())
    })
}

/// Ops see f32, f64, i64 and bool, unless they only move elements: operands of other types are widened and the results,
/// of the types that `results` says, rounded once (integers wrap around).
fn apply(
    op: &Op,
    x: Vec<Tensor>,
    env: &Bindings,
    results: impl FnOnce() -> Result<Vec<DType>, EvalError>,
) -> Result<Vec<Tensor>, EvalError> {
    let op = op.def();
    if op.traits().moves || x.iter().all(|t| t.dtype().computes_in() == t.dtype()) {
        return op.eval(&x, env);
    }
    let wide: Vec<Tensor> = x.into_iter().map(|t| t.cast(t.dtype().computes_in())).collect();
    Ok(op.eval(&wide, env)?.into_iter().zip(results()?).map(|(y, dtype)| y.cast(dtype)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Builder;
    use crate::ir::{Init, Stage};

    /// Forty doublings: a walk along every path from the root would never end.
    #[test]
    fn a_shared_value_is_computed_once() {
        let b = Builder::new("weights", Stage::Legal);
        let mut x = b.param("p", TensorType::new(DType::F32, [2]), Init::ZEROS, true);
        for _ in 0..40 {
            x = x + x;
        }
        b.output("y", x);
        let _unread = -b.param("q", TensorType::new(DType::F32, [2]), Init::ZEROS, true);
        let g = b.finish().expect("well typed");
        let mut read = Vec::new();
        let mut param = |path: &str, _: &TensorType| {
            read.push(path.to_owned());
            Ok(Tensor::new(&[2], vec![1.0f32, -0.5]))
        };
        let want = Tensor::new(&[2], vec![2f32.powi(40), -(2f32.powi(39))]);
        assert_eq!(run(&g, &mut param, &[]).expect("runs"), [("y".to_owned(), want)]);
        assert_eq!(read, ["p"]);
    }
}
