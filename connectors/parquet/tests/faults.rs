//! F6, F19 and cases 75 to 79: whatever the store does, each round is in the table once. Schedules by their seeds;
//! `LAKEHEAD_SCHEDULES` asks for more of them, `LAKEHEAD_SEED` for one.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "how many schedules, and what they met")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use lakehead_conformance::{FaultClock, FaultStore, Faults, Meets, SinkUnderTest, Survival, Write, rows, survives};
use lakehead_core::{
    BatchBudget, Checkpoint, Clock, Connector, Mark, Patience, RunContext, Settings, Sink, SinkSpec, SourceEvent,
    SourceSpec, Value, WriteMode,
};
use lakehead_parquet::{CONNECTOR, ORC};

/// What a bad hour of a store is like, twentyfold.
const STORM: Faults =
    Faults { read: 4, before: 25, after: 20, late: 15, refused: 40, own: 40, cut: 2, lag: 0, slow: 100 };

struct Table {
    connector: &'static Connector,
    cache: PathBuf,
    connection: Settings,
    mode: WriteMode,
    pipeline: &'static str,
    partition_by: Vec<String>,
    clock: Arc<FaultClock>,
}

#[async_trait]
impl SinkUnderTest for Table {
    fn sink(&self) -> Box<dyn Sink> {
        let every = Value::Duration(std::time::Duration::from_secs(1));
        (self.connector.sink.unwrap().build)(SinkSpec {
            pipeline: self.pipeline.into(),
            node: "lake".into(),
            table: "t".into(),
            schema: Arc::new(lakehead_core::data_fields(&rows(&[]).schema())),
            key: Vec::new(),
            mode: self.mode,
            partition_by: self.partition_by.clone(),
            connection: self.connection.clone(),
            settings: Settings::new([("compact".to_owned(), Value::Map([("every".to_owned(), every)].into()))]),
            root: self.cache.clone(),
            cache: self.cache.clone(),
            run: RunContext::default(),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
        })
        .unwrap()
    }

    async fn read(&self) -> Vec<(i64, Option<String>)> {
        let mut source = (self.connector.source.unwrap().build)(SourceSpec {
            pipeline: "reader".into(),
            node: "t".into(),
            connection: self.connection.clone(),
            settings: Settings::new([("table".to_owned(), Value::Text("t".into()))]),
            tables: vec![],
            root: self.cache.clone(),
            run: RunContext::default(),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
        })
        .unwrap();
        source.open(&Checkpoint::default()).await.unwrap();
        let mut found = Vec::new();
        loop {
            match source.next(BatchBudget::default()).await.unwrap() {
                SourceEvent::Changes(batch) => {
                    let ids = batch.rows.column_by_name("id").unwrap().as_primitive::<Int64Type>().clone();
                    let bodies = batch.rows.column_by_name("body").unwrap().as_string::<i32>().clone();
                    let body = |row: usize| bodies.is_valid(row).then(|| bodies.value(row).to_owned());
                    found.extend((0..ids.len()).map(|row| (ids.value(row), body(row))));
                }
                SourceEvent::End => return found,
                _ => {}
            }
        }
    }
}

async fn storms(connector: &'static Connector, faults: Faults, count: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let one = number("LAKEHEAD_SEED");
    let seeds = one.map_or(0..number("LAKEHEAD_SCHEDULES").unwrap_or(count), |seed| seed..seed + 1);
    let (mut met, mut stops, mut merged) = (BTreeMap::<_, u64>::new(), BTreeMap::<_, u64>::new(), 0);
    for seed in seeds {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("{}-{seed}-{}", connector.name, faults.lag);
        let store = FaultStore::mount(&name, seed);
        let clock = Arc::new(FaultClock::default());
        let table = |mode, pipeline| Table {
            connector,
            cache: folder.path().into(),
            connection: Settings::new([("path".to_owned(), Value::Text(format!("fault://{name}/lake")))]),
            mode,
            pipeline,
            partition_by: Vec::new(),
            clock: Arc::clone(&clock),
        };
        let survival = Survival { seed, rounds: 25, upserts: false, body_bytes: 0, faults };
        let beside = || table(WriteMode::Compact, "merger").sink();
        let survived = survives(survival, &table(WriteMode::Append, "p"), &store, &clock, &beside).await;
        merged += survived.merged_bytes;
        survived.stops.into_iter().for_each(|(code, times)| *stops.entry(code).or_default() += times);
        store.met().into_iter().for_each(|(fault, times)| *met.entry(fault).or_default() += times);
    }
    println!("met {met:?}; stopped {stops:?}; {merged} bytes were merged");
    assert!(one.is_some() || merged > 0, "nothing was merged");
    let wanted = ["read", "before", "after", "late", "refused", "own", "cut", "slow"];
    let missed: Vec<_> = wanted.iter().filter(|fault| met.get(*fault).is_none_or(|times| *times < 3)).collect();
    assert!(one.is_some() || missed.is_empty(), "not met: {missed:?}");
}

#[tokio::test]
async fn rounds_of_parquet_survive_a_store_that_fails_f6_case_75_77_78_79() {
    storms(&CONNECTOR, STORM, 100).await;
}

#[tokio::test]
async fn rounds_of_orc_survive_a_store_that_fails_f6_case_75_77_78_79() {
    storms(&ORC, STORM, 30).await;
}

#[tokio::test]
async fn listings_that_lag_lose_and_double_nothing_f6() {
    storms(&CONNECTOR, Faults { lag: 300, ..STORM }, 40).await;
}

/// A removal of an attempt that failed arrives when a later attempt has merged the same files: it takes nothing live away.
#[tokio::test]
async fn a_removal_that_arrives_late_takes_no_merged_file_away_case_78() {
    let folder = tempfile::tempdir().unwrap();
    let store = FaultStore::mount("late", 1);
    let table = Table {
        connector: &CONNECTOR,
        cache: folder.path().into(),
        connection: Settings::new([("path".to_owned(), Value::Text("fault://late/lake".into()))]),
        mode: WriteMode::Append,
        pipeline: "p",
        partition_by: vec!["body".into()],
        clock: Arc::new(FaultClock::default()),
    };
    let mut sink = table.sink();
    sink.open(1).await.unwrap();
    let mut seq = 0;
    let mut expected = Vec::new();
    for body in ["a", "a", "a", "a", "a", "a", "a", "a", "b"] {
        if body == "b" {
            // The merge of eight files fails, and the removal of what it left is long under way.
            store.fail_next(Write::Copy, "/body=a/", Meets::Loss);
            store.fail_next(Write::Delete, "/body=a/", Meets::Delay);
            sink.tend(Patience::ToEnd).await;
        }
        seq += 1;
        sink.stage(rows(&[("c", seq, Some(body), None)])).await.unwrap();
        let prepared = sink.prepare().await.unwrap().unwrap();
        sink.commit(&prepared, Mark { seq: seq.unsigned_abs(), fence: 1, ..Mark::default() }).await.unwrap();
        expected.push((seq, Some(body.to_owned())));
    }
    assert!(store.script_is_over(), "the merge did fail");
    table.clock.pass(std::time::Duration::from_secs(60));
    sink.tend(Patience::ToEnd).await;
    assert!(sink.figures().unwrap().merged_bytes > 0, "the next one did not");
    store.arrive().await;
    let mut found = table.read().await;
    found.sort();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_store_that_writes_over_what_is_there_is_refused_case_76() {
    let folder = tempfile::tempdir().unwrap();
    let store = FaultStore::mount("forgets", 1);
    store.forget_conditions();
    let table = Table {
        connector: &CONNECTOR,
        cache: folder.path().into(),
        connection: Settings::new([("path".to_owned(), Value::Text("fault://forgets/lake".into()))]),
        mode: WriteMode::Append,
        pipeline: "p",
        partition_by: Vec::new(),
        clock: Arc::new(FaultClock::default()),
    };
    assert_eq!(table.sink().open(1).await.unwrap_err().code(), "R0643");
    assert_eq!(table.sink().open(1).await.unwrap_err().code(), "R0643", "it is asked again");
}
