//! Tables by deletion vectors against the reference in memory: random changes, several rounds, restarts, lost indexes.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use lakehead_core::{
    BatchBudget, COMMITTED_AT, Checkpoint, Clock, IS_DELETED, ManualClock, Mark, OP, Outcome, Patience, RunContext,
    Settings, Sink, SinkSpec, SourceEvent, SourceSpec, TableSpec, UNCHANGED, VERSION_COLUMNS, Value, WriteMode,
    added_field, reserved_field,
};
use lakehead_delta::CONNECTOR;
use lakehead_memory::{MemorySink, MemoryStore};

use super::keyed::Dice;

/// A change: op, id, body, note (ignored), unsent columns, time.
#[derive(Clone, Debug)]
struct Change(&'static str, i64, Option<String>, Option<i64>, Option<&'static str>, Option<i64>);

/// A version: id, body, note, from, to, current, deleted.
type Version = (i64, Option<String>, Option<i64>, Option<i64>, Option<i64>, Option<bool>, Option<bool>);

fn data() -> Vec<Field> {
    vec![
        Field::new("id", DataType::Int64, true),
        Field::new("body", DataType::Utf8, true),
        Field::new("note", DataType::Int64, true),
    ]
}

fn table_schema(mode: WriteMode) -> SchemaRef {
    let mut fields = data();
    match mode {
        WriteMode::Scd2 => fields.extend(VERSION_COLUMNS.map(added_field)),
        _ => fields.push(added_field(IS_DELETED)),
    }
    Arc::new(Schema::new(fields))
}

fn batch(changes: &[Change]) -> RecordBatch {
    let mut fields = data();
    fields.extend([OP, COMMITTED_AT, UNCHANGED].map(reserved_field));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(changes.iter().map(|change| Some(change.1)).collect::<Int64Array>()),
        Arc::new(changes.iter().map(|change| change.2.clone()).collect::<StringArray>()),
        Arc::new(changes.iter().map(|change| change.3).collect::<Int64Array>()),
        Arc::new(changes.iter().map(|change| Some(change.0)).collect::<StringArray>()),
        Arc::new(changes.iter().map(|change| change.5).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        Arc::new(changes.iter().map(|change| change.4).collect::<StringArray>()),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// One table, held twice: by the sink under test, and by the reference.
struct Twins {
    folder: tempfile::TempDir,
    mode: WriteMode,
    settings: Settings,
    clock: Arc<dyn Clock>,
    manual: Arc<ManualClock>,
    store: MemoryStore,
    reference: Box<dyn Sink>,
    sink: Box<dyn Sink>,
    fence: u64,
    seq: u64,
}

impl Twins {
    async fn new(mode: WriteMode, settings: &[(&str, Value)]) -> Self {
        let mut settings = Settings::new(settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        settings.set("ignore_columns", Value::List(vec![Value::Name("note".into())]));
        let folder = tempfile::tempdir().unwrap();
        let manual = Arc::new(ManualClock::at(1_000_000));
        let clock: Arc<dyn Clock> = Arc::clone(&manual) as Arc<dyn Clock>;
        let store = MemoryStore::default();
        let key = ["id".to_owned()];
        let reference = MemorySink::new(&store, "p", "t", mode, &key, &table_schema(mode));
        let reference: Box<dyn Sink> = Box::new(reference.changing(&settings, &clock));
        let sink = delta(folder.path().to_path_buf(), mode, &settings, &clock);
        let mut twins = Self { folder, mode, settings, clock, manual, store, reference, sink, fence: 1, seq: 0 };
        twins.reference.open(1).await.unwrap();
        twins.sink.open(1).await.unwrap();
        twins
    }

    /// Another process goes on.
    async fn restart(&mut self) {
        self.fence += 1;
        self.sink = delta(self.folder.path().to_path_buf(), self.mode, &self.settings, &self.clock);
        self.sink.open(self.fence).await.unwrap();
        self.reference.open(self.fence).await.unwrap();
    }

    async fn stage(&mut self, changes: &[Change]) {
        self.reference.stage(batch(changes)).await.unwrap();
        self.sink.stage(batch(changes)).await.unwrap();
    }

    async fn empty(&mut self) {
        self.reference.truncate().await.unwrap();
        self.sink.truncate().await.unwrap();
    }

    /// Commits; `crashes` has another process commit what the first has prepared, and both try again.
    async fn commit(&mut self, crashes: bool) {
        let expected = self.reference.prepare().await.unwrap();
        let prepared = self.sink.prepare().await.unwrap();
        assert_eq!(expected.is_some(), prepared.is_some());
        let (Some(expected), Some(prepared)) = (expected, prepared) else { return };
        let text = serde_json::to_string(&prepared).unwrap();
        let prepared = serde_json::from_str(&text).unwrap();
        if crashes {
            self.restart().await;
        }
        self.seq += 1;
        let mark = Mark { seq: self.seq, fence: self.fence, ..Mark::default() };
        assert!(matches!(self.reference.commit(&expected, mark).await.unwrap(), Outcome::Committed(_)));
        assert!(matches!(self.sink.commit(&prepared, mark).await.unwrap(), Outcome::Committed(_)));
        if crashes {
            self.restart().await;
        }
        self.sink.tend(Patience::ToEnd).await;
        let mark = Mark { fence: self.fence, ..mark };
        assert_eq!(self.sink.commit(&prepared, mark).await.unwrap(), Outcome::AlreadyCommitted);
    }

    async fn round(&mut self, changes: &[Change]) {
        self.stage(changes).await;
        self.commit(false).await;
    }

    async fn check(&self) -> Vec<Version> {
        let found = read(self.folder.path().to_path_buf(), self.mode, &self.clock).await;
        let mut expected = self.store.rows("t").map_or_else(Vec::new, |rows| versions(&rows));
        expected.sort();
        assert_eq!(found, expected, "after round {}", self.seq);
        if self.mode == WriteMode::Scd2 {
            holds_together(&found);
        }
        found
    }
}

fn delta(folder: PathBuf, mode: WriteMode, settings: &Settings, clock: &Arc<dyn Clock>) -> Box<dyn Sink> {
    (CONNECTOR.sink.unwrap().build)(SinkSpec {
        pipeline: "p".into(),
        node: "lake".into(),
        table: "t".into(),
        schema: table_schema(mode),
        key: vec!["id".into()],
        mode,
        partition_by: settings.texts("partition_by"),
        connection: super::Table::connection(),
        settings: settings.clone(),
        cache: folder.join("cache"),
        root: folder,
        run: RunContext::default(),
        clock: Arc::clone(clock),
    })
    .unwrap()
}

fn versions(rows: &RecordBatch) -> Vec<Version> {
    let column = |name: &str| rows.column_by_name(name).unwrap();
    let whole = |name: &str| column(name).as_primitive::<Int64Type>().iter().collect::<Vec<_>>();
    let time = |name: &str| match rows.column_by_name(name) {
        Some(times) => times.as_primitive::<TimestampMicrosecondType>().iter().collect::<Vec<_>>(),
        None => vec![None; rows.num_rows()],
    };
    let flag = |name: &str| match rows.column_by_name(name) {
        Some(flags) => flags.as_boolean().iter().collect::<Vec<_>>(),
        None => vec![None; rows.num_rows()],
    };
    let (ids, notes, from, to) = (whole("id"), whole("note"), time("valid_from"), time("valid_to"));
    let (current, deleted) = (flag("is_current"), flag("is_deleted"));
    let bodies = column("body").as_string::<i32>().iter().map(|body| body.map(str::to_owned)).collect::<Vec<_>>();
    let one = |n: usize| (ids[n].unwrap(), bodies[n].clone(), notes[n], from[n], to[n], current[n], deleted[n]);
    (0..rows.num_rows()).map(one).collect()
}

async fn read(folder: PathBuf, mode: WriteMode, clock: &Arc<dyn Clock>) -> Vec<Version> {
    let mut source = (CONNECTOR.source.unwrap().build)(SourceSpec {
        pipeline: "reader".into(),
        node: "t".into(),
        connection: super::Table::connection(),
        settings: Settings::new([("table".to_owned(), Value::Text("t".into()))]),
        tables: vec![TableSpec { name: "t".into(), schema: table_schema(mode), key: Vec::new() }],
        root: folder,
        run: RunContext::default(),
        clock: Arc::clone(clock),
    })
    .unwrap();
    source.open(&Checkpoint::default()).await.unwrap();
    let mut found = Vec::new();
    loop {
        match source.next(BatchBudget::default()).await.unwrap() {
            SourceEvent::Changes(batch) => found.extend(versions(&batch.rows)),
            SourceEvent::End => break,
            _ => {}
        }
    }
    found.sort();
    found
}

/// What holds of every table of versions, whatever came.
fn holds_together(versions: &[Version]) {
    let mut by_key: std::collections::BTreeMap<i64, Vec<&Version>> = std::collections::BTreeMap::new();
    for version in versions {
        by_key.entry(version.0).or_default().push(version);
    }
    for (id, mut versions) in by_key {
        versions.sort_by_key(|version| (version.3, version.4.is_none(), version.4));
        let current = versions.iter().filter(|version| version.5 == Some(true)).count();
        assert!(current <= 1, "{id} has {current} current versions");
        for pair in versions.windows(2) {
            assert!(pair[0].4.unwrap() <= pair[1].3.unwrap(), "versions of {id} overlap: {pair:?}");
        }
        for version in versions {
            assert_eq!(version.5, Some(version.4.is_none()), "{version:?}");
            assert!(version.4.is_none_or(|to| version.3.unwrap() <= to), "{version:?}");
            assert!(version.6 == Some(false) || version.5 == Some(false), "{version:?}");
        }
    }
}

/// Makes up the changes of a log: what a source with these keys would send, its clock going back now and then.
struct Log {
    dice: Dice,
    rows: std::collections::BTreeMap<i64, String>,
    now: i64,
}

impl Log {
    fn new(seed: u64) -> Self {
        Self { dice: Dice(seed), rows: std::collections::BTreeMap::new(), now: 10_000_000 }
    }

    fn time(&mut self) -> Option<i64> {
        self.now += i64::try_from(self.dice.below(2000)).unwrap();
        let back = if self.dice.below(6) == 0 { i64::try_from(self.dice.below(40_000)).unwrap() } else { 0 };
        (self.dice.below(12) != 0).then_some(self.now - back)
    }

    fn changes(&mut self, count: u64, keys: u64) -> Vec<Change> {
        let mut made = Vec::new();
        while (made.len() as u64) < count {
            let id = i64::try_from(self.dice.below(keys)).unwrap();
            let body = format!("body {}", self.dice.below(4));
            let note = Some(i64::try_from(self.dice.below(3)).unwrap());
            let at = self.time();
            match (self.rows.contains_key(&id), self.dice.below(12)) {
                (false, _) => made.push(Change("c", id, Some(body.clone()), note, None, at)),
                (true, 0 | 1) => {
                    self.rows.remove(&id);
                    made.push(Change("d", id, None, None, None, at));
                    continue;
                }
                (true, 2 | 3) => {
                    made.push(Change("u", id, None, note, Some("body"), at));
                    continue;
                }
                (true, 4) => {
                    // The key changes; the large value is not sent.
                    let to = i64::try_from(keys + self.dice.below(1000)).unwrap();
                    let Some(old) = self.rows.remove(&id).filter(|_| !self.rows.contains_key(&to)) else { continue };
                    made.push(Change("d", id, None, None, None, at));
                    made.push(Change("c", to, None, note, Some("body"), at));
                    self.rows.insert(to, old);
                    continue;
                }
                (true, _) => made.push(Change("u", id, Some(body.clone()), note, None, at)),
            }
            self.rows.insert(id, body);
        }
        made
    }

    /// What a snapshot reads now.
    fn snapshot(&mut self) -> Vec<Change> {
        let at = self.time();
        self.rows.iter().map(|(id, body)| Change("r", *id, Some(body.clone()), Some(0), None, at)).collect()
    }
}

async fn random_rounds(seed: u64, mode: WriteMode, settings: &[(&str, Value)], rounds: u64) {
    let mut twins = Twins::new(mode, settings).await;
    let mut log = Log::new(seed);
    log.changes(60, 40);
    let first = log.snapshot();
    twins.round(&first).await;
    for round in 0..rounds {
        twins.manual.advance(std::time::Duration::from_millis(20));
        let count = 1 + log.dice.below(50);
        let changes = log.changes(count, 40);
        // A round's batches, in several calls.
        let cut = usize::try_from(log.dice.below(changes.len() as u64)).unwrap();
        twins.stage(&changes[..cut]).await;
        match log.dice.below(14) {
            // Read anew: first the tables are emptied, then every row comes.
            0 => {
                twins.sink.abort().await.unwrap();
                twins.reference.abort().await.unwrap();
                twins.empty().await;
                let rows = log.snapshot();
                twins.stage(&rows).await;
            }
            1 => {
                twins.stage(&changes[cut..]).await;
                twins.empty().await;
                log.rows.clear();
                let again = log.changes(20, 40);
                twins.stage(&again).await;
            }
            _ => twins.stage(&changes[cut..]).await,
        }
        twins.commit(log.dice.below(5) == 0).await;
        if log.dice.below(9) == 0 {
            drop(std::mem::replace(
                &mut twins.sink,
                delta(twins.folder.path().join("none"), twins.mode, &twins.settings, &twins.clock),
            ));
            let _ = std::fs::remove_dir_all(twins.folder.path().join("cache"));
            twins.restart().await;
        }
        if round % 4 == 3 {
            twins.check().await;
        }
    }
    twins.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_those_of_the_reference_whatever_comes() {
    for seed in 1..=2 {
        random_rounds(seed, WriteMode::Scd2, &[], 30).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn soft_deletes_are_those_of_the_reference() {
    random_rounds(5, WriteMode::Scd2, &[("on_delete", Value::Name("soft".into()))], 30).await;
    let current = Value::List(vec![Value::Name("is_current".into())]);
    random_rounds(6, WriteMode::Scd2, &[("on_delete", Value::Name("soft".into())), ("partition_by", current)], 30)
        .await;
}

/// A large table that is read anew keeps its history: what is as it was stays, what went is closed, what changed goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_read_anew_keeps_its_history() {
    let mut twins = Twins::new(WriteMode::Scd2, &[("on_delete", Value::Name("soft".into()))]).await;
    let row = |op, id, body: &str, at| Change(op, id, Some(body.to_owned()), Some(1), None, Some(at));
    twins.round(&[row("r", 1, "a", 10), row("r", 2, "b", 10), row("r", 3, "c", 10)]).await;
    twins.manual.set(50);
    twins.empty().await;
    twins.stage(&[row("r", 1, "a", 50), row("r", 3, "C", 50), row("r", 4, "d", 50)]).await;
    twins.commit(true).await;
    let text = |body: &str| Some(body.to_owned());
    let open = |id, body, from| (id, text(body), Some(1), Some(from), None, Some(true), Some(false));
    assert_eq!(
        twins.check().await,
        [
            open(1, "a", 10),
            (2, text("b"), Some(1), Some(10), Some(50), Some(false), Some(true)),
            (3, text("C"), Some(1), Some(50), None, Some(true), Some(false)),
            (3, text("c"), Some(1), Some(10), Some(50), Some(false), Some(false)),
            open(4, "d", 50),
        ]
    );
}

/// `on_delete = ignore`: an emptied source closes nothing, and a row that comes behind it is an update.
#[tokio::test(flavor = "multi_thread")]
async fn ignored_deletes_leave_versions_open() {
    let mut twins = Twins::new(WriteMode::Scd2, &[("on_delete", Value::Name("ignore".into()))]).await;
    let row = |op, id, body: &str, at| Change(op, id, Some(body.to_owned()), Some(1), None, Some(at));
    twins.round(&[row("c", 1, "a", 10), row("c", 2, "b", 10)]).await;
    twins.empty().await;
    twins.stage(&[row("c", 1, "A", 20), row("c", 2, "b", 20)]).await;
    twins.commit(true).await;
    let found = twins.check().await;
    let current: Vec<_> = found.iter().filter(|version| version.5 == Some(true)).map(|v| (v.0, v.3)).collect();
    assert_eq!((found.len(), current), (3, vec![(1, Some(20)), (2, Some(10))]));
}

/// The number of files stays small, and merged files hold one current row a key.
#[tokio::test(flavor = "multi_thread")]
async fn many_rounds_are_merged_and_found_again() {
    let mut twins = Twins::new(WriteMode::Scd2, &[]).await;
    let mut log = Log::new(9);
    for round in 0..60 {
        let changes = log.changes(8, 30);
        twins.round(&changes).await;
        if round % 20 == 19 {
            twins.restart().await;
        }
    }
    let found = twins.check().await;
    let script = "
import sys, duckdb
print(*duckdb.sql(f\"select count(*), count(*) filter (is_current), count(valid_to), max(epoch_us(valid_from)) from delta_scan('{sys.argv[1]}')\").fetchone())
";
    if let Some(said) = super::keyed::python(script, twins.folder.path()) {
        let ended = found.iter().filter(|version| version.4.is_some()).count();
        let last = found.iter().filter_map(|version| version.3).max().unwrap();
        assert_eq!(said, format!("{} {} {ended} {last}", found.len(), found.len() - ended));
    }
    let merges = super::keyed::entries(twins.folder.path()).merges;
    assert!(merges > 3, "{merges} merges");
}

/// `sequence_by` against the table: an older row does not replace a newer one, an equal one does.
#[tokio::test(flavor = "multi_thread")]
async fn older_rows_replace_nothing_as_in_the_reference() {
    let by_note = ("sequence_by", Value::Name("note".into()));
    let vectors = ("deletes", Value::Name("vectors".into()));
    let rewrite = ("deletes", Value::Name("rewrite".into()));
    for (mode, deletes) in
        [(WriteMode::Upsert, vectors.clone()), (WriteMode::Upsert, rewrite), (WriteMode::Scd2, vectors)]
    {
        let mut twins = Twins::new(mode, &[by_note.clone(), deletes]).await;
        let mut dice = Dice(11);
        for round in 0..25 {
            let mut changes: Vec<Change> = Vec::new();
            for _ in 0..20 {
                let id = i64::try_from(dice.below(40)).unwrap();
                let age = i64::try_from(dice.below(12)).unwrap() + round / 2;
                let age = (dice.below(20) != 0).then_some(age);
                let body = Some(format!("body {} of {age:?}", dice.below(5)));
                changes.push(Change("c", id, body, age, None, Some(100 * round)));
            }
            // As the engine has them: in order, the newer arrival last.
            changes.sort_by_key(|change| change.3);
            twins.stage(&changes).await;
            twins.commit(round % 7 == 3).await;
            twins.check().await;
        }
        let stale = [Change("c", 1, Some("late".into()), Some(-1), None, Some(9000))];
        let before = twins.check().await;
        twins.round(&stale).await;
        assert_eq!(twins.check().await, before);
    }
}

/// `on_delete = soft` in upserts: the row stays with its last values, however rounds are cut, and is back when its key is.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_deleted_softly_stay_as_in_the_reference() {
    for deletes in ["vectors", "rewrite"] {
        let settings = [("on_delete", Value::Name("soft".into())), ("deletes", Value::Name(deletes.into()))];
        random_rounds(7, WriteMode::Upsert, &settings, 30).await;
    }
}
