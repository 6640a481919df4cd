//! Upserts by deletion vectors against a model, round after round, with readers that others wrote.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use lakehead_conformance::{SinkUnderTest, rows};
use lakehead_core::{Mark, Outcome, Patience, Settings, Sink, Value, WriteMode, failpoint};

use super::Table;

/// A change as the laws write it: kind, id, body, the column left unsent.
pub(crate) type Change = (&'static str, i64, Option<String>, Option<&'static str>);

/// Numbers that look like chance, the same ones every time.
#[derive(Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

pub(crate) struct Shadow {
    pub(crate) rows: BTreeMap<i64, Option<String>>,
    dice: Dice,
    /// How many bodies there are; none means that each is another.
    bodies: Option<u64>,
    pub(crate) seq: u64,
}

impl Shadow {
    pub(crate) fn new() -> Self {
        Self { rows: BTreeMap::new(), dice: Dice(7), bodies: None, seq: 0 }
    }

    /// Makes up the changes of one round and takes them over: a key may change several times.
    pub(crate) fn round(&mut self, changes: u64, keys: u64) -> Vec<Change> {
        let mut made = Vec::new();
        for _ in 0..changes {
            let id = i64::try_from(self.dice.below(keys)).unwrap();
            let body = match self.bodies {
                None => format!("body {} of {id}", self.dice.below(1_000_000)),
                Some(bodies) => format!("p {}", self.dice.below(bodies)),
            };
            let body = Some(body);
            let change: Change = match (self.rows.contains_key(&id), self.dice.below(10)) {
                (false, _) => ("c", id, body, None),
                (true, 0 | 1) => ("d", id, None, None),
                (true, 2 | 3) => ("u", id, None, Some("body")),
                (true, _) => ("u", id, body, None),
            };
            match (change.0, change.3) {
                ("d", _) => drop(self.rows.remove(&id)),
                (_, Some(_)) => {}
                _ => drop(self.rows.insert(id, change.2.clone())),
            }
            made.push(change);
        }
        made
    }

    pub(crate) async fn commit(&mut self, sink: &mut Box<dyn Sink>, fence: u64, changes: &[Change]) {
        let batch: Vec<_> = changes.iter().map(|(op, id, body, unsent)| (*op, *id, body.as_deref(), *unsent)).collect();
        sink.stage(rows(&batch)).await.unwrap();
        let Some(prepared) = sink.prepare().await.unwrap() else { return };
        self.seq += 1;
        let mark = Mark { seq: self.seq, fence, ..Mark::default() };
        assert!(matches!(sink.commit(&prepared, mark).await.unwrap(), Outcome::Committed(_)));
        // Whoever asks again is told that it is done.
        assert_eq!(sink.commit(&prepared, mark).await.unwrap(), Outcome::AlreadyCommitted);
        sink.tend(Patience::Between).await;
    }

    pub(crate) async fn check(&self, table: &Table) {
        let mut found = table.read().await;
        found.sort();
        let expected: Vec<_> = self.rows.iter().map(|(id, body)| (*id, body.clone())).collect();
        assert_eq!(found, expected, "after round {}", self.seq);
    }

    fn summary(&self) -> String {
        let sum: i64 = self.rows.keys().sum();
        let letters: usize = self.rows.values().flatten().map(String::len).sum();
        format!("{} {sum} {letters}", self.rows.len())
    }
}

/// Runs Python with the readers that the test command installs; `None` (and nothing is asked of them) where there are none.
pub(crate) fn python(script: &str, folder: &Path) -> Option<String> {
    let python = std::env::var_os("LAKEHEAD_READERS")?;
    let output = Command::new(python).args(["-c", script]).arg(folder.join("lake/t")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

/// Asks DuckDB and Polars, and ClickHouse and Sail (`pip install pysail pyspark-client`) where they are installed.
pub(crate) fn check_with_others(shadow: &Shadow, folder: &Path) {
    let script = "
import os, sys, duckdb, polars
path = sys.argv[1]
print(*duckdb.sql(f\"select count(*), sum(id)::bigint, sum(length(body))::bigint from delta_scan('{path}')\").fetchone())
rows = polars.scan_delta(path).select(polars.len(), polars.col('id').sum(), polars.col('body').str.len_bytes().sum().alias('n')).collect()
print(*rows.row(0))
try:
    # It reads below the working folder only.
    os.chdir(path)
    import chdb
    sums = f\"select count(), sum(id), sum(length(body)) from deltaLakeLocal('{path}') settings optimize_trivial_count_query=0\"
    print(str(chdb.query(sums, 'TSV')).strip().replace(chr(9), ' '))
except ImportError:
    pass
try:
    # The client looks for an installation of Spark that it does not need.
    os.environ['SPARK_HOME'] = path
    from pysail.spark import SparkConnectServer
    from pyspark.sql import SparkSession
    server = SparkConnectServer()
    server.start()
    _, port = server.listening_address
    session = SparkSession.builder.remote(f'sc://localhost:{port}').getOrCreate()
    table = session.read.format('delta').load(path)
    print(*table.selectExpr('count(*)', 'sum(id)', 'sum(length(body))').collect()[0])
except ImportError:
    pass
";
    let Some(said) = python(script, folder) else { return };
    let expected = shadow.summary();
    assert!(said.lines().count() >= 2, "{said}");
    assert!(said.lines().all(|line| line == expected), "after round {}: {expected}, but {said}", shadow.seq);
}

/// What the entries of the log say of our commits.
#[derive(Default)]
pub(crate) struct Entries {
    /// The most new files that one round added.
    files_of_a_round: usize,
    /// Deletion vectors that changed.
    vectors: usize,
    /// Commits that merged files.
    pub(crate) merges: usize,
    /// Merged files of which rows were gone by the time that they became live.
    carried: usize,
}

pub(crate) fn entries(folder: &Path) -> Entries {
    let mut found = Entries::default();
    let files = std::fs::read_dir(folder.join("lake/t/_delta_log")).unwrap().map(|entry| entry.unwrap().path());
    for file in files.filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
        let text = std::fs::read_to_string(file).unwrap();
        let actions: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let adds: Vec<_> = actions.iter().map(|action| &action["add"]).filter(|add| add.is_object()).collect();
        let vectors = adds.iter().filter(|add| add["deletionVector"].is_object()).count();
        match actions[0]["commitInfo"]["operation"].as_str() {
            Some("MERGE") => {
                found.files_of_a_round = found.files_of_a_round.max(adds.len() - vectors);
                found.vectors += vectors;
            }
            Some("OPTIMIZE") => {
                found.merges += 1;
                found.carried += vectors;
                assert!(actions[1..].iter().all(|action| action["add"]["dataChange"] != true), "{text}");
                assert!(actions[1..].iter().all(|action| action["remove"]["dataChange"] != true), "{text}");
            }
            _ => {}
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn rounds_leave_what_the_model_holds_and_rewrite_no_file() {
    // A thousand are made by hand: LAKEHEAD_ROUNDS=1000 cargo test --workspace --test protocol rounds_leave
    let rounds: u64 = std::env::var_os("LAKEHEAD_ROUNDS").map_or(100, |text| text.to_str().unwrap().parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let table = Table::new(folder.path(), WriteMode::Upsert);
    let mut shadow = Shadow::new();
    let mut sink = table.sink();
    sink.open(1).await.unwrap();
    let first = shadow.round(3000, 2000);
    shadow.commit(&mut sink, 1, &first).await;
    check_with_others(&shadow, folder.path());
    for round in 0..rounds {
        let changes = shadow.round(40, 2400);
        shadow.commit(&mut sink, 1 + round * 4 / rounds, &changes).await;
        match (round + 1) * 4 {
            done if done == rounds => {
                // Another process goes on, with the index of this one.
                drop(sink);
                sink = table.sink();
                sink.open(2).await.unwrap();
            }
            done if done == rounds * 2 => {
                check_with_others(&shadow, folder.path());
                // The index is lost.
                drop(sink);
                std::fs::remove_dir_all(folder.path().join("cache")).unwrap();
                sink = table.sink();
                sink.open(3).await.unwrap();
            }
            done if done == rounds * 3 => {
                // The process before died without a word and may still have the index: this one builds its own.
                std::mem::forget(sink);
                sink = table.sink();
                sink.open(4).await.unwrap();
            }
            _ => {}
        }
        if round % 10 == 9 {
            shadow.check(&table).await;
        }
    }
    check_with_others(&shadow, folder.path());
    sink.tend(Patience::ToEnd).await;
    shadow.check(&table).await;
    check_with_others(&shadow, folder.path());
    let Entries { files_of_a_round, vectors, merges, .. } = entries(folder.path());
    // A round adds a file of new rows, and one of rows that were filled from old ones.
    assert_eq!(files_of_a_round, 2);
    assert!(vectors > 100 && merges > 10, "{vectors} vectors, {merges} merges");
    let live = deltalake_files(&folder.path().join("lake/t")).await;
    assert!(live < 40, "small files were merged: {live} are live");
    let figures = sink.figures().unwrap();
    assert_eq!((figures.files, figures.rows), (live as u64, shadow.rows.len() as u64));
    assert!(
        figures.overhead_bytes > 0 && figures.payload_bytes > 0 && figures.requests > 0 && figures.merged_bytes > 0,
        "{figures:?}"
    );
}

/// Rounds go on while files are merged: rows that change meanwhile are gone from the merged files too.
#[tokio::test(flavor = "multi_thread")]
async fn a_merge_takes_over_what_went_while_it_ran() {
    let folder = tempfile::tempdir().unwrap();
    let table = Table::new(folder.path(), WriteMode::Upsert);
    let mut shadow = Shadow::new();
    let mut sink = table.sink();
    sink.open(1).await.unwrap();
    for slow in ["", "delta.merge.files=delay(100)"] {
        failpoint::configure(slow).unwrap();
        for _ in 0..40 {
            let changes = shadow.round(60, 600);
            shadow.commit(&mut sink, 1, &changes).await;
        }
    }
    failpoint::configure("").unwrap();
    shadow.check(&table).await;
    sink.tend(Patience::ToEnd).await;
    shadow.check(&table).await;
    let changes = shadow.round(600, 600);
    shadow.commit(&mut sink, 1, &changes).await;
    shadow.check(&table).await;
    check_with_others(&shadow, folder.path());
    assert!(entries(folder.path()).carried > 0, "rows went while files were merged");
}

async fn deltalake_files(table: &Path) -> usize {
    let url = deltalake::table::builder::ensure_table_uri(table.to_str().unwrap()).unwrap();
    let table = deltalake::open_table(url).await.unwrap();
    table.snapshot().unwrap().log_data().num_files()
}

/// Rows whose partition changes leave the old one; vectors, merges and unsent values keep to their partitions.
#[tokio::test(flavor = "multi_thread")]
async fn rows_move_between_partitions() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = Table::new(folder.path(), WriteMode::Upsert);
    table.partition_by = vec!["body".into()];
    let mut shadow = Shadow { bodies: Some(4), ..Shadow::new() };
    let mut sink = table.sink();
    sink.open(1).await.unwrap();
    for round in 0..40 {
        let changes = shadow.round(30, 200);
        shadow.commit(&mut sink, 1 + round / 20, &changes).await;
        if round == 19 {
            sink = table.sink();
            sink.open(2).await.unwrap();
        }
        if round % 8 == 7 {
            shadow.check(&table).await;
        }
    }
    sink.tend(Patience::ToEnd).await;
    shadow.check(&table).await;
    check_with_others(&shadow, folder.path());
    assert!(entries(folder.path()).merges > 3, "files of a partition are merged");
}

/// A foreign writer appends and optimises between our rounds: every place the index knew is void, and it follows.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_append_and_optimize_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    let table = Table::new(folder.path(), WriteMode::Upsert);
    let mut shadow = Shadow::new();
    let mut sink = table.sink();
    sink.open(1).await.unwrap();
    for _ in 0..12 {
        let changes = shadow.round(200, 500);
        shadow.commit(&mut sink, 1, &changes).await;
    }
    let append = "
import sys, polars
polars.DataFrame({'id': [9001, 9002, 9003], 'body': ['x', 'y', 'z']}).write_delta(sys.argv[1], mode='append')
";
    if python(append, folder.path()).is_none() {
        return;
    }
    for (id, body) in [(9001, "x"), (9002, "y"), (9003, "z")] {
        shadow.rows.insert(id, Some(body.into()));
    }
    let change = vec![("u", 9002, Some("ours".to_owned()), None), ("d", 9003, None, None)];
    shadow.commit(&mut sink, 1, &change).await;
    shadow.rows.insert(9002, Some("ours".into()));
    shadow.rows.remove(&9003);
    shadow.check(&table).await;
    python("import sys, deltalake; print(deltalake.DeltaTable(sys.argv[1]).optimize.compact())", folder.path());
    for _ in 0..5 {
        let changes = shadow.round(100, 500);
        shadow.commit(&mut sink, 1, &changes).await;
    }
    shadow.check(&table).await;
    check_with_others(&shadow, folder.path());
}

/// A foreign RESTORE takes rows of committed rounds back: the next round stops, in this process and in the next one, until the
/// table is read anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_restore_stops_until_all_is_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    let table = Table::new(folder.path(), WriteMode::Upsert);
    let mut shadow = Shadow::new();
    let mut sink = table.sink();
    sink.open(1).await.unwrap();
    for _ in 0..6 {
        let changes = shadow.round(60, 300);
        shadow.commit(&mut sink, 1, &changes).await;
    }
    if python("import sys, deltalake; deltalake.DeltaTable(sys.argv[1]).restore(3)", folder.path()).is_none() {
        return;
    }
    for fence in [2, 3] {
        let mark = Mark { seq: shadow.seq + 1, fence: fence - 1, ..Mark::default() };
        sink.stage(rows(&[("c", 9000, Some("x"), None)])).await.unwrap();
        let prepared = sink.prepare().await.unwrap().unwrap();
        assert_eq!(sink.commit(&prepared, mark).await.unwrap_err().code(), "R0235");
        sink = table.sink();
        assert_eq!(sink.open(fence).await.unwrap().mark.seq, shadow.seq);
    }
    sink.truncate().await.unwrap();
    shadow.rows.clear();
    for _ in 0..3 {
        let changes = shadow.round(60, 300);
        shadow.commit(&mut sink, 3, &changes).await;
        shadow.check(&table).await;
    }
    check_with_others(&shadow, folder.path());
}

/// `deletes = rewrite` goes on in a table that has vectors, and leaves none in the files that it touches.
#[tokio::test(flavor = "multi_thread")]
async fn rewriting_goes_on_where_vectors_were() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = Table::new(folder.path(), WriteMode::Upsert);
    let mut shadow = Shadow::new();
    for (fence, deletes) in [(1, "vectors"), (2, "rewrite"), (3, "vectors")] {
        table.deletes = deletes;
        let mut sink = table.sink();
        sink.open(fence).await.unwrap();
        for _ in 0..6 {
            let changes = shadow.round(150, 400);
            shadow.commit(&mut sink, fence, &changes).await;
            shadow.check(&table).await;
        }
    }
    check_with_others(&shadow, folder.path());
}

/// A table that was emptied holds no file that the index knew: what comes next is found in the new ones alone.
#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_table_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let table = Table::new(folder.path(), WriteMode::Upsert);
    let mut shadow = Shadow::new();
    let mut sink = table.sink();
    sink.open(1).await.unwrap();
    for _ in 0..3 {
        let changes = shadow.round(100, 60);
        shadow.commit(&mut sink, 1, &changes).await;
    }
    sink.truncate().await.unwrap();
    shadow.rows.clear();
    shadow.commit(&mut sink, 1, &[]).await;
    shadow.check(&table).await;
    for _ in 0..3 {
        let changes = shadow.round(100, 60);
        shadow.commit(&mut sink, 1, &changes).await;
        shadow.check(&table).await;
    }
}

/// What does not fit in memory is netted by way of files: one transaction may change more than that, keys again and again.
#[tokio::test(flavor = "multi_thread")]
async fn a_round_larger_than_memory_is_that_of_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = super::wide::Wide::new(folder.path(), &["region"]);
    table.settings = Settings::new([("memory".to_owned(), Value::Size(200_000))]);
    let mut model = super::wide::Model::new();
    let mut sink = table.sink();
    sink.open(1).await.unwrap();
    for (round, changes) in [5_000, 20_000, 300, 20_000].into_iter().enumerate() {
        model.rounds(&mut sink, 1, changes, 4_000).await;
        model.check(&table, &format!("round {round} of {changes} changes")).await;
    }
    let spilled = std::fs::read_dir(folder.path().join("cache")).unwrap();
    let spilled: Vec<String> = spilled.filter_map(|file| file.unwrap().file_name().into_string().ok()).collect();
    assert!(spilled.iter().all(|name| !name.starts_with("spill")), "{spilled:?} are left");
}
