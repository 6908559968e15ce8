//! What ops say of themselves, compared with what they compute: the types of composites are those of their formulas,
//! costs are those of the bytes and operations there are.

use super::cases;
use vit_onnx::build::Builder;
use vit_onnx::ir::{Bindings, DType, Dim, Shape, Stage, TensorType};
use vit_onnx::ops::{Cost, Op};

/// The types of an op's definition; `None` for a primitive.
fn types_of_definition(op: &Op, x: &[TensorType]) -> Option<Result<Vec<TensorType>, String>> {
    let b = Builder::new("definition", Stage::Built);
    let x: Vec<_> = x.iter().enumerate().map(|(i, t)| b.input(&i.to_string(), t.clone())).collect();
    let y = op.def().definition(&x)?;
    let types = y.iter().map(|y| y.ty()).collect();
    Some(b.finish().map(|_| types).map_err(|e| e.to_string()))
}

/// The operand types with one mistake each: another element type, size or rank, an operand too few or too many.
fn mistaken(x: &[TensorType]) -> Vec<Vec<TensorType>> {
    let mut all = vec![x[..x.len() - 1].to_vec(), [x, &x[..1]].concat()];
    for (i, t) in x.iter().enumerate() {
        let mut with = |t: TensorType| all.push([&x[..i], &[t], &x[i + 1..]].concat());
        for dtype in [DType::F64, DType::I64, DType::Bool] {
            with(TensorType { dtype, ..t.clone() });
        }
        for axis in 0..t.rank() {
            for size in [0, 1, 9] {
                let mut shape = t.shape.clone();
                shape[axis] = Dim::known(size);
                with(TensorType { shape, ..t.clone() });
            }
            let mut shape = t.shape.to_vec();
            shape.remove(axis);
            with(TensorType::new(t.dtype, shape));
        }
        with(TensorType { shape: t.shape.iter().cloned().chain([Dim::known(2)]).collect(), ..t.clone() });
    }
    all
}

/// What a composite refuses although its formula would do: broadcasts, and integers where the formula rounds.
fn stricter_than_its_formula(op: &Op) -> bool {
    op.mnemonic() == "hard_swish"
        || matches!(op, Op::LayerNormalization(_) | Op::BatchNormalization(_) | Op::Attention(_))
}

#[test]
fn composites_have_the_types_of_their_formulas() {
    let (mut same, mut refused) = (0, 0);
    for case in cases(DType::F32) {
        let Some(formula) = types_of_definition(&case.op, &case.types) else { continue };
        assert_eq!(Ok(case.result_types()), formula, "{:?}", case.op);
        // The definition of a resampling takes sizes for granted.
        let mistakes = if matches!(case.op, Op::Resize(_)) { Vec::new() } else { mistaken(&case.types) };
        for x in mistakes {
            let refs: Vec<&TensorType> = x.iter().collect();
            let told = case.op.def().infer(&refs);
            // A definition of another number of operands is none.
            match (told, types_of_definition(&case.op, &x)) {
                (Ok(told), Some(Ok(formula))) => {
                    assert_eq!(told, formula, "{:?} of {x:?}", case.op);
                    same += 1;
                }
                (Err(_), None | Some(Err(_))) => refused += 1,
                (Err(_), Some(Ok(_))) if stricter_than_its_formula(&case.op) => refused += 1,
                (told, formula) => panic!("{:?} of {x:?} is {told:?}, its formula {formula:?}", case.op),
            }
        }
    }
    assert!(same > 100 && refused > 300, "{same} agree, {refused} are refused");
}

/// Ops that move, select or convert elements, or do nothing.
fn moves_only(op: &Op) -> bool {
    matches!(
        op,
        Op::Const(_)
            | Op::Where(_)
            | Op::Cast(_)
            | Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Expand(_)
            | Op::Slice(_)
            | Op::Pad(_)
            | Op::Concat(_)
            | Op::Gather(_)
            | Op::GatherElements(_)
            | Op::Dropout(_)
            | Op::StopGradient(_)
    )
}

fn cost(op: &Op, x: &[TensorType], y: &[TensorType]) -> Cost {
    op.def().cost(&x.iter().collect::<Vec<_>>(), &y.iter().collect::<Vec<_>>())
}

fn bound(types: &[TensorType], env: &Bindings) -> Vec<TensorType> {
    let bound = |t: &TensorType| TensorType::new(t.dtype, Shape::from(&*t.shape.eval(env).expect("bound")));
    types.iter().map(bound).collect()
}

#[test]
fn costs_are_bytes_and_operations() {
    for case in cases(DType::F32) {
        let (x, y) = (&case.types, &case.result_types());
        let told = cost(&case.op, x, y);
        let [flops, read, written] = told.eval(&case.env).expect("every symbol is bound");
        assert_eq!(flops == 0, moves_only(&case.op), "{:?}", case.op);
        // Bound first or last.
        let (bx, by) = (bound(x, &case.env), bound(y, &case.env));
        assert_eq!(cost(&case.op, &bx, &by).eval(&Bindings::new()), Some([flops, read, written]));
        let bytes = |t: &[TensorType]| t.iter().map(|t| t.bytes().value().expect("bound") as u64).sum::<u64>();
        let (all, made) = (bytes(&bx), bytes(&by));
        let expected = match &case.op {
            // What is in memory already, as it is.
            Op::Const(_) | Op::Reshape(_) | Op::Dropout(_) | Op::StopGradient(_) => (0, 0),
            // Of the data only what is picked.
            Op::Slice(_) | Op::Gather(_) | Op::GatherElements(_) => (made + bytes(&bx[1..]), made),
            _ => (all, made),
        };
        assert_eq!((read, written), expected, "{:?}", case.op);
    }
}

/// Weights are the bytes of the operands that are known; costs add up.
#[test]
fn weights_are_known_operands_and_costs_add_up() {
    let t = |shape: &[i64]| TensorType::new(DType::F32, shape);
    let (x, w) = (t(&[2, 3]), t(&[3, 5]));
    assert_eq!(Cost::weights(&[&x, &w], |i| i == 1), Dim::known(60));
    let product = Cost::new(Dim::known(60), &[&x, &w], &[&t(&[2, 5])]);
    assert_eq!((product.clone() + product).eval(&Bindings::new()), Some([120, 168, 80]));
    assert_eq!(Cost::FREE.eval(&Bindings::new()), Some([0; 3]));
}
