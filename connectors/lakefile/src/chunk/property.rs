//! What is written here is what the `parquet` crate would have written: the same values, and the same said of them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Decimal128Array, PrimitiveArray, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Schema,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use bytes::Bytes;
use lakehead_core::Settings;
use object_store::ObjectStoreExt;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::{ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, RowGroupMetaData};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::{PAGE_ROWS, UNPACKED_BYTES};
use crate::Location;
use crate::body::ParquetBody;

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, bound: usize) -> usize {
        self.next() as usize % bound
    }
}

/// How the values of a column come.
#[derive(Clone, Copy, Debug)]
struct Habit {
    /// Whether there may be none, and of a hundred, how many are.
    may_lack: bool,
    nulls: usize,
    /// How many different ones there are, about.
    different: u64,
    /// How many equal ones come behind one another, at most.
    run: usize,
    /// Bytes of a text, at most.
    wide: usize,
}

fn values(dice: &mut Dice, rows: usize, habit: Habit) -> Vec<Option<u64>> {
    let mut values = Vec::with_capacity(rows);
    while values.len() < rows {
        let value = (dice.below(100) >= habit.nulls).then(|| dice.next() % habit.different);
        let run = (1 + dice.below(habit.run)).min(rows - values.len());
        values.extend(std::iter::repeat_n(value, run));
    }
    values
}

fn numbers<T: ArrowPrimitiveType>(values: &[Option<u64>], of: impl Fn(u64) -> T::Native) -> PrimitiveArray<T> {
    values.iter().map(|value| value.map(&of)).collect()
}

/// A text of some length: of one byte a character, or more, some of them the last of their length.
fn text(value: u64, wide: usize) -> String {
    let letters = ["a", "z", "\u{7f}", "\u{e9}", "\u{7ff}", "\u{ffff}", "\u{10ffff}"];
    let mut dice = Dice(value);
    let length = dice.below(wide + 1);
    let mut text = String::new();
    while text.len() < length {
        text.push_str(letters[if dice.below(3) == 0 { dice.below(letters.len()) } else { 0 }]);
    }
    text
}

const NAMES: [&str; 12] =
    ["bool", "short", "int", "long", "date", "time", "at", "small", "large", "float", "double", "text"];

fn columns(dice: &mut Dice, rows: usize, habit: Habit) -> RecordBatch {
    let mut next = || values(dice, rows, habit);
    let double = |n: u64| match n % 11 {
        0 => f64::NAN,
        1 => -0.0,
        2 => 0.0,
        _ => n as f64 - 500.5,
    };
    let decimal = |values: Vec<Option<u64>>, precision| {
        let numbers: Decimal128Array = values.iter().map(|n| n.map(|n| i128::from(n % 100_000_000) - 500)).collect();
        Arc::new(numbers.with_precision_and_scale(precision, 2).unwrap()) as ArrayRef
    };
    let wide = habit.wide;
    let arrays: [ArrayRef; 12] = [
        Arc::new(next().into_iter().map(|n| n.map(|n| n % 2 == 0)).collect::<BooleanArray>()),
        Arc::new(numbers::<Int16Type>(&next(), |n| n as i16)),
        Arc::new(numbers::<Int32Type>(&next(), |n| n as i32 - 500)),
        Arc::new(numbers::<Int64Type>(&next(), |n| n as i64 - 500)),
        Arc::new(numbers::<Date32Type>(&next(), |n| n as i32 % 30_000)),
        Arc::new(numbers::<Time64MicrosecondType>(&next(), |n| n as i64)),
        Arc::new(numbers::<TimestampMicrosecondType>(&next(), |n| n as i64 - 500).with_timezone("UTC")),
        decimal(next(), 9),
        decimal(next(), 18),
        Arc::new(numbers::<Float32Type>(&next(), |n| double(n) as f32)),
        Arc::new(numbers::<Float64Type>(&next(), double)),
        Arc::new(next().into_iter().map(|n| n.map(|n| text(n, wide))).collect::<StringArray>()),
    ];
    let is_nullable = habit.may_lack;
    RecordBatch::try_from_iter_with_nullable(
        NAMES.into_iter().zip(arrays).map(|(name, array)| (name, array, is_nullable)),
    )
    .unwrap()
}

fn properties(dice: &mut Dice) -> WriterProperties {
    let zstd = Compression::ZSTD(ZstdLevel::try_new(1).unwrap());
    let compression = [Compression::UNCOMPRESSED, Compression::SNAPPY, zstd][dice.below(3)];
    let statistics = [EnabledStatistics::Chunk, EnabledStatistics::Page][dice.below(2)];
    WriterProperties::builder()
        .set_compression(compression)
        .set_statistics_enabled(statistics)
        .set_dictionary_enabled(dice.below(3) > 0)
        .set_statistics_truncate_length([None, Some(20)][dice.below(2)])
        .set_column_index_truncate_length([None, Some(20)][dice.below(2)])
        .build()
}

/// Writes batches here; returns the file.
async fn written(location: &Location, schema: &Arc<Schema>, batches: &[RecordBatch], told: WriterProperties) -> Bytes {
    let mut body = ParquetBody::begin(location.begin("a"), Arc::clone(schema), told, UNPACKED_BYTES).unwrap();
    for batch in batches {
        body.write(batch).await.unwrap();
        assert!(body.bytes() > 0);
    }
    let (metadata, length) = body.finish().await.unwrap();
    let bytes = location.store().get(&location.path("a")).await.unwrap().bytes().await.unwrap();
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!((bytes.len() as u64, metadata.file_metadata().num_rows() as usize), (length, rows));
    bytes
}

/// Has the crate write them.
fn expected(schema: &Arc<Schema>, batches: &[RecordBatch], told: WriterProperties) -> Bytes {
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(told)).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap().into()
}

fn head(file: &Bytes) -> Arc<ParquetMetaData> {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
    Arc::clone(ArrowReaderMetadata::load(file, options).unwrap().metadata())
}

fn rows(file: &Bytes) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap();
    let schema = Arc::clone(reader.schema());
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

/// Compares what two heads say of a row group, as far as it does not tell how long its pages are.
fn compare_groups(found: &RowGroupMetaData, expected: &RowGroupMetaData) {
    assert_eq!(found.num_rows(), expected.num_rows());
    for (found, expected) in found.columns().iter().zip(expected.columns()) {
        let name = found.column_path().string();
        assert_eq!(found.statistics(), expected.statistics(), "{name}");
        assert_eq!(found.num_values(), expected.num_values(), "{name}");
        compare_packing(found, expected);
        assert_eq!(found.encodings_mask(), expected.encodings_mask(), "{name}");
        assert_eq!(found.unencoded_byte_array_data_bytes(), expected.unencoded_byte_array_data_bytes(), "{name}");
        assert_eq!(found.definition_level_histogram(), expected.definition_level_histogram(), "{name}");
        assert_eq!(found.dictionary_page_offset().is_some(), expected.dictionary_page_offset().is_some(), "{name}");
        let kinds = |stats: Option<&Vec<parquet::file::metadata::PageEncodingStats>>| -> Vec<_> {
            stats.into_iter().flatten().map(|stats| (stats.page_type, stats.encoding)).collect()
        };
        assert_eq!(kinds(found.page_encoding_stats()), kinds(expected.page_encoding_stats()), "{name}");
        let (mine, whole) = (found.uncompressed_size(), expected.uncompressed_size());
        assert!(mine <= whole + whole / 8 + 400, "{name}: {mine} {whole}");
    }
}

/// A chunk is packed as it is to be, but for one of few bytes in one page, which is not packed.
fn compare_packing(found: &ColumnChunkMetaData, expected: &ColumnChunkMetaData) {
    if found.compression() != expected.compression() {
        let (name, bytes, rows) = (found.column_path().string(), found.uncompressed_size(), found.num_values());
        assert_eq!(found.compression(), Compression::UNCOMPRESSED, "{name}");
        // With the heads of a page and of a dictionary.
        assert!(bytes <= UNPACKED_BYTES as i64 + 200 && rows <= PAGE_ROWS as i64, "{name}: {bytes} {rows}");
    }
}

/// Each page's bounds are those of a file that holds its rows alone.
fn check_pages(found: &ParquetMetaData, data: &RecordBatch, told: &WriterProperties) {
    let (Some(indexes), Some(offsets)) = (found.column_index(), found.offset_index()) else { return };
    let told = told.clone().into_builder().set_statistics_truncate_length(told.column_index_truncate_length()).build();
    let mut begin = 0;
    for (group, head) in found.row_groups().iter().enumerate() {
        let end = begin + head.num_rows() as usize;
        for column in 0..data.num_columns() {
            let pages = offsets[group][column].page_locations();
            let index = &indexes[group][column];
            for (page, location) in pages.iter().enumerate() {
                let from = begin + location.first_row_index as usize;
                let to = pages.get(page + 1).map_or(end, |next| begin + next.first_row_index as usize);
                let part = data.slice(from, to - from).project(&[column]).unwrap();
                let alone = head_of_part(&part, &told);
                let statistics = alone.row_group(0).column(0).statistics().unwrap();
                if matches!(index, ColumnIndexMetaData::NONE) {
                    continue;
                }
                assert_eq!(index.null_count(page), statistics.null_count_opt().map(|count| count as i64));
                assert_eq!(index.is_null_page(page), part.column(0).null_count() == part.num_rows());
                compare_bounds(index, page, statistics);
            }
        }
        begin = end;
    }
}

fn head_of_part(part: &RecordBatch, told: &WriterProperties) -> Arc<ParquetMetaData> {
    head(&expected(&part.schema(), std::slice::from_ref(part), told.clone()))
}

fn compare_bounds(index: &ColumnIndexMetaData, page: usize, alone: &parquet::file::statistics::Statistics) {
    let (low, high) = match index {
        ColumnIndexMetaData::BOOLEAN(index) => {
            (index.min_value(page).map(|v| vec![u8::from(*v)]), index.max_value(page).map(|v| vec![u8::from(*v)]))
        }
        ColumnIndexMetaData::INT32(index) => (
            index.min_value(page).map(|v| v.to_le_bytes().to_vec()),
            index.max_value(page).map(|v| v.to_le_bytes().to_vec()),
        ),
        ColumnIndexMetaData::INT64(index) => (
            index.min_value(page).map(|v| v.to_le_bytes().to_vec()),
            index.max_value(page).map(|v| v.to_le_bytes().to_vec()),
        ),
        ColumnIndexMetaData::FLOAT(index) => (
            index.min_value(page).map(|v| v.to_le_bytes().to_vec()),
            index.max_value(page).map(|v| v.to_le_bytes().to_vec()),
        ),
        ColumnIndexMetaData::DOUBLE(index) => (
            index.min_value(page).map(|v| v.to_le_bytes().to_vec()),
            index.max_value(page).map(|v| v.to_le_bytes().to_vec()),
        ),
        ColumnIndexMetaData::BYTE_ARRAY(index) => {
            (index.min_value(page).map(<[u8]>::to_vec), index.max_value(page).map(<[u8]>::to_vec))
        }
        _ => (None, None),
    };
    assert_eq!(low, alone.min_bytes_opt().map(<[u8]>::to_vec));
    assert_eq!(high, alone.max_bytes_opt().map(<[u8]>::to_vec));
}

#[tokio::test]
async fn a_file_says_and_holds_what_the_crates_own_writer_makes_of_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::open("t", folder.path(), &Settings::default()).unwrap();
    let mut dice = Dice(7);
    for round in 0..60 {
        let nulls = [0, 0, 3, 50, 97, 100][dice.below(6)];
        let habit = Habit {
            may_lack: nulls > 0 || dice.below(3) > 0,
            nulls,
            different: [1, 2, 40, 3000, 1 << 31][dice.below(5)],
            run: [1, 1, 6, 3000][dice.below(4)],
            wide: [3, 12, 40, 300][dice.below(4)],
        };
        let told = properties(&mut dice);
        let sizes: Vec<usize> = (0..1 + dice.below(4)).map(|_| [1, 7, 999, 5000, 26_000][dice.below(5)]).collect();
        // Slices, whose bits and offsets begin anywhere.
        let batches: Vec<RecordBatch> =
            sizes.iter().map(|rows| columns(&mut dice, rows + 5, habit).slice(dice.below(6), *rows)).collect();
        let schema = batches[0].schema();
        let file = written(&location, &schema, &batches, told.clone()).await;
        let whole = expected(&schema, &batches, told.clone());
        let data = concat_batches(&schema, &batches).unwrap();
        assert_eq!(rows(&file), data, "{round}: {habit:?}");
        let (found, expected) = (head(&file), head(&whole));
        assert_eq!(found.num_row_groups(), expected.num_row_groups());
        for (found, expected) in found.row_groups().iter().zip(expected.row_groups()) {
            compare_groups(found, expected);
        }
        check_pages(&found, &data, &told);
        if habit.may_lack && habit.nulls == 0 && habit.wide < 40 {
            // Then the crate's pages are as long, and everything that is said of them is the same.
            assert_eq!(found.column_index(), expected.column_index(), "{round}: {habit:?}");
        }
    }
}

#[tokio::test]
async fn a_chunk_of_few_bytes_is_not_packed() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::open("t", folder.path(), &Settings::default()).unwrap();
    let habit = Habit { may_lack: true, nulls: 10, different: 1 << 31, run: 1, wide: 12 };
    for (rows, packed) in [(20, 0), (2000, NAMES.len() - 1)] {
        let batch = columns(&mut Dice(3), rows, habit);
        let told = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let head = head(&written(&location, &batch.schema(), &[batch], told).await);
        let is_packed = |column: &&ColumnChunkMetaData| column.compression() == Compression::SNAPPY;
        // 2,000 truth values are 250 bytes.
        assert_eq!(head.row_group(0).columns().iter().filter(is_packed).count(), packed);
    }
}

#[tokio::test]
async fn groups_end_by_rows_or_by_bytes_and_wide_texts_make_short_pages() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::open("t", folder.path(), &Settings::default()).unwrap();
    let texts: StringArray = (0..400).map(|n| Some("x".repeat(n * 97 % 20_000) + &n.to_string())).collect();
    let batch = RecordBatch::try_from_iter([("text", Arc::new(texts) as ArrayRef)]).unwrap();
    for dictionary in [true, false] {
        let told = WriterProperties::builder()
            .set_dictionary_enabled(dictionary)
            .set_max_row_group_row_count(Some(350))
            .set_max_row_group_bytes(Some(3 << 20))
            .build();
        let file = written(&location, &batch.schema(), &[batch.clone(), batch.slice(3, 200)], told).await;
        let expected = concat_batches(&batch.schema(), &[batch.clone(), batch.slice(3, 200)]).unwrap();
        assert_eq!(rows(&file), expected);
        let head = head(&file);
        for (group, offsets) in head.row_groups().iter().zip(head.offset_index().unwrap()) {
            assert!(group.num_rows() <= 350 && group.compressed_size() < 5 << 20, "{group:?}");
            let longest = offsets[0].page_locations().iter().map(|page| page.compressed_page_size).max().unwrap();
            assert!(longest < (1 << 20) + (40 << 10), "{longest}");
        }
    }
}

#[tokio::test]
async fn a_text_that_is_longer_than_a_page_is_a_page_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::open("t", folder.path(), &Settings::default()).unwrap();
    let wide = |n: usize| Some(format!("{n}").repeat(1_200_000));
    for dictionary in [true, false] {
        for texts in [
            vec![wide(1)],
            vec![wide(1), wide(2), Some("short".into()), None, wide(3), Some("short".into())],
            vec![None, wide(1), None, wide(1)],
            vec![Some("short".into()), wide(4)],
        ] {
            let array: ArrayRef = Arc::new(texts.into_iter().collect::<StringArray>());
            let batch = RecordBatch::try_from_iter_with_nullable([("text", array, true)]).unwrap();
            let told = WriterProperties::builder().set_dictionary_enabled(dictionary).build();
            let twice = [batch.clone(), batch.clone()];
            let file = written(&location, &batch.schema(), &twice, told).await;
            assert_eq!(rows(&file), concat_batches(&batch.schema(), &twice).unwrap());
        }
    }
}

#[tokio::test]
async fn a_batch_of_other_types_than_its_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::open("t", folder.path(), &Settings::default()).unwrap();
    let batch = columns(&mut Dice(1), 10, Habit { may_lack: false, nulls: 0, different: 5, run: 1, wide: 3 });
    let schema = batch.schema();
    for (place, name) in NAMES.into_iter().enumerate() {
        let other: ArrayRef = if place == 2 { Arc::clone(batch.column(3)) } else { Arc::clone(batch.column(2)) };
        let field = Arc::new(schema.field(place).clone().with_data_type(other.data_type().clone()));
        let other = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![other]).unwrap();
        let one = Arc::new(schema.project(&[place]).unwrap());
        let mut body = ParquetBody::begin(location.begin("a"), one, WriterProperties::default(), 0).unwrap();
        // A date is a number of days.
        let same = matches!(schema.field(place).data_type(), DataType::Date32);
        assert_eq!(body.write(&other).await.is_ok(), same, "{name}");
    }
}
