//! Old files go, and nothing that anybody may need.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lakehead_conformance::{SinkUnderTest, rows};
use lakehead_core::{Clock, Mark, Micros, Outcome, Patience, Sink, SystemClock, WriteMode};

use super::Table;
use super::keyed::{Change, Shadow, check_with_others};

pub(crate) const HOUR: i64 = 3_600_000_000;
pub(crate) const DAY: i64 = 24 * HOUR;

/// The machine's clock, put forward.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    system: SystemClock,
    by: AtomicI64,
}

impl Ahead {
    pub(crate) fn pass(&self, micros: i64) {
        self.by.fetch_add(micros, Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for Ahead {
    fn now(&self) -> Micros {
        self.system.now() + self.by.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        self.system.monotonic() + Duration::from_micros(self.by.load(Ordering::SeqCst).unsigned_abs())
    }

    async fn sleep(&self, duration: Duration) {
        self.system.sleep(duration).await;
    }
}

/// Names of the data files and files of vectors on the disk.
pub(crate) fn on_disk(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder.join("lake/t")).unwrap().map(|entry| entry.unwrap());
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".parquet") || name.ends_with(".bin")).collect()
}

/// The data files that the newest version names and how many files of vectors, said by the library.
pub(crate) async fn live(folder: &Path) -> (BTreeSet<String>, usize) {
    let table = super::open_with_the_library(folder).await;
    let (mut names, mut vectors) = (BTreeSet::new(), BTreeSet::new());
    for view in table.snapshot().unwrap().log_data().iter() {
        #[allow(deprecated, reason = "the only public way to a file's deletion vector")]
        let add = view.add_action();
        names.insert(add.path);
        vectors.extend(add.deletion_vector.map(|vector| vector.path_or_inline_dv));
    }
    (names, vectors.len())
}

async fn sweep(sink: &mut Box<dyn Sink>, clock: &Ahead, pause: i64) {
    clock.pass(pause);
    sink.tend(Patience::ToEnd).await;
}

fn mark(seq: u64, fence: u64) -> Mark {
    Mark { seq, fence, ..Mark::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_version_needs_goes_and_all_else_stays() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(Ahead::default());
    let mut table = Table::new(folder.path(), WriteMode::Upsert);
    table.clock = Arc::clone(&clock) as Arc<dyn Clock>;
    let mut shadow = Shadow::new();
    let mut sink = table.sink();
    sink.open(1).await.unwrap();
    for _ in 0..70 {
        let changes = shadow.round(30, 200);
        shadow.commit(&mut sink, 1, &changes).await;
    }
    // A round that its process prepared and never committed.
    sink.stage(rows(&[("c", 5000, Some("lost"), None)])).await.unwrap();
    sink.prepare().await.unwrap().unwrap();
    drop(sink);
    for name in ["foreign.parquet", "part-00001-0badc0de-5c1f5d5e-0b7f-4d7a-8f4e-111111111111.parquet"] {
        std::fs::write(folder.path().join("lake/t").join(name), "not ours").unwrap();
    }
    let mut sink = table.sink();
    sink.open(2).await.unwrap();
    // This one takes days: a day is no proof that a round of ours is dead.
    sink.stage(rows(&[("c", 6000, Some("late"), None)])).await.unwrap();
    let late = sink.prepare().await.unwrap().unwrap();

    sweep(&mut sink, &clock, 7 * HOUR).await;
    let all = on_disk(folder.path());
    sweep(&mut sink, &clock, 7 * HOUR).await;
    assert_eq!(on_disk(folder.path()), all, "within the retention everything stays");
    sweep(&mut sink, &clock, DAY).await;
    assert_eq!(on_disk(folder.path()), all, "one listing is not believed");
    sweep(&mut sink, &clock, 7 * HOUR).await;
    let left = on_disk(folder.path());
    let (needed, vectors) = live(folder.path()).await;
    assert!(needed.is_subset(&left), "{:?} are gone", needed.difference(&left));
    let others: Vec<_> = left.difference(&needed).filter(|name| name.ends_with(".parquet")).collect();
    assert_eq!(left.iter().filter(|name| name.ends_with(".bin")).count(), vectors);
    assert_eq!(others.len(), 3, "the round under way and two files of others: {others:?}");
    assert!(left.len() * 2 < all.len(), "{} of {} are left", left.len(), all.len());
    shadow.check(&table).await;
    check_with_others(&shadow, folder.path());

    shadow.seq += 1;
    assert!(matches!(sink.commit(&late, mark(shadow.seq, 2)).await.unwrap(), Outcome::Committed(_)));
    shadow.rows.insert(6000, Some("late".into()));
    shadow.check(&table).await;
    // What was taken out an hour ago stays for those who read the version before.
    let before = on_disk(folder.path());
    let changes: Vec<Change> = shadow.rows.keys().map(|id| ("u", *id, Some("anew".into()), None)).collect();
    shadow.rows.values_mut().for_each(|body| *body = Some("anew".into()));
    shadow.commit(&mut sink, 2, &changes).await;
    assert!(live(folder.path()).await.0.is_disjoint(&before), "every file was emptied");
    sweep(&mut sink, &clock, 7 * HOUR).await;
    sweep(&mut sink, &clock, 7 * HOUR).await;
    assert!(before.is_subset(&on_disk(folder.path())), "a reader of the version before lost its files");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_shortened_behind_a_checkpoint_and_the_table_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(Ahead::default());
    let mut table = Table::new(folder.path(), WriteMode::Upsert);
    table.clock = Arc::clone(&clock) as Arc<dyn Clock>;
    let mut shadow = Shadow::new();
    let mut sink = table.sink();
    sink.open(1).await.unwrap();
    for _ in 0..120 {
        let changes = shadow.round(5, 50);
        shadow.commit(&mut sink, 1, &changes).await;
    }
    sink.tend(Patience::ToEnd).await;
    let entries = || std::fs::read_dir(folder.path().join("lake/t/_delta_log")).unwrap().count();
    let before = entries();
    sweep(&mut sink, &clock, 8 * DAY).await;
    assert!(entries() + 90 < before, "{before} entries of the log, and {} behind a week", entries());
    for (fence, changes) in [(1, 5), (2, 5)] {
        if fence == 2 {
            sink = table.sink();
            assert_eq!(sink.open(2).await.unwrap().mark.seq, shadow.seq);
        }
        let changes = shadow.round(changes, 50);
        shadow.commit(&mut sink, fence, &changes).await;
        shadow.check(&table).await;
    }
    check_with_others(&shadow, folder.path());
}
