//! Buckets of a sink: who has them, how many, and by which columns. What is refused here would cost a reader rows, not
//! only time: who prunes by bucket never looks into another file.

use arrow_schema::Schema;
use lakehead_core::{BUCKETS_MAX, Settings, SinkRole, Value, column_type_name, has_bucket_hash};
use lakehead_syntax::{Span, ast};

use crate::lowering::Lowering;
use crate::model::Layout;

/// Settings that mean nothing without `bucket_by`.
const OF_BUCKETS: [&str; 2] = ["bucket_count", "bucket_hash"];

/// Checks what can be said without the rows' columns.
pub(crate) fn check_settings(
    lowering: &mut Lowering<'_>,
    written: &ast::Settings,
    settings: &Settings,
    kind: &str,
    role: SinkRole,
) {
    let has = |name: &str| role.options.iter().any(|option| option.name == name);
    if !has("bucket_by") {
        refuse(lowering, written, kind, &settings.texts("bucket_by"), has("sort_by"));
        return;
    }
    let name = |setting: &str| written.get(setting).map(|found| found.name.span);
    if let (Some(span), None) = (name("bucket_by"), written.get("bucket_count")) {
        lowering
            .error("E0509", "`bucket_by` needs `bucket_count`".into(), span, "how many?")
            .help_last("bucket_count = 16");
    }
    for setting in OF_BUCKETS {
        if let (Some(span), None) = (name(setting), written.get("bucket_by")) {
            lowering
                .error("E0509", format!("`{setting}` needs `bucket_by`"), span, "buckets of which columns?")
                .help_last("bucket_by = [id]");
        }
    }
    let counts = 1..=i64::from(BUCKETS_MAX);
    if let (Some(Value::Int(count)), Some(found)) = (settings.get("bucket_count"), written.get("bucket_count"))
        && !counts.contains(count)
    {
        lowering
            .error("E0519", format!("there cannot be {count} buckets"), found.value.span, "1 to 100000")
            .help_last("bucket_count = 16");
    }
}

/// Where nothing has buckets, they would be accepted and ignored.
fn refuse(lowering: &mut Lowering<'_>, written: &ast::Settings, kind: &str, key: &[String], sorts: bool) {
    let found = ["bucket_by", "bucket_count"].iter().find_map(|name| written.get(name));
    let Some(span) = found.map(|setting| setting.name.span) else { return };
    let label = "no reader would find them";
    let column = key.first().map_or("id", String::as_str);
    lowering.error("E0517", format!("`{kind}` tables have no buckets"), span, label).help_last(format!(
        "derive {{ abs({column} % 16) as bucket }}   before the sink, and   partition_by = [bucket]   here, where `{column}` is a \
         whole number: a reader that asks for `bucket` opens the files of that bucket only"
    ));
    lowering.help_last(format!(
        "or   partition_by = [truncate({column}, 2)]   where it is a text: the files of its first letters"
    ));
    let sinks = lowering.input.connectors.iter().filter(|connector| {
        connector.sink.is_some_and(|sink| sink.options.iter().any(|option| option.name == "bucket_by"))
    });
    let others: Vec<_> = sinks.map(|connector| format!("`{}`", connector.name)).collect();
    if !others.is_empty() {
        lowering.help_last(format!("or write to a connection of {}, whose tables have buckets", others.join(", ")));
    }
    if sorts {
        lowering.help_last("sort_by = [id]   has readers skip files by their least and greatest values");
    }
}

/// Checks the columns of `bucket_by`, which exist.
pub(crate) fn check_columns(
    lowering: &mut Lowering<'_>,
    written: &ast::Settings,
    settings: &Settings,
    table: &Schema,
    layout: &[Layout],
) {
    let columns = settings.texts("bucket_by");
    let span = written.get("bucket_by").map_or(Span::default(), |setting| setting.value.span);
    for (place, column) in columns.iter().enumerate() {
        let Ok(field) = table.field_with_name(column) else { continue };
        if columns[..place].contains(column) {
            lowering
                .error("E0519", format!("`{column}` stands in `bucket_by` twice"), span, "once is enough")
                .help_last("leave one of them out: engines refuse such a table");
        } else if layout.iter().any(|part| part.name == *column) {
            lowering
                .error("E0519", format!("`{column}` names a folder already"), span, "the same in a whole partition")
                .help_last("bucket_by = [id]   with a column that differs within a partition");
        } else if !has_bucket_hash(field.data_type()) {
            let type_name = column_type_name(field.data_type());
            let can = table.fields().iter().filter(|field| has_bucket_hash(field.data_type()));
            let can: Vec<_> = can.map(|field| field.name().as_str()).collect();
            lowering
                .error(
                    "E0518",
                    format!("rows cannot be put into buckets by `{column}`"),
                    span,
                    &format!("no engine hashes {type_name}"),
                )
                .help_last(format!("columns that can: {}", can.join(", ")));
        }
    }
}
