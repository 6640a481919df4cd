//! The row groups of a Parquet file, of which some are read and others are copied as they are.

use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use lakehead_core::Result;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::file::metadata::{ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::statistics::Statistics;

use crate::reader::{ObjectReader, whole_times};
use crate::splice::Window;
use crate::wary::{calm, calm_stream, calmly, read_footer};
use crate::{Location, parquet_error};

/// A Parquet file whose head was read.
pub struct RowGroups {
    location: Location,
    name: String,
    metadata: ArrowReaderMetadata,
}

impl RowGroups {
    /// Reads the head of a file, and where its pages are.
    pub async fn open(location: &Location, name: &str) -> Result<Self> {
        let loaded = calm(load(ObjectReader::new(location, name))).await;
        let metadata = loaded.and_then(|loaded| loaded).and_then(whole_times);
        let metadata = metadata.map_err(|error| parquet_error(error, &location.place(name)))?;
        Ok(Self { location: location.clone(), name: name.to_owned(), metadata })
    }

    /// Returns how many groups there are.
    pub fn count(&self) -> usize {
        self.head().num_row_groups()
    }

    /// Returns how many rows a group has.
    pub fn rows(&self, group: usize) -> u64 {
        self.head().row_group(group).num_rows().unsigned_abs()
    }

    /// Returns whether all rows of a group have a value in a column without lists, `leaf` by its path with dots; false where the file
    /// does not tell.
    pub fn is_whole(&self, group: usize, leaf: &str) -> bool {
        let nulls =
            self.column(group, leaf).and_then(|column| column.statistics()).and_then(Statistics::null_count_opt);
        nulls == Some(0)
    }

    /// Returns the greatest number in a column of a group; `None` where the file does not tell.
    pub fn greatest(&self, group: usize, leaf: &str) -> Option<i64> {
        match self.column(group, leaf)?.statistics()? {
            Statistics::Int64(numbers) if numbers.max_is_exact() => numbers.max_opt().copied(),
            _ => None,
        }
    }

    fn column(&self, group: usize, leaf: &str) -> Option<&ColumnChunkMetaData> {
        let columns = self.head().row_group(group).columns();
        columns.iter().find(|column| column.column_path().string() == leaf)
    }

    /// Reads some groups, at most `rows` rows at once.
    pub fn read(&self, groups: Vec<usize>, rows: usize) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let place = self.location.place(&self.name);
        let reader = ObjectReader::new(&self.location, &self.name);
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, self.metadata.clone());
        let builder = builder.with_batch_size(rows).with_row_groups(groups);
        let stream =
            calmly(|| builder.build()).and_then(|built| built).map_err(|error| parquet_error(error, &place))?;
        Ok(calm_stream(stream).map_err(move |error| parquet_error(error, &place)).boxed())
    }

    pub(crate) fn head(&self) -> &ParquetMetaData {
        self.metadata.metadata()
    }

    /// Reads the bytes of a group.
    pub(crate) async fn window(&self, group: usize) -> Result<Window> {
        Window::read(&self.location, &self.name, self.head().row_group(group)).await
    }
}

async fn load(mut reader: ObjectReader) -> parquet::errors::Result<ArrowReaderMetadata> {
    let size = reader.size().await?;
    let footer = read_footer(&mut reader, size, 0).await?;
    let mut pages = ParquetMetaDataReader::new_with_metadata(footer).with_page_index_policy(PageIndexPolicy::Optional);
    pages.load_page_index(&mut reader).await?;
    ArrowReaderMetadata::try_new(Arc::new(pages.finish()?), ArrowReaderOptions::new())
}
