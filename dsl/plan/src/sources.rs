//! `source` stages: the connector's settings, the tables and their columns.

use std::sync::Arc;

use arrow_schema::{Field, Schema, SchemaRef};
use globset::{GlobBuilder, GlobMatcher};
use lakehead_core::{OptionSpec, Settings, SourceRole, TableSpec, Value, parse_column_type};
use lakehead_syntax::ast;
use lakehead_syntax::{Diagnostic, Span, did_you_mean};

use crate::definitions::Connection;
use crate::lowering::{Lowering, Named};
use crate::model::{Node, NodeKind, OnMisfit, SchemaChanges, SourceDeclaration, SourcePlan, Stream, TablePlan};
use crate::options::{NOT_YET_SOURCE, check_settings, source_settings};
use crate::values::Context;

/// Finds a connection by name; the built-in ones need no definition.
pub(crate) fn connection(lowering: &mut Lowering<'_>, name: &ast::Name) -> Option<Connection> {
    lowering.lean_on("connection", &name.text);
    if let Some(connection) = lowering.definitions.connections.get(&name.text) {
        let usable = connection.connector.is_some() || lowering.schema_only;
        return usable.then(|| connection.clone());
    }
    let built_in = lowering.input.connectors.iter().find(|c| c.built_in && c.name == name.text);
    if let Some(connector) = built_in {
        return Some(Connection {
            name: name.text.clone(),
            kind: connector.name.to_owned(),
            connector: Some(connector),
            settings: Settings::default(),
            file: lowering.file,
            span: name.span,
        });
    }
    let mut names: Vec<&str> = lowering.definitions.connections.keys().map(String::as_str).collect();
    names.extend(lowering.input.connectors.iter().filter(|c| c.built_in).map(|c| c.name));
    let mut diagnostic = crate::definitions::unknown("E0201", "connection", name, lowering.file, &names);
    if let Some(meant) = did_you_mean(&name.text, names.iter().copied())
        && let Some(found) = lowering.definitions.connections.get(meant)
    {
        diagnostic = diagnostic.secondary(found.file, found.span, "defined here");
    }
    lowering.found.push(diagnostic);
    None
}

/// Lowers one source.
pub(crate) fn lower(lowering: &mut Lowering<'_>, stage: &ast::Source) {
    let name = stage.node_name().clone();
    let Some(connection) = connection(lowering, &stage.connection) else { return };
    if connection.connector.is_none() {
        return lower_unbuilt(lowering, stage, &connection);
    }
    let Some(role) = connection.connector.and_then(|connector| connector.source) else {
        lowering.error(
            "E0214",
            format!("nothing can be read from `{}`", connection.kind),
            stage.connection.span,
            "only writes",
        );
        return;
    };
    let mut options: Vec<OptionSpec> = role.options.to_vec();
    options.extend(source_settings().iter().filter(|common| !role.options.iter().any(|own| own.name == common.name)));
    let holes = ["run.start", "run.end", "run.id"];
    let context = Context { definitions: lowering.definitions, file: lowering.file, holes: &holes };
    let mut found = Vec::new();
    let settings = check_settings(&context, &stage.settings, &options, name.span, &mut found);
    let failed = found.iter().any(Diagnostic::is_error);
    lowering.found.append(&mut found);
    if failed {
        return;
    }
    lowering.declared.push(SourceDeclaration {
        pipeline: lowering.tree.name.text.clone(),
        node: name.text.clone(),
        object: object_name(lowering, &name, &settings),
        connector: connection.kind.clone(),
        connection_name: connection.name.clone(),
        connection: connection.settings.clone(),
        settings: settings.clone(),
    });
    for unsupported in NOT_YET_SOURCE {
        if settings.get(unsupported).is_some() {
            lowering.not_yet.push((unsupported.to_owned(), format!("source {}", name.text)));
        }
    }
    let changes = (role.changes)(&settings);
    let Some(tables) = tables(lowering, stage, &connection, role, &settings) else { return };
    let tables = add_tables(lowering, &name, tables, changes, settings.bool_or("refetch", false));
    let default_changes = if changes { SchemaChanges::Evolve } else { SchemaChanges::Fail };
    let node = SourcePlan {
        connector: connection.kind.clone(),
        connection_name: connection.name.clone(),
        connection: connection.settings.clone(),
        endless: (role.endless)(&settings),
        changes,
        arrives: role.arrivals.is_some(),
        on_misfit: match settings.text("on_misfit") {
            Some("drop") => OnMisfit::Drop,
            Some("dead_letter") => OnMisfit::DeadLetter,
            _ => OnMisfit::Fail,
        },
        schema_changes: match settings.text("schema_changes") {
            Some("evolve") => SchemaChanges::Evolve,
            Some("ask") => SchemaChanges::Ask,
            Some("ignore") => SchemaChanges::Ignore,
            Some("fail") => SchemaChanges::Fail,
            _ => default_changes,
        },
        settings,
        tables,
    };
    lowering.nodes.push(Node { name: name.text, kind: NodeKind::Source(node) });
}

/// A source whose connector is not built in: its columns are taken from the lock file, for the pipelines that read what
/// this one writes.
fn lower_unbuilt(lowering: &mut Lowering<'_>, stage: &ast::Source, connection: &Connection) {
    let context = Context { definitions: lowering.definitions, file: lowering.file, holes: &[] };
    let mut settings = Settings::default();
    for setting in &stage.settings.list {
        if let Some(value) = crate::values::value(&context, &setting.value, true, &mut Vec::new()) {
            settings.set(setting.name.text.clone(), value);
        }
    }
    let node = stage.node_name().clone();
    let object = settings.text("topic").or_else(|| settings.text("stream")).map(str::to_owned);
    let object = object.unwrap_or_else(|| object_name(lowering, &node, &settings));
    let Some(entry) = lowering.input.lock.get(&connection.name, &object) else { return };
    let table = TableSpec { name: node.text.clone(), ..entry.table.clone() };
    let found = Found { table, origin: String::new(), full_identity: true };
    let tables = add_tables(lowering, &node, vec![found], false, false);
    let plan = SourcePlan {
        connector: connection.kind.clone(),
        connection_name: connection.name.clone(),
        connection: Settings::default(),
        settings,
        tables,
        endless: true,
        changes: false,
        arrives: false,
        on_misfit: OnMisfit::Fail,
        schema_changes: SchemaChanges::Fail,
    };
    lowering.nodes.push(Node { name: node.text, kind: NodeKind::Source(plan) });
}

/// One table with what is known of it.
struct Found {
    table: TableSpec,
    origin: String,
    full_identity: bool,
}

fn add_tables(
    lowering: &mut Lowering<'_>,
    name: &ast::Name,
    tables: Vec<Found>,
    changes: bool,
    refetch: bool,
) -> Vec<TablePlan> {
    let single = !changes && tables.len() == 1;
    let mut members = Vec::new();
    let mut plans = Vec::new();
    for Found { table, origin, full_identity } in tables {
        let unsent = if changes && !full_identity && !refetch { unsent_columns(&table) } else { Vec::new() };
        let shown = if single { name.text.clone() } else { format!("{}.{}", name.text, table.name) };
        let stream = lowering.stream(Stream {
            name: shown,
            schema: Arc::clone(&table.schema),
            key: table.key.clone(),
            changes,
            whole_old_rows: full_identity,
            unsent,
            origin,
            table: Some(table.name.clone()),
        });
        members.push((if single { String::new() } else { table.name.clone() }, stream));
        plans.push(TablePlan { name: table.name, stream });
    }
    lowering.define(Named { name: name.text.clone(), span: name.span, members, sink: false });
    plans
}

/// Columns that Postgres may leave out of an update: those that can be stored out of line.
fn unsent_columns(table: &TableSpec) -> Vec<String> {
    use arrow_schema::DataType as T;
    let toastable = |field: &&Arc<Field>| {
        matches!(field.data_type(), T::Utf8 | T::Binary | T::Decimal128(..) | T::List(_))
            && !table.key.contains(field.name())
    };
    table.schema.fields().iter().filter(toastable).map(|field| field.name().clone()).collect()
}

fn tables(
    lowering: &mut Lowering<'_>,
    stage: &ast::Source,
    connection: &Connection,
    role: SourceRole,
    settings: &Settings,
) -> Option<Vec<Found>> {
    let node = stage.node_name();
    if let Some(Value::Map(columns)) = settings.get("columns") {
        let schema = declared(lowering, stage, columns, &role)?;
        let table = TableSpec { name: node.text.clone(), schema, key: declared_key(settings) };
        return Some(vec![Found {
            table,
            origin: "the columns are declared in the source".into(),
            full_identity: true,
        }]);
    }
    if settings.get("tables").is_some() {
        return matching_tables(lowering, stage, connection, settings, (role.changes)(settings));
    }
    let object = object_name(lowering, node, settings);
    if let Some(table) = settings.text("table")
        && let Some(found) = written_table(lowering, connection, settings, table, &node.text)
    {
        return found;
    }
    if let Some(entry) = lowering.input.lock.get(&connection.name, &object) {
        if let (Some(locked), Some(query)) = (&entry.query, settings.text("query"))
            && locked != query
        {
            stale(lowering, stage, &object);
        }
        let table = TableSpec { name: node.text.clone(), ..entry.table.clone() };
        let origin = format!(
            "the schema is from lakehead.lock{}",
            entry.from.as_ref().map_or_else(String::new, |from| format!(" ({from})"))
        );
        return Some(vec![Found { table, origin, full_identity: true }]);
    }
    lowering.found.push(
        Diagnostic::warning("W0310", format!("the columns of `{}` are not known", node.text))
            .primary(lowering.file, node.span, "names and types behind it are not checked")
            .help(format!("lakehead lock   asks {} and keeps them in lakehead.lock", connection.name)),
    );
    lowering.must_wait = false;
    lowering.found.push(
        Diagnostic::error("E0306", format!("`{}` cannot be planned without its columns", node.text))
            .primary(lowering.file, node.span, "columns are not known")
            .help("run `lakehead lock`, or say `columns = { name = type, … }`"),
    );
    None
}

/// The key that a source declares, by itself or among the settings of its made-up changes.
fn declared_key(settings: &Settings) -> Vec<String> {
    let changes = match settings.get("changes") {
        Some(Value::Map(pairs)) => pairs.iter().find(|(name, _)| name == "key").map(|(_, value)| value),
        _ => None,
    };
    match changes {
        Some(Value::List(items)) => items.iter().filter_map(Value::as_text).map(str::to_owned).collect(),
        Some(value) => value.as_text().map(str::to_owned).into_iter().collect(),
        None => settings.texts("key"),
    }
}

fn object_name(lowering: &Lowering<'_>, node: &ast::Name, settings: &Settings) -> String {
    let pipeline = &lowering.tree.name.text;
    if settings.text("query").is_some() {
        format!("query {pipeline}.{}", node.text)
    } else if let Some(table) = settings.text("table") {
        table.to_owned()
    } else {
        format!("{pipeline}.{}", node.text)
    }
}

/// A table that a pipeline of the project writes: known once that one is planned.
#[allow(clippy::option_option, reason = "not ours, wait, found: the caller tells the three apart")]
fn written_table(
    lowering: &mut Lowering<'_>,
    connection: &Connection,
    _settings: &Settings,
    table: &str,
    node: &str,
) -> Option<Option<Vec<Found>>> {
    let key = (connection.name.clone(), table.to_owned());
    if let Some(schema) = lowering.written.get(&key) {
        let table = TableSpec { name: node.to_owned(), schema: Arc::clone(schema), key: Vec::new() };
        let origin = "the schema is that of the pipeline that writes the table".to_owned();
        return Some(Some(vec![Found { table, origin, full_identity: true }]));
    }
    if lowering.last_round || lowering.input.lock.get(&connection.name, table).is_some() {
        return None;
    }
    lowering.must_wait = true;
    Some(None)
}

fn stale(lowering: &mut Lowering<'_>, stage: &ast::Source, object: &str) {
    let span = stage.settings.get("query").map_or(stage.span, |setting| setting.value.span);
    lowering.found.push(
        Diagnostic::warning("W0311", "the query changed since its columns were read")
            .primary(lowering.file, span, format!("lakehead.lock holds another text for `{object}`"))
            .help("lakehead lock"),
    );
}

fn declared(
    lowering: &mut Lowering<'_>,
    stage: &ast::Source,
    columns: &[(String, Value)],
    role: &SourceRole,
) -> Option<SchemaRef> {
    let place = |name: &str| -> Span {
        let setting = stage.settings.get("columns").map(|setting| &setting.value.kind);
        match setting {
            Some(ast::ValueKind::Map(pairs)) => {
                pairs.iter().find(|pair| pair.name.text == name).map_or(stage.span, |pair| pair.value.span)
            }
            _ => stage.span,
        }
    };
    let mut fields = Vec::new();
    let mut failed = false;
    for (name, value) in columns {
        match column_type(value, role) {
            Ok(data_type) => fields.push(Field::new(name, data_type, true)),
            Err(reason) => {
                failed = true;
                lowering.error("E0307", reason, place(name), "not a type");
            }
        }
    }
    (!failed).then(|| Arc::new(Schema::new(fields)))
}

/// Reads a declared type, or a rule of the connector's.
fn column_type(value: &Value, role: &SourceRole) -> Result<arrow_schema::DataType, String> {
    let text = match value {
        Value::Name(word) => word.clone(),
        Value::Call(name, arguments) => call_text(name, arguments),
        other => return Err(format!("`{other:?}` is not a type")),
    };
    parse_column_type(&text).or_else(|reason| (role.column_rule)(value).ok_or(reason))
}

fn call_text(name: &str, arguments: &[Value]) -> String {
    let text = |value: &Value| match value {
        Value::Int(number) => number.to_string(),
        Value::Name(word) | Value::Text(word) => word.clone(),
        Value::Call(name, arguments) => call_text(name, arguments),
        other => format!("{other:?}"),
    };
    format!("{name}({})", arguments.iter().map(text).collect::<Vec<_>>().join(", "))
}

fn matching_tables(
    lowering: &mut Lowering<'_>,
    stage: &ast::Source,
    connection: &Connection,
    settings: &Settings,
    _changes: bool,
) -> Option<Vec<Found>> {
    let span = stage.settings.get("tables").map_or(stage.span, |setting| setting.value.span);
    let include = globs(lowering, &settings.texts("tables"), span)?;
    let exclude = globs(lowering, &settings.texts("exclude"), span)?;
    let lock = lowering.input.lock;
    let all: Vec<_> = lock
        .objects(&connection.name)
        .filter(|(name, entry)| entry.query.is_none() && !name.starts_with("query "))
        .collect();
    let mut found = Vec::new();
    for (name, entry) in &all {
        if include.iter().any(|glob| glob.is_match(name)) && !exclude.iter().any(|glob| glob.is_match(name)) {
            found.push(Found {
                table: TableSpec { name: (*name).to_owned(), ..entry.table.clone() },
                origin: "the schema is from lakehead.lock".into(),
                full_identity: entry.identity.as_deref() == Some("full"),
            });
        }
    }
    if found.is_empty() {
        let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        let pattern = settings.texts("tables").join(", ");
        let meant = did_you_mean(&pattern, names.iter().copied());
        let label = meant.map_or_else(String::new, |meant| format!("did you mean `{meant}`?"));
        lowering.found.push(
            Diagnostic::error("E0215", format!("`{pattern}` matches no table in lakehead.lock"))
                .primary(lowering.file, span, label)
                .note(format!(
                    "{} has: {}",
                    connection.name,
                    if names.is_empty() { "nothing yet".into() } else { names.join(", ") }
                ))
                .help(format!("lakehead lock   asks {} for its tables", connection.name)),
        );
        return None;
    }
    Some(found)
}

fn globs(lowering: &mut Lowering<'_>, patterns: &[String], span: Span) -> Option<Vec<GlobMatcher>> {
    let mut globs = Vec::new();
    for pattern in patterns {
        match GlobBuilder::new(pattern).literal_separator(false).build() {
            Ok(glob) => globs.push(glob.compile_matcher()),
            Err(error) => {
                lowering.error(
                    "E0216",
                    format!("`{pattern}` is not a pattern: {}", error.kind()),
                    span,
                    "not a pattern",
                );
                return None;
            }
        }
    }
    Some(globs)
}
