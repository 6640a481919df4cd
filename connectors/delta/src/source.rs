//! A Delta table as a bounded source: one version, whole.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use lakehead_core::{
    BatchBudget, ChangeBatch, Checkpoint, Discovery, Error, Result, Source, SourceEvent, SourceSpec, SystemClock,
    TableSpec,
};
use lakehead_lakefile::{Location, conform, read_file};

use crate::live::LiveFile;
use crate::log::{TableLog, TableState};
use crate::merge::add_partition_columns;
use crate::vectors::{self, Vector, live_rows};

/// Reads the newest version of one table.
pub(crate) struct DeltaSource {
    spec: SourceSpec,
    location: Location,
    state: Option<TableState>,
    files: VecDeque<LiveFile>,
    open: Option<Open>,
    /// What of the last batch did not fit into a budget.
    waiting: Option<RecordBatch>,
    done: bool,
}

/// A file that is being read.
struct Open {
    file: LiveFile,
    gone: Option<Vector>,
    /// The number of the next row.
    row: u64,
    batches: BoxStream<'static, Result<RecordBatch>>,
}

impl DeltaSource {
    pub(crate) fn new(spec: SourceSpec) -> Result<Self> {
        let lake = Location::open(spec.connection.required_text("path")?, &spec.root, &spec.connection)?;
        let prefix = spec.connection.text("prefix").unwrap_or("");
        let location = lake.table(prefix, spec.settings.required_text("table")?)?;
        Ok(Self { spec, location, state: None, files: VecDeque::new(), open: None, waiting: None, done: false })
    }

    async fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(Open { file, gone, row, batches }) = self.open.as_mut() {
                if let Some(batch) = batches.next().await {
                    let state =
                        self.state.as_ref().ok_or_else(|| Error::bug("a source was read before it was opened"))?;
                    let (batch, start) = (batch?, *row);
                    *row += batch.num_rows() as u64;
                    let batch = live_rows(batch, start, gone.as_ref())?;
                    if batch.num_rows() == 0 {
                        continue;
                    }
                    let batch = add_partition_columns(&batch, &file.partition, &state.schema)?;
                    return Ok(Some(conform(&batch, &state.schema)?));
                }
                self.open = None;
            }
            // Taken off the list once it is open: a dropped future loses no file (law 4).
            let Some(file) = self.files.front().cloned() else { return Ok(None) };
            let gone = match &file.vector {
                Some(descriptor) => Some(vectors::read(&self.location, descriptor).await?),
                None => None,
            };
            let batches = read_file(&self.location, &file.name, None).await?.boxed();
            self.files.pop_front();
            self.open = Some(Open { file, gone, row: 0, batches });
        }
    }
}

#[async_trait]
impl Source for DeltaSource {
    async fn open(&mut self, _from: &Checkpoint) -> Result<()> {
        let mut log = TableLog::new(&self.location, std::sync::Arc::clone(&self.spec.clock));
        let state = log.refresh().await?.ok_or_else(|| missing(&self.location))?;
        log.check_readable()?;
        self.files = log.live()?.files.values().cloned().collect();
        self.files.make_contiguous().sort_by(|a, b| a.name.cmp(&b.name));
        self.state = Some(state);
        Ok(())
    }

    async fn next(&mut self, budget: BatchBudget) -> Result<SourceEvent> {
        if self.waiting.is_none() {
            self.waiting = self.next_batch().await?;
        }
        if let Some(rows) = budget.take_from(&mut self.waiting) {
            let table = self.spec.tables.first().map_or_else(|| self.spec.node.clone(), |table| table.name.clone());
            return Ok(SourceEvent::Changes(ChangeBatch { table, rows }));
        }
        if self.done {
            return Ok(SourceEvent::End);
        }
        self.done = true;
        let mut checkpoint = Checkpoint::default();
        if let Some(state) = &self.state {
            checkpoint.set(&self.spec.node, format!("{}@{}", state.identity, state.version));
        }
        Ok(SourceEvent::Progress(checkpoint))
    }

    async fn acknowledge(&mut self, _durable: &Checkpoint) -> Result<()> {
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Reads the columns of the table that a source names.
pub(crate) async fn discover(discovery: &Discovery) -> Result<Vec<TableSpec>> {
    let path = discovery.connection.required_text("path")?;
    let lake = Location::open(path, &discovery.root, &discovery.connection)?;
    let table = discovery.settings.required_text("table")?;
    let location = lake.table(discovery.connection.text("prefix").unwrap_or(""), table)?;
    let mut log = TableLog::new(&location, std::sync::Arc::new(SystemClock::default()));
    let state = log.refresh().await?.ok_or_else(|| missing(&location))?;
    log.check_readable()?;
    Ok(vec![TableSpec { name: discovery.node.clone(), schema: state.schema, key: Vec::new() }])
}

fn missing(location: &Location) -> Error {
    Error::user("R0216", "there is no Delta table at this place")
        .with("table", location.url())
        .help("run the pipeline that writes it first, or correct `table`")
}
