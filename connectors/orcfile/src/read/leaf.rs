//! Values without nulls as arrays, type by type.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, PrimitiveArray, StringArray,
};
use arrow::buffer::{BooleanBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, FieldRef, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use lakehead_core::Result;

use super::integer::IntegerRuns;
use super::stream::{BitRuns, ByteRuns, Plain, Position};
use super::stripe::Streams;
use super::zone::Zone;
use crate::fault::{damaged, unfit, unread};
use crate::run::integer::Sign;
use crate::schema::nanos_of;
use crate::write::StreamKind;
use crate::write::time::restore;

/// A dictionary larger than this is refused: it is held whole.
const DICTIONARY_BYTES_MAX: usize = 1 << 30;
/// Texts of a dictionary, which are no more than a stripe's rows.
const DICTIONARY_TEXTS_MAX: usize = 1 << 26;
/// Groups of seven bits in a number of 128.
const WIDE_VARINT_BYTES: u32 = 19;

/// A leaf column: its streams by type.
pub(super) struct Leaf {
    field: FieldRef,
    streams: Of,
}

enum Of {
    Bool(BitRuns),
    Byte(ByteRuns),
    Whole(IntegerRuns),
    Float(Plain),
    Text(Plain, IntegerRuns),
    /// Where each text ends among all of them, and the numbers of texts.
    Dictionary(Vec<usize>, Vec<u8>, IntegerRuns),
    Decimal(Plain, IntegerRuns),
    Time(IntegerRuns, IntegerRuns, Zone),
}

impl Leaf {
    pub(super) fn open(number: u64, field: &FieldRef, streams: &Streams<'_>) -> Result<Self> {
        use StreamKind::{Data, Secondary};
        let streams = match field.data_type() {
            DataType::Boolean => Of::Bool(streams.bits(number)?),
            DataType::Int8 => Of::Byte(streams.bytes(number)?),
            DataType::Float32 | DataType::Float64 => Of::Float(streams.plain(number, Data)?),
            DataType::Utf8 | DataType::Binary => match streams.encoding(number)? {
                (_, None) => Of::Text(streams.plain(number, Data)?, streams.lengths(number)?),
                (_, Some(texts)) => dictionary(number, texts, streams)?,
            },
            DataType::Decimal128(..) => {
                Of::Decimal(streams.plain(number, Data)?, streams.integers(number, Secondary, Sign::Signed)?)
            }
            DataType::Timestamp(_, zone) => {
                // An instant is counted in UTC by every writer.
                let zone = if zone.is_some() { Zone::UTC } else { Zone::of_name(&streams.footer.time_zone)? };
                let nanos = streams.integers(number, Secondary, Sign::Unsigned)?;
                Of::Time(streams.integers(number, Data, Sign::Signed)?, nanos, zone)
            }
            _ => Of::Whole(streams.integers(number, Data, Sign::Signed)?),
        };
        Ok(Self { field: field.clone(), streams })
    }

    /// Returns how many numbers a position of its streams has.
    pub(super) fn position_numbers(&self) -> usize {
        match &self.streams {
            Of::Bool(bits) => bits.position_numbers(),
            Of::Byte(bytes) => bytes.position_numbers(),
            Of::Whole(runs) | Of::Dictionary(_, _, runs) => runs.position_numbers(),
            Of::Float(plain) => plain.position_numbers(),
            Of::Text(plain, runs) | Of::Decimal(plain, runs) => plain.position_numbers() + runs.position_numbers(),
            Of::Time(seconds, nanos, _) => seconds.position_numbers() + nanos.position_numbers(),
        }
    }

    /// Goes to a position.
    pub(super) fn seek(&mut self, position: &mut Position<'_>) -> Result<()> {
        match &mut self.streams {
            Of::Bool(bits) => bits.seek(position),
            Of::Byte(bytes) => bytes.seek(position),
            Of::Whole(runs) | Of::Dictionary(_, _, runs) => runs.seek(position),
            Of::Float(plain) => plain.seek(position),
            Of::Text(plain, runs) | Of::Decimal(plain, runs) => {
                plain.seek(position)?;
                runs.seek(position)
            }
            Of::Time(seconds, nanos, _) => {
                seconds.seek(position)?;
                nanos.seek(position)
            }
        }
    }

    pub(super) fn read(&mut self, count: usize) -> Result<ArrayRef> {
        let name = self.field.name();
        let data_type = self.field.data_type();
        match (&mut self.streams, data_type) {
            (Of::Bool(bits), _) => {
                let values = (0..count).map(|_| bits.next()).collect::<Result<Vec<bool>>>()?;
                Ok(Arc::new(BooleanArray::new(BooleanBuffer::from(values), None)))
            }
            (Of::Byte(bytes), _) => {
                let values = (0..count).map(|_| Ok(bytes.next()?.cast_signed())).collect::<Result<Vec<i8>>>()?;
                Ok(Arc::new(PrimitiveArray::<Int8Type>::new(values.into(), None)))
            }
            (Of::Whole(runs), DataType::Int16) => wholes::<Int16Type>(&runs.take(count)?, name),
            (Of::Whole(runs), DataType::Int32) => wholes::<Int32Type>(&runs.take(count)?, name),
            (Of::Whole(runs), DataType::Date32) => wholes::<Date32Type>(&runs.take(count)?, name),
            (Of::Whole(runs), _) => Ok(Arc::new(PrimitiveArray::<Int64Type>::new(runs.take(count)?.into(), None))),
            (Of::Float(plain), DataType::Float32) => {
                let bytes = exactly(plain, count.saturating_mul(4))?;
                let values: Vec<f32> = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
                Ok(Arc::new(Float32Array::from(values)))
            }
            (Of::Float(plain), _) => {
                let bytes = exactly(plain, count.saturating_mul(8))?;
                let values: Vec<f64> = bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
                Ok(Arc::new(Float64Array::from(values)))
            }
            (Of::Text(plain, lengths), data_type) => {
                let (offsets, total) = text_offsets(lengths.take(count)?.into_iter())?;
                texts(data_type, offsets, exactly(plain, total)?)
            }
            (Of::Dictionary(ends, bytes, numbers), data_type) => {
                from_dictionary(data_type, ends, bytes, &numbers.take(count)?)
            }
            (Of::Decimal(plain, scales), DataType::Decimal128(precision, scale)) => {
                decimals(plain, &scales.take(count)?, (*precision, *scale), name)
            }
            (Of::Time(seconds, nanos, clock), DataType::Timestamp(unit, zone)) => {
                let values = times(&seconds.take(count)?, &nanos.take(count)?, *clock, *unit);
                let values = values.ok_or_else(|| unfit(name, "a time"))?;
                Ok(timestamps(values, *unit, zone.clone()))
            }
            _ => Err(damaged("a column of another type")),
        }
    }
}

fn exactly(plain: &mut Plain, count: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    plain.take(count, &mut bytes)?;
    Ok(bytes)
}

fn wholes<T: ArrowPrimitiveType<Native: TryFrom<i64>>>(values: &[i64], name: &str) -> Result<ArrayRef> {
    let values = values.iter().map(|value| T::Native::try_from(*value).map_err(|_| unfit(name, "a whole number")));
    let values = values.collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(values), None)))
}

fn text_offsets(lengths: impl Iterator<Item = i64>) -> Result<(OffsetBuffer<i32>, usize)> {
    let mut offsets = vec![0i32];
    let mut total = 0i32;
    for length in lengths {
        let length = u32::try_from(length).map_err(|_| damaged("a text of impossible length"))?;
        total = total
            .checked_add_unsigned(length)
            .ok_or_else(|| unread("more than 2 GiB of text in one batch").help("ask for fewer rows in a batch"))?;
        offsets.push(total);
    }
    Ok((OffsetBuffer::new(offsets.into()), total.unsigned_abs() as usize))
}

fn texts(data_type: &DataType, offsets: OffsetBuffer<i32>, bytes: Vec<u8>) -> Result<ArrayRef> {
    if *data_type == DataType::Binary {
        return Ok(Arc::new(BinaryArray::try_new(offsets, bytes.into(), None)?));
    }
    let texts = StringArray::try_new(offsets, bytes.into(), None).map_err(|_| damaged("a text that is not UTF-8"))?;
    Ok(Arc::new(texts))
}

fn dictionary(number: u64, texts: u64, streams: &Streams<'_>) -> Result<Of> {
    let texts = usize::try_from(texts).ok().filter(|texts| *texts <= DICTIONARY_TEXTS_MAX);
    let texts = texts.ok_or_else(|| damaged("a dictionary is too large"))?;
    let mut bytes = Vec::new();
    streams.plain(number, StreamKind::DictionaryData)?.take_rest(DICTIONARY_BYTES_MAX, &mut bytes)?;
    let mut ends = Vec::new();
    let mut end = 0usize;
    for length in streams.lengths(number)?.take(texts)? {
        let length = usize::try_from(length).map_err(|_| damaged("a text of impossible length"))?;
        end = end.checked_add(length).filter(|end| *end <= bytes.len()).ok_or_else(|| damaged("a short dictionary"))?;
        ends.push(end);
    }
    Ok(Of::Dictionary(ends, bytes, streams.integers(number, StreamKind::Data, Sign::Unsigned)?))
}

fn from_dictionary(data_type: &DataType, ends: &[usize], bytes: &[u8], numbers: &[i64]) -> Result<ArrayRef> {
    let text = |number: &i64| -> Option<&[u8]> {
        let number = usize::try_from(*number).ok()?;
        let start = if number == 0 { 0 } else { *ends.get(number - 1)? };
        bytes.get(start..*ends.get(number)?)
    };
    let parts = numbers.iter().map(text).collect::<Option<Vec<_>>>();
    let parts = parts.ok_or_else(|| damaged("a number beyond its dictionary"))?;
    let (offsets, _) = text_offsets(parts.iter().map(|part| part.len() as i64))?;
    texts(data_type, offsets, parts.concat())
}

fn decimals(plain: &mut Plain, scales: &[i64], (precision, scale): (u8, i8), name: &str) -> Result<ArrayRef> {
    let above = 10u128.checked_pow(u32::from(precision)).unwrap_or(u128::MAX);
    let far = || unfit(name, "a decimal");
    let mut values = Vec::new();
    for own in scales {
        let word = plain.wide_varint(WIDE_VARINT_BYTES)?;
        let value = (word >> 1).cast_signed() ^ -((word & 1).cast_signed());
        // Other writers drop zeros at the end, so each value has its own scale; digits that do not fit are no zeros.
        let more = i64::from(scale).checked_sub(*own).ok_or_else(far)?;
        let power = u32::try_from(more.unsigned_abs()).ok().and_then(|digits| 10i128.checked_pow(digits));
        let power = power.ok_or_else(far)?;
        let value = match more {
            0.. => value.checked_mul(power).ok_or_else(far)?,
            _ if value % power == 0 => value / power,
            _ => return Err(far()),
        };
        if value.unsigned_abs() >= above {
            return Err(far());
        }
        values.push(value);
    }
    Ok(Arc::new(Decimal128Array::from(values).with_precision_and_scale(precision, scale)?))
}

/// Returns times in `unit`, or none when one is beyond 64 bits.
fn times(seconds: &[i64], nanos: &[i64], clock: Zone, unit: TimeUnit) -> Option<Vec<i64>> {
    let nanos_per_unit = nanos_of(unit);
    let per_second = 1_000_000_000 / nanos_per_unit;
    let epoch = clock.epoch();
    let times = seconds.iter().zip(nanos).map(|(seconds, nanos)| {
        let (seconds, nanos) = restore(*seconds, *nanos, epoch)?;
        clock.shown(seconds)?.checked_mul(per_second)?.checked_add(nanos / nanos_per_unit)
    });
    times.collect()
}

fn timestamps(values: Vec<i64>, unit: TimeUnit, zone: Option<Arc<str>>) -> ArrayRef {
    let values = ScalarBuffer::from(values);
    match unit {
        TimeUnit::Second => Arc::new(PrimitiveArray::<TimestampSecondType>::new(values, None).with_timezone_opt(zone)),
        TimeUnit::Millisecond => {
            Arc::new(PrimitiveArray::<TimestampMillisecondType>::new(values, None).with_timezone_opt(zone))
        }
        TimeUnit::Microsecond => {
            Arc::new(PrimitiveArray::<TimestampMicrosecondType>::new(values, None).with_timezone_opt(zone))
        }
        TimeUnit::Nanosecond => {
            Arc::new(PrimitiveArray::<TimestampNanosecondType>::new(values, None).with_timezone_opt(zone))
        }
    }
}
