//! The source through its connector, as the engine drives it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use lakehead_core::{
    BatchBudget, Checkpoint, ManualClock, OP, POSITION, RunContext, Settings, Source, SourceEvent, SourceSpec, Value,
};
use lakehead_generate::CONNECTOR;

fn settings(pairs: &[(&str, Value)]) -> Settings {
    let call = |name: &str, arguments| Value::Call(name.into(), arguments);
    let columns = vec![
        ("id".to_owned(), call("sequence", vec![])),
        ("at".to_owned(), call("recent", vec![Value::Text("1m".into())])),
        ("amount".to_owned(), call("money", vec![Value::Int(1), Value::Int(500)])),
    ];
    let mut settings = Settings::new([("columns".to_owned(), Value::Map(columns))]);
    for (name, value) in pairs {
        settings.set(*name, value.clone());
    }
    settings
}

fn source(settings: &Settings, run: &str, clock: &Arc<ManualClock>) -> Box<dyn Source> {
    let role = CONNECTOR.source.unwrap();
    (role.build)(SourceSpec {
        pipeline: "p".into(),
        node: "lines".into(),
        connection: Settings::default(),
        settings: settings.clone(),
        tables: vec![],
        root: ".".into(),
        run: RunContext { id: run.into(), start: 0, end: 3_600_000_000 },
        clock: clock.clone(),
    })
    .unwrap()
}

/// What a source delivered: rows by `Progress`, and the schemas in between.
struct Delivered {
    batches: Vec<RecordBatch>,
    progress: Vec<(usize, Checkpoint)>,
    schemas: usize,
}

async fn drain(mut source: Box<dyn Source>, from: &Checkpoint) -> Delivered {
    source.open(from).await.unwrap();
    let mut delivered = Delivered { batches: vec![], progress: vec![], schemas: 0 };
    loop {
        match source.next(BatchBudget { rows_max: 300, ..BatchBudget::default() }).await.unwrap() {
            SourceEvent::Changes(batch) => {
                assert_eq!(batch.table, "lines");
                assert!(batch.rows.num_rows() <= 300);
                delivered.batches.push(batch.rows);
            }
            SourceEvent::Progress(checkpoint) => delivered.progress.push((delivered.batches.len(), checkpoint)),
            SourceEvent::Schema { .. } => delivered.schemas += 1,
            SourceEvent::End => return delivered,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_run_resumed_at_any_progress_goes_on_with_the_same_rows() {
    let clock = Arc::new(ManualClock::at(0));
    let changes = Value::Map(vec![
        ("key".into(), Value::Name("id".into())),
        ("updates".into(), Value::Percent(0.3)),
        ("deletes".into(), Value::Percent(0.1)),
        ("bad".into(), Value::Percent(0.05)),
        ("add_column_at".into(), Value::Int(700)),
    ]);
    for settings in [settings(&[]), settings(&[("changes", changes)])] {
        let whole = drain(source(&settings, "r1", &clock), &Checkpoint::default()).await;
        assert_eq!(whole.batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1000);
        for (batches, checkpoint) in &whole.progress {
            let rest = drain(source(&settings, "r1", &clock), checkpoint).await;
            let rows = |batches: &[RecordBatch]| {
                let last = batches.last()?;
                let full: Vec<_> = batches.iter().filter(|batch| batch.schema() == last.schema()).collect();
                Some(concat_batches(&last.schema(), full).unwrap())
            };
            assert_eq!(rows(&rest.batches), rows(&whole.batches[*batches..]));
        }
    }
}

#[tokio::test]
async fn each_run_makes_the_next_rows() {
    let clock = Arc::new(ManualClock::at(0));
    let settings = settings(&[("rows", Value::Int(5))]);
    let first = drain(source(&settings, "r1", &clock), &Checkpoint::default()).await;
    let second = drain(source(&settings, "r2", &clock), &first.progress.last().unwrap().1).await;
    let ids = second.batches[0].column(0).as_primitive::<arrow::datatypes::Int64Type>();
    assert_eq!(ids.values()[..], [6, 7, 8, 9, 10]);
    assert!(first.progress.last().unwrap().1.get("lines").unwrap().contains("\"next\":5"));
}

#[tokio::test]
async fn a_change_stream_deletes_by_key_alone_and_takes_on_a_column() {
    let clock = Arc::new(ManualClock::at(0));
    let changes = Value::Map(vec![
        ("key".into(), Value::Name("id".into())),
        ("deletes".into(), Value::Percent(0.2)),
        ("add_column_at".into(), Value::Int(450)),
    ]);
    let settings = settings(&[("changes", changes)]);
    assert!((CONNECTOR.source.unwrap().changes)(&settings));
    let delivered = drain(source(&settings, "r1", &clock), &Checkpoint::default()).await;
    assert_eq!(delivered.schemas, 1);
    let (mut rows, mut deletes) = (0, 0);
    for batch in &delivered.batches {
        assert_eq!(batch.column_by_name("note").is_some(), rows >= 450);
        let ops = batch.column_by_name(OP).unwrap().as_string::<i32>();
        let positions = batch.column_by_name(POSITION).unwrap().as_string::<i32>();
        for row in 0..batch.num_rows() {
            assert_eq!(positions.value(row), format!("{:020}", rows + row));
            assert!(batch.column(0).is_valid(row));
            if ops.value(row) == "d" {
                deletes += 1;
                assert!(batch.column(1).is_null(row) && batch.column(2).is_null(row));
            }
        }
        rows += batch.num_rows();
    }
    assert!(deletes > 50, "{deletes}");
}

#[tokio::test]
async fn a_rate_is_paced_by_the_clock_and_never_ends() {
    let clock = Arc::new(ManualClock::at(0));
    let settings = settings(&[("rate", Value::Int(100))]);
    assert!((CONNECTOR.source.unwrap().endless)(&settings));
    let mut source = source(&settings, "", &clock);
    source.open(&Checkpoint::default()).await.unwrap();
    for _ in 0..3 {
        let waited = tokio::spawn(async move {
            let event = source.next(BatchBudget::default()).await.unwrap();
            (source, event)
        });
        tokio::task::yield_now().await;
        assert!(!waited.is_finished());
        clock.advance(Duration::from_secs(1));
        let event;
        (source, event) = waited.await.unwrap();
        assert!(matches!(event, SourceEvent::Changes(batch) if batch.rows.num_rows() == 100));
        assert!(matches!(source.next(BatchBudget::default()).await.unwrap(), SourceEvent::Progress(_)));
        assert!(matches!(source.next(BatchBudget::default()).await.unwrap(), SourceEvent::CaughtUp));
    }
}

struct UnderLaw(Settings, Arc<ManualClock>);

impl lakehead_conformance::SourceUnderTest for UnderLaw {
    fn source(&self) -> Box<dyn Source> {
        source(&self.0, "law", &self.1)
    }
}

#[tokio::test]
async fn a_bounded_source_keeps_the_laws() {
    let rows = settings(&[("rows", Value::Int(2_500))]);
    lakehead_conformance::source_laws(&UnderLaw(rows, Arc::new(ManualClock::at(0)))).await.unwrap();
}
