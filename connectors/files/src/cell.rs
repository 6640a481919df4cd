//! Values as files write them, to values of a declared type. What does not fit exactly does not fit.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int16Array,
    Int32Array, Int64Array, ListArray, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, TimeUnit};
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use lakehead_core::{Error, Result};
use serde_json::Value;

/// Days between 0001-01-01, which chrono counts from, and 1970-01-01.
const EPOCH_DAYS: i32 = 719_163;

/// One value. Dates, times and decimals are the whole numbers that Arrow holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    Null,
    Bool(bool),
    Whole(i128),
    Double(f64),
    Text(Cow<'a, str>),
    Bytes(Vec<u8>),
    List(Vec<Cell<'a>>),
}

impl Cell<'_> {
    /// Returns the same value, of its own.
    pub(crate) fn into_owned(self) -> Cell<'static> {
        match self {
            Self::Null => Cell::Null,
            Self::Bool(value) => Cell::Bool(value),
            Self::Whole(number) => Cell::Whole(number),
            Self::Double(number) => Cell::Double(number),
            Self::Text(text) => Cell::Text(Cow::Owned(text.into_owned())),
            Self::Bytes(bytes) => Cell::Bytes(bytes),
            Self::List(items) => Cell::List(items.into_iter().map(Cell::into_owned).collect()),
        }
    }
}

/// Reads a text, such as the cell of a CSV file; `None` where it is no value of the type.
pub(crate) fn from_text<'a>(data_type: &DataType, text: &'a str) -> Option<Cell<'a>> {
    if !matches!(data_type, DataType::Utf8 | DataType::Binary) && text.trim().is_empty() {
        return Some(Cell::Null);
    }
    let trimmed = text.trim();
    match data_type {
        DataType::Utf8 => Some(Cell::Text(text.into())),
        DataType::Binary => match text.strip_prefix("\\x") {
            Some(hex) => hex_bytes(hex).map(Cell::Bytes),
            None => Some(Cell::Bytes(text.as_bytes().to_vec())),
        },
        DataType::Boolean => {
            let is = |words: [&str; 3]| words.iter().any(|word| trimmed.eq_ignore_ascii_case(word));
            let found = if is(["true", "t", "1"]) { Some(true) } else { is(["false", "f", "0"]).then_some(false) };
            found.map(Cell::Bool)
        }
        DataType::Int16 => whole(trimmed, i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => whole(trimmed, i32::MIN.into(), i32::MAX.into()),
        DataType::Int64 => whole(trimmed, i64::MIN.into(), i64::MAX.into()),
        DataType::Float32 | DataType::Float64 => trimmed.parse().ok().map(Cell::Double),
        DataType::Decimal128(precision, scale) => {
            let scale = u8::try_from(*scale).ok()?;
            short_decimal(trimmed, *precision, scale).or_else(|| decimal(trimmed, *precision, scale)).map(Cell::Whole)
        }
        DataType::Date32 => date(trimmed).map(|days| Cell::Whole(days.into())),
        DataType::Time64(TimeUnit::Microsecond) => time(trimmed).map(|at| Cell::Whole(at.into())),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let (at, has_offset) = timestamp(trimmed)?;
            (zone.is_some() || !has_offset).then_some(Cell::Whole(at.into()))
        }
        DataType::List(_) => from_json(data_type, &serde_json::from_str(trimmed).ok()?).map(Cell::into_owned),
        _ => None,
    }
}

/// Reads a JSON value; `None` where it is no value of the type. Numbers are read from their digits, never by way of a
/// double.
pub(crate) fn from_json<'a>(data_type: &DataType, value: &'a Value) -> Option<Cell<'a>> {
    match (data_type, value) {
        (_, Value::Null) => Some(Cell::Null),
        (DataType::Utf8, Value::String(text)) => Some(Cell::Text(text.into())),
        (DataType::Utf8, other) => Some(Cell::Text(other.to_string().into())),
        (DataType::Boolean, Value::Bool(value)) => Some(Cell::Bool(*value)),
        (DataType::List(item), Value::Array(items)) => {
            items.iter().map(|value| from_json(item.data_type(), value)).collect::<Option<_>>().map(Cell::List)
        }
        (DataType::Boolean | DataType::List(_), _) => None,
        (_, Value::String(text)) if !text.is_empty() || *data_type == DataType::Binary => from_text(data_type, text),
        (
            DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Float32
            | DataType::Float64
            | DataType::Decimal128(..),
            Value::Number(number),
        ) => from_text(data_type, &number.to_string()).map(Cell::into_owned),
        _ => None,
    }
}

fn whole(text: &str, least: i128, greatest: i128) -> Option<Cell<'static>> {
    let number = match short_decimal(text, 18, 0) {
        Some(number) => number,
        None => decimal(text, 38, 0)?,
    };
    (least..=greatest).contains(&number).then_some(Cell::Whole(number))
}

/// Reads a number of few digits as [`decimal`] does; `None` where that is to be asked.
fn short_decimal(text: &str, precision: u8, scale: u8) -> Option<i128> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 17 || digits[0] == b'.' {
        return None;
    }
    let (mut number, mut behind) = (0_i64, None);
    for byte in digits {
        match byte {
            b'0'..=b'9' => number = number * 10 + i64::from(byte - b'0'),
            b'.' if behind.is_none() => {
                behind = Some(0_u8);
                continue;
            }
            _ => return None,
        }
        behind = behind.map(|digits| digits + 1);
    }
    let more = scale.checked_sub(behind.unwrap_or(0))?;
    let number = i128::from(number) * 10i128.checked_pow(more.into())?;
    (number < 10i128.checked_pow(precision.into())?).then_some(if negative { -number } else { number })
}

/// Reads a decimal number exactly, as the whole number of its smallest units; digits that the scale cannot hold make
/// it no number of that type, except zeros.
pub(crate) fn decimal(text: &str, precision: u8, scale: u8) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (before, after) = digits.split_once('.').unwrap_or((digits, ""));
    if (before.is_empty() && after.is_empty()) || !before.bytes().chain(after.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut number: i128 = 0;
    for digit in before.bytes().chain(after.bytes()) {
        number = number.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    // The number is `number * 10^shift` smallest units.
    let shift = i32::from(scale).checked_add(exponent)?.checked_sub(i32::try_from(after.len()).ok()?)?;
    for _ in 0..shift.max(0) {
        if number == 0 {
            break;
        }
        number = number.checked_mul(10)?;
    }
    for _ in shift.min(0)..0 {
        if number % 10 != 0 {
            return None;
        }
        if number == 0 {
            break;
        }
        number /= 10;
    }
    let bound = 10i128.checked_pow(precision.into())?;
    (number < bound).then_some(if negative { -number } else { number })
}

/// Reads the usual form of a time of UTC as [`timestamp`] does; `None` where that is to be asked.
fn usual_timestamp(text: &str) -> Option<i64> {
    crate::scan::timestamp(text.as_bytes(), 0).filter(|(_, end)| *end == text.len()).map(|(micros, _)| micros)
}

fn date(text: &str) -> Option<i32> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(chrono::Datelike::num_days_from_ce(&date) - EPOCH_DAYS)
}

fn time(text: &str) -> Option<i64> {
    let time = NaiveTime::parse_from_str(text, "%H:%M:%S%.f").ok()?;
    Some(i64::from(time.num_seconds_from_midnight()) * 1_000_000 + i64::from(time.nanosecond() / 1000))
}

/// Reads RFC 3339, or `YYYY-MM-DD HH:MM:SS[.f][+hh[:mm]]`; without an offset it is UTC. Also says whether there was one.
pub(crate) fn timestamp(text: &str) -> Option<(i64, bool)> {
    if let Some(at) = usual_timestamp(text) {
        return Some((at, true));
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some((time.timestamp_micros(), true));
    }
    let clock_at = text.find(['T', 't', ' '])? + 1;
    let offset_at = text[clock_at..].find(['+', '-', 'Z', 'z']).map(|at| clock_at + at);
    let (local, offset) = text.split_at(offset_at.unwrap_or(text.len()));
    let (local, has_offset) = (local.trim_end(), !offset.is_empty());
    let format = if local.contains(' ') { "%Y-%m-%d %H:%M:%S%.f" } else { "%Y-%m-%dT%H:%M:%S%.f" };
    let at = NaiveDateTime::parse_from_str(local, format).ok()?.and_utc().timestamp_micros();
    Some((at.checked_sub(offset_micros(offset)?)?, has_offset))
}

fn offset_micros(offset: &str) -> Option<i64> {
    let sign = match offset.chars().next() {
        None | Some('Z' | 'z') => return (offset.len() <= 1).then_some(0),
        Some('-') => -1,
        _ => 1,
    };
    let digits: String = offset[1..].chars().filter(|char| *char != ':').collect();
    if !matches!(digits.len(), 2 | 4) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let hours: i64 = digits[..2].parse().ok()?;
    let minutes: i64 = if digits.len() == 4 { digits[2..].parse().ok()? } else { 0 };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60_000_000)
}

fn hex_bytes(hex: &str) -> Option<Vec<u8>> {
    if !hex.len().is_multiple_of(2) || !hex.is_ascii() {
        return None;
    }
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok()).collect()
}

/// Makes a column of cells that were read for its type.
pub(crate) fn to_array(data_type: &DataType, cells: Vec<Cell<'_>>) -> Result<ArrayRef> {
    let wholes = || cells.iter().map(|cell| if let Cell::Whole(n) = cell { Some(*n) } else { None });
    let doubles = || cells.iter().map(|cell| if let Cell::Double(n) = cell { Some(*n) } else { None });
    let narrow = |number: i128| i64::try_from(number).unwrap_or_default();
    Ok(match data_type {
        DataType::Boolean => {
            let value = |cell: &Cell<'_>| if let Cell::Bool(value) = cell { Some(*value) } else { None };
            Arc::new(cells.iter().map(value).collect::<BooleanArray>())
        }
        DataType::Int16 => {
            Arc::new(wholes().map(|n| n.map(|n| i16::try_from(n).unwrap_or_default())).collect::<Int16Array>())
        }
        DataType::Int32 => {
            Arc::new(wholes().map(|n| n.map(|n| i32::try_from(n).unwrap_or_default())).collect::<Int32Array>())
        }
        DataType::Int64 => Arc::new(wholes().map(|n| n.map(narrow)).collect::<Int64Array>()),
        DataType::Float32 => Arc::new(doubles().map(|n| n.map(|n| n as f32)).collect::<Float32Array>()),
        DataType::Float64 => Arc::new(doubles().collect::<Float64Array>()),
        DataType::Decimal128(precision, scale) => {
            Arc::new(wholes().collect::<Decimal128Array>().with_precision_and_scale(*precision, *scale)?)
        }
        DataType::Date32 => {
            Arc::new(wholes().map(|n| n.map(|n| i32::try_from(n).unwrap_or_default())).collect::<Date32Array>())
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            Arc::new(wholes().map(|n| n.map(narrow)).collect::<Time64MicrosecondArray>())
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let values: TimestampMicrosecondArray = wholes().map(|n| n.map(narrow)).collect();
            Arc::new(values.with_timezone_opt(zone.clone()))
        }
        DataType::Utf8 => {
            let texts = cells.iter().map(|cell| if let Cell::Text(text) = cell { Some(text.as_ref()) } else { None });
            Arc::new(texts.collect::<StringArray>())
        }
        DataType::Binary => {
            let value = |cell: Cell<'_>| if let Cell::Bytes(bytes) = cell { Some(bytes) } else { None };
            Arc::new(cells.into_iter().map(value).collect::<BinaryArray>())
        }
        DataType::List(item) => lists(item, cells)?,
        other => return Err(unreadable_type(other)),
    })
}

fn lists(item: &arrow::datatypes::FieldRef, cells: Vec<Cell<'_>>) -> Result<ArrayRef> {
    let (mut elements, mut lengths, mut valid) = (Vec::new(), Vec::new(), Vec::new());
    for cell in cells {
        let items = if let Cell::List(items) = cell { Some(items) } else { None };
        valid.push(items.is_some());
        lengths.push(items.as_ref().map_or(0, Vec::len));
        elements.extend(items.into_iter().flatten());
    }
    let values = to_array(item.data_type(), elements)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, Some(NullBuffer::from(valid)))?))
}

/// Refuses a declared type that no file can be read into.
pub(crate) fn unreadable_type(data_type: &DataType) -> Error {
    Error::user("R0603", "files cannot be read into a column of this type")
        .with("type", lakehead_core::column_type_name(data_type))
}

#[cfg(test)]
mod tests {
    use lakehead_core::{parse_column_type, parse_micros};

    use super::*;

    fn read<'a>(type_name: &str, text: &'a str) -> Option<Cell<'a>> {
        from_text(&parse_column_type(type_name).unwrap(), text)
    }

    #[test]
    fn the_short_ways_come_to_what_the_long_ones_do() {
        let texts = [
            "0",
            "-0",
            "7",
            "-12.50",
            "12.505",
            "5.",
            ".5",
            "-.5",
            "1.",
            "-",
            ".",
            "1..2",
            "1e3",
            "+1",
            "99999999999999999",
            "123456789012345678",
            "0.000",
            "000012",
            "12345678901.1",
            "9999999999.99",
            "10000000000",
            "1 2",
        ];
        for text in texts {
            for (precision, scale) in [(12, 2), (18, 0), (5, 3), (38, 10)] {
                let short = short_decimal(text, precision, scale);
                assert!(short.is_none() || short == decimal(text, precision, scale), "{text} ({precision}, {scale})");
            }
        }
        assert_eq!(short_decimal("-12.50", 12, 2), Some(-1250));
        for text in [
            "2026-01-31T23:59:59Z",
            "2024-02-29T00:00:00.5Z",
            "1969-12-31T23:59:59.999999Z",
            "0001-01-01T00:00:00Z",
            "9999-12-31T00:00:00.001Z",
            "2000-02-29T12:00:00Z",
            "1900-03-01T00:00:00Z",
            "2026-10-05T07:08:09.12Z",
        ] {
            let long = DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros();
            assert_eq!(usual_timestamp(text), Some(long), "{text}");
        }
        for text in [
            "2026-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:60Z",
            "2026-01-01T00:00:00+00:00",
            "2026-01-01 00:00:00Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00.1234567Z",
            "Z",
            "2026-01-01T00:00:0\u{e9}Z",
        ] {
            assert_eq!(usual_timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn decimals_are_exact_or_do_not_fit() {
        for (text, expected) in [
            ("9.50", Some(950)),
            ("-0.01", Some(-1)),
            ("9.500", Some(950)),
            ("9.501", None),
            ("1e3", Some(100_000)),
            ("12.5e-1", Some(125)),
            ("9999999999.99", Some(999_999_999_999)),
            ("10000000000.00", None),
            ("0e99999", Some(0)),
            ("1e99999", None),
            (".", None),
            ("1,5", None),
            ("NaN", None),
        ] {
            assert_eq!(read("decimal(12, 2)", text), expected.map(Cell::Whole), "{text}");
        }
        let big = "12345678901234567890.123456789012345678";
        assert_eq!(read("decimal(38, 18)", big), Some(Cell::Whole(12_345_678_901_234_567_890_123_456_789_012_345_678)));
        let json: Value = serde_json::from_str("0.1000000000000000055").unwrap();
        let data_type = parse_column_type("decimal(38, 19)").unwrap();
        assert_eq!(from_json(&data_type, &json), Some(Cell::Whole(1_000_000_000_000_000_055)));
    }

    #[test]
    fn times_are_read_with_any_offset_and_without_one_as_utc() {
        let expected = parse_micros("2026-05-01T10:00:00.5Z").unwrap();
        for text in [
            "2026-05-01T10:00:00.5Z",
            "2026-05-01T12:00:00.500+02:00",
            "2026-05-01 10:00:00.5",
            "2026-05-01 12:00:00.5+02",
            "2026-05-01 12:00:00.5+02:00",
            "2026-05-01 05:30:00.5 -0430",
        ] {
            assert_eq!(read("timestamptz", text), Some(Cell::Whole(expected.into())), "{text}");
        }
        for text in ["2026-05-01", "2026-13-01 10:00:00", "2026-05-01 10:00:00+2", "yesterday", "1777629600"] {
            assert_eq!(read("timestamptz", text), None, "{text}");
        }
        assert_eq!(read("timestamp", "2026-05-01T10:00:00Z"), None);
        assert_eq!(read("date", "1970-01-02"), Some(Cell::Whole(1)));
        assert_eq!(read("time", "00:00:01.5"), Some(Cell::Whole(1_500_000)));
    }

    #[test]
    fn what_does_not_fit_its_type_is_no_value() {
        for (type_name, text) in [
            ("bigint", "12x"),
            ("bigint", "9223372036854775808"),
            ("smallint", "40000"),
            ("bigint", "1.5"),
            ("bool", "maybe"),
            ("date", "2026-02-30"),
        ] {
            assert_eq!(read(type_name, text), None, "{type_name} {text}");
        }
        assert_eq!(read("bigint", ""), Some(Cell::Null));
        assert_eq!(read("bytea", "\\x0aff"), Some(Cell::Bytes(vec![10, 255])));
        let list = parse_column_type("list(bigint)").unwrap();
        assert_eq!(from_json(&list, &serde_json::json!([1, null])), Some(Cell::List(vec![Cell::Whole(1), Cell::Null])));
        assert_eq!(from_json(&list, &serde_json::json!([1, "x"])), None);
        assert_eq!(from_json(&DataType::Boolean, &serde_json::json!("true")), None);
        to_array(&list, vec![Cell::Null, Cell::List(vec![Cell::Whole(1)])]).unwrap();
    }
}
