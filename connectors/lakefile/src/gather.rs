//! Small files read together: beginning to decode a column costs more than decoding a few thousand values of it.
//!
//! A page says how it is encoded and says nothing of its place, so that the pages of one column of several files, behind
//! one another, are one column's. A dictionary is good for the pages of one file: columns that have one are decoded file
//! by file.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use bytes::Bytes;
use lakehead_core::Result;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::Encoding;
use parquet::errors;
use parquet::file::metadata::{ColumnChunkMetaData, FileMetaData, ParquetMetaDataBuilder, RowGroupMetaData};

use crate::reader::{BATCH_ROWS, whole_times};
use crate::{Location, parquet_error};

/// Bytes that may be decoded at once.
const DECODED_BYTES_MAX: i64 = 64 << 20;

/// Reads small files whole, each with one request; returns the rows of each.
pub async fn read_gathered(location: &Location, names: &[String]) -> Result<Vec<Vec<RecordBatch>>> {
    let files = location.read_small(names).await?.into_iter().zip(names);
    let files: Vec<SmallFile> = files.map(|(bytes, name)| SmallFile::open(bytes, name)).collect::<Result<_>>()?;
    // What is wrong with a file is for its own reading to say.
    if let Ok(Some(rows)) = decode_together(&files) {
        return Ok(rows.into_iter().map(|rows| vec![rows]).collect());
    }
    files.iter().map(|file| file.decode(None).map_err(|error| parquet_error(error, &file.name))).collect()
}

/// A file in memory.
struct SmallFile {
    name: String,
    bytes: Bytes,
    metadata: ArrowReaderMetadata,
}

impl SmallFile {
    fn open(bytes: Bytes, name: &str) -> Result<Self> {
        let metadata = ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::new()).and_then(whole_times);
        let metadata = metadata.map_err(|error| parquet_error(error, name))?;
        Ok(Self { name: name.to_owned(), bytes, metadata })
    }

    /// Decodes the columns of `mask`, all where it is none.
    fn decode(&self, mask: Option<ProjectionMask>) -> errors::Result<Vec<RecordBatch>> {
        decode(self.bytes.clone(), self.metadata.clone(), mask, BATCH_ROWS)
    }

    /// Puts the columns `joined` of its rows, which are there, beside the columns `single`, which are decoded.
    fn complete(&self, rows: &RecordBatch, joined: &[usize], single: &[usize]) -> errors::Result<RecordBatch> {
        let schema = self.metadata.schema();
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), single.iter().copied());
        let others = concat_batches(&Arc::new(schema.project(single)?), &self.decode(Some(mask))?)?;
        let column = |root: usize| match joined.binary_search(&root) {
            Ok(place) => Arc::clone(rows.column(place)),
            Err(before) => Arc::clone(others.column(root - before)),
        };
        Ok(RecordBatch::try_new(Arc::clone(schema), (0..schema.fields().len()).map(column).collect())?)
    }

    /// Returns its row group, where it has just one that holds rows.
    fn group(&self) -> Option<&RowGroupMetaData> {
        match self.metadata.metadata().row_groups() {
            [group] if group.num_rows() > 0 => Some(group),
            _ => None,
        }
    }

    /// Returns the bytes of one column.
    fn chunk(&self, column: &ColumnChunkMetaData) -> Option<&[u8]> {
        let (start, length) = column.byte_range();
        let start = usize::try_from(start).ok()?;
        self.bytes.get(start..start.checked_add(usize::try_from(length).ok()?)?)
    }
}

fn decode(
    bytes: Bytes,
    metadata: ArrowReaderMetadata,
    mask: Option<ProjectionMask>,
    batch_rows: usize,
) -> errors::Result<Vec<RecordBatch>> {
    let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata).with_batch_size(batch_rows);
    if let Some(mask) = mask {
        builder = builder.with_projection(mask);
    }
    Ok(builder.build()?.collect::<std::result::Result<_, _>>()?)
}

/// Returns the rows of each file; none where the files are not of one kind, or no column of theirs can be joined.
fn decode_together(files: &[SmallFile]) -> errors::Result<Option<Vec<RecordBatch>>> {
    let Some(groups) = files.iter().map(SmallFile::group).collect::<Option<Vec<_>>>() else { return Ok(None) };
    let [first, _, ..] = files else { return Ok(None) };
    let (schema, columns) = (first.metadata.parquet_schema(), first.metadata.schema());
    let alike = |file: &SmallFile| {
        file.metadata.parquet_schema().root_schema() == schema.root_schema() && file.metadata.schema() == columns
    };
    if !files.iter().all(alike) || groups.iter().map(|group| group.total_byte_size()).sum::<i64>() > DECODED_BYTES_MAX {
        return Ok(None);
    }
    let leaves: Vec<bool> = (0..schema.num_columns()).map(|leaf| can_be_joined(&groups, leaf)).collect();
    let can_be_joined = |root: &usize| {
        leaves.iter().enumerate().all(|(leaf, joined)| *joined || schema.get_column_root_idx(leaf) != *root)
    };
    let (joined, single): (Vec<usize>, Vec<usize>) = (0..columns.fields().len()).partition(can_be_joined);
    if joined.is_empty() {
        return Ok(None);
    }
    let Some((bytes, metadata)) = join(files, &groups, &leaves)? else { return Ok(None) };
    let mask = ProjectionMask::roots(schema, joined.iter().copied());
    let rows = usize::try_from(metadata.metadata().file_metadata().num_rows()).unwrap_or(usize::MAX);
    let together = decode(bytes, metadata, Some(mask), rows)?;
    let [together] = together.as_slice() else { return Ok(None) };
    let mut start = 0;
    let mut each = Vec::with_capacity(files.len());
    for (file, group) in files.iter().zip(groups) {
        let rows = usize::try_from(group.num_rows()).unwrap_or(0);
        if start + rows > together.num_rows() {
            return Ok(None);
        }
        let slice = together.slice(start, rows);
        start += rows;
        each.push(if single.is_empty() { slice } else { file.complete(&slice, &joined, &single)? });
    }
    Ok((start == together.num_rows()).then_some(each))
}

/// Returns whether the pages of a column may stand behind one another: packed alike, and none with a dictionary.
fn can_be_joined(groups: &[&RowGroupMetaData], leaf: usize) -> bool {
    let first = groups.first().map(|group| group.column(leaf).compression());
    groups.iter().map(|group| group.column(leaf)).all(|column| {
        let of_dictionary = |encoding| matches!(encoding, Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY);
        let has_dictionary = column.dictionary_page_offset().is_some() || column.encodings().any(of_dictionary);
        !has_dictionary && Some(column.compression()) == first
    })
}

/// Puts the pages of the columns that `leaves` says behind one another, as one row group; the others stay empty. None where
/// a file ends before its pages do.
fn join(
    files: &[SmallFile],
    groups: &[&RowGroupMetaData],
    leaves: &[bool],
) -> errors::Result<Option<(Bytes, ArrowReaderMetadata)>> {
    let first = files[0].metadata.metadata().file_metadata();
    let mut bytes = Vec::with_capacity(files.iter().map(|file| file.bytes.len()).sum());
    let mut columns = Vec::with_capacity(leaves.len());
    for (leaf, joined) in leaves.iter().enumerate() {
        let chunks: Vec<&ColumnChunkMetaData> = groups.iter().map(|group| group.column(leaf)).collect();
        let column = ColumnChunkMetaData::builder(chunks[0].column_descr_ptr());
        if !joined {
            columns.push(column.build()?);
            continue;
        }
        let start = bytes.len() as i64;
        for (file, chunk) in files.iter().zip(&chunks) {
            let Some(pages) = file.chunk(chunk) else { return Ok(None) };
            bytes.extend_from_slice(pages);
        }
        let column = column
            .set_compression(chunks[0].compression())
            .set_encodings_mask(*chunks[0].encodings_mask())
            .set_num_values(chunks.iter().map(|chunk| chunk.num_values()).sum())
            .set_total_compressed_size(bytes.len() as i64 - start)
            .set_total_uncompressed_size(chunks.iter().map(|chunk| chunk.uncompressed_size()).sum())
            .set_data_page_offset(start);
        columns.push(column.build()?);
    }
    let rows = groups.iter().map(|group| group.num_rows()).sum();
    let group = RowGroupMetaData::builder(first.schema_descr_ptr()).set_num_rows(rows).set_column_metadata(columns);
    let file = FileMetaData::new(
        first.version(),
        rows,
        first.created_by().map(str::to_owned),
        first.key_value_metadata().cloned(),
        first.schema_descr_ptr(),
        first.column_orders().cloned(),
    );
    let metadata = ParquetMetaDataBuilder::new(file).add_row_group(group.build()?).build();
    let metadata = ArrowReaderMetadata::try_new(Arc::new(metadata), ArrowReaderOptions::new()).and_then(whole_times)?;
    Ok(Some((bytes.into(), metadata)))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, ListArray, StringArray};
    use arrow::datatypes::Int64Type;
    use futures::TryStreamExt;
    use lakehead_core::{Settings, Value};

    use super::*;
    use crate::{FileFormat, FileWriter, read_file};

    /// Words that repeat themselves, so that they get a dictionary; numbers, texts and lists that do not.
    fn rows(from: i64, count: i64, with_words: bool) -> RecordBatch {
        let ids: ArrayRef =
            Arc::new((from..from + count).map(|id| (id % 11 != 0).then_some(id)).collect::<Int64Array>());
        let texts: ArrayRef = Arc::new((from..from + count).map(|id| Some(format!("n{id}"))).collect::<StringArray>());
        let list = |id: i64| (id % 3 != 0).then(|| (0..id % 4).map(move |n| Some(id * 10 + n)).collect::<Vec<_>>());
        let lists: ArrayRef =
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>((from..from + count).map(list)));
        let mut columns = vec![("id", ids), ("text", texts), ("lists", lists)];
        if with_words {
            let words = (from..from + count).map(|id| Some(["red", "green", "blue"][id as usize % 3]));
            columns.insert(1, ("word", Arc::new(words.collect::<StringArray>())));
        }
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
            .unwrap()
    }

    async fn write(location: &Location, name: &str, rows: &RecordBatch) -> String {
        // Said, so that files of few rows are packed as the others are.
        let format = FileFormat::from_settings(&Settings::new([("compression".into(), Value::Name("zstd".into()))]));
        let mut writer = FileWriter::create(location, name, &rows.schema(), format).unwrap();
        if rows.num_rows() > 0 {
            writer.write(rows).await.unwrap();
        }
        writer.finish().await.unwrap();
        name.to_owned()
    }

    /// Reads files together and one by one; returns whether they could be decoded together.
    async fn together(location: &Location, names: &[String]) -> bool {
        let mut alone = Vec::new();
        for name in names {
            let batches: Vec<_> = read_file(location, name, None).await.unwrap().try_collect().await.unwrap();
            alone.push(batches);
        }
        assert_eq!(read_gathered(location, names).await.unwrap(), alone);
        let read = location.read_small(names).await.unwrap();
        let files: Vec<_> =
            read.into_iter().zip(names).map(|(bytes, name)| SmallFile::open(bytes, name).unwrap()).collect();
        decode_together(&files).unwrap().is_some()
    }

    #[tokio::test]
    async fn files_read_together_hold_what_each_holds() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::open("t", folder.path(), &Settings::default()).unwrap();
        let mut names = Vec::new();
        for (n, count) in [(0, 700), (1, 1), (2, 1500), (3, 40)] {
            names.push(write(&location, &format!("a{n}"), &rows(n * 2000, count, true)).await);
        }
        assert!(together(&location, &names).await, "its lists have dictionaries, and its words");
        assert!(!together(&location, &names[..1]).await, "one file is read as it is");
        let plain = [
            write(&location, "p0", &rows(0, 900, false).project(&[0, 1]).unwrap()).await,
            write(&location, "p1", &rows(900, 900, false).project(&[0, 1]).unwrap()).await,
        ];
        assert!(together(&location, &plain).await);
        let empty = write(&location, "empty", &rows(0, 0, true)).await;
        assert!(!together(&location, &[names[0].clone(), empty]).await);
        assert!(!together(&location, &[names[0].clone(), plain[0].clone()]).await, "other columns");
    }

    #[tokio::test]
    async fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::open("t", folder.path(), &Settings::default()).unwrap();
        let names = [
            write(&location, "sound", &rows(0, 900, false)).await,
            write(&location, "broken", &rows(900, 900, false)).await,
        ];
        let path = folder.path().join("t/broken");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20..200].fill(7);
        std::fs::write(&path, bytes).unwrap();
        let error = read_gathered(&location, &names).await.unwrap_err().to_string();
        assert!(error.contains("broken"), "{error}");
    }
}
