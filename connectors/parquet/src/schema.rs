//! Columns as Parquet holds them.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use lakehead_core::{Error, Result, column_type_name, data_fields, parse_column_type};
use lakehead_lakefile::{FileKind, decode_partition_value};
use serde::{Deserialize, Serialize};

/// One column of a manifest, in SQL words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestColumn {
    name: String,
    #[serde(rename = "type")]
    type_name: String,
}

/// Returns the columns as the table will hold them, all nullable. Reserved columns are no columns of a table, except
/// in dead letters, whose own columns bear those names.
pub(crate) fn table_schema(schema: &SchemaRef, kind: FileKind) -> Result<SchemaRef> {
    let data = if is_dead_letters(schema) { schema.as_ref().clone() } else { data_fields(schema) };
    let mut fields = Vec::with_capacity(data.fields().len());
    for field in data.fields() {
        let data_type = lake_type(field.data_type(), kind).ok_or_else(|| {
            Error::user("R0204", "plain tables have no type for a column")
                .with("column", field.name())
                .with("type", column_type_name(field.data_type()))
                .help("cast it in a `derive` or `select`, or leave it out with `drop`")
        })?;
        fields.push(Field::new(field.name(), data_type, true));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Whether these are the columns of dead letters: their `_op` and `_source_position` say what the rejected row was.
pub(crate) fn is_dead_letters(schema: &Schema) -> bool {
    ["_raw", "_reason", "_node"].iter().all(|name| schema.field_with_name(name).is_ok())
}

fn lake_type(data_type: &DataType, kind: FileKind) -> Option<DataType> {
    use DataType as T;
    Some(match data_type {
        T::Boolean | T::Int16 | T::Int32 | T::Int64 | T::Float32 | T::Float64 | T::Date32 => data_type.clone(),
        T::Int8 | T::UInt8 => T::Int16,
        T::UInt16 => T::Int32,
        T::UInt32 => T::Int64,
        T::UInt64 => T::Decimal128(20, 0),
        T::Float16 => T::Float32,
        T::Utf8 | T::LargeUtf8 | T::Utf8View => T::Utf8,
        T::Binary | T::LargeBinary | T::BinaryView => T::Binary,
        // ORC has no time of day.
        T::Time32(_) | T::Time64(_) if kind == FileKind::Orc => T::Utf8,
        T::Time32(_) | T::Time64(_) => T::Time64(TimeUnit::Microsecond),
        T::Decimal128(precision, scale) if *scale >= 0 => T::Decimal128(*precision, *scale),
        T::Timestamp(_, zone) => T::Timestamp(TimeUnit::Microsecond, zone.as_ref().map(|_| "UTC".into())),
        T::List(item) | T::LargeList(item) => {
            T::List(Arc::new(Field::new("item", lake_type(item.data_type(), kind)?, true)))
        }
        _ => return None,
    })
}

/// Brings rows to the table's columns, by name; other columns (the reserved ones) are left out.
pub(crate) fn to_lake(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        columns.push(match rows.column_by_name(field.name()) {
            None => arrow::array::new_null_array(field.data_type(), rows.num_rows()),
            Some(column) if column.data_type() == field.data_type() => Arc::clone(column),
            Some(column) => arrow::compute::cast(column, field.data_type())?,
        });
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// Writes columns as a manifest does.
pub(crate) fn manifest_columns(schema: &Schema) -> Vec<ManifestColumn> {
    let column = |field: &Arc<Field>| ManifestColumn {
        name: field.name().clone(),
        type_name: column_type_name(field.data_type()),
    };
    schema.fields().iter().map(column).collect()
}

/// Reads the columns of a manifest.
pub(crate) fn parse_columns(columns: &[ManifestColumn]) -> Result<SchemaRef> {
    let mut fields = Vec::with_capacity(columns.len());
    for column in columns {
        let data_type = parse_column_type(&column.type_name).map_err(|reason| {
            Error::incident("R0205", "the table's schema is not one that can be read")
                .with("column", &column.name)
                .with("reason", reason)
        })?;
        fields.push(Field::new(&column.name, data_type, true));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Returns the table's columns with those that `rows` adds; a column of another type is refused.
pub(crate) fn merge_schemas(table: &SchemaRef, rows: &SchemaRef, name: &str) -> Result<SchemaRef> {
    let mut fields: Vec<_> = table.fields().iter().map(Arc::clone).collect();
    for field in rows.fields() {
        match table.field_with_name(field.name()) {
            Err(_) => fields.push(Arc::clone(field)),
            Ok(found) if found.data_type() == field.data_type() => {}
            Ok(found) => {
                return Err(Error::incident("R0202", "a column changed its type, and the table keeps the old one")
                    .with("table", name)
                    .with("column", field.name())
                    .with("table_type", column_type_name(found.data_type()))
                    .with("source_type", column_type_name(field.data_type()))
                    .help("cast it back in a `derive`, or write into a new table"));
            }
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Adds the columns that stand in a file's folder and not in the file, in the order of `schema`.
pub(crate) fn add_partition_columns(
    batch: &RecordBatch,
    partition: &[(String, Option<String>)],
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    if partition.is_empty() {
        return Ok(batch.clone());
    }
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for field in schema.fields() {
        let column = if let Some((_, value)) = partition.iter().find(|(column, _)| column == field.name()) {
            decode_partition_value(value.as_deref(), field.data_type(), batch.num_rows())?
        } else if let Some(column) = batch.column_by_name(field.name()) {
            Arc::clone(column)
        } else {
            continue;
        };
        fields.push(Field::new(field.name(), column.data_type().clone(), true));
        columns.push(column);
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
        Arc::new(Schema::new(fields.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect::<Vec<_>>()))
    }

    #[test]
    fn every_type_of_a_table_reads_back_from_its_manifest() {
        let rows = schema(&[
            ("small", DataType::Int8),
            ("huge", DataType::UInt64),
            ("at", DataType::Timestamp(TimeUnit::Nanosecond, Some("+02:00".into()))),
            ("local", DataType::Timestamp(TimeUnit::Microsecond, None)),
            ("time", DataType::Time64(TimeUnit::Nanosecond)),
            ("tags", DataType::List(Arc::new(Field::new("element", DataType::Utf8View, true)))),
            ("amount", DataType::Decimal128(38, 10)),
        ]);
        let table = table_schema(&rows, FileKind::Parquet).unwrap();
        assert_eq!(table.field(1).data_type(), &DataType::Decimal128(20, 0));
        assert_eq!(table.field(4).data_type(), &DataType::Time64(TimeUnit::Microsecond));
        assert_eq!(parse_columns(&manifest_columns(&table)).unwrap(), table);
        assert_eq!(table_schema(&table, FileKind::Parquet).unwrap(), table);
    }

    #[test]
    fn reserved_columns_are_left_out_except_in_dead_letters() {
        let text = DataType::Utf8;
        let rows = schema(&[("id", DataType::Int64), ("_op", text.clone())]);
        assert_eq!(table_schema(&rows, FileKind::Parquet).unwrap().fields().len(), 1);
        let letters =
            schema(&[("_node", text.clone()), ("_reason", text.clone()), ("_op", text.clone()), ("_raw", text)]);
        assert_eq!(table_schema(&letters, FileKind::Parquet).unwrap().fields().len(), 4);
    }

    #[test]
    fn an_added_column_is_taken_over_and_a_retyped_one_refused() {
        let old = schema(&[("id", DataType::Int32)]);
        let added = schema(&[("id", DataType::Int32), ("note", DataType::Utf8)]);
        assert_eq!(merge_schemas(&old, &added, "t").unwrap().fields().len(), 2);
        let retyped = schema(&[("id", DataType::Utf8)]);
        assert_eq!(merge_schemas(&old, &retyped, "t").unwrap_err().code(), "R0202");
        assert_eq!(table_schema(&schema(&[("x", DataType::Null)]), FileKind::Parquet).unwrap_err().code(), "R0204");
    }

    #[test]
    fn a_time_of_day_is_text_where_the_format_has_none() {
        let times = arrow::array::Time64MicrosecondArray::from(vec![Some(3_723_000_004), None]);
        let rows = RecordBatch::try_from_iter([("t", Arc::new(times) as ArrayRef)]).unwrap();
        let table = table_schema(&rows.schema(), FileKind::Orc).unwrap();
        let found = to_lake(&rows, &table).unwrap();
        let expected = arrow::array::StringArray::from(vec![Some("01:02:03.000004"), None]);
        assert_eq!(found.column(0).as_ref(), &expected as &dyn arrow::array::Array);
    }
}
