//! Random values of a plain type.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int16Array,
    Int32Array, Int64Array, ListArray, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, TimeUnit};
use lakehead_core::{Error, Result};

use crate::dice::Dice;
use crate::words::WORDS;

/// Days of 2020-01-01 and 2030-01-01 since the epoch: made-up dates lie between.
const DAYS: (i64, i64) = (18_262, 21_915);
/// Microseconds of a day.
const DAY_MICROS: i64 = 86_400_000_000;
/// The greatest made-up whole number of a wide type: readable, and exact as a double.
const WHOLE_MAX: i64 = 999_999_999_999;
/// Elements of a made-up list at most.
const ELEMENTS_MAX: u64 = 3;

/// Returns one random value per cell; a cell without dice is NULL.
pub(crate) fn random_values(data_type: &DataType, word: Option<&str>, cells: Vec<Option<Dice>>) -> Result<ArrayRef> {
    let cells = cells.into_iter();
    let whole = |greatest: i64| move |cell: Option<Dice>| cell.map(|mut dice| dice.within(0, greatest));
    Ok(match data_type {
        DataType::Boolean => Arc::new(cells.map(|c| c.map(|mut d| d.below(2) == 1)).collect::<BooleanArray>()),
        DataType::Int16 => {
            let small = |n: i64| i16::try_from(n).unwrap_or(i16::MAX);
            Arc::new(cells.map(|c| whole(9_999)(c).map(small)).collect::<Int16Array>())
        }
        DataType::Int32 => {
            let small = |n: i64| i32::try_from(n).unwrap_or(i32::MAX);
            Arc::new(cells.map(|c| whole(999_999_999)(c).map(small)).collect::<Int32Array>())
        }
        DataType::Int64 => Arc::new(cells.map(whole(WHOLE_MAX)).collect::<Int64Array>()),
        DataType::Float32 => Arc::new(cells.map(|c| c.map(|mut d| d.share() as f32)).collect::<Float32Array>()),
        DataType::Float64 => Arc::new(cells.map(|c| c.map(|mut d| d.share())).collect::<Float64Array>()),
        DataType::Decimal128(precision, scale) => {
            let greatest = 10i64.saturating_pow(u32::from(*precision).min(12)) - 1;
            let values: Decimal128Array = cells.map(|c| whole(greatest)(c).map(i128::from)).collect();
            Arc::new(values.with_precision_and_scale(*precision, *scale)?)
        }
        DataType::Utf8 => Arc::new(cells.map(|c| c.map(|mut d| text(word, &mut d))).collect::<StringArray>()),
        DataType::Binary => {
            let values: Vec<Option<[u8; 8]>> = cells.map(|c| c.map(|mut d| d.bits().to_be_bytes())).collect();
            Arc::new(values.into_iter().collect::<BinaryArray>())
        }
        DataType::Date32 => {
            let day = |mut dice: Dice| i32::try_from(dice.within(DAYS.0, DAYS.1)).unwrap_or(0);
            Arc::new(cells.map(|c| c.map(day)).collect::<Date32Array>())
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            Arc::new(cells.map(whole(DAY_MICROS - 1)).collect::<Time64MicrosecondArray>())
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let at = |mut dice: Dice| dice.within(DAYS.0 * DAY_MICROS, DAYS.1 * DAY_MICROS);
            let values: TimestampMicrosecondArray = cells.map(|c| c.map(at)).collect();
            Arc::new(values.with_timezone_opt(zone.clone()))
        }
        DataType::List(item) => lists(item, cells.collect())?,
        other => {
            return Err(Error::user("R0501", "values of this type cannot be made up")
                .with("type", lakehead_core::column_type_name(other)));
        }
    })
}

fn lists(item: &arrow::datatypes::FieldRef, cells: Vec<Option<Dice>>) -> Result<ArrayRef> {
    let mut elements = Vec::new();
    let mut lengths = Vec::with_capacity(cells.len());
    let mut valid = Vec::with_capacity(cells.len());
    for cell in cells {
        valid.push(cell.is_some());
        let Some(mut dice) = cell else {
            lengths.push(0);
            continue;
        };
        let count = usize::try_from(dice.below(ELEMENTS_MAX + 1)).unwrap_or(0);
        lengths.push(count);
        elements.extend((0..count).map(|_| Some(Dice::new(dice.bits(), 0, 0))));
    }
    let values = random_values(item.data_type(), None, elements)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, Some(NullBuffer::from(valid)))?))
}

fn text(word: Option<&str>, dice: &mut Dice) -> String {
    match word {
        Some("uuid") => uuid(dice),
        Some("json") => format!("{{\"n\":{}}}", dice.below(1000)),
        _ => sentence(1, dice),
    }
}

fn uuid(dice: &mut Dice) -> String {
    let (high, low) = (dice.bits(), dice.bits());
    let version = (high & 0xFFFF_FFFF_FFFF_0FFF) | 0x4000;
    let variant = (low & 0x3FFF_FFFF_FFFF_FFFF) | 0x8000_0000_0000_0000;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        version >> 32,
        (version >> 16) & 0xFFFF,
        version & 0xFFFF,
        variant >> 48,
        variant & 0xFFFF_FFFF_FFFF
    )
}

/// Returns that many words.
pub(crate) fn sentence(words: u32, dice: &mut Dice) -> String {
    let mut text = String::new();
    for n in 0..words {
        if n > 0 {
            text.push(' ');
        }
        text.push_str(dice.pick(&WORDS));
    }
    text
}
