//! Many partitions at once cost files, not memory. Alone in its process: its peak is what is measured.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use lakehead_core::{ManualClock, RunContext, Settings, SinkSpec, Value, WriteMode};
use lakehead_parquet::CONNECTOR;

const PARTITIONS: i64 = 10_000;
/// Rows of one batch: each goes to another partition.
const BATCH_ROWS: i64 = 10_000;
const BATCHES: i64 = 30;
/// Bytes of a row, which no packing makes smaller.
const ROW_BYTES: usize = 2048;
/// What the process may grow by, whatever it is given.
const GROWTH_MAX: u64 = 512 << 20;

fn schema() -> SchemaRef {
    let field = |name, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        field("part", DataType::Int64),
        field("id", DataType::Int64),
        field("body", DataType::Binary),
    ]))
}

/// Bytes that look like chance (splitmix64).
fn body(seed: u64) -> Vec<u8> {
    let word = |n: u64| {
        let mut mixed = seed.wrapping_mul(0x9e37_79b9).wrapping_add(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).to_le_bytes()
    };
    (0..ROW_BYTES as u64 / 8).flat_map(word).collect()
}

fn batch(number: i64) -> RecordBatch {
    let ids = number * BATCH_ROWS..(number + 1) * BATCH_ROWS;
    let parts: Int64Array = ids.clone().map(|id| id * 7919 % PARTITIONS).collect();
    let bodies = BinaryArray::from_iter_values(ids.clone().map(|id| body(id.unsigned_abs())));
    let columns: Vec<ArrayRef> = vec![Arc::new(parts), Arc::new(ids.collect::<Int64Array>()), Arc::new(bodies)];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// The most memory that the process ever had, bytes; `None` where the system does not say.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[tokio::test]
async fn ten_thousand_partitions_are_ten_thousand_files_in_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    settings.set("compression", Value::Name("none".into()));
    let spec = SinkSpec {
        pipeline: "p".into(),
        node: "raw".into(),
        table: "t".into(),
        schema: schema(),
        key: vec!["id".into()],
        mode: WriteMode::Append,
        partition_by: vec!["part".into()],
        connection: Settings::new([("path".into(), Value::Text("lake".into()))]),
        settings,
        root: folder.path().into(),
        cache: std::env::temp_dir().join("lakehead-tests"),
        run: RunContext::default(),
        clock: Arc::new(ManualClock::at(0)),
    };
    let mut sink = (CONNECTOR.sink.unwrap().build)(spec).unwrap();
    sink.open(1).await.unwrap();
    drop(batch(0));
    let before = peak();
    let given = BATCHES.unsigned_abs() * BATCH_ROWS.unsigned_abs() * ROW_BYTES as u64;
    for number in 0..BATCHES {
        sink.stage(batch(number)).await.unwrap();
    }
    let round = sink.prepare().await.unwrap().unwrap();
    let grown = peak().zip(before).map(|(after, before)| after - before);
    assert_eq!(round.payload["files"].as_array().unwrap().len() as i64, PARTITIONS);
    assert_eq!(round.rows as i64, BATCHES * BATCH_ROWS);
    // Rows that wait, their sorted copy and one open file: less than half of what was staged, and never above the bound.
    if let Some(grown) = grown {
        assert!(grown < GROWTH_MAX && grown * 2 < given, "grew by {grown} bytes over {given} bytes of rows");
    }
}
