//! ORC files on a store.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use lakehead_core::{Error, Result};
use lakehead_orcfile::{OrcOptions, OrcReadOptions, OrcReader, OrcWriter};
use object_store::ObjectStoreExt;
use object_store::buffered::BufWriter;
use parquet::basic::Compression;
use tokio::io::AsyncWriteExt;

use crate::{FileIndexes, FileStatistics, Location, storage_error};

/// Bytes that are encoded and not with the store yet.
#[derive(Clone, Default)]
struct Encoded(Arc<Mutex<Vec<u8>>>);

impl Encoded {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Encoded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes one ORC file: encodes in memory, stripe by stripe, and hands each to the store.
pub(crate) struct OrcBody {
    writer: OrcWriter<Encoded>,
    encoded: Encoded,
    store: BufWriter,
    /// Where the file will lie, for people.
    place: String,
    /// Bytes handed to the store.
    written: u64,
}

impl OrcBody {
    pub(crate) fn new(
        (store, place): (BufWriter, String),
        schema: &SchemaRef,
        compression: Compression,
        indexes: &FileIndexes,
    ) -> Result<Self> {
        use lakehead_orcfile::Compression as Orc;
        let compression = match compression {
            Compression::UNCOMPRESSED => Orc::None,
            Compression::SNAPPY => Orc::Snappy,
            Compression::GZIP(_) => Orc::Zlib,
            _ => Orc::Zstd,
        };
        let bloom_columns = indexes.filtered(schema).cloned().collect();
        let options = OrcOptions { compression, bloom_columns, ..OrcOptions::default() };
        let encoded = Encoded::default();
        let writer = OrcWriter::try_new(encoded.clone(), Arc::clone(schema), options)?;
        Ok(Self { writer, encoded, store, place, written: 0 })
    }

    pub(crate) async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.writer.write(rows)?;
        self.hand_over().await
    }

    async fn hand_over(&mut self) -> Result<()> {
        let bytes = self.encoded.take();
        self.written += bytes.len() as u64;
        self.store.write_all(&bytes).await.map_err(|error| failed(error, &self.place))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.writer.bytes()
    }

    /// Returns about how many bytes of memory the unfinished stripe takes.
    pub(crate) fn memory(&self) -> usize {
        usize::try_from(self.writer.bytes().saturating_sub(self.written)).unwrap_or(usize::MAX)
    }

    pub(crate) async fn flush(&mut self) -> Result<()> {
        self.writer.flush()?;
        self.hand_over().await
    }

    /// Closes the file; returns its bytes and what it holds.
    pub(crate) async fn finish(self) -> Result<(u64, FileStatistics)> {
        let Self { writer, encoded, mut store, place, .. } = self;
        let summary = writer.finish()?;
        store.write_all(&encoded.take()).await.map_err(|error| failed(error, &place))?;
        store.shutdown().await.map_err(|error| failed(error, &place))?;
        Ok((summary.bytes, FileStatistics { rows: summary.rows, ..FileStatistics::default() }))
    }
}

fn failed(error: std::io::Error, place: &str) -> Error {
    let store = "ORC";
    storage_error(object_store::Error::Generic { store, source: Box::new(error) }, place)
}

/// Begins to read the columns `columns` of a file (all where `None`), in the order of the file. The file is in memory
/// whole: sinks close theirs at `file_size`.
pub(crate) async fn read_orc(location: &Location, name: &str, columns: Option<&[String]>) -> Result<OrcReader> {
    let found = location.store().get(&location.path(name)).await.map_err(|error| storage_error(error, name))?;
    let bytes: Bytes = found.bytes().await.map_err(|error| storage_error(error, name))?;
    let all = OrcReader::from_bytes(bytes.clone(), &OrcReadOptions::default())
        .map_err(|error| error.with("file", location.place(name)))?;
    let Some(wanted) = columns else { return Ok(all) };
    // What the file does not have was added later.
    let has = |field: &&Arc<arrow::datatypes::Field>| wanted.contains(field.name());
    let columns = all.schema().fields().iter().filter(has).map(|field| field.name().clone()).collect();
    let options = OrcReadOptions { columns: Some(columns), ..OrcReadOptions::default() };
    OrcReader::from_bytes(bytes, &options).map_err(|error| error.with("file", location.place(name)))
}
