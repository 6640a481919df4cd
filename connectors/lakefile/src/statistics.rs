//! Statistics of a finished file, as table logs want them.

use std::collections::BTreeMap;

use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Characters of a text that a statistic keeps, as Delta writers do.
const TEXT_PREFIX_CHARS: usize = 32;

/// Least, greatest and null count of a column; a bound that is not known is left out, never guessed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ColumnStatistics {
    /// Not above any value.
    pub min: Option<Value>,
    /// Not below any value.
    pub max: Option<Value>,
    /// Rows without a value.
    pub null_count: Option<u64>,
}

/// Statistics of a file by column.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FileStatistics {
    /// Rows of the file.
    pub rows: u64,
    /// By column name; nested columns are left out.
    pub columns: BTreeMap<String, ColumnStatistics>,
}

impl FileStatistics {
    /// Gathers the statistics of all row groups.
    pub fn of(metadata: &ParquetMetaData, schema: &arrow::datatypes::Schema) -> Self {
        let rows = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0);
        let mut columns = BTreeMap::new();
        for field in schema.fields() {
            if field.data_type().is_nested() {
                continue;
            }
            if let Some(found) = column_statistics(metadata, field) {
                columns.insert(field.name().clone(), found);
            }
        }
        Self { rows, columns }
    }

    /// Writes them as the `stats` text of a Delta `add` action.
    pub fn to_delta(&self) -> String {
        let pick = |get: fn(&ColumnStatistics) -> Option<Value>| -> Value {
            self.columns.iter().filter_map(|(name, column)| Some((name.clone(), get(column)?))).collect()
        };
        json!({
            "numRecords": self.rows,
            "minValues": pick(|column| column.min.clone()),
            "maxValues": pick(|column| column.max.clone()),
            "nullCount": pick(|column| column.null_count.map(Value::from)),
        })
        .to_string()
    }
}

fn column_statistics(metadata: &ParquetMetaData, field: &arrow::datatypes::Field) -> Option<ColumnStatistics> {
    let mut total = ColumnStatistics { null_count: Some(0), ..Default::default() };
    let mut bounds_known = true;
    for (number, group) in metadata.row_groups().iter().enumerate() {
        let column = group.columns().iter().find(|column| column.column_path().parts() == [field.name().as_str()])?;
        let found = column.statistics()?;
        total.null_count = total.null_count.zip(found.null_count_opt()).map(|(a, b)| a + b);
        let all_null = found.null_count_opt() == u64::try_from(group.num_rows()).ok();
        if all_null {
            continue;
        }
        let Some((min, max)) = bounds(found, field.data_type()) else {
            bounds_known = false;
            continue;
        };
        let first = number == 0 || total.min.is_none();
        if first || less(&min, total.min.as_ref()) {
            total.min = Some(min);
        }
        if first || less_value(total.max.as_ref(), &max) {
            total.max = Some(max);
        }
    }
    if !bounds_known {
        (total.min, total.max) = (None, None);
    }
    Some(total)
}

fn less(value: &Value, than: Option<&Value>) -> bool {
    than.is_none_or(|than| compare(value, than).is_lt())
}

fn less_value(value: Option<&Value>, than: &Value) -> bool {
    value.is_none_or(|value| compare(value, than).is_lt())
}

fn compare(a: &Value, b: &Value) -> std::cmp::Ordering {
    match (a.as_i64(), b.as_i64(), a.as_str(), b.as_str()) {
        (Some(a), Some(b), ..) => a.cmp(&b),
        (.., Some(a), Some(b)) => a.cmp(b),
        _ => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(std::cmp::Ordering::Equal),
    }
}

/// Only types whose bounds order as their JSON form does: whole numbers, dates, times, text. Floats (NaN, -0.0) and
/// decimals have none here: a missing bound costs a reader a file, a wrong one costs it a row.
fn bounds(found: &Statistics, data_type: &arrow::datatypes::DataType) -> Option<(Value, Value)> {
    use arrow::datatypes::DataType as T;
    match (found, data_type) {
        (Statistics::Int32(stats), T::Int8 | T::Int16 | T::Int32) => {
            Some(((*stats.min_opt()?).into(), (*stats.max_opt()?).into()))
        }
        (Statistics::Int64(stats), T::Int64) => Some(((*stats.min_opt()?).into(), (*stats.max_opt()?).into())),
        (Statistics::Int32(stats), T::Date32) => Some((date(*stats.min_opt()?)?, date(*stats.max_opt()?)?)),
        (Statistics::Int64(stats), T::Timestamp(_, zone)) => {
            // Readers hold milliseconds: the lower bound rounds down, the upper one up.
            let suffix = if zone.is_some() { "Z" } else { "" };
            let max = stats.max_opt()?.checked_add(999)?;
            Some((instant(*stats.min_opt()?, suffix)?, instant(max, suffix)?))
        }
        (Statistics::ByteArray(stats), T::Utf8) => {
            let min = std::str::from_utf8(stats.min_opt()?.data()).ok()?;
            let max = std::str::from_utf8(stats.max_opt()?.data()).ok()?;
            if max.chars().count() > TEXT_PREFIX_CHARS || !stats.max_is_exact() {
                return None;
            }
            Some((min.chars().take(TEXT_PREFIX_CHARS).collect::<String>().into(), max.into()))
        }
        _ => None,
    }
}

fn date(days: i32) -> Option<Value> {
    let date = chrono::NaiveDate::from_ymd_opt(1970, 1, 1)?.checked_add_signed(chrono::Duration::days(days.into()))?;
    Some(date.format("%Y-%m-%d").to_string().into())
}

fn instant(micros: i64, suffix: &str) -> Option<Value> {
    let millis = micros.div_euclid(1000);
    let time = chrono::DateTime::from_timestamp_millis(millis)?;
    Some(format!("{}{suffix}", time.format("%Y-%m-%dT%H:%M:%S%.3f")).into())
}
