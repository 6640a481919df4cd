//! A table through the connector that ships, and what the process used.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use lakehead_core::{
    Mark, Patience, RunContext, Settings, Sink, SinkSpec, SystemClock, TableFigures, Value, WriteMode,
};
use lakehead_delta::CONNECTOR;

pub(crate) struct BenchTable {
    sink: Box<dyn Sink>,
    seq: u64,
    fence: u64,
}

impl BenchTable {
    /// Opens table `name` below `folder`, made where it is missing.
    pub(crate) async fn open(folder: &Path, name: &str, mode: WriteMode, merges: bool) -> Self {
        let compact = Value::Map(vec![("enabled".into(), Value::Bool(merges))]);
        let spec = SinkSpec {
            pipeline: "bench".into(),
            node: "lake".into(),
            table: name.into(),
            schema: super::data::schema(),
            key: vec!["id".into()],
            mode,
            partition_by: Vec::new(),
            connection: Settings::new([("path".to_owned(), Value::Text("lake".into()))]),
            settings: Settings::new([("compact".to_owned(), compact)]),
            root: folder.to_path_buf(),
            cache: folder.join("cache"),
            run: RunContext::default(),
            clock: Arc::new(SystemClock::default()),
        };
        let mut sink = (CONNECTOR.sink.unwrap().build)(spec.clone()).unwrap();
        // Each opening is another owner's.
        let mut fence = 1;
        let position = loop {
            match sink.open(fence).await {
                Ok(position) => break position,
                Err(error) => {
                    assert_eq!(error.code(), "R0201", "{error}");
                    fence += 1;
                    sink = (CONNECTOR.sink.unwrap().build)(spec.clone()).unwrap();
                }
            }
        };
        Self { sink, seq: position.mark.seq, fence }
    }

    pub(crate) async fn commit(&mut self, rows: RecordBatch) {
        self.sink.stage(rows).await.unwrap();
        let prepared = self.sink.prepare().await.unwrap().unwrap();
        self.seq += 1;
        let mark = Mark { seq: self.seq, fence: self.fence, ..Mark::default() };
        self.sink.commit(&prepared, mark).await.unwrap();
        self.sink.tend(Patience::Between).await;
    }

    /// Returns whether anything was merged.
    pub(crate) async fn tend(&mut self, patience: Patience) -> bool {
        let before = self.figures().merged_bytes;
        self.sink.tend(patience).await;
        self.figures().merged_bytes > before
    }

    pub(crate) fn figures(&self) -> TableFigures {
        self.sink.figures().unwrap()
    }
}

/// CPU and time from a moment on.
pub(crate) struct Meter {
    cpu: f64,
    wall: Instant,
}

impl Meter {
    #[allow(clippy::disallowed_methods, reason = "a benchmark looks at the clock")]
    pub(crate) fn start() -> Self {
        Self { cpu: cpu_seconds(), wall: Instant::now() }
    }

    /// CPU seconds of the process, its threads and the system for it; in steps of 10 ms.
    pub(crate) fn cpu(&self) -> f64 {
        cpu_seconds() - self.cpu
    }

    pub(crate) fn wall(&self) -> f64 {
        self.wall.elapsed().as_secs_f64()
    }
}

fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The second field is a name in parentheses.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

/// CPU seconds of this thread.
pub(crate) fn thread_cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// The most memory that the process held.
pub(crate) fn rss_peak_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Copies a folder.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Bytes of the data files in a table's folder.
pub(crate) fn data_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let data = entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "parquet"));
    data.map(|entry| entry.metadata().unwrap().len()).sum()
}
