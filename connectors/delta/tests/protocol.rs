//! What our commits rest on: the experiment of docs/decisions/0003, kept, and the laws of a sink on a real table.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, Int64Array, StringArray};
use async_trait::async_trait;
use deltalake::DeltaTable;
use lakehead_conformance::{SinkUnderTest, SourceUnderTest, rows, sink_laws, source_laws, upsert_laws};
use lakehead_core::{
    BatchBudget, Checkpoint, Clock, Mark, Outcome, Retention, RunContext, Settings, Sink, SinkSpec, Source,
    SourceEvent, SourceSpec, SystemClock, TableSpec, Value, WriteMode,
};
use lakehead_delta::CONNECTOR;

#[path = "protocol/checkpoints.rs"]
mod checkpoints;
#[path = "protocol/copies.rs"]
mod copies;
#[path = "protocol/expire.rs"]
mod expire;
#[path = "protocol/faults.rs"]
mod faults;
#[path = "protocol/golden.rs"]
mod golden;
#[path = "protocol/history.rs"]
mod history;
#[path = "protocol/keyed.rs"]
mod keyed;
#[path = "protocol/spark.rs"]
mod spark;
#[path = "protocol/upkeep.rs"]
mod upkeep;
#[path = "protocol/wide.rs"]
mod wide;

struct Table {
    folder: PathBuf,
    connection: Settings,
    mode: WriteMode,
    pipeline: &'static str,
    deletes: &'static str,
    compression: &'static str,
    partition_by: Vec<String>,
    clock: Arc<dyn Clock>,
    retention: Retention,
}

impl Table {
    fn new(folder: &Path, mode: WriteMode) -> Self {
        Self {
            folder: folder.to_path_buf(),
            connection: Self::connection(),
            mode,
            pipeline: "p",
            deletes: "vectors",
            compression: "zstd",
            partition_by: Vec::new(),
            clock: Arc::new(SystemClock::default()),
            retention: Retention::default(),
        }
    }

    fn connection() -> Settings {
        Settings::new([("path".to_owned(), Value::Text("lake".into()))])
    }
}

#[async_trait]
impl SinkUnderTest for Table {
    fn sink(&self) -> Box<dyn Sink> {
        let mut settings = Settings::new([("deletes".to_owned(), Value::Name(self.deletes.into()))]);
        settings.set("compression", Value::Name(self.compression.into()));
        self.retention.tell(&mut settings);
        (CONNECTOR.sink.unwrap().build)(SinkSpec {
            pipeline: self.pipeline.into(),
            node: "lake".into(),
            table: "t".into(),
            schema: Arc::new(lakehead_core::data_fields(&rows(&[]).schema())),
            key: vec!["id".into()],
            mode: self.mode,
            partition_by: self.partition_by.clone(),
            connection: self.connection.clone(),
            settings,
            root: self.folder.clone(),
            cache: self.folder.join("cache"),
            run: RunContext::default(),
            clock: Arc::clone(&self.clock),
        })
        .unwrap()
    }

    async fn read(&self) -> Vec<(i64, Option<String>)> {
        let mut source = self.source();
        source.open(&Checkpoint::default()).await.unwrap();
        let mut found = Vec::new();
        loop {
            match source.next(BatchBudget::default()).await.unwrap() {
                SourceEvent::Changes(batch) => {
                    let ids = batch.rows.column(0).as_any().downcast_ref::<Int64Array>().unwrap().clone();
                    let bodies = batch.rows.column(1).as_any().downcast_ref::<StringArray>().unwrap().clone();
                    for row in 0..ids.len() {
                        found.push((ids.value(row), bodies.is_valid(row).then(|| bodies.value(row).to_owned())));
                    }
                }
                SourceEvent::End => return found,
                _ => {}
            }
        }
    }
}

impl SourceUnderTest for Table {
    fn source(&self) -> Box<dyn Source> {
        (CONNECTOR.source.unwrap().build)(SourceSpec {
            pipeline: "reader".into(),
            node: "t".into(),
            connection: self.connection.clone(),
            settings: Settings::new([("table".to_owned(), Value::Text("t".into()))]),
            tables: vec![TableSpec { name: "t".into(), schema: rows(&[]).schema(), key: Vec::new() }],
            root: self.folder.clone(),
            run: RunContext::default(),
            clock: Arc::new(SystemClock::default()),
        })
        .unwrap()
    }
}

async fn open_with_the_library(folder: &Path) -> DeltaTable {
    let url = deltalake::table::builder::ensure_table_uri(folder.join("lake/t").to_str().unwrap()).unwrap();
    deltalake::open_table(url).await.unwrap()
}

async fn numbers(table: &DeltaTable) -> [Option<i64>; 3] {
    let snapshot = table.snapshot().unwrap();
    let identity = snapshot.metadata().id().to_owned();
    let mut found = [None; 3];
    for (place, what) in ["seq", "fence", "doc"].iter().enumerate() {
        let app = format!("lakehead/p/{identity}/{what}");
        found[place] = snapshot.transaction_version(table.log_store().as_ref(), app).await.unwrap();
    }
    found
}

#[tokio::test]
async fn an_append_table_keeps_the_laws() {
    let folder = tempfile::tempdir().unwrap();
    sink_laws(&Table::new(folder.path(), WriteMode::Append)).await.unwrap();
}

#[tokio::test]
async fn an_upsert_table_keeps_the_laws() {
    let folder = tempfile::tempdir().unwrap();
    sink_laws(&Table::new(folder.path(), WriteMode::Upsert)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    upsert_laws(&Table::new(folder.path(), WriteMode::Upsert)).await.unwrap();
}

#[tokio::test]
async fn a_table_read_back_keeps_the_laws_of_a_source() {
    let folder = tempfile::tempdir().unwrap();
    let table = Table::new(folder.path(), WriteMode::Upsert);
    let mut sink = table.sink();
    sink.open(1).await.unwrap();
    for (seq, ids) in [(1, 0..250), (2, 100..400), (3, 20..40)] {
        let changes: Vec<_> = ids.map(|id| ("c", id, Some("x"), None)).collect();
        sink.stage(rows(&changes)).await.unwrap();
        let prepared = sink.prepare().await.unwrap().unwrap();
        sink.commit(&prepared, Mark { seq, fence: 1, ..Mark::default() }).await.unwrap();
    }
    source_laws(&table).await.unwrap();
}

/// Several numbers of ours in one commit are read back by the library, also after its checkpoint; a commit without rows
/// is a version; VACUUM leaves `_lakehead/` alone.
#[tokio::test]
async fn the_library_keeps_what_our_commits_carry() {
    let folder = tempfile::tempdir().unwrap();
    let under_test = Table::new(folder.path(), WriteMode::Append);
    let mut sink = under_test.sink();
    let opened = sink.open(7).await.unwrap();
    assert_eq!(opened.version, 1, "the fence is a commit without rows");
    sink.stage(rows(&[("c", 1, Some("a"), None)])).await.unwrap();
    let prepared = sink.prepare().await.unwrap().unwrap();
    let mark = Mark { seq: 1, fence: 7, document: Some(99), record: None };
    assert_eq!(sink.commit(&prepared, mark).await.unwrap(), Outcome::Committed(2));

    let table = open_with_the_library(folder.path()).await;
    assert_eq!(numbers(&table).await, [Some(1), Some(7), Some(99)]);
    deltalake::checkpoints::create_checkpoint(&table, None).await.unwrap();
    let again = open_with_the_library(folder.path()).await;
    assert_eq!(numbers(&again).await, [Some(1), Some(7), Some(99)], "after a checkpoint");

    let own = folder.path().join("lake/t/_lakehead/p/record.json");
    std::fs::create_dir_all(own.parent().unwrap()).unwrap();
    std::fs::write(&own, "{}").unwrap();
    let stray = folder.path().join("lake/t/part-00001-stray.parquet");
    std::fs::write(&stray, "x").unwrap();
    let (_, metrics) = again
        .vacuum()
        .with_retention_period(chrono::Duration::zero())
        .with_enforce_retention_duration(false)
        .with_mode(deltalake::operations::vacuum::VacuumMode::Full)
        .await
        .unwrap();
    assert!(own.exists(), "VACUUM removed {:?}", metrics.files_deleted);
    assert!(!stray.exists(), "VACUUM did sweep");
    assert_eq!(under_test.read().await.len(), 1);
}

/// The commit landed and its answer was lost (case 75): it is found by reading, and not made again.
#[tokio::test]
async fn a_lost_answer_is_resolved_by_reading_case_75() {
    let folder = tempfile::tempdir().unwrap();
    let under_test = Table::new(folder.path(), WriteMode::Append);
    let mut sink = under_test.sink();
    sink.open(1).await.unwrap();
    sink.stage(rows(&[("c", 1, Some("a"), None)])).await.unwrap();
    let prepared = sink.prepare().await.unwrap().unwrap();
    lakehead_core::failpoint::configure("delta.put.answer=error").unwrap();
    let outcome = sink.commit(&prepared, Mark { seq: 1, fence: 1, ..Mark::default() }).await.unwrap();
    lakehead_core::failpoint::configure("").unwrap();
    assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    assert_eq!(under_test.read().await.len(), 1);
}

/// A deleted row does not come back (case 40): a round that is replayed after a later one changes nothing.
#[tokio::test]
async fn a_replayed_round_brings_no_deleted_row_back_case_40() {
    let folder = tempfile::tempdir().unwrap();
    let under_test = Table::new(folder.path(), WriteMode::Upsert);
    let mut sink = under_test.sink();
    sink.open(1).await.unwrap();
    let mut rounds = Vec::new();
    for (seq, batch) in [(1, rows(&[("c", 1, Some("a"), None)])), (2, rows(&[("d", 1, None, None)]))] {
        sink.stage(batch).await.unwrap();
        let prepared = sink.prepare().await.unwrap().unwrap();
        let mark = Mark { seq, fence: 1, ..Mark::default() };
        sink.commit(&prepared, mark).await.unwrap();
        rounds.push((prepared, mark));
    }
    for (prepared, mark) in &rounds {
        assert_eq!(sink.commit(prepared, *mark).await.unwrap(), Outcome::AlreadyCommitted);
    }
    assert_eq!(under_test.read().await, Vec::new());
}

/// Of many processes that append at once, each round stands once (case 76, and a foreign writer between).
#[tokio::test]
async fn pipelines_that_share_a_table_lose_and_double_nothing_case_76() {
    let folder = tempfile::tempdir().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for pipeline in ["a", "b", "c", "d"] {
        let table = Table { pipeline, ..Table::new(folder.path(), WriteMode::Append) };
        tasks.spawn(async move {
            let mut sink = table.sink();
            sink.open(1).await.unwrap();
            for seq in 1..=5_u64 {
                sink.stage(rows(&[("c", i64::try_from(seq).unwrap(), Some(pipeline), None)])).await.unwrap();
                let prepared = sink.prepare().await.unwrap().unwrap();
                let outcome = sink.commit(&prepared, Mark { seq, fence: 1, ..Mark::default() }).await.unwrap();
                assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
            }
        });
    }
    while let Some(joined) = tasks.join_next().await {
        joined.unwrap();
    }
    let mut found = Table::new(folder.path(), WriteMode::Append).read().await;
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 20);
}
