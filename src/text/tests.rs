//! Round trips, refusals, and the robustness of reading.

use super::{Style, annotate, explain, parse, parse_all, print};
use crate::ir::verify::verify;
use crate::ir::{DType, Dim, Entity, Init, Literal, Operands, Origin, ScopeId, Stage, Tensor, TensorType, ValueId};
use crate::ops::{Const, Graph, Op, Program, Sample, SampleOperand};
use proptest::prelude::*;
use std::sync::Arc;

/// Returns true if two graphs are equal up to the numbers of their ids and the origins of their nodes.
fn same(a: &Graph, b: &Graph) -> bool {
    a.to_string() == b.to_string()
}

/// Uses every construct of the text form.
const TEXT: &str = r#"graph vit.tiny  stage built
  symbol batch
  symbol h
  input x : f32[batch, 16*h, 4]
  input "odd name" : i64[2*batch*h + 1]

[blocks.0]
  param weight : f32[4, 4] uniform(0.5)
  buffer table : i64[2] value(i64[2] [0, -1])
  %0 = matmul x, @weight : f32[batch, 16*h, 4]
  param /pos : f32[4] normal(1.0)
  %1 = add %0, @/pos : f32[batch, 16*h, 4]
[]
  %0 = const {value = f32[5] [1.0, -2.5, nan, -inf, 1e-45]} : f32[5]
  %1 = const {value = f64[] nan(0x7ff8000000000001)} : f64[]
  %2 = reshape %blocks.0/1 {to = [batch, 4*h, 4, 4]} : f32[batch, 4*h, 4, 4]
[blocks.0]
  %2 = add %1, %1 : f32[batch, 16*h, 4]
[blocks-0]
  %0 = sub %blocks.0/2, @/pos : f32[batch, 16*h, 4]
["odd \"scope\""]
  param unread : bool[1, 0] constant(0.0)
  %0 = neg %/2 : f32[batch, 4*h, 4, 4]
  param /never.read : f32[] constant(0.0)

  output y = %"odd \"scope\""/0
  output "also odd" = %/0
  output third = @/pos
"#;

fn graph(text: &str) -> Graph {
    parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn refusal(text: &str) -> String {
    parse(text).expect_err("the text is wrong").to_string()
}

/// A graph of one line in scope `s`, with an input `x : f32[batch, 4]`.
fn line(line: &str) -> String {
    format!("graph g  stage built\n  symbol batch\n  input x : f32[batch, 4]\n[s]\n  {line}\n")
}

#[test]
fn what_was_read_prints_the_same() {
    let g = graph(TEXT);
    verify(&g).expect("what was read is valid");
    assert_eq!(print(&g, &Style::COMPLETE), TEXT);
    assert_eq!(g.to_string(), TEXT);
    assert!(same(&g, &graph(TEXT)));
    assert!(!same(&g, &graph(&TEXT.replace("uniform(0.5)", "uniform(0.25)"))));
}

#[test]
fn several_graphs_are_read_in_order() {
    let both = format!("// two\n{}\n{}", TEXT, line("%7 = neg x : f32[batch, 4] // numbers are free"));
    let graphs = parse_all(&both).expect("two graphs");
    assert_eq!(graphs.iter().map(|g| g.name.as_str()).collect::<Vec<_>>(), ["vit.tiny", "g"]);
    assert!(graphs[1].to_string().contains("  %0 = neg x"));
    assert!(refusal(&both).contains("expected one graph, found a second one named `g`"));
    assert!(parse_all("\n // nothing\n").expect("no graph").is_empty());
}

/// A graph of one sample; its node is the last.
fn sample_graph(sample: &Sample) -> Graph {
    let mut g = Graph::new("sample", Stage::Built);
    let origin = Origin { scope: g.scope("s"), at: None, rule: None };
    let mut operands = Operands::new();
    for (i, operand) in sample.operands.iter().enumerate() {
        operands.push(match operand {
            SampleOperand::Drawn(ty) => {
                ty.shape.iter().flat_map(Dim::symbols).for_each(|s| g.declare(s.clone()));
                g.add_input(format!("x{i}"), ty.clone())
            }
            SampleOperand::Given(t) => {
                let node = g.add_node(Const::new(t.clone()).into(), Operands::new(), origin);
                g.node(node.expect("a constant")).result(0)
            }
        });
    }
    let node = g.add_node(sample.op.clone(), operands, origin).unwrap_or_else(|e| panic!("{:?}: {e}", sample.op));
    for (i, v) in g.node(node).outputs().enumerate() {
        g.add_output(format!("y{i}"), v);
    }
    g
}

#[test]
fn every_sample_of_every_op_round_trips() {
    for sample in Op::samples() {
        let text = sample_graph(&sample).to_string();
        let back = graph(&text);
        assert_eq!(back.to_string(), text);
        assert_eq!(back.nodes().last().expect("a node").1.op, sample.op, "{text}");
    }
}

#[test]
fn absurd_numbers_in_any_op_are_never_a_panic() {
    let absurd = ["0", "3", "-1", "4294967296", "9223372036854775806", "9223372036854775807", "-9223372036854775808"];
    for sample in Op::samples() {
        let text = sample_graph(&sample).to_string();
        let digits = |i: usize| text.as_bytes()[i].is_ascii_digit();
        for start in (1..text.len()).filter(|&i| digits(i) && !digits(i - 1)) {
            let end = (start..text.len()).find(|&i| !digits(i)).unwrap_or(text.len());
            for number in absurd {
                let changed = format!("{}{number}{}", &text[..start], &text[end..]);
                if let Ok(g) = parse(&changed) {
                    assert!(verify(&g).is_ok() && same(&g, &graph(&g.to_string())), "{changed}");
                }
            }
        }
    }
}

#[test]
fn large_constants_are_digests_on_demand_only() {
    let numbers: Vec<f32> = (0..17u8).map(f32::from).collect();
    let tensor = Tensor::new(&[17], numbers);
    let mut g = Graph::new("g", Stage::Built);
    let origin = Origin { scope: g.scope(""), at: None, rule: None };
    g.add_node(Const::new(tensor.clone()).into(), Operands::new(), origin).expect("a constant");
    let ty = TensorType::new(DType::F32, [17]);
    g.add_param("table", ty, Init::Value(Literal::new(tensor.clone())), false);
    assert!(same(&g, &graph(&g.to_string())));
    let short = print(&g, &Style::SNAPSHOT);
    let digest = format!("f32[17] #{:032x}", Literal::new(tensor).digest());
    assert_eq!(short.matches(&digest).count(), 2, "{short}");
    assert!(
        refusal(&short).starts_with("line 4, column 40: this constant was printed as a digest"),
        "{}",
        refusal(&short)
    );
}

#[test]
fn origins_are_comments() {
    let mut g = graph(&line("%0 = neg x : f32[batch, 4]"));
    let x = g.inputs()[0].value;
    let at = std::panic::Location::caller();
    let origin = Origin { scope: g.scope("s"), at: Some(at), rule: Some("fuse-gelu") };
    let op = g.nodes().next().expect("a node").1.op.clone();
    g.add_node(op, [x].into_iter().collect(), origin).expect("it types");
    let text = print(&g, &Style { origins: true, ..Style::COMPLETE });
    assert!(text.contains(&format!("  // {}:{} by fuse-gelu", at.file(), at.line())), "{text}");
    assert!(same(&g, &graph(&text)));
}

#[test]
fn numbers_are_read_without_loss() {
    for value in [
        "f32[3] [-0.0, 3.4028235e38, 1e-45]",
        "f64[2] [0.1, 5e-324]",
        "i64[2] [-9223372036854775808, 9223372036854775807]",
    ] {
        let ty = value.split(' ').next().expect("a type");
        let text = line(&format!("%0 = const {{value = {value}}} : {ty}"));
        assert!(graph(&text).to_string().contains(value), "{value}");
    }
    for (value, why) in [
        ("f32[1] [1e39]", "`1e39` is too large for f32"),
        ("i64[1] [9223372036854775808]", "expected an integer of i64"),
        ("i64[1] [1.5]", "expected an integer of i64"),
        ("u8[1] [-1]", "expected an integer of u8, found `-1`"),
        ("i8[1] [128]", "expected an integer of i8, found `128`"),
        ("f16[1] [65520]", "`65520` is too large for f16"),
        ("bf16[1] [nan(0x17fc0)]", "not the bits of a NaN"),
        ("f16[1] [nan(0x3c00)]", "not the bits of a NaN of f16"),
        ("bool[1] [1]", "expected `true` or `false`"),
        ("f32[1] [nan(0x1)]", "not the bits of a NaN"),
        ("f32[2, 3] [1.0]", "f32[2, 3] has 6 elements, found 1"),
        ("f32[999999999999] [1.0]", "has 999999999999 elements, found 1"),
        ("f32[0, 9223372036854775807] []", "too large for a constant"),
        ("f32[-1] []", "a size cannot be negative"),
    ] {
        let message = refusal(&line(&format!("%0 = const {{value = {value}}} : f32[1]")));
        assert!(message.contains(why), "{value}: {message}");
    }
}

/// Every value of the types of 8 and 16 bits, and the odd ones of the others.
#[test]
fn constants_of_every_type_read_back() {
    for dtype in DType::ALL {
        let size = dtype.size();
        let odd =
            [0, 1, 1 << 63, u64::MAX, 0x7ff << 52, (0x7ff << 52) + 1, 0x7f80_0000_3f80_0001, 0xff80_0001_cdcd_cdcd];
        let bytes: Vec<u8> = match size {
            1 | 2 => (0..1u32 << (8 * size)).flat_map(|n| n.to_le_bytes().into_iter().take(size)).collect(),
            _ => odd.iter().flat_map(|n: &u64| n.to_le_bytes()).collect(),
        };
        // Truth values are 0 and 1 in memory.
        let bytes = if dtype == DType::Bool { vec![0, 1] } else { bytes };
        let tensor = Tensor::from_le_bytes(dtype, &[bytes.len() / size], &bytes).expect("whole elements");
        let mut g = Graph::new("g", Stage::Built);
        let origin = Origin { scope: g.scope(""), at: None, rule: None };
        g.add_node(Const::new(tensor).into(), Operands::new(), origin).expect("a constant");
        assert!(same(&g, &graph(&g.to_string())), "{dtype}");
    }
    let text = line("%0 = const {value = f16[6] [0.1, -0.0, inf, nan, 65504.0, nan(0x7e01)]} : f16[6]");
    assert!(graph(&text).to_string().contains("[0.1, -0.0, inf, nan, 65500.0, nan(0x7e01)]"), "{}", graph(&text));
}

#[test]
fn refusals_say_where_and_what_was_expected() {
    for (text, why) in [
        ("%0 = frobnicate x : f32[1]", "line 5, column 8: there is no op `frobnicate`"),
        ("%0 = reshape x {into = [4]} : f32[4]", "attribute `to` is missing"),
        ("%0 = neg x {axis = 1} : f32[batch, 4]", "neg has no attribute `axis`"),
        ("%0 = reshape x {to = 1.5} : f32[4]", "attribute `to` is of the wrong kind"),
        ("%0 = reshape x {to = [4], to = [4]} : f32[4]", "attribute `to` is given twice"),
        ("%0 = reshape x {to = [w]} : f32[4]", "`w` is not a symbol of this graph"),
        ("%0 = reshape x {to = [4} : f32[4]", "expected `,` or `]`, found `}`"),
        ("%0 = neg %1 : f32[batch, 4]", "line 5, column 12: value %1 of scope `s` is not defined"),
        ("%0 = neg %/1 : f32[batch, 4]", "value %1 of the root scope is not defined"),
        ("%0 = neg @w : f32[batch, 4]", "parameter `s.w` is not defined"),
        ("%0 = neg @/w : f32[batch, 4]", "parameter `w` is not defined"),
        ("%0 = neg y : f32[batch, 4]", "input `y` is not defined"),
        ("%0 = neg x, x : f32[batch, 4]", "neg: takes 1 operands, 2 were given"),
        ("%0 = neg x : f32[4, batch]", "line 5, column 16: neg gives f32[batch, 4], found f32[4, batch]"),
        ("%0, %1 = neg x : f32[batch, 4]", "neg has 1 results, found 2 names"),
        ("%0, %0 = neg x : f32[batch, 4]", "%0 is defined twice"),
        ("%0 = neg x : f32[batch, 4] %1", "expected the end of the line, found `%`"),
        ("%0 = neg x", "expected `:`, found the end of the line"),
        ("neg x : f32[batch, 4]", "expected `graph`, `symbol`, `input`, `param`, `buffer`, `output`, `[SCOPE]`"),
        ("symbol batch", "symbol `batch` is declared twice"),
        ("symbol true", "`true` is a word of the text form"),
        ("input x : f32[1]", "there already is input `x`"),
        ("input y : u16[1]", "expected an element type (f64, f32, f16, bf16, i64, i32, i8, u8, bool), found `u16`"),
        ("input y : f32[-1]", "an axis cannot have size -1"),
        ("input y : f32[99999999999, 99999999999]", "more elements than can be counted"),
        ("input y : f32[99999999999999999999]", "expected a number of 64 bits"),
        ("input y : f32[4*9223372036854775806]", "the size does not fit 64 bits"),
        ("input \"\" : f32[1]", "the name of the input is empty"),
        ("input \"y : f32[1]", "does not end in its line"),
        (
            "param w : f32[2] ones",
            "expected constant(x), normal(x), uniform(x), value(tensor) or computed, found `ones`",
        ),
        ("param w : f32[2] value(i64[2] [1, 2])", "the parameter is f32[2] but its contents are i64[2]"),
        ("output y = %0", "expected `%SCOPE/NUMBER`"),
        ("graph h  stage fused", "expected a stage (built, specialized, legal), found `fused`"),
    ] {
        let message = refusal(&line(text));
        assert!(message.contains(why), "{text}: {message}");
    }
    let twice = line("param w : f32[2] normal(1.0)\n[]\n  param s.w : f32[2] normal(1.0)");
    assert_eq!(refusal(&twice), "line 7, column 9: there already is parameter `s.w`");
    let outputs = line("output y = x\n  output y = x");
    assert_eq!(refusal(&outputs), "line 6, column 10: there already is output `y`");
    assert!(refusal("graph g  stage built\n  %0 = x").contains("expected `[SCOPE]` before the first value"));
    assert!(refusal("").contains("expected `graph NAME  stage STAGE`, found the end of the text"));
}

#[test]
fn ops_are_refused_after_their_last_stage() {
    let dropout = line("%0 = dropout x {ratio = 0.5} : f32[batch, 4]");
    graph(&dropout);
    let late = dropout.replace("stage built", "stage legal");
    assert_eq!(refusal(&late), "line 5, column 8: dropout may not occur at stage legal");
}

#[test]
fn sizes_that_would_explode_are_refused() {
    let symbols: Vec<String> = (0..40).map(|i| format!("s{i}")).collect();
    let declared = symbols.join("\n  symbol ");
    let sums: Vec<String> = symbols.iter().map(|s| format!("{s} + 1")).collect();
    let text = format!("graph g  stage built\n  symbol {declared}\n  input x : f32[{}]\n", sums.join(", "));
    assert!(refusal(&text).contains("may have more than 256 terms"));
    let text = format!("graph g  stage built\n  symbol h\n  input x : f32[{}]\n", vec!["h"; 65].join("*"));
    assert!(refusal(&text).contains("at most 64 factors"));
    let text = format!("graph g  stage built\n  input x : f32[{}]\n", vec!["1"; 65].join(", "));
    assert!(refusal(&text).contains("at most 64 axes"));
}

#[test]
fn violations_are_shown_among_their_neighbors() {
    let mut g = graph(&line("%0 = dropout x {ratio = 0.5} : f32[batch, 4]\n  %1 = neg %0 : f32[batch, 4]"));
    g.stage = Stage::Legal;
    g.add_output("y", ValueId::new(99));
    let shown = annotate(&g, &verify(&g).expect_err("two violations"));
    assert_eq!(
        shown,
        "s: node n0: dropout may not occur at stage legal
  | [s]
  >   %0 = dropout x {ratio = 0.5} : f32[batch, 4]
  |   %1 = neg %0 : f32[batch, 4]
output 0: the value %99 of `y` does not exist
  |   %1 = neg %0 : f32[batch, 4]
  >   output y = %?99
"
    );
}

#[test]
fn an_invalid_program_is_explained_in_its_text() {
    let mut p = Program::new(graph(&line("%0 = dropout x {ratio = 0.5} : f32[batch, 4]")));
    assert_eq!(explain(&p, "no graph is to blame".to_owned()), "no graph is to blame");
    Arc::make_mut(&mut p.graph).stage = Stage::Legal;
    Arc::make_mut(&mut p.weights).add_output("w", ValueId::new(7));
    let reason = p.verify().expect_err("invalid");
    assert_eq!(
        explain(&p, reason),
        "s: node n0: dropout may not occur at stage legal
  | [s]
  >   %0 = dropout x {ratio = 0.5} : f32[batch, 4]
weight program: output 0: the value %7 of `w` does not exist
  | graph g.weights  stage legal
  >   output w = %?7"
    );
}

#[test]
fn a_scope_that_does_not_exist_prints_as_one_that_cannot() {
    let mut g = graph(&line("%0 = neg x : f32[batch, 4]"));
    let op = g.nodes().next().expect("a node").1.op.clone();
    let origin = Origin { scope: ScopeId::new(99), at: None, rule: None };
    g.add_node(op, [ValueId::new(0)].into_iter().collect(), origin).expect("it types");
    let shown = annotate(&g, &verify(&g).expect_err("a violation"));
    assert!(shown.contains("its scope s99 does not exist\n  | [\"?\"]\n  >   %0 = neg x"), "{shown}");
}

#[test]
fn a_truncated_text_is_never_a_panic() {
    let text = TEXT;
    for end in (0..text.len()).filter(|&i| text.is_char_boundary(i)) {
        let _ = parse(&text[..end]);
        let _ = parse(&text[end..]);
    }
}

proptest! {
    /// A run of the text replaced by pieces of the language.
    #[test]
    fn a_mangled_text_is_never_a_panic(
        at in 0..TEXT.len(),
        cut in 0..40usize,
        piece in r#"[%@/\[\]{}(),:=*+\- "\\0-9a-z.#\n]{0,12}"#,
    ) {
        let text = TEXT;
        let (at, end) = (at.min(text.len()), (at + cut).min(text.len()));
        let mangled = format!("{}{piece}{}", &text[..at], &text[end..]);
        if let Ok(g) = parse(&mangled) {
            prop_assert!(verify(&g).is_ok());
            prop_assert!(same(&g, &graph(&g.to_string())));
        }
    }

    #[test]
    fn any_text_is_never_a_panic(text in any::<String>()) {
        let _ = parse_all(&text);
    }
}
