//! Buckets, order and indexes of the files that a lister finds, over several rounds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray, Date32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use lakehead_buckets::BucketHash;
use lakehead_core::{
    ManualClock, Mark, Outcome, Prepared, RunContext, Settings, Sink, SinkSpec, Value, WriteMode, failpoint,
};
use lakehead_parquet::CONNECTOR;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

/// Failpoints are the process's, so the tests take turns.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const COUNT: NonZeroU32 = NonZeroU32::new(40).unwrap();

fn schema() -> SchemaRef {
    let fields = [("id", DataType::Int64), ("name", DataType::Utf8), ("day", DataType::Date32)];
    Arc::new(Schema::new(fields.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec()))
}

/// Ids that neither rise nor fall, names with and without NULL, three days.
fn rows(from: i64, count: i64) -> RecordBatch {
    let ids = (from..from + count).map(|n| n.wrapping_mul(7_919) % 1_000_003);
    let name = |n: i64| (n % 10 != 0).then(|| format!("日本{}", n % 97));
    let names: StringArray = (from..from + count).map(name).collect();
    let days: Date32Array = (from..from + count).map(|n| Some(i32::try_from(n % 3).unwrap())).collect();
    let columns: Vec<arrow::array::ArrayRef> =
        vec![Arc::new(ids.collect::<Int64Array>()), Arc::new(names), Arc::new(days)];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn names(columns: &[&str]) -> Value {
    Value::List(columns.iter().map(|name| Value::Name((*name).into())).collect())
}

fn spec(folder: &Path, hash: BucketHash, bucket_by: &[&str], sort_by: &[&str]) -> SinkSpec {
    let mut settings = Settings::default();
    settings.set("bucket_by", names(bucket_by));
    settings.set("bucket_count", Value::Int(COUNT.get().into()));
    settings.set("bucket_hash", Value::Name(hash.word().into()));
    if !sort_by.is_empty() {
        settings.set("sort_by", names(sort_by));
    }
    SinkSpec {
        pipeline: "p".into(),
        node: "raw".into(),
        table: "t".into(),
        schema: schema(),
        key: vec!["id".into()],
        mode: WriteMode::Append,
        partition_by: vec!["day".into()],
        connection: Settings::new([("path".into(), Value::Text("lake".into()))]),
        settings,
        root: folder.into(),
        cache: std::env::temp_dir().join("lakehead-tests"),
        run: RunContext::default(),
        clock: Arc::new(ManualClock::at(0)),
    }
}

fn sink(spec: SinkSpec) -> Box<dyn Sink> {
    (CONNECTOR.sink.unwrap().build)(spec).unwrap()
}

async fn prepared(sink: &mut Box<dyn Sink>, batches: &[RecordBatch]) -> Prepared {
    for rows in batches {
        sink.stage(rows.clone()).await.unwrap();
    }
    sink.prepare().await.unwrap().unwrap()
}

fn mark(seq: u64, fence: u64) -> Mark {
    Mark { seq, fence, ..Mark::default() }
}

/// Every data file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(file: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(file).unwrap()).unwrap();
    let schema = reader.schema().clone();
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    arrow::compute::concat_batches(&schema, &batches).unwrap()
}

/// The bucket that a reader takes from a file's name.
fn bucket_of(file: &Path, hash: BucketHash) -> u32 {
    let name = file.file_name().unwrap().to_str().unwrap();
    let digits = match hash {
        BucketHash::Spark => name.split('.').next().unwrap().rsplit('_').next().unwrap(),
        _ => name.split("_0_").next().unwrap(),
    };
    digits.parse().unwrap_or_else(|_| panic!("{name}"))
}

#[tokio::test]
async fn every_row_of_every_round_lies_in_the_bucket_that_its_file_names() {
    let _turn = TURN.lock().await;
    for hash in BucketHash::ALL {
        for (bucket_by, sort_by) in
            [(vec!["id"], vec!["id"]), (vec!["name", "id"], vec![]), (vec!["name"], vec!["day", "name", "id"])]
        {
            let folder = tempfile::tempdir().unwrap();
            let mut sink = sink(spec(folder.path(), hash, &bucket_by, &sort_by));
            sink.open(1).await.unwrap();
            let by: Vec<String> = bucket_by.iter().map(|name| (*name).to_owned()).collect();
            for round in 0..3_i64 {
                let batches: Vec<_> = (0..4).map(|part| rows(round * 4000 + part * 1000, 1000)).collect();
                let round_rows = prepared(&mut sink, &batches).await;
                sink.commit(&round_rows, mark(u64::try_from(round).unwrap() + 1, 1)).await.unwrap();
                let found = files(&folder.path().join("lake/t"));
                let most = usize::try_from(round + 1).unwrap() * 3 * COUNT.get() as usize;
                assert!(found.len() <= most, "{} files, {most} at most", found.len());
                let mut count = 0;
                for file in &found {
                    let data = read(file);
                    count += data.num_rows();
                    let numbers = hash.numbers(&data, &by, COUNT).unwrap();
                    assert!(numbers.iter().all(|number| *number == bucket_of(file, hash)), "{}", file.display());
                    if !sort_by.is_empty() {
                        assert_sorted(&data, &sort_by[sort_by.len() - 1..], sort_by.len() > 1);
                    }
                }
                assert_eq!(count, usize::try_from(round + 1).unwrap() * 4000);
            }
        }
    }
}

fn assert_sorted(data: &RecordBatch, last: &[&str], by_name_first: bool) {
    let ids = data.column_by_name(last[0]).unwrap().as_primitive::<Int64Type>();
    let names = data.column_by_name("name").unwrap().as_string::<i32>();
    let key = |row: usize| {
        let name = (by_name_first && names.is_valid(row)).then(|| names.value(row));
        (name, ids.value(row))
    };
    assert!((1..data.num_rows()).all(|row| key(row - 1) <= key(row)));
}

#[tokio::test]
async fn a_retry_takes_the_place_of_its_own_files_and_leftovers_go() {
    let _turn = TURN.lock().await;
    for hash in BucketHash::ALL {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = sink(spec(folder.path(), hash, &["id"], &["id"]));
        writer.open(1).await.unwrap();
        let round = prepared(&mut writer, &[rows(0, 500)]).await;
        failpoint::configure("parquet.published=error").unwrap();
        assert!(writer.commit(&round, mark(1, 1)).await.is_err());
        failpoint::configure("").unwrap();
        let before = files(&folder.path().join("lake/t"));
        assert!(matches!(writer.commit(&round, mark(1, 1)).await.unwrap(), Outcome::Committed(_)));
        assert_eq!(writer.commit(&round, mark(1, 1)).await.unwrap(), Outcome::AlreadyCommitted);
        assert_eq!(files(&folder.path().join("lake/t")), before);
        assert!(files(&folder.path().join("lake/_staging")).is_empty());
        // What a dead process left in a bucket's name goes when the next one opens.
        let stray = before[0].to_string_lossy().replace("0000000001-00001", "0000000002-00001");
        std::fs::copy(&before[0], stray).unwrap();
        let mut next = sink(spec(folder.path(), hash, &["id"], &["id"]));
        next.open(2).await.unwrap();
        assert_eq!(files(&folder.path().join("lake/t")), before);
        // Rows that are given up leave nothing behind.
        next.stage(rows(0, 500)).await.unwrap();
        next.abort().await.unwrap();
        assert!(files(&folder.path().join("lake/_staging")).is_empty());
    }
}

#[tokio::test]
async fn other_buckets_than_the_table_has_are_refused() {
    let _turn = TURN.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let right = spec(folder.path(), BucketHash::Hive2, &["id"], &[]);
    sink(right.clone()).open(1).await.unwrap();
    let mut none = right.clone();
    none.settings = Settings::default();
    let mut fewer = right.clone();
    fewer.settings.set("bucket_count", Value::Int(8));
    for other in [
        none,
        fewer,
        spec(folder.path(), BucketHash::Spark, &["id"], &[]),
        spec(folder.path(), BucketHash::Hive2, &["name"], &[]),
    ] {
        assert_eq!(sink(other).open(2).await.unwrap_err().code(), "R0236");
    }
    // The order of rows is each round's own affair.
    sink(spec(folder.path(), BucketHash::Hive2, &["id"], &["name"])).open(2).await.unwrap();
    let mut half = right;
    half.settings = Settings::new([("bucket_by".into(), names(&["id"]))]);
    assert_eq!((CONNECTOR.sink.unwrap().build)(half).err().unwrap().code(), "R0413");
}

fn metadata(file: &Path) -> ParquetMetaData {
    let file = std::fs::File::open(file).unwrap();
    ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required).parse_and_finish(&file).unwrap()
}

#[tokio::test]
async fn files_tell_readers_where_to_look() {
    let _turn = TURN.lock().await;
    let folder = tempfile::tempdir().unwrap();
    for (fence, compression) in [(1, "zstd"), (2, "snappy"), (3, "gzip"), (4, "lz4")] {
        let mut spec = spec(folder.path(), BucketHash::Hive2, &["id"], &["name", "id"]);
        spec.settings.set("compression", Value::Name(compression.into()));
        let mut sink = sink(spec);
        sink.open(fence).await.unwrap();
        let round = prepared(&mut sink, &[rows(0, 500)]).await;
        sink.commit(&round, mark(fence, fence)).await.unwrap();
        let marker = format!("{fence:010}-{fence:05}");
        for file in files(&folder.path().join("lake/t")) {
            if !file.to_string_lossy().contains(&marker) {
                continue;
            }
            let found = metadata(&file);
            let group = found.row_group(0);
            let packed = format!("{:?}", group.column(0).compression()).to_lowercase();
            assert!(packed.starts_with(compression), "{packed}");
            assert!(group.column(0).statistics().is_some() && found.column_index().is_some());
            assert!(group.column(0).bloom_filter_offset().is_some(), "`id` is the key");
            assert!(group.column(1).bloom_filter_offset().is_none(), "`name` is not");
            // A filter costs what its few keys cost, not what a full row group would.
            assert!(group.column(0).bloom_filter_length().unwrap() < 1024);
            let order: Vec<_> = group.sorting_columns().unwrap().iter().map(|column| column.column_idx).collect();
            assert_eq!(order, [1, 0]);
        }
    }
}

/// A table of the laws, in buckets.
struct UnderLaw(PathBuf, BucketHash);

#[async_trait::async_trait]
impl lakehead_conformance::SinkUnderTest for UnderLaw {
    fn sink(&self) -> Box<dyn Sink> {
        let mut spec = spec(&self.0, self.1, &["id"], &["body"]);
        spec.schema = Arc::new(lakehead_core::data_fields(&lakehead_conformance::rows(&[]).schema()));
        spec.partition_by = vec![];
        sink(spec)
    }

    async fn read(&self) -> Vec<(i64, Option<String>)> {
        let mut newest: Vec<_> =
            std::fs::read_dir(self.0.join("lake/t/_manifest")).unwrap().map(|f| f.unwrap().path()).collect();
        newest.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
        newest.sort();
        let text = std::fs::read_to_string(newest.last().unwrap()).unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut found = vec![];
        for file in manifest["files"].as_array().unwrap() {
            let path = self.0.join("lake/t").join(file["name"].as_str().unwrap());
            assert_eq!(file["bucket"].as_u64().unwrap(), u64::from(bucket_of(&path, self.1)));
            let data = read(&path);
            let ids = data.column_by_name("id").unwrap().as_primitive::<Int64Type>();
            let bodies = data.column_by_name("body").unwrap().as_string::<i32>();
            let row = |n: usize| (ids.value(n), bodies.is_valid(n).then(|| bodies.value(n).to_owned()));
            found.extend((0..data.num_rows()).map(row));
        }
        found
    }
}

#[tokio::test]
async fn a_table_in_buckets_keeps_the_laws() {
    let _turn = TURN.lock().await;
    for hash in [BucketHash::Hive2, BucketHash::Spark] {
        let folder = tempfile::tempdir().unwrap();
        lakehead_conformance::sink_laws(&UnderLaw(folder.path().into(), hash)).await.unwrap();
    }
}
