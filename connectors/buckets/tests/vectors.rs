//! Hashes against the answers of Hive 3.1.3 and Spark 4.0.1 (`make_vectors.py` asked them) and published vectors.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::num::NonZeroU32;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Int32Type, TimeUnit};
use lakehead_buckets::BucketHash;
use lakehead_core::has_bucket_hash;

/// The buckets of `vectors.tsv`.
const BUCKETS: NonZeroU32 = NonZeroU32::new(13).unwrap();

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.strip_prefix('x').unwrap();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// Makes a column of one row.
fn column(kind: &str, written: &str) -> ArrayRef {
    let value = (written != "null").then_some(written);
    let number = || value.map(|text| text.parse::<i64>().unwrap());
    match kind {
        "bool" => Arc::new(BooleanArray::from(vec![value.map(|text| text == "true")])),
        "tinyint" => Arc::new(Int8Array::from(vec![number().map(|n| n.try_into().unwrap())])),
        "smallint" => Arc::new(Int16Array::from(vec![number().map(|n| n.try_into().unwrap())])),
        "int" => Arc::new(Int32Array::from(vec![number().map(|n| n.try_into().unwrap())])),
        "bigint" => Arc::new(Int64Array::from(vec![number()])),
        "real" => {
            let bits = value.map(|text| f32::from_bits(u32::from_str_radix(text, 16).unwrap()));
            Arc::new(Float32Array::from(vec![bits]))
        }
        "double" => {
            let bits = value.map(|text| f64::from_bits(u64::from_str_radix(text, 16).unwrap()));
            Arc::new(Float64Array::from(vec![bits]))
        }
        "varchar" => Arc::new(StringArray::from(vec![value.map(|text| String::from_utf8(unhex(text)).unwrap())])),
        "bytea" => Arc::new(BinaryArray::from_iter([value.map(unhex)])),
        "date" => Arc::new(Date32Array::from(vec![number().map(|n| n.try_into().unwrap())])),
        "timestamp" => Arc::new(TimestampMicrosecondArray::from(vec![number()])),
        "timestamptz" => Arc::new(TimestampMicrosecondArray::from(vec![number()]).with_timezone("UTC")),
        _ => {
            let digits = kind.strip_prefix("decimal(").unwrap().strip_suffix(')').unwrap();
            let (precision, scale) = digits.split_once(',').unwrap();
            let whole = value.map(|text| text.parse::<i128>().unwrap());
            let array = Decimal128Array::from(vec![whole]);
            Arc::new(array.with_precision_and_scale(precision.parse().unwrap(), scale.parse().unwrap()).unwrap())
        }
    }
}

fn row(kinds: &[&str], values: &[&str]) -> (RecordBatch, Vec<String>) {
    assert_eq!(kinds.len(), values.len());
    let names: Vec<String> = (0..kinds.len()).map(|n| format!("c{n}")).collect();
    let columns = kinds.iter().zip(values).map(|(kind, value)| column(kind, value));
    let rows = RecordBatch::try_from_iter_with_nullable(names.iter().zip(columns).map(|(n, c)| (n, c, true))).unwrap();
    (rows, names)
}

#[test]
fn every_value_hashes_as_hive_and_spark_hash_it() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for line in include_str!("vectors.tsv").lines() {
        let cells: Vec<&str> = line.split('\t').collect();
        let kinds: Vec<&str> = cells[0].split('|').collect();
        let values: Vec<&str> = cells[1].split('|').collect();
        let (rows, names) = row(&kinds, &values);
        let expected: Vec<i64> = cells[2..].iter().map(|cell| cell.parse().unwrap()).collect();
        for (hash, pair) in
            [BucketHash::Hive1, BucketHash::Hive2, BucketHash::Spark].into_iter().zip(expected.chunks(2))
        {
            let found = hash.hashes(&rows, &names).unwrap()[0];
            let bucket = hash.numbers(&rows, &names, BUCKETS).unwrap()[0];
            checked += 1;
            if [i64::from(found), i64::from(bucket)] != pair {
                wrong.push(format!("{} of {} {}: {found} {bucket}, not {pair:?}", hash.word(), cells[0], cells[1]));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {checked} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(checked > 2000, "{checked} only");
}

/// What Trino's `TestHiveBucketing` and Spark's documentation of `hash` print.
#[test]
fn published_vectors_hold() {
    let hash = |hash: BucketHash, kind: &str, value: &str| {
        let (rows, names) = row(&[kind], &[value]);
        hash.hashes(&rows, &names).unwrap()[0]
    };
    let text = |text: &str| format!("x{}", text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>());
    for (kind, value, expected) in [
        ("bigint", "300000000000", -888_935_297),
        ("bigint", "-9223372036854775808", 1_728_983_947),
        ("bigint", "9223372036854775807", -536_577_852),
        ("int", "300000", -678_663_480),
        ("smallint", "300", 2_107_031_704),
        ("smallint", "-32768", 1_342_976_838),
        ("smallint", "32767", -684_075_052),
        ("date", "16758", 8_542_395),
        ("date", "0", 1_362_653_161),
        ("date", "-6983", -431_619_185),
        ("double", "4028ae147ae147ae", -2_070_733_568),
        ("real", "414570a4", -381_747_602),
        ("varchar", &text("test string"), -138_301_454),
        ("varchar", &text("Trino rocks"), -399_107_423),
        ("varchar", &text("强大的Trino引擎"), 1_784_416_344),
        ("varchar", &text("\u{20ffc}\u{20ffd}\u{20ffe}\u{20fff}"), -697_348_811),
        ("varchar", "x", -965_378_730),
    ] {
        assert_eq!(hash(BucketHash::Hive2, kind, value), expected, "{kind} {value}");
    }
    for (written, expected) in [
        ("test string", -318_923_937),
        ("强大的Trino引擎", 1_688_501_507),
        ("\u{20ffc}\u{20ffd}\u{20ffe}\u{20fff}", -1_810_797_254),
    ] {
        assert_eq!(hash(BucketHash::Hive1, "varchar", &text(written)), expected, "{written}");
    }
    assert_eq!(hash(BucketHash::Spark, "varchar", &text("Spark")), 228_093_765);
}

#[test]
fn a_type_that_no_engine_buckets_by_is_refused_by_name() {
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]);
    let rows = RecordBatch::try_from_iter([("tags", Arc::new(lists) as ArrayRef)]).unwrap();
    for hash in BucketHash::ALL {
        let error = hash.numbers(&rows, &["tags".into()], BUCKETS).unwrap_err();
        assert_eq!(error.code(), "R0412");
        assert_eq!(error.context()[0], ("column", "tags".to_owned()));
        assert_eq!(BucketHash::parse(hash.word()), Some(hash));
    }
    for data_type in [DataType::Time64(TimeUnit::Microsecond), DataType::Null, DataType::Decimal128(9, -2)] {
        assert!(!has_bucket_hash(&data_type), "{data_type}");
    }
}

#[test]
fn wide_and_shared_texts_hash_as_plain_ones() {
    let plain: ArrayRef = Arc::new(StringArray::from(vec![Some("日本語"), None, Some("")]));
    for data_type in [DataType::LargeUtf8, DataType::Utf8View, DataType::Binary, DataType::BinaryView] {
        let other = arrow::compute::cast(&plain, &data_type).unwrap();
        let rows = RecordBatch::try_from_iter_with_nullable([("a", Arc::clone(&plain), true), ("b", other, true)]);
        let rows = rows.unwrap();
        for hash in [BucketHash::Hive2, BucketHash::Spark] {
            assert_eq!(hash.hashes(&rows, &["a".into()]).unwrap(), hash.hashes(&rows, &["b".into()]).unwrap());
        }
    }
}
