//! Files put one behind another: their row groups are copied as they are, and nothing is decoded.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{FieldRef, Schema};
use bytes::Bytes;
use lakehead_core::{Error, Result};
use object_store::ObjectStoreExt;
use object_store::buffered::BufWriter;
use parquet::arrow::parquet_to_arrow_schema;
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::writer::SerializedFileWriter;
use tokio::io::AsyncWriteExt;

use crate::{FileStatistics, Location, WrittenFile, parquet_error, reader::ObjectReader, storage_error};

/// Rows of a group on average below which readers are better served by larger ones.
const GROUP_ROWS_MIN: i64 = 64 * 1024;

/// A file that is to be put behind another, and what is known of it: small ones are not even opened.
#[derive(Clone, Debug)]
pub struct SpliceInput {
    /// The name in its location.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Rows.
    pub rows: u64,
}

/// Writes the row groups of `inputs`, in their order, into the file `name`; `None`, and nothing written, where their columns
/// or encodings differ in kind, or their groups are too small to be kept.
pub async fn splice(location: &Location, name: &str, inputs: &[SpliceInput]) -> Result<Option<WrittenFile>> {
    splice_into(location, inputs, location, name, None).await
}

/// Does what [`splice`] does, with the file in another folder; `None` too where the inputs have other columns than
/// `columns`.
pub async fn splice_into(
    location: &Location,
    inputs: &[SpliceInput],
    to: &Location,
    name: &str,
    columns: Option<&Schema>,
) -> Result<Option<WrittenFile>> {
    let rows = inputs.iter().map(|input| input.rows).sum::<u64>();
    if rows < GROUP_ROWS_MIN.unsigned_abs().saturating_mul(inputs.len() as u64) {
        return Ok(None);
    }
    let mut heads = Vec::with_capacity(inputs.len());
    for SpliceInput { name: input, size, .. } in inputs {
        let mut reader = ObjectReader::new(location, input);
        let head = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
        heads.push(head.load_and_finish(&mut reader, *size).await.map_err(|error| parquet_error(error, input))?);
    }
    if !fit(&heads) {
        return Ok(None);
    }
    let failed = |error| parquet_error(error, name);
    if let Some(columns) = columns {
        let found = arrow_schema(&heads[0]).map_err(failed)?;
        let same = |(a, b): (&FieldRef, &FieldRef)| a.name() == b.name() && a.data_type() == b.data_type();
        if found.fields().len() != columns.fields().len() || !found.fields().iter().zip(columns.fields()).all(same) {
            return Ok(None);
        }
    }
    let first = heads[0].file_metadata();
    let properties = WriterProperties::builder()
        .set_key_value_metadata(first.key_value_metadata().cloned())
        .set_created_by(concat!("lakehead ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let buffer = Buffer::default();
    let schema = first.schema_descr().root_schema_ptr();
    let mut writer = SerializedFileWriter::new(buffer.clone(), schema, Arc::new(properties)).map_err(failed)?;
    let mut object = to.begin(name);
    let mut written = 0;
    for (SpliceInput { name: input, .. }, head) in inputs.iter().zip(&heads) {
        for (number, group) in head.row_groups().iter().enumerate() {
            let window = Window::read(location, input, group).await?;
            append(&mut writer, head, number, &window).map_err(failed)?;
            written += buffer.drain_into(&mut object, name).await?;
        }
    }
    let metadata = writer.finish().map_err(failed)?;
    written += buffer.drain_into(&mut object, name).await?;
    object.shutdown().await.map_err(|error| parquet_error(ParquetError::External(Box::new(error)), name))?;
    let path = to.path(name);
    let found = to.store().head(&path).await.map_err(|error| storage_error(error, name))?;
    if found.size != written {
        return Err(Error::external("R0408", "the store holds another size than was written")
            .with("file", name)
            .with("written", written)
            .with("found", found.size));
    }
    let statistics = FileStatistics::of(&metadata, &arrow_schema(&heads[0]).map_err(failed)?);
    Ok(Some(WrittenFile { name: name.to_owned(), size: found.size, statistics }))
}

fn arrow_schema(head: &ParquetMetaData) -> parquet::errors::Result<Schema> {
    parquet_to_arrow_schema(head.file_metadata().schema_descr(), head.file_metadata().key_value_metadata())
}

/// Returns whether the files can stand behind one another in one.
fn fit(heads: &[ParquetMetaData]) -> bool {
    let Some(first) = heads.first() else { return false };
    let schema = first.file_metadata().schema_descr().root_schema();
    let same = heads.iter().all(|head| head.file_metadata().schema_descr().root_schema() == schema);
    let groups: usize = heads.iter().map(ParquetMetaData::num_row_groups).sum();
    let rows: i64 = heads.iter().map(|head| head.file_metadata().num_rows()).sum();
    same && rows >= GROUP_ROWS_MIN.saturating_mul(i64::try_from(groups).unwrap_or(i64::MAX))
}

/// Puts a row group of another file behind those that a file has.
pub(crate) fn append<W: std::io::Write + Send>(
    writer: &mut SerializedFileWriter<W>,
    head: &ParquetMetaData,
    number: usize,
    window: &Window,
) -> parquet::errors::Result<()> {
    let group = head.row_group(number);
    let mut to = writer.next_row_group()?;
    for (place, column) in group.columns().iter().enumerate() {
        let close = ColumnCloseResult {
            bytes_written: u64::try_from(column.compressed_size()).unwrap_or(0),
            rows_written: u64::try_from(group.num_rows()).unwrap_or(0),
            metadata: column.clone(),
            bloom_filter: None,
            column_index: head.column_index().map(|index| index[number][place].clone()),
            offset_index: head.offset_index().map(|index| index[number][place].clone()),
        };
        to.append_column(window, close)?;
    }
    to.close()?;
    Ok(())
}

/// The bytes of one row group, at their places in the file.
pub(crate) struct Window {
    start: u64,
    bytes: Bytes,
}

impl Window {
    pub(crate) async fn read(location: &Location, name: &str, group: &RowGroupMetaData) -> Result<Self> {
        let ranges: Vec<(u64, u64)> = group.columns().iter().map(|column| column.byte_range()).collect();
        let start = ranges.iter().map(|(start, _)| *start).min().unwrap_or(0);
        let end = ranges.iter().map(|(start, length)| start + length).max().unwrap_or(0);
        let bytes = location.store().get_range(&location.path(name), start..end).await;
        Ok(Self { start, bytes: bytes.map_err(|error| storage_error(error, name))? })
    }
}

impl Length for Window {
    fn len(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl ChunkReader for Window {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        self.bytes.get_read(start.saturating_sub(self.start))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        ChunkReader::get_bytes(&self.bytes, start.saturating_sub(self.start), length)
    }
}

/// What the writer has written and the store has not been given.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    async fn drain_into(&self, object: &mut BufWriter, name: &str) -> Result<u64> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let written = bytes.len() as u64;
        object.put(Bytes::from(bytes)).await.map_err(|error| storage_error(error, name))?;
        Ok(written)
    }
}

impl std::io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field};
    use futures::TryStreamExt;
    use lakehead_core::Settings;

    use super::*;
    use crate::{FileFormat, FileWriter, read_file, read_rows};

    fn rows(from: i64, count: i64) -> RecordBatch {
        let schema = Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("n", DataType::Utf8, true)]);
        let ids: Int64Array = (from..from + count).collect();
        let texts: StringArray =
            (from..from + count).map(|id| (id % 7 != 0).then(|| format!("n{}", id % 100))).collect();
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(ids), Arc::new(texts)]).unwrap()
    }

    async fn file(location: &Location, name: &str, rows: &RecordBatch) -> WrittenFile {
        let format = FileFormat::from_settings(&Settings::default());
        let mut writer = FileWriter::create(location, name, &rows.schema(), format).unwrap();
        writer.write(rows).await.unwrap();
        writer.finish().await.unwrap()
    }

    fn input(file: &WrittenFile) -> SpliceInput {
        SpliceInput { name: file.name.clone(), size: file.size, rows: file.statistics.rows }
    }

    #[tokio::test]
    async fn spliced_files_hold_what_their_inputs_held() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::open("t", folder.path(), &Settings::default()).unwrap();
        let inputs = [
            input(&file(&location, "a", &rows(0, 300_000)).await),
            input(&file(&location, "b", &rows(300_000, 200_000)).await),
        ];
        let whole = file(&location, "whole", &rows(0, 500_000)).await;
        let spliced = splice(&location, "c", &inputs).await.unwrap().unwrap();
        assert_eq!(spliced.statistics, whole.statistics);
        let read: Vec<RecordBatch> = read_file(&location, "c", None).await.unwrap().try_collect().await.unwrap();
        let read = arrow::compute::concat_batches(&read[0].schema(), &read).unwrap();
        assert_eq!(read, rows(0, 500_000));
        let some = read_rows(&location, "c", &[5, 299_999, 300_000, 499_999]).await.unwrap();
        let ids: Vec<i64> = some
            .iter()
            .flat_map(|batch| batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec())
            .collect();
        assert_eq!(ids, [5, 299_999, 300_000, 499_999]);
        assert_eq!(some.iter().map(|batch| batch.column(1).null_count()).sum::<usize>(), 1);
    }

    #[tokio::test]
    async fn what_does_not_fit_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::open("t", folder.path(), &Settings::default()).unwrap();
        let large = input(&file(&location, "a", &rows(0, 100_000)).await);
        let small = input(&file(&location, "small", &rows(0, 10)).await);
        let other = rows(0, 100_000).project(&[0]).unwrap();
        let other = input(&file(&location, "other", &other).await);
        for inputs in [[small.clone(), small], [large, other]] {
            assert!(splice(&location, "c", &inputs).await.unwrap().is_none());
        }
        assert!(location.store().head(&location.path("c")).await.is_err(), "nothing was written");
    }
}
