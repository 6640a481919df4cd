//! Copies of a table: what they hold, what goes from them, and what is not copied.

use std::path::Path;
use std::sync::Arc;

use lakehead_conformance::SinkUnderTest;
use lakehead_core::{Clock, Copied, CopySpec, Patience, Settings, TableCopy, Value, WriteMode};
use lakehead_delta::CONNECTOR;

use super::Table;
use super::keyed::{Shadow, check_with_others};
use super::upkeep::{Ahead, DAY, HOUR, live, on_disk};

/// A copy in `copy/lake/t`, so that whoever looks at a table below a folder looks at it too.
fn copy(folder: &Path, clock: &Arc<Ahead>, deletes: bool) -> Box<dyn TableCopy> {
    let at = |path: &str| Settings::new([("path".to_owned(), Value::Text(path.into()))]);
    let replicate = CONNECTOR.sink.unwrap().replicate.unwrap();
    replicate(CopySpec {
        pipeline: "p".into(),
        table: "t".into(),
        connection: at("lake"),
        to: at("copy/lake"),
        deletes,
        root: folder.to_path_buf(),
        cache: folder.join("cache"),
        clock: Arc::clone(clock) as Arc<dyn Clock>,
    })
    .unwrap()
}

async fn caught_up(copy: &mut Box<dyn TableCopy>) -> Copied {
    copy.catch_up().await.unwrap().unwrap()
}

fn entries(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("lake/t/_delta_log")).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_holds_each_version_and_loses_what_no_version_needs_where_asked() {
    for deletes in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(Ahead::default());
        let mut table = Table::new(folder.path(), WriteMode::Upsert);
        table.clock = Arc::clone(&clock) as Arc<dyn Clock>;
        let mut shadow = Shadow::new();
        let mut sink = table.sink();
        let mut kept = copy(folder.path(), &clock, deletes);
        assert_eq!(kept.catch_up().await.unwrap(), None, "there is no table yet");
        sink.open(1).await.unwrap();
        for round in 0..130 {
            let changes = shadow.round(10, 100);
            shadow.commit(&mut sink, 1, &changes).await;
            sink.tend(Patience::Between).await;
            // Each process finds out anew where the copy is.
            if round % 20 == 0 {
                kept = copy(folder.path(), &clock, deletes);
            }
            caught_up(&mut kept).await;
        }
        sink.tend(Patience::ToEnd).await;
        caught_up(&mut kept).await;
        let there = folder.path().join("copy");
        check_with_others(&shadow, &there);
        assert!(there.join("lake/t/_delta_log/_last_checkpoint").exists());
        let all = on_disk(&there);
        for pause in [7 * HOUR, 2 * DAY, 7 * HOUR, 7 * HOUR] {
            clock.pass(pause);
            caught_up(&mut kept).await;
        }
        let (needed, _) = live(&there).await;
        let left = on_disk(&there);
        assert!(needed.is_subset(&left), "{:?} are gone", needed.difference(&left));
        if deletes {
            assert!(left.len() * 2 < all.len(), "{} of {} are left", left.len(), all.len());
        } else {
            assert_eq!(left, all, "nothing goes unasked");
        }
        check_with_others(&shadow, &there);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_too_far_behind_goes_on_with_the_newest_version() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(Ahead::default());
    let mut table = Table::new(folder.path(), WriteMode::Upsert);
    table.clock = Arc::clone(&clock) as Arc<dyn Clock>;
    let mut shadow = Shadow::new();
    let mut sink = table.sink();
    sink.open(1).await.unwrap();
    let changes = shadow.round(30, 50);
    shadow.commit(&mut sink, 1, &changes).await;
    let first = caught_up(&mut copy(folder.path(), &clock, false)).await;
    for _ in 0..120 {
        let changes = shadow.round(5, 50);
        shadow.commit(&mut sink, 1, &changes).await;
    }
    // Files of versions between are gone first, then their entries.
    for pause in [7 * HOUR, 2 * DAY, 7 * HOUR] {
        clock.pass(pause);
        sink.tend(Patience::ToEnd).await;
    }
    let mut kept = copy(folder.path(), &clock, false);
    let second = caught_up(&mut kept).await;
    assert!(second.version > first.version + 100, "{first:?} {second:?}");
    check_with_others(&shadow, &folder.path().join("copy"));
    for _ in 0..60 {
        let changes = shadow.round(5, 50);
        shadow.commit(&mut sink, 1, &changes).await;
    }
    sink.tend(Patience::ToEnd).await;
    let before = entries(folder.path());
    clock.pass(8 * DAY);
    sink.tend(Patience::ToEnd).await;
    assert!(entries(folder.path()) < before);
    let changes = shadow.round(5, 50);
    shadow.commit(&mut sink, 1, &changes).await;
    // A copy that knows where it was, and one that looks anew.
    assert!(caught_up(&mut kept).await.version > second.version + 50);
    check_with_others(&shadow, &folder.path().join("copy"));
    std::fs::remove_dir_all(folder.path().join("copy")).unwrap();
    caught_up(&mut copy(folder.path(), &clock, true)).await;
    check_with_others(&shadow, &folder.path().join("copy"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_names_files_outside_its_folder_is_not_copied() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(Ahead::default());
    let table = Table::new(folder.path(), WriteMode::Append);
    let mut shadow = Shadow::new();
    let mut sink = table.sink();
    let opened = sink.open(1).await.unwrap();
    let changes = shadow.round(5, 50);
    let inserts: Vec<_> = changes.into_iter().filter(|change| change.0 == "c").collect();
    shadow.commit(&mut sink, 1, &inserts).await;
    let mut kept = copy(folder.path(), &clock, false);
    caught_up(&mut kept).await;
    let log = folder.path().join("lake/t/_delta_log");
    let newest = (opened.version..).take_while(|at| log.join(format!("{at:020}.json")).exists()).last().unwrap();
    for path in ["/elsewhere/a.parquet", "s3://other/a.parquet", "file:///a.parquet", "../u/a.parquet"] {
        let add = format!(
            "{{\"add\":{{\"path\":\"{path}\",\"partitionValues\":{{}},\"size\":1,\"modificationTime\":1,\"dataChange\":true}}}}\n"
        );
        std::fs::write(log.join(format!("{:020}.json", newest + 1)), add).unwrap();
        assert_eq!(kept.catch_up().await.unwrap_err().code(), "R0565", "{path}");
    }
    let copied = folder.path().join(format!("copy/lake/t/_delta_log/{:020}.json", newest + 1));
    assert!(!copied.exists(), "the copy stays as it was");
}
