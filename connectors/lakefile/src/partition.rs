//! Partition folders: `column=value`, in the way that every engine reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use lakehead_core::{Error, Expiry, Micros, Result};

/// The value of every partition column of one file, in the order of `partition_by`; `None` is NULL.
pub type PartitionValues = Vec<(String, Option<String>)>;

/// Rows of one split: their partition's values, and the rows without those columns.
type Split = Vec<(PartitionValues, RecordBatch)>;

/// Splits rows by the values of `partition_by` and takes those columns out, in the order the values first occur.
pub fn split_by_partition(rows: &RecordBatch, partition_by: &[String]) -> Result<Split> {
    if partition_by.is_empty() {
        return Ok(vec![(Vec::new(), rows.clone())]);
    }
    let mut values = Vec::with_capacity(partition_by.len());
    for column in partition_by {
        let array = rows
            .column_by_name(column)
            .ok_or_else(|| Error::bug("a partition column is missing").with("column", column))?;
        values.push(partition_texts(array)?);
    }
    let mut groups: BTreeMap<Vec<Option<&str>>, Vec<u32>> = BTreeMap::new();
    for row in 0..rows.num_rows() {
        let key = values.iter().map(|texts| texts.is_valid(row).then(|| texts.value(row))).collect();
        groups.entry(key).or_default().push(u32::try_from(row).unwrap_or(u32::MAX));
    }
    let data = without_columns(rows, partition_by)?;
    let mut split = Vec::with_capacity(groups.len());
    for (key, indices) in groups {
        let named = partition_by.iter().cloned().zip(key.into_iter().map(|v| v.map(str::to_owned))).collect();
        let taken = arrow::compute::take_record_batch(&data, &UInt32Array::from(indices))?;
        split.push((named, taken));
    }
    Ok(split)
}

fn without_columns(rows: &RecordBatch, names: &[String]) -> Result<RecordBatch> {
    let keep: Vec<usize> =
        (0..rows.num_columns()).filter(|&n| !names.contains(rows.schema().field(n).name())).collect();
    Ok(rows.project(&keep)?)
}

/// Writes values as Delta and Hive do: dates as `2026-05-01`, timestamps with a space, numbers plain. A type that names
/// no folder is an error (`R0410`).
pub fn partition_texts(array: &ArrayRef) -> Result<StringArray> {
    let texts = match array.data_type() {
        DataType::Timestamp(_, zone) => {
            let format = if zone.is_some() { "%Y-%m-%dT%H:%M:%S%.6fZ" } else { "%Y-%m-%d %H:%M:%S%.6f" };
            let micros = arrow::compute::cast(array, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
            let micros = micros
                .as_any()
                .downcast_ref::<arrow::array::TimestampMicrosecondArray>()
                .ok_or_else(|| Error::bug("a timestamp is not one"))?;
            let write = |at: i64| chrono::DateTime::from_timestamp_micros(at).map(|t| t.format(format).to_string());
            return Ok(micros.iter().map(|at| at.and_then(write)).collect());
        }
        DataType::Binary | DataType::List(_) => {
            return Err(Error::user("R0410", "a table cannot be partitioned by a column of this type")
                .with("type", lakehead_core::column_type_name(array.data_type())));
        }
        _ => arrow::compute::cast(array, &DataType::Utf8)?,
    };
    texts.as_any().downcast_ref::<StringArray>().cloned().ok_or_else(|| Error::bug("a partition value is not text"))
}

/// Says of each row whether its partition is past the age at which rows expire. Rows that lack a column of it have no age.
pub fn expired_rows(rows: &RecordBatch, expiry: &Expiry, now: Micros) -> Result<BooleanArray> {
    let mut columns = Vec::with_capacity(expiry.by.len());
    for column in &expiry.by {
        if let Some(values) = rows.column_by_name(&column.name) {
            columns.push((column.name.as_str(), partition_texts(values)?));
        }
    }
    let has_expired = |row: usize| {
        let value = |name: &str| {
            let (_, texts) = columns.iter().find(|(column, _)| *column == name)?;
            texts.is_valid(row).then(|| texts.value(row))
        };
        expiry.has_expired(value, now)
    };
    Ok((0..rows.num_rows()).map(|row| Some(has_expired(row))).collect())
}

/// Returns the folder of a partition, `day=2026-05-01/`, empty for a table without partitions. Characters that a path
/// or a URL gives a meaning are percent-encoded.
pub fn partition_path(values: &PartitionValues) -> String {
    let mut path = String::new();
    for (column, value) in values {
        path.push_str(&escape(column));
        path.push('=');
        path.push_str(&value.as_deref().map_or_else(|| "__HIVE_DEFAULT_PARTITION__".to_owned(), escape));
        path.push('/');
    }
    path
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    if escaped.is_empty() { "%00".into() } else { escaped }
}

/// Returns a column of `rows` rows that holds a partition's value.
pub fn decode_partition_value(value: Option<&str>, data_type: &DataType, rows: usize) -> Result<ArrayRef> {
    let Some(value) = value else {
        return Ok(arrow::array::new_null_array(data_type, rows));
    };
    let texts: ArrayRef = Arc::new(StringArray::from(vec![value; rows]));
    Ok(arrow::compute::cast(&texts, data_type)?)
}

/// Returns `schema` without the partition columns.
#[must_use]
pub fn file_schema(schema: &Schema, partition_by: &[String]) -> SchemaRef {
    let fields: Vec<_> =
        schema.fields().iter().filter(|field| !partition_by.contains(field.name())).map(Arc::clone).collect();
    Arc::new(Schema::new(fields))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Date32Array, Int64Array};
    use arrow::datatypes::Field;

    use super::*;

    #[test]
    fn rows_are_split_by_value_and_null_is_a_partition_of_its_own() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("day", DataType::Date32, true),
        ]));
        let rows = RecordBatch::try_new(
            schema,
            vec![
                Arc::new(Int64Array::from(vec![1, 2, 3])),
                Arc::new(Date32Array::from(vec![Some(20_574), None, Some(20_574)])),
            ],
        )
        .unwrap();
        let split = split_by_partition(&rows, &["day".into()]).unwrap();
        let paths: Vec<_> = split.iter().map(|(values, rows)| (partition_path(values), rows.num_rows())).collect();
        assert_eq!(paths, [("day=__HIVE_DEFAULT_PARTITION__/".into(), 1), ("day=2026-05-01/".into(), 2)]);
        assert_eq!(split[0].1.num_columns(), 1);
    }

    #[test]
    fn a_value_cannot_leave_its_folder() {
        let path = partition_path(&vec![("tenant".into(), Some("../x y".into()))]);
        assert_eq!(path, "tenant=..%2Fx%20y/");
    }
}
