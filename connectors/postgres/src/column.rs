//! Column builders: a binary value of the server goes straight into Arrow memory.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder,
    Int16Builder, Int32Builder, Int64Builder, ListArray, StringBuilder, Time64MicrosecondBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use lakehead_core::{Error, Result};

use crate::fault;
use crate::numeric::{self, NumericFault};
use crate::type_map::Kind;

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL begins to count.
const EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
pub(crate) const EPOCH_MICROS: i64 = 946_684_800_000_000;
const DAY_MICROS: i64 = 86_400_000_000;

/// Why a value has no place in its column. Never the value itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueFault {
    /// A NUMERIC that is no decimal of the column.
    Numeric(NumericFault),
    /// `infinity` or `-infinity` of a date or timestamp.
    Infinite,
    /// A date, time or timestamp outside the lake's range.
    OutOfRange,
    /// Text that is not UTF-8.
    NotUtf8,
    /// An array of more than one dimension.
    Dimensions,
    /// An array whose first index is not 1.
    Bounds,
    /// Bytes that are no value of the type.
    Malformed,
}

impl ValueFault {
    /// Returns the error for a column of a table that is read.
    pub(crate) fn in_column(self, table: &str, column: &str) -> Error {
        self.error(table, column, POLICY)
    }

    /// Returns the error for a column in a change of a table: the log holds it, whatever becomes of the row.
    pub(crate) fn in_change(self, table: &str, column: &str) -> Error {
        self.error(table, column, CHANGE_POLICY)
    }

    fn error(self, table: &str, column: &str, policy: &'static str) -> Error {
        let (what, help) = match self {
            Self::Numeric(NumericFault::NotANumber) => ("NaN, which no decimal holds", policy),
            Self::Numeric(NumericFault::Infinite) => ("Infinity, which no decimal holds", policy),
            Self::Numeric(NumericFault::TooWide) => ("a number with more digits than its type has room for", policy),
            Self::Infinite => ("infinity, which no date or timestamp of the lake holds", policy),
            Self::OutOfRange => ("a time outside the range of the lake", policy),
            Self::NotUtf8 => ("text that is not UTF-8", "convert the database to the encoding UTF8"),
            Self::Dimensions => ("an array of more than one dimension, which is no list", policy),
            Self::Bounds => ("an array that does not begin at index 1, which no list holds", policy),
            Self::Numeric(NumericFault::Malformed) | Self::Malformed => {
                ("bytes that are no value of its type", "report this; it is either a fault of ours or of the server")
            }
        };
        Error::incident(fault::VALUE, format!("column `{column}` of `{table}` holds {what}"))
            .with("table", table)
            .with("column", column)
            .help(help)
    }
}

const POLICY: &str = "correct the row in the source, leave the column out with `exclude_columns`, or read the table \
                      with `capture = query` and a cast";

const CHANGE_POLICY: &str = "the log holds the change for good: leave the column out with `exclude_columns`, or correct \
                             the row in the source and read the tables anew: lakehead resync PIPELINE";

/// A column while it is filled.
#[derive(Debug)]
pub(crate) enum Column {
    Bool(BooleanBuilder),
    Int2(Int16Builder),
    Int4(Int32Builder),
    Int8(Int64Builder),
    Float4(Float32Builder),
    Float8(Float64Builder),
    Decimal(Decimal128Builder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    List { item: FieldRef, ends: Vec<i32>, valid: Vec<bool>, values: Box<Column> },
}

impl Column {
    /// Creates the builder of a type; `None` for a type that no [`Kind`] has.
    pub(crate) fn new(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => Self::Bool(BooleanBuilder::new()),
            DataType::Int16 => Self::Int2(Int16Builder::new()),
            DataType::Int32 => Self::Int4(Int32Builder::new()),
            DataType::Int64 => Self::Int8(Int64Builder::new()),
            DataType::Float32 => Self::Float4(Float32Builder::new()),
            DataType::Float64 => Self::Float8(Float64Builder::new()),
            DataType::Decimal128(..) => Self::Decimal(Decimal128Builder::new().with_data_type(data_type.clone())),
            DataType::Utf8 => Self::Text(StringBuilder::new()),
            DataType::Binary => Self::Bytes(BinaryBuilder::new()),
            DataType::Date32 => Self::Date(Date32Builder::new()),
            DataType::Time64(TimeUnit::Microsecond) => Self::Time(Time64MicrosecondBuilder::new()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Self::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(data_type.clone()))
            }
            DataType::List(item) => Self::List {
                item: Arc::clone(item),
                ends: Vec::new(),
                valid: Vec::new(),
                values: Box::new(Self::new(item.data_type())?),
            },
            _ => return None,
        })
    }

    /// Appends NULL.
    pub(crate) fn append_null(&mut self) {
        match self {
            Self::Bool(column) => column.append_null(),
            Self::Int2(column) => column.append_null(),
            Self::Int4(column) => column.append_null(),
            Self::Int8(column) => column.append_null(),
            Self::Float4(column) => column.append_null(),
            Self::Float8(column) => column.append_null(),
            Self::Decimal(column) => column.append_null(),
            Self::Text(column) => column.append_null(),
            Self::Bytes(column) => column.append_null(),
            Self::Date(column) => column.append_null(),
            Self::Time(column) => column.append_null(),
            Self::Timestamp(column) => column.append_null(),
            Self::List { ends, valid, .. } => {
                ends.push(ends.last().copied().unwrap_or(0));
                valid.push(false);
            }
        }
    }

    /// Appends a value in the binary format of its type.
    pub(crate) fn append(&mut self, kind: &Kind, bytes: &[u8]) -> Result<(), ValueFault> {
        match (self, kind) {
            (Self::Int4(column), Kind::Int4) => {
                column.append_value(i32::from_be_bytes(exact(bytes)?));
            }
            (Self::Int8(column), Kind::Int8) => {
                column.append_value(i64::from_be_bytes(exact(bytes)?));
            }
            (Self::Text(column), Kind::Text | Kind::Json) => column.append_value(utf8(bytes)?),
            (Self::Bool(column), Kind::Bool) => column.append_value(exact::<1>(bytes)? != [0]),
            (Self::Int2(column), Kind::Int2) => {
                column.append_value(i16::from_be_bytes(exact(bytes)?));
            }
            (Self::Float4(column), Kind::Float4) => {
                column.append_value(f32::from_bits(u32::from_be_bytes(exact(bytes)?)));
            }
            (Self::Float8(column), Kind::Float8) => {
                column.append_value(f64::from_bits(u64::from_be_bytes(exact(bytes)?)));
            }
            (Self::Decimal(column), Kind::Numeric { precision, scale }) => {
                column.append_value(numeric::decode(bytes, *precision, *scale).map_err(ValueFault::Numeric)?);
            }
            (Self::Bytes(column), Kind::Bytea) => column.append_value(bytes),
            (Self::Date(column), Kind::Date) => {
                column.append_value(date(i32::from_be_bytes(exact(bytes)?))?);
            }
            (Self::Time(column), Kind::Time) => {
                column.append_value(time(i64::from_be_bytes(exact(bytes)?))?);
            }
            (Self::Timestamp(column), Kind::Timestamp | Kind::TimestampTz) => {
                column.append_value(timestamp(i64::from_be_bytes(exact(bytes)?))?);
            }
            (Self::Text(column), Kind::Uuid) => {
                let text = uuid(exact(bytes)?);
                column.append_value(utf8(&text)?);
            }
            (Self::Text(column), Kind::Jsonb) => {
                let text = bytes.strip_prefix(&[1]).ok_or(ValueFault::Malformed)?;
                column.append_value(utf8(text)?);
            }
            (Self::List { ends, valid, values, .. }, Kind::Array(item)) => {
                let count = array_items(bytes, item, values)?;
                ends.push(ends.last().copied().unwrap_or(0) + count);
                valid.push(true);
            }
            _ => return Err(ValueFault::Malformed),
        }
        Ok(())
    }

    /// Appends a value in text form, which the server sends only for a type without a binary form.
    pub(crate) fn append_text(&mut self, kind: &Kind, bytes: &[u8]) -> Result<(), ValueFault> {
        match kind {
            Kind::Text | Kind::Json => self.append(kind, bytes),
            _ => Err(ValueFault::Malformed),
        }
    }

    /// Returns the array and starts the next one.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef> {
        Ok(match self {
            Self::Bool(column) => Arc::new(column.finish()),
            Self::Int2(column) => Arc::new(column.finish()),
            Self::Int4(column) => Arc::new(column.finish()),
            Self::Int8(column) => Arc::new(column.finish()),
            Self::Float4(column) => Arc::new(column.finish()),
            Self::Float8(column) => Arc::new(column.finish()),
            Self::Decimal(column) => Arc::new(column.finish()),
            Self::Text(column) => Arc::new(column.finish()),
            Self::Bytes(column) => Arc::new(column.finish()),
            Self::Date(column) => Arc::new(column.finish()),
            Self::Time(column) => Arc::new(column.finish()),
            Self::Timestamp(column) => Arc::new(column.finish()),
            Self::List { item, ends, valid, values } => {
                let offsets: Vec<i32> = std::iter::once(0).chain(ends.drain(..)).collect();
                let nulls = NullBuffer::from(std::mem::take(valid));
                let offsets = OffsetBuffer::new(offsets.into());
                Arc::new(ListArray::try_new(Arc::clone(item), offsets, values.finish()?, Some(nulls))?)
            }
        })
    }
}

fn exact<const N: usize>(bytes: &[u8]) -> Result<[u8; N], ValueFault> {
    bytes.try_into().map_err(|_| ValueFault::Malformed)
}

fn utf8(bytes: &[u8]) -> Result<&str, ValueFault> {
    std::str::from_utf8(bytes).map_err(|_| ValueFault::NotUtf8)
}

fn date(days: i32) -> Result<i32, ValueFault> {
    match days {
        i32::MIN | i32::MAX => Err(ValueFault::Infinite),
        _ => days.checked_add(EPOCH_DAYS).ok_or(ValueFault::OutOfRange),
    }
}

/// 24:00:00 is a time in PostgreSQL and nowhere else.
fn time(micros: i64) -> Result<i64, ValueFault> {
    if (0..DAY_MICROS).contains(&micros) { Ok(micros) } else { Err(ValueFault::OutOfRange) }
}

fn timestamp(micros: i64) -> Result<i64, ValueFault> {
    match micros {
        i64::MIN | i64::MAX => Err(ValueFault::Infinite),
        _ => micros.checked_add(EPOCH_MICROS).ok_or(ValueFault::OutOfRange),
    }
}

fn uuid(bytes: [u8; 16]) -> [u8; 36] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 15)];
        at += 2;
    }
    text
}

/// Appends the items of a binary array and returns how many there were.
fn array_items(bytes: &[u8], item: &Kind, values: &mut Column) -> Result<i32, ValueFault> {
    let mut rest = bytes;
    let mut word = || {
        let (head, tail) = rest.split_first_chunk::<4>().ok_or(ValueFault::Malformed)?;
        rest = tail;
        Ok(i32::from_be_bytes(*head))
    };
    let (dimensions, _has_null, _element) = (word()?, word()?, word()?);
    match dimensions {
        0 => {
            return if rest.is_empty() { Ok(0) } else { Err(ValueFault::Malformed) };
        }
        1 => {}
        _ => return Err(ValueFault::Dimensions),
    }
    let (count, first) = (word()?, word()?);
    if first != 1 {
        return Err(ValueFault::Bounds);
    }
    if count < 0 {
        return Err(ValueFault::Malformed);
    }
    for _ in 0..count {
        let (head, tail) = rest.split_first_chunk::<4>().ok_or(ValueFault::Malformed)?;
        let length = i32::from_be_bytes(*head);
        if length == -1 {
            values.append_null();
            rest = tail;
            continue;
        }
        let length = usize::try_from(length).map_err(|_| ValueFault::Malformed)?;
        let (value, tail) = tail.split_at_checked(length).ok_or(ValueFault::Malformed)?;
        values.append(item, value)?;
        rest = tail;
    }
    if rest.is_empty() { Ok(count) } else { Err(ValueFault::Malformed) }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Int32Type;

    use super::*;

    fn array(words: &[i32], items: &[Option<i32>]) -> Vec<u8> {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        for item in items {
            match item {
                Some(value) => bytes.extend([4_i32.to_be_bytes(), value.to_be_bytes()].concat()),
                None => bytes.extend((-1_i32).to_be_bytes()),
            }
        }
        bytes
    }

    #[test]
    fn a_one_dimensional_array_is_a_list_and_any_other_is_refused() {
        let kind = Kind::Array(Box::new(Kind::Int4));
        let mut column = Column::new(&kind.data_type()).unwrap();
        column.append(&kind, &array(&[1, 1, 23, 2, 1], &[Some(7), None])).unwrap();
        column.append_null();
        column.append(&kind, &array(&[0, 0, 23], &[])).unwrap();
        assert_eq!(column.append(&kind, &array(&[2, 0, 23, 1, 1, 1, 1], &[Some(1)])), Err(ValueFault::Dimensions));
        assert_eq!(column.append(&kind, &array(&[1, 0, 23, 1, 2], &[Some(1)])), Err(ValueFault::Bounds));
        assert_eq!(column.append(&kind, &array(&[1, 0, 23, 9, 1], &[Some(1)])), Err(ValueFault::Malformed));
    }

    #[test]
    fn a_list_column_keeps_its_offsets() {
        let kind = Kind::Array(Box::new(Kind::Int4));
        let mut column = Column::new(&kind.data_type()).unwrap();
        column.append(&kind, &array(&[1, 1, 23, 2, 1], &[Some(7), None])).unwrap();
        column.append_null();
        let list = column.finish().unwrap();
        let list = list.as_list::<i32>();
        assert_eq!((list.len(), list.null_count()), (2, 1));
        let first = list.value(0);
        assert_eq!((first.as_primitive::<Int32Type>().value(0), first.is_null(1)), (7, true));
    }

    #[test]
    fn times_that_the_lake_does_not_hold_are_refused_and_never_null() {
        for (kind, bytes, expected) in [
            (Kind::Date, i32::MAX.to_be_bytes().to_vec(), ValueFault::Infinite),
            (Kind::Timestamp, i64::MIN.to_be_bytes().to_vec(), ValueFault::Infinite),
            (Kind::TimestampTz, (i64::MAX - 1).to_be_bytes().to_vec(), ValueFault::OutOfRange),
            (Kind::Time, DAY_MICROS.to_be_bytes().to_vec(), ValueFault::OutOfRange),
            (Kind::Text, vec![0xff], ValueFault::NotUtf8),
            (Kind::Jsonb, b"\x02{}".to_vec(), ValueFault::Malformed),
            (Kind::Int4, vec![0; 3], ValueFault::Malformed),
        ] {
            let mut column = Column::new(&kind.data_type()).unwrap();
            assert_eq!(column.append(&kind, &bytes), Err(expected), "{kind:?}");
        }
    }
}
