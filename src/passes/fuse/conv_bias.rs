//! `conv(x, w) + c` becomes a convolution with a bias, where `c` is one number for each channel.
//!
//! After affine maps are folded, which looks for the addition. The bias must be known before the graph runs:
//! accelerated kernels fold a constant bias into the convolution and fall back for any other.

use crate::ops::{Conv, Op};
use crate::rewrite::{Facts, Match, Refuse, Row, Rule};

/// The third operand of Conv.
pub(super) const RULE: Rule = Rule {
    row: Row {
        name: "conv-bias",
        doc: "conv(x, w) + c becomes conv(x, w, c), for stored c, one number for each channel",
    },
    lhs: |x| {
        let conv = x.any_op("a conv without bias", |op| conv(op).is_some(), vec![x.any("x"), x.any("w")]);
        conv + x.stored("c")
    },
    when: one_number_for_each_channel,
    rhs: |m, var| {
        let op = m.op(conv).expect("the pattern has a conv without bias").with_bias();
        let (w, c) = (var("w"), var("c"));
        vec![var("x").builder().apply(op, &[var("x"), w, c.reshape([w.dim(0)])])]
    },
    results: &[],
    hint: Some(|op| conv(op).is_some()),
};

/// The convolution of a node, when it has no bias yet.
fn conv(op: &Op) -> Option<Conv> {
    match op {
        Op::Conv(conv) if !conv.bias => Some(conv.clone()),
        _ => None,
    }
}

fn one_number_for_each_channel(m: &Match<'_>, _: &Facts<'_>) -> Result<(), Refuse> {
    let (c, w) = (m.value("c"), m.value("w"));
    let (ty, channels) = (m.graph.ty(c), &m.graph.ty(w).shape[0]);
    if ty.rank() != 3 || ty.shape[0] != *channels || ty.shape[1..].iter().any(|d| !d.is(1)) {
        return Err(Refuse(format!("what is added is {ty}, not [{channels}, 1, 1]")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::eval;
    use crate::ir::Tensor;
    use crate::ops::{Graph, Op, Program};
    use crate::passes::{self, Ctx, fuse};
    use crate::target::Target;
    use crate::template::{Model, Source};
    use crate::text;
    use crate::variants::Declare;

    /// `added` stands beside a strided grouped convolution of 4 channels.
    fn graph(added: &str) -> Graph {
        text::parse(&format!(
            "graph g  stage specialized
  input x : f32[2, 2, 5, 5]
  input late : f32[4, 1, 1]
[]
  param w : f32[4, 1, 3, 3] uniform(0.5)
  param c : f32[4] uniform(0.5)
  param map : f32[4, 3, 3] uniform(0.5)
  %0 = conv x, @w {{strides = [2, 2], pads = [1, 1, 1, 1], dilations = [1, 1], groups = 2, bias = false}} : f32[2, 4, 3, 3]
  %1 = reshape @c {{to = [4, 1, 1]}} : f32[4, 1, 1]
  %2 = {added} : f32[2, 4, 3, 3]
  output y = %/2
"
        ))
        .unwrap_or_else(|e| panic!("{e}"))
    }

    fn numbers(shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        Tensor::new(shape, (0..n).map(|i| ((i * 7 + 3) % 11) as f32 - 5.0).collect())
    }

    fn meaning(g: &Graph) -> Vec<(String, Tensor)> {
        let mut param = |_: &str, ty: &crate::ir::TensorType| Ok(numbers(&ty.shape.known().expect("static")));
        let inputs = [("x", numbers(&[2, 2, 5, 5])), ("late", numbers(&[4, 1, 1]))];
        eval::run(g, &mut param, &inputs).expect("runs")
    }

    /// The graph after the pass, and why the rule refused.
    fn fused(g: &Graph) -> (Graph, Vec<String>) {
        let mut ctx = Ctx::default();
        let p = (fuse::CONV_BIAS.run)(&Program::new(g.clone()), &mut ctx).expect("well typed");
        (p.graph.as_ref().clone(), ctx.refusals.into_iter().map(|r| r.reason).collect())
    }

    fn has_bias(g: &Graph) -> bool {
        g.nodes().any(|(_, n)| matches!(&n.op, Op::Conv(c) if c.bias))
    }

    #[test]
    fn a_number_for_each_channel_becomes_the_bias() {
        for added in ["add %0, %1", "add %1, %0"] {
            let before = graph(added);
            let (after, _) = fused(&before);
            assert!(has_bias(&after) && !after.nodes().any(|(_, n)| matches!(n.op, Op::Binary(_))), "{after}");
            assert_eq!(meaning(&before), meaning(&after));
        }
    }

    #[test]
    fn other_additions_stay() {
        for (added, reason) in
            [("add %0, @map", "not [4, 1, 1]"), ("add %0, late", "only when the graph runs"), ("sub %0, %1", "")]
        {
            let before = graph(added);
            let (after, refused) = fused(&before);
            assert!(!has_bias(&after), "{after}");
            assert!(reason.is_empty() || refused.iter().any(|r| r.contains(reason)), "{added}: {refused:?}");
            assert_eq!(meaning(&before), meaning(&after));
        }
    }

    #[test]
    fn a_convolution_that_something_else_reads_stays() {
        let mut before = graph("add %0, %1");
        let conv = before.nodes().find(|(_, n)| matches!(n.op, Op::Conv(_))).expect("there is one").1.first;
        before.add_output("z", conv);
        let (after, refused) = fused(&before);
        assert!(!has_bias(&after) && refused.iter().any(|r| r.contains("read outside")), "{refused:?}");
        assert_eq!(meaning(&before), meaning(&after));
    }

    /// What batch norm leaves behind is taken too: a whole LeViT has no other addition after a convolution.
    #[test]
    fn batch_norm_ends_in_the_bias() {
        let m = Model::resolve(&Source::Preset("levit", "tiny"), &[]).expect("a preset");
        let built = m.declaration.declare(&Declare::default()).expect("well typed");
        let options = passes::Options::default();
        let run =
            passes::compile(&Program::new(built), Target::PORTABLE, None, &options, &mut |_, _| {}).expect("passes");
        let p = run.program;
        let convs = || p.graph.nodes().filter_map(|(_, n)| if let Op::Conv(c) = &n.op { Some(c.bias) } else { None });
        assert!(convs().count() > 20 && convs().all(|bias| bias), "{}", p.graph);
        // A bias that nothing was merged with is read as it is stored.
        assert!(p.graph.params().any(|p| *p.path == *"conv_embedding.0.bias"), "{}", p.graph);
    }
}
