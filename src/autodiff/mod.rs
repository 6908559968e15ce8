//! Reverse-mode differentiation: appends the gradient of a scalar to its graph.
//!
//! The walk visits nodes from the loss towards the inputs. Operands are always earlier than their
//! users, so all contributions to the cotangent of a node are known when the node is visited. The ops
//! define the rules; this module adds the contributions, sums cotangents over broadcast axes (here and
//! nowhere else) and differentiates composites through their definitions. The forward part keeps its
//! ids. Passes may simplify the appended nodes or share them.
//!
//! Deliberately unknown here: optimizers, losses, and which parameters are trained.

use crate::build::{Builder, T};
use crate::ir::{Entity, Origin, Side, TensorType, ValueId};
use crate::ops::{Grad, Node, Vjp};
use std::collections::BTreeMap;

/// The name of the rule in the origin of gradient nodes.
const RULE: &str = "vjp";

/// An error of [`gradients`].
#[allow(missing_docs, reason = "the message of a variant names its fields")]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AutodiffError {
    /// The loss is not one number.
    #[error("the loss must be a float scalar, found {0}")]
    NotScalar(TensorType),
    /// An argument, or a gradient, is the result of a mistake that the builder has recorded.
    #[error("{0} is the result of an earlier mistake: finish the builder to see it")]
    Poisoned(String),
    /// The loss depends on a target through an op that has no gradient.
    #[error("{op} in [{scope}] cannot be differentiated: {reason}")]
    Never { op: &'static str, scope: String, reason: &'static str },
    /// The rule of an op returned a cotangent that does not fit its operand.
    #[error("the gradient of {op} in [{scope}] should be {expected}, found {found}")]
    Mistyped { op: &'static str, scope: String, expected: TensorType, found: TensorType },
}

/// Appends the gradients of the scalar `loss` with respect to each of `wrt`, of the same types; zeros where the
/// loss does not depend on one. The scope of a new node is `grad/…` with the scope of its forward node.
pub fn gradients<'g>(b: &'g Builder, loss: T<'g>, wrt: &[T<'g>]) -> Result<Vec<T<'g>>, AutodiffError> {
    let id = |t: T<'g>, what: &str| t.id().ok_or_else(|| AutodiffError::Poisoned(what.to_owned()));
    let seed = id(loss, "the loss")?;
    let ty = loss.ty();
    if ty.rank() != 0 || !ty.dtype.is_float() {
        return Err(AutodiffError::NotScalar(ty));
    }
    let targets = wrt.iter().map(|&t| id(t, "a value to differentiate for")).collect::<Result<Vec<_>, _>>()?;
    let origin = Origin { scope: b.scope_id("grad"), at: None, rule: Some(RULE) };
    let one = b.with_origin(origin, || loss.ones_like());
    let cotangents = pull(b, &[(seed, one)], &targets, Targets::Open)?;
    let zeros = |t: T<'g>| b.with_origin(origin, || t.zeros_like());
    Ok(wrt.iter().zip(targets).map(|(&t, v)| cotangents.get(&v).copied().unwrap_or_else(|| zeros(t))).collect())
}

/// Whether the walk continues beyond a target that depends on another.
#[derive(Clone, Copy, PartialEq)]
enum Targets {
    /// It continues: the result is the whole gradient of each target.
    Open,
    /// It stops: targets are the operands of a definition, which treats them as independent.
    Closed,
}

/// Adds a contribution to the sum of those so far to a value's cotangent.
fn add<'g>(cotangents: &mut BTreeMap<ValueId, T<'g>>, v: ValueId, g: T<'g>) {
    cotangents.entry(v).and_modify(|sum| *sum = *sum + g).or_insert(g);
}

/// Pulls the cotangents of `seeds` back to `targets`; targets that no seed depends on are left out.
fn pull<'g>(
    b: &'g Builder,
    seeds: &[(ValueId, T<'g>)],
    targets: &[ValueId],
    bounds: Targets,
) -> Result<BTreeMap<ValueId, T<'g>>, AutodiffError> {
    let (nodes, wanted) = path(b, seeds, targets, bounds);
    let mut cotangents = BTreeMap::new();
    for &(v, g) in seeds {
        add(&mut cotangents, v, g);
    }
    for node in nodes.iter().rev() {
        let g: Vec<Option<T<'g>>> = node.outputs().map(|v| cotangents.get(&v).copied()).collect();
        if g.iter().all(Option::is_none) {
            continue;
        }
        let forward = b.read(|graph| graph.scope_path(node.origin.scope).to_owned());
        let scope = if forward.is_empty() { "grad".to_owned() } else { format!("grad/{forward}") };
        let origin = Origin { scope: b.scope_id(&scope), at: node.origin.at, rule: Some(RULE) };
        b.with_origin(origin, || {
            let contributions = step(b, node, &g, &wanted, forward)?;
            for (v, g) in contributions {
                add(&mut cotangents, v, g);
            }
            Ok(())
        })?;
    }
    cotangents.retain(|v, _| targets.contains(v));
    Ok(cotangents)
}

/// Returns the contributions of one node, in the forward scope `scope`, to the cotangents of its operands.
fn step<'g>(
    b: &'g Builder,
    node: &Node,
    g: &[Option<T<'g>>],
    wanted: &Side<ValueId, bool>,
    scope: String,
) -> Result<Vec<(ValueId, T<'g>)>, AutodiffError> {
    let op = node.op.mnemonic();
    let x: Vec<T<'g>> = node.inputs.iter().map(|&v| b.value(v)).collect();
    let y: Vec<T<'g>> = node.outputs().map(|v| b.value(v)).collect();
    match node.op.def().vjp(&Vjp { x: &x, y: &y, g }) {
        Grad::Zero => Ok(Vec::new()),
        Grad::Never(reason) => Err(AutodiffError::Never { op, scope, reason }),
        Grad::To(cotangents) => {
            let mut contributions = Vec::new();
            for (&v, g) in node.inputs.iter().zip(cotangents) {
                let (Some(g), true) = (g, wanted[v]) else { continue };
                let expected = b.ty(v);
                let g = unbroadcast(g, &expected);
                if g.poisoned() {
                    return Err(AutodiffError::Poisoned(format!("the gradient of {op} in [{scope}]")));
                }
                if g.ty() != expected {
                    return Err(AutodiffError::Mistyped { op, scope, expected, found: g.ty() });
                }
                contributions.push((v, g));
            }
            Ok(contributions)
        }
        Grad::ByDecomposition => {
            let results = node.op.def().definition(&x).unwrap_or_default();
            if results.len() != y.len() || results.iter().any(|y| y.poisoned()) {
                return Err(AutodiffError::Poisoned(format!("the definition of {op} in [{scope}]")));
            }
            let seeds: Vec<_> = results.iter().zip(g).filter_map(|(y, g)| Some((y.id()?, (*g)?))).collect();
            let operands: Vec<ValueId> = node.inputs.iter().copied().filter(|&v| wanted[v]).collect();
            Ok(pull(b, &seeds, &operands, Targets::Closed)?.into_iter().collect())
        }
    }
}

/// Returns the nodes through which a seed depends on a target, in order, and the values that depend on a target
/// in a differentiable way: integers and booleans have no cotangent.
fn path<'g>(
    b: &'g Builder,
    seeds: &[(ValueId, T<'g>)],
    targets: &[ValueId],
    bounds: Targets,
) -> (Vec<Node>, Side<ValueId, bool>) {
    b.read(|graph| {
        let mut wanted = Side::new(graph.value_count(), false);
        for &v in targets {
            wanted[v] = true;
        }
        let last = seeds.iter().filter_map(|&(v, _)| graph.producer(v)).max();
        let mut below = Vec::new();
        for (_, node) in graph.nodes().take(last.map_or(0, |n| n.index() + 1)) {
            let closed = bounds == Targets::Closed && node.outputs().any(|v| targets.contains(&v));
            if !closed && node.inputs.iter().any(|&v| wanted[v]) {
                node.outputs().filter(|&v| graph.ty(v).dtype.is_float()).for_each(|v| wanted[v] = true);
                below.push(node);
            }
        }
        let mut live = Side::new(graph.value_count(), false);
        for &(v, _) in seeds {
            live[v] = true;
        }
        let mut nodes = Vec::new();
        for node in below.into_iter().rev().filter(|n| n.outputs().any(|v| wanted[v])) {
            if node.outputs().any(|v| live[v]) {
                node.inputs.iter().for_each(|&v| live[v] = true);
                nodes.push(node.clone());
            }
        }
        nodes.reverse();
        (nodes, wanted)
    })
}

/// Sums a cotangent over the axes along which the operand, of type `to`, was broadcast.
fn unbroadcast<'g>(g: T<'g>, to: &TensorType) -> T<'g> {
    let have = g.dims();
    if g.poisoned() || have == to.shape || have.len() < to.rank() {
        return g;
    }
    let lead = have.len() - to.rank();
    let stretched = |i: &usize| to.shape[*i].is(1) && !have[lead + i].is(1);
    let kept: Vec<i64> = (0..to.rank()).filter(stretched).map(|i| (lead + i) as i64).collect();
    let g = if kept.is_empty() { g } else { g.sum_keep(&kept) };
    if lead == 0 { g } else { g.sum(&(0..lead as i64).collect::<Vec<_>>()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval;
    use crate::ir::{DType, Real, Stage, Tensor};
    use crate::ops::{Activation, ActivationKind, Dropout, FusedMatMul};

    fn f64s(shape: &[i64]) -> TensorType {
        TensorType::new(DType::F64, shape)
    }

    /// Runs a graph of inputs `x` and outputs.
    fn run(b: Builder, x: &Tensor) -> Vec<Tensor> {
        let g = b.finish().expect("well typed");
        let y = eval::run(&g, &mut |p, _| Err(p.to_owned()), &[("x", x.clone())]).expect("runs");
        y.into_iter().map(|(_, t)| t).collect()
    }

    fn close(a: &Tensor, b: &Tensor) -> bool {
        a.max_abs_diff(b).is_some_and(|d| d < 1e-12)
    }

    #[test]
    fn contributions_of_all_users_are_added() {
        let b = Builder::new("t", Stage::Built);
        let x = b.input("x", f64s(&[2]));
        let loss = (x * x + x).sum(&[0]);
        let g = gradients(&b, loss, &[x]).expect("differentiable");
        b.output("g", g[0]);
        let x = Tensor::new(&[2], vec![3.0, -1.0]);
        assert_eq!(run(b, &x), [Tensor::new(&[2], vec![7.0, -1.0])]);
    }

    #[test]
    fn broadcast_axes_are_summed_away() {
        let b = Builder::new("t", Stage::Built);
        let x = b.input("x", f64s(&[2, 1, 3]));
        let wide = b.constant(Tensor::new(&[4, 1], vec![1.0, 2.0, 3.0, 4.0]));
        let row = b.constant(Tensor::new(&[3], vec![1.0, 2.0, 3.0]));
        let loss = (x * wide * row).sum(&[0, 1, 2]);
        let g = gradients(&b, loss, &[x, wide, row]).expect("differentiable");
        g.iter().enumerate().for_each(|(i, &g)| b.output(&i.to_string(), g));
        let x = Tensor::new(&[2, 1, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let y = run(b, &x);
        assert_eq!(y[0], Tensor::new(&[2, 1, 3], vec![10.0, 20.0, 30.0, 10.0, 20.0, 30.0]));
        assert_eq!(y[1], Tensor::new(&[4, 1], vec![46.0; 4]));
        assert_eq!(y[2], Tensor::new(&[3], vec![50.0, 70.0, 90.0]));
    }

    #[test]
    fn an_intermediate_value_and_its_source_both_have_whole_gradients() {
        let b = Builder::new("t", Stage::Built);
        let x = b.input("x", f64s(&[]));
        let y = x * x;
        let g = gradients(&b, y * y + x, &[x, y]).expect("differentiable");
        g.iter().enumerate().for_each(|(i, &g)| b.output(&i.to_string(), g));
        assert_eq!(run(b, &Tensor::scalar(2.0)), [Tensor::scalar(33.0), Tensor::scalar(8.0)]);
    }

    #[test]
    fn nothing_flows_where_nothing_depends_or_flow_is_stopped() {
        let b = Builder::new("t", Stage::Built);
        let (x, y) = (b.input("x", f64s(&[2])), b.constant(Tensor::new(&[1], vec![1.0])));
        let loss = (x * x.stop_gradient()).sum(&[0]);
        let g = gradients(&b, loss, &[x, y]).expect("differentiable");
        g.iter().enumerate().for_each(|(i, &g)| b.output(&i.to_string(), g));
        let x = Tensor::new(&[2], vec![3.0, -1.0]);
        assert_eq!(run(b, &x), [x.clone(), Tensor::new(&[1], vec![0.0])]);
    }

    /// The operands are one value, or one depends on the other: neither may be counted twice.
    #[test]
    fn composites_of_dependent_operands_are_their_formula() {
        let b = Builder::new("t", Stage::Built);
        let x = b.input("x", f64s(&[2, 2]));
        let op = FusedMatMul { trans_a: true, trans_b: false, alpha: Real(0.5) };
        let weights = b.constant(Tensor::new(&[2, 2], vec![1.0, -2.0, 3.0, 0.5]));
        for y in [x, x.exp(), x.matmul(x)] {
            let composite = b.apply(op.clone(), &[x, y]);
            let formula = x.t().matmul(y) * 0.5;
            for v in [composite, formula] {
                let g = gradients(&b, (v * weights).sum(&[0, 1]), &[x]).expect("differentiable");
                b.output("g", g[0]);
            }
        }
        let out = run(b, &Tensor::new(&[2, 2], vec![0.3, -1.0, 0.7, 1.1]));
        assert!(out.chunks(2).all(|p| close(&p[0], &p[1])), "{out:?}");
    }

    #[test]
    fn an_op_without_gradient_is_reported_with_its_place() {
        let b = Builder::new("t", Stage::Built);
        let x = b.input("x", f64s(&[2]));
        let y = {
            let _in = b.root().at("mlp").at(0).enter();
            b.apply(Dropout { ratio: Real(0.5) }, &[x])
        };
        let e = gradients(&b, y.sum(&[0]), &[x]).expect_err("dropout is undecided");
        assert!(e.to_string().starts_with("dropout in [mlp.0] cannot be differentiated: "), "{e}");
        // Off the path it does not matter.
        let z = b.input("z", f64s(&[2]));
        assert!(gradients(&b, (y * z).sum(&[0]), &[z]).is_ok());
    }

    #[test]
    fn new_nodes_have_their_origin() {
        let b = Builder::new("t", Stage::Built);
        let x = b.input("x", f64s(&[2]));
        let y = {
            let _in = b.root().at("mlp").enter();
            b.apply(Activation { kind: ActivationKind::HardSwish }, &[x])
        };
        let before = b.read(|g| g.nodes().len());
        let loss = y.sum(&[0]);
        gradients(&b, loss, &[x]).expect("differentiable");
        let g = b.finish().expect("well typed");
        let new: Vec<_> = g.nodes().skip(before + 1).map(|(_, n)| n).collect();
        assert!(new.iter().all(|n| n.origin.rule == Some(RULE) && g.scope_path(n.origin.scope).starts_with("grad")));
        assert!(new.iter().any(|n| g.scope_path(n.origin.scope) == "grad/mlp"));
    }

    #[test]
    fn only_scalars_have_gradients() {
        let b = Builder::new("t", Stage::Built);
        let x = b.input("x", f64s(&[2]));
        assert_eq!(gradients(&b, x, &[x]).expect_err("a vector"), AutodiffError::NotScalar(f64s(&[2])));
        let poisoned = x + b.input("y", f64s(&[3]));
        assert!(matches!(gradients(&b, poisoned, &[x]), Err(AutodiffError::Poisoned(_))));
    }
}
