//! What a sink adds to its table: the validity of versions (`mode = scd2`).

use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use lakehead_core::{IS_DELETED, Settings, VERSION_COLUMNS, Value, WriteMode, added_field};
use lakehead_syntax::ast;
use lakehead_syntax::{Diagnostic, Span};

use crate::lowering::Lowering;
use crate::model::{Layout, LayoutTransform, SinkPlan, Stream};

/// Returns the columns that a sink with these settings adds itself.
fn added_columns(mode: WriteMode, settings: &Settings) -> &'static [&'static str] {
    match mode {
        WriteMode::Scd2 => &VERSION_COLUMNS,
        WriteMode::Upsert if settings.text("on_delete") == Some("soft") => &[IS_DELETED],
        _ => &[],
    }
}

impl SinkPlan {
    /// Returns the columns that the sink adds to those of its rows.
    pub fn added_columns(&self) -> &'static [&'static str] {
        added_columns(self.mode, &self.settings)
    }
}

/// Returns the columns of the table: those of the rows, and those that the sink adds. A name that both have is refused.
pub(crate) fn with_added(
    lowering: &mut Lowering<'_>,
    stage: &ast::Sink,
    settings: &Settings,
    mode: WriteMode,
    rows: &SchemaRef,
) -> Option<SchemaRef> {
    let added = added_columns(mode, settings);
    if let Some(name) = added.iter().find(|name| rows.field_with_name(name).is_ok()) {
        let (setting, word) = if mode == WriteMode::Scd2 { ("mode", "scd2") } else { ("on_delete", "soft") };
        let span = stage.settings.get(setting).map_or(stage.node_name().span, |setting| setting.value.span);
        let what = format!("`{setting} = {word}`");
        lowering.found.push(
            Diagnostic::error("E0512", format!("`{name}` is a column that {what} adds itself"))
                .primary(lowering.file, span, "the rows have one already")
                .note(format!("it adds: {}", added.join(", ")))
                .help(format!("derive {{ {name} as source_{name} }}   drop {{ {name} }}   before the sink")),
        );
        return None;
    }
    let fields = rows.fields().iter().cloned().chain(added.iter().map(|name| Arc::new(added_field(name))));
    Some(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

/// Settings that mean something in some modes alone; elsewhere they would be accepted and ignored.
pub(crate) fn check_settings(lowering: &mut Lowering<'_>, stage: &ast::Sink, settings: &Settings, mode: WriteMode) {
    let mut refuse = |name: &str, why: &str| {
        let span = stage.settings.get(name).map_or(stage.span, |setting| setting.name.span);
        lowering
            .error("E0514", format!("`{name}` says nothing in `mode = {}`", mode.word()), span, why)
            .help_last("leave it out");
    };
    if mode != WriteMode::Scd2 && settings.get("ignore_columns").is_some() {
        refuse("ignore_columns", "only `scd2` opens versions");
    }
    let keyed = matches!(mode, WriteMode::Upsert | WriteMode::Scd2);
    if !keyed && settings.text("on_reject") == Some("delete") {
        refuse("on_reject", "no row is deleted");
    }
    if !keyed && settings.get("sequence_by").is_some() {
        refuse("sequence_by", "no row replaces another");
    }
    if !keyed && settings.text("on_delete") == Some("soft") {
        refuse("on_delete", "no row is deleted");
    }
    if mode == WriteMode::Scd2 && settings.text("deletes") == Some("rewrite") {
        refuse("deletes", "versions are closed by deletion vectors");
    }
}

/// Versions need an order: the change log's, or that of a column.
pub(crate) fn check_order(lowering: &mut Lowering<'_>, sink: &SinkPlan, stream: &Stream) {
    if sink.mode != WriteMode::Scd2 || stream.changes || sink.sequence_by.is_some() {
        return;
    }
    lowering.found.push(
        Diagnostic::error("E0513", "`mode = scd2` does not know which row is newer")
            .primary(lowering.file, sink.span, "needs the order of a change log")
            .note(format!("the rows of `{}` are no changes", stream.name))
            .help("capture = cdc   in the source;   or   sequence_by = updated_at   here"),
    );
}

/// A partition column that is made from another one never opens a version by itself: its source is asked.
pub(crate) fn ignore_derived_columns(settings: &mut Settings, layout: &[Layout]) {
    let mut ignored: Vec<Value> = settings.texts("ignore_columns").into_iter().map(Value::Name).collect();
    let derived = layout.iter().filter(|part| part.transform != LayoutTransform::Identity);
    ignored.extend(derived.map(|part| Value::Name(part.name.clone())));
    settings.set("ignore_columns", Value::List(ignored));
}

/// A column that the sink adds is not there when the layout is computed.
pub(crate) fn refuse_layout_of_added(lowering: &mut Lowering<'_>, rows: &Schema, layout: &[Layout], span: Span) {
    let is_added =
        |part: &&Layout| part.transform != LayoutTransform::Identity && rows.field_with_name(&part.source).is_err();
    if let Some(part) = layout.iter().find(is_added) {
        lowering
            .error(
                "E0515",
                format!("rows cannot be laid out by `{}`", part.name),
                span,
                "the sink adds the column when it writes",
            )
            .help_last("partition_by = [is_current]   keeps the current rows apart");
    }
}
