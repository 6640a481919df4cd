//! Settings against the option tables: the connector's own, and those every source or sink has.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use lakehead_core::{OptionKind, OptionSpec, Settings, Value};
use lakehead_syntax::ast::{self, ValueKind};
use lakehead_syntax::{Diagnostic, Span, did_you_mean};

use crate::values::{Context, value};

use OptionKind as K;

/// Settings that every source knows.
static SOURCE: [OptionSpec; 15] = [
    OptionSpec::new("columns", K::Schema, "the columns: { name = type, … } or infer"),
    OptionSpec::new("sample", K::Int, "rows that `infer` looks at").default("1000"),
    OptionSpec::new("on_misfit", K::Word(&["fail", "drop", "dead_letter"]), "rows that do not fit").default("fail"),
    OptionSpec::new("schema_changes", K::Word(&["evolve", "ask", "ignore", "fail"]), "columns that change"),
    OptionSpec::new("event_time", K::Column, "column that holds the time of the event"),
    OptionSpec::new("watermark", K::Duration, "how long to wait for stragglers"),
    OptionSpec::new("idle_after", K::Duration, "when a silent partition no longer holds time back"),
    OptionSpec::new("late", K::Word(&["dead_letter", "drop"]), "rows behind the watermark"),
    OptionSpec::new("start_at", K::Any, "where the first run begins"),
    OptionSpec::new("cursor", K::Column, "column that only grows: later runs read from its last value"),
    OptionSpec::new("lookback", K::Duration, "how much is read again for rows that commit late"),
    OptionSpec::new("fetch_size", K::Int, "rows of one fetch"),
    OptionSpec::new("split_by", K::Column, "column whose ranges are read side by side"),
    OptionSpec::new("splits", K::Int, "number of ranges"),
    OptionSpec::new("refetch", K::Bool, "read unsent values again from the source"),
];

/// Settings that every sink knows.
static SINK: [OptionSpec; 27] = [
    OptionSpec::new(
        "mode",
        K::Word(&["append", "upsert", "overwrite", "changelog", "scd2", "compact"]),
        "how the table changes",
    ),
    OptionSpec::new("key", K::Columns, "columns that say which rows are the same"),
    OptionSpec::new("format", K::Word(&["parquet", "orc", "json", "csv", "delta"]), "form of the files"),
    OptionSpec::new("compression", K::Word(&["zstd", "snappy", "gzip", "lz4", "none"]), "how data is packed"),
    OptionSpec::new(
        "partition_by",
        K::Layout,
        "columns, or day(c), month(c), year(c), hour(c), truncate(c, n), that name folders",
    ),
    OptionSpec::new("overwrite_by", K::Columns, "what one run replaces: columns of `partition_by`, or run_interval"),
    OptionSpec::new("sequence_by", K::Column, "column that says which row of a key is newer"),
    OptionSpec::new("on_delete", K::Word(&["delete", "soft", "ignore"]), "what a delete of the source does")
        .default("delete"),
    OptionSpec::new(
        "on_truncate",
        K::Word(&["apply", "pause", "ignore", "fail"]),
        "what a truncate of the source does",
    )
    .default("pause"),
    OptionSpec::new("on_reject", K::Word(&["keep", "delete"]), "what becomes of a key whose newest row is rejected")
        .default("keep"),
    OptionSpec::new("commit_every", K::Duration, "greatest age of an epoch").default("10s"),
    OptionSpec::new("buffer", K::Map, "{ size, interval } that close a file"),
    OptionSpec::new("file_size", K::Size, "size at which a file is closed").default("128MB"),
    OptionSpec::new("bucket_by", K::Columns, "columns whose hash names a bucket"),
    OptionSpec::new("bucket_count", K::Int, "number of buckets"),
    OptionSpec::new("sort_by", K::Columns, "order of the rows in a file"),
    OptionSpec::new("max_partitions", K::Int, "partitions open at once"),
    OptionSpec::new("compact", K::Map, "{ every, file_size }"),
    OptionSpec::new("lifecycle", K::Reference, "storage rules of the table"),
    OptionSpec::new("ignore_columns", K::Columns, "columns whose change alone opens no version"),
    OptionSpec::new("metadata_columns", K::Bool, "whether hidden position columns are written"),
    OptionSpec::new("retry_for", K::Duration, "how long a failing sink is tried"),
    OptionSpec::new("fallback", K::Reference, "sink that takes the rows then"),
    OptionSpec::new("table", K::Text, "table to write"),
    OptionSpec::new("path", K::Text, "folder to write"),
    OptionSpec::new("topic", K::Text, "topic to write"),
    OptionSpec::new("message_key", K::Column, "column that is the message's key"),
];

/// Settings that are checked and not carried out by this version. `run` refuses a pipeline that uses one, so that
/// nothing is accepted and ignored. A connector that has one in its own table carries it out.
pub(crate) const NOT_YET_SINK: [&str; 9] = [
    "sort_by",
    "compact",
    "lifecycle",
    "metadata_columns",
    "retry_for",
    "fallback",
    "message_key",
    "buffer",
    "max_partitions",
];
/// Likewise for sources.
pub(crate) const NOT_YET_SOURCE: [&str; 6] = ["event_time", "watermark", "idle_after", "late", "refetch", "refresh"];

/// Returns the settings that every source knows.
pub fn source_settings() -> &'static [OptionSpec] {
    &SOURCE
}

/// Returns the settings that every sink knows.
pub fn sink_settings() -> &'static [OptionSpec] {
    &SINK
}

/// The columns of every dead-letter table.
pub const DEAD_LETTER_COLUMNS: [&str; 10] =
    ["_at", "_pipeline", "_node", "_reason", "_expectation", "_error", "_source", "_source_position", "_op", "_raw"];

/// Returns the schema of every dead-letter table.
pub fn dead_letter_schema() -> SchemaRef {
    let field = |name: &&str| {
        let data_type = if *name == "_at" {
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
        } else {
            DataType::Utf8
        };
        Field::new(*name, data_type, true)
    };
    Arc::new(Schema::new(DEAD_LETTER_COLUMNS.iter().map(field).collect::<Vec<_>>()))
}

/// Where a missing setting is reported.
pub(crate) fn ok_place(span: Span) -> Span {
    span
}

/// Checks written settings against a table and reads them. Every mistake is reported; what is right is returned.
pub(crate) fn check_settings(
    context: &Context<'_, '_>,
    written: &ast::Settings,
    options: &[OptionSpec],
    place: Span,
    found: &mut Vec<Diagnostic>,
) -> Settings {
    let mut settings = Settings::default();
    let mut meant = Vec::new();
    for setting in &written.list {
        let Some(option) = options.iter().find(|option| option.name == setting.name.text) else {
            meant.extend(did_you_mean(&setting.name.text, options.iter().map(|option| option.name)));
            found.push(unknown_setting(context, setting, options));
            continue;
        };
        if settings.get(option.name).is_some() {
            found.push(
                Diagnostic::error("E0205", format!("`{}` is set twice", option.name))
                    .primary(context.file, setting.name.span, "the second")
                    .help("leave one of them out"),
            );
            continue;
        }
        if let (K::Settings(inner), ValueKind::Map(list)) = (option.kind, &setting.value.kind) {
            let inside = ast::Settings { list: list.clone(), span: setting.value.span };
            let read = check_settings(context, &inside, inner, setting.name.span, found);
            let pairs = read.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect();
            settings.set(option.name, Value::Map(pairs));
            continue;
        }
        let secret_allowed = matches!(option.kind, K::Secret | K::TextOrSecret);
        if let Some(read) = value(context, &setting.value, secret_allowed, found) {
            match fits(option.kind, &read) {
                true => settings.set(option.name, read),
                false if option.kind == K::Secret && matches!(read, Value::Text(_)) => {
                    found.push(readable_secret(context, option, setting));
                }
                false => found.push(misfit(context, option, &setting.value)),
            }
        }
    }
    for option in options.iter().filter(|option| option.required && settings.get(option.name).is_none()) {
        // A misspelt one is told already.
        let reported = written.get(option.name).is_some() || meant.contains(&option.name);
        if !reported {
            found.push(
                Diagnostic::error("E0206", format!("`{}` is missing", option.name))
                    .primary(context.file, place, "needs it")
                    .help(format!("{} = …   # {}", option.name, option.summary)),
            );
        }
    }
    settings
}

/// A file is read by many, and kept for ever by whoever versions it.
fn readable_secret(context: &Context<'_, '_>, option: &OptionSpec, setting: &ast::Setting) -> Diagnostic {
    let name = option.name;
    Diagnostic::error("E0540", format!("`{name}` stands in the file for everybody to read"))
        .primary(context.file, setting.name.span, "takes a secret")
        .help(format!("secret {name} = env(\"{}\")", name.to_uppercase()))
        .help(format!("{name} = secret.{name}"))
        .note("what was in a file once must be taken for known: make a new one")
        .concealed()
}

fn unknown_setting(context: &Context<'_, '_>, setting: &ast::Setting, options: &[OptionSpec]) -> Diagnostic {
    let names: Vec<_> = options.iter().map(|option| option.name).collect();
    let meant = did_you_mean(&setting.name.text, names.iter().copied());
    let label = meant.map_or_else(|| "not a setting here".to_owned(), |meant| format!("did you mean `{meant}`?"));
    let mut diagnostic = Diagnostic::error("E0208", format!("there is no setting `{}`", setting.name.text))
        .primary(context.file, setting.name.span, label)
        .note(format!("settings are: {}", names.join(", ")));
    if let Some(meant) = meant {
        diagnostic = diagnostic.fix(context.file, setting.name.span, meant);
    }
    diagnostic
}

fn fits(kind: OptionKind, value: &Value) -> bool {
    let is_word = |value: &Value| matches!(value, Value::Name(_));
    let is_column = |value: &Value| matches!(value, Value::Name(_) | Value::Text(_));
    match kind {
        K::Text => matches!(value, Value::Text(_)),
        K::Int => matches!(value, Value::Int(_)),
        K::Bool => matches!(value, Value::Bool(_)),
        K::Duration => matches!(value, Value::Duration(_)),
        K::Size => matches!(value, Value::Size(_)),
        K::Percent => matches!(value, Value::Percent(_) | Value::Number(_) | Value::Int(_)),
        K::Word(words) => matches!(value, Value::Name(word) if words.contains(&word.as_str())),
        K::Column => is_column(value),
        K::Columns => match value {
            Value::List(items) => items.iter().all(is_column),
            single => is_word(single),
        },
        K::Layout => match value {
            Value::List(items) => items.iter().all(|item| is_column(item) || matches!(item, Value::Call(..))),
            single => is_column(single),
        },
        K::Texts => match value {
            Value::List(items) => items.iter().all(|item| matches!(item, Value::Text(_))),
            single => matches!(single, Value::Text(_)),
        },
        K::Schema => matches!(value, Value::Map(_)) || matches!(value, Value::Name(word) if word == "infer"),
        K::Map | K::Settings(_) => matches!(value, Value::Map(_)),
        K::Secret => matches!(value, Value::SecretName(_)),
        K::TextOrSecret => matches!(value, Value::SecretName(_) | Value::Text(_)),
        K::Reference => is_word(value),
        K::References => match value {
            Value::List(items) => items.iter().all(is_word),
            single => is_word(single),
        },
        K::Any => true,
    }
}

fn misfit(context: &Context<'_, '_>, option: &OptionSpec, written: &ast::Value) -> Diagnostic {
    let (expected, example): (String, String) = match option.kind {
        K::Text => ("a text".into(), "\"text\"".into()),
        K::Int => ("a whole number".into(), "8".into()),
        K::Bool => ("true or false".into(), "true".into()),
        K::Duration => ("a duration".into(), "30s".into()),
        K::Size => ("a size".into(), "64MB".into()),
        K::Percent => ("a share".into(), "1%".into()),
        K::Word(words) => (format!("one of {}", words.join(", ")), words.first().copied().unwrap_or("").into()),
        K::Column => ("a column".into(), "updated_at".into()),
        K::Columns => ("a list of columns".into(), "[id]".into()),
        K::Layout => {
            ("a list of columns or day(c), month(c), year(c), hour(c), truncate(c, n)".into(), "[day(ts)]".into())
        }
        K::Texts => ("a list of texts".into(), "[\"public.orders\"]".into()),
        K::Schema => ("{ name = type, … } or infer".into(), "{ id = bigint }".into()),
        K::Map => ("{ name = value, … }".into(), "{ size = 64MB }".into()),
        K::Settings(inner) => {
            let names: Vec<_> = inner.iter().map(|option| option.name).collect();
            (format!("{{ name = value, … }} with {}", names.join(", ")), "{}".into())
        }
        K::Secret => ("a secret".into(), "secret.name".into()),
        K::TextOrSecret => ("a secret or a text".into(), "secret.name".into()),
        K::Reference => ("a name".into(), "name".into()),
        K::References => ("a name or a list of names".into(), "[one, two]".into()),
        K::Any => ("a value".into(), "1".into()),
    };
    let mut diagnostic = Diagnostic::error("E0210", format!("`{}` must be {expected}", option.name));
    let mut label = "not that".to_owned();
    if let (K::Word(words), ValueKind::Path(path)) = (option.kind, &written.kind) {
        let word = path.to_string();
        if let Some(meant) = did_you_mean(&word, words.iter().copied()) {
            label = format!("did you mean `{meant}`?");
            diagnostic = diagnostic.fix(context.file, written.span, meant);
        }
    }
    diagnostic
        .primary(context.file, written.span, label)
        .help(format!("{} = {example}   # {}", option.name, option.summary))
}
