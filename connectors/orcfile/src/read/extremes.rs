//! The least and greatest values of parts of a column, as the file's statistics say, in the column's Arrow type.
//!
//! What is not known for certain is null, and a reader takes such a part. Floats are left out: writers pass over NaN, which a
//! condition may ask for.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Int64Array, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, TimeUnit};
use lakehead_core::Result;

use crate::schema::kind;
use crate::wire::{Fields, Wire, unzigzag};
use crate::write::WRITER;

/// Milliseconds by which the bounds of a time are widened: they are cut to milliseconds.
const CUT_MILLIS: i64 = 1;
/// The same for what a clock on a wall shows, as others write it: their clocks may have stood in any zone.
const ZONE_MILLIS: i64 = 25 * 3600 * 1000;
/// Java's writer before this version took another part's text for a bound (HIVE-8732).
const TRUE_TEXTS_VERSION: u64 = 1;
/// The number of Java's writer.
const JAVA: u64 = 0;

/// Per part of a column the least value, the greatest value and how many are null.
pub(super) type Extremes = [ArrayRef; 3];

/// A part of a column: the message of its statistics, where there is one, and its rows.
pub(super) type Part<'a> = (Option<&'a [u8]>, u64);

/// What a message says.
#[derive(Debug, Default)]
struct Stats {
    /// Values that are not null.
    count: Option<u64>,
    whole: Bounds<i64>,
    text: Bounds<String>,
    decimal: Bounds<String>,
    /// In milliseconds since 1970.
    time: Bounds<i64>,
    trues: Option<u64>,
}

type Bounds<T> = (Option<T>, Option<T>);

/// Returns what the statistics say of parts of a column; none where nothing can be known of its type.
pub(super) fn read(field: &Field, orc_kind: u64, writer: (u64, u64), parts: &[Part<'_>]) -> Result<Option<Extremes>> {
    let stats = parts.iter().map(|(message, _)| message.map_or_else(|| Ok(Stats::default()), parse));
    let stats = stats.collect::<Result<Vec<Stats>>>()?;
    let Some((least, greatest)) = bounds(field.data_type(), orc_kind, writer, &stats)? else { return Ok(None) };
    let nulls = |((_, rows), stats): (&Part<'_>, &Stats)| rows.checked_sub(stats.count?);
    let nulls: UInt64Array = parts.iter().zip(&stats).map(nulls).collect();
    Ok(Some([least, greatest, Arc::new(nulls)]))
}

fn bounds(
    data_type: &DataType,
    orc_kind: u64,
    writer: (u64, u64),
    stats: &[Stats],
) -> Result<Option<(ArrayRef, ArrayRef)>> {
    Ok(match data_type {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Date32 => {
            let whole = |values: Vec<Option<i64>>| -> Result<ArrayRef> {
                let values: ArrayRef = Arc::new(Int64Array::from(values));
                match data_type {
                    DataType::Date32 => Ok(cast(&cast(&values, &DataType::Int32)?, data_type)?),
                    _ => Ok(cast(&values, data_type)?),
                }
            };
            let (least, greatest) = stats.iter().map(|stats| stats.whole).unzip();
            Some((whole(least)?, whole(greatest)?))
        }
        DataType::Boolean => {
            let least = stats.iter().map(|stats| Some(stats.trues? == stats.count?)).collect::<BooleanArray>();
            let greatest = stats.iter().map(|stats| Some(stats.trues? > 0)).collect::<BooleanArray>();
            Some((Arc::new(least), Arc::new(greatest)))
        }
        // The values of CHAR are padded.
        DataType::Utf8 if orc_kind != kind::CHAR && (writer.0 != JAVA || writer.1 >= TRUE_TEXTS_VERSION) => {
            let least = stats.iter().map(|stats| stats.text.0.as_deref()).collect::<StringArray>();
            let greatest = stats.iter().map(|stats| stats.text.1.as_deref()).collect::<StringArray>();
            Some((Arc::new(least), Arc::new(greatest)))
        }
        DataType::Decimal128(precision, scale) => {
            let decimals = |values: Vec<Option<i128>>| -> Result<ArrayRef> {
                Ok(Arc::new(Decimal128Array::from(values).with_precision_and_scale(*precision, *scale)?))
            };
            let digits = |text: &Option<String>| text.as_deref().and_then(|text| unscaled(text, *scale));
            let both = stats.iter().map(|stats| (digits(&stats.decimal.0), digits(&stats.decimal.1)));
            let (least, greatest) = both.unzip();
            Some((decimals(least)?, decimals(greatest)?))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let room = if zone.is_some() || writer.0 == WRITER { CUT_MILLIS } else { ZONE_MILLIS };
            let micros = |millis: Option<i64>, room: i64| millis?.checked_add(room)?.checked_mul(1000);
            let times = |values: Vec<Option<i64>>| -> ArrayRef {
                Arc::new(TimestampMicrosecondArray::from(values).with_timezone_opt(zone.clone()))
            };
            let both = stats.iter().map(|stats| (micros(stats.time.0, -room), micros(stats.time.1, room)));
            let (least, greatest) = both.unzip();
            Some((times(least), times(greatest)))
        }
        _ => None,
    })
}

fn parse(message: &[u8]) -> Result<Stats> {
    let mut stats = Stats::default();
    let mut fields = Fields(message);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => stats.count = Some(value.number()?),
            2 | 7 => stats.whole = signed(value.bytes()?, [1, 2])?,
            4 => stats.text = texts(value.bytes()?)?,
            5 => stats.trues = first_number(value.bytes()?)?,
            6 => stats.decimal = texts(value.bytes()?)?,
            9 => stats.time = signed(value.bytes()?, [3, 4])?,
            _ => {}
        }
    }
    Ok(stats)
}

fn signed(message: &[u8], [least, greatest]: [u64; 2]) -> Result<Bounds<i64>> {
    let mut bounds = (None, None);
    let mut fields = Fields(message);
    while let Some((field, value)) = fields.next()? {
        if field == least {
            bounds.0 = Some(unzigzag(value.number()?));
        } else if field == greatest {
            bounds.1 = Some(unzigzag(value.number()?));
        }
    }
    Ok(bounds)
}

/// Returns bounds that are whole, or texts below and above them.
fn texts(message: &[u8]) -> Result<Bounds<String>> {
    let mut bounds = (None, None);
    let mut fields = Fields(message);
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (1 | 4, Wire::Bytes(_)) => bounds.0 = Some(value.text()?),
            (2 | 5, Wire::Bytes(_)) => bounds.1 = Some(value.text()?),
            _ => {}
        }
    }
    Ok(bounds)
}

fn first_number(message: &[u8]) -> Result<Option<u64>> {
    let mut numbers = Vec::new();
    let mut fields = Fields(message);
    while let Some((field, value)) = fields.next()? {
        if field == 1 {
            value.numbers(&mut numbers)?;
        }
    }
    Ok(numbers.first().copied())
}

/// Returns the digits of a decimal with so many behind the point; none where it has more.
fn unscaled(text: &str, scale: i8) -> Option<i128> {
    let (is_negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let scale = usize::try_from(scale).ok().filter(|scale| fraction.len() <= *scale)?;
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || digits.is_empty() {
        return None;
    }
    let value: i128 = format!("0{whole}{fraction:0<scale$}").parse().ok()?;
    Some(if is_negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_as_others_write_them() {
        for (text, scale, digits) in [
            ("12.5", 2, Some(1250)),
            ("-0.05", 2, Some(-5)),
            ("7", 0, Some(7)),
            ("7.000", 1, Some(70)),
            ("7.001", 2, None),
            ("1E3", 2, None),
            ("", 2, None),
        ] {
            assert_eq!(unscaled(text, scale), digits, "{text}");
        }
    }

    #[test]
    fn what_a_message_does_not_say_is_unknown() {
        for data_type in [
            DataType::Int8,
            DataType::Date32,
            DataType::Utf8,
            DataType::Boolean,
            DataType::Decimal128(9, 2),
            DataType::Timestamp(TimeUnit::Microsecond, None),
        ] {
            let field = Field::new("a", data_type, true);
            let found = read(&field, kind::LONG, (WRITER, 9), &[(None, 5), (Some(&[]), 5)]).unwrap().unwrap();
            assert!(found.iter().all(|array| array.len() == 2 && array.null_count() == 2), "{field}");
        }
        let float = Field::new("a", DataType::Float64, true);
        assert!(read(&float, kind::DOUBLE, (WRITER, 9), &[(None, 5)]).unwrap().is_none());
    }
}
