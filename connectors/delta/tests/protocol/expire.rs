//! Rows expire by the age of their partition, and nothing else does.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta};
use lakehead_conformance::SinkUnderTest;
use lakehead_core::{Clock, Expiry, Mark, Micros, PartitionTime, Patience, Retention, TimeColumn, WriteMode};
use serde_json::{Value, json};

use super::Table;
use super::keyed::{Change, Shadow, check_with_others};
use super::upkeep::{Ahead, DAY, HOUR, on_disk};

type Foreign = Box<dyn FnOnce() + Send>;

/// A clock whose next reading lets somebody else write first: an expiry reads it between the table and its own commit.
#[derive(Default)]
struct Meddling {
    ahead: Ahead,
    foreign: Mutex<Option<Foreign>>,
}

impl std::fmt::Debug for Meddling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meddling")
    }
}

#[async_trait]
impl Clock for Meddling {
    fn now(&self) -> Micros {
        let foreign = self.foreign.lock().unwrap().take();
        foreign.into_iter().for_each(|write| write());
        self.ahead.now()
    }

    fn monotonic(&self) -> Duration {
        self.ahead.monotonic()
    }

    async fn sleep(&self, duration: Duration) {
        self.ahead.sleep(duration).await;
    }
}

fn keeping(days: u64, vacuum_after: Option<u64>) -> Retention {
    let of = |days: u64| Duration::from_secs(days * 86_400);
    let by = vec![TimeColumn { name: "body".into(), source: "body".into(), tells: PartitionTime::Day }];
    Retention {
        expiry: Some(Expiry { after: of(days), by }),
        vacuum_after: vacuum_after.map(of),
        ..Retention::default()
    }
}

/// A table of days, kept for 30 of them.
fn daily(folder: &Path, mode: WriteMode, clock: &Arc<Meddling>) -> Table {
    let mut table = Table::new(folder, mode);
    table.partition_by = vec!["body".into()];
    table.clock = Arc::clone(clock) as Arc<dyn Clock>;
    table.retention = keeping(30, None);
    table
}

fn day(clock: &Meddling, ago: i64) -> Option<String> {
    let at = DateTime::from_timestamp_micros(clock.now()).unwrap() - TimeDelta::days(ago);
    Some(at.format("%Y-%m-%d").to_string())
}

/// A row for each of so many days back, its id the day's number; rows of no day, and one of a day to come.
fn filled(clock: &Meddling, shadow: &mut Shadow) -> Vec<Change> {
    let days = (0..=60).map(|ago| (ago, day(clock, ago)));
    let rows = days.chain([(1000, None), (1001, Some("no day".into())), (1002, day(clock, -400))]);
    let changes: Vec<Change> = rows.map(|(id, body)| ("c", id, body, None)).collect();
    shadow.rows.extend(changes.iter().map(|(_, id, body, _)| (*id, body.clone())));
    changes
}

/// Entries of the log by version.
fn log(folder: &Path) -> BTreeMap<u64, Vec<Value>> {
    let entries = std::fs::read_dir(folder.join("lake/t/_delta_log")).unwrap().map(|entry| entry.unwrap().path());
    let of = |path: std::path::PathBuf| {
        let version = path.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok()?;
        let text = std::fs::read_to_string(path).unwrap();
        Some((version, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()))
    };
    entries.filter_map(of).collect()
}

/// The removed paths of each commit that deletes.
fn expiries(folder: &Path) -> Vec<Vec<String>> {
    let is_delete = |actions: &Vec<Value>| actions[0]["commitInfo"]["operation"] == "DELETE";
    let of = |actions: Vec<Value>| {
        assert!(actions[1..].iter().all(|action| action["remove"]["dataChange"] == true), "{actions:?}");
        actions[1..].iter().map(|action| action["remove"]["path"].as_str().unwrap().to_owned()).collect()
    };
    log(folder).into_values().filter(is_delete).map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_past_its_age_goes_in_one_commit_and_its_keys_may_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(Meddling::default());
    let table = daily(folder.path(), WriteMode::Upsert, &clock);
    let mut shadow = Shadow::new();
    let mut sink = table.sink();
    sink.open(1).await.unwrap();
    let changes = filled(&clock, &mut shadow);
    shadow.commit(&mut sink, 1, &changes).await;
    // The end of the day 31 days ago is 30 days old, that of the one behind it is not.
    shadow.rows.retain(|id, _| !(31..=60).contains(id));
    shadow.check(&table).await;
    check_with_others(&shadow, folder.path());
    let gone = expiries(folder.path());
    assert_eq!(gone.iter().map(Vec::len).collect::<Vec<_>>(), [30], "{gone:?}");

    let late = day(&clock, 46);
    let changes = vec![
        ("u", 45, day(&clock, 0), None),
        ("u", 46, late.clone(), None),
        ("d", 47, None, None),
        ("u", 20, day(&clock, 3), None),
    ];
    shadow.commit(&mut sink, 1, &changes).await;
    shadow.rows.extend([(45, day(&clock, 0)), (46, late), (20, day(&clock, 3))]);
    shadow.check(&table).await;
    check_with_others(&shadow, folder.path());
    // A row of an expired day that comes late is written, and goes with the next pass.
    clock.ahead.pass(HOUR);
    sink.tend(Patience::Between).await;
    shadow.rows.remove(&46);
    shadow.check(&table).await;
    assert_eq!(expiries(folder.path()).len(), 2);

    // Another process goes on, and days go by.
    sink = table.sink();
    sink.open(2).await.unwrap();
    clock.ahead.pass(3 * DAY);
    sink.tend(Patience::ToEnd).await;
    let kept = day(&clock, 30);
    shadow.rows.retain(|_, body| body.as_deref() == Some("no day") || body.is_none() || *body >= kept);
    shadow.check(&table).await;
    let changes = vec![("u", 50, day(&clock, 1), None), ("u", 30, day(&clock, 1), None)];
    shadow.commit(&mut sink, 2, &changes).await;
    shadow.rows.extend([(50, day(&clock, 1)), (30, day(&clock, 1))]);
    shadow.check(&table).await;
    check_with_others(&shadow, folder.path());
    assert_eq!(expiries(folder.path()).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_commit_in_between_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(Meddling::default());
    let table = daily(folder.path(), WriteMode::Upsert, &clock);
    let mut shadow = Shadow::new();
    let mut sink = table.sink();
    sink.open(1).await.unwrap();
    let changes = filled(&clock, &mut shadow);
    // The round itself is tended to: nothing may be past its age then.
    let changes: Vec<Change> = changes.into_iter().filter(|(_, id, ..)| !(31..=60).contains(id)).collect();
    shadow.rows.retain(|id, _| !(31..=60).contains(id));
    shadow.commit(&mut sink, 1, &changes).await;
    clock.ahead.pass(2 * DAY);
    // A writer of others takes out one of the two days that expire, before we do.
    let entries = log(folder.path());
    let adds = entries.values().flatten().filter(|action| action["add"].is_object());
    let first =
        adds.map(|action| action["add"].clone()).find(|add| add["partitionValues"]["body"] == json!(day(&clock, 32)));
    let path = first.unwrap()["path"].as_str().unwrap().to_owned();
    let next = entries.keys().max().unwrap() + 1;
    let file = folder.path().join(format!("lake/t/_delta_log/{next:020}.json"));
    let remove = json!({ "remove": { "path": path, "deletionTimestamp": 1, "dataChange": true } });
    let body = format!("{}\n{remove}\n", json!({ "commitInfo": { "operation": "FOREIGN" } }));
    *clock.foreign.lock().unwrap() = Some(Box::new(move || std::fs::write(file, body).unwrap()));
    sink.tend(Patience::Between).await;
    let gone = expiries(folder.path());
    assert_eq!(gone.iter().map(Vec::len).collect::<Vec<_>>(), [1], "{gone:?}");
    assert_ne!(gone[0][0], path);
    shadow.rows.retain(|id, _| ![29, 30].contains(id));
    shadow.check(&table).await;
    let changes = vec![("u", 29, day(&clock, 1), None), ("u", 5, day(&clock, 1), None)];
    shadow.commit(&mut sink, 1, &changes).await;
    shadow.rows.extend([(29, day(&clock, 1)), (5, day(&clock, 1))]);
    shadow.check(&table).await;
    check_with_others(&shadow, folder.path());
}

/// Who was fenced off takes nothing out.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_was_fenced_off_expires_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(Meddling::default());
    let mut table = daily(folder.path(), WriteMode::Append, &clock);
    let mut shadow = Shadow::new();
    let mut old = table.sink();
    old.open(1).await.unwrap();
    table.retention = Retention::default();
    let mut sink = table.sink();
    sink.open(2).await.unwrap();
    let changes = filled(&clock, &mut shadow);
    shadow.commit(&mut sink, 2, &changes).await;
    clock.ahead.pass(DAY);
    old.tend(Patience::ToEnd).await;
    assert_eq!(expiries(folder.path()).len(), 0);
    shadow.check(&table).await;
}

/// Part of a row that has expired comes by an update: what was not sent is gone for good, and nobody misses it. A row of no
/// expired partition that is gone is an incident, as ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_an_expired_row_is_left_out() {
    for deletes in ["vectors", "rewrite"] {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(Meddling::default());
        let mut table = daily(folder.path(), WriteMode::Upsert, &clock);
        table.deletes = deletes;
        // The key is the year of the row.
        table.partition_by = vec!["id".into()];
        let by = vec![TimeColumn { name: "id".into(), source: "id".into(), tells: PartitionTime::Year }];
        table.retention =
            Retention { expiry: Some(Expiry { after: Duration::from_secs(86_400), by }), ..Retention::default() };
        let mut shadow = Shadow::new();
        let mut sink = table.sink();
        sink.open(1).await.unwrap();
        let change = |id: i64| -> Change { ("c", id, Some("whole".into()), None) };
        shadow.commit(&mut sink, 1, &[change(1990), change(2990)]).await;
        let part = |id: i64| -> Change { ("u", id, None, Some("body")) };
        shadow.commit(&mut sink, 1, &[part(1990), part(2990)]).await;
        shadow.rows.insert(2990, Some("whole".into()));
        shadow.check(&table).await;
        sink.stage(lakehead_conformance::rows(&[("u", 2991, None, Some("body"))])).await.unwrap();
        let prepared = sink.prepare().await.unwrap().unwrap();
        let mark = Mark { seq: 3, fence: 1, ..Mark::default() };
        assert_eq!(sink.commit(&prepared, mark).await.unwrap_err().code(), "R0203", "{deletes}");
    }
}

/// Expired files stay for those who read the version before, as long as `vacuum` says; never less than a day.
#[tokio::test(flavor = "multi_thread")]
async fn expired_files_go_when_vacuum_says() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(Meddling::default());
    let mut table = daily(folder.path(), WriteMode::Append, &clock);
    let mut shadow = Shadow::new();
    table.retention = Retention::default();
    table.sink().open(1).await.unwrap();
    // A table that is there learns it too.
    table.retention = keeping(30, Some(14));
    let mut sink = table.sink();
    sink.open(2).await.unwrap();
    let configuration = |folder: &Path| {
        let entries = log(folder).into_values().flatten();
        entries.filter_map(|action| action.get("metaData").cloned()).next_back().unwrap()["configuration"].clone()
    };
    assert_eq!(configuration(folder.path())["delta.deletedFileRetentionDuration"], "interval 14 days");
    let changes = filled(&clock, &mut shadow);
    shadow.commit(&mut sink, 2, &changes).await;
    assert_eq!(expiries(folder.path()).len(), 1);
    let all = files(folder.path());
    for _ in 0..4 {
        clock.ahead.pass(3 * DAY);
        sink.tend(Patience::ToEnd).await;
    }
    assert_eq!(files(folder.path()), all, "12 days");
    for _ in 0..3 {
        clock.ahead.pass(DAY + 7 * HOUR);
        sink.tend(Patience::ToEnd).await;
    }
    let left = files(folder.path());
    assert_eq!(left, all - 30, "what expired later stays");
    let kept = day(&clock, 30);
    shadow.rows.retain(|_, body| body.as_deref() == Some("no day") || body.is_none() || *body >= kept);
    shadow.check(&table).await;

    table.retention = keeping(30, Some(0));
    table.sink().open(3).await.unwrap();
    assert_eq!(configuration(folder.path())["delta.deletedFileRetentionDuration"], "interval 1 days");
    let entries = log(folder.path()).len();
    table.sink().open(4).await.unwrap();
    let last = log(folder.path()).into_values().next_back().unwrap();
    assert_eq!((log(folder.path()).len(), last.len()), (entries + 1, 2), "said once: {last:?}");
}

/// Data files on the disk, in their folders.
fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder.join("lake/t")).unwrap().map(|entry| entry.unwrap().path());
    let folders = entries.filter(|path| path.is_dir() && !path.file_name().unwrap().to_str().unwrap().starts_with('_'));
    let inside = folders.map(|path| std::fs::read_dir(path).unwrap().count()).sum::<usize>();
    inside + on_disk(folder).len()
}
