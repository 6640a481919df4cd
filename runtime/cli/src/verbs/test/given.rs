//! `given` tables to source events.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::CastOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use lakehead_core::{ChangeBatch, Checkpoint, Error, Result, SourceEvent, is_reserved, reserved_field};
use lakehead_plan::{Plan, SourcePlan, TestCase, TestTable};

use crate::project::Loaded;

/// Returns the events of one source node: each given table in file order, one partition, one round.
pub(super) fn events(
    loaded: &Loaded,
    plan: &Plan,
    node: &str,
    source: &SourcePlan,
    case: &TestCase,
) -> Result<Vec<SourceEvent>> {
    let mut events = Vec::new();
    for table in &case.given {
        let (head, member) = table.node.split_once('.').map_or((table.node.as_str(), None), |(a, b)| (a, Some(b)));
        if head != node {
            continue;
        }
        let target = source
            .tables
            .iter()
            .find(|known| member.is_none_or(|m| known.name == m || known.name.rsplit('.').next() == Some(m)));
        let target = target.ok_or_else(|| {
            let names: Vec<&str> = source.tables.iter().map(|table| table.name.as_str()).collect();
            Error::user("E0804", format!("`{node}` has no table `{}`", member.unwrap_or("")))
                .help(format!("there are: {}", names.join(", ")))
        })?;
        let schema = &plan.streams[target.stream.0].schema;
        let rows = match &table.path {
            Some(path) => read_file(&loaded.root.join(path), schema)?,
            None => batch(table, schema)?,
        };
        events.push(SourceEvent::Changes(ChangeBatch { table: target.name.clone(), rows }));
    }
    events.push(SourceEvent::Progress(Checkpoint::default()));
    Ok(events)
}

fn batch(table: &TestTable, schema: &SchemaRef) -> Result<RecordBatch> {
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (n, name) in table.header.iter().enumerate() {
        let field = if is_reserved(name) {
            reserved_field(name)
        } else {
            let known = schema.field_with_name(name).map_err(|_| {
                let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                Error::user("E0805", format!("`{}` has no column `{name}`", table.node))
                    .help(format!("there are: {}", names.join(", ")))
            })?;
            known.clone().with_nullable(true)
        };
        let cells: Vec<Option<&str>> =
            table.rows.iter().map(|row| row.get(n).and_then(|cell| cell.value.as_deref())).collect();
        columns.push(typed(&cells, field.data_type(), &table.node, name)?);
        fields.push(field);
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Reads cells as values of a type.
pub(super) fn typed(cells: &[Option<&str>], data_type: &DataType, node: &str, column: &str) -> Result<ArrayRef> {
    if let DataType::List(_) = data_type {
        return lists(cells, data_type, column);
    }
    let texts: ArrayRef = Arc::new(cells.iter().copied().collect::<StringArray>());
    let options = CastOptions { safe: false, ..CastOptions::default() };
    arrow::compute::cast_with_options(&texts, data_type, &options).map_err(|error| {
        Error::user(
            "E0806",
            format!("a cell of `{node}.{column}` is not {}", lakehead_core::column_type_name(data_type)),
        )
        .caused_by(error)
    })
}

fn lists(cells: &[Option<&str>], data_type: &DataType, column: &str) -> Result<ArrayRef> {
    let schema = Arc::new(Schema::new(vec![Field::new("value", data_type.clone(), true)]));
    let text: String = cells.iter().map(|cell| format!("{{\"value\": {}}}\n", cell.unwrap_or("null"))).collect();
    let batch = read_json(text.as_bytes(), &schema)
        .map_err(|error| Error::user("E0806", format!("a cell of `{column}` is not a JSON list")).caused_by(error))?;
    Ok(Arc::clone(batch.column(0)))
}

/// Reads a fixture: `.jsonl`, `.csv`.
pub(super) fn read_file(path: &std::path::Path, schema: &SchemaRef) -> Result<RecordBatch> {
    let unreadable = |reason: String| {
        Error::user("E0807", "a fixture cannot be read").with("file", path.display()).with("reason", reason)
    };
    let nullable: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    let schema = Arc::new(Schema::new(nullable));
    let extension = path.extension().map(|e| e.to_string_lossy().into_owned()).unwrap_or_default();
    let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    match extension.as_str() {
        "jsonl" | "ndjson" | "json" => read_json(&bytes, &schema).map_err(|error| unreadable(error.to_string())),
        "csv" => {
            let reader = arrow::csv::ReaderBuilder::new(Arc::clone(&schema)).with_header(true).build(bytes.as_slice());
            let batches: Vec<RecordBatch> =
                reader.and_then(Iterator::collect).map_err(|error| unreadable(error.to_string()))?;
            Ok(arrow::compute::concat_batches(&schema, &batches)?)
        }
        _ => Err(unreadable("fixtures are .jsonl or .csv".into())),
    }
}

fn read_json(bytes: &[u8], schema: &SchemaRef) -> std::result::Result<RecordBatch, arrow::error::ArrowError> {
    let reader = arrow::json::ReaderBuilder::new(Arc::clone(schema)).build(bytes)?;
    let batches: Vec<RecordBatch> = reader.collect::<std::result::Result<_, _>>()?;
    arrow::compute::concat_batches(schema, &batches)
}
