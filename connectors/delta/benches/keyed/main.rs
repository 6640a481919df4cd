//! What a keyed table costs, in one process: upserts (B3), merging of files (B4), size and history (B11).
//!
//! ```text
//! cargo bench --workspace --bench keyed -- upserts FOLDER 4000000     rounds of 2,000 and of 100,000 changes
//! cargo bench --workspace --bench keyed -- files FOLDER 2000          small files merged, whole and with rows gone
//! cargo bench --workspace --bench keyed -- files FOLDER 64 131072     files whose row groups can be copied
//! cargo bench --workspace --bench keyed -- merge FOLDER whole-copy    the same of a table that `files` left
//! cargo bench --workspace --bench keyed -- history FOLDER 20000       commits, the first and the last of them
//! ```
//!
//! Each line that it prints is a JSON object. `examples/figures/keyed.sh` puts delta-rs beside it, over copies of the same
//! tables. CPU is that of the whole process, work beside the rounds included.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, missing_docs, reason = "a benchmark")]

mod data;
mod table;

use std::path::Path;

use data::{Changes, Keys};
use lakehead_core::{Patience, WriteMode};
use serde_json::json;
use table::{BenchTable, Meter};

/// Rows of one round while a table is filled.
const FILL: u64 = 500_000;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let number = |at: usize, usual: u64| arguments.get(at).map_or(usual, |text| text.parse().unwrap());
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["upserts", folder, ..] => upserts(Path::new(folder), number(2, 4_000_000), number(3, 50), number(4, 0)).await,
        ["files", folder, ..] => files(Path::new(folder), number(2, 2_000), number(3, 1_500)).await,
        ["merge", folder, name] => merge(Path::new(folder), name).await,
        ["history", folder, ..] => history(Path::new(folder), number(2, 20_000)).await,
        // What `cargo test --benches` runs: nothing.
        _ => eprintln!(
            "upserts FOLDER [ROWS [ROUNDS [CHANGES]]] | files FOLDER [FILES [ROWS]] | merge FOLDER NAME | history FOLDER [COMMITS]"
        ),
    }
}

async fn fill(table: &mut BenchTable, rows: u64) {
    for first in (0..rows).step_by(usize::try_from(FILL).unwrap()) {
        table.commit(data::snapshot(first, FILL.min(rows - first))).await;
    }
}

/// B3 and B11: what rounds of changes cost in a table of `rows` rows.
async fn upserts(folder: &Path, rows: u64, rounds: u64, only: u64) {
    let meter = Meter::start();
    let mut table = BenchTable::open(folder, "t", WriteMode::Upsert, true).await;
    fill(&mut table, rows).await;
    table.tend(Patience::ToEnd).await;
    println!("{}", json!({ "step": "fill", "rows": rows, "cpu_s": meter.cpu(), "wall_s": meter.wall() }));
    table::copy(&folder.join("lake/t"), &folder.join("lake/base"));
    // The first round reads the keys of the table into the index.
    let mut changes = Changes::new(rows);
    let meter = Meter::start();
    table.commit(changes.round(2_000, Keys::Uniform)).await;
    println!("{}", json!({ "step": "first round", "cpu_s": meter.cpu(), "wall_s": meter.wall() }));
    // Rounds of 2,000 outweigh their rows by far, so that the engine makes them eight times as old.
    for (count, keys, rounds) in [
        (2_000, Keys::Uniform, rounds),
        (2_000, Keys::Zipf, rounds),
        (16_000, Keys::Uniform, rounds.div_ceil(8)),
        (100_000, Keys::Uniform, rounds.div_ceil(10)),
    ] {
        if only != 0 && (only != count || !matches!(keys, Keys::Uniform)) {
            continue;
        }
        let before = table.figures();
        let (meter, mut made) = (Meter::start(), 0.0);
        for _ in 0..rounds {
            // What it takes to make the rows up is not counted.
            let before = table::thread_cpu_seconds();
            let batch = changes.round(count, keys);
            made += table::thread_cpu_seconds() - before;
            table.commit(batch).await;
        }
        let (rounds_cpu, rounds_wall) = (meter.cpu() - made, meter.wall() - made);
        table.tend(Patience::ToEnd).await;
        let (cpu, after) = (meter.cpu() - made, table.figures());
        let changed = count * rounds;
        let (payload, overhead) =
            (after.payload_bytes - before.payload_bytes, after.overhead_bytes - before.overhead_bytes);
        let merged = after.merged_bytes - before.merged_bytes;
        let amplification = |bytes: u64| bytes as f64 / payload as f64;
        println!(
            "{}",
            json!({
                "step": "rounds", "rows": rows, "changes": count, "keys": keys.word(), "rounds": rounds,
                "cpu_ms_per_round": rounds_cpu * 1000.0 / rounds as f64,
                "cpu_ms_per_round_with_merging": cpu * 1000.0 / rounds as f64,
                "wall_ms_per_round": rounds_wall * 1000.0 / rounds as f64,
                "changes_per_cpu_s": changed as f64 / cpu,
                "payload_bytes_per_round": payload / rounds, "overhead_bytes_per_round": overhead / rounds,
                "amplification_at_commit": amplification(payload + overhead),
                "amplification_with_merging": amplification(payload + overhead + merged),
                "files": after.files, "rows_gone": after.rows_gone, "rss_peak_mib": table::rss_peak_mib(),
            })
        );
    }
}

/// B4: `count` files of so many rows become few; the copies are for others to do the same.
async fn files(folder: &Path, count: u64, rows: u64) {
    for (name, gone) in [("whole", false), ("worn", true)] {
        let mut table = BenchTable::open(folder, name, WriteMode::Upsert, false).await;
        for number in 0..count {
            table.commit(data::snapshot(number * rows, rows)).await;
        }
        if gone {
            table.commit(Changes::new(count * rows).deletes(count * rows / 20)).await;
        }
        drop(table);
        table::copy(&folder.join(format!("lake/{name}")), &folder.join(format!("lake/{name}-copy")));
        merge(folder, name).await;
    }
}

async fn merge(folder: &Path, name: &str) {
    let bytes = table::data_bytes(&folder.join(format!("lake/{name}")));
    let mut table = BenchTable::open(folder, name, WriteMode::Upsert, true).await;
    let before = table.figures().files;
    let meter = Meter::start();
    while table.tend(Patience::ToEnd).await {}
    let figures = table.figures();
    println!(
        "{}",
        json!({
            "step": "merge", "table": name, "files_before": before, "files": figures.files, "bytes": bytes,
            "read_and_written": figures.merged_bytes, "cpu_s": meter.cpu(), "wall_s": meter.wall(),
            "mb_per_cpu_s": bytes as f64 / 1e6 / meter.cpu(), "rss_peak_mib": table::rss_peak_mib(),
        })
    );
}

/// B11: what a commit costs after many others.
async fn history(folder: &Path, commits: u64) {
    let mut table = BenchTable::open(folder, "h", WriteMode::Upsert, true).await;
    let mut changes = Changes::new(10_000);
    fill(&mut table, 10_000).await;
    let tenth = commits / 10;
    for part in 0..10 {
        let meter = Meter::start();
        for _ in 0..tenth {
            table.commit(changes.round(20, Keys::Uniform)).await;
        }
        println!(
            "{}",
            json!({
                "step": "history", "commits": (part + 1) * tenth, "cpu_ms_per_commit": meter.cpu() * 1000.0 / tenth as f64,
                "wall_ms_per_commit": meter.wall() * 1000.0 / tenth as f64, "rss_peak_mib": table::rss_peak_mib(),
            })
        );
    }
    drop(table);
    let meter = Meter::start();
    let mut table = BenchTable::open(folder, "h", WriteMode::Upsert, true).await;
    table.commit(changes.round(20, Keys::Uniform)).await;
    println!("{}", json!({ "step": "restart", "commits": commits, "cpu_s": meter.cpu(), "wall_s": meter.wall() }));
}
