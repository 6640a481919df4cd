//! What checkpoints that are carried on hold, against a plain model of the log.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::json::LineDelimitedWriter;
use deltalake::logstore::{StorageConfig, default_logstore};
use lakehead_core::Settings;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::*;

const OURS: &str = r#"{"commitInfo":{"engineInfo":"lakehead/0.0.0"}}"#;

fn add(name: &str) -> String {
    json!({ "add": { "path": name, "partitionValues": {}, "size": 1, "modificationTime": 1, "dataChange": true } })
        .to_string()
}

fn remove(name: &str, at: i64) -> String {
    json!({ "remove": { "path": name, "deletionTimestamp": at, "dataChange": true, "size": 1 } }).to_string()
}

/// A log, and what it comes to.
struct Log {
    _folder: tempfile::TempDir,
    location: Location,
    entries: HashMap<u64, Bytes>,
    /// By file: when it was taken out, or none where it is there.
    files: BTreeMap<String, Option<i64>>,
}

impl Log {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::open("t", folder.path(), &Settings::default()).unwrap();
        Self { _folder: folder, location, entries: HashMap::new(), files: BTreeMap::new() }
    }

    fn commit(&mut self, info: &str, adds: &[String], removes: impl Iterator<Item = (String, i64)>) {
        let mut lines = vec![info.to_owned()];
        for name in adds {
            lines.push(add(name));
            self.files.insert(name.clone(), None);
        }
        for (name, at) in removes {
            lines.push(remove(&name, at));
            self.files.insert(name, Some(at));
        }
        self.entries.insert(self.entries.len() as u64, lines.join("\n").into());
    }

    /// Writes a checkpoint of the newest version and holds it against the model; returns the files of each full group of
    /// tombstones, and how many rows stand beside them.
    async fn check(&self, since: i64) -> (Vec<Vec<String>>, usize) {
        let version = self.entries.len() as u64 - 1;
        let (store, url) = (Arc::clone(self.location.store()), self.location.url());
        let log = default_logstore(Arc::clone(&store), store, url, &StorageConfig::default());
        let (location, into) = (self.location.clone(), self.location.clone());
        let checkpoint = Checkpoint { location, into, log, version, since, known: self.entries.clone() };
        checkpoint.write().await.unwrap().unwrap();
        let groups = read(&self.location.url().to_file_path().unwrap().join(name(version)));
        let held: Vec<_> = groups.iter().flatten().filter(|(_, at)| at.is_none_or(|at| at >= since)).cloned().collect();
        let expected = self.files.iter().filter(|(_, at)| at.is_none_or(|at| at >= since));
        let expected: BTreeMap<_, _> = expected.map(|(name, at)| (name.clone(), *at)).collect();
        // A group goes when the time of all that is in it is over.
        assert_eq!(held.iter().cloned().collect::<BTreeMap<_, _>>(), expected);
        assert_eq!(held.len(), expected.len(), "each file once");
        let (full, others): (Vec<_>, Vec<_>) = groups.into_iter().partition(|rows| rows.len() == 4096);
        let names = |rows: Vec<(String, Option<i64>)>| rows.into_iter().map(|(name, _)| name).collect();
        (full.into_iter().map(names).collect(), others.iter().map(Vec::len).sum())
    }
}

/// Reads the files of each row group of a checkpoint.
fn read(path: &Path) -> Vec<Vec<(String, Option<i64>)>> {
    let open = || ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).unwrap()).unwrap();
    let groups = 0..open().metadata().num_row_groups();
    groups.map(|group| files(open().with_row_groups(vec![group]).build().unwrap())).collect()
}

fn files(rows: ParquetRecordBatchReader) -> Vec<(String, Option<i64>)> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    rows.for_each(|rows| writer.write(&rows.unwrap()).unwrap());
    writer.finish().unwrap();
    let text = String::from_utf8(writer.into_inner()).unwrap();
    let actions = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let file = |action: Value| {
        let body = ["add", "remove"].into_iter().map(|kind| &action[kind]).find(|body| body.is_object())?;
        Some((body["path"].as_str()?.to_owned(), body["deletionTimestamp"].as_i64()))
    };
    actions.filter_map(file).collect()
}

fn gone(from: i64, to: i64) -> impl Iterator<Item = (String, i64)> {
    (from..to).map(|n| (format!("gone-{n}"), n))
}

#[tokio::test]
async fn tombstones_are_copied_until_their_time_is_over_or_they_may_be_back() {
    let mut log = Log::new();
    let live: Vec<String> = (0..50).map(|n| format!("live-{n}")).collect();
    log.commit(OURS, &live, gone(0, 10_000));
    let (first, others) = log.check(0).await;
    assert_eq!((first.len(), others), (2, 50 + 1808));
    log.commit(OURS, &["live-50".to_owned()], gone(10_000, 10_300).chain([("live-7".to_owned(), 10_300)]));
    assert_eq!(log.check(0).await, (first.clone(), 50 + 1808 + 301), "what is full stays as it is");
    log.commit(OURS, &[], gone(10_400, 12_400));
    let (more, others) = log.check(0).await;
    assert_eq!((&more[1..], others), (&first[..], 50 + 13), "another one is full");
    log.commit(OURS, &[], gone(12_400, 12_401));
    assert_eq!(log.check(10_000).await, (more[..1].to_vec(), 50 + 1), "the time of two is over");
    log.commit(r#"{"commitInfo":{"engineInfo":"Apache-Spark"}}"#, &["gone-11000".to_owned()], std::iter::empty());
    let (_, others) = log.check(10_350).await;
    assert_eq!(others, 51 + 2000, "a file is back, and all tombstones are looked at");
}
