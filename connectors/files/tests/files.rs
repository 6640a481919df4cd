//! Source and sink through the connector, on a local folder.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use lakehead_core::{
    BatchBudget, Checkpoint, Discovery, ManualClock, Mark, Outcome, Prepared, RunContext, Settings, Sink, SinkSpec,
    Source, SourceEvent, SourceSpec, Value, WriteMode, column_type_name, parse_micros,
};
use lakehead_files::CONNECTOR;

#[path = "files/corrupt.rs"]
mod corrupt;
#[path = "files/look.rs"]
mod look;
#[path = "files/windows.rs"]
mod windows;

/// Failpoints are the process's, so the tests take turns.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

struct Landing {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    _turn: tokio::sync::MutexGuard<'static, ()>,
}

/// What one run of a source delivered.
#[derive(Default)]
struct Delivered {
    ids: Vec<i64>,
    rows: Vec<RecordBatch>,
    misfits: Vec<(String, String, String)>,
    rejected: Vec<(String, String)>,
    closed: Vec<String>,
    progress: Vec<(usize, Checkpoint)>,
}

impl Delivered {
    fn last(&self) -> &Checkpoint {
        &self.progress.last().unwrap().1
    }
}

impl Landing {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::at(parse_micros("2026-05-01T12:00:00Z").unwrap()));
        Self { folder: tempfile::tempdir().unwrap(), clock, _turn: TURN.lock().await }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("landing").join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn connection() -> Settings {
        Settings::new([("path".into(), Value::Text("landing".into()))])
    }

    fn source(&self, settings: &[(&str, Value)], run: &RunContext) -> Box<dyn Source> {
        (CONNECTOR.source.unwrap().build)(self.spec(settings, run)).unwrap()
    }

    fn spec(&self, settings: &[(&str, Value)], run: &RunContext) -> SourceSpec {
        let mut all = Settings::new([
            ("path".to_owned(), Value::Text("in/*/*.{csv,json,csv.gz,json.zst,parquet}".into())),
            (
                "columns".to_owned(),
                Value::Map(vec![
                    ("partner".into(), Value::Call("path".into(), vec![Value::Int(1)])),
                    ("id".into(), Value::Name("bigint".into())),
                    ("amount".into(), Value::Call("decimal".into(), vec![Value::Int(12), Value::Int(2)])),
                ]),
            ),
        ]);
        for (name, value) in settings {
            all.set(*name, value.clone());
        }
        SourceSpec {
            pipeline: "p".into(),
            node: "drops".into(),
            connection: Self::connection(),
            settings: all,
            tables: vec![],
            root: self.folder.path().into(),
            run: run.clone(),
            clock: self.clock.clone(),
        }
    }

    async fn read(&self, settings: &[(&str, Value)], from: &Checkpoint) -> Delivered {
        let mut source = self.source(settings, &RunContext::default());
        source.open(from).await.unwrap();
        drain(&mut source).await
    }

    fn sink(&self, settings: &[(&str, Value)], mode: WriteMode, run: RunContext) -> Box<dyn Sink> {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        (CONNECTOR.sink.unwrap().build)(SinkSpec {
            pipeline: "p".into(),
            node: "tee".into(),
            table: "in/web".into(),
            schema: schema(),
            key: vec![],
            mode,
            partition_by: vec![],
            connection: Self::connection(),
            settings: Settings::new(settings),
            root: self.folder.path().into(),
            cache: std::env::temp_dir().join("lakehead-tests"),
            run,
            clock: self.clock.clone(),
        })
        .unwrap()
    }

    fn files(&self, folder: &str) -> usize {
        std::fs::read_dir(self.path(folder))
            .map_or(0, |entries| entries.filter(|e| e.as_ref().unwrap().path().is_file()).count())
    }
}

async fn drain(source: &mut Box<dyn Source>) -> Delivered {
    let mut delivered = Delivered::default();
    loop {
        match source.next(BatchBudget { rows_max: 2, ..BatchBudget::default() }).await.unwrap() {
            SourceEvent::Changes(batch) => {
                assert!(batch.rows.num_rows() <= 2);
                let ids = batch.rows.column_by_name("id").unwrap().as_primitive::<Int64Type>();
                delivered.ids.extend(ids.values().iter());
                delivered.rows.push(batch.rows);
            }
            SourceEvent::Misfits { rows, .. } => delivered.misfits.extend(rows),
            SourceEvent::Rejected { origin, reason } => delivered.rejected.push((origin, reason)),
            SourceEvent::WindowClosed { origin, .. } => delivered.closed.push(origin),
            SourceEvent::Progress(checkpoint) => delivered.progress.push((delivered.ids.len(), checkpoint)),
            SourceEvent::End => return delivered,
            other => panic!("{other:?}"),
        }
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("amount", DataType::Decimal128(12, 2), true),
    ]))
}

fn rows(ids: &[i64]) -> RecordBatch {
    let amounts = arrow::array::Decimal128Array::from_iter_values(ids.iter().map(|id| i128::from(*id) * 100 + 5));
    let amounts = amounts.with_precision_and_scale(12, 2).unwrap();
    RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(ids.to_vec())), Arc::new(amounts)]).unwrap()
}

#[tokio::test]
async fn every_file_is_read_once_whatever_it_holds_and_wherever_the_run_is_resumed() {
    let landing = Landing::new().await;
    landing.write("in/acme/1.csv", "id,amount\n1,9.50\n2,\n3,1.5\n");
    landing.write("in/acme/2.csv.gz", gzip("amount,id\n0.01,4\nbad,5\n"));
    landing.write("in/beta/3.json", "{\"id\":6,\"amount\":7.25}\nnope\n{\"id\":7}\n");
    landing.write("in/beta/4.json.zst", zstd::encode_all(&b"[{\"id\":8},\n{\"id\":\"9\"}]"[..], 1).unwrap());
    landing.write("in/beta/5.json", "");
    let mut broken = gzip("id,amount\n90,1\n91,1\n92,1\n");
    broken.truncate(broken.len() - 6);
    landing.write("in/beta/6.csv.gz", broken);
    landing.write("in/beta/7.parquet", b"PAR1 not really");
    landing.write("in/beta/8.csv", b"id,amount\n93,1\n\xff,1\n");
    let empty = Checkpoint::default();
    let error_prefix = [("error_prefix", Value::Text("errors/drops".into()))];
    let whole = landing.read(&error_prefix, &empty).await;
    assert_eq!(whole.ids, [1, 2, 3, 4, 6, 7, 8, 9]);
    let origins: Vec<_> = whole.misfits.iter().map(|(_, _, origin)| origin.as_str()).collect();
    assert_eq!(origins, ["in/acme/2.csv.gz:3", "in/beta/3.json:2"]);
    let rejected: Vec<_> = whole.rejected.iter().map(|(origin, _)| origin.as_str()).collect();
    assert_eq!(rejected, ["in/beta/6.csv.gz", "in/beta/7.parquet", "in/beta/8.csv"]);
    assert!(landing.path("errors/drops/in/beta/8.csv").exists());
    assert_eq!(whole.rows[0].column(0).as_string::<i32>().value(0), "acme");
    for (delivered, checkpoint) in &whole.progress {
        let rest = landing.read(&[], checkpoint).await;
        assert_eq!(rest.ids, whole.ids[*delivered..]);
    }
    assert_eq!(landing.read(&[], whole.last()).await.rejected, []);
}

#[tokio::test]
async fn a_changed_file_is_an_incident_or_a_new_version() {
    let landing = Landing::new().await;
    landing.write("in/acme/1.csv", "id,amount\n1,1\n");
    let first = landing.read(&[], &Checkpoint::default()).await;
    landing.write("in/acme/1.csv", "id,amount\n1,1\n2,2\n");
    let mut source = landing.source(&[], &RunContext::default());
    assert_eq!(source.open(first.last()).await.unwrap_err().code(), "R0607");
    let version = [("on_changed", Value::Name("version".into()))];
    assert_eq!(landing.read(&version, first.last()).await.ids, [1, 2]);
}

#[tokio::test]
async fn a_run_reads_the_files_of_its_interval_anew() {
    let landing = Landing::new().await;
    for (minute, id) in [("0959", 1), ("1000", 2), ("1004", 3), ("1005", 4)] {
        landing.write(&format!("logs/2026/05/01/{minute}/a.json"), format!("{{\"id\":{id}}}\n"));
    }
    let settings = [("path", Value::Text("logs/%Y/%m/%d/%H%M/*.json".into())), ("interval", Value::Name("run".into()))];
    let at = |text| parse_micros(text).unwrap();
    let run = RunContext { id: "r1".into(), start: at("2026-05-01T10:00:00Z"), end: at("2026-05-01T10:05:00Z") };
    let mut source = landing.source(&settings, &run);
    source.open(&Checkpoint::default()).await.unwrap();
    let first = drain(&mut source).await;
    assert_eq!(first.ids, [2, 3]);
    let mut again = landing.source(&settings, &run);
    again.open(first.last()).await.unwrap();
    assert!(drain(&mut again).await.ids.is_empty());
    let mut backfill = landing.source(&settings, &RunContext { id: "r2".into(), ..run });
    backfill.open(first.last()).await.unwrap();
    assert_eq!(drain(&mut backfill).await.ids, [2, 3]);
}

#[tokio::test]
async fn inputs_go_only_after_their_rows_are_durable() {
    let landing = Landing::new().await;
    landing.write("in/acme/1.csv", "id,amount\n1,1\n");
    let done = [("done_prefix", Value::Text("done".into()))];
    let mut source = landing.source(&done, &RunContext::default());
    source.open(&Checkpoint::default()).await.unwrap();
    let first = drain(&mut source).await;
    assert!(landing.path("in/acme/1.csv").exists());
    source.acknowledge(first.last()).await.unwrap();
    source.acknowledge(first.last()).await.unwrap();
    assert!(!landing.path("in/acme/1.csv").exists() && landing.path("done/in/acme/1.csv").exists());

    landing.write("in/acme/2.csv", "id,amount\n2,1\n");
    landing.write("in/acme/3.csv", "id,amount\n3,1\n");
    let delete =
        [("after_success", Value::Name("delete".into())), ("keep_inputs", Value::Duration(Duration::from_secs(60)))];
    let mut source = landing.source(&delete, &RunContext::default());
    source.open(first.last()).await.unwrap();
    let second = drain(&mut source).await;
    source.acknowledge(second.last()).await.unwrap();
    landing.read(&delete, second.last()).await;
    assert_eq!(landing.files("in/acme"), 2);
    landing.clock.advance(Duration::from_secs(61));
    // A file that was written anew since is another file, and stays.
    std::fs::remove_file(landing.path("in/acme/3.csv")).unwrap();
    landing.write("in/acme/3.csv", "id,amount\n3,100\n");
    let version = [delete[0].clone(), delete[1].clone(), ("on_changed", Value::Name("version".into()))];
    landing.read(&version, second.last()).await;
    assert!(!landing.path("in/acme/2.csv").exists() && landing.path("in/acme/3.csv").exists());
}

#[tokio::test]
async fn columns_are_inferred_from_a_sample() {
    let landing = Landing::new().await;
    landing.write("in/acme/1.csv", "id,price,day\n1,9.5,2026-05-01\n2,10.25,\n");
    let found = (CONNECTOR.source.unwrap().discover)(&Discovery {
        connection: Landing::connection(),
        settings: Settings::new([("path".into(), Value::Text("in/**/*.csv".into()))]),
        node: "drops".into(),
        root: landing.folder.path().into(),
    })
    .await
    .unwrap();
    let types: Vec<_> = found[0].schema.fields().iter().map(|f| column_type_name(f.data_type())).collect();
    assert_eq!(types, ["bigint", "decimal(18, 2)", "date"]);
}

fn mark(seq: u64, fence: u64) -> Mark {
    Mark { seq, fence, document: None, record: Some(seq) }
}

#[tokio::test]
async fn what_the_sink_writes_the_source_reads_back_exactly() {
    for (format, compression, files) in [
        ("json", "gzip", "*.json.gz"),
        ("json", "none", "*.json"),
        ("csv", "zstd", "*.csv.zst"),
        ("parquet", "snappy", "*.parquet"),
        ("parquet", "lz4", "*.parquet"),
    ] {
        let landing = Landing::new().await;
        let settings = [("format", Value::Name(format.into())), ("compression", Value::Name(compression.into()))];
        let mut sink = landing.sink(&settings, WriteMode::Append, RunContext::default());
        sink.open(1).await.unwrap();
        sink.stage(rows(&[1, 2])).await.unwrap();
        sink.stage(rows(&[3])).await.unwrap();
        let round = sink.prepare().await.unwrap().unwrap();
        assert_eq!((round.rows, landing.files("in/web")), (3, 0));
        sink.commit(&round, mark(1, 1)).await.unwrap();
        let read = landing.read(&[("path", Value::Text(format!("in/*/{files}")))], &Checkpoint::default()).await;
        assert_eq!((read.ids, read.misfits, read.rejected), (vec![1, 2, 3], vec![], vec![]));
        let amounts = read.rows[0].column_by_name("amount").unwrap();
        assert_eq!(amounts.as_primitive::<arrow::datatypes::Decimal128Type>().value(1), 205);
    }
}

#[tokio::test]
async fn a_round_is_published_once_by_whoever_comes_next() {
    let landing = Landing::new().await;
    let mut sink = landing.sink(&[], WriteMode::Append, RunContext::default());
    let position = sink.open(1).await.unwrap();
    assert!(sink.prepare().await.unwrap().is_none());
    sink.stage(rows(&[1])).await.unwrap();
    let round = sink.prepare().await.unwrap().unwrap();
    let round: Prepared = serde_json::from_str(&serde_json::to_string(&round).unwrap()).unwrap();
    // The process dies between the record and the move.
    lakehead_core::failpoint::configure("files.committed=error").unwrap();
    assert!(sink.commit(&round, mark(1, 1)).await.is_err());
    lakehead_core::failpoint::configure("").unwrap();
    assert_eq!(landing.files("in/web"), 0);
    let mut next = landing.sink(&[], WriteMode::Append, RunContext::default());
    let found = next.open(2).await.unwrap();
    assert_eq!((found.identity, found.mark), (position.identity, mark(1, 1)));
    assert_eq!(landing.files("in/web"), 1);
    assert_eq!(next.commit(&round, mark(1, 2)).await.unwrap(), Outcome::AlreadyCommitted);
    // A reader that took the file away does not get it twice.
    std::fs::remove_dir_all(landing.path("in/web")).unwrap();
    let mut third = landing.sink(&[], WriteMode::Append, RunContext::default());
    third.open(3).await.unwrap();
    assert_eq!(third.commit(&round, mark(1, 3)).await.unwrap(), Outcome::AlreadyCommitted);
    assert_eq!(landing.files("in/web"), 0);
    assert_eq!(next.commit(&round, mark(2, 2)).await.unwrap(), Outcome::Fenced(3));
    assert_eq!(landing.sink(&[], WriteMode::Append, RunContext::default()).open(2).await.unwrap_err().code(), "R0201");
}

#[tokio::test]
async fn an_overwrite_replaces_the_runs_own_files_and_a_round_may_add_columns() {
    let landing = Landing::new().await;
    let settings = [("overwrite_by", Value::Name("run_interval".into()))];
    let run = |n: i64| RunContext { id: format!("r{n}"), start: n, end: n + 1 };
    for (seq, interval, ids) in [(1, 1, [1, 2]), (2, 2, [3, 4]), (3, 1, [5, 6])] {
        let mut sink = landing.sink(&settings, WriteMode::Overwrite, run(interval));
        sink.open(seq).await.unwrap();
        sink.stage(rows(&ids[..1])).await.unwrap();
        let mut fields: Vec<_> = schema().fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new("note", DataType::Utf8, true)));
        let wide = Arc::new(Schema::new(fields));
        sink.evolve(&wide).await.unwrap();
        let mut columns = rows(&ids[1..]).columns().to_vec();
        columns.push(Arc::new(StringArray::from(vec!["n"])));
        sink.stage(RecordBatch::try_new(wide, columns).unwrap()).await.unwrap();
        let round = sink.prepare().await.unwrap().unwrap();
        assert!(matches!(sink.commit(&round, mark(seq, seq)).await.unwrap(), Outcome::Committed(_)));
    }
    let mut ids = landing.read(&[], &Checkpoint::default()).await.ids;
    ids.sort_unstable();
    assert_eq!((ids, landing.files("in/web")), (vec![3, 4, 5, 6], 4));
    assert!(Path::new(&landing.path("_staging/p")).read_dir().unwrap().next().is_none());
}

impl lakehead_conformance::SourceUnderTest for Landing {
    fn source(&self) -> Box<dyn Source> {
        Landing::source(self, &[], &RunContext::default())
    }
}

#[tokio::test]
async fn files_keep_the_laws_of_a_source() {
    let landing = Landing::new().await;
    let lines = |from: i64| (from..from + 230).map(|id| format!("{id},1.5\n")).collect::<String>();
    landing.write("in/acme/1.csv", format!("id,amount\n{}", lines(1)));
    landing.write("in/acme/2.csv.gz", gzip(&format!("id,amount\n{}", lines(1000))));
    landing.write("in/beta/3.json", (0..150).map(|id| format!("{{\"id\":{id}}}\n")).collect::<String>());
    lakehead_conformance::source_laws(&landing).await.unwrap();
}

/// What could not be read is left where it is, and read once it is mended under its own name.
#[tokio::test]
async fn a_file_that_cannot_be_read_is_never_taken_away() {
    let landing = Landing::new().await;
    landing.write("in/acme/good.csv", "id,amount\n1,1\n");
    landing.write("in/acme/quote.csv", "id,amount\n2,\"1\n3,1\n");
    landing.write("in/acme/bad.csv.gz", b"\x1f\x8b no gzip");
    let now = [("after_success", Value::Name("delete".into())), ("keep_inputs", Value::Duration(Default::default()))];
    let mut source = landing.source(&now, &RunContext::default());
    source.open(&Checkpoint::default()).await.unwrap();
    let read = drain(&mut source).await;
    assert_eq!(read.ids, [1]);
    let reasons: Vec<_> = read.rejected.iter().map(|(origin, reason)| (origin.as_str(), reason.as_str())).collect();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons.contains(&("in/acme/quote.csv", "the quote that begins in line 2 never ends")), "{reasons:?}");
    source.acknowledge(read.last()).await.unwrap();
    let left = |name: &str| landing.path(&format!("in/acme/{name}")).exists();
    assert_eq!([left("good.csv"), left("quote.csv"), left("bad.csv.gz")], [false, true, true]);
    landing.write("in/acme/quote.csv", "id,amount\n2,1\n3,1\n");
    let again = landing.read(&now, read.last()).await;
    assert_eq!((again.ids.as_slice(), again.rejected.len()), (&[2, 3][..], 0));
}

#[tokio::test]
async fn a_value_that_the_declared_type_cannot_hold_sets_its_file_aside() {
    use arrow::array::Float64Array;
    let landing = Landing::new().await;
    for (name, value) in [("exact", 2.0), ("rounded", 1.5)] {
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Float64, true)]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Float64Array::from(vec![value]))]).unwrap();
        let mut bytes = vec![];
        let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, schema, None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        landing.write(&format!("in/acme/{name}.parquet"), bytes);
    }
    let evolves = [("schema_changes", Value::Name("evolve".into()))];
    let read = landing.read(&evolves, &Checkpoint::default()).await;
    assert_eq!(read.ids, [2]);
    assert_eq!(
        read.rejected,
        [("in/acme/rounded.parquet".into(), "column `id` holds double, and some of it is no bigint".into())]
    );
}
