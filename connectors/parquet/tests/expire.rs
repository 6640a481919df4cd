//! Rows of plain tables expire by the age of their partition; their files go when their time is over.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use lakehead_core::{
    Clock, Connector, CopySpec, Expired, Expiry, ManualClock, Mark, Outcome, PartitionTime, Patience, Retention,
    RunContext, Settings, Sink, SinkSpec, TimeColumn, Value, WriteMode, failpoint,
};
use lakehead_parquet::{CONNECTOR, ORC};

/// Failpoints are the process's: one test at a time.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const DAY: i64 = 86_400_000_000;
/// 2026-05-11, midnight.
const NOW: i64 = 1_778_457_600_000_000;

struct Lake {
    connector: &'static Connector,
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    vacuum_after: Option<u64>,
    seq: u64,
    fence: u64,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("day", DataType::Utf8, true)]))
}

/// A row for each of these days of May.
fn rows(days: &[i64]) -> RecordBatch {
    let texts = days.iter().map(|day| Some(format!("2026-05-{day:02}")).filter(|_| *day > 0));
    let columns: [Arc<dyn arrow::array::Array>; 2] =
        [Arc::new(Int64Array::from(days.to_vec())), Arc::new(StringArray::from_iter(texts))];
    RecordBatch::try_new(schema(), columns.to_vec()).unwrap()
}

impl Lake {
    fn new(connector: &'static Connector, vacuum_after: Option<u64>) -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::at(NOW)));
        Self { connector, folder, clock, vacuum_after, seq: 0, fence: 0 }
    }

    fn connection(path: &str) -> Settings {
        Settings::new([("path".to_owned(), Value::Text(path.into()))])
    }

    fn spec(&self) -> SinkSpec {
        let by = vec![TimeColumn { name: "day".into(), source: "day".into(), tells: PartitionTime::Day }];
        let of = |days: u64| Duration::from_secs(days * 86_400);
        let mut settings = Settings::default();
        let expiry = Some(Expiry { after: of(5), by });
        Retention { expiry, vacuum_after: self.vacuum_after.map(of), ..Retention::default() }.tell(&mut settings);
        SinkSpec {
            pipeline: "p".into(),
            node: "t".into(),
            table: "t".into(),
            schema: schema(),
            key: vec![],
            mode: WriteMode::Append,
            partition_by: vec!["day".into()],
            connection: Self::connection("lake"),
            settings,
            root: self.folder.path().into(),
            cache: self.folder.path().join("cache"),
            run: RunContext::default(),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
        }
    }

    async fn open(&mut self) -> Box<dyn Sink> {
        self.fence += 1;
        let mut sink = (self.connector.sink.unwrap().build)(self.spec()).unwrap();
        sink.open(self.fence).await.unwrap();
        sink
    }

    async fn round(&mut self, sink: &mut Box<dyn Sink>, days: &[i64]) {
        self.seq += 1;
        sink.stage(rows(days)).await.unwrap();
        let round = sink.prepare().await.unwrap().unwrap();
        let mark = Mark { seq: self.seq, fence: self.fence, document: None, record: Some(self.seq) };
        assert!(matches!(sink.commit(&round, mark).await.unwrap(), Outcome::Committed(_)));
    }

    /// Days whose folders hold files, by who lists them.
    fn listed(&self, below: &str) -> Vec<String> {
        let mut found: Vec<PathBuf> = vec![self.folder.path().join(below)];
        let mut days = Vec::new();
        while let Some(folder) = found.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true if path.ends_with("_manifest") => {}
                    true => found.push(path),
                    false => days.push(day_of(&path)),
                }
            }
        }
        days.sort();
        days
    }

    async fn past_age(&self) -> Expired {
        (self.connector.sink.unwrap().past_age.unwrap())(&self.spec()).await.unwrap().unwrap()
    }
}

fn day_of(file: &Path) -> String {
    let folder = file.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    folder.rsplit(['-', '=']).next().unwrap().to_owned()
}

/// Rows by the manifest.
fn live(sink: &dyn Sink) -> u64 {
    sink.figures().unwrap().rows
}

#[tokio::test]
async fn partitions_past_the_age_leave_the_table_and_their_files_go_later() {
    let _turn = TURN.lock().await;
    for (connector, vacuum_after, kept) in [(&CONNECTOR, None, 1), (&ORC, Some(3), 3)] {
        let mut lake = Lake::new(connector, vacuum_after);
        let mut sink = lake.open().await;
        lake.round(&mut sink, &[3, 4, 5, 6, 10, 0]).await;
        // The 5th ends with the 6th's first moment: 5 days ago.
        assert_eq!(lake.past_age().await.partitions, 3);
        sink.tend(Patience::ToEnd).await;
        assert_eq!((live(&*sink), lake.past_age().await.files), (3, 0));
        let partitions = sink.listing().unwrap().partitions.len();
        assert_eq!(partitions, 3, "catalogs lose them at once");
        let all = ["03", "04", "05", "06", "10", "__HIVE_DEFAULT_PARTITION__"];
        assert_eq!(lake.listed("lake/t"), all, "who lists the folder sees them on");
        // Neither rounds nor other processes take them early.
        lake.round(&mut sink, &[10]).await;
        sink = lake.open().await;
        lake.clock.advance(Duration::from_secs(kept * 86_400 - 1));
        sink.tend(Patience::ToEnd).await;
        assert!(lake.listed("lake/t").iter().filter(|day| ["03", "04", "05"].contains(&day.as_str())).count() == 3);
        lake.clock.advance(Duration::from_secs(1));
        sink.tend(Patience::ToEnd).await;
        assert!(!lake.listed("lake/t").iter().any(|day| ["03", "04", "05"].contains(&day.as_str())));
        // What comes late is written, and goes with the next look.
        lake.round(&mut sink, &[3]).await;
        assert_eq!(lake.past_age().await.rows, 1);
        sink.tend(Patience::ToEnd).await;
        assert_eq!(lake.past_age().await.rows, 0);
    }
}

#[tokio::test]
async fn an_expiry_that_fails_at_any_step_is_made_again() {
    let _turn = TURN.lock().await;
    for point in ["parquet.expire", "parquet.put", "parquet.put.answer", "parquet.expired"] {
        let mut lake = Lake::new(&CONNECTOR, None);
        let mut sink = lake.open().await;
        lake.round(&mut sink, &[3, 10]).await;
        failpoint::configure(&format!("{point}=error")).unwrap();
        sink.tend(Patience::ToEnd).await;
        failpoint::configure("").unwrap();
        drop(sink);
        let mut sink = lake.open().await;
        sink.tend(Patience::ToEnd).await;
        assert_eq!((live(&*sink), lake.listed("lake/t")), (1, vec!["03".to_owned(), "10".to_owned()]), "{point}");
        lake.clock.advance(Duration::from_secs(86_400));
        failpoint::configure(&format!("{point}=error")).unwrap();
        sink.tend(Patience::ToEnd).await;
        failpoint::configure("").unwrap();
        drop(sink);
        let mut sink = lake.open().await;
        sink.tend(Patience::ToEnd).await;
        assert_eq!((live(&*sink), lake.listed("lake/t")), (1, vec!["10".to_owned()]), "{point}");
    }
}

#[tokio::test]
async fn a_copy_keeps_what_has_expired_as_long_as_the_table_does() {
    let _turn = TURN.lock().await;
    let mut lake = Lake::new(&CONNECTOR, None);
    let mut sink = lake.open().await;
    lake.round(&mut sink, &[3, 10]).await;
    let mut copy = (CONNECTOR.sink.unwrap().replicate.unwrap())(CopySpec {
        pipeline: "p".into(),
        table: "t".into(),
        connection: Lake::connection("lake"),
        to: Lake::connection("copy"),
        deletes: true,
        root: lake.folder.path().into(),
        cache: lake.folder.path().join("cache"),
        clock: Arc::clone(&lake.clock) as Arc<dyn Clock>,
    })
    .unwrap();
    copy.catch_up().await.unwrap().unwrap();
    for (pause, left) in [(0, 2), (DAY, 1)] {
        lake.clock.advance(Duration::from_micros(pause.unsigned_abs()));
        sink.tend(Patience::ToEnd).await;
        copy.catch_up().await.unwrap().unwrap();
        assert_eq!(lake.listed("copy/t"), lake.listed("lake/t"));
        assert_eq!(lake.listed("copy/t").len(), left);
    }
}
