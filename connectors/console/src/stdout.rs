//! Rows on the standard output.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use lakehead_core::{Error, Mark, Outcome, Prepared, Result, Sink, SinkPosition, SinkSpec};

use crate::lines::{csv_text, json_lines, layout, shown};
use crate::round::{Rounds, texts};

/// Writes each committed round's rows.
pub(crate) struct StdoutSink {
    spec: SinkSpec,
    csv: bool,
    /// The columns of the last header.
    header: Option<Vec<String>>,
    rounds: Rounds,
    writer: Box<dyn Write + Send>,
}

impl StdoutSink {
    /// Builds the sink; writes nothing.
    pub(crate) fn new(spec: SinkSpec, writer: Box<dyn Write + Send>) -> Result<Self> {
        let csv = match spec.settings.text("format") {
            None | Some("json") => false,
            Some("csv") => true,
            Some(other) => {
                return Err(Error::user("R0802", "rows are not shown in this format")
                    .with("format", other)
                    .help("formats are json, csv"));
            }
        };
        Ok(Self { spec, csv, header: None, rounds: Rounds::new("stdout"), writer })
    }

    fn write(&mut self, texts: &[String]) -> std::io::Result<()> {
        // One write, so that no other output of the process comes between the rows of a round.
        let mut text = texts.join("\n");
        text.push('\n');
        self.writer.write_all(text.as_bytes())?;
        self.writer.flush()
    }
}

/// Shows an alert as a line.
pub(crate) async fn show_alert(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}")
        .map_err(|error| Error::external("R0804", "the standard output cannot be written").caused_by(error))
}

#[async_trait]
impl Sink for StdoutSink {
    async fn open(&mut self, fence: u64) -> Result<SinkPosition> {
        self.rounds.open(fence)
    }

    async fn evolve(&mut self, schema: &SchemaRef) -> Result<()> {
        self.spec.schema = SchemaRef::clone(schema);
        Ok(())
    }

    async fn stage(&mut self, rows: RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let rows = shown(&rows, &self.spec.schema)?;
        if !self.csv {
            return self.rounds.add(json_lines(&rows)?, rows.num_rows());
        }
        let columns = layout(&rows);
        let with_header = self.header.as_ref() != Some(&columns);
        self.header = Some(columns);
        let text = csv_text(&rows, with_header)?;
        self.rounds.add(vec![text.trim_end_matches('\n').to_owned()], rows.num_rows())
    }

    /// What was shown stays shown; rows of the open round before this are dropped.
    async fn truncate(&mut self) -> Result<()> {
        self.abort().await
    }

    async fn prepare(&mut self) -> Result<Option<Prepared>> {
        Ok(self.rounds.prepare(&self.spec.table))
    }

    async fn commit(&mut self, prepared: &Prepared, mark: Mark) -> Result<Outcome> {
        if let Some(outcome) = self.rounds.outcome(mark) {
            return Ok(outcome);
        }
        let texts = texts(prepared)?;
        self.write(&texts).map_err(|error| {
            let known = if error.kind() == std::io::ErrorKind::BrokenPipe {
                Error::user("R0803", "nobody reads the standard output any more")
            } else {
                Error::external("R0804", "the standard output cannot be written")
            };
            known.caused_by(error)
        })?;
        Ok(self.rounds.written(mark))
    }

    async fn abort(&mut self) -> Result<()> {
        self.rounds.clear();
        self.header = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use lakehead_core::{ManualClock, RunContext, Settings, Value, WriteMode, reserved_field};

    use super::*;

    #[derive(Clone, Default)]
    struct Shown(Arc<Mutex<Vec<u8>>>);

    impl Write for Shown {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Shown {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn rows() -> RecordBatch {
        let fields = vec![
            Field::new("id", DataType::Int64, true),
            Field::new("name", DataType::Utf8, true),
            reserved_field("_op"),
            reserved_field("_file"),
        ];
        RecordBatch::try_new(
            Arc::new(Schema::new(fields)),
            vec![
                Arc::new(Int64Array::from(vec![1, 2])),
                Arc::new(StringArray::from(vec![Some("a\nb"), None])),
                Arc::new(StringArray::from(vec!["c", "u"])),
                Arc::new(StringArray::from(vec!["f", "f"])),
            ],
        )
        .unwrap()
    }

    fn sink(format: &str) -> (StdoutSink, Shown) {
        let shown = Shown::default();
        let spec = SinkSpec {
            pipeline: "p".into(),
            node: "out".into(),
            table: "out".into(),
            schema: Arc::new(lakehead_core::data_fields(&rows().schema())),
            key: vec![],
            mode: WriteMode::Append,
            partition_by: vec![],
            connection: Settings::default(),
            settings: Settings::new([("format".into(), Value::Name(format.into()))]),
            root: ".".into(),
            cache: std::env::temp_dir().join("lakehead-tests"),
            run: RunContext::default(),
            clock: Arc::new(ManualClock::at(0)),
        };
        (StdoutSink::new(spec, Box::new(shown.clone())).unwrap(), shown)
    }

    fn mark(seq: u64, fence: u64) -> Mark {
        Mark { seq, fence, ..Mark::default() }
    }

    #[tokio::test]
    async fn a_round_is_shown_at_its_commit_and_once() {
        let (mut sink, shown) = sink("json");
        sink.open(1).await.unwrap();
        assert!(sink.prepare().await.unwrap().is_none());
        sink.stage(rows()).await.unwrap();
        let round = sink.prepare().await.unwrap().unwrap();
        let round: Prepared = serde_json::from_str(&serde_json::to_string(&round).unwrap()).unwrap();
        assert_eq!((round.rows, shown.text()), (2, String::new()));
        assert_eq!(sink.commit(&round, mark(1, 1)).await.unwrap(), Outcome::Committed(1));
        assert_eq!(sink.commit(&round, mark(1, 1)).await.unwrap(), Outcome::AlreadyCommitted);
        let expected = "{\"id\":1,\"name\":\"a\\nb\",\"_op\":\"c\"}\n{\"id\":2,\"name\":null,\"_op\":\"u\"}\n";
        assert_eq!(shown.text(), expected);
        sink.open(2).await.unwrap();
        assert_eq!(sink.commit(&round, mark(2, 1)).await.unwrap(), Outcome::Fenced(2));
        sink.stage(rows()).await.unwrap();
        sink.abort().await.unwrap();
        assert!(sink.prepare().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn csv_has_its_header_once() {
        let (mut sink, shown) = sink("csv");
        sink.open(1).await.unwrap();
        for seq in 1..=2 {
            sink.stage(rows()).await.unwrap();
            let round = sink.prepare().await.unwrap().unwrap();
            sink.commit(&round, mark(seq, 1)).await.unwrap();
        }
        assert_eq!(shown.text(), "id,name,_op\n1,\"a\nb\",c\n2,,u\n1,\"a\nb\",c\n2,,u\n");
    }
}
