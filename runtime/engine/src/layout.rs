//! Layout columns: `day(ts)` becomes `ts_day`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use chrono::{DateTime, Datelike, Timelike, Utc};
use lakehead_core::{Error, Result};
use lakehead_plan::{Layout, LayoutTransform};

use crate::truncate::truncate;

/// Adds the layout columns that the rows do not have yet, before the reserved ones.
pub(crate) fn add_layout(rows: &RecordBatch, layout: &[Layout]) -> Result<RecordBatch> {
    let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
    let mut columns = rows.columns().to_vec();
    for part in layout.iter().filter(|part| part.transform != LayoutTransform::Identity) {
        let source = rows
            .column_by_name(&part.source)
            .ok_or_else(|| Error::bug("a layout column's source is missing").with("column", &part.source))?;
        fields.push(Arc::new(Field::new(&part.name, part.data_type.clone(), true)));
        columns.push(transform(source, part.transform)?);
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

fn transform(source: &ArrayRef, transform: LayoutTransform) -> Result<ArrayRef> {
    if let LayoutTransform::Truncate(width) = transform {
        return truncate(source, width);
    }
    // Times count in UTC, whatever the type's zone (the dialect page of the language).
    let micros = arrow::compute::cast(source, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))?;
    let micros = micros
        .as_any()
        .downcast_ref::<TimestampMicrosecondArray>()
        .ok_or_else(|| Error::bug("a layout column's source is not a time"))?;
    let numbers = |part: &dyn Fn(DateTime<Utc>) -> i32| -> ArrayRef {
        let value = |at: Option<i64>| at.and_then(DateTime::from_timestamp_micros).map(part);
        Arc::new(micros.iter().map(value).collect::<Int32Array>())
    };
    Ok(match transform {
        LayoutTransform::Identity | LayoutTransform::Truncate(_) => Arc::clone(source),
        LayoutTransform::Day => arrow::compute::cast(&(Arc::new(micros.clone()) as ArrayRef), &DataType::Date32)?,
        LayoutTransform::Year => numbers(&|time| time.year()),
        LayoutTransform::Hour => numbers(&|time| i32::try_from(time.hour()).unwrap_or(0)),
        LayoutTransform::Month => {
            let text =
                |at: Option<i64>| at.and_then(DateTime::from_timestamp_micros).map(|t| t.format("%Y-%m").to_string());
            Arc::new(micros.iter().map(text).collect::<StringArray>())
        }
    })
}
