//! `sink` and `dead_letter` stages: modes, keys, layouts, table names.

use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use lakehead_core::{OptionSpec, Settings, SinkRole, WriteMode};
use lakehead_syntax::ast;
use lakehead_syntax::{Diagnostic, Span};

use crate::catalogs::Listed;
use crate::definitions::Connection;
use crate::lowering::{Lowering, Named};
use crate::model::{Comments, Layout, Node, NodeKind, SinkPlan, StreamId, Truncate};
use crate::options::{NOT_YET_SINK, check_settings, dead_letter_schema, sink_settings};
use crate::sources::connection;
use crate::values::Context;
use crate::{buckets, catalogs, layout, lifecycle, storable, table_names, versions};

const HOLES: [&str; 6] = ["table", "schema", "run.start", "run.end", "run.id", "error.code"];

/// Lowers a sink: one plan per table it writes.
pub(crate) fn lower(lowering: &mut Lowering<'_>, stage: &ast::Sink) {
    let name = stage.node_name().clone();
    let Some(connection) = connection(lowering, &stage.connection) else { return };
    let Some(role) = role(lowering, &connection, stage.connection.span) else { return };
    let settings = settings(lowering, &stage.settings, &connection, role, name.span);
    let span = Span { start: stage.span.start, end: name.span.end };
    let Some(inputs) = lowering.inputs(&stage.from, &format!("sink {}", name.text), span) else { return };
    let Some(settings) = settings else {
        // Read all the same, so that its inputs are not reported as read by nobody.
        for (_, input, _) in &inputs {
            lowering.mark_read(*input);
        }
        return;
    };
    let explicit_members = stage.from.iter().any(|path| path.parts.len() > 1);
    for (table, input, _) in &inputs {
        // A member that has a sink of its own is taken out of the set's (`assign_sets`).
        lowering.mark_read(*input);
        let plan = lower_table(lowering, stage, &connection, role, &settings, *input);
        if let Some(plan) = plan {
            let marker = if explicit_members || table.is_empty() { "" } else { SET };
            lowering.nodes.push(Node { name: format!("{marker}{}", name.text), kind: NodeKind::Sink(plan) });
        }
    }
    lowering.define(Named { name: name.text, span: name.span, members: Vec::new(), sink: true });
}

/// Marks a sink that reads a whole set, until the members with sinks of their own are known.
const SET: &str = "\u{1}";

/// A member of a set goes to its own sink where it has one, else to the set's.
pub(crate) fn assign_sets(lowering: &mut Lowering<'_>) {
    let own: Vec<StreamId> = lowering
        .nodes
        .iter()
        .filter(|node| !node.name.starts_with(SET))
        .filter_map(|node| match &node.kind {
            NodeKind::Sink(sink) => Some(sink.input),
            _ => None,
        })
        .collect();
    lowering.nodes.retain(|node| match &node.kind {
        NodeKind::Sink(sink) => !(node.name.starts_with(SET) && own.contains(&sink.input)),
        _ => true,
    });
    for node in &mut lowering.nodes {
        if let Some(name) = node.name.strip_prefix(SET) {
            node.name = name.to_owned();
        }
    }
    let kept: Vec<SinkPlan> = lowering
        .nodes
        .iter()
        .filter_map(|node| match &node.kind {
            NodeKind::Sink(sink) => Some(sink.clone()),
            _ => None,
        })
        .collect();
    for sink in kept {
        check_mode(lowering, &sink);
        storable::check(lowering, &sink);
    }
}

/// Checks the settings of a sink whose input is not known.
pub(crate) fn check_settings_of(lowering: &mut Lowering<'_>, stage: &ast::Sink) {
    let Some(connection) = connection(lowering, &stage.connection) else { return };
    let Some(role) = role(lowering, &connection, stage.connection.span) else { return };
    settings(lowering, &stage.settings, &connection, role, stage.node_name().span);
}

fn role(lowering: &mut Lowering<'_>, connection: &Connection, span: Span) -> Option<SinkRole> {
    let role = connection.connector.and_then(|connector| connector.sink);
    if role.is_none() {
        lowering.error("E0501", format!("nothing can be written to `{}`", connection.kind), span, "only reads");
    }
    role
}

fn settings(
    lowering: &mut Lowering<'_>,
    written: &ast::Settings,
    connection: &Connection,
    role: SinkRole,
    place: Span,
) -> Option<Settings> {
    let mut options: Vec<OptionSpec> = role.options.to_vec();
    options.extend(sink_settings().iter().filter(|common| !role.options.iter().any(|own| own.name == common.name)));
    let context = Context { definitions: lowering.definitions, file: lowering.file, holes: &HOLES };
    let mut found = Vec::new();
    let settings = check_settings(&context, written, &options, place, &mut found);
    let failed = found.iter().any(Diagnostic::is_error);
    lowering.found.append(&mut found);
    lifecycle::check_settings(lowering, written, &settings, connection);
    buckets::check_settings(lowering, written, &settings, &connection.kind, role);
    for unsupported in NOT_YET_SINK {
        if settings.get(unsupported).is_some() && !role.options.iter().any(|own| own.name == unsupported) {
            lowering.not_yet.push((unsupported.to_owned(), format!("sink to {}", connection.name)));
        }
    }
    let mode = settings.text("mode").and_then(WriteMode::parse);
    if let Some(mode) = mode.filter(|mode| !role.modes.contains(mode)) {
        if mode == WriteMode::Compact {
            lowering.not_yet.push((format!("mode = {}", mode.word()), format!("sink to {}", connection.name)));
        } else {
            let span = written.get("mode").map_or(place, |setting| setting.value.span);
            let words: Vec<_> = role.modes.iter().map(|mode| mode.word()).collect();
            lowering
                .error(
                    "E0502",
                    format!("`{}` cannot be written with `mode = {}`", connection.kind, mode.word()),
                    span,
                    "not there",
                )
                .help_last(format!("modes are: {}", words.join(", ")));
            return None;
        }
    }
    (!failed).then_some(settings)
}

fn lower_table(
    lowering: &mut Lowering<'_>,
    stage: &ast::Sink,
    connection: &Connection,
    role: SinkRole,
    settings: &Settings,
    input: StreamId,
) -> Option<SinkPlan> {
    let stream = lowering.streams[input.0].clone();
    let mode = settings.text("mode").and_then(WriteMode::parse);
    let mode = mode.or_else(|| role.modes.first().copied()).unwrap_or(WriteMode::Append);
    let mut key = settings.texts("key");
    if key.is_empty() {
        key.clone_from(&stream.key);
    }
    for column in &key {
        if stream.schema.field_with_name(column).is_err() {
            let span = stage.settings.get("key").map_or(stage.span, |setting| setting.value.span);
            no_column(lowering, column, &stream.schema, span);
            return None;
        }
    }
    let columns = versions::with_added(lowering, stage, settings, mode, &stream.schema)?;
    let (layout, schema) = layout::of_sink(lowering, stage, settings, &columns)?;
    let schema = match mode {
        WriteMode::Changelog => changelog(&schema),
        _ => schema,
    };
    let span = stage.settings.get("partition_by").map_or(stage.span, |setting| setting.value.span);
    versions::refuse_layout_of_added(lowering, &stream.schema, &layout, span);
    versions::check_settings(lowering, stage, settings, mode);
    let name = table_names::of_sink(lowering, stage, settings, &stream)?;
    check_overwrite(lowering, stage, settings, &layout);
    check_requests(lowering, stage, settings);
    check_sequence(lowering, stage, settings, mode, &stream);
    check_columns(lowering, &stage.settings, settings, &schema, &stream.schema);
    buckets::check_columns(lowering, &stage.settings, settings, &schema, &layout);
    lifecycle::check_layout(lowering, stage, settings, mode, &layout, &schema);
    let lifecycle = lifecycle::of_sink(lowering, settings);
    lifecycle::note_not_yet(lowering, lifecycle.as_deref(), connection, role, mode, &layout, &name);
    let span = stage.settings.get("table").map_or(stage.span, |setting| setting.value.span);
    let copies = lifecycle::copies_of(lowering, settings, connection, span);
    let written = &stage.settings;
    let catalogs =
        catalogs::of_sink(lowering, &Listed { written, settings, connection, table: &name, schema: &schema, span });
    let comments = catalogs::comments(lowering, &stream, &schema);
    let mut settings = settings.clone();
    if mode == WriteMode::Scd2 {
        versions::ignore_derived_columns(&mut settings, &layout);
    }
    Some(SinkPlan {
        node: stage.node_name().text.clone(),
        connector: connection.kind.clone(),
        connection_name: connection.name.clone(),
        connection: connection.settings.clone(),
        input,
        table: name,
        mode,
        key,
        schema,
        layout,
        lifecycle,
        copies,
        catalogs,
        comments: Box::new(Comments { table: stage.doc.clone(), columns: comments }),
        sequence_by: settings.text("sequence_by").map(str::to_owned),
        on_truncate: match settings.text("on_truncate") {
            Some("apply") => Truncate::Apply,
            Some("ignore") => Truncate::Ignore,
            Some("fail") => Truncate::Fail,
            _ => Truncate::Pause,
        },
        deletes: settings.text("on_delete") != Some("ignore"),
        deletes_rejected: settings.text("on_reject") == Some("delete"),
        commit_every: settings.duration("commit_every"),
        span: stage.node_name().span,
        settings,
    })
}

/// A budget of none would stop the pipeline for good.
fn check_requests(lowering: &mut Lowering<'_>, stage: &ast::Sink, settings: &Settings) {
    let Some(written) = stage.settings.get("requests_per_hour") else { return };
    if settings.int_or("requests_per_hour", 1) < 1 {
        lowering
            .error("E0530", "a table cannot be written without a request".into(), written.value.span, "less than one")
            .help_last("requests_per_hour = 1000   or leave it out");
    }
}

pub(crate) fn no_column(lowering: &mut Lowering<'_>, column: &str, schema: &Schema, span: Span) {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let name = ast::Name { text: column.to_owned(), span };
    let diagnostic = crate::definitions::unknown("E0301", "column", &name, lowering.file, &names);
    lowering.found.push(diagnostic);
}

fn changelog(schema: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<_> = [lakehead_core::OP, lakehead_core::POSITION, lakehead_core::COMMITTED_AT]
        .iter()
        .map(|name| Arc::new(lakehead_core::reserved_field(name)))
        .collect();
    fields.extend(schema.fields().iter().cloned());
    Arc::new(Schema::new(fields))
}

/// Rules that need the whole stage list: what mode suits what stream.
fn check_mode(lowering: &mut Lowering<'_>, sink: &SinkPlan) {
    let stream = lowering.streams[sink.input.0].clone();
    let keyed = matches!(sink.mode, WriteMode::Upsert | WriteMode::Scd2);
    versions::check_order(lowering, sink, &stream);
    if keyed && sink.key.is_empty() {
        let cure = if stream.changes {
            format!(
                "sink history = {} from {} {{ mode = append }}   for a table without a key",
                sink.connection_name, stream.name
            )
        } else {
            "key = [id]".to_owned()
        };
        lowering.found.push(
            Diagnostic::error("E0503", format!("`mode = {}` does not know which rows are the same", sink.mode.word()))
                .primary(lowering.file, sink.span, "needs `key`")
                .note(format!("`{}` has no primary key to take over", stream.name))
                .help(cure),
        );
    }
    let unnamed = sink.key.iter().find(|column| !stream.key.contains(column));
    if let Some(column) = unnamed.filter(|_| keyed && stream.changes && !stream.whole_old_rows) {
        let note = if stream.key.is_empty() {
            format!("`{}` has no key, so that its source sends new rows only", stream.name)
        } else {
            format!("a delete of `{}` carries its key alone: {}", stream.name, stream.key.join(", "))
        };
        lowering.found.push(
            Diagnostic::error("E0507", format!("the source does not say which `{column}` a change is about"))
                .primary(lowering.file, sink.span, format!("keyed by `{}`", sink.key.join(", ")))
                .note(note)
                .help("leave `key` out to take the source's own; or have the source send whole old rows: alter table … replica identity full"),
        );
    }
    if sink.mode == WriteMode::Append && stream.changes && !stream.key.is_empty() {
        lowering.found.push(
            Diagnostic::error("E0504", "changes cannot be appended: updates and deletes would be lost")
                .primary(lowering.file, sink.span, format!("`{}` is a change stream", stream.name))
                .help("mode = upsert   keeps the newest row per key;   mode = changelog   keeps every change"),
        );
    }
    if sink.mode == WriteMode::Compact {
        check_compaction(lowering, sink);
    }
    if sink.mode == WriteMode::Overwrite && stream.changes {
        lowering.found.push(
            Diagnostic::error("E0504", "a change stream cannot overwrite a table")
                .primary(lowering.file, sink.span, "never ends")
                .help("mode = upsert   or   mode = changelog"),
        );
    }
}

/// A table is compacted by a pipeline that does nothing else: it reads the table that it writes, and every row of it.
fn check_compaction(lowering: &mut Lowering<'_>, sink: &SinkPlan) {
    let alone = lowering.nodes.len() == 2;
    let reads_itself = lowering.nodes.iter().any(|node| match &node.kind {
        NodeKind::Source(source) => {
            let table = source.settings.text("table");
            source.connection_name == sink.connection_name && table == Some(sink.table.as_str())
        }
        _ => false,
    });
    if alone && reads_itself {
        return;
    }
    lowering.found.push(
        Diagnostic::error("E0521", "`mode = compact` keeps every row of the table it reads")
            .primary(lowering.file, sink.span, "reads something else, or changes it")
            .help(format!(
                "source rows = {0} {{ table = \"{1}\" }}   and   sink {0} {{ table = \"{1}\", mode = compact }}   alone",
                sink.connection_name, sink.table
            )),
    );
}

fn check_overwrite(lowering: &mut Lowering<'_>, stage: &ast::Sink, settings: &Settings, layout: &[Layout]) {
    let by = settings.texts("overwrite_by");
    if by.is_empty() || by == ["run_interval"] {
        return;
    }
    let span = stage.settings.get("overwrite_by").map_or(stage.span, |setting| setting.value.span);
    for column in by {
        if !layout.iter().any(|part| part.name == column) {
            lowering
                .error(
                    "E0507",
                    format!("`{column}` is not in `partition_by`"),
                    span,
                    "only whole partitions can be overwritten",
                )
                .help_last(format!("partition_by = [{column}]   or   overwrite_by = run_interval"));
        }
    }
}

fn check_sequence(
    lowering: &mut Lowering<'_>,
    stage: &ast::Sink,
    settings: &Settings,
    mode: WriteMode,
    stream: &crate::model::Stream,
) {
    if let (Some(column), true) = (settings.text("sequence_by"), stream.changes) {
        let span = stage.settings.get("sequence_by").map_or(stage.span, |setting| setting.value.span);
        lowering
            .error(
                "E0508",
                format!("`sequence_by = {column}` would override the order of the change log"),
                span,
                "cdc has an order",
            )
            .help_last("leave it out");
    }
    let cursor = lowering.nodes.iter().find_map(|node| match &node.kind {
        NodeKind::Source(source) => {
            source.settings.text("cursor").map(|_| source.settings.duration("lookback").is_some())
        }
        _ => None,
    });
    if mode == WriteMode::Append && cursor == Some(false) {
        let span = stage.settings.get("mode").map_or(stage.node_name().span, |setting| setting.value.span);
        lowering
            .error(
                "E0506",
                "rows that commit late would be lost".into(),
                span,
                "a cursor into `append`, without `lookback`",
            )
            .help_last("lookback = 10m   in the source, and   mode = upsert, key = [id]   here");
    }
}

/// Columns that settings name: some of the table's, some of the rows' own.
fn check_columns(
    lowering: &mut Lowering<'_>,
    written: &ast::Settings,
    settings: &Settings,
    table: &SchemaRef,
    rows: &SchemaRef,
) {
    for name in ["sort_by", "bucket_by", "sequence_by", "message_key", "ignore_columns"] {
        let schema = if matches!(name, "sequence_by" | "ignore_columns") { rows } else { table };
        for column in settings.texts(name) {
            if schema.field_with_name(&column).is_err() {
                let span = written.get(name).map_or(Span::default(), |setting| setting.value.span);
                no_column(lowering, &column, schema, span);
            }
        }
    }
}

/// Lowers `dead_letter`.
pub(crate) fn lower_dead_letter(lowering: &mut Lowering<'_>, stage: &ast::DeadLetter) -> Option<SinkPlan> {
    let connection = connection(lowering, &stage.connection)?;
    let role = role(lowering, &connection, stage.connection.span)?;
    let settings = settings(lowering, &stage.settings, &connection, role, stage.connection.span)?;
    let table = table_names::of_dead_letter(lowering, stage, &settings)?;
    let letters = dead_letter_schema();
    check_columns(lowering, &stage.settings, &settings, &letters, &letters);
    buckets::check_columns(lowering, &stage.settings, &settings, &letters, &[]);
    let lifecycle = lifecycle::of_sink(lowering, &settings);
    lifecycle::note_not_yet(lowering, lifecycle.as_deref(), &connection, role, WriteMode::Append, &[], &table);
    let span = stage.settings.get("table").map_or(stage.connection.span, |setting| setting.value.span);
    let copies = lifecycle::copies_of(lowering, &settings, &connection, span);
    let (written, connection_of, schema) = (&stage.settings, &connection, &letters);
    let listed = Listed { written, settings: &settings, connection: connection_of, table: &table, schema, span };
    let catalogs = catalogs::of_sink(lowering, &listed);
    Some(SinkPlan {
        node: "dead_letter".into(),
        connector: connection.kind,
        connection_name: connection.name,
        connection: connection.settings,
        input: StreamId(usize::MAX),
        table,
        mode: WriteMode::Append,
        key: Vec::new(),
        schema: letters,
        layout: Vec::new(),
        lifecycle,
        copies,
        catalogs,
        comments: Box::new(Comments { table: stage.doc.clone(), ..Comments::default() }),
        sequence_by: None,
        on_truncate: Truncate::Ignore,
        deletes: false,
        deletes_rejected: false,
        commit_every: None,
        settings,
        span: stage.connection.span,
    })
}
