//! What Spark keeps in a metastore's parameters of a table that it reads by its own means.

use std::collections::BTreeMap;

use arrow_schema::DataType;
use serde_json::{Value, json};

use crate::{Column, Definition};

/// Bytes of one parameter: a metastore's column for it is varchar(4000).
const PART_BYTES: usize = 4000;

/// Returns the parameters that say whose buckets a table has: Spark believes its own alone.
pub(crate) fn parameters(definition: &Definition) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::from([
        ("spark.sql.sources.provider".to_owned(), definition.format.clone()),
        ("spark.sql.partitionProvider".to_owned(), "catalog".to_owned()),
    ]);
    let mut set =
        |name: String, value: String| drop(parameters.insert(format!("spark.sql.sources.schema.{name}"), value));
    let schema = schema(definition).to_string();
    let parts = parts(&schema);
    set("numParts".into(), parts.len().to_string());
    for (number, part) in parts.into_iter().enumerate() {
        set(format!("part.{number}"), part.to_owned());
    }
    let mut names = |many: &str, one: &str, names: &[String]| {
        if !names.is_empty() {
            set(many.to_owned(), names.len().to_string());
        }
        for (number, name) in names.iter().enumerate() {
            set(format!("{one}.{number}"), name.clone());
        }
    };
    names("numPartCols", "partCol", &definition.partition_by);
    if let Some(buckets) = &definition.buckets {
        names("numBucketCols", "bucketCol", &buckets.columns);
        names("numSortCols", "sortCol", &definition.sort_by);
        set("numBuckets".into(), buckets.count.to_string());
    }
    parameters
}

/// Cuts a text where no character is cut.
fn parts(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = (0..=rest.len().min(PART_BYTES)).rev().find(|end| rest.is_char_boundary(*end)).unwrap_or(rest.len());
        let (part, tail) = rest.split_at(end);
        parts.push(part);
        rest = tail;
    }
    parts
}

/// The columns as Spark writes them, partition columns last.
fn schema(definition: &Definition) -> Value {
    let (kept, keys) = definition.split_columns();
    let fields: Vec<Value> = kept.into_iter().chain(keys).map(field).collect();
    json!({ "type": "struct", "fields": fields })
}

/// One column.
pub(crate) fn field(column: &Column) -> Value {
    let metadata = column.comment.as_ref().map_or_else(|| json!({}), |comment| json!({ "comment": comment }));
    json!({ "name": column.name, "type": type_of(&column.data_type()), "nullable": true, "metadata": metadata })
}

fn type_of(data_type: &DataType) -> Value {
    use DataType as T;
    match data_type {
        T::Boolean => "boolean".into(),
        T::Int16 => "short".into(),
        T::Int32 => "integer".into(),
        T::Int64 | T::Time64(_) => "long".into(),
        T::Float32 => "float".into(),
        T::Float64 => "double".into(),
        T::Binary => "binary".into(),
        T::Date32 => "date".into(),
        T::Timestamp(_, Some(_)) => "timestamp".into(),
        T::Timestamp(_, None) => "timestamp_ntz".into(),
        T::Decimal128(precision, scale) => format!("decimal({precision},{scale})").into(),
        T::List(item) => json!({ "type": "array", "elementType": type_of(item.data_type()), "containsNull": true }),
        _ => "string".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_schema_is_cut_between_characters() {
        let text = "é".repeat(PART_BYTES);
        let cut = parts(&text);
        assert_eq!(cut.len(), 2);
        assert_eq!(cut.concat(), text);
    }
}
