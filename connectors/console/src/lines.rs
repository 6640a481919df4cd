//! Rows as text.

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use lakehead_core::{Error, OP, Result, TABLE, data_fields, is_reserved};

/// Returns the rows as JSON, one text each; NULLs are written, so that every row shows every column.
pub(crate) fn json_lines(rows: &RecordBatch) -> Result<Vec<String>> {
    let mut bytes = Vec::new();
    let builder = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
    let mut writer: arrow::json::LineDelimitedWriter<_> = builder.build(&mut bytes);
    writer.write(rows)?;
    writer.finish()?;
    drop(writer);
    Ok(text(bytes)?.lines().map(str::to_owned).collect())
}

/// Returns the rows as CSV, with the names of the columns first where `header` says so.
pub(crate) fn csv_text(rows: &RecordBatch, header: bool) -> Result<String> {
    let mut bytes = Vec::new();
    arrow::csv::WriterBuilder::new().with_header(header).build(&mut bytes).write(rows)?;
    text(bytes)
}

fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| Error::bug("rows as text are not UTF-8").caused_by(error))
}

/// Returns the columns that are shown: the data, and of the reserved columns what happened to the row, and in which
/// table. The columns of dead letters are all data.
pub(crate) fn shown(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let own: &Schema = if is_dead_letters(schema) { schema } else { &data_fields(schema) };
    let is_shown = |name: &str| own.field_with_name(name).is_ok() || !is_reserved(name) || name == OP || name == TABLE;
    let found = rows.schema();
    let keep: Vec<usize> = (0..rows.num_columns()).filter(|n| is_shown(found.field(*n).name())).collect();
    Ok(rows.project(&keep)?)
}

fn is_dead_letters(schema: &SchemaRef) -> bool {
    ["_raw", "_reason", "_node"].iter().all(|name| schema.field_with_name(name).is_ok())
}

/// Returns the names of columns, to tell whether a header must be written anew.
pub(crate) fn layout(rows: &RecordBatch) -> Vec<String> {
    rows.schema().fields().iter().map(|field| field.name().clone()).collect()
}
