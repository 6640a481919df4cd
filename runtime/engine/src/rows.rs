//! Batches inside the engine: data columns, then every reserved column, so that compiled expressions find each by its
//! place.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, StringArray, new_null_array,
};
use arrow::compute::{is_null, nullif};
use arrow::datatypes::{Schema, SchemaRef, TimestampMicrosecondType};
use lakehead_core::{COMMITTED_AT, Error, Micros, OP, Op, RESERVED, Result, UNCHANGED, is_reserved, reserved_field};

use crate::fate::REJECTED;

/// Returns the schema of engine rows over data columns.
pub(crate) fn full_schema(data: &Schema) -> SchemaRef {
    let mut fields: Vec<_> =
        data.fields().iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true))).collect();
    fields.extend(RESERVED.iter().map(|name| Arc::new(reserved_field(name))));
    Arc::new(Schema::new(fields))
}

/// Brings rows to the engine's form: the data columns of `data`, absent ones NULL, then the reserved ones.
pub fn with_reserved(rows: &RecordBatch, data: &Schema) -> Result<RecordBatch> {
    let schema = full_schema(data);
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        columns.push(match rows.column_by_name(field.name()) {
            None => new_null_array(field.data_type(), rows.num_rows()),
            Some(column) if column.data_type() == field.data_type() => Arc::clone(column),
            Some(column) => arrow::compute::cast(column, field.data_type()).map_err(|error| {
                Error::bug("a source's column has another type than planned")
                    .with("column", field.name())
                    .caused_by(error)
            })?,
        });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

/// Returns the data columns alone.
pub fn without_reserved(rows: &RecordBatch) -> Result<RecordBatch> {
    let schema = rows.schema();
    let keep: Vec<usize> = (0..rows.num_columns()).filter(|&n| !is_reserved(schema.field(n).name())).collect();
    Ok(rows.project(&keep)?)
}

/// Returns a reserved text column.
pub(crate) fn texts<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a StringArray> {
    rows.column_by_name(name)
        .and_then(|column| column.as_any().downcast_ref::<StringArray>())
        .ok_or_else(|| Error::bug("a reserved column is missing").with("column", name))
}

/// Returns which rows carry their key alone: deletes, and what was set aside (`REJECTED`).
pub(crate) fn deletes(rows: &RecordBatch) -> Result<BooleanArray> {
    let ops = texts(rows, OP)?;
    Ok(ops.iter().map(|op| Some(op == Some(Op::Delete.letter()) || op == Some(REJECTED))).collect())
}

/// Returns when the source committed the newest of the rows, where it says so.
pub(crate) fn newest(rows: &RecordBatch) -> Option<Micros> {
    let times = rows.column_by_name(COMMITTED_AT)?.as_primitive_opt::<TimestampMicrosecondType>()?;
    arrow::compute::max(times)
}

/// Returns whether rows were read by a snapshot.
pub(crate) fn holds_read_rows(rows: &RecordBatch) -> Result<bool> {
    let ops = texts(rows, OP)?;
    Ok(ops.iter().any(|op| op == Some(Op::Read.letter())))
}

/// Returns whether any row may have unsent columns.
pub(crate) fn has_unsent(rows: &RecordBatch) -> Result<bool> {
    let unchanged = texts(rows, UNCHANGED)?;
    Ok(unchanged.null_count() < unchanged.len())
}

/// Turns the rows of `mask` into deletes: only the key stays.
pub(crate) fn to_deletes(rows: &RecordBatch, mask: &BooleanArray, key: &[String]) -> Result<RecordBatch> {
    to_keys(rows, mask, key, Op::Delete.letter())
}

/// Leaves the rows of `mask` their key alone, as changes of the kind `letter`.
pub(crate) fn to_keys(rows: &RecordBatch, mask: &BooleanArray, key: &[String], letter: &str) -> Result<RecordBatch> {
    let schema = rows.schema();
    let mut columns = Vec::with_capacity(rows.num_columns());
    for (field, column) in schema.fields().iter().zip(rows.columns()) {
        columns.push(if field.name() == OP {
            let ops = texts(rows, OP)?;
            let letters = ops.iter().zip(mask).map(|(op, hit)| if hit == Some(true) { Some(letter) } else { op });
            Arc::new(letters.collect::<StringArray>()) as ArrayRef
        } else if key.contains(field.name()) || (is_reserved(field.name()) && field.name() != UNCHANGED) {
            Arc::clone(column)
        } else {
            nullif(column, mask)?
        });
    }
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// Returns TRUE where a condition is TRUE; FALSE and NULL are both "no".
pub(crate) fn only_true(condition: &BooleanArray) -> Result<BooleanArray> {
    let missing = is_null(condition)?;
    Ok(condition
        .iter()
        .zip(missing.iter())
        .map(|(value, missing)| Some(value == Some(true) && missing != Some(true)))
        .collect())
}
