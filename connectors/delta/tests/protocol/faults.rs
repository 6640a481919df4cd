//! F6, F19 and cases 75 to 79: whatever the store does, each round is in the table once. Hundreds of schedules, each by its
//! seed; `LAKEHEAD_SCHEDULES` asks for more of them, `LAKEHEAD_SEED` for one.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "how many schedules, and what they met")]

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt;
use lakehead_conformance::{FaultClock, FaultStore, Faults, Survival, survives};
use lakehead_core::{Clock, Settings, Sink, Value, WriteMode};

use super::Table;

/// What a bad hour of a store is like, twentyfold.
const STORM: Faults =
    Faults { read: 2, before: 25, after: 15, late: 40, refused: 40, own: 40, cut: 4, lag: 0, slow: 100 };

async fn run(seed: u64, mode: WriteMode, deletes: &'static str, body_bytes: usize, faults: Faults) -> Tally {
    let rounds = if body_bytes > 0 { 4 } else { 12 };
    let folder = tempfile::tempdir().unwrap();
    let name = format!("delta-{seed}-{}-{deletes}-{body_bytes}-{}", mode.word(), faults.lag);
    let store = FaultStore::mount(&name, seed);
    let clock = Arc::new(FaultClock::default());
    let mut table = Table::new(folder.path(), mode);
    table.connection = Settings::new([("path".to_owned(), Value::Text(format!("fault://{name}/lake")))]);
    table.deletes = deletes;
    table.compression = if body_bytes > 0 { "none" } else { "zstd" };
    table.clock = Arc::clone(&clock) as Arc<dyn Clock>;
    let beside = || -> Box<dyn Sink> {
        let mut merger = Table::new(folder.path(), WriteMode::Compact);
        merger.connection.clone_from(&table.connection);
        merger.clock = Arc::clone(&clock) as Arc<dyn Clock>;
        merger.pipeline = "merger";
        super::SinkUnderTest::sink(&merger)
    };
    let upserts = mode == WriteMode::Upsert;
    let survival = Survival { seed, rounds, upserts, body_bytes, faults };
    let survived = survives(survival, &table, &store, &clock, &beside).await;
    Tally { stops: survived.stops, met: store.met(), merged_bytes: survived.merged_bytes }
}

#[derive(Default)]
struct Tally {
    stops: BTreeMap<&'static str, u64>,
    met: BTreeMap<&'static str, u64>,
    merged_bytes: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        other.stops.into_iter().for_each(|(code, times)| *self.stops.entry(code).or_default() += times);
        self.merged_bytes += other.merged_bytes;
        other.met.into_iter().for_each(|(fault, times)| *self.met.entry(fault).or_default() += times);
    }
}

fn seeds(count: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("LAKEHEAD_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("LAKEHEAD_SCHEDULES").unwrap_or(count)).collect(),
    }
}

async fn storms(mode: WriteMode, deletes: &'static str, count: u64) {
    let mut tally = Tally::default();
    for seed in seeds(count) {
        tally.add(run(seed, mode, deletes, 0, STORM).await);
    }
    println!("met {:?}; stopped {:?}; {} bytes were merged", tally.met, tally.stops, tally.merged_bytes);
    if std::env::var_os("LAKEHEAD_SEED").is_none() {
        assert!(tally.merged_bytes > 0, "nothing was merged");
        for fault in ["read", "before", "after", "late", "refused", "own", "cut", "slow"] {
            assert!(tally.met.get(fault).is_some_and(|times| *times > 0), "{fault}: {:?}", tally.met);
        }
    }
}

#[tokio::test]
async fn appended_rounds_survive_a_store_that_fails_f6_case_75_77_78() {
    storms(WriteMode::Append, "vectors", 20).await;
}

#[tokio::test]
async fn upserts_by_vectors_survive_a_store_that_fails_f6_case_75_77_78_79() {
    storms(WriteMode::Upsert, "vectors", 20).await;
}

#[tokio::test]
async fn upserts_by_rewriting_survive_a_store_that_fails_f6_case_75_77_78_79() {
    storms(WriteMode::Upsert, "rewrite", 10).await;
}

/// Files of many megabytes go up in parts; one that lacks a part is in no version.
#[tokio::test]
async fn files_that_go_up_in_parts_survive_lost_parts_f6() {
    let faults = Faults { before: 120, after: 60, ..STORM };
    let mut tally = Tally::default();
    for seed in seeds(4) {
        tally.add(run(seed, WriteMode::Append, "vectors", 2_500_000, faults).await);
    }
    println!("met {:?}; stopped {:?}", tally.met, tally.stops);
    assert!(tally.met.contains_key("part") && tally.met.contains_key("complete before"), "{:?}", tally.met);
}

/// A listing that lags is believed for nothing that matters.
#[tokio::test]
async fn listings_that_lag_lose_and_double_nothing_f6() {
    let mut tally = Tally::default();
    for seed in seeds(10) {
        let mode = if seed % 2 == 0 { WriteMode::Append } else { WriteMode::Upsert };
        tally.add(run(seed, mode, "vectors", 0, Faults { lag: 400, ..STORM }).await);
    }
    println!("met {:?}; stopped {:?}", tally.met, tally.stops);
    assert!(tally.met.contains_key("lag"), "{:?}", tally.met);
}

/// Case 76: a store that knows no conditions is refused before anything is written to it, and not asked again where it does.
#[tokio::test]
async fn a_store_that_writes_over_what_is_there_is_refused_case_76() {
    let folder = tempfile::tempdir().unwrap();
    for (name, forgets) in [("delta-forgets", true), ("delta-heeds", false)] {
        let store = FaultStore::mount(name, 1);
        if forgets {
            store.forget_conditions();
        }
        let mut table = Table::new(folder.path(), WriteMode::Append);
        table.connection = Settings::new([("path".to_owned(), Value::Text(format!("fault://{name}/lake")))]);
        let opened = super::SinkUnderTest::sink(&table).open(1).await;
        let held: Vec<_> =
            store.objects().list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
        if forgets {
            let error = opened.unwrap_err();
            assert_eq!((error.code(), error.blame()), ("R0643", lakehead_core::Blame::User));
            assert!(error.helps()[0].contains("If-None-Match"), "{:?}", error.helps());
            assert_eq!(held, ["lake/_lakehead/_created_once"], "nothing else was written");
        } else {
            opened.unwrap();
            assert!(held.iter().any(|name| name.ends_with("_delta_log/00000000000000000000.json")), "{held:?}");
        }
    }
}
