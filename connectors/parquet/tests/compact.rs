//! Small files become one beside the rounds, and readers see the same rows.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use lakehead_core::{
    BatchBudget, Checkpoint, Connector, Expiry, ManualClock, Mark, Move, Outcome, Patience, Retention, RunContext,
    Settings, Sink, SinkSpec, SourceEvent, SourceSpec, StorageClass, Value, WriteMode, failpoint,
};
use lakehead_lakefile::{FileFormat, FileWriter, Location};
use lakehead_parquet::{CONNECTOR, ORC};

/// Failpoints are the process's, so the tests take turns.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

struct Lake {
    connector: &'static Connector,
    folder: tempfile::TempDir,
    settings: Vec<(&'static str, Value)>,
    connection: Vec<(&'static str, Value)>,
    run: RunContext,
    mode: WriteMode,
    seq: u64,
    fence: u64,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("place", DataType::Utf8, true),
    ]))
}

fn rows(from: i64, count: i64) -> RecordBatch {
    let ids = Int64Array::from_iter_values((from..from + count).rev());
    let names = StringArray::from_iter((from..from + count).map(|id| (id % 5 != 0).then(|| format!("n{}", id % 7))));
    let places =
        StringArray::from_iter_values((from..from + count).map(|id| if id % 2 == 0 { "even/1" } else { "odd" }));
    RecordBatch::try_new(schema(), vec![Arc::new(ids), Arc::new(names), Arc::new(places)]).unwrap()
}

fn compact(pairs: Vec<(&str, Value)>) -> (&'static str, Value) {
    ("compact", Value::Map(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
}

impl Lake {
    fn new(connector: &'static Connector, settings: Vec<(&'static str, Value)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let run = RunContext { id: "r".into(), start: 1, end: 2 };
        let connection = vec![("path", Value::Text("lake".into()))];
        Self { connector, folder, settings, connection, run, mode: WriteMode::Append, seq: 0, fence: 0 }
    }

    fn sink(&self) -> Box<dyn Sink> {
        let names = |name: &(&'static str, Value)| (name.0.to_owned(), name.1.clone());
        (self.connector.sink.unwrap().build)(SinkSpec {
            pipeline: "p".into(),
            node: "raw".into(),
            table: "t".into(),
            schema: schema(),
            key: vec![],
            mode: self.mode,
            partition_by: vec!["place".into()],
            connection: Settings::new(self.connection.iter().map(names)),
            settings: Settings::new(self.settings.iter().map(names)),
            root: self.folder.path().into(),
            cache: self.folder.path().join("cache"),
            run: self.run.clone(),
            clock: Arc::new(ManualClock::at(0)),
        })
        .unwrap()
    }

    async fn open(&mut self) -> Box<dyn Sink> {
        self.fence += 1;
        let mut sink = self.sink();
        sink.open(self.fence).await.unwrap();
        sink
    }

    async fn round(&mut self, sink: &mut Box<dyn Sink>, rows: RecordBatch) {
        self.seq += 1;
        sink.stage(rows).await.unwrap();
        let round = sink.prepare().await.unwrap().unwrap();
        let mark = Mark { seq: self.seq, fence: self.fence, document: None, record: Some(self.seq) };
        assert!(matches!(sink.commit(&round, mark).await.unwrap(), Outcome::Committed(_)));
    }

    /// Names, in order, of what lies in the table's folder.
    fn listed(&self) -> Vec<String> {
        fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() { walk(&path, into) } else { into.push(path) }
            }
        }
        let mut found = Vec::new();
        walk(&self.folder.path().join("lake/t"), &mut found);
        let mut names: Vec<_> = found.iter().map(|path| path.to_string_lossy().into_owned()).collect();
        names.retain(|name| !name.contains("/_manifest/"));
        names.sort();
        names
    }

    /// Reads by the manifest: the ids of each file in its order, files by name.
    async fn ids(&self) -> Vec<i64> {
        let mut source = (self.connector.source.unwrap().build)(SourceSpec {
            pipeline: "reader".into(),
            node: "t".into(),
            connection: Settings::new([("path".into(), Value::Text("lake".into()))]),
            settings: Settings::new([("table".into(), Value::Text("t".into()))]),
            tables: vec![],
            root: self.folder.path().into(),
            run: RunContext::default(),
            clock: Arc::new(ManualClock::at(0)),
        })
        .unwrap();
        source.open(&Checkpoint::default()).await.unwrap();
        let mut ids = Vec::new();
        loop {
            match source.next(BatchBudget::default()).await.unwrap() {
                SourceEvent::Changes(batch) => {
                    ids.extend(batch.rows.column(0).as_primitive::<Int64Type>().values().iter());
                }
                SourceEvent::Progress(_) => {}
                SourceEvent::End => return ids,
                other => panic!("{other:?}"),
            }
        }
    }

    async fn holds(&self, count: i64) {
        let mut ids = self.ids().await;
        ids.sort_unstable();
        assert_eq!(ids, (0..count).collect::<Vec<_>>());
    }
}

fn bucketed() -> Vec<(&'static str, Value)> {
    let names = |name: &str| Value::List(vec![Value::Name(name.into())]);
    vec![("bucket_by", names("id")), ("bucket_count", Value::Int(2)), ("sort_by", names("id"))]
}

#[tokio::test]
async fn full_sizes_are_merged_in_their_partition_and_bucket_and_stay_sorted() {
    let _turn = TURN.lock().await;
    for connector in [&CONNECTOR, &ORC] {
        let mut lake = Lake::new(connector, [bucketed(), vec![compact(vec![])]].concat());
        let mut sink = lake.open().await;
        for round in 0..7 {
            lake.round(&mut sink, rows(round * 40, 40)).await;
            sink.tend(Patience::ToEnd).await;
        }
        assert_eq!(lake.listed().len(), 28, "two partitions, two buckets, seven files each");
        lake.round(&mut sink, rows(280, 40)).await;
        sink.tend(Patience::ToEnd).await;
        let listed = lake.listed();
        assert_eq!(listed.len(), 4, "{listed:?}");
        for (place, bucket) in
            [("even%2F1", "000000_0_part-"), ("even%2F1", "000001_0_part-"), ("odd", "000000_0_part-")]
        {
            assert!(listed.iter().any(|name| name.contains(place) && name.contains(bucket)), "{bucket} {listed:?}");
        }
        let ids = lake.ids().await;
        assert_eq!(ids.windows(2).filter(|pair| pair[0] > pair[1]).count(), 3, "each of the four files is sorted");
        lake.holds(320).await;
        let figures = sink.figures().unwrap();
        assert_eq!((figures.files, figures.rows), (4, 320));
        // Rounds go on, and a later daemon finds nothing to clear away.
        lake.round(&mut sink, rows(320, 40)).await;
        drop(lake.open().await);
        assert_eq!(lake.listed().len(), 8);
        lake.holds(360).await;
    }
}

#[tokio::test]
async fn nothing_is_merged_unasked_and_never_more_often_than_the_file_says() {
    let _turn = TURN.lock().await;
    for (settings, files) in [
        (vec![], 16),
        (vec![compact(vec![("enabled", Value::Bool(false))])], 16),
        (vec![compact(vec![("file_size", Value::Size(10))])], 16),
        (vec![compact(vec![("every", Value::Duration(Duration::from_secs(60)))])], 2),
    ] {
        let mut lake = Lake::new(&CONNECTOR, settings);
        let mut sink = lake.open().await;
        for round in 0..8 {
            lake.round(&mut sink, rows(round * 4, 4)).await;
        }
        sink.tend(Patience::ToEnd).await;
        assert_eq!(lake.listed().len(), files);
        for round in 8..16 {
            lake.round(&mut sink, rows(round * 4, 4)).await;
        }
        sink.tend(Patience::ToEnd).await;
        assert_eq!(lake.listed().len(), files + 16, "not within the hour, or never");
        lake.holds(64).await;
    }
    let wrong = Lake::new(&CONNECTOR, vec![compact(vec![("evry", Value::Int(1))])]);
    let build = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(wrong.sink())));
    assert!(build.is_err());
}

/// A merge that fails or dies at any step leaves the table as it was or merged, and nothing twice in the folder once the
/// next daemon has opened it.
#[tokio::test]
async fn a_merge_that_dies_at_any_step_loses_and_doubles_nothing() {
    let _turn = TURN.lock().await;
    for point in [
        "parquet.compact.files",
        "parquet.stage.close",
        "parquet.compact.staged",
        "parquet.published",
        "parquet.put",
        "parquet.put.answer",
        "parquet.compact.committed",
    ] {
        let mut lake = Lake::new(&CONNECTOR, [bucketed(), vec![compact(vec![])]].concat());
        let mut sink = lake.open().await;
        for round in 0..8 {
            lake.round(&mut sink, rows(round * 40, 40)).await;
        }
        failpoint::configure(&format!("{point}=error")).unwrap();
        sink.tend(Patience::ToEnd).await;
        failpoint::configure("").unwrap();
        lake.holds(320).await;
        // The rounds of the same daemon go on.
        lake.round(&mut sink, rows(320, 40)).await;
        lake.holds(360).await;
        drop(sink);
        let mut sink = lake.open().await;
        let live = sink.figures().unwrap().files;
        assert_eq!(lake.listed().len() as u64, live, "{point}: the folder holds what the manifest names");
        sink.tend(Patience::ToEnd).await;
        assert!(lake.listed().len() <= 8, "{point}: {:?}", lake.listed());
        lake.holds(360).await;
    }
}

#[tokio::test]
async fn a_merge_of_files_that_went_meanwhile_is_dropped() {
    let _turn = TURN.lock().await;
    let mut lake = Lake::new(&CONNECTOR, vec![compact(vec![])]);
    let mut sink = lake.open().await;
    for round in 0..8 {
        lake.round(&mut sink, rows(round * 40, 40)).await;
    }
    // Begun, and not taken over before the table is emptied.
    sink.tend(Patience::Between).await;
    sink.truncate().await.unwrap();
    lake.round(&mut sink, rows(0, 10)).await;
    sink.tend(Patience::ToEnd).await;
    lake.holds(10).await;
    assert_eq!(lake.listed().len(), 2, "{:?}", lake.listed());
    // A daemon that was taken over changes nothing.
    for round in 1..9 {
        lake.round(&mut sink, rows(round * 10, 10)).await;
    }
    let next = lake.open().await;
    sink.tend(Patience::ToEnd).await;
    assert_eq!(next.figures().unwrap().files, 18);
    lake.holds(90).await;
    assert_eq!(lake.listed().len(), 18);
}

#[tokio::test]
async fn an_interval_keeps_its_own_files() {
    let _turn = TURN.lock().await;
    let by_run = ("overwrite_by", Value::List(vec![Value::Name("run_interval".into())]));
    let mut lake = Lake::new(&CONNECTOR, vec![by_run, compact(vec![])]);
    lake.mode = WriteMode::Overwrite;
    for round in 0..10 {
        lake.run = RunContext { id: format!("r{round}"), start: round, end: round + 1 };
        let mut sink = lake.open().await;
        lake.round(&mut sink, rows(round * 40, 40)).await;
        sink.tend(Patience::ToEnd).await;
    }
    assert_eq!(lake.listed().len(), 20);
    lake.run = RunContext { id: "again".into(), start: 3, end: 4 };
    let mut sink = lake.open().await;
    lake.round(&mut sink, rows(120, 40)).await;
    lake.holds(400).await;
}

/// Without an order and keys to filter by, large row groups are copied as they are.
#[tokio::test]
async fn large_row_groups_are_not_decoded() {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let _turn = TURN.lock().await;
    let mut lake = Lake::new(&CONNECTOR, vec![compact(vec![])]);
    let mut sink = lake.open().await;
    for round in 0..8 {
        lake.round(&mut sink, rows(round * 140_000, 140_000)).await;
    }
    sink.tend(Patience::ToEnd).await;
    let listed = lake.listed();
    assert_eq!(listed.len(), 2);
    let file = SerializedFileReader::new(std::fs::File::open(&listed[0]).unwrap()).unwrap();
    let groups: Vec<i64> = file.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(groups, [70_000; 8]);
    assert!(file.metadata().row_group(7).column(0).column_index_offset().is_some(), "pages tell their least value");
    lake.holds(1_120_000).await;
}

/// Writes a file as others do: without a manifest. Returns its bytes.
async fn foreign(lake: &Lake, name: &str, rows: &RecordBatch) -> u64 {
    let location = Location::open("lake/t", lake.folder.path(), &Settings::default()).unwrap();
    let format = FileFormat::from_settings(&Settings::default());
    let mut writer = FileWriter::create(&location, name, &rows.schema(), format).unwrap();
    writer.write(rows).await.unwrap();
    writer.finish().await.unwrap().size
}

/// Hive gives `000000_0` again as soon as nobody has it.
#[tokio::test]
async fn names_that_others_give_again_are_other_files() {
    let _turn = TURN.lock().await;
    let mut lake = Lake::new(&CONNECTOR, vec![]);
    let rows = |from: i64| rows(from, 50_000).project(&[0, 1]).unwrap();
    let size = foreign(&lake, "000000_0.parquet", &rows(0)).await;
    foreign(&lake, "000000_0_copy_1.parquet", &rows(50_000)).await;
    // What is merged is large enough to stay.
    lake.settings = vec![("file_size", Value::Size(size * 3))];
    lake.mode = WriteMode::Compact;
    for night in 0..3_i64 {
        if night > 0 {
            foreign(&lake, "000000_0.parquet", &rows(night * 100_000)).await;
            foreign(&lake, "000000_0_copy_1.parquet", &rows(night * 100_000 + 50_000)).await;
        }
        let mut sink = lake.open().await;
        assert!(sink.prepare().await.unwrap().is_none());
        assert_eq!(lake.listed().len(), usize::try_from(night + 1).unwrap(), "{:?}", lake.listed());
        lake.holds((night + 1) * 100_000).await;
    }
}

#[tokio::test]
async fn a_table_that_a_log_describes_is_no_folder_of_files() {
    let _turn = TURN.lock().await;
    for log in ["_delta_log/00000000000000000000.json", "below/_manifest/1.json", "metadata/00000-ab.metadata.json"] {
        let mut lake = Lake::new(&CONNECTOR, vec![]);
        lake.mode = WriteMode::Compact;
        for name in ["a.parquet", "b.parquet"] {
            foreign(&lake, name, &rows(0, 10).project(&[0, 1]).unwrap()).await;
        }
        let log = lake.folder.path().join("lake/t").join(log);
        std::fs::create_dir_all(log.parent().unwrap()).unwrap();
        std::fs::write(&log, "{}").unwrap();
        let mut sink = lake.open().await;
        assert_eq!(sink.prepare().await.unwrap_err().code(), "R0216", "{log:?}");
        assert!(lake.listed().iter().filter(|name| name.ends_with(".parquet")).count() == 2, "nothing was touched");
    }
}

/// What a plan tells a sink for its lifecycle.
fn told(retention: &Retention) -> (&'static str, Value) {
    let mut settings = Settings::default();
    retention.tell(&mut settings);
    ("retention", settings.get("retention").unwrap().clone())
}

/// `transition to archive_instant after 90d` of a table whose layout no file says.
fn moving() -> Retention {
    let age = Expiry { after: Duration::from_secs(90 * 86_400), by: vec![] };
    Retention { moves: vec![Move { class: StorageClass::ArchiveInstant, age }], ..Retention::default() }
}

/// Rows of one place.
fn placed(from: i64, place: &str) -> RecordBatch {
    let rows = rows(from, 10);
    let places = StringArray::from_iter_values((0..10).map(|_| place));
    RecordBatch::try_new(schema(), vec![rows.column(0).clone(), rows.column(1).clone(), Arc::new(places)]).unwrap()
}

/// The time of these tests is 1970-01-01.
#[tokio::test]
async fn what_is_only_compacted_is_moved_by_the_age_that_its_partitions_tell() {
    let _turn = TURN.lock().await;
    let rows = [(0, "1969-01-01"), (10, "1969-01-01"), (20, "1969-12-31"), (30, "1969-12-31")];
    for (connector, own) in [(&CONNECTOR, false), (&CONNECTOR, true), (&ORC, true)] {
        let mut lake = Lake::new(connector, vec![]);
        lake.connection.push(("cold", Value::Text("cold".into())));
        let mut writer = if own { Some(lake.open().await) } else { None };
        for (from, place) in rows {
            match &mut writer {
                Some(writer) => lake.round(writer, placed(from, place)).await,
                None => {
                    let rows = placed(from, place).project(&[0, 1]).unwrap();
                    foreign(&lake, &format!("place={place}/{from}.parquet"), &rows).await;
                }
            }
        }
        lake.mode = WriteMode::Compact;
        lake.settings.push(told(&moving()));
        for _ in 0..2 {
            let mut sink = lake.open().await;
            assert!(sink.prepare().await.unwrap().is_none());
            let listed = lake.listed();
            assert_eq!(listed.len(), 2, "own: {own}: {listed:?}");
            for name in &listed {
                assert_eq!(Path::new(name).is_symlink(), name.contains("1969-01-01"), "own: {own}: {name}");
            }
            lake.holds(40).await;
        }
    }
}

#[tokio::test]
async fn what_would_never_move_is_refused_and_not_passed_over() {
    let _turn = TURN.lock().await;
    for (name, moves) in [("a.parquet", false), ("place=x/a.parquet", false), ("place=1969-01-01/a.parquet", true)] {
        let mut lake = Lake::new(&CONNECTOR, vec![told(&moving())]);
        lake.connection.push(("cold", Value::Text("cold".into())));
        lake.mode = WriteMode::Compact;
        foreign(&lake, name, &rows(0, 10).project(&[0, 1]).unwrap()).await;
        let opened = lake.sink().open(1).await;
        assert_eq!(opened.err().map(|error| error.code()), (!moves).then_some("R0656"), "{name}");
    }
}

/// A folder that others write is not copied, and a table with a manifest is.
#[tokio::test]
async fn a_copy_of_what_no_manifest_names_is_refused_before_a_file_is_touched() {
    let _turn = TURN.lock().await;
    for own in [false, true] {
        let mut lake = Lake::new(&CONNECTOR, vec![]);
        for from in [0, 10] {
            if own {
                let mut sink = lake.open().await;
                lake.round(&mut sink, placed(from, "x")).await;
            } else {
                foreign(&lake, &format!("{from}.parquet"), &placed(from, "x")).await;
            }
        }
        lake.mode = WriteMode::Compact;
        lake.settings.push(told(&Retention { copied: true, ..Retention::default() }));
        let opened = lake.sink().open(9).await;
        assert_eq!(opened.err().map(|error| error.code()), (!own).then_some("R0572"));
        assert_eq!(lake.listed().len(), 2);
    }
}
