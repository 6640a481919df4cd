//! Files read back by this crate, files of others, damaged files, and what is refused.

use std::sync::Arc;

use arrow::array::*;
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::*;
use bytes::Bytes;
use lakehead_orcfile::{Bound, Compression, FetchRanges, OrcFile, OrcOptions, OrcReadOptions, OrcReader, OrcWriter};

use super::data::{self, Dice};

fn written(batch: &RecordBatch, options: OrcOptions) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = OrcWriter::try_new(&mut bytes, batch.schema(), options).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    bytes
}

fn read(bytes: Vec<u8>, options: &OrcReadOptions) -> RecordBatch {
    let reader = OrcReader::from_bytes(bytes.into(), options).unwrap();
    let schema = reader.schema().clone();
    concat_batches(&schema, &reader.collect::<Result<Vec<_>, _>>().unwrap()).unwrap()
}

pub(crate) fn assert_same(got: &RecordBatch, want: &RecordBatch) {
    assert_eq!(got.num_rows(), want.num_rows());
    for (field, column) in got.schema().fields().iter().zip(got.columns()) {
        let expected = cast(want.column_by_name(field.name()).unwrap(), field.data_type()).unwrap();
        assert_eq!(column, &expected, "{}", field.name());
    }
}

#[test]
fn every_type_comes_back() {
    for compression in [Compression::None, Compression::Zlib, Compression::Snappy, Compression::Lz4, Compression::Zstd]
    {
        let batch = data::every_type(25_000, 6);
        let options = OrcOptions { compression, stripe_bytes: 2_000_000, ..OrcOptions::default() };
        assert_same(&read(written(&batch, options), &OrcReadOptions::default()), &batch);
    }
    for batch in [data::every_type(0, 1), data::every_type(1, 2), data::all_null(12_345)] {
        assert_same(&read(written(&batch, OrcOptions::default()), &OrcReadOptions::default()), &batch);
    }
}

#[test]
fn chosen_columns_come_back_in_the_chosen_order_from_a_file_on_disk() {
    let batch = data::every_type(3000, 8);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), written(&batch, OrcOptions::default())).unwrap();
    let columns = Some(["structs", "id", "time_ns"].map(String::from).to_vec());
    let options = OrcReadOptions { columns, batch_rows: 7, time_unit: TimeUnit::Nanosecond };
    let reader = OrcReader::open(file.path(), &options).unwrap();
    assert_eq!(reader.rows(), 3000);
    let schema = reader.schema().clone();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["structs", "id", "time_ns"]);
    let got = concat_batches(&schema, &reader.collect::<Result<Vec<_>, _>>().unwrap()).unwrap();
    assert_same(&got, &batch);
    let columns = Some(vec!["nobody".to_owned()]);
    let error = OrcReader::open(file.path(), &OrcReadOptions { columns, ..OrcReadOptions::default() }).err().unwrap();
    assert_eq!(error.code(), "R1504");
}

fn one(name: &str, array: ArrayRef) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([(name, array, true)]).unwrap()
}

#[test]
fn odd_tables_come_back() {
    let entries = StructArray::new_empty_fields(3, Some(vec![true, false, true].into()));
    let nan = Float64Array::from(vec![Some(f64::NAN), None, Some(-0.0), Some(f64::INFINITY)]);
    let long = StringArray::from(vec!["é".repeat(2_000_000), String::new(), "é".repeat(700)]);
    for array in [Arc::new(entries) as ArrayRef, Arc::new(nan), Arc::new(long)] {
        let batch = one("odd", array);
        let got = read(written(&batch, OrcOptions::default()), &OrcReadOptions::default());
        assert_eq!(format!("{:?}", got.column(0)), format!("{:?}", batch.column(0)));
    }
    let bytes = [Some(b"a".as_slice()), None, Some(b"")];
    let lists = LargeListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
    let wide: [ArrayRef; 3] =
        [Arc::new(lists), Arc::new(LargeBinaryArray::from_iter(bytes)), Arc::new(BinaryViewArray::from_iter(bytes))];
    for array in wide {
        let batch = one("wide", array);
        assert_same(&read(written(&batch, OrcOptions::default()), &OrcReadOptions::default()), &batch);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(12_000));
    let none = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
    assert_eq!(read(written(&none, OrcOptions::default()), &OrcReadOptions::default()).num_rows(), 12_000);
}

#[test]
fn the_summary_says_what_the_columns_hold() {
    let mut bytes = Vec::new();
    let amount = Decimal128Array::from(vec![Some(-5), None, Some(700)]).with_precision_and_scale(5, 2).unwrap();
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("amount", Arc::new(amount) as ArrayRef, true),
        ("name", Arc::new(StringArray::from(vec!["b", "", "ü"])), true),
        ("time", Arc::new(TimestampMicrosecondArray::from(vec![None, Some(-1), None])), true),
        ("nan", Arc::new(Float64Array::from(vec![1.0, f64::NAN, 2.0])), true),
        ("flag", Arc::new(BooleanArray::from(vec![true, true, true])), true),
    ])
    .unwrap();
    let mut writer = OrcWriter::try_new(&mut bytes, batch.schema(), OrcOptions::default()).unwrap();
    writer.write(&batch).unwrap();
    let summary = writer.finish().unwrap();
    assert_eq!((summary.rows, summary.stripes, summary.bytes), (3, 1, bytes.len() as u64));
    assert_eq!(summary.last_second_times, 1);
    let text = |text: &str| Bound::Text(text.to_owned());
    let bounds: Vec<_> = summary.columns.into_iter().map(|column| (column.nulls, column.min.zip(column.max))).collect();
    assert_eq!(
        bounds,
        [
            (1, Some((Bound::Decimal(-5, 2), Bound::Decimal(700, 2)))),
            (0, Some((text(""), text("ü")))),
            (2, Some((Bound::Time(-1000), Bound::Time(-1000)))),
            (0, None),
            (0, Some((Bound::Bool(true), Bound::Bool(true)))),
        ]
    );
}

#[test]
fn the_summary_counts_every_stripe_once() {
    let batch = data::every_type(25_000, 31);
    let options = OrcOptions { stripe_bytes: 500_000, ..OrcOptions::default() };
    let mut writer = OrcWriter::try_new(Vec::new(), batch.schema(), options).unwrap();
    writer.write(&batch).unwrap();
    let summary = writer.finish().unwrap();
    assert!(summary.stripes > 5, "{}", summary.stripes);
    for (column, array) in summary.columns.iter().zip(batch.columns()) {
        assert_eq!(column.nulls, array.null_count() as u64, "{}", column.name);
    }
    let times = batch.columns().iter().filter(|array| matches!(array.data_type(), DataType::Timestamp(..)));
    let last = times.map(|array| {
        let nanos = cast(array, &DataType::Timestamp(TimeUnit::Nanosecond, None)).unwrap();
        let nanos = nanos.as_primitive::<TimestampNanosecondType>().clone();
        nanos.iter().flatten().filter(|nanos| (-999_000_000..0).contains(nanos)).count() as u64
    });
    // Those of the lists within lists come on top.
    assert!(summary.last_second_times > last.sum());
}

#[test]
fn what_orc_has_no_place_for_is_refused_before_a_byte() {
    let item = |data_type| Arc::new(Field::new("item", data_type, true));
    let types = [
        DataType::UInt32,
        DataType::Null,
        DataType::Float16,
        DataType::Date64,
        DataType::Time64(TimeUnit::Microsecond),
        DataType::Duration(TimeUnit::Second),
        DataType::Interval(IntervalUnit::DayTime),
        DataType::FixedSizeBinary(4),
        DataType::FixedSizeList(item(DataType::Int32), 2),
        DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
        DataType::Decimal256(40, 2),
        DataType::Decimal128(10, -2),
        DataType::Timestamp(TimeUnit::Microsecond, Some("Europe/Zurich".into())),
        DataType::List(item(DataType::UInt8)),
        (0..100).fold(DataType::Int32, |inner, _| DataType::List(item(inner))),
    ];
    for data_type in types {
        let mut bytes = Vec::new();
        let schema = Arc::new(Schema::new(vec![Field::new("here", data_type.clone(), true)]));
        let error = OrcWriter::try_new(&mut bytes, schema, OrcOptions::default()).err().unwrap();
        assert_eq!(error.code(), "R1501", "{data_type}");
        assert!(error.to_string().contains("here"), "{error}");
        assert!(bytes.is_empty());
    }
    let twice = Schema::new(vec![Field::new("a", DataType::Int32, true), Field::new("a", DataType::Int64, true)]);
    assert_eq!(OrcWriter::try_new(Vec::new(), Arc::new(twice), OrcOptions::default()).err().unwrap().code(), "R1501");
}

#[test]
fn options_out_of_bounds_are_refused() {
    let schema = data::every_type(0, 1).schema();
    let usual = OrcOptions::default;
    let bloom = |column: &str| OrcOptions { bloom_columns: vec![column.to_owned()], ..usual() };
    for options in [
        OrcOptions { stripe_bytes: 0, ..usual() },
        OrcOptions { row_group_rows: 999, ..usual() },
        OrcOptions { bloom_false_positives: f64::NAN, ..usual() },
        OrcOptions { compression_level: Some(23), ..usual() },
        OrcOptions { compression: Compression::Zlib, compression_level: Some(-1), ..usual() },
        bloom("nobody"),
        bloom("bool"),
        bloom("struct"),
    ] {
        let error = OrcWriter::try_new(Vec::new(), schema.clone(), options.clone()).err().unwrap();
        assert_eq!(error.code(), "R1504", "{options:?}");
    }
}

#[test]
fn values_that_do_not_fit_are_refused_and_end_the_file() {
    let wide = Decimal128Array::from(vec![1_000]).with_precision_and_scale(3, 0).unwrap();
    let cases: [(ArrayRef, &str); 2] =
        [(Arc::new(wide), "R1511"), (Arc::new(TimestampSecondArray::from(vec![i64::MAX])), "R1507")];
    for (array, code) in cases {
        let batch = one("here", array);
        let mut writer = OrcWriter::try_new(Vec::new(), batch.schema(), OrcOptions::default()).unwrap();
        let other = one("here", Arc::new(Int32Array::from(vec![1])));
        // Another schema is refused and harms nothing.
        assert_eq!(writer.write(&other).unwrap_err().code(), "R1506");
        assert_eq!(writer.write(&batch).unwrap_err().code(), code);
        assert_eq!(writer.write(&batch).unwrap_err().code(), "R1508");
        assert_eq!(writer.finish().unwrap_err().code(), "R1508");
    }
}

/// A sink that is full after some bytes.
struct Full(usize);

impl std::io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let batch = data::every_type(2000, 1);
    for room in [0, 3, 1000, 100_000] {
        let options = OrcOptions { stripe_bytes: 1, ..OrcOptions::default() };
        let written = OrcWriter::try_new(Full(room), batch.schema(), options).and_then(|mut writer| {
            writer.write(&batch)?;
            writer.finish()
        });
        assert_eq!(written.unwrap_err().code(), "R1505", "{room}");
    }
}

#[test]
fn damaged_files_are_errors_and_never_panics() {
    let dice = &mut Dice(77);
    let options = OrcReadOptions { batch_rows: 100, ..OrcReadOptions::default() };
    for compression in [Compression::None, Compression::Zlib, Compression::Snappy, Compression::Lz4, Compression::Zstd]
    {
        let whole = written(&data::every_type(250, 5), OrcOptions { compression, ..OrcOptions::default() });
        let mut refused = 0;
        for round in 0..700 {
            let mut bytes = whole.clone();
            // Half of the changes hit the tail, where a byte means most.
            let from = if round % 2 == 0 { 0 } else { bytes.len().saturating_sub(3000) };
            for _ in 0..1 + dice.below(4) {
                let at = from + dice.below((bytes.len() - from) as u64) as usize;
                match dice.below(4) {
                    0 => bytes[at] = dice.next() as u8,
                    1 => bytes[at] ^= 1 << dice.below(8),
                    2 => bytes.truncate(at.max(1)),
                    _ => bytes.insert(at, dice.next() as u8),
                }
                if from >= bytes.len() {
                    break;
                }
            }
            match OrcReader::from_bytes(Bytes::from(bytes), &options) {
                Ok(reader) => refused += usize::from(reader.take(100).any(|batch| batch.is_err())),
                Err(_) => refused += 1,
            }
        }
        println!("{compression:?}: {refused} of 700 damaged files refused");
    }
    for cut in 0..2000 {
        let noise: Vec<u8> = (0..cut % 300).map(|_| dice.next() as u8).collect();
        assert!(OrcReader::from_bytes(noise.into(), &options).is_err());
    }
}

/// A file that is fetched range by range.
struct Fetched(Bytes);

impl FetchRanges for Fetched {
    fn fetch(&self, ranges: &[std::ops::Range<u64>]) -> lakehead_core::Result<Vec<Bytes>> {
        Ok(ranges.iter().map(|range| self.0.slice(range.start as usize..range.end as usize)).collect())
    }
}

fn opened(bytes: Vec<u8>) -> OrcFile {
    OrcFile::open(bytes.len() as u64, Box::new(Fetched(bytes.into()))).unwrap()
}

/// Reads some rows of every column of a file from wherever they begin, with indexes and without.
pub(crate) fn assert_parts(bytes: Vec<u8>, whole: &RecordBatch, seed: u64) {
    let file = opened(bytes);
    let names: Vec<String> = file.schema().fields().iter().map(|field| field.name().clone()).collect();
    let mut dice = Dice(seed);
    let mut first = 0;
    for number in 0..file.stripes() {
        let plain = file.stripe(number).unwrap();
        let rows = plain.rows();
        for stripe in [plain, file.stripe(number).unwrap().with_indexes(&names).unwrap()] {
            for (name, expected) in names.iter().zip(whole.columns()) {
                let mut column = stripe.column(name).unwrap();
                let mut at = 0;
                loop {
                    let from = at + dice.below(2) * dice.below(rows.max(2) / 2);
                    let count = 1 + dice.below(300);
                    if from + count > rows {
                        break;
                    }
                    let values = column.read(from, count as usize).unwrap();
                    assert_eq!(&values, &expected.slice(first + from as usize, count as usize), "{name} at {from}");
                    at = from + count;
                }
                assert!(column.read(0, 1).is_err() || at == 0, "rows are read forwards");
                assert!(column.read(rows, 1).is_err());
            }
        }
        first += rows as usize;
    }
    assert_eq!(first, whole.num_rows());
}

/// Returns how many of the values are outside of what a part is said to hold, and how many bounds there are.
fn outside(values: &ArrayRef, extremes: &[ArrayRef; 3], part: usize) -> (usize, usize) {
    use arrow::compute::kernels::cmp::{gt, lt};
    let [least, greatest, nulls] = extremes;
    assert_eq!(nulls.as_primitive::<UInt64Type>().value(part), values.null_count() as u64);
    let bound = |array: &ArrayRef| array.is_valid(part).then(|| Scalar::new(array.slice(part, 1)));
    let below = bound(least).map(|least| lt(values, &least).unwrap().true_count());
    let above = bound(greatest).map(|greatest| gt(values, &greatest).unwrap().true_count());
    (below.unwrap_or(0) + above.unwrap_or(0), usize::from(below.is_some()) + usize::from(above.is_some()))
}

/// Holds what a file says of its stripes and groups against their values; returns how many bounds it gave.
pub(crate) fn assert_extremes(bytes: Vec<u8>, whole: &RecordBatch) -> usize {
    let file = opened(bytes);
    let names: Vec<String> = file.schema().fields().iter().map(|field| field.name().clone()).collect();
    let stripes = file.stripe_extremes(&names).unwrap();
    let (mut first, mut bounds) = (0, 0);
    for number in 0..file.stripes() {
        let stripe = file.stripe(number).unwrap().with_indexes(&names).unwrap();
        let groups = stripe.group_extremes(&names).unwrap();
        let (rows, group_rows) = (stripe.rows() as usize, stripe.group_rows() as usize);
        for (name, values) in names.iter().zip(whole.columns()) {
            let mut look = |extremes: Option<&[ArrayRef; 3]>, part, from, rows| {
                let Some(extremes) = extremes else { return };
                let (outside, found) = outside(&values.slice(from, rows), extremes, part);
                assert_eq!(outside, 0, "{name} of part {part}");
                bounds += found;
            };
            look(stripes.get(name), number, first, rows);
            for group in 0..stripe.groups() {
                let from = group * group_rows;
                look(groups.get(name), group, first + from, group_rows.min(rows - from));
            }
        }
        first += rows;
    }
    bounds
}

#[test]
fn rows_are_found_wherever_they_begin() {
    for (seed, compression) in
        [Compression::None, Compression::Zlib, Compression::Snappy, Compression::Lz4, Compression::Zstd]
            .into_iter()
            .enumerate()
    {
        let batch = data::every_type(25_000, 40 + seed as u64);
        let options =
            OrcOptions { compression, stripe_bytes: 2_000_000, row_group_rows: 1000, ..OrcOptions::default() };
        let bytes = written(&batch, options);
        let whole = read(bytes.clone(), &OrcReadOptions::default());
        assert_parts(bytes.clone(), &whole, seed as u64);
        assert!(assert_extremes(bytes, &whole) > 300);
    }
    for batch in [data::every_type(1, 2), data::all_null(12_345)] {
        let bytes = written(&batch, OrcOptions::default());
        let whole = read(bytes.clone(), &OrcReadOptions::default());
        assert_parts(bytes.clone(), &whole, 9);
        assert_extremes(bytes, &whole);
    }
}
