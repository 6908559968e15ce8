//! One spelling per idea, so that the rules after this stay few.
//!
//! Local rules at the moment a node is emitted: operands are canonical already, so one walk reaches
//! the fixed point. Constants stand on the right; `x / c` is `x * (1/c)`; `x - c` is `x + (-c)`;
//! layout ops that do nothing or undo each other vanish. If a pattern seems to need another alternative, a rule is missing here.
//!
//! Results keep their values up to rounding and the sign of zero; a rule that would leave the range of
//! the element type (an overflowing or subnormal factor) does not apply.

use super::{Ctx, Pass, PassError, SWEEPS, rows};
use crate::build::T;
use crate::ir::Tensor;
use crate::ops::{Binary, BinaryKind, Op, Program};
use crate::rewrite::replay;

rows! {
    CONSTANT_RIGHT = "constant-right": "c + x becomes x + c, likewise ·, max and min";
    ADD_ZERO = "add-zero": "x + 0 becomes x";
    MULTIPLY_BY_ONE = "multiply-by-one": "x·1 becomes x";
    SUBTRACT_CONSTANT = "subtract-constant": "x − c becomes x + (−c)";
    DIVIDE_BY_CONSTANT = "divide-by-constant": "x / c becomes x·(1/c), where 1/c is a normal number";
    MERGE_CONSTANTS = "merge-constants": "(x + c) + d becomes x + (c + d), likewise ·";
    IDENTITY_TRANSPOSE = "identity-transpose": "a transpose that moves no axis vanishes";
    INVERSE_TRANSPOSES = "inverse-transposes": "two transposes that undo each other vanish";
    IDENTITY_RESHAPE = "identity-reshape": "a reshape to the same shape vanishes";
    MERGE_RESHAPES = "merge-reshapes": "a reshape of a reshape becomes one";
    IDENTITY_EXPAND = "identity-expand": "an expand to the same shape vanishes";
    IDENTITY_SLICE = "identity-slice": "a slice of everything vanishes";
    IDENTITY_CAST = "identity-cast": "a cast to the same element type vanishes";
    IDENTITY_CONCAT = "identity-concat": "a concatenation of one operand vanishes";
}

/// One spelling per idea.
pub(super) const PASS: Pass =
    Pass { name: "canonicalize", doc: "one spelling per idea", rules: ROWS, required: false, run };
/// The same after legalization.
pub(super) const AGAIN: Pass =
    Pass { name: "canonicalize-legal", doc: "one spelling per idea, after legalization", ..PASS };

fn run(p: &Program, ctx: &mut Ctx) -> Result<Program, PassError> {
    let graph = replay(&p.graph, p.graph.stage, &mut |r, _, n| {
        let x = r.operands(n);
        let mut out = emit(&n.op, &x, ctx);
        // A rule may have made the work of another one.
        if let Some(t) = out.as_mut().and_then(|o| o.first_mut()) {
            *t = settle(*t, ctx);
        }
        out
    });
    ctx.settled()?;
    Ok(p.with_graph(graph?))
}

/// Applies rules to the result of a rule until none applies.
fn settle<'g>(mut t: T<'g>, ctx: &mut Ctx) -> T<'g> {
    for _ in 0..SWEEPS {
        let Some((op, x)) = definition(t) else { return t };
        match emit(&op, &x, ctx) {
            Some(new) => t = new[0],
            None => return t,
        }
    }
    ctx.unsettled.push(PASS.name);
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
        Op::Transpose(t) => {
            if t.perm.iter().enumerate().all(|(i, &p)| i == p) {
                return ctx.spend(&IDENTITY_TRANSPOSE).then(|| vec![x[0]]);
            }
            let (Op::Transpose(inner), y) = definition(x[0])? else { return None };
            (inner.inverse() == t.perm && ctx.spend(&INVERSE_TRANSPOSES)).then_some(y)
        }
        Op::Reshape(r) => {
            if x[0].dims() == r.to {
                return ctx.spend(&IDENTITY_RESHAPE).then(|| vec![x[0]]);
            }
            let (Op::Reshape(_), y) = definition(x[0])? else { return None };
            ctx.spend(&MERGE_RESHAPES).then(|| vec![y[0].reshape(r.to.clone())])
        }
        Op::Expand(e) => (x[0].dims() == e.to && ctx.spend(&IDENTITY_EXPAND)).then(|| vec![x[0]]),
        Op::Slice(s) => {
            let whole = s.step == 1 && s.start.is(0) && x[0].dims()[s.axis] == s.end;
            (whole && ctx.spend(&IDENTITY_SLICE)).then(|| vec![x[0]])
        }
        Op::Cast(c) => (x[0].dtype() == c.to && ctx.spend(&IDENTITY_CAST)).then(|| vec![x[0]]),
        Op::Concat(_) => (x.len() == 1 && ctx.spend(&IDENTITY_CONCAT)).then(|| vec![x[0]]),
        _ => None,
    }
}

fn binary<'g>(kind: BinaryKind, a: T<'g>, b: T<'g>, ctx: &mut Ctx) -> Option<T<'g>> {
    let commutative = matches!(kind, BinaryKind::Add | BinaryKind::Mul | BinaryKind::Max | BinaryKind::Min);
    if commutative && constant(a).is_some() && constant(b).is_none() {
        return ctx.spend(&CONSTANT_RIGHT).then(|| apply(kind, b, a));
    }
    let c = number(b, a)?;
    if !a.dtype().is_float() {
        return None;
    }
    match kind {
        BinaryKind::Add if c == 0.0 => ctx.spend(&ADD_ZERO).then_some(a),
        BinaryKind::Mul if c == 1.0 => ctx.spend(&MULTIPLY_BY_ONE).then_some(a),
        BinaryKind::Sub => ctx.spend(&SUBTRACT_CONSTANT).then(|| a + -c),
        // Exact when the reciprocal is; otherwise within one rounding, as every compiler's fast path.
        BinaryKind::Div => (a.dtype().is_normal(1.0 / c) && ctx.spend(&DIVIDE_BY_CONSTANT)).then(|| a * (1.0 / c)),
        BinaryKind::Mul | BinaryKind::Add => {
            let (Op::Binary(inner), y) = definition(a)? else { return None };
            let d = number(y[1], y[0])?;
            let merged = if kind == BinaryKind::Mul { c * d } else { c + d };
            let fits = a.dtype().is_normal(merged) || kind == BinaryKind::Add && merged == 0.0;
            (inner.kind == kind && fits && ctx.spend(&MERGE_CONSTANTS)).then(|| apply(kind, y[0], y[0].scalar(merged)))
        }
        _ => None,
    }
}

fn apply<'g>(kind: BinaryKind, a: T<'g>, b: T<'g>) -> T<'g> {
    a.builder().apply(Binary { kind }, &[a, b])
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
        assert!(done.ctx.rules.is_empty(), "{:?}\n{}", done.ctx.rules, done.program.graph);
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
    fn neighboring_constants_merge() {
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

    fn shape(b: &Builder) -> crate::ir::Shape {
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
        assert_eq!(g.params().map(|p| &*p.path).collect::<Vec<_>>(), ["w"]);
    }
}
