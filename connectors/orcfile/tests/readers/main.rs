//! Files of every type, read by others: pyarrow and chdb, through `check.py`.
//!
//! The Python that has them is named by `LAKEHEAD_READERS`; without it these tests print that they were skipped.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "tests")]

mod data;
mod own;

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::Command;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::ipc::writer::FileWriter;
use lakehead_orcfile::{Compression, OrcOptions, OrcReadOptions, OrcReader, OrcSummary, OrcWriter};

fn write(folder: &Path, name: &str, batches: &[RecordBatch], options: OrcOptions) -> OrcSummary {
    let schema = batches[0].schema();
    let file = File::create(folder.join(format!("{name}.orc"))).unwrap();
    let mut writer = OrcWriter::try_new(file, schema.clone(), options).unwrap();
    let mut expected =
        FileWriter::try_new(File::create(folder.join(format!("{name}.arrow"))).unwrap(), &schema).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
        expected.write(batch).unwrap();
    }
    expected.finish().unwrap();
    writer.finish().unwrap()
}

/// Runs `readers/check.py` over a folder, if there is a Python for it.
fn check(verb: &str, folder: &Path) {
    run("LAKEHEAD_READERS", "tests/readers/check.py", &[verb.as_ref(), folder.as_os_str()]);
}

fn run(variable: &str, script: &str, arguments: &[&OsStr]) {
    let Some(python) = std::env::var_os(variable) else {
        println!("skipped: {variable} names no Python");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let output = Command::new(python).arg(script).args(arguments).output().unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{said}\n{wrong}");
}

#[test]
fn pyarrow_and_chdb_read_every_type_from_every_compression() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let every = data::every_type(25_000, 1);
    let compressions = [Compression::None, Compression::Zlib, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for compression in compressions {
        let name = format!("{compression:?}").to_lowercase();
        let options = OrcOptions {
            compression,
            stripe_bytes: 2_000_000,
            bloom_columns: ["id", "text", "decimal", "instant", "date", "f64", "list.element"]
                .map(String::from)
                .to_vec(),
            metadata: vec![("who".into(), "wé".into()), ("bytes".into(), vec![0, 255])],
            ..OrcOptions::default()
        };
        // Batches that end inside pieces, row groups and stripes.
        let parts = [every.slice(0, 1), every.slice(1, 9_998), every.slice(9_999, 12_345), every.slice(22_344, 2_656)];
        let summary = write(path, &name, &parts, options);
        assert_eq!(summary.rows, 25_000);
        assert!(summary.stripes > 2, "{} stripes", summary.stripes);
        assert_eq!(summary.bytes, std::fs::metadata(path.join(format!("{name}.orc"))).unwrap().len());
        assert!(summary.last_second_times > 0);
    }
    write(path, "empty", &[every.slice(0, 0)], OrcOptions::default());
    write(path, "null", &[data::all_null(10_001)], OrcOptions::default());
    write(path, "one", &[every.slice(17, 1)], OrcOptions::default());
    check("pyarrow", path);
    check("chdb", path);
}

fn write_searched(folder: &Path) {
    let searched = data::searched(100_000);
    let columns = ["text", "whole", "amount"].map(String::from).to_vec();
    let small = OrcOptions { stripe_bytes: 1_000_000, ..OrcOptions::default() };
    write(folder, "bloom", std::slice::from_ref(&searched), OrcOptions { bloom_columns: columns, ..small.clone() });
    write(folder, "plain", &[searched], small);
}

#[test]
fn readers_skip_row_groups_by_index_and_by_bloom_filter() {
    let folder = tempfile::tempdir().unwrap();
    write_searched(folder.path());
    let options = OrcOptions { stripe_bytes: 4_000_000, ..OrcOptions::default() };
    write(folder.path(), "every", &[data::every_type(65_000, 3)], options);
    check("skip", folder.path());
}

#[test]
fn what_pyarrow_writes_comes_back() {
    if std::env::var_os("LAKEHEAD_READERS").is_none() {
        println!("skipped: LAKEHEAD_READERS names no Python");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let batch = data::every_type(30_000, 12);
    write(folder.path(), "theirs", std::slice::from_ref(&batch), OrcOptions::default());
    check("write", folder.path());
    for compression in ["uncompressed", "zlib", "snappy", "lz4", "zstd"] {
        let path = folder.path().join(format!("theirs.{compression}"));
        let reader = OrcReader::open(&path, &OrcReadOptions::default()).unwrap();
        let schema = reader.schema().clone();
        let got = arrow::compute::concat_batches(&schema, &reader.collect::<Result<Vec<_>, _>>().unwrap()).unwrap();
        own::assert_same(&got, &batch);
        let bytes = std::fs::read(&path).unwrap();
        own::assert_parts(bytes.clone(), &got, 13);
        assert!(own::assert_extremes(bytes, &got) > 50);
    }
}

#[test]
fn spark_reads_every_type_and_skips_row_groups() {
    if std::env::var_os("LAKEHEAD_SPARK").is_none() {
        println!("skipped: LAKEHEAD_SPARK names no Python");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    write_searched(folder.path());
    for (name, compression) in [("zlib", Compression::Zlib), ("zstd", Compression::Zstd), ("none", Compression::None)] {
        let options = OrcOptions { compression, stripe_bytes: 4_000_000, ..OrcOptions::default() };
        write(folder.path(), &format!("every_{name}"), &[data::every_type_for_java(65_000, 4)], options);
    }
    write(folder.path(), "every_empty", &[data::every_type_for_java(0, 1)], OrcOptions::default());
    write(folder.path(), "every_null", &[data::all_null(20_000)], OrcOptions::default());
    // Spark reads the expected rows as Parquet, which another writer makes.
    check("parquet", folder.path());
    for zone in ["UTC", "America/New_York"] {
        run("LAKEHEAD_SPARK", "tests/spark/check.py", &[folder.path().as_os_str(), zone.as_ref()]);
    }
}

#[test]
fn times_that_spark_writes_in_any_zone_are_what_its_clocks_showed() {
    if std::env::var_os("LAKEHEAD_SPARK").is_none() {
        println!("skipped: LAKEHEAD_SPARK names no Python");
        return;
    }
    for zone in ["America/New_York", "UTC", "Asia/Kolkata"] {
        let folder = tempfile::tempdir().unwrap();
        run("LAKEHEAD_SPARK", "tests/spark/write.py", &[folder.path().as_os_str(), zone.as_ref()]);
        let mut files = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let path = files.find(|path| path.extension().is_some_and(|end| end == "orc")).unwrap();
        let mut rows = 0;
        for batch in OrcReader::open(&path, &OrcReadOptions::default()).unwrap() {
            let batch = batch.unwrap();
            let shown = batch.column_by_name("shown").unwrap().as_string::<i32>();
            let times = batch.column_by_name("time").unwrap().as_primitive::<TimestampMicrosecondType>();
            for (time, shown) in times.iter().zip(shown) {
                let time = arrow::temporal_conversions::timestamp_us_to_datetime(time.unwrap()).unwrap();
                assert_eq!(time.format("%Y-%m-%dT%H:%M:%S%.6f").to_string(), shown.unwrap(), "{zone}");
            }
            rows += batch.num_rows();
        }
        assert_eq!(rows, 14_000);
    }
}
