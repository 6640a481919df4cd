//! Names of the tables that a pipeline writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use lakehead_core::{Settings, WriteMode};
use lakehead_syntax::ast;
use lakehead_syntax::{Diagnostic, Span};

use crate::lowering::Lowering;
use crate::model::{NodeKind, Plan, Stream};

/// The settings that name what is written, in the order in which they are looked for.
const NAMES: [&str; 2] = ["table", "path"];

/// The name of the table to write, with `${table}` and `${schema}` of the stream's table. A name that would be empty is
/// refused: the rows would land in the connection's own folder, among its tables.
pub(crate) fn of_sink(
    lowering: &mut Lowering<'_>,
    stage: &ast::Sink,
    settings: &Settings,
    stream: &Stream,
) -> Option<String> {
    let own = stage.node_name().text.clone();
    let Some((setting, written, span)) = written(&stage.settings, settings, stage.span) else {
        return Some(String::new());
    };
    let named = stream.table.as_deref().unwrap_or("");
    let (namespace, short) = named.rsplit_once('.').unwrap_or(("", named));
    for (hole, value) in [("${table}", short), ("${schema}", namespace)] {
        if written.contains(hole) && value.is_empty() {
            let label = match &stream.table {
                Some(table) => format!("`{table}` is in no schema"),
                None => format!("the rows of `{}` are not those of one table", stream.name),
            };
            lowering
                .error("E0516", format!("`{hole}` has no value here"), span, &label)
                .help_last(format!("{setting} = \"{own}\"   says the name itself"));
            return None;
        }
    }
    not_empty(lowering, setting, written.replace("${table}", short).replace("${schema}", namespace), span, &own)
}

/// The name of the table that rejected rows go to.
pub(crate) fn of_dead_letter(
    lowering: &mut Lowering<'_>,
    stage: &ast::DeadLetter,
    settings: &Settings,
) -> Option<String> {
    let Some((setting, written, span)) = written(&stage.settings, settings, stage.connection.span) else {
        return Some(String::new());
    };
    for hole in ["${error.code}", "${table}", "${schema}"] {
        if written.contains(hole) {
            lowering.not_yet.push((hole.to_owned(), format!("dead_letter {}", stage.connection.text)));
        }
    }
    not_empty(lowering, setting, written.to_owned(), span, "ops.dead_letters")
}

fn written<'a>(
    stage: &ast::Settings,
    settings: &'a Settings,
    otherwise: Span,
) -> Option<(&'static str, &'a str, Span)> {
    let (setting, written) = NAMES.iter().find_map(|name| Some((*name, settings.text(name)?)))?;
    Some((setting, written, stage.get(setting).map_or(otherwise, |setting| setting.value.span)))
}

fn not_empty(lowering: &mut Lowering<'_>, setting: &str, name: String, span: Span, example: &str) -> Option<String> {
    if name.trim().is_empty() {
        lowering
            .error("E0516", format!("`{setting}` is empty"), span, "names nothing")
            .help_last(format!("{setting} = \"{example}\""));
        return None;
    }
    Some(name)
}

/// The tables that a plan writes, with their columns.
pub(crate) fn written_tables(plan: &Plan) -> BTreeMap<(String, String), SchemaRef> {
    plan.nodes
        .iter()
        .filter_map(|node| match &node.kind {
            NodeKind::Sink(sink) => {
                Some(((sink.connection_name.clone(), sink.table.clone()), Arc::clone(&sink.schema)))
            }
            _ => None,
        })
        .collect()
}

/// Two sinks that write one table are a mistake; dead letters may share theirs.
pub(crate) fn refuse_shared_tables(plans: &[Plan], found: &mut Vec<Diagnostic>) {
    let mut seen: BTreeMap<(String, String), (lakehead_syntax::FileId, Span)> = BTreeMap::new();
    for plan in plans {
        for node in &plan.nodes {
            let NodeKind::Sink(sink) = &node.kind else { continue };
            if sink.table.is_empty() || sink.mode == WriteMode::Compact {
                continue;
            }
            let key = (sink.connection_name.clone(), sink.table.clone());
            if let Some((file, span)) = seen.insert(key, (plan.file, sink.span)) {
                found.push(
                    Diagnostic::error("E0505", format!("two sinks write the table `{}`", sink.table))
                        .primary(plan.file, sink.span, "the second")
                        .secondary(file, span, "the first")
                        .help("give one of them a table of its own, or `union` before one sink"),
                );
            }
        }
    }
}
