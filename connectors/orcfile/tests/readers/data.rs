//! Batches of every type that can be written, with what is hard about each.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::*;

/// SplitMix64: the same rows in every run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn nulls(&mut self, rows: usize) -> Option<NullBuffer> {
        Some((0..rows).map(|_| self.below(5) != 0).collect())
    }
}

/// 1900, the seconds around 1970 and 2015, 2014, 2038, in microseconds since 1970.
pub(crate) const TIMES: [i64; 16] = [
    -2_208_988_800_000_000,
    -2_208_988_799_999_999,
    -2_000_001,
    -1_500_000,
    -1_000_001,
    -1_000_000,
    -999_999,
    -1,
    0,
    1,
    1_388_534_400_123_456,
    1_420_070_399_999_999,
    1_420_070_400_000_000,
    1_420_070_400_000_001,
    2_147_483_648_999_999,
    4_102_444_800_000_000,
];

const TEXTS: [&str; 8] =
    ["", "a", "Zürich", "日本語", "🦀 crab", "a longer text that says nothing", "\u{7f}\u{80}", "'\"\\\n\t"];

fn pick<T: Copy>(dice: &mut Dice, from: &[T]) -> T {
    from[dice.below(from.len() as u64) as usize]
}

fn whole(dice: &mut Dice) -> i64 {
    match dice.below(8) {
        0 => i64::MIN,
        1 => i64::MAX,
        2 | 3 => 7,
        4 => dice.next() as i64,
        _ => dice.below(1000) as i64 - 500,
    }
}

fn primitive<T: ArrowPrimitiveType>(
    dice: &mut Dice,
    rows: usize,
    mut value: impl FnMut(&mut Dice) -> T::Native,
) -> PrimitiveArray<T> {
    let values: Vec<T::Native> = (0..rows).map(|_| value(dice)).collect();
    PrimitiveArray::new(ScalarBuffer::from(values), dice.nulls(rows))
}

fn strings(dice: &mut Dice, rows: usize) -> Vec<Option<String>> {
    (0..rows)
        .map(|row| match dice.below(6) {
            0 => None,
            1 => Some(format!("row {row} {}", dice.next())),
            _ => Some(pick(dice, &TEXTS).to_owned()),
        })
        .collect()
}

fn offsets(dice: &mut Dice, rows: usize) -> OffsetBuffer<i32> {
    OffsetBuffer::from_lengths((0..rows).map(|_| dice.below(4) as usize))
}

fn list_of(dice: &mut Dice, rows: usize, items: impl FnOnce(&mut Dice, usize) -> ArrayRef) -> ArrayRef {
    let offsets = offsets(dice, rows);
    let items = items(dice, offsets[rows] as usize);
    let field = Arc::new(Field::new("item", items.data_type().clone(), true));
    // Nulls over ranges that are not empty: what lies under them must not be written.
    Arc::new(ListArray::new(field, offsets, items, dice.nulls(rows)))
}

fn struct_of(dice: &mut Dice, rows: usize) -> ArrayRef {
    let number: ArrayRef = Arc::new(primitive::<Int32Type>(dice, rows, |dice| dice.below(100) as i32));
    let text: ArrayRef = Arc::new(StringArray::from(strings(dice, rows)));
    let list = list_of(dice, rows, |dice, rows| Arc::new(primitive::<Int64Type>(dice, rows, whole)));
    let fields: Fields = [("number", &number), ("text", &text), ("list", &list)]
        .map(|(name, array)| Field::new(name, array.data_type().clone(), true))
        .to_vec()
        .into();
    Arc::new(StructArray::new(fields, vec![number, text, list], dice.nulls(rows)))
}

fn map_of(dice: &mut Dice, rows: usize) -> ArrayRef {
    let offsets = offsets(dice, rows);
    let count = offsets[rows] as usize;
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values((0..count).map(|at| format!("key {at}"))));
    let values: ArrayRef = Arc::new(primitive::<Float64Type>(dice, count, |dice| dice.below(1000) as f64 / 8.0));
    let fields: Fields =
        vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Float64, true)].into();
    let entries = StructArray::new(fields.clone(), vec![keys, values], None);
    let field = Arc::new(Field::new("entries", DataType::Struct(fields), false));
    Arc::new(MapArray::new(field, offsets, entries, dice.nulls(rows), false))
}

fn time<T: ArrowTimestampType>(
    dice: &mut Dice,
    rows: usize,
    times: &[i64],
    per_second: i64,
    zone: Option<&str>,
) -> ArrayRef {
    let array = primitive::<T>(dice, rows, |dice| {
        let micros = pick(dice, times);
        if per_second >= 1_000_000 {
            micros * (per_second / 1_000_000)
        } else {
            micros.div_euclid(1_000_000 / per_second)
        }
    });
    Arc::new(array.with_timezone_opt(zone))
}

fn decimal(dice: &mut Dice, rows: usize, precision: u8, scale: i8) -> ArrayRef {
    let top = 10i128.pow(u32::from(precision));
    let array = primitive::<Decimal128Type>(dice, rows, |dice| match dice.below(6) {
        0 => top - 1,
        1 => 1 - top,
        2 => 0,
        3 => -(dice.below(100_000) as i128 % top),
        _ => (i128::from(dice.next()) * i128::from(dice.next() >> 2)) % top,
    });
    Arc::new(array.with_precision_and_scale(precision, scale).unwrap())
}

/// Every type; a fifth of the values is null at every level.
pub(crate) fn every_type(rows: usize, seed: u64) -> RecordBatch {
    every_type_with(rows, seed, &TIMES)
}

/// Every type without the times that readers of Java refuse.
pub(crate) fn every_type_for_java(rows: usize, seed: u64) -> RecordBatch {
    let times: Vec<i64> = TIMES.into_iter().filter(|micros| !(-999_000..0).contains(micros)).collect();
    every_type_with(rows, seed, &times)
}

fn every_type_with(rows: usize, seed: u64, times: &[i64]) -> RecordBatch {
    let dice = &mut Dice(seed);
    let texts = strings(dice, rows);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values((0..rows as i64).map(|row| row * 3)))),
        ("bool", Arc::new((0..rows).map(|_| (dice.below(5) > 0).then(|| dice.below(2) > 0)).collect::<BooleanArray>())),
        ("i8", Arc::new(primitive::<Int8Type>(dice, rows, |dice| dice.next() as i8 >> dice.below(8)))),
        ("i16", Arc::new(primitive::<Int16Type>(dice, rows, |dice| dice.next() as i16))),
        ("i32", Arc::new(primitive::<Int32Type>(dice, rows, |dice| dice.next() as i32))),
        ("i64", Arc::new(primitive::<Int64Type>(dice, rows, whole))),
        ("f32", Arc::new(primitive::<Float32Type>(dice, rows, |dice| dice.next() as f32 / 1e10))),
        ("f64", Arc::new(primitive::<Float64Type>(dice, rows, |dice| -(dice.next() as f64) / 3e9))),
        ("text", Arc::new(StringArray::from(texts.clone()))),
        ("large_text", Arc::new(LargeStringArray::from(texts.clone()))),
        ("text_view", Arc::new(StringViewArray::from_iter(texts.clone()))),
        ("few", Arc::new(StringArray::from_iter_values((0..rows).map(|_| pick(dice, &TEXTS))))),
        (
            "binary",
            Arc::new(
                texts
                    .iter()
                    .map(|text| text.as_ref().map(|text| &text.as_bytes()[text.len() / 2..]))
                    .collect::<BinaryArray>(),
            ),
        ),
        ("date", Arc::new(primitive::<Date32Type>(dice, rows, |dice| dice.below(60_000) as i32 - 25_567))),
        ("time_s", time::<TimestampSecondType>(dice, rows, times, 1, None)),
        ("time_ms", time::<TimestampMillisecondType>(dice, rows, times, 1000, None)),
        ("time_us", time::<TimestampMicrosecondType>(dice, rows, times, 1_000_000, None)),
        ("time_ns", time::<TimestampNanosecondType>(dice, rows, times, 1_000_000_000, None)),
        ("instant", time::<TimestampMicrosecondType>(dice, rows, times, 1_000_000, Some("UTC"))),
        ("decimal", decimal(dice, rows, 12, 2)),
        ("decimal_0", decimal(dice, rows, 5, 0)),
        ("decimal_38", decimal(dice, rows, 38, 10)),
        ("list", list_of(dice, rows, |dice, rows| Arc::new(StringArray::from(strings(dice, rows))))),
        (
            "lists",
            list_of(dice, rows, |dice, rows| {
                list_of(dice, rows, |dice, rows| time::<TimestampMicrosecondType>(dice, rows, times, 1_000_000, None))
            }),
        ),
        ("structs", list_of(dice, rows, struct_of)),
        ("struct", struct_of(dice, rows)),
        ("map", map_of(dice, rows)),
        ("decimals", list_of(dice, rows, |dice, rows| decimal(dice, rows, 20, 3))),
    ];
    batch(columns)
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, array)| array).collect()).unwrap()
}

/// Every type and no value at all.
pub(crate) fn all_null(rows: usize) -> RecordBatch {
    let schema = every_type(1, 1).schema();
    let columns = schema.fields().iter().map(|field| new_null_array(field.data_type(), rows)).collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

/// Texts that no minimum or maximum tells apart, under numbers that rise: what a Bloom filter and an index can skip.
pub(crate) fn searched(rows: usize) -> RecordBatch {
    let dice = &mut Dice(9);
    let texts: Vec<String> = (0..rows).map(|_| format!("{:016x}", dice.next())).collect();
    let wholes: Vec<i64> = (0..rows).map(|_| dice.next() as i64).collect();
    let amounts = wholes.iter().map(|whole| i128::from(whole % 1_000_000_000_000)).collect::<Vec<_>>();
    let amounts = Decimal128Array::from(amounts).with_precision_and_scale(12, 2).unwrap();
    batch(vec![
        ("id", Arc::new(Int64Array::from_iter_values(0..rows as i64))),
        ("text", Arc::new(StringArray::from(texts))),
        ("whole", Arc::new(Int64Array::from(wholes))),
        ("amount", Arc::new(amounts)),
    ])
}
