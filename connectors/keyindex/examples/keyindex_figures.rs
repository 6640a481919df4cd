//! Measures the index: build, bytes a key, lookups of keys that are there and that are not, with one run and with
//! many, epochs, merging and opening. Times are of the processor, since a machine that others use says little else;
//! the whole time is said where it differs.
//!
//! `cargo run --release -p lakehead-keyindex --example keyindex_figures -- [keys] [folder]`
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock; nothing is decided by it")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lakehead_core::{Error, Result};
use lakehead_keyindex::{FileId, KeyHash, KeyIndex, Limits, Opened, Place, Progress};

/// Rows of a data file.
const FILE_ROWS: u64 = 1_000_000;
/// Lookups of one measurement, in batches.
const LOOKUPS: u64 = 1_000_000;

/// The hash of key `key`: two rounds of SplitMix64, uniform and without repeats.
fn hash(key: u64) -> KeyHash {
    let mix = |seed: u64| {
        let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (KeyHash::from(mix(key + 1)) << 64) | KeyHash::from(mix(mix(key + 1)))
}

fn say(line: std::fmt::Arguments<'_>) {
    // Whoever reads the figures may close the pipe.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A start on both clocks: the wall's and the processor's, which the system keeps for each process.
struct Start(Instant, Duration);

impl Start {
    fn now() -> Self {
        Self(Instant::now(), processor())
    }

    fn processor(&self) -> Duration {
        processor().saturating_sub(self.1)
    }

    /// Returns the rate in millions a second of the processor.
    fn rate(&self, count: u64) -> f64 {
        count as f64 / self.processor().as_secs_f64() / 1e6
    }

    /// Says both times.
    fn said(&self) -> String {
        format!("{:.3} s ({:.3} s on the wall)", self.processor().as_secs_f64(), self.0.elapsed().as_secs_f64())
    }
}

fn processor() -> Duration {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default())
}

fn fresh(folder: &Path, limits: Limits) -> Result<KeyIndex> {
    let (Opened::Ready(mut index) | Opened::Rebuild(mut index, _)) = KeyIndex::open(folder, limits)?;
    index.clear()?;
    Ok(index)
}

fn register(index: &mut KeyIndex, keys: u64) -> Result<Vec<FileId>> {
    (0..=keys / FILE_ROWS).map(|at| index.register(&format!("part-{at:05}.parquet"))).collect()
}

fn place(files: &[FileId], key: u64) -> Place {
    Place { file: files[(key / FILE_ROWS) as usize], row: (key % FILE_ROWS) as u32 }
}

fn build(index: &mut KeyIndex, files: &[FileId], keys: std::ops::Range<u64>) -> Result<()> {
    let mut builder = index.builder();
    for key in keys {
        builder.push(hash(key), place(files, key))?;
    }
    index.insert_built(vec![builder])
}

/// Looks up random keys of `from..from + keys` and returns the rate in millions a second; batches are made before.
fn lookups(index: &KeyIndex, files: &[FileId], from: u64, keys: u64, batch: u64) -> Result<f64> {
    let picked: Vec<u64> = (0..LOOKUPS).map(|at| from + (hash(at + (1 << 40)) as u64) % keys).collect();
    let hashes: Vec<KeyHash> = picked.iter().map(|key| hash(*key)).collect();
    let mut found = Vec::new();
    for (hashes, picked) in hashes.chunks(batch as usize).zip(picked.chunks(batch as usize)) {
        index.lookup(hashes, |_| true, &mut found)?;
        let expected = picked.iter().map(|key| (from == 0).then(|| place(files, *key)));
        if !expected.eq(found.iter().copied()) {
            return Err(Error::bug("a lookup is wrong"));
        }
    }
    let start = Start::now();
    for hashes in hashes.chunks(batch as usize) {
        index.lookup(hashes, |_| true, &mut found)?;
    }
    Ok(start.rate(LOOKUPS))
}

fn report(index: &KeyIndex, files: &[FileId], keys: u64) -> Result<()> {
    let figures = index.figures();
    say(format_args!(
        "{} runs: {:.2} bytes/key on disk, {:.2} in memory",
        figures.runs,
        figures.disk_bytes as f64 / figures.entries as f64,
        figures.memory_bytes as f64 / figures.entries as f64
    ));
    for batch in [2_000, 10_000, 100_000] {
        let hits = lookups(index, files, 0, keys, batch)?;
        let misses = lookups(index, files, keys, keys, batch)?;
        say(format_args!("  batches of {batch:>6}: {hits:.2} M hits/s, {misses:.2} M misses/s"));
    }
    Ok(())
}

fn one_run(folder: &Path, limits: Limits, keys: u64) -> Result<()> {
    let mut index = fresh(folder, limits)?;
    let files = register(&mut index, keys)?;
    let start = Start::now();
    build(&mut index, &files, 0..keys)?;
    say(format_args!("build of {keys} keys: {}", start.said()));
    report(&index, &files, keys)?;
    index.seal(b"figures")?;
    drop(index);
    let start = Start::now();
    let Opened::Ready(mut index) = KeyIndex::open(folder, limits)? else {
        return Err(Error::bug("the index does not open again"));
    };
    say(format_args!("open: {}", start.said()));
    epochs(&mut index, &files, keys)
}

/// Epochs as a sink makes them: look up, insert the new places, seal.
fn epochs(index: &mut KeyIndex, files: &[FileId], keys: u64) -> Result<()> {
    let (count, changes) = (300, 2_000);
    let mut found = Vec::new();
    let start = Start::now();
    for epoch in 0..count {
        let picked = (0..changes).map(|at| (hash(epoch * changes + at + (1 << 41)) as u64) % keys);
        let batch: Vec<_> = picked.map(|key| (hash(key), place(files, key))).collect();
        let hashes: Vec<_> = batch.iter().map(|(hash, _)| *hash).collect();
        index.lookup(&hashes, |_| true, &mut found)?;
        index.insert(batch)?;
        index.seal(&epoch.to_le_bytes())?;
    }
    say(format_args!("{count} epochs of {changes} (lookup, insert, seal): {}", start.said()));
    Ok(())
}

fn many_runs(folder: &Path, limits: Limits, keys: u64, runs: u64) -> Result<()> {
    let mut index = fresh(folder, limits)?;
    let files = register(&mut index, keys)?;
    for run in 0..runs {
        build(&mut index, &files, run * keys / runs..(run + 1) * keys / runs)?;
    }
    report(&index, &files, keys)?;
    let (start, mut steps) = (Start::now(), 0);
    while index.maintain(100_000, |_| true)? == Progress::More {
        steps += 1;
    }
    say(format_args!("merged to {} runs in {steps} steps of 100000: {}", index.figures().runs, start.said()));
    index.clear()
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let keys = arguments.next().and_then(|keys| keys.parse().ok()).unwrap_or(10_000_000);
    let folder = arguments.next().map_or_else(|| std::env::temp_dir().join("keyindex-figures"), PathBuf::from);
    for block_bytes in [0, 24 * keys + (16 << 20)] {
        say(format_args!("# blocks of at most {} MB in memory", block_bytes >> 20));
        let limits = Limits { block_bytes, ..Limits::default() };
        one_run(&folder, limits, keys)?;
        many_runs(&folder, limits, keys, 16)?;
    }
    Ok(())
}
