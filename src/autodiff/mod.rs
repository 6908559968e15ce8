//! Reverse-mode differentiation: appends the gradient of a scalar to the graph that computes it.
//!
//! The walk visits nodes from the loss towards the inputs; operands are always earlier than their
//! users, so when a node is visited every contribution to its cotangent has been made. Rules live
//! with the ops; here contributions are added, axes that were broadcast are summed away (in this
//! one place), composites are differentiated through their definitions. The forward part keeps its
//! ids. Whether what is appended is simplified or shared is up to passes.
//!
//! Deliberately unknown here: optimisers, losses, and which parameters are trained.

use crate::build::{Builder, T};
use crate::ir::{DType, Entity, Origin, Side, TensorType, ValueId};
use crate::ops::{Grad, Node, Vjp};
use std::collections::BTreeMap;

/// The rule that gradient nodes are blamed on.
const RULE: &str = "vjp";

/// Why a gradient could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AutodiffError {
    /// The loss is not one number.
    #[error("the loss must be a float scalar, found {0}")]
    NotScalar(TensorType),
    /// A value handed in, or a gradient, is the result of a mistake that the builder has recorded.
    #[error("{0} is the result of an earlier mistake: finish the builder to see it")]
    Poisoned(String),
    /// The loss depends on what is asked for through an op that has no gradient.
    #[error("{op} in [{scope}] cannot be differentiated: {reason}")]
    Never {
        /// Its mnemonic.
        op: &'static str,
        /// Where it stands.
        scope: String,
        /// Why.
        reason: &'static str,
    },
    /// A rule of an op gave a cotangent that does not fit its operand.
    #[error("the gradient of {op} in [{scope}] should be {expected}, found {found}")]
    Mistyped {
        /// Its mnemonic.
        op: &'static str,
        /// Where it stands.
        scope: String,
        /// The type of the operand.
        expected: TensorType,
        /// The type of its cotangent.
        found: TensorType,
    },
}

/// The gradients of the scalar `loss` with respect to each of `wrt`, of the same types; zeros where the
/// loss does not depend on one. New nodes are in scope `grad/…` of the scope of the node they belong to.
pub fn gradients<'g>(b: &'g Builder, loss: T<'g>, wrt: &[T<'g>]) -> Result<Vec<T<'g>>, AutodiffError> {
    let id = |t: T<'g>, what: &str| t.id().ok_or_else(|| AutodiffError::Poisoned(what.to_owned()));
    let seed = id(loss, "the loss")?;
    let ty = loss.ty();
    if ty.rank() != 0 || !ty.dtype.is_float() {
        return Err(AutodiffError::NotScalar(ty));
    }
    let targets = wrt.iter().map(|&t| id(t, "a value to differentiate for")).collect::<Result<Vec<_>, _>>()?;
    let one = b.with_origin("grad", None, Some(RULE), || loss.ones_like());
    let cotangents = pull(b, &[(seed, one)], &targets, Targets::Open)?;
    let zeros = |t: T<'g>| b.with_origin("grad", None, Some(RULE), || t.zeros_like());
    Ok(wrt.iter().zip(targets).map(|(&t, v)| cotangents.get(&v).copied().unwrap_or_else(|| zeros(t))).collect())
}

/// Whether the walk goes on beyond a target that depends on another.
#[derive(Clone, Copy, PartialEq)]
enum Targets {
    /// It does: what is asked for is each target's whole gradient.
    Open,
    /// It does not: targets are the operands of a definition, independent of each other there.
    Closed,
}

/// Pulls the cotangents of `seeds` back to `targets`; those that nothing reaches are left out.
fn pull<'g>(
    b: &'g Builder,
    seeds: &[(ValueId, T<'g>)],
    targets: &[ValueId],
    bounds: Targets,
) -> Result<BTreeMap<ValueId, T<'g>>, AutodiffError> {
    let (nodes, wanted) = path(b, seeds, targets, bounds);
    let mut cotangents: BTreeMap<ValueId, T<'g>> = BTreeMap::new();
    let add = |cotangents: &mut BTreeMap<ValueId, T<'g>>, v: ValueId, g: T<'g>| {
        cotangents.entry(v).and_modify(|sum| *sum = *sum + g).or_insert(g);
    };
    for &(v, g) in seeds {
        add(&mut cotangents, v, g);
    }
    for node in nodes.iter().rev() {
        let g: Vec<Option<T<'g>>> = node.outputs().map(|v| cotangents.get(&v).copied()).collect();
        if g.iter().all(Option::is_none) {
            continue;
        }
        let forward = b.read(|graph| graph.scope_path(node.origin.scope).to_owned());
        let Origin { at, .. } = node.origin;
        let scope = if forward.is_empty() { "grad".to_owned() } else { format!("grad/{forward}") };
        let (op, scope_of) = (node.op.mnemonic(), || forward.clone());
        b.with_origin(&scope, at, Some(RULE), || {
            let x: Vec<T<'g>> = node.inputs.iter().map(|&v| b.value(v)).collect();
            let y: Vec<T<'g>> = node.outputs().map(|v| b.value(v)).collect();
            match node.op.def().vjp(&Vjp { x: &x, y: &y, g: &g }) {
                Grad::Zero => {}
                Grad::Never(reason) => return Err(AutodiffError::Never { op, scope: scope_of(), reason }),
                Grad::To(contributions) => {
                    for (&v, g) in node.inputs.iter().zip(contributions) {
                        let (Some(g), true) = (g, wanted[v]) else { continue };
                        let (g, expected) = (unbroadcast(g, &b.ty(v)), b.ty(v));
                        if g.poisoned() {
                            return Err(AutodiffError::Poisoned(format!("the gradient of {op} in [{}]", scope_of())));
                        }
                        if g.ty() != expected {
                            return Err(AutodiffError::Mistyped { op, scope: scope_of(), expected, found: g.ty() });
                        }
                        add(&mut cotangents, v, g);
                    }
                }
                Grad::ByDecomposition => {
                    let results = node.op.def().definition(&x).unwrap_or_default();
                    let seed = |(y, g): (T<'g>, Option<T<'g>>)| Some((y.id()?, g?));
                    let seeds: Vec<_> = results.into_iter().zip(g).filter_map(seed).collect();
                    let operands: Vec<ValueId> = node.inputs.iter().copied().filter(|&v| wanted[v]).collect();
                    for (v, g) in pull(b, &seeds, &operands, Targets::Closed)? {
                        add(&mut cotangents, v, g);
                    }
                }
            }
            Ok(())
        })?;
    }
    cotangents.retain(|v, _| targets.contains(v));
    Ok(cotangents)
}

/// The nodes through which a seed depends on a target, in order, and which values do depend on one.
fn path<'g>(
    b: &'g Builder,
    seeds: &[(ValueId, T<'g>)],
    targets: &[ValueId],
    bounds: Targets,
) -> (Vec<Node>, Side<ValueId, bool>) {
    b.read(|graph| {
        let mut wanted = Side::new(graph.value_count(), false);
        targets.iter().for_each(|&v| wanted[v] = true);
        let last = seeds.iter().filter_map(|&(v, _)| graph.producer(v)).max();
        let mut nodes = Vec::new();
        for (n, node) in graph.nodes().take(last.map_or(0, |n| n.index() + 1)) {
            let closed = bounds == Targets::Closed && node.outputs().any(|v| targets.contains(&v));
            if closed || !node.inputs.iter().any(|&v| wanted[v]) {
                continue;
            }
            for v in node.outputs() {
                wanted[v] = is_differentiable(graph.ty(v).dtype) || wanted[v];
            }
            nodes.push(n);
        }
        let mut live = Side::new(graph.value_count(), false);
        seeds.iter().for_each(|&(v, _)| live[v] = true);
        let mut kept: Vec<Node> = Vec::new();
        for &n in nodes.iter().rev() {
            let node = graph.node(n);
            if node.outputs().any(|v| live[v]) {
                node.inputs.iter().for_each(|&v| live[v] = true);
                kept.push(node.clone());
            }
        }
        kept.reverse();
        (kept, wanted)
    })
}

/// Integers and booleans carry no gradient.
fn is_differentiable(dtype: DType) -> bool {
    dtype.is_float()
}

/// Sums a cotangent over the axes along which the operand, of type `to`, was broadcast.
fn unbroadcast<'g>(g: T<'g>, to: &TensorType) -> T<'g> {
    let have = g.dims();
    if g.poisoned() || have == to.shape.0 || have.len() < to.rank() {
        return g;
    }
    let lead = have.len() - to.rank();
    let stretched = |i: &usize| to.shape[*i].is(1) && !have[lead + i].is(1);
    let kept: Vec<i64> = (0..to.rank()).filter(stretched).map(|i| (lead + i) as i64).collect();
    let g = if kept.is_empty() { g } else { g.sum_keep(&kept) };
    if lead == 0 { g } else { g.sum(&(0..lead as i64).collect::<Vec<_>>()) }
}
