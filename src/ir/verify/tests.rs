//! One test for each line of the contract, each made by breaking a valid graph.

use super::*;
use crate::ir::{DType, Literal, ScopeId, Stage, Tensor, TypeError, Value};
use proptest::prelude::*;

/// The least that can be an op: `Sum` keeps the type of its two operands, `Split` gives one operand twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Mock {
    Sum,
    Split,
}

impl Operator for Mock {
    fn name(&self) -> &'static str {
        if *self == Self::Sum { "sum" } else { "split" }
    }
    fn infer(&self, x: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        match (self, x) {
            (Self::Sum, [a, b]) if a == b => Ok(vec![(*a).clone()]),
            (Self::Split, [a]) => Ok(vec![(*a).clone(), (*a).clone()]),
            _ => Err(TypeError(format!("cannot take {x:?}"))),
        }
    }
    fn allowed(&self, stage: Stage) -> bool {
        *self == Self::Sum || stage == Stage::Built
    }
}

fn symbol(name: &str) -> Symbol {
    Symbol::new(name).expect("a name")
}

/// %0 input x, %1 parameter w, n0: %2, %3 = split %0, n1: %4 = sum %2, %1.
fn graph() -> Graph<Mock> {
    let mut g = Graph::new("g", Stage::Built);
    g.declare(symbol("batch"));
    let ty = TensorType::new(DType::F32, [Dim::symbol(symbol("batch")), Dim::known(2)]);
    let x = g.add_input("x", ty.clone());
    let w = g.add_param("head.weight", ty, Init::ZEROS, true);
    let origin = Origin { scope: g.scope("head"), at: Some(Location::caller()), rule: None };
    let split = g.add_node(Mock::Split, [x].into_iter().collect(), origin).expect("it types");
    let half = g.node(split).result(0);
    let sum = g.add_node(Mock::Sum, [half, w].into_iter().collect(), origin).expect("it types");
    let y = g.node(sum).result(0);
    g.add_output("y", y);
    g
}

fn corrupt(f: impl FnOnce(&mut Graph<Mock>)) -> Vec<Violation> {
    let mut g = graph();
    f(&mut g);
    verify(&g).expect_err("the graph was corrupted").0
}

/// The rules broken, without repetition.
fn broken(f: impl FnOnce(&mut Graph<Mock>)) -> Vec<Clause> {
    let rules: BTreeSet<Clause> = corrupt(f).iter().map(|v| v.clause).collect();
    rules.into_iter().collect()
}

fn v(i: usize) -> ValueId {
    ValueId::new(i)
}
fn n(i: usize) -> NodeId {
    NodeId::new(i)
}

#[test]
fn a_built_graph_is_valid() {
    verify(&graph()).expect("valid");
}

#[test]
fn ids_are_in_range() {
    assert_eq!(broken(|g| g.nodes[n(1)].inputs[0] = v(99)), [Clause::Ids]);
    assert_eq!(broken(|g| g.nodes[n(1)].origin.scope = ScopeId::new(99)), [Clause::Ids]);
    assert_eq!(broken(|g| g.nodes[n(1)].results = u32::MAX), [Clause::Ids]);
    assert_eq!(broken(|g| g.params[ParamId::new(0)].value = v(99)), [Clause::Ids, Clause::Owned]);
    assert_eq!(broken(|g| g.inputs[0].value = v(99)), [Clause::Ids, Clause::Owned]);
    assert_eq!(broken(|g| g.values[v(1)].def = Def::Param(ParamId::new(9))), [Clause::Ids, Clause::Owned]);
}

#[test]
fn operands_are_defined_before() {
    assert_eq!(broken(|g| g.nodes[n(0)].inputs[0] = v(4)), [Clause::Order]);
    assert_eq!(broken(|g| g.nodes[n(1)].inputs[0] = v(4)), [Clause::Order]);
    let read_late_input = |g: &mut Graph<Mock>| {
        let ty = g.values[v(0)].ty.clone();
        g.nodes[n(0)].inputs[0] = g.add_input("late", ty);
    };
    assert_eq!(broken(read_late_input), [Clause::Order]);
}

#[test]
fn results_are_contiguous_and_owned() {
    assert_eq!(broken(|g| g.values[v(3)].def = Def::Result { node: n(0), index: 0 }), [Clause::Owned]);
    assert_eq!(broken(|g| g.values[v(3)].def = Def::Input(0)), [Clause::Owned]);
    assert!(broken(|g| g.nodes[n(1)].first = v(3)).contains(&Clause::Owned));
    let orphan = |g: &mut Graph<Mock>| {
        let value = Value { ty: g.values[v(0)].ty.clone(), def: Def::Result { node: n(1), index: 1 } };
        g.values.push(value);
    };
    assert_eq!(broken(orphan), [Clause::Owned]);
}

#[test]
fn stored_types_are_inferred_types() {
    assert_eq!(broken(|g| g.values[v(4)].ty.dtype = DType::F64), [Clause::Types]);
    assert_eq!(broken(|g| g.nodes[n(1)].inputs.truncate(1)), [Clause::Types]);
    assert_eq!(broken(|g| g.nodes[n(1)].op = Mock::Split), [Clause::Types]);
}

#[test]
fn sizes_are_valid_and_countable() {
    let resize = |d: Dim| move |g: &mut Graph<Mock>| g.values[v(0)].ty.shape[1] = d;
    assert!(broken(resize(Dim::known(-1))).contains(&Clause::Dims));
    assert!(broken(resize(Dim::OVERFLOW)).contains(&Clause::Dims));
    assert_eq!(broken(resize(Dim::known(i64::MAX - 1))), [Clause::Types], "a multiple of a symbol can be counted");
    let huge = TensorType::new(DType::F32, [i64::MAX / 2, 4]);
    assert_eq!(broken(|g| _ = g.add_input("huge", huge)), [Clause::Dims]);
}

#[test]
fn outputs_exist() {
    assert_eq!(broken(|g| g.outputs[0].value = v(99)), [Clause::Outputs]);
}

#[test]
fn names_are_unique_and_not_empty() {
    let ty = TensorType::new(DType::F32, [2]);
    assert_eq!(broken(|g| _ = g.add_input("x", ty.clone())), [Clause::Names]);
    assert_eq!(broken(|g| _ = g.add_input("", ty)), [Clause::Names]);
    assert_eq!(broken(|g| g.add_output("y", v(0))), [Clause::Names]);
    assert_eq!(broken(|g| g.outputs[0].name.clear()), [Clause::Names]);
}

#[test]
fn parameter_paths_are_unique_and_not_empty() {
    let ty = TensorType::new(DType::F32, [2]);
    assert_eq!(broken(|g| _ = g.add_param("head.weight", ty.clone(), Init::ONES, true)), [Clause::Paths]);
    assert_eq!(broken(|g| _ = g.add_param("", ty, Init::ONES, true)), [Clause::Paths]);
}

#[test]
fn symbols_are_declared_once() {
    assert_eq!(broken(|g| g.symbols.clear()), [Clause::Symbols]);
    assert_eq!(broken(|g| g.symbols.push(symbol("batch"))), [Clause::Symbols]);
}

#[test]
fn ops_are_allowed_at_the_stage() {
    assert_eq!(broken(|g| g.stage = Stage::Legal), [Clause::Stage]);
}

#[test]
fn computed_contents_have_the_type_of_their_parameter() {
    let ty = TensorType::new(DType::F32, [2]);
    let contents = Init::Value(Literal::new(Tensor::new(&[3], vec![0.0f32; 3])));
    assert_eq!(broken(|g| _ = g.add_param("table", ty, contents, false)), [Clause::Contents]);
}

#[test]
fn every_violation_is_reported_with_its_origin() {
    let all = corrupt(|g| {
        g.stage = Stage::Legal;
        g.outputs[0].value = v(99);
        g.values[v(4)].ty.dtype = DType::F64;
    });
    assert_eq!(all.iter().map(|v| v.clause).collect::<Vec<_>>(), [Clause::Stage, Clause::Types, Clause::Outputs]);
    let text = Violations(all).to_string();
    assert!(text.starts_with("head: node n0: split may not occur at stage legal\n    at src"), "{text}");
    assert!(text.contains("result 0 of sum is stored as f64[batch, 2], expected f32[batch, 2]"), "{text}");
}

proptest! {
    /// Any ids anywhere: a verdict, never a panic.
    #[test]
    fn a_mutated_graph_is_never_a_panic(changes in prop::collection::vec((0..9u8, 0..6usize, 0..8usize), 1..6)) {
        let mut g = graph();
        for (what, at, to) in changes {
            let to = if to == 7 { u32::MAX as usize } else { to };
            let (node, value) = (n(at % 2), v(at % 5));
            match what {
                0 => g.nodes[node].first = v(to),
                1 => g.nodes[node].results = to as u32,
                2 => g.nodes[node].inputs.push(v(to)),
                3 => g.nodes[node].origin.scope = ScopeId::new(to),
                4 => g.values[value].def = Def::Result { node: n(to), index: at },
                5 => g.values[value].def = Def::Result { node, index: to },
                6 => g.values[value].def = Def::Param(ParamId::new(to)),
                7 => g.params[ParamId::new(0)].value = v(to),
                _ => g.outputs[0].value = v(to),
            }
        }
        if let Err(violations) = verify(&g) {
            prop_assert!(!violations.0.is_empty() && !violations.to_string().is_empty());
        }
    }
}
