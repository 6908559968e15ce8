//! One spelling per idea, so that the rules after this stay few.
//!
//! Local rules at the moment a node is emitted: operands are canonical already, so one walk reaches
//! the fixed point. Constants stand on the right; `x / c` is `x * (1/c)`; `x - c` is `x + (-c)`;
//! a scale stands on a matrix product, not on its operand; layout ops that do nothing or undo each
//! other vanish. If a pattern seems to need another alternative, a rule is missing here.

use super::{Ctx, Pass};
use crate::build::{BuildErrors, Builder, T};
use crate::ir::{Dim, Tensor};
use crate::ops::{Binary, BinaryKind, MatMul, Op, Program};
use crate::rewrite::replay;

/// One spelling per idea.
pub(super) const PASS: Pass = Pass { name: "canonicalize", doc: "one spelling per idea", run };
/// The same after legalisation.
pub(super) const AGAIN: Pass =
    Pass { name: "canonicalize-legal", doc: "one spelling per idea, after legalisation", run };

fn run(p: &Program, ctx: &mut Ctx) -> Result<Program, BuildErrors> {
    let b = Builder::new(&p.graph.name, p.graph.stage);
    replay(&p.graph, &b, &mut |r, _, n| {
        let x = r.operands(n);
        let mut out = emit(&n.op, &x, ctx);
        // A rule may have made the work of another one.
        if let Some(t) = out.as_mut().and_then(|o| o.first_mut()) {
            *t = settle(*t, ctx);
        }
        out
    });
    Ok(Program { graph: b.finish()?, weights: p.weights.clone() })
}

/// Applies rules to what a rule emitted, a bounded number of times.
fn settle<'g>(mut t: T<'g>, ctx: &mut Ctx) -> T<'g> {
    for _ in 0..8 {
        let Some((op, x)) = definition(t) else { break };
        match emit(&op, &x, ctx) {
            Some(new) => t = new[0],
            None => break,
        }
    }
    t
}

/// The op and operands behind a handle, when a node of one result computes it.
fn definition(t: T<'_>) -> Option<(Op, Vec<T<'_>>)> {
    let b = t.builder();
    let v = t.id()?;
    b.read(|g| {
        let n = g.node(g.producer(v)?);
        (n.results == 1).then(|| (n.op.clone(), n.inputs.iter().map(|&v| b.value(v)).collect()))
    })
}

fn constant(t: T<'_>) -> Option<Tensor> {
    match definition(t)?.0 {
        Op::Const(c) => Some(c.value.tensor().clone()),
        _ => None,
    }
}

/// The number of a uniform constant that does not widen what it is combined with.
fn number<'g>(t: T<'g>, beside: T<'g>) -> Option<f64> {
    let c = constant(t)?;
    let broadcast = t.ty().shape.broadcast(&beside.ty().shape);
    (broadcast.as_ref() == Some(&beside.ty().shape)).then(|| c.uniform()).flatten()
}

fn emit<'g>(op: &Op, x: &[T<'g>], ctx: &mut Ctx) -> Option<Vec<T<'g>>> {
    let one = |t: T<'g>| Some(vec![t]);
    match op {
        Op::Binary(b) => binary(b.kind, x[0], x[1], ctx).and_then(one),
        Op::MatMul(_) => scale_after_product(x[0], x[1], ctx).and_then(one),
        Op::Transpose(t) => {
            if t.perm.iter().enumerate().all(|(i, &p)| i == p) {
                return ctx.spend("identity-transpose").then(|| vec![x[0]]);
            }
            let (Op::Transpose(inner), y) = definition(x[0])? else { return None };
            (inner.inverse() == t.perm && ctx.spend("inverse-transposes")).then_some(y)
        }
        Op::Reshape(r) => {
            if x[0].dims() == r.to {
                return ctx.spend("identity-reshape").then(|| vec![x[0]]);
            }
            let (Op::Reshape(_), y) = definition(x[0])? else { return None };
            ctx.spend("merge-reshapes").then(|| vec![y[0].reshape(r.to.clone())])
        }
        Op::Expand(e) => (x[0].dims() == e.to && ctx.spend("identity-expand")).then(|| vec![x[0]]),
        Op::Slice(s) => {
            let whole = s.step == 1 && s.start.is(0) && x[0].dims()[s.axis] == s.end;
            (whole && ctx.spend("identity-slice")).then(|| vec![x[0]])
        }
        Op::Cast(c) => (x[0].dtype() == c.to && ctx.spend("identity-cast")).then(|| vec![x[0]]),
        Op::Concat(_) => (x.len() == 1 && ctx.spend("identity-concat")).then(|| vec![x[0]]),
        _ => None,
    }
}

fn binary<'g>(kind: BinaryKind, a: T<'g>, b: T<'g>, ctx: &mut Ctx) -> Option<T<'g>> {
    let commutative = matches!(kind, BinaryKind::Add | BinaryKind::Mul | BinaryKind::Max | BinaryKind::Min);
    if commutative && constant(a).is_some() && constant(b).is_none() {
        return ctx.spend("constant-right").then(|| apply(kind, b, a));
    }
    let c = number(b, a)?;
    if !a.dtype().is_float() {
        return None;
    }
    match kind {
        BinaryKind::Add if c == 0.0 => ctx.spend("add-zero").then_some(a),
        BinaryKind::Mul if c == 1.0 => ctx.spend("multiply-by-one").then_some(a),
        BinaryKind::Sub => ctx.spend("subtract-constant").then(|| a + -c),
        // Exact when the reciprocal is; otherwise within one rounding, as every compiler's fast path.
        BinaryKind::Div if c != 0.0 => ctx.spend("divide-by-constant").then(|| a * (1.0 / c)),
        BinaryKind::Mul | BinaryKind::Add => {
            let (Op::Binary(inner), y) = definition(a)? else { return None };
            let d = number(y[1], y[0])?;
            let merged = if kind == BinaryKind::Mul { c * d } else { c + d };
            (inner.kind == kind && ctx.spend("merge-constants")).then(|| apply(kind, y[0], y[0].scalar(merged)))
        }
        _ => None,
    }
}

fn apply<'g>(kind: BinaryKind, a: T<'g>, b: T<'g>) -> T<'g> {
    a.builder().apply(Binary { kind }, &[a, b])
}

/// `(a·c) @ b = (a @ b)·c`, likewise for `b`, when `c` is a number. Between activations only: before a linear
/// map the factor belongs to the formula it ends (the ½ of GELU), which fusion must still find.
fn scale_after_product<'g>(a: T<'g>, b: T<'g>, ctx: &mut Ctx) -> Option<T<'g>> {
    if a.rank() == 2 || b.rank() == 2 {
        return None;
    }
    let scaled = |t: T<'g>| match definition(t)? {
        (Op::Binary(m), y) if m.kind == BinaryKind::Mul => Some((y[0], number(y[1], y[0])?)),
        _ => None,
    };
    let product = |a: T<'g>, b: T<'g>| a.builder().apply(MatMul {}, &[a, b]);
    if let Some((inner, c)) = scaled(a) {
        return ctx.spend("scale-after-product").then(|| product(inner, b) * c);
    }
    let (inner, c) = scaled(b)?;
    ctx.spend("scale-after-product").then(|| product(a, inner) * c)
}

/// True when the dims of a shape are all known: the passes' common question.
pub(super) fn is_static(dims: &[Dim]) -> bool {
    dims.iter().all(|d| d.value().is_some())
}
