//! One value of a column, in the kinds that bucket hashes tell apart.

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType,
};
use lakehead_core::{Error, Result};

/// A value that is not NULL. Width matters: Hive hashes a smallint 1 and an int 1 differently.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cell<'a> {
    Bool(bool),
    Int8(i8),
    Int16(i16),
    Int32(i32),
    Int64(i64),
    Float(f32),
    Double(f64),
    /// The unscaled value, and the type's precision and scale.
    Decimal(i128, u8, u32),
    /// UTF-8.
    Text(&'a [u8]),
    Binary(&'a [u8]),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since 1970-01-01 00:00:00 UTC.
    Timestamp(i64),
}

/// Gives `visit` every row's number and value, in order.
pub(crate) fn cells<'a>(column: &'a ArrayRef, visit: &mut dyn FnMut(usize, Option<Cell<'_>>)) -> Result<()> {
    use DataType as T;
    match column.data_type() {
        T::Boolean => {
            for (row, value) in column.as_boolean().iter().enumerate() {
                visit(row, value.map(Cell::Bool));
            }
        }
        T::Int8 => numbers::<Int8Type>(column.as_primitive(), Cell::Int8, visit),
        T::Int16 => numbers::<Int16Type>(column.as_primitive(), Cell::Int16, visit),
        T::Int32 => numbers::<Int32Type>(column.as_primitive(), Cell::Int32, visit),
        T::Int64 => numbers::<Int64Type>(column.as_primitive(), Cell::Int64, visit),
        T::Float32 => numbers::<Float32Type>(column.as_primitive(), Cell::Float, visit),
        T::Float64 => numbers::<Float64Type>(column.as_primitive(), Cell::Double, visit),
        T::Date32 => numbers::<Date32Type>(column.as_primitive(), Cell::Date, visit),
        T::Decimal128(precision, scale) => {
            let (precision, scale) = (*precision, u32::try_from(*scale).unwrap_or(0));
            let cell = |value| Cell::Decimal(value, precision, scale);
            numbers::<Decimal128Type>(column.as_primitive(), cell, visit);
        }
        T::Timestamp(_, zone) => {
            let micros = cast(column, &T::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
            numbers::<TimestampMicrosecondType>(micros.as_primitive(), Cell::Timestamp, visit);
        }
        T::Utf8 | T::LargeUtf8 | T::Utf8View => {
            let texts = cast(column, &T::Utf8)?;
            for (row, value) in texts.as_string::<i32>().iter().enumerate() {
                visit(row, value.map(|text| Cell::Text(text.as_bytes())));
            }
        }
        T::Binary | T::LargeBinary | T::BinaryView => {
            let bytes = cast(column, &T::Binary)?;
            for (row, value) in bytes.as_binary::<i32>().iter().enumerate() {
                visit(row, value.map(Cell::Binary));
            }
        }
        _ => return Err(Error::bug("a bucket column was not looked at before it was hashed")),
    }
    Ok(())
}

fn numbers<T: ArrowPrimitiveType>(
    column: &PrimitiveArray<T>,
    cell: impl Fn(T::Native) -> Cell<'static>,
    visit: &mut dyn FnMut(usize, Option<Cell<'_>>),
) {
    for (row, value) in column.iter().enumerate() {
        visit(row, value.map(&cell));
    }
}
