//! Types as the rest of Lakehead knows them: microseconds, signed numbers, plain text.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};

/// Returns the type that a result is brought to; `None` where it is one already.
pub(crate) fn normal_type(data_type: &DataType) -> Option<DataType> {
    use DataType as T;
    let utc = || Some(Arc::from("UTC"));
    Some(match data_type {
        T::LargeUtf8 | T::Utf8View => T::Utf8,
        T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => T::Binary,
        T::UInt8 => T::Int16,
        T::UInt16 => T::Int32,
        T::UInt32 | T::UInt64 => T::Int64,
        T::Float16 => T::Float32,
        T::Date64 => T::Date32,
        T::Time32(_) | T::Time64(TimeUnit::Nanosecond) => T::Time64(TimeUnit::Microsecond),
        T::Timestamp(unit, None) if *unit != TimeUnit::Microsecond => T::Timestamp(TimeUnit::Microsecond, None),
        T::Timestamp(unit, Some(zone)) if *unit != TimeUnit::Microsecond || zone.as_ref() != "UTC" => {
            T::Timestamp(TimeUnit::Microsecond, utc())
        }
        T::Dictionary(_, values) => normal_type(values).unwrap_or_else(|| values.as_ref().clone()),
        T::LargeList(item) | T::List(item) | T::ListView(item) => {
            let inner = normal_type(item.data_type());
            if inner.is_none() && matches!(data_type, T::List(_)) {
                return None;
            }
            let inner = inner.unwrap_or_else(|| item.data_type().clone());
            T::List(Arc::new(Field::new("item", inner, true)))
        }
        T::Decimal32(precision, scale) | T::Decimal64(precision, scale) => T::Decimal128(*precision, *scale),
        T::Decimal256(_, scale) => T::Decimal128(38, (*scale).min(38)),
        T::Null => T::Utf8,
        _ => return None,
    })
}

/// Returns the normal form of a type.
pub(crate) fn normalized(data_type: &DataType) -> DataType {
    normal_type(data_type).unwrap_or_else(|| data_type.clone())
}
