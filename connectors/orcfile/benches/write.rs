//! What writing costs: 2 M rows of whole numbers, texts, decimals and times as ORC with zstd.
//!
//! ```text
//! cargo bench -p lakehead-orcfile --bench write -- FOLDER [ROWS [TIMES]]   prints JSON, leaves batch.arrow, ours.orc
//! python benches/write.py FOLDER [TIMES]                                   the same batch through pyarrow.orc
//! ```
//!
//! MB are those of the Arrow batch; CPU is that of the process while it writes.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, missing_docs, reason = "a benchmark")]

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::*;
use arrow::ipc::writer::FileWriter;
use lakehead_orcfile::{OrcOptions, OrcReadOptions, OrcReader, OrcWriter};
use serde_json::json;

/// Rows of a batch given to the writer: what the engine's batches have.
const BATCH_ROWS: usize = 65_536;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let Some(folder) = arguments.first().map(Path::new) else {
        // What `cargo test --benches` runs: nothing.
        return eprintln!("FOLDER [ROWS [TIMES]]");
    };
    let number = |at: usize, usual: usize| arguments.get(at).map_or(usual, |text| text.parse().unwrap());
    let (rows, times) = (number(1, 2_000_000), number(2, 5));
    endless(&batch(BATCH_ROWS), rows / BATCH_ROWS * 10);
    let batch = batch(rows);
    let mut file = FileWriter::try_new(File::create(folder.join("batch.arrow")).unwrap(), &batch.schema()).unwrap();
    for from in (0..rows).step_by(BATCH_ROWS) {
        file.write(&batch.slice(from, BATCH_ROWS.min(rows - from))).unwrap();
    }
    file.finish().unwrap();
    let all = mb(&batch);
    measure("all", &batch, folder, times, all);
    for (at, field) in batch.schema().fields().iter().enumerate() {
        let one = batch.project(&[at]).unwrap();
        measure(field.name(), &one, folder, times, mb(&one));
    }
    read(folder, &batch, all);
}

/// What the values take, without room that an array has over.
fn mb(batch: &RecordBatch) -> f64 {
    let bytes = batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap());
    bytes.sum::<usize>() as f64 / 1e6
}

fn measure(what: &str, batch: &RecordBatch, folder: &Path, times: usize, mb: f64) {
    let path = folder.join(if what == "all" { "ours.orc".to_owned() } else { format!("ours_{what}.orc") });
    let mut best = f64::MAX;
    let mut bytes = 0;
    for _ in 0..times {
        let before = cpu();
        let mut writer =
            OrcWriter::try_new(File::create(&path).unwrap(), batch.schema(), OrcOptions::default()).unwrap();
        for from in (0..batch.num_rows()).step_by(BATCH_ROWS) {
            writer.write(&batch.slice(from, BATCH_ROWS.min(batch.num_rows() - from))).unwrap();
        }
        bytes = writer.finish().unwrap().bytes;
        best = best.min(cpu() - before);
    }
    let figures = json!({
        "writer": "lakehead", "columns": what, "rows": batch.num_rows(), "arrow_mb": mb.round(),
        "file_mb": bytes as f64 / 1e6, "cpu_s": best, "mb_per_cpu_s": (mb / best).round(),
    });
    println!("{figures}");
}

/// Writes the first batch again and again, and says how much memory the process has ever held.
fn endless(batch: &RecordBatch, batches: usize) {
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    let before = peak();
    let mut writer = OrcWriter::try_new(std::io::sink(), batch.schema(), OrcOptions::default()).unwrap();
    for _ in 0..batches {
        writer.write(batch).unwrap();
    }
    let summary = writer.finish().unwrap();
    let figures = json!({
        "rows": summary.rows, "stripes": summary.stripes, "file_mb": summary.bytes / 1_000_000,
        "peak_mb_before": before, "peak_mb": peak(),
    });
    println!("{figures}");
}

fn read(folder: &Path, batch: &RecordBatch, mb: f64) {
    let before = cpu();
    let reader = OrcReader::open(&folder.join("ours.orc"), &OrcReadOptions::default()).unwrap();
    let rows: usize = reader.map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, batch.num_rows());
    let cpu = cpu() - before;
    println!("{}", json!({ "reader": "lakehead", "rows": rows, "cpu_s": cpu, "mb_per_cpu_s": (mb / cpu).round() }));
}

/// CPU seconds of this process, in hundredths: what Linux counts.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn batch(rows: usize) -> RecordBatch {
    let mut state = 1u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 16
    };
    let amounts: Vec<i128> = (0..rows).map(|_| i128::from(next() % 10_000_000) - 1_000_000).collect();
    // Times that rise by up to a second, as those of events do.
    let mut time = 1_700_000_000_000_000i64;
    let times = (0..rows).map(|_| {
        time += (next() % 1_000_000) as i64;
        time
    });
    let times = TimestampMicrosecondArray::from_iter_values(times);
    let towns = ["Zürich", "Genève", "Basel", "Lausanne", "Bern", "Winterthur", "Luzern", "St. Gallen"];
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(0..rows as i64)) as ArrayRef),
        ("number", Arc::new(Int32Array::from_iter_values((0..rows).map(|_| (next() % 1_000_000) as i32)))),
        ("town", Arc::new(StringArray::from_iter_values((0..rows).map(|_| towns[next() as usize % towns.len()])))),
        ("name", Arc::new(StringArray::from_iter_values((0..rows).map(|_| format!("customer {:012x}", next()))))),
        ("amount", Arc::new(Decimal128Array::from(amounts).with_precision_and_scale(12, 2).unwrap())),
        ("time", Arc::new(times)),
    ])
    .unwrap()
}
