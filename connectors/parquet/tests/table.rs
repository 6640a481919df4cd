//! The laws of a sink, and what the source and a lister of the folder see.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray, Date32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use lakehead_core::{
    BatchBudget, Checkpoint, Discovery, ManualClock, Mark, Outcome, Prepared, RunContext, Settings, Sink, SinkSpec,
    Source, SourceEvent, SourceSpec, Value, WriteMode,
};
use lakehead_parquet::CONNECTOR;

/// Failpoints are the process's, so the tests take turns.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

struct Lake {
    folder: tempfile::TempDir,
    _turn: tokio::sync::MutexGuard<'static, ()>,
}

impl Lake {
    async fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), _turn: TURN.lock().await }
    }

    fn connection() -> Settings {
        Settings::new([("path".into(), Value::Text("lake".into())), ("prefix".into(), Value::Text("dev_".into()))])
    }

    fn spec(&self, pipeline: &str) -> SinkSpec {
        SinkSpec {
            pipeline: pipeline.into(),
            node: "raw".into(),
            table: "partners.orders".into(),
            schema: schema(),
            key: vec![],
            mode: WriteMode::Append,
            partition_by: vec!["day".into()],
            connection: Self::connection(),
            settings: Settings::default(),
            root: self.folder.path().into(),
            cache: std::env::temp_dir().join("lakehead-tests"),
            run: RunContext { id: "r1".into(), start: 10, end: 20 },
            clock: Arc::new(ManualClock::at(0)),
        }
    }

    fn sink(spec: SinkSpec) -> Box<dyn Sink> {
        (CONNECTOR.sink.unwrap().build)(spec).unwrap()
    }

    fn source(&self) -> Box<dyn Source> {
        (CONNECTOR.source.unwrap().build)(SourceSpec {
            pipeline: "reader".into(),
            node: "orders".into(),
            connection: Self::connection(),
            settings: Settings::new([("table".into(), Value::Text("partners.orders".into()))]),
            tables: vec![],
            root: self.folder.path().into(),
            run: RunContext::default(),
            clock: Arc::new(ManualClock::at(0)),
        })
        .unwrap()
    }

    fn table(&self) -> PathBuf {
        self.folder.path().join("lake/dev_partners/orders")
    }

    /// The ids that a reader of the manifests sees, sorted.
    async fn ids(&self) -> Vec<i64> {
        let mut ids: Vec<i64> = vec![];
        for rows in self.rows().await {
            let column = rows.column_by_name("id").unwrap().as_primitive::<Int64Type>();
            ids.extend(column.values().iter());
        }
        ids.sort_unstable();
        ids
    }

    async fn rows(&self) -> Vec<RecordBatch> {
        let mut source = self.source();
        source.open(&Checkpoint::default()).await.unwrap();
        let mut rows = vec![];
        loop {
            match source.next(BatchBudget { rows_max: 2, ..BatchBudget::default() }).await.unwrap() {
                SourceEvent::Changes(batch) => {
                    assert!(batch.rows.num_rows() <= 2);
                    rows.push(batch.rows);
                }
                SourceEvent::Progress(_) => {}
                SourceEvent::End => return rows,
                other => panic!("{other:?}"),
            }
        }
    }

    /// The rows that somebody sees who lists the folder.
    fn listed_files(&self) -> usize {
        fn count(folder: &Path) -> usize {
            let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
            entries
                .map(|entry| entry.unwrap().path())
                .map(|path| {
                    if path.is_dir() { count(&path) } else { usize::from(path.to_string_lossy().contains(".parquet")) }
                })
                .sum()
        }
        count(&self.table())
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("day", DataType::Date32, true)]))
}

fn rows(pairs: &[(i64, i32)]) -> RecordBatch {
    RecordBatch::try_new(
        schema(),
        vec![
            Arc::new(pairs.iter().map(|(id, _)| Some(*id)).collect::<Int64Array>()),
            Arc::new(pairs.iter().map(|(_, day)| Some(*day)).collect::<Date32Array>()),
        ],
    )
    .unwrap()
}

fn mark(seq: u64, fence: u64) -> Mark {
    Mark { seq, fence, document: Some(seq + 100), record: None }
}

async fn prepared(sink: &mut Box<dyn Sink>, pairs: &[(i64, i32)]) -> Prepared {
    sink.stage(rows(pairs)).await.unwrap();
    sink.prepare().await.unwrap().unwrap()
}

#[tokio::test]
async fn a_round_is_invisible_until_its_commit_and_there_once_after_it() {
    let lake = Lake::new().await;
    let mut sink = Lake::sink(lake.spec("p"));
    let position = sink.open(1).await.unwrap();
    assert_eq!((position.version, position.mark.seq), (1, 0));
    assert!(sink.prepare().await.unwrap().is_none());
    let round = prepared(&mut sink, &[(1, 0), (2, 0), (3, 1)]).await;
    assert_eq!(round.rows, 3);
    assert_eq!((lake.ids().await, lake.listed_files()), (vec![], 0));

    // Written down, read back, committed by another process.
    let round: Prepared = serde_json::from_str(&serde_json::to_string(&round).unwrap()).unwrap();
    let mut other = Lake::sink(lake.spec("p"));
    assert_eq!(other.open(2).await.unwrap().identity, position.identity);
    assert_eq!(other.commit(&round, mark(1, 2)).await.unwrap(), Outcome::Committed(3));
    assert_eq!(other.commit(&round, mark(1, 2)).await.unwrap(), Outcome::AlreadyCommitted);
    assert_eq!(sink.commit(&round, mark(1, 1)).await.unwrap(), Outcome::Fenced(2));
    assert_eq!((lake.ids().await, lake.listed_files()), (vec![1, 2, 3], 2));
    let read = lake.rows().await;
    assert_eq!(read[0].schema().field(1).data_type(), &DataType::Date32);

    let mut third = Lake::sink(lake.spec("p"));
    assert_eq!(third.open(3).await.unwrap().mark, mark(1, 2));
    assert_eq!(Lake::sink(lake.spec("p")).open(2).await.unwrap_err().code(), "R0201");
    assert!(
        !lake.folder.path().join("lake/_staging/p").read_dir().unwrap().any(|entry| entry.unwrap().path().is_file())
    );
}

#[tokio::test]
async fn two_pipelines_append_to_one_table_each_with_its_own_mark() {
    let lake = Lake::new().await;
    let mut a = Lake::sink(lake.spec("a"));
    let mut b = Lake::sink(lake.spec("b"));
    a.open(7).await.unwrap();
    b.open(1).await.unwrap();
    let (from_a, from_b) = (prepared(&mut a, &[(1, 0)]).await, prepared(&mut b, &[(2, 0)]).await);
    assert!(matches!(b.commit(&from_b, mark(1, 1)).await.unwrap(), Outcome::Committed(_)));
    assert!(matches!(a.commit(&from_a, mark(1, 7)).await.unwrap(), Outcome::Committed(_)));
    assert_eq!((lake.ids().await, lake.listed_files()), (vec![1, 2], 2));
}

#[tokio::test]
async fn an_attempt_that_was_given_up_leaves_nothing_for_those_who_list() {
    let lake = Lake::new().await;
    let mut sink = Lake::sink(lake.spec("p"));
    sink.open(1).await.unwrap();
    let round = prepared(&mut sink, &[(1, 0)]).await;
    lakehead_core::failpoint::configure("parquet.published=error").unwrap();
    assert!(sink.commit(&round, mark(1, 1)).await.is_err());
    lakehead_core::failpoint::configure("").unwrap();
    assert_eq!((lake.ids().await, lake.listed_files()), (vec![], 1));
    // The same process goes on: the retry takes the place of its own files.
    assert!(matches!(sink.commit(&round, mark(1, 1)).await.unwrap(), Outcome::Committed(_)));
    assert_eq!((lake.ids().await, lake.listed_files()), (vec![1], 1));
    // Leftovers of a dead process go when the next one opens.
    let stray = lake.table().join("day=1970-01-01");
    let name = std::fs::read_dir(&stray).unwrap().next().unwrap().unwrap().path();
    let copy = name.to_string_lossy().replace("0000000001-00001", "0000000002-00001");
    std::fs::copy(&name, copy).unwrap();
    Lake::sink(lake.spec("p")).open(2).await.unwrap();
    assert_eq!((lake.ids().await, lake.listed_files()), (vec![1], 1));
}

#[tokio::test]
async fn an_overwrite_replaces_what_it_says_and_no_more() {
    for (by, expected) in [(vec![], vec![10]), (vec!["day"], vec![2, 10]), (vec!["run_interval"], vec![10])] {
        let lake = Lake::new().await;
        let names = by.iter().map(|name| Value::Name((*name).into())).collect();
        let mut spec = lake.spec("p");
        spec.mode = WriteMode::Overwrite;
        spec.settings.set("overwrite_by", Value::List(names));
        let mut sink = Lake::sink(spec.clone());
        sink.open(1).await.unwrap();
        let round = prepared(&mut sink, &[(1, 0), (2, 1)]).await;
        sink.commit(&round, mark(1, 1)).await.unwrap();
        let round = prepared(&mut sink, &[(10, 0)]).await;
        sink.commit(&round, mark(2, 1)).await.unwrap();
        assert_eq!((lake.ids().await, lake.listed_files()), (expected.clone(), expected.len()), "{by:?}");
        spec.run = RunContext { id: "r2".into(), start: 20, end: 30 };
        let mut sink = Lake::sink(spec);
        sink.open(2).await.unwrap();
        let round = prepared(&mut sink, &[(20, 5)]).await;
        sink.commit(&round, mark(3, 2)).await.unwrap();
        let expected = if by.is_empty() { vec![20] } else { [expected, vec![20]].concat() };
        assert_eq!(lake.ids().await, expected, "{by:?}");
    }
}

#[tokio::test]
async fn an_added_column_reads_null_in_older_files_and_a_truncate_empties_the_table() {
    let lake = Lake::new().await;
    let mut sink = Lake::sink(lake.spec("p"));
    sink.open(1).await.unwrap();
    let round = prepared(&mut sink, &[(1, 0)]).await;
    sink.commit(&round, mark(1, 1)).await.unwrap();
    let mut fields: Vec<_> = schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("note", DataType::Utf8, true)));
    let wide = Arc::new(Schema::new(fields));
    sink.evolve(&wide).await.unwrap();
    let mut columns = rows(&[(2, 0)]).columns().to_vec();
    columns.push(Arc::new(StringArray::from(vec!["new"])));
    sink.stage(RecordBatch::try_new(wide.clone(), columns).unwrap()).await.unwrap();
    let round = sink.prepare().await.unwrap().unwrap();
    sink.commit(&round, mark(2, 1)).await.unwrap();
    let notes: Vec<_> =
        lake.rows().await.iter().map(|rows| rows.column_by_name("note").unwrap().null_count()).collect();
    assert_eq!(notes, [1, 0]);
    let retyped = Arc::new(Schema::new(vec![Field::new("id", DataType::Utf8, true)]));
    assert_eq!(sink.evolve(&retyped).await.unwrap_err().code(), "R0202");

    sink.stage(rows(&[(3, 0)])).await.unwrap();
    sink.truncate().await.unwrap();
    sink.stage(rows(&[(4, 0)])).await.unwrap();
    let round = sink.prepare().await.unwrap().unwrap();
    sink.commit(&round, mark(3, 1)).await.unwrap();
    assert_eq!((lake.ids().await, lake.listed_files()), (vec![4], 1));
}

#[tokio::test]
async fn a_folder_without_manifests_is_read_with_its_hive_columns_and_never_written_into() {
    let lake = Lake::new().await;
    let mut sink = Lake::sink(lake.spec("p"));
    sink.open(1).await.unwrap();
    let round = prepared(&mut sink, &[(1, 0), (2, 1)]).await;
    sink.commit(&round, mark(1, 1)).await.unwrap();
    std::fs::remove_dir_all(lake.table().join("_manifest")).unwrap();
    assert_eq!(lake.ids().await, [1, 2]);
    let found = (CONNECTOR.source.unwrap().discover)(&Discovery {
        connection: Lake::connection(),
        settings: Settings::new([("table".into(), Value::Text("partners.orders".into()))]),
        node: "orders".into(),
        root: lake.folder.path().into(),
    })
    .await
    .unwrap();
    assert_eq!(found[0].schema.field(1), &Field::new("day", DataType::Utf8, true));
    assert_eq!(Lake::sink(lake.spec("p")).open(2).await.unwrap_err().code(), "R0704");
}

#[tokio::test]
async fn changed_rows_and_other_layouts_are_refused() {
    let lake = Lake::new().await;
    let mut sink = Lake::sink(lake.spec("p"));
    sink.open(1).await.unwrap();
    let mut fields: Vec<_> = schema().fields().iter().cloned().collect();
    fields.push(Arc::new(lakehead_core::reserved_field("_op")));
    let mut columns = rows(&[(1, 0)]).columns().to_vec();
    columns.push(Arc::new(StringArray::from(vec!["u"])));
    let changed = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    assert_eq!(sink.stage(changed).await.unwrap_err().code(), "R0211");
    let mut other = lake.spec("p");
    other.partition_by = vec![];
    assert_eq!(Lake::sink(other).open(2).await.unwrap_err().code(), "R0214");
}

/// The table of the laws: `id` and `body`.
struct UnderLaw(PathBuf);

#[async_trait::async_trait]
impl lakehead_conformance::SinkUnderTest for UnderLaw {
    fn sink(&self) -> Box<dyn Sink> {
        (CONNECTOR.sink.unwrap().build)(SinkSpec {
            pipeline: "p".into(),
            node: "lake".into(),
            table: "t".into(),
            schema: Arc::new(lakehead_core::data_fields(&lakehead_conformance::rows(&[]).schema())),
            key: vec![],
            mode: WriteMode::Append,
            partition_by: vec![],
            connection: Lake::connection(),
            settings: Settings::default(),
            root: self.0.clone(),
            cache: std::env::temp_dir().join("lakehead-tests"),
            run: RunContext::default(),
            clock: Arc::new(ManualClock::at(0)),
        })
        .unwrap()
    }

    async fn read(&self) -> Vec<(i64, Option<String>)> {
        let mut source = (CONNECTOR.source.unwrap().build)(SourceSpec {
            pipeline: "reader".into(),
            node: "t".into(),
            connection: Lake::connection(),
            settings: Settings::new([("table".into(), Value::Text("t".into()))]),
            tables: vec![],
            root: self.0.clone(),
            run: RunContext::default(),
            clock: Arc::new(ManualClock::at(0)),
        })
        .unwrap();
        source.open(&Checkpoint::default()).await.unwrap();
        let mut found = vec![];
        loop {
            match source.next(BatchBudget::default()).await.unwrap() {
                SourceEvent::Changes(batch) => {
                    let ids = batch.rows.column_by_name("id").unwrap().as_primitive::<Int64Type>();
                    let bodies = batch.rows.column_by_name("body").unwrap().as_string::<i32>();
                    let row = |n: usize| (ids.value(n), bodies.is_valid(n).then(|| bodies.value(n).to_owned()));
                    found.extend((0..batch.rows.num_rows()).map(row));
                }
                SourceEvent::End => return found,
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn an_append_table_keeps_the_laws() {
    let _turn = TURN.lock().await;
    let folder = tempfile::tempdir().unwrap();
    lakehead_conformance::sink_laws(&UnderLaw(folder.path().into())).await.unwrap();
}

impl lakehead_conformance::SourceUnderTest for Lake {
    fn source(&self) -> Box<dyn Source> {
        Lake::source(self)
    }
}

#[tokio::test]
async fn a_table_read_back_keeps_the_laws() {
    let lake = Lake::new().await;
    let mut sink = Lake::sink(lake.spec("p"));
    sink.open(1).await.unwrap();
    for (seq, days) in [(1, [0, 1]), (2, [1, 2])] {
        let many: Vec<(i64, i32)> = (0..250).map(|id| (id, days[usize::try_from(id % 2).unwrap()])).collect();
        sink.stage(rows(&many)).await.unwrap();
        let prepared = sink.prepare().await.unwrap().unwrap();
        sink.commit(&prepared, Mark { seq, fence: 1, ..Mark::default() }).await.unwrap();
    }
    lakehead_conformance::source_laws(&lake).await.unwrap();
}
