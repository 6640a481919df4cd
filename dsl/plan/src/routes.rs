//! `route` stages: one way per row.

use lakehead_syntax::Span;
use lakehead_syntax::ast;

use crate::lowering::{Lowering, Named};
use crate::model::{Branch, Node, NodeKind, Stream, StreamId, Target};
use crate::steps::{Rows, condition};

/// Lowers a route.
pub(crate) fn lower(lowering: &mut Lowering<'_>, stage: &ast::Route) {
    let span = Span { start: stage.span.start, end: stage.span.start + 5 };
    let Some(inputs) = lowering.inputs(&stage.from, "route", span) else { return };
    let [(_, input, shown)] = inputs.as_slice() else {
        lowering.error("E0217", "`route` reads one input".into(), span, "reads several");
        return;
    };
    lowering.mark_read(*input);
    let stream = lowering.streams[input.0].clone();
    let rows = Rows::of(&stream, shown.rsplit('.').next().unwrap_or(shown));
    let mut branches = Vec::new();
    for branch in &stage.branches {
        let condition = condition(lowering, &branch.condition, &rows, "when", false);
        let output = branch_stream(lowering, &branch.name, &stream);
        if let Some((condition, _)) = condition {
            branches.push(Branch { name: branch.name.text.clone(), condition, output });
        }
    }
    let otherwise = if stage.otherwise.text == "dead_letter" {
        Target::DeadLetter
    } else {
        Target::Stream(branch_stream(lowering, &stage.otherwise, &stream))
    };
    lowering.nodes.push(Node { name: "route".into(), kind: NodeKind::Route { input: *input, branches, otherwise } });
}

fn branch_stream(lowering: &mut Lowering<'_>, name: &ast::Name, stream: &Stream) -> StreamId {
    let output = lowering.stream(Stream { name: name.text.clone(), ..stream.clone() });
    lowering.define(Named {
        name: name.text.clone(),
        span: name.span,
        members: vec![(String::new(), output)],
        sink: false,
    });
    output
}
