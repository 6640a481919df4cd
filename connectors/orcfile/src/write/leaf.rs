//! From Arrow's arrays to streams, type by type. The arrays have no nulls: the column has taken them out.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use lakehead_core::{Error, Result};

use super::stream::{Booleans, Bytes, Chunks, Integers};
use super::text::Texts;
use super::time::store;
use crate::bloom::{Bloom, hash_bytes, hash_number};
use crate::fault::{far_time, unfit_decimal};
use crate::stats::{Values, decimal_text, widen, widen_text};

/// Values of one type and what is gathered from them on the way.
pub(super) struct Leaf<'a> {
    pub(super) array: &'a ArrayRef,
    pub(super) path: &'a str,
    pub(super) stats: &'a mut Values,
    pub(super) bloom: &'a mut Option<Bloom>,
}

impl Leaf<'_> {
    fn numbers_seen(&mut self, numbers: impl Iterator<Item = i64> + Clone) {
        if let Some(bloom) = self.bloom {
            numbers.clone().for_each(|number| bloom.insert(hash_number(number)));
        }
        let mut seen = None;
        let mut total = 0i128;
        numbers.for_each(|number| {
            widen(&mut seen, number);
            total += i128::from(number);
        });
        let Some((min, max)) = seen else { return };
        match self.stats {
            Values::Int { range, sum } => {
                widen(range, min);
                widen(range, max);
                *sum = sum.and_then(|sum| i64::try_from(i128::from(sum) + total).ok());
            }
            Values::Date { range } => {
                widen(range, min);
                widen(range, max);
            }
            _ => {}
        }
    }
}

fn wrong() -> Error {
    Error::bug("an array is not of its column's type")
}

pub(super) fn booleans(leaf: &mut Leaf<'_>, out: &mut Booleans) {
    let bits = leaf.array.as_boolean().values();
    bits.iter().for_each(|bit| out.push(bit));
    if let Values::Bool { trues } = leaf.stats {
        *trues += bits.count_set_bits() as u64;
    }
}

pub(super) fn bytes(leaf: &mut Leaf<'_>, out: &mut Bytes) {
    let array = leaf.array;
    let values = array.as_primitive::<Int8Type>().values();
    values.iter().for_each(|value| out.push(value.cast_unsigned()));
    leaf.numbers_seen(values.iter().map(|value| i64::from(*value)));
}

pub(super) fn wholes(leaf: &mut Leaf<'_>, out: &mut Integers) -> Result<()> {
    match leaf.array.data_type() {
        DataType::Int16 => wholes_of::<Int16Type>(leaf, out),
        DataType::Int32 => wholes_of::<Int32Type>(leaf, out),
        DataType::Int64 => wholes_of::<Int64Type>(leaf, out),
        DataType::Date32 => wholes_of::<Date32Type>(leaf, out),
        _ => return Err(wrong()),
    }
    Ok(())
}

fn wholes_of<T: ArrowPrimitiveType<Native: Into<i64>>>(leaf: &mut Leaf<'_>, out: &mut Integers) {
    let array = leaf.array;
    let values = array.as_primitive::<T>().values();
    values.iter().for_each(|value| out.push((*value).into()));
    leaf.numbers_seen(values.iter().map(|value| (*value).into()));
}

pub(super) fn floats(leaf: &mut Leaf<'_>, out: &mut Chunks) -> Result<()> {
    match leaf.array.data_type() {
        DataType::Float32 => {
            let array = leaf.array;
            let values = array.as_primitive::<Float32Type>().values();
            values.iter().for_each(|value| out.open.extend_from_slice(&value.to_le_bytes()));
            floats_seen(leaf, values.iter().map(|value| f64::from(*value)));
        }
        DataType::Float64 => {
            let array = leaf.array;
            let values = array.as_primitive::<Float64Type>().values();
            values.iter().for_each(|value| out.open.extend_from_slice(&value.to_le_bytes()));
            floats_seen(leaf, values.iter().copied());
        }
        _ => return Err(wrong()),
    }
    Ok(())
}

fn floats_seen(leaf: &mut Leaf<'_>, values: impl Iterator<Item = f64>) {
    let Values::Float { range, sum, nan } = leaf.stats else { return };
    for value in values {
        if let Some(bloom) = leaf.bloom {
            bloom_float(bloom, value);
        }
        *sum += value;
        if value.is_nan() {
            *nan = true;
        } else {
            widen(range, value);
        }
    }
}

/// Both zeros are equal to a query and have different bits; a NaN has many bits and one hash in Java.
fn bloom_float(bloom: &mut Bloom, value: f64) {
    let mut insert = |value: f64| bloom.insert(hash_number(value.to_bits().cast_signed()));
    if value == 0.0 {
        insert(-value);
    }
    insert(if value.is_nan() { f64::NAN } else { value });
}

pub(super) fn texts(leaf: &mut Leaf<'_>, out: &mut Texts) -> Result<()> {
    let array = leaf.array;
    match array.data_type() {
        DataType::Utf8 => texts_of(leaf, out, array.as_string::<i32>().iter()),
        DataType::LargeUtf8 => texts_of(leaf, out, array.as_string::<i64>().iter()),
        DataType::Utf8View => texts_of(leaf, out, array.as_string_view().iter()),
        _ => return Err(wrong()),
    }
    Ok(())
}

fn texts_of<'t>(leaf: &mut Leaf<'_>, out: &mut Texts, texts: impl Iterator<Item = Option<&'t str>>) {
    let Values::Text { range, bytes } = leaf.stats else { return };
    for text in texts.flatten() {
        out.push(text.as_bytes());
        widen_text(range, text);
        *bytes = bytes.saturating_add(text.len() as i64);
        if let Some(bloom) = leaf.bloom {
            bloom.insert(hash_bytes(text.as_bytes()));
        }
    }
}

pub(super) fn binaries(leaf: &mut Leaf<'_>, data: &mut Chunks, lengths: &mut Integers) -> Result<()> {
    let array = leaf.array;
    match array.data_type() {
        DataType::Binary => binaries_of(leaf, data, lengths, array.as_binary::<i32>().iter()),
        DataType::LargeBinary => binaries_of(leaf, data, lengths, array.as_binary::<i64>().iter()),
        DataType::BinaryView => binaries_of(leaf, data, lengths, array.as_binary_view().iter()),
        _ => return Err(wrong()),
    }
    Ok(())
}

fn binaries_of<'t>(
    leaf: &mut Leaf<'_>,
    data: &mut Chunks,
    lengths: &mut Integers,
    values: impl Iterator<Item = Option<&'t [u8]>>,
) {
    let Values::Binary { bytes } = leaf.stats else { return };
    for value in values.flatten() {
        data.open.extend_from_slice(value);
        lengths.push(value.len() as i64);
        *bytes = bytes.saturating_add(value.len() as i64);
        if let Some(bloom) = leaf.bloom {
            bloom.insert(hash_bytes(value));
        }
    }
}

pub(super) fn decimals(
    leaf: &mut Leaf<'_>,
    data: &mut Chunks,
    scales: &mut Integers,
    (precision, scale): (u8, i8),
) -> Result<()> {
    let above = 10u128.checked_pow(u32::from(precision)).unwrap_or(u128::MAX);
    let Values::Decimal { range, sum, .. } = leaf.stats else { return Err(wrong()) };
    for value in leaf.array.as_primitive::<Decimal128Type>().values() {
        // Arrow does not look; a reader that does would refuse the file.
        if value.unsigned_abs() >= above {
            return Err(unfit_decimal(leaf.path));
        }
        put_wide_varint(((value << 1) ^ (value >> 127)).cast_unsigned(), &mut data.open);
        scales.push(i64::from(scale));
        widen(range, *value);
        *sum = sum.and_then(|sum| sum.checked_add(*value));
        if let Some(bloom) = leaf.bloom {
            bloom.insert(hash_bytes(shortest_decimal(*value, scale).as_bytes()));
        }
    }
    Ok(())
}

fn put_wide_varint(mut value: u128, out: &mut Vec<u8>) {
    // Nearly all fit here, and 64-bit shifts are the fast ones.
    if let Ok(small) = u64::try_from(value) {
        return crate::wire::put_varint(small, out);
    }
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A decimal as Hive hashes it: without zeros at the end of its fraction.
fn shortest_decimal(value: i128, scale: i8) -> String {
    let text = decimal_text(value, scale);
    match text.split_once('.') {
        Some(_) => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        None => text,
    }
}

pub(super) fn times(leaf: &mut Leaf<'_>, seconds: &mut Integers, nanos: &mut Integers, unit: TimeUnit) -> Result<()> {
    let array = leaf.array;
    match unit {
        TimeUnit::Second => {
            let values = array.as_primitive::<TimestampSecondType>().values();
            times_of::<1>(leaf, seconds, nanos, values)
        }
        TimeUnit::Millisecond => {
            let values = array.as_primitive::<TimestampMillisecondType>().values();
            times_of::<1_000>(leaf, seconds, nanos, values)
        }
        TimeUnit::Microsecond => {
            let values = array.as_primitive::<TimestampMicrosecondType>().values();
            times_of::<1_000_000>(leaf, seconds, nanos, values)
        }
        TimeUnit::Nanosecond => {
            let values = array.as_primitive::<TimestampNanosecondType>().values();
            times_of::<1_000_000_000>(leaf, seconds, nanos, values)
        }
    }
}

/// `PER_SECOND` is known to the compiler, which turns the divisions into multiplications.
fn times_of<const PER_SECOND: i64>(
    leaf: &mut Leaf<'_>,
    seconds: &mut Integers,
    nanos: &mut Integers,
    values: &[i64],
) -> Result<()> {
    let nanos_per_unit = 1_000_000_000 / PER_SECOND;
    let (mut seen, mut last_seconds) = (None, 0);
    for value in values {
        let (second, below) = (value.div_euclid(PER_SECOND), value.rem_euclid(PER_SECOND) * nanos_per_unit);
        let stored = store(second, below).ok_or_else(|| far_time(leaf.path))?;
        if stored.nanos < 0 {
            last_seconds += 1;
        }
        seconds.push(stored.seconds);
        nanos.push(stored.nanos);
        widen(&mut seen, *value);
        if let Some(bloom) = leaf.bloom {
            bloom.insert(hash_number(second * 1000 + below / 1_000_000));
        }
    }
    if let (Values::Time { range, last_second }, Some((min, max))) = (&mut *leaf.stats, seen) {
        *last_second += last_seconds;
        widen(range, i128::from(min) * i128::from(nanos_per_unit));
        widen(range, i128::from(max) * i128::from(nanos_per_unit));
    }
    Ok(())
}
