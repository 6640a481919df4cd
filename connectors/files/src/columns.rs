//! Columns that are filled row by row, each in the form that Arrow holds.

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder,
    Int16Builder, Int32Builder, Int64Builder, StringBuilder, Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, TimeUnit};
use std::sync::Arc;

use lakehead_core::Result;

use crate::cell::{Cell, to_array};

/// The columns of a batch under way.
pub(crate) struct Columns {
    list: Vec<Filling>,
    rows: usize,
}

enum Filling {
    Bool(BooleanBuilder),
    Short(Int16Builder),
    Int(Int32Builder),
    Long(Int64Builder),
    Float(Float32Builder),
    Double(Float64Builder),
    Decimal(Decimal128Builder, DataType),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder, DataType),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    /// Lists, and what no file can be read into: told when the column ends.
    Cells(Vec<Cell<'static>>, DataType),
}

impl Columns {
    /// Begins columns of these types.
    pub(crate) fn new<'a>(types: impl Iterator<Item = &'a DataType>) -> Self {
        Self { list: types.map(Filling::new).collect(), rows: 0 }
    }

    /// Adds a row that was read for the types, and empties `row`.
    pub(crate) fn push(&mut self, row: &mut Vec<Cell<'_>>) {
        for (column, cell) in self.list.iter_mut().zip(row.drain(..)) {
            column.push(cell);
        }
        self.rows += 1;
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn finish(self) -> Result<Vec<ArrayRef>> {
        self.list.into_iter().map(Filling::finish).collect()
    }
}

impl Filling {
    fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Bool(BooleanBuilder::new()),
            DataType::Int16 => Self::Short(Int16Builder::new()),
            DataType::Int32 => Self::Int(Int32Builder::new()),
            DataType::Int64 => Self::Long(Int64Builder::new()),
            DataType::Float32 => Self::Float(Float32Builder::new()),
            DataType::Float64 => Self::Double(Float64Builder::new()),
            DataType::Decimal128(..) => Self::Decimal(Decimal128Builder::new(), data_type.clone()),
            DataType::Date32 => Self::Date(Date32Builder::new()),
            DataType::Time64(TimeUnit::Microsecond) => Self::Time(Time64MicrosecondBuilder::new()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Self::Timestamp(TimestampMicrosecondBuilder::new(), data_type.clone())
            }
            DataType::Utf8 => Self::Text(StringBuilder::new()),
            DataType::Binary => Self::Bytes(BinaryBuilder::new()),
            other => Self::Cells(Vec::new(), other.clone()),
        }
    }

    fn push(&mut self, cell: Cell<'_>) {
        let whole = if let Cell::Whole(number) = cell { Some(number) } else { None };
        // A whole number was read for the column's type, so that it is in its bounds.
        let long = whole.map(|number| i64::try_from(number).unwrap_or_default());
        match self {
            Self::Bool(values) => values.append_option(if let Cell::Bool(value) = cell { Some(value) } else { None }),
            Self::Short(values) => values.append_option(whole.map(|number| i16::try_from(number).unwrap_or_default())),
            Self::Int(values) => values.append_option(whole.map(|number| i32::try_from(number).unwrap_or_default())),
            Self::Date(values) => values.append_option(whole.map(|number| i32::try_from(number).unwrap_or_default())),
            Self::Long(values) => values.append_option(long),
            Self::Time(values) => values.append_option(long),
            Self::Timestamp(values, _) => values.append_option(long),
            Self::Decimal(values, _) => values.append_option(whole),
            Self::Float(values) => {
                values.append_option(if let Cell::Double(value) = cell { Some(value as f32) } else { None });
            }
            Self::Double(values) => {
                values.append_option(if let Cell::Double(value) = cell { Some(value) } else { None });
            }
            Self::Text(values) => values.append_option(if let Cell::Text(text) = &cell { Some(text) } else { None }),
            Self::Bytes(values) => {
                values.append_option(if let Cell::Bytes(bytes) = &cell { Some(bytes) } else { None });
            }
            Self::Cells(cells, _) => cells.push(cell.into_owned()),
        }
    }

    fn finish(self) -> Result<ArrayRef> {
        Ok(match self {
            Self::Bool(mut values) => Arc::new(values.finish()),
            Self::Short(mut values) => Arc::new(values.finish()),
            Self::Int(mut values) => Arc::new(values.finish()),
            Self::Long(mut values) => Arc::new(values.finish()),
            Self::Float(mut values) => Arc::new(values.finish()),
            Self::Double(mut values) => Arc::new(values.finish()),
            Self::Decimal(values, data_type) => Arc::new(values.with_data_type(data_type).finish()),
            Self::Date(mut values) => Arc::new(values.finish()),
            Self::Time(mut values) => Arc::new(values.finish()),
            Self::Timestamp(values, data_type) => Arc::new(values.with_data_type(data_type).finish()),
            Self::Text(mut values) => Arc::new(values.finish()),
            Self::Bytes(mut values) => Arc::new(values.finish()),
            Self::Cells(cells, data_type) => to_array(&data_type, cells)?,
        })
    }
}
