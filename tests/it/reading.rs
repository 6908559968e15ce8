//! Reading is the inverse of spelling: of every sample of every op, in every opset and with and without `com.microsoft`, what
//! `OpDef::onnx` spells is read as the same op on the same operands.

use crate::support::samples::operands;
use std::collections::BTreeSet;
use vit_onnx::build::{Builder, T};
use vit_onnx::eval;
use vit_onnx::ir::{DType, Dim, Stage, Tensor, TensorType, ValueId};
use vit_onnx::onnx::OPSETS;
use vit_onnx::ops::{Arg, Call, Graph, Op, Operand, Site, Spell, Unspellable};

/// What spelling erases. The op that is read is another one, of the same value.
const ERASED: &[(&str, &str)] =
    &[("stop_gradient", "ONNX knows no gradients; it spells `Identity`, whose value is its operand")];
/// What is never spelled as it is, with the reason that the spelling gives; its definition takes its place.
const NEVER_SPELLED: &[(&str, &str)] =
    &[("batch_normalization", "an unbiased variance"), ("attention", "takes tensors of 4 axes")];

/// The spelling of an op on these operands, and how many results it has.
fn spell(op: &Op, x: &[T<'_>], opset: i64, contrib: bool) -> Result<(Call, usize), Unspellable> {
    let x: Vec<TensorType> = x.iter().map(|t| t.ty()).collect();
    let x: Vec<&TensorType> = x.iter().collect();
    let results = op.def().infer(&x).unwrap_or_else(|e| panic!("{op:?}: {e}")).len();
    Ok((op.def().onnx(&Spell { opset, contrib, x: &x })?, results))
}

/// Reads the call of one spelling on these operands.
fn read<'g>(b: &'g Builder, call: &Call, opset: i64, x: &[T<'g>], results: usize) -> Vec<T<'g>> {
    let version = if call.domain.is_empty() { opset } else { 1 };
    let mut site = Site::new(b, (call.domain, call.op_type), version, results);
    for a in &call.args {
        site = site.operand(match a {
            Arg::Operand(i) => Operand::Value(x[*i]),
            Arg::Const(t) => Operand::Value(b.constant(t.clone())),
            Arg::Dims(d) | Arg::ReshapeTo(d) => sizes(b, d),
            Arg::Absent => Operand::Absent,
        });
    }
    for (name, v) in &call.attrs {
        site = site.attribute(name, Ok(v.clone()));
    }
    Op::read(&site).unwrap_or_else(|e| panic!("{call:?} of opset {opset}: {e}"))
}

fn sizes<'g>(b: &'g Builder, dims: &[Dim]) -> Operand<'g> {
    match dims.iter().map(Dim::value).collect::<Option<Vec<i64>>>() {
        Some(v) => Operand::Value(b.constant(Tensor::new(&[v.len()], v))),
        None => Operand::Sizes { dims: dims.to_vec(), scalar: false },
    }
}

/// The outputs are the results of `op` on the inputs, in order, and besides it there are constants only.
fn is_this_op(g: &Graph, op: &Op) -> bool {
    let inputs: Vec<ValueId> = g.inputs().iter().map(|i| i.value).collect();
    let outputs: Vec<ValueId> = g.outputs().iter().map(|o| o.value).collect();
    let Some(id) = outputs.first().and_then(|&v| g.producer(v)) else { return false };
    let n = g.node(id);
    let others = g.nodes().filter(|(i, _)| *i != id).all(|(_, n)| matches!(n.op, Op::Const(_)));
    n.op == *op && n.inputs.as_slice() == inputs && n.outputs().collect::<Vec<_>>() == outputs && others
}

#[test]
fn what_is_spelled_is_read_as_the_same_op() {
    let (mut n, mut erased, mut unspelled) = (0, BTreeSet::new(), BTreeSet::new());
    let samples = Op::samples();
    let legal = |op: &Op| op.def().until() >= Stage::Legal;
    for (s, float) in samples.iter().filter(|s| legal(&s.op)).flat_map(|s| [(s, DType::F32), (s, DType::F64)]) {
        let cast = |(ty, t): (TensorType, Tensor)| {
            let dtype = if ty.dtype.is_float() { float } else { ty.dtype };
            (TensorType { dtype, shape: ty.shape }, t.cast(dtype))
        };
        let operands: Vec<(TensorType, Tensor)> = operands(s).into_iter().map(cast).collect();
        for (opset, contrib) in OPSETS.flat_map(|n| [(n, false), (n, true)]) {
            let what = format!("{:?} of {float}, opset {opset}, contrib {contrib}", s.op);
            let b = Builder::new("read", Stage::Legal);
            let x: Vec<T<'_>> =
                operands.iter().enumerate().map(|(i, (ty, _))| b.input(&format!("x{i}"), ty.clone())).collect();
            let (call, results) = match spell(&s.op, &x, opset, contrib) {
                Ok(found) => found,
                Err(e) => {
                    let never = NEVER_SPELLED.iter().find(|(op, why)| *op == s.op.mnemonic() && e.0.contains(why));
                    assert!(opset < s.since || !contrib || never.is_some(), "{what}: {e}");
                    assert!(s.op.def().definition(&x).is_some(), "{what} has no definition");
                    unspelled.extend(never.map(|n| n.0));
                    continue;
                }
            };
            let y = read(&b, &call, opset, &x, results);
            y.iter().enumerate().for_each(|(i, y)| b.output(&format!("y{i}"), *y));
            let g = b.finish().unwrap_or_else(|e| panic!("{what}: {e}"));
            if ERASED.iter().any(|(op, _)| *op == s.op.mnemonic()) {
                erased.insert(s.op.mnemonic());
            } else {
                assert!(is_this_op(&g, &s.op), "{what} is read as\n{g}");
            }
            same_value(&what, &g, &s.op, &operands);
            n += 1;
        }
    }
    assert_eq!(erased, ERASED.iter().map(|e| e.0).collect(), "the list says what is erased, no more");
    assert_eq!(unspelled, NEVER_SPELLED.iter().map(|e| e.0).collect(), "the list says what is not spelled, no more");
    eprintln!("{n} spellings were read");
    assert!(n > 2000, "only {n} spellings were read");
}

/// The graph computes what the op does, bit for bit.
fn same_value(what: &str, g: &Graph, op: &Op, operands: &[(TensorType, Tensor)]) {
    let values: Vec<Tensor> = operands.iter().map(|(_, t)| t.clone()).collect();
    let names: Vec<String> = (0..values.len()).map(|i| format!("x{i}")).collect();
    let inputs: Vec<(&str, Tensor)> = names.iter().map(String::as_str).zip(values.iter().cloned()).collect();
    let b = Builder::new("op", Stage::Legal);
    let x: Vec<T<'_>> = names.iter().zip(operands).map(|(n, (ty, _))| b.input(n, ty.clone())).collect();
    b.apply_all(op.clone(), &x).into_iter().enumerate().for_each(|(i, y)| b.output(&format!("y{i}"), y));
    let run =
        |g: &Graph| eval::run(g, &mut |p, _| Err(p.to_owned()), &inputs).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(run(g), run(&b.finish().unwrap_or_else(|e| panic!("{what}: {e}"))), "{what}");
}

#[test]
fn no_two_ops_are_read_from_one() {
    let all = Op::onnx_ops();
    let names: BTreeSet<(&str, &str)> = all.iter().map(|&(domain, op_type, _)| (domain, op_type)).collect();
    assert_eq!(names.len(), all.len(), "{all:?}");
    assert!(all.iter().all(|(_, _, since)| (1..=*OPSETS.end()).contains(since)));
}
