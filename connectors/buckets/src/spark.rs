//! Spark's rule (`org.apache.spark.sql.catalyst.expressions.Murmur3Hash`): the hash of one column seeds the next.

use crate::cell::Cell;
use crate::hive::to_java_bytes;
use crate::murmur;

/// What the first column starts from.
pub(crate) const SEED: i32 = 42;

/// The precision up to which a decimal is a long to Spark (`Decimal.MAX_LONG_DIGITS`).
const LONG_DIGITS_MAX: u8 = 18;

/// Hashes a value onto `seed`.
pub(crate) fn hash(cell: Cell<'_>, seed: i32) -> i32 {
    // Words are little-endian there, so that a number hashes as its bytes do.
    let int = |value: i32| murmur::spark(&value.to_le_bytes(), seed);
    let long = |value: i64| murmur::spark(&value.to_le_bytes(), seed);
    match cell {
        Cell::Bool(value) => int(value.into()),
        Cell::Int8(value) => int(value.into()),
        Cell::Int16(value) => int(value.into()),
        Cell::Int32(value) | Cell::Date(value) => int(value),
        Cell::Int64(value) | Cell::Timestamp(value) => long(value),
        // 0.0 + -0.0 is 0.0: both zeros are one key to Spark. Every NaN is one, too.
        Cell::Float(value) if value.is_nan() => int(0x7fc0_0000),
        Cell::Float(value) => int((value + 0.0).to_bits().cast_signed()),
        Cell::Double(value) if value.is_nan() => long(0x7ff8_0000_0000_0000),
        Cell::Double(value) => long((value + 0.0).to_bits().cast_signed()),
        Cell::Decimal(value, precision, _) => match i64::try_from(value) {
            Ok(value) if precision <= LONG_DIGITS_MAX => long(value),
            _ => murmur::spark(&to_java_bytes(value), seed),
        },
        Cell::Text(bytes) | Cell::Binary(bytes) => murmur::spark(bytes, seed),
    }
}
