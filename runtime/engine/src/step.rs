//! One row-wise step on one batch, with changes kept as changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::{and, filter_record_batch, not, nullif, or};
use arrow::datatypes::{Schema, SchemaRef};
use lakehead_core::{Error, OP, Op, Result, UNCHANGED, is_reserved};
use lakehead_plan::Step;
use lakehead_sql::{Predicate, Projection};

use crate::rows::{deletes, full_schema, has_unsent, only_true, texts, to_deletes};

/// Which rows a condition lets pass without being asked: deletes, and rows that did not send what it reads.
fn exempt(rows: &RecordBatch, columns: &[String]) -> Result<BooleanArray> {
    let gone = deletes(rows)?;
    if !has_unsent(rows)? {
        return Ok(gone);
    }
    let unchanged = texts(rows, UNCHANGED)?;
    let unsent: BooleanArray = unchanged
        .iter()
        .map(|names| {
            Some(!columns.is_empty() && columns.iter().all(|column| lakehead_core::is_unchanged(names, column)))
        })
        .collect();
    Ok(or(&gone, &unsent)?)
}

/// Splits rows by a condition: those that pass (deletes always do), and those that do not.
pub(crate) fn split(rows: &RecordBatch, predicate: &Predicate) -> Result<(BooleanArray, BooleanArray)> {
    let holds = only_true(&predicate.evaluate(rows)?)?;
    let passes = or(&holds, &exempt(rows, predicate.columns())?)?;
    let fails = not(&passes)?;
    Ok((passes, fails))
}

/// Keeps the rows of a condition. An update that leaves it becomes a delete (a mirror must not keep the old row); a
/// new row that does not meet it is left out.
pub(crate) fn keep(rows: &RecordBatch, predicate: &Predicate, changes: bool, key: &[String]) -> Result<RecordBatch> {
    let (passes, fails) = split(rows, predicate)?;
    keep_mask(rows, &passes, &fails, changes, key)
}

pub(crate) fn keep_mask(
    rows: &RecordBatch,
    passes: &BooleanArray,
    fails: &BooleanArray,
    changes: bool,
    key: &[String],
) -> Result<RecordBatch> {
    if !changes || fails.true_count() == 0 {
        return Ok(filter_record_batch(rows, passes)?);
    }
    let ops = texts(rows, OP)?;
    let updates: BooleanArray = ops.iter().map(|op| Some(op == Some(Op::Update.letter()))).collect();
    let leave = and(fails, &updates)?;
    let rows = to_deletes(rows, &leave, key)?;
    Ok(filter_record_batch(&rows, &or(passes, &leave)?)?)
}

/// Adds, replaces or selects columns.
pub(crate) fn project(rows: &RecordBatch, projection: &Projection, step: &Step, changes: bool) -> Result<RecordBatch> {
    let computed: BTreeMap<String, ArrayRef> = projection.evaluate(rows)?.into_iter().collect();
    let schema = full_schema(&step.schema);
    let gone = if changes { Some(deletes(rows)?) } else { None };
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let column = match computed.get(field.name()) {
            Some(column) => match &gone {
                // A delete carries only its key; anything computed for it from other columns means nothing.
                Some(gone) if !step.key.contains(field.name()) && !is_reserved(field.name()) => nullif(column, gone)?,
                _ => Arc::clone(column),
            },
            None => Arc::clone(
                rows.column_by_name(field.name())
                    .ok_or_else(|| Error::bug("a column of the plan is missing").with("column", field.name()))?,
            ),
        };
        columns.push(column);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    let projected = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?;
    if changes && has_unsent(rows)? { rename_unsent(&projected, step) } else { Ok(projected) }
}

/// Names the columns that are unsent behind a step: those computed from unsent columns alone.
fn rename_unsent(rows: &RecordBatch, step: &Step) -> Result<RecordBatch> {
    let rename = |names: Option<&str>| -> Option<String> {
        let names = names?;
        let unsent: Vec<&str> = step
            .lineage
            .iter()
            .filter(|(_, inputs)| {
                !inputs.is_empty() && inputs.iter().all(|i| lakehead_core::is_unchanged(Some(names), i))
            })
            .map(|(column, _)| column.as_str())
            .filter(|column| step.schema.field_with_name(column).is_ok())
            .collect();
        (!unsent.is_empty()).then(|| unsent.join(","))
    };
    let renamed: StringArray = texts(rows, UNCHANGED)?.iter().map(rename).collect();
    let schema = rows.schema();
    let mut columns = rows.columns().to_vec();
    columns[schema.index_of(UNCHANGED)?] = Arc::new(renamed);
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// Removes columns.
pub(crate) fn drop_columns(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let full = full_schema(schema);
    let index = |field: &Arc<arrow::datatypes::Field>| Ok(rows.schema().index_of(field.name())?);
    let keep: Vec<usize> = full.fields().iter().map(index).collect::<Result<_>>()?;
    Ok(rows.project(&keep)?)
}

/// Puts NULL reserved columns behind rows that a whole-input step made.
pub(crate) fn add_reserved(rows: &RecordBatch, schema: &Schema) -> Result<RecordBatch> {
    let full = full_schema(schema);
    let mut columns = rows.columns().to_vec();
    for field in &full.fields()[columns.len()..] {
        columns.push(arrow::array::new_null_array(field.data_type(), rows.num_rows()));
    }
    Ok(RecordBatch::try_new(full, columns)?)
}
