//! ORC types as Arrow types.

use std::sync::Arc;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, FieldRef, Fields, TimeUnit};
use lakehead_core::Result;

use crate::fault::{damaged, unread};
use crate::schema::{OrcType, kind};

/// Decimals of Hive 0.11 have no precision; later readers take them so.
const OLD_DECIMAL: (u8, i8) = (38, 18);

/// Returns the field of a type and those below it. `types` were checked to be a tree.
pub(super) fn field(types: &[OrcType], number: u64, name: &str, unit: TimeUnit) -> Result<FieldRef> {
    let orc_type = usize::try_from(number).ok().and_then(|number| types.get(number));
    let orc_type = orc_type.ok_or_else(|| damaged("a type that is not there"))?;
    let child = |at: usize, name: &str| -> Result<FieldRef> {
        let number = orc_type.children.get(at).ok_or_else(|| damaged("a type without its children"))?;
        field(types, *number, name, unit)
    };
    let data_type = match orc_type.kind {
        kind::BOOLEAN => DataType::Boolean,
        kind::BYTE => DataType::Int8,
        kind::SHORT => DataType::Int16,
        kind::INT => DataType::Int32,
        kind::LONG => DataType::Int64,
        kind::FLOAT => DataType::Float32,
        kind::DOUBLE => DataType::Float64,
        kind::STRING | kind::VARCHAR | kind::CHAR => DataType::Utf8,
        kind::BINARY => DataType::Binary,
        kind::DATE => DataType::Date32,
        kind::TIMESTAMP => DataType::Timestamp(unit, None),
        kind::TIMESTAMP_INSTANT => DataType::Timestamp(unit, Some("UTC".into())),
        kind::DECIMAL => decimal(orc_type)?,
        kind::LIST => DataType::List(child(0, "item")?),
        kind::MAP => {
            let key = child(0, "key")?.as_ref().clone().with_nullable(false);
            let entries = Fields::from(vec![Arc::new(key), child(1, "value")?]);
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
        }
        kind::STRUCT => {
            let fields = orc_type.names.iter().enumerate().map(|(at, name)| child(at, name));
            DataType::Struct(fields.collect::<Result<_>>()?)
        }
        _ => return Err(unread("a union or an unknown type")),
    };
    Ok(Arc::new(Field::new(name, data_type, true)))
}

fn decimal(orc_type: &OrcType) -> Result<DataType> {
    if orc_type.precision == 0 {
        return Ok(DataType::Decimal128(OLD_DECIMAL.0, OLD_DECIMAL.1));
    }
    let precision = u8::try_from(orc_type.precision).ok().filter(|precision| *precision <= DECIMAL128_MAX_PRECISION);
    let scale = i8::try_from(orc_type.scale).ok().filter(|scale| i64::from(*scale) <= orc_type.precision as i64);
    precision
        .zip(scale)
        .map(|(precision, scale)| DataType::Decimal128(precision, scale))
        .ok_or_else(|| unread("a decimal of more than 38 digits"))
}
