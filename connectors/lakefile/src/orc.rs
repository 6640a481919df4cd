//! ORC files on a store.

use std::io::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use lakehead_core::{Error, Result};
use lakehead_orcfile::{FetchRanges, OrcFile, OrcOptions, OrcReadOptions, OrcReader, OrcWriter};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, coalesce_ranges};
use parquet::basic::Compression;
use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;

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
            Compression::LZ4_RAW => Orc::Lz4,
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

/// Bytes between two ranges that are fetched with them rather than asked for apart.
const GAP_BYTES: u64 = 64 << 10;

/// Byte ranges of one object, for a reader on a thread that may wait.
struct ObjectRanges {
    store: Arc<dyn ObjectStore>,
    path: Path,
    place: String,
    /// Bytes that were fetched.
    bytes: Arc<AtomicU64>,
    runtime: Handle,
}

impl FetchRanges for ObjectRanges {
    fn fetch(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let fetch = |range: Range<u64>| {
            self.bytes.fetch_add(range.end - range.start, Ordering::Relaxed);
            self.store.get_range(&self.path, range)
        };
        let found = self.runtime.block_on(coalesce_ranges(ranges, fetch, GAP_BYTES));
        found.map_err(|error| storage_error(error, &self.place))
    }
}

/// Opens an object by its length and its ranges, whose bytes are counted in `bytes`.
async fn open_ranges<T: Send + 'static>(
    location: &Location,
    name: &str,
    bytes: Arc<AtomicU64>,
    open: impl FnOnce(u64, Box<dyn FetchRanges>) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (store, path, place) = (Arc::clone(location.store()), location.path(name), location.place(name));
    let found = store.head(&path).await.map_err(|error| storage_error(error, name))?;
    let ranges = ObjectRanges { store, path, place: place.clone(), bytes, runtime: Handle::current() };
    waiting(move || open(found.size, Box::new(ranges)).map_err(|error| error.with("file", place))).await
}

/// Does work that waits for the store, on a thread of its own.
pub(crate) async fn waiting<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::bug("reading an ORC file was cut short").caused_by(error))?
}

/// Opens a file to read parts of it; bytes that are fetched are counted in `bytes`.
pub(crate) async fn open_parts(location: &Location, name: &str, bytes: Arc<AtomicU64>) -> Result<OrcFile> {
    open_ranges(location, name, bytes, OrcFile::open).await
}

/// Begins to read the columns `columns` of a file (all where `None`), in the order of the file, at most `rows` rows at once.
/// What the file does not have was added later.
pub(crate) async fn read_orc(
    location: &Location,
    name: &str,
    columns: Option<&[String]>,
    rows: usize,
) -> Result<OrcReader> {
    let options = OrcReadOptions::default();
    let options = OrcReadOptions { batch_rows: rows.clamp(1, options.batch_rows), ..options };
    let open = move |length, ranges| OrcReader::fetched(length, ranges, &options);
    let reader = open_ranges(location, name, Arc::default(), open).await?;
    Ok(match columns {
        None => reader,
        Some(wanted) => reader.only(wanted),
    })
}

/// Reads a file to its end. One stripe of it is in memory, of the columns that are read.
pub(crate) fn orc_batches(reader: OrcReader, place: String) -> BoxStream<'static, Result<RecordBatch>> {
    let batches = futures::stream::try_unfold(reader, async |mut reader| {
        waiting(move || Ok(reader.next().transpose()?.map(|batch| (batch, reader)))).await
    });
    batches.map_err(move |error: Error| error.with("file", &place)).boxed()
}
