//! Columns as Delta holds them.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use lakehead_core::{Error, Result, column_type_name};
use serde_json::{Value, json};

/// Returns the columns as the table will hold them: every type that Delta lacks becomes the one that loses nothing
/// (time to text, unsigned 64-bit to decimal(20, 0)). Columns are nullable: a key never is null, but readers need no
/// constraint to know it, and a later change of the source must not need a rewrite.
pub(crate) fn lake_schema(schema: &Schema) -> Result<SchemaRef> {
    let mut fields = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let data_type = lake_type(field.data_type()).ok_or_else(|| {
            Error::user("R0204", "Delta has no type for a column")
                .with("column", field.name())
                .with("type", column_type_name(field.data_type()))
                .help("cast it in a `derive` or `select`, or leave it out with `drop`")
        })?;
        fields.push(Field::new(field.name(), data_type, true));
    }
    Ok(Arc::new(Schema::new(fields)))
}

fn lake_type(data_type: &DataType) -> Option<DataType> {
    use DataType as T;
    Some(match data_type {
        T::Boolean | T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::Float32 | T::Float64 | T::Date32 => {
            data_type.clone()
        }
        T::Utf8 | T::LargeUtf8 | T::Utf8View | T::Time32(_) | T::Time64(_) => T::Utf8,
        T::Binary | T::LargeBinary | T::BinaryView => T::Binary,
        T::UInt8 => T::Int16,
        T::UInt16 => T::Int32,
        T::UInt32 => T::Int64,
        T::UInt64 => T::Decimal128(20, 0),
        T::Decimal128(precision, scale) if *scale >= 0 => T::Decimal128(*precision, *scale),
        T::Timestamp(_, zone) => T::Timestamp(TimeUnit::Microsecond, zone.as_ref().map(|_| "UTC".into())),
        T::List(item) | T::LargeList(item) => {
            T::List(Arc::new(Field::new("element", lake_type(item.data_type())?, true)))
        }
        _ => return None,
    })
}

/// Brings rows to the table's columns; the caller has taken reserved columns out.
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

/// Writes a schema as the `schemaString` of a Delta `metaData` action.
pub(crate) fn schema_string(schema: &Schema) -> Result<String> {
    let fields = schema.fields().iter().map(|field| field_json(field)).collect::<Result<Vec<_>>>()?;
    Ok(json!({ "type": "struct", "fields": fields }).to_string())
}

pub(crate) fn field_json(field: &Field) -> Result<Value> {
    Ok(json!({
        "name": field.name(),
        "type": type_json(field.data_type())?,
        "nullable": true,
        "metadata": {},
    }))
}

fn type_json(data_type: &DataType) -> Result<Value> {
    use DataType as T;
    let name = match data_type {
        T::Boolean => "boolean",
        T::Int8 => "byte",
        T::Int16 => "short",
        T::Int32 => "integer",
        T::Int64 => "long",
        T::Float32 => "float",
        T::Float64 => "double",
        T::Utf8 => "string",
        T::Binary => "binary",
        T::Date32 => "date",
        T::Timestamp(_, Some(_)) => "timestamp",
        T::Timestamp(_, None) => "timestamp_ntz",
        T::Decimal128(precision, scale) => return Ok(format!("decimal({precision},{scale})").into()),
        T::List(item) => {
            return Ok(json!({
                "type": "array", "elementType": type_json(item.data_type())?, "containsNull": true,
            }));
        }
        other => return Err(Error::bug("a type that Delta lacks reached its schema").with("type", other)),
    };
    Ok(name.into())
}

/// Reads a `schemaString`; a type that we cannot write is an error that names the column.
pub(crate) fn parse_schema_string(text: &str) -> Result<SchemaRef> {
    let foreign = || Error::incident("R0205", "the table's schema is not one that can be read");
    let value: Value = serde_json::from_str(text).map_err(|error| foreign().caused_by(error))?;
    let mut fields = Vec::new();
    for field in value["fields"].as_array().ok_or_else(foreign)? {
        let name = field["name"].as_str().ok_or_else(foreign)?;
        let data_type = parse_type(&field["type"]).ok_or_else(|| foreign().with("column", name))?;
        fields.push(Field::new(name, data_type, true));
    }
    Ok(Arc::new(Schema::new(fields)))
}

fn parse_type(value: &Value) -> Option<DataType> {
    use DataType as T;
    let Some(name) = value.as_str() else {
        let item = (value["type"] == "array").then(|| parse_type(&value["elementType"]))??;
        return Some(T::List(Arc::new(Field::new("element", item, true))));
    };
    Some(match name {
        "boolean" => T::Boolean,
        "byte" => T::Int8,
        "short" => T::Int16,
        "integer" => T::Int32,
        "long" => T::Int64,
        "float" => T::Float32,
        "double" => T::Float64,
        "string" => T::Utf8,
        "binary" => T::Binary,
        "date" => T::Date32,
        "timestamp" => T::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        "timestamp_ntz" => T::Timestamp(TimeUnit::Microsecond, None),
        _ => {
            let (precision, scale) = name.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
            T::Decimal128(precision.trim().parse().ok()?, scale.trim().parse().ok()?)
        }
    })
}

/// What a changed schema means for a table.
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

/// Returns the protocol that these columns need, with deletion vectors or without, and no more.
pub(crate) fn protocol_for(schema: &Schema, vectors: bool) -> Value {
    let mut features = Vec::new();
    if vectors {
        features.push("deletionVectors");
    }
    if schema.fields().iter().any(|field| has_ntz(field.data_type())) {
        features.push("timestampNtz");
    }
    if features.is_empty() {
        return json!({ "protocol": { "minReaderVersion": 1, "minWriterVersion": 2 } });
    }
    json!({ "protocol": {
        "minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features,
    }})
}

pub(crate) fn has_ntz(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(_, None) => true,
        DataType::List(item) => has_ntz(item.data_type()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_reads_back_as_it_was_written() {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("amount", DataType::Decimal128(12, 2), true),
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
            Field::new("local", DataType::Timestamp(TimeUnit::Microsecond, None), true),
            Field::new("tags", DataType::List(Arc::new(Field::new("element", DataType::Utf8, true))), true),
        ]);
        let back = parse_schema_string(&schema_string(&schema).unwrap()).unwrap();
        assert_eq!(*back, schema);
        assert_eq!(protocol_for(&schema, false)["protocol"]["readerFeatures"], json!(["timestampNtz"]));
        let plain = Schema::new(vec![Field::new("id", DataType::Int64, true)]);
        assert_eq!(protocol_for(&plain, true)["protocol"]["writerFeatures"], json!(["deletionVectors"]));
        assert_eq!(protocol_for(&plain, false)["protocol"]["minReaderVersion"], 1);
    }

    #[test]
    fn a_retyped_column_is_refused_and_an_added_one_is_taken_over() {
        let old = Arc::new(Schema::new(vec![Field::new("id", DataType::Int32, true)]));
        let added = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int32, true),
            Field::new("note", DataType::Utf8, true),
        ]));
        assert_eq!(merge_schemas(&old, &added, "t").unwrap().fields().len(), 2);
        let retyped = Arc::new(Schema::new(vec![Field::new("id", DataType::Utf8, true)]));
        assert_eq!(merge_schemas(&old, &retyped, "t").unwrap_err().code(), "R0202");
    }
}
