//! What ops say about axes, compared with what they compute: elements outside of a link do not matter and those inside
//! do, linear is linear, and a fragment for a window gives the window.

use super::{Case, cases};
use vit_onnx::build::Builder;
use vit_onnx::eval;
use vit_onnx::ir::{DType, Dim, Stage, Tensor, TensorType};
use vit_onnx::ops::{Along, CompareKind, Link, Op, Region, Wanted};

fn links(case: &Case) -> Vec<Link> {
    let y = case.result_types();
    case.op.def().axes(&case.types.iter().collect::<Vec<_>>(), &y.iter().collect::<Vec<_>>())
}

/// Indices along every axis of the element at `flat`.
fn index(mut flat: usize, shape: &[usize]) -> Vec<i64> {
    let mut at = vec![0; shape.len()];
    for (i, &n) in shape.iter().enumerate().rev() {
        (at[i], flat) = ((flat % n) as i64, flat / n);
    }
    at
}

/// Whether element `i` along an axis of a result, of `m` elements, may read element `j` of an operand's `n`.
fn allows(case: &Case, how: &Along, (i, m): (i64, i64), (j, n): (i64, i64)) -> bool {
    let at = |d: &Dim| d.eval(&case.env).expect("bound");
    match how {
        Along::Each => i == j,
        Along::Whole | Along::Sum => true,
        Along::Window { start, step, extent } => {
            let first = at(start) + i * at(step);
            (first..first + at(extent)).contains(&j)
        }
        Along::Part { at: offset } => j == i - at(offset),
        Along::Merged { inner } => j == i / at(inner) % n,
        Along::Split { inner } => i == j / at(inner) % m,
    }
}

/// The operand with one element changed, upwards or downwards; indices stay small.
fn changed(t: &Tensor, at: usize, up: bool) -> Tensor {
    let mut numbers = t.to_f64_vec();
    numbers[at] = match t.dtype() {
        d if d.is_float() => numbers[at] + if up { 5.0 } else { -5.0 },
        _ => f64::from(u8::from(numbers[at] == 0.0)),
    };
    Tensor::new(t.shape(), numbers).cast(t.dtype())
}

/// Pairs of an operand's element and an element of result `r` that it changed.
fn dependence(case: &Case, operand: usize, r: usize) -> Vec<(Vec<i64>, Vec<i64>)> {
    let before = case.results(&case.values)[r].to_f64_vec();
    let mut pairs = Vec::new();
    for (at, up) in (0..case.values[operand].len()).flat_map(|at| [(at, true), (at, false)]) {
        let mut x = case.values.clone();
        x[operand] = changed(&x[operand], at, up);
        // An index out of range or a division by zero says nothing.
        let Ok(after) = case.op.def().eval(&x, &case.env) else { continue };
        let from = index(at, x[operand].shape());
        for (i, (a, b)) in after[r].to_f64_vec().iter().zip(&before).enumerate() {
            if a.to_bits() != b.to_bits() {
                pairs.push((from.clone(), index(i, after[r].shape())));
            }
        }
    }
    pairs
}

/// Ops some of whose elements nothing that a float can become would change.
fn may_ignore(op: &Op) -> bool {
    match op {
        Op::Where(_) => true,
        Op::Compare(c) => c.kind == CompareKind::Equal,
        // Running statistics do not depend on the weight.
        Op::BatchNormalization(b) => b.training,
        _ => false,
    }
}

#[test]
fn links_say_what_is_read() {
    let (mut outside, mut inside) = (0, 0);
    for case in cases(DType::F64) {
        let all = links(&case);
        let results = case.results(&case.values);
        for (o, x) in case.values.iter().enumerate() {
            for axis in 0..x.rank() {
                assert!(all.iter().any(|l| (l.operand, l.axis) == (o, axis)), "{:?}: axis {axis} of {o}", case.op);
            }
            for (r, y) in results.iter().enumerate() {
                let here: Vec<(&Link, usize)> = all
                    .iter()
                    .filter(|l| l.operand == o)
                    .filter_map(|l| l.result.filter(|to| to.0 == r).map(|to| (l, to.1)))
                    .collect();
                let pairs = dependence(&case, o, r);
                let sizes = |l: &Link, to: usize| (y.shape()[to] as i64, x.shape()[l.axis] as i64);
                for (j, i) in &pairs {
                    for &(l, to) in &here {
                        let (m, n) = sizes(l, to);
                        assert!(
                            allows(&case, &l.how, (i[to], m), (j[l.axis], n)),
                            "{:?}: element {i:?} of result {r} reads {j:?} of operand {o}, against {l:?}",
                            case.op
                        );
                        outside += 1;
                    }
                }
                if !x.dtype().is_float() || may_ignore(&case.op) {
                    continue;
                }
                for &(l, to) in here.iter().filter(|(l, _)| !matches!(l.how, Along::Whole | Along::Sum)) {
                    let (m, n) = sizes(l, to);
                    for i in 0..m {
                        let said = (0..n).any(|j| allows(&case, &l.how, (i, m), (j, n)));
                        assert_eq!(said, pairs.iter().any(|p| p.1[to] == i), "{:?}: {l:?} at {i}", case.op);
                        inside += 1;
                    }
                    if let Along::Window { start, step, extent } = &l.how {
                        let at = |d: &Dim| d.eval(&case.env).expect("bound");
                        let offset = |p: &(Vec<i64>, Vec<i64>)| p.0[l.axis] - at(start) - p.1[to] * at(step);
                        let (first, last) = (pairs.iter().map(offset).min(), pairs.iter().map(offset).max());
                        assert_eq!((first, last), (Some(0), Some(at(extent) - 1)), "{:?}: {l:?}", case.op);
                    }
                }
            }
        }
    }
    assert!(outside > 10_000 && inside > 1000, "{outside} dependences, {inside} indices");
}

/// All results of `f(u·x + v·z)` and `u·f(x) + v·f(z)`, where `x` and `z` differ in the operands `set` only.
fn two_ways(case: &mut Case, range: (f64, f64), set: &[usize]) -> (Vec<f64>, Vec<f64>) {
    let (u, v) = (0.7, -1.3);
    let (x, mut z, mut sum) = (case.values.clone(), case.values.clone(), case.values.clone());
    for &i in set {
        let shape = x[i].shape().to_vec();
        z[i] = case.random.tensor(DType::F64, &shape, range);
        let mixed = x[i].to_f64_vec().iter().zip(z[i].to_f64_vec()).map(|(x, z)| u * x + v * z).collect();
        sum[i] = Tensor::new(&shape, mixed);
    }
    let flat = |x: &[Tensor]| case.results(x).iter().flat_map(Tensor::to_f64_vec).collect::<Vec<f64>>();
    let mixed = flat(&x).iter().zip(flat(&z)).map(|(x, z)| u * x + v * z).collect();
    (flat(&sum), mixed)
}

#[test]
fn linear_is_linear_and_nothing_else_is() {
    let (mut linear, mut curved) = (0, 0);
    for (mut case, s) in cases(DType::F64).zip(Op::samples()) {
        let sets = case.op.def().linear_in(&case.types.iter().collect::<Vec<_>>());
        let floats = case.floats();
        for set in sets.iter().filter(|set| set.iter().all(|i| floats.contains(i))) {
            let (sum, mixed) = two_ways(&mut case, s.range, set);
            let size = mixed.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
            let bound = if case.result_types()[0].dtype == DType::F32 { 1e-6 } else { 1e-12 };
            let off = sum.iter().zip(&mixed).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
            assert!(off <= bound * size, "{:?} is not linear in {set:?}: off by {off:e}", case.op);
            linear += 1;
        }
        // Equality of drawn numbers is false always, and that is linear.
        let compares = matches!(case.op, Op::Compare(_));
        for i in floats.into_iter().filter(|&i| !compares && !sets.contains(&vec![i])) {
            let (sum, mixed) = two_ways(&mut case, s.range, &[i]);
            let straight = sum.iter().zip(&mixed).all(|(a, b)| (a - b).abs() <= 1e-9);
            assert!(!straight, "{:?} is linear in {i}, but does not say so", case.op);
            curved += 1;
        }
    }
    assert!(linear > 70 && curved > 60, "{linear} sets, {curved} other operands");
}

/// Whether only all of the op computes a window `[start, start + size)` of this axis of result `r`: a fact about the op.
fn whole_only(case: &Case, r: usize, axis: usize, (start, size): (usize, usize)) -> bool {
    let y = &case.result_types()[r].shape;
    match &case.op {
        Op::Softmax(s) => s.axis == axis,
        Op::LayerNormalization(_) => axis + 1 == y.len(),
        // The running statistics have one axis, that of the channels.
        Op::BatchNormalization(b) => b.training && axis != usize::from(r == 0),
        // The filter is that of all pixels.
        Op::Resize(_) => axis >= 2,
        Op::ConvTranspose(c) => axis >= 2 || axis == 1 && c.groups > 1,
        // One group may be computed in part, several only as wholes.
        Op::Conv(c) if axis == 1 && c.groups > 1 => {
            let outputs = y[1].size().expect("known") / c.groups;
            start / outputs == 0 && (start + size).div_ceil(outputs) == c.groups
        }
        // Where an update goes is known when it runs.
        Op::ScatterElements(s) => s.axis == axis || case.types[0].shape[axis] != case.types[1].shape[axis],
        // The least of the largest need all that are larger.
        Op::TopK(t) => t.axis == axis && start + size == t.k,
        // Elements of inner factors lie apart.
        Op::Reshape(_) => links(case).iter().all(|l| {
            let outermost = |inner: &Dim, size: &Dim, whole: &Dim| inner * size == *whole;
            let x = &case.types[0].shape[l.axis];
            l.result != Some((0, axis))
                || match &l.how {
                    Along::Each => false,
                    Along::Split { inner } => !outermost(inner, &y[axis], x),
                    Along::Merged { inner } => {
                        let covers = |inner: usize| {
                            start / inner == 0 && (start + size).div_ceil(inner) == x.size().unwrap_or(0)
                        };
                        !outermost(inner, x, &y[axis]) || inner.size().is_none_or(covers)
                    }
                    _ => true,
                }
        }),
        _ => false,
    }
}

fn sliced(t: &Tensor, axis: usize, (start, size): (usize, usize)) -> Tensor {
    let op = vit_onnx::ops::Slice { axis, start: start.into(), end: (start + size).into(), step: 1 };
    eval::op(&op.into(), std::slice::from_ref(t)).expect("within the axis").remove(0)
}

/// The value of the fragment for these windows of a result, and its operations; `None` when the op has none.
fn fragment(case: &Case, r: usize, windows: &[(usize, (usize, usize))]) -> Option<(Tensor, i64)> {
    let b = Builder::new("fragment", Stage::Built);
    let (x, y) = (case.inputs(&b), case.result_types());
    let region = Region::whole(r, y[r].rank());
    let region = windows.iter().fold(region, |to, &(axis, (start, size))| to.narrow(axis, start, size));
    let part = case.op.def().restricted(&Wanted { b: &b, op: &case.op, x: &x, y: &y, to: &region })?;
    b.output("part", part);
    let g = b.finish().unwrap_or_else(|e| panic!("{:?} in {region:?}: {e}", case.op));
    let live = g.live();
    let mut flops = 0;
    for (_, n) in g.nodes().filter(|(_, n)| n.outputs().any(|v| live[v])) {
        let x: Vec<&TensorType> = n.inputs.iter().map(|&v| g.ty(v)).collect();
        let y: Vec<&TensorType> = n.outputs().map(|v| g.ty(v)).collect();
        flops += n.op.def().cost(&x, &y).flops.eval(&case.env).expect("bound");
    }
    let names: Vec<String> = (0..case.values.len()).map(|i| i.to_string()).collect();
    let inputs: Vec<(&str, Tensor)> = names.iter().map(String::as_str).zip(case.values.clone()).collect();
    let y = eval::run(&g, &mut |p, _| Err(p.to_owned()), &inputs)
        .unwrap_or_else(|e| panic!("{:?} in {region:?}: {e}", case.op));
    Some((y.into_iter().next().expect("one output").1, flops))
}

#[test]
fn fragments_are_windows_of_the_value() {
    let (mut compared, mut refused) = (0, 0);
    for case in cases(DType::F64) {
        let types = case.result_types();
        let whole: i64 = {
            let (x, y) = (case.types.iter().collect::<Vec<_>>(), types.iter().collect::<Vec<_>>());
            case.op.def().cost(&x, &y).flops.eval(&case.env).expect("bound")
        };
        for (r, y) in case.results(&case.values).iter().enumerate() {
            let check = |windows: &[(usize, (usize, usize))]| -> bool {
                let Some((part, flops)) = fragment(&case, r, windows) else { return false };
                let want = windows.iter().fold(y.clone(), |t, &(axis, w)| sliced(&t, axis, w));
                assert_eq!((part.dtype(), part.shape()), (want.dtype(), want.shape()), "{:?} {windows:?}", case.op);
                let off = part.max_abs_diff(&want).expect("one shape");
                assert!(off <= 1e-12, "{:?}, {windows:?} of result {r}: off by {off:e}", case.op);
                assert!(flops <= whole, "{:?}, {windows:?} of result {r}: {flops} operations of {whole}", case.op);
                true
            };
            assert!(!check(&[]), "{:?}: all of a result is no window", case.op);
            let windows = |n: usize| {
                let all = [(0, 1), (n.saturating_sub(1), 1), (1, n.saturating_sub(2)), (0, n / 2), (0, 0), (n, 0)];
                all.into_iter().filter(move |&(start, size)| start + size <= n && size < n)
            };
            for (axis, &n) in y.shape().iter().enumerate() {
                for window in windows(n) {
                    let done = check(&[(axis, window)]);
                    // Bounds that depend on a symbol may be undecidable; empty windows may be left to a slice.
                    let decided = types[r].shape[axis].size().is_some() && window.1 > 0;
                    if decided {
                        assert_eq!(done, !whole_only(&case, r, axis, window), "{:?}, axis {axis}, {window:?}", case.op);
                    }
                    if done { compared += 1 } else { refused += 1 }
                }
                // Two axes at once; one of them may be left to a slice.
                for other in axis + 1..y.rank() {
                    for (a, b) in windows(n).zip(windows(y.shape()[other]).skip(1)) {
                        compared += usize::from(check(&[(axis, a), (other, b)]));
                    }
                }
            }
        }
    }
    eprintln!("{compared} fragments, {refused} only by the whole op");
    assert!(compared > 1500, "{compared} fragments, {refused} only by the whole op");
}
