//! One spelling per idea, so that the rules after this stay few.
//!
//! Local rules at the moment a node is emitted: operands are canonical already, so one walk reaches
//! the fixed point. Constants stand on the right; `x / c` is `x * (1/c)`; `x - c` is `x + (-c)`;
//! a scale stands on a matrix product, not on its operand; layout ops that do nothing or undo each
//! other vanish. If a pattern seems to need another alternative, a rule is missing here.
//!
//! Results keep their values up to rounding and the sign of zero; a rule that would leave the range of
//! the element type (an overflowing or subnormal factor) does not apply.

use super::{Ctx, Pass};
use crate::build::{BuildErrors, Builder, T};
use crate::ir::{Dim, Tensor};
use crate::ops::{Binary, BinaryKind, MatMul, Op, Program};
use crate::rewrite::{finish, replay};

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
    Ok(Program { graph: finish(b)?, weights: p.weights.clone() })
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
pub(super) fn definition(t: T<'_>) -> Option<(Op, Vec<T<'_>>)> {
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
        BinaryKind::Div => (a.dtype().is_normal(1.0 / c) && ctx.spend("divide-by-constant")).then(|| a * (1.0 / c)),
        BinaryKind::Mul | BinaryKind::Add => {
            let (Op::Binary(inner), y) = definition(a)? else { return None };
            let d = number(y[1], y[0])?;
            let merged = if kind == BinaryKind::Mul { c * d } else { c + d };
            let fits = a.dtype().is_normal(merged) || kind == BinaryKind::Add && merged == 0.0;
            (inner.kind == kind && fits && ctx.spend("merge-constants")).then(|| apply(kind, y[0], y[0].scalar(merged)))
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
        // The other operand may be scaled too, or this one twice, by numbers that do not merge.
        return ctx.spend("scale-after-product").then(|| settle(product(inner, b), ctx) * c);
    }
    let (inner, c) = scaled(b)?;
    ctx.spend("scale-after-product").then(|| settle(product(a, inner), ctx) * c)
}

/// True when the dims of a shape are all known: the passes' common question.
pub(super) fn is_static(dims: &[Dim]) -> bool {
    dims.iter().all(|d| d.value().is_some())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Done, batched, check, filled, graph, input, param};
    use super::*;
    use crate::build::Builder;
    use crate::ir::{DType, Stage, TensorType};
    use crate::ops::{Cast, Concat, Expand, Reshape};

    fn on(formula: impl for<'g> FnOnce(&'g Builder) -> T<'g>) -> Done {
        check(&PASS, &graph(Stage::Specialized, formula))
    }

    /// A formula that no rule touches.
    fn stays(formula: impl for<'g> FnOnce(&'g Builder) -> T<'g>) {
        let done = on(formula);
        assert!(done.ctx.counts.is_empty(), "{:?}\n{}", done.ctx.counts, done.program.graph);
    }

    fn vector(b: &Builder, x: [f32; 3]) -> T<'_> {
        b.constant(Tensor::new(&[3], x.to_vec()))
    }

    #[test]
    fn constants_stand_on_the_right_of_commutative_ops() {
        let done = on(|b| 2.0 * input(b, "x", [2, 3]));
        assert_eq!(done.fired("constant-right"), 1);
        insta::assert_snapshot!(done.program.graph, @r"
        graph g  stage specialized
          input x : f32[2, 3]

        []
          %0 = const {value = f32[] 2.0} : f32[]
          %1 = mul x, %0 : f32[2, 3]

          output y = %/1
        ");
        // A constant that gives the result its shape moves too, and nothing more is done with it.
        let done = on(|b| filled(b, &[2, 1], 1.0) * input(b, "x", [3]));
        assert_eq!((done.fired("constant-right"), done.ctx.rewrites()), (1, 1));
        stays(|b| 2.0 - input(b, "x", [3]));
        stays(|b| 2.0 / input(b, "x", [3]));
        stays(|b| vector(b, [1.0, 2.0, 3.0]) * filled(b, &[3], 2.0));
    }

    #[test]
    fn adding_zero_vanishes_unless_it_widens() {
        for shape in [&[][..], &[1], &[3], &[1, 3], &[2, 1]] {
            let done = on(|b| input(b, "x", [2, 3]) + filled(b, shape, 0.0));
            assert_eq!((done.fired("add-zero"), done.ops().len()), (1, 0));
            let done = on(|b| batched(b, "x", [2, 3]) - filled(b, shape, 0.0));
            assert_eq!(done.fired("add-zero"), 1);
        }
        assert_eq!(on(|b| input(b, "x", [3]) + -0.0).fired("add-zero"), 1);
        stays(|b| input(b, "x", [3]) + filled(b, &[1, 3], 0.0));
        stays(|b| input(b, "x", [1, 3]) + filled(b, &[2, 1], 0.0));
        stays(|b| batched(b, "x", [1]) + filled(b, &[3], 0.0));
        stays(|b| input(b, "x", [3]) + vector(b, [0.0, 0.0, 1e-9]));
        stays(|b| input(b, "x", [3]) + f64::NAN);
    }

    #[test]
    fn multiplying_by_one_vanishes_unless_it_widens() {
        for shape in [&[][..], &[3], &[1, 1]] {
            let done = on(|b| input(b, "x", [2, 3]) * filled(b, shape, 1.0));
            assert_eq!((done.fired("multiply-by-one"), done.ops().len()), (1, 0));
        }
        stays(|b| input(b, "x", [3]) * filled(b, &[2, 1], 1.0));
        stays(|b| input(b, "x", [3]) * vector(b, [1.0, 1.0, 2.0]));
    }

    #[test]
    fn subtracting_a_constant_adds_its_negative() {
        let done = on(|b| input(b, "x", [2, 3]) - filled(b, &[1, 3], 1.5));
        assert_eq!(done.fired("subtract-constant"), 1);
        insta::assert_snapshot!(done.program.graph, @r"
        graph g  stage specialized
          input x : f32[2, 3]

        []
          %0 = const {value = f32[] -1.5} : f32[]
          %1 = add x, %0 : f32[2, 3]

          output y = %/1
        ");
        stays(|b| input(b, "x", [3]) - vector(b, [1.0, 2.0, 3.0]));
        stays(|b| input(b, "x", [3]) - filled(b, &[2, 3], 1.5));
    }

    #[test]
    fn dividing_by_a_constant_multiplies_by_its_reciprocal() {
        for c in [4.0, 6.0, -1e-30] {
            let done = on(|b| input(b, "x", [2, 3]) * 1e-20 / c);
            assert_eq!(done.fired("divide-by-constant"), 1, "{c}");
            assert!(!done.ops().contains(&"div"));
        }
        // The reciprocal is not a number, overflows, or is subnormal, which runtimes flush to zero.
        for c in [0.0, -0.0, 1e-40, 3e38, f64::INFINITY, f64::NAN] {
            stays(|b| input(b, "x", [2, 3]) / c);
        }
        stays(|b| input(b, "x", [3]) / filled(b, &[2, 1], 2.0));
        stays(|b| input(b, "x", [3]) / vector(b, [1.0, 2.0, 4.0]));
    }

    #[test]
    fn neighbouring_constants_merge() {
        let done = on(|b| filled(b, &[1, 3], 4.0) * (input(b, "x", [2, 3]) * 2.0) / 16.0);
        assert_eq!(done.fired("merge-constants"), 2);
        insta::assert_snapshot!(done.program.graph, @r"
        graph g  stage specialized
          input x : f32[2, 3]

        []
          %0 = const {value = f32[] 0.5} : f32[]
          %1 = mul x, %0 : f32[2, 3]

          output y = %/1
        ");
        // Two that cancel vanish.
        assert_eq!(on(|b| input(b, "x", [2, 3]) * 0.5 * 2.0).ops().len(), 0);
        assert_eq!(on(|b| (input(b, "x", [2, 3]) + 0.5) - 0.5).ops().len(), 0);
        // Rounded once from the exact sum.
        assert_eq!(on(|b| input(b, "x", [2, 3]) + 0.1 + 0.2).fired("merge-constants"), 1);
        // The one that is read elsewhere stays for its reader.
        let done = on(|b| {
            let y = input(b, "x", [2, 3]) * 2.0;
            b.output("z", y);
            y * 2.0
        });
        assert_eq!((done.fired("merge-constants"), done.ops().len()), (1, 2));
    }

    #[test]
    fn constants_that_differ_in_kind_shape_or_range_do_not_merge() {
        stays(|b| input(b, "x", [3]) * 2.0 + 2.0);
        stays(|b| (input(b, "x", [3]) + 2.0) * 2.0);
        stays(|b| input(b, "x", [3]) * filled(b, &[2, 1], 2.0) * 3.0);
        stays(|b| input(b, "x", [3]) * 2.0 * filled(b, &[2, 1], 3.0));
        stays(|b| input(b, "x", [3]) * vector(b, [1.0, 2.0, 3.0]) * 3.0);
        stays(|b| input(b, "x", [3]) * 1e30 * 1e30);
        stays(|b| input(b, "x", [3]) * 1e-30 * 1e-30);
        stays(|b| input(b, "x", [3]) * 0.0 * 3e38 * f64::INFINITY);
        stays(|b| input(b, "x", [3]) + 3e38 + 3e38);
    }

    #[test]
    fn integers_are_left_alone() {
        fn int(b: &Builder) -> T<'_> {
            b.input("i", TensorType::new(DType::I64, [3]))
        }
        stays(|b| int(b) + 0.0);
        stays(|b| int(b) - 2.0);
        stays(|b| int(b) / 2.0);
        stays(|b| int(b) * 3.0 * 5.0);
    }

    #[test]
    fn a_scale_stands_on_the_product_not_on_its_operand() {
        let (q, k) = ([2, 4, 3], [2, 3, 5]);
        let done = on(|b| (input(b, "q", q) * 0.5).matmul(input(b, "k", k)));
        assert_eq!(done.fired("scale-after-product"), 1);
        assert_eq!(done.ops(), ["matmul", "mul"]);
        let done = on(|b| input(b, "q", q).matmul(input(b, "k", k) / 2.0));
        assert_eq!((done.fired("scale-after-product"), done.ops()), (1, vec!["matmul", "mul"]));
        let done = on(|b| (input(b, "q", q) * 0.5).matmul(input(b, "k", k) * 0.25));
        assert_eq!((done.fired("scale-after-product"), done.ops()), (2, vec!["matmul", "mul"]));
        let done = on(|b| (input(b, "q", q) * 0.5).matmul(input(b, "k", k) * 0.5 * 0.0));
        assert_eq!((done.fired("scale-after-product"), done.ops()), (3, vec!["matmul", "mul", "mul", "mul"]));
    }

    #[test]
    fn other_factors_of_products_stay() {
        let (q, k) = ([2, 4, 3], [2, 3, 5]);
        // Before a linear map the factor belongs to the formula it ends.
        stays(|b| (input(b, "q", q) * 0.5).matmul(param(b, "w", [3, 5])));
        stays(|b| (input(b, "q", q) * input(b, "s", [1])).matmul(input(b, "k", k)));
        stays(|b| (input(b, "q", q) * vector(b, [0.5, 0.5, 1.0])).matmul(input(b, "k", k)));
        stays(|b| (input(b, "q", [1, 4, 3]) * filled(b, &[2, 1, 1], 0.5)).matmul(input(b, "k", k)));
        stays(|b| (input(b, "q", q) + 0.5).matmul(input(b, "k", k)));
    }

    #[test]
    fn layout_ops_that_do_nothing_vanish() {
        fn x(b: &Builder) -> T<'_> {
            batched(b, "x", [3, 4])
        }
        let vanishes = |rule: &str, done: Done| {
            assert_eq!((done.fired(rule), done.ops().len()), (1, 0), "{rule}");
        };
        vanishes("identity-transpose", on(|b| x(b).transpose(&[0, 1, 2])));
        vanishes("inverse-transposes", on(|b| x(b).transpose(&[1, 2, 0]).transpose(&[2, 0, 1])));
        vanishes("identity-reshape", on(|b| b.apply(Reshape { to: x(b).dims() }, &[b.value(first(b))])));
        vanishes("merge-reshapes", on(|b| x(b).reshape([b.symbol("batch"), 12.into()]).reshape(shape(b))));
        vanishes("identity-expand", on(|b| b.apply(Expand { to: x(b).dims() }, &[b.value(first(b))])));
        vanishes("identity-slice", on(|b| x(b).every(0, 1)));
        vanishes("identity-cast", on(|b| b.apply(Cast { to: DType::F32 }, &[x(b)])));
        vanishes("identity-concat", on(|b| b.apply(Concat { axis: 1 }, &[x(b)])));
    }

    /// The only input.
    fn first(b: &Builder) -> crate::ir::ValueId {
        b.read(|g| g.inputs()[0].value)
    }

    fn shape(b: &Builder) -> Vec<Dim> {
        b.value(first(b)).dims()
    }

    #[test]
    fn reshapes_merge_into_the_last() {
        let done = on(|b| {
            batched(b, "x", [12]).reshape([b.symbol("batch") * 3, 4.into()]).reshape([4.into(), b.symbol("batch") * 3])
        });
        assert_eq!((done.fired("merge-reshapes"), done.ops()), (1, vec!["reshape"]));
    }

    #[test]
    fn layout_ops_that_do_something_stay() {
        stays(|b| batched(b, "x", [3, 4]).transpose(&[1, 2, 0]).transpose(&[1, 2, 0]));
        stays(|b| batched(b, "x", [3, 4]).transpose(&[0, 2, 1]).reshape([b.symbol("batch"), 12.into()]));
        stays(|b| batched(b, "x", [1, 4]).expand([b.symbol("batch"), 3.into(), 4.into()]));
        stays(|b| input(b, "x", [4, 4]).narrow(1, 0, 3));
        stays(|b| input(b, "x", [4, 4]).every(1, 2));
        stays(|b| input(b, "x", [4, 4]).cast(DType::F64));
        stays(|b| T::concat(&[input(b, "x", [4]), input(b, "z", [4])], 0));
    }

    /// What nothing reads goes; inputs and outputs stay, whatever they are.
    #[test]
    fn only_dead_nodes_vanish() {
        let done = on(|b| {
            let x = input(b, "x", [2]);
            let _unread_node = (x.exp() + param(b, "unread", [2])).sqrt();
            b.output("copy", x);
            b.output("weight", param(b, "w", [2]));
            b.output("twice", x);
            input(b, "unread input", [7]);
            x.exp()
        });
        assert_eq!(done.ops(), ["exp"]);
        let g = &done.program.graph;
        assert_eq!(g.inputs().iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["x", "unread input"]);
        assert_eq!(g.outputs().iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["copy", "weight", "twice", "y"]);
        assert_eq!(g.params().map(|p| p.path.as_str()).collect::<Vec<_>>(), ["w"]);
    }
}
