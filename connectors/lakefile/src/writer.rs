//! One file, from batches to a durable object.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use lakehead_core::{Error, Result, Settings};
use object_store::ObjectStoreExt;
use object_store::buffered::BufWriter;
use parquet::arrow::AsyncArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use serde::{Deserialize, Serialize};

use crate::{FileStatistics, Location, parquet_error, storage_error};

/// Rows of a row group: a few hundred kilobytes to some megabytes a column, and a bounded writer.
const ROW_GROUP_ROWS: usize = 256 * 1024;

/// How a file is encoded.
#[derive(Clone, Copy, Debug)]
pub struct FileFormat {
    compression: Compression,
}

impl FileFormat {
    /// Reads `compression` from a sink's settings; zstd level 1 where it says nothing (measured best for its CPU).
    pub fn from_settings(settings: &Settings) -> Self {
        let compression = match settings.text("compression") {
            Some("none") => Compression::UNCOMPRESSED,
            Some("snappy") => Compression::SNAPPY,
            Some("gzip") => Compression::GZIP(Default::default()),
            _ => Compression::ZSTD(ZstdLevel::try_new(1).unwrap_or_default()),
        };
        Self { compression }
    }

    fn properties(self) -> WriterProperties {
        WriterProperties::builder()
            .set_compression(self.compression)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_statistics_truncate_length(Some(128))
            .set_created_by(concat!("lakehead ", env!("CARGO_PKG_VERSION")).to_owned())
            .build()
    }
}

/// A finished file: its object is complete, its size was read back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WrittenFile {
    /// The name relative to the table's folder.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// What it holds.
    pub statistics: FileStatistics,
}

/// Writes one Parquet file.
pub struct FileWriter {
    location: Location,
    name: String,
    schema: SchemaRef,
    writer: AsyncArrowWriter<BufWriter>,
    rows: u64,
}

impl FileWriter {
    /// Begins the file `name` in `location`. Nothing is visible before [`FileWriter::finish`].
    pub fn create(location: &Location, name: &str, schema: &SchemaRef, format: FileFormat) -> Result<Self> {
        let buffer = BufWriter::new(Arc::clone(location.store()), location.path(name));
        let writer = AsyncArrowWriter::try_new(buffer, Arc::clone(schema), Some(format.properties()))
            .map_err(|error| parquet_error(error, name))?;
        Ok(Self { location: location.clone(), name: name.to_owned(), schema: Arc::clone(schema), writer, rows: 0 })
    }

    /// Adds rows; the batch has the file's schema.
    pub async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.rows += rows.num_rows() as u64;
        self.writer.write(rows).await.map_err(|error| parquet_error(error, &self.name))
    }

    /// Returns the rows written so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns about how many bytes the file has so far, encoded.
    pub fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Closes the file and reads its size back: a store that says yes to half an object is not believed.
    pub async fn finish(mut self) -> Result<WrittenFile> {
        let metadata = self.writer.finish().await.map_err(|error| parquet_error(error, &self.name))?;
        let written = self.writer.bytes_written() as u64;
        let path = self.location.path(&self.name);
        let found = self.location.store().head(&path).await.map_err(|error| storage_error(error, path.as_ref()))?;
        if found.size != written {
            return Err(Error::external("R0408", "the store holds another size than was written")
                .with("file", &self.name)
                .with("written", written)
                .with("found", found.size));
        }
        let statistics = FileStatistics::of(&metadata, &self.schema);
        Ok(WrittenFile { name: self.name, size: found.size, statistics })
    }
}
