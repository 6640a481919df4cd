//! Data files of a round: begun, closed side by side, counted.

use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use lakehead_core::{Result, SinkSpec, failpoint};
use lakehead_lakefile::{FileFormat, FileIndexes, FileWriter, Location};

use crate::layout::{Slot, TableLayout};
use crate::stage::{StagedFile, staged_name};

/// Bytes after which a file is closed and the next one begun, where the sink says nothing.
const FILE_BYTES: u64 = 128 << 20;
/// Files that are closed at once: enough to hide the round trip of a store, few enough for memory.
const CLOSING_MAX: usize = 8;

/// Begins and closes the data files of a round.
pub(crate) struct Files {
    staging: Location,
    schema: SchemaRef,
    format: FileFormat,
    indexes: FileIndexes,
    file_bytes: u64,
    fence: u64,
    begun: Vec<String>,
    closing: FuturesOrdered<BoxFuture<'static, Result<StagedFile>>>,
    done: Vec<StagedFile>,
}

impl Files {
    pub(crate) fn new(
        staging: &Location,
        schema: SchemaRef,
        layout: &TableLayout,
        spec: &SinkSpec,
        fence: u64,
    ) -> Self {
        Self {
            staging: staging.clone(),
            schema,
            format: FileFormat::from_settings(&spec.settings).of(layout.kind),
            indexes: FileIndexes { keys: spec.key.clone(), sorted_by: layout.sort_by.clone() },
            file_bytes: spec.settings.size_or("file_size", FILE_BYTES),
            fence,
            begun: Vec::new(),
            closing: FuturesOrdered::new(),
            done: Vec::new(),
        }
    }

    pub(crate) fn staging(&self) -> &Location {
        &self.staging
    }

    /// Returns the names of all files that were begun.
    pub(crate) fn begun(&self) -> &[String] {
        &self.begun
    }

    pub(crate) fn begin(&mut self) -> Result<FileWriter> {
        let name = staged_name(self.fence, self.format.kind());
        self.begun.push(name.clone());
        FileWriter::create_indexed(&self.staging, &name, &self.schema, self.format, &self.indexes)
    }

    pub(crate) fn is_full(&self, writer: &FileWriter) -> bool {
        writer.bytes() >= self.file_bytes
    }

    /// Closes a file, some of them at once; files are listed in the order of these calls.
    pub(crate) async fn close(&mut self, writer: FileWriter, slot: Slot) -> Result<()> {
        failpoint::hit("parquet.stage.close").await?;
        if self.closing.len() >= CLOSING_MAX
            && let Some(file) = self.closing.next().await
        {
            self.done.push(file?);
        }
        self.closing.push_back(Box::pin(async move {
            let rows = writer.rows();
            let file = writer.finish().await?;
            Ok(StagedFile { name: file.name, size: file.size, rows, partition: slot.partition, bucket: slot.bucket })
        }));
        Ok(())
    }

    /// Waits for every file that was closed and returns all of them.
    pub(crate) async fn finish(&mut self) -> Result<Vec<StagedFile>> {
        while let Some(file) = self.closing.next().await {
            self.done.push(file?);
        }
        Ok(std::mem::take(&mut self.done))
    }
}
