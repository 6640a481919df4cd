//! Some rows of one Parquet or ORC file, and of the file no more than they need: parts are left out by their least and
//! greatest values, columns that are not asked for are not read, the others only where the condition holds. The parts are
//! row groups and pages of Parquet, stripes and groups of their rows of ORC.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use lakehead_core::Result;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, RowFilter, RowSelection, RowSelector,
};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};

use crate::reader::ObjectReader;
use crate::selective_orc::OrcParts;
use crate::wary::{calm, calm_stream, calmly, read_footer, with_page_index};
use crate::{FileKind, Location, parquet_error, whole_times};

/// Bytes at the end of a file that are read at once: the footer of most files lies in them.
const FOOTER_BYTES: u64 = 64 << 10;

/// Per column the least values, the greatest values and the numbers of NULLs of some parts.
pub type Extremes = BTreeMap<String, [ArrayRef; 3]>;

/// Answers for so many parts, by the extremes there, whether rows of each may be wanted.
pub type Keeps = Box<dyn Fn(usize, &Extremes) -> Vec<bool> + Send + Sync>;

/// Answers for each row whether it is wanted.
pub type Holds = Box<dyn FnMut(&RecordBatch) -> Result<BooleanArray> + Send>;

/// Which rows are wanted.
pub struct Condition {
    /// The columns it reads.
    pub columns: Vec<String>,
    /// Says of each part, by the extremes there, whether rows of it may be wanted.
    pub keeps: Keeps,
    /// Says of each row, by those columns in the order of the file, whether it is wanted.
    pub holds: Holds,
}

/// One file, its footer read.
pub struct SelectiveFile {
    body: Body,
    bytes: Arc<AtomicU64>,
}

enum Body {
    Parquet(ParquetParts),
    Orc(OrcParts),
}

impl SelectiveFile {
    /// Reads the footer, and the page index of a Parquet file.
    pub async fn open(location: &Location, object: &str) -> Result<Self> {
        let bytes: Arc<AtomicU64> = Arc::default();
        let body = match FileKind::of_name(&object.to_ascii_lowercase()) {
            FileKind::Orc => Body::Orc(OrcParts::open(location, object, Arc::clone(&bytes)).await?),
            _ => Body::Parquet(ParquetParts::open(location, object, Arc::clone(&bytes)).await?),
        };
        Ok(Self { body, bytes })
    }

    /// Returns the file's columns.
    pub fn schema(&self) -> &SchemaRef {
        match &self.body {
            Body::Parquet(file) => file.metadata.schema(),
            Body::Orc(file) => file.schema(),
        }
    }

    /// Returns the counter of bytes that were read of the file.
    pub fn bytes_read(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.bytes)
    }

    /// Reads the columns `columns` of the first `limit` rows that are wanted.
    pub fn read(
        self,
        columns: &[String],
        condition: Option<Condition>,
        limit: usize,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        match self.body {
            Body::Parquet(file) => file.read(columns, condition, limit),
            Body::Orc(file) => Ok(file.read(columns, condition, limit)),
        }
    }
}

/// A Parquet file.
struct ParquetParts {
    name: String,
    reader: Counting,
    metadata: ArrowReaderMetadata,
}

impl ParquetParts {
    async fn open(location: &Location, object: &str, bytes: Arc<AtomicU64>) -> Result<Self> {
        let name = location.place(object);
        let failed = |error| parquet_error(error, &name);
        let mut reader = Counting { inner: ObjectReader::new(location, object), bytes };
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let loaded = calm(ArrowReaderMetadata::load_async(&mut reader, options)).await;
        let metadata = loaded.and_then(|metadata| metadata).and_then(whole_times).map_err(failed)?;
        Ok(Self { name, reader, metadata })
    }

    fn read(
        self,
        columns: &[String],
        condition: Option<Condition>,
        limit: usize,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let name = self.name.clone();
        let failed = |error| parquet_error(error, &name);
        let kept = calmly(|| condition.as_ref().map(|condition| self.kept(condition)).transpose());
        let kept = kept.and_then(|kept| kept).map_err(failed)?;
        let parquet_schema = self.metadata.metadata().file_metadata().schema_descr_ptr();
        let mask = |names: &[String]| ProjectionMask::columns(&parquet_schema, names.iter().map(String::as_str));
        let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(self.reader, self.metadata)
            .with_projection(mask(columns))
            .with_limit(limit);
        if let Some((groups, selection)) = kept {
            builder = builder.with_row_groups(groups).with_row_selection(selection);
        }
        // The library makes a text of it.
        let failure = Arc::new(Mutex::new(None));
        if let Some(mut condition) = condition {
            let failure = Arc::clone(&failure);
            let wanted = ArrowPredicateFn::new(mask(&condition.columns), move |rows: RecordBatch| {
                (condition.holds)(&rows).map_err(|error| {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    arrow::error::ArrowError::ComputeError("a condition cannot be computed".into())
                })
            });
            builder = builder.with_row_filter(RowFilter::new(vec![Box::new(wanted)]));
        }
        let stream = calmly(|| builder.build()).and_then(|built| built).map_err(failed)?;
        let failed = move |error| {
            let own = failure.lock().unwrap_or_else(PoisonError::into_inner).take();
            own.unwrap_or_else(|| parquet_error(error, &name))
        };
        Ok(calm_stream(stream).map_err(failed).boxed())
    }

    /// Returns the row groups that may hold wanted rows, and of these the rows whose pages may.
    fn kept(&self, condition: &Condition) -> parquet::errors::Result<(Vec<usize>, RowSelection)> {
        let metadata = self.metadata.metadata();
        let groups = metadata.row_groups();
        let mut extremes = Extremes::new();
        for column in &condition.columns {
            let Some(converter) = self.converter(column) else { continue };
            let least = converter.row_group_mins(groups.iter())?;
            let greatest = converter.row_group_maxes(groups.iter())?;
            let nulls: ArrayRef = Arc::new(converter.row_group_null_counts(groups.iter())?);
            extremes.insert(column.clone(), [least, greatest, nulls]);
        }
        let flags = (condition.keeps)(groups.len(), &extremes);
        let kept: Vec<usize> = (0..groups.len()).filter(|group| flags.get(*group).copied().unwrap_or(true)).collect();
        let mut selectors: Vec<RowSelector> = Vec::new();
        for group in &kept {
            let rows = usize::try_from(groups[*group].num_rows()).unwrap_or(0);
            let mut selection = RowSelection::from(vec![RowSelector::select(rows)]);
            for column in &condition.columns {
                if let Some(pages) = self.kept_pages(condition, column, *group, rows)? {
                    selection = selection.intersection(&pages);
                }
            }
            selectors.extend(Vec::<RowSelector>::from(selection));
        }
        Ok((kept, RowSelection::from(selectors)))
    }

    fn converter(&self, column: &str) -> Option<StatisticsConverter<'_>> {
        let descriptor = self.metadata.parquet_schema();
        StatisticsConverter::try_new(column, self.metadata.schema(), descriptor).ok()
    }

    /// Returns the rows of a group whose pages of `column` may hold wanted rows; `None` where nothing is known of pages.
    fn kept_pages(
        &self,
        condition: &Condition,
        column: &str,
        group: usize,
        rows: usize,
    ) -> parquet::errors::Result<Option<RowSelection>> {
        let metadata = self.metadata.metadata();
        let (Some(columns), Some(offsets)) = (metadata.column_index(), metadata.offset_index()) else {
            return Ok(None);
        };
        let Some(converter) = self.converter(column) else { return Ok(None) };
        let Some(place) = converter.parquet_column_index() else { return Ok(None) };
        let Some(pages) = offsets.get(group).and_then(|columns| columns.get(place)) else { return Ok(None) };
        let starts: Vec<usize> =
            pages.page_locations().iter().map(|page| usize::try_from(page.first_row_index).unwrap_or(0)).collect();
        let least = converter.data_page_mins(columns, offsets, [&group])?;
        let greatest = converter.data_page_maxes(columns, offsets, [&group])?;
        let nulls: ArrayRef = Arc::new(converter.data_page_null_counts(columns, offsets, [&group])?);
        if least.len() != starts.len() {
            return Ok(None);
        }
        let extremes = Extremes::from([(column.to_owned(), [least, greatest, nulls])]);
        let flags = (condition.keeps)(starts.len(), &extremes);
        let end = |page: usize| starts.get(page + 1).copied().unwrap_or(rows);
        let ranges = (0..starts.len()).filter(|page| flags.get(*page).copied().unwrap_or(true));
        Ok(Some(RowSelection::from_consecutive_ranges(ranges.map(|page| starts[page]..end(page)), rows)))
    }
}

/// Counts what is read.
struct Counting {
    inner: ObjectReader,
    bytes: Arc<AtomicU64>,
}

impl AsyncFileReader for Counting {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        self.bytes.fetch_add(range.end - range.start, Ordering::Relaxed);
        self.inner.get_bytes(range)
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        self.bytes.fetch_add(ranges.iter().map(|range| range.end - range.start).sum(), Ordering::Relaxed);
        self.inner.get_byte_ranges(ranges)
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move {
            let size = self.inner.size().await?;
            let metadata = read_footer(self, size, FOOTER_BYTES).await?;
            Ok(Arc::new(with_page_index(self, metadata).await))
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::compute::kernels::cmp;
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use lakehead_core::{Error, Settings};

    use super::*;
    use crate::{FileFormat, FileIndexes, FileWriter};

    /// A file of four row groups; one row in the third is wanted.
    #[tokio::test]
    async fn few_rows_cost_few_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::open("t", folder.path(), &Settings::default()).unwrap();
        let schema =
            Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("n", DataType::Utf8, true)]));
        let format = FileFormat::from_settings(&Settings::default());
        let mut writer =
            FileWriter::create_indexed(&location, "a.parquet", &schema, format, &FileIndexes::default()).unwrap();
        for from in (0..1_000_000_i64).step_by(50_000) {
            let ids: Int64Array = (from..from + 50_000).collect();
            let texts: StringArray =
                (from..from + 50_000).map(|id| Some(format!("{:x}", id.wrapping_mul(2_654_435_761)))).collect();
            writer
                .write(&RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(ids), Arc::new(texts)]).unwrap())
                .await
                .unwrap();
        }
        let size = writer.finish().await.unwrap().size;
        let wanted = 654_321_i64;
        let file = SelectiveFile::open(&location, "a.parquet").await.unwrap();
        let bytes = file.bytes_read();
        let condition = Condition {
            columns: vec!["id".into()],
            keeps: Box::new(move |parts, extremes| {
                let Some([least, greatest, _]) = extremes.get("id") else { return vec![true; parts] };
                let (least, greatest) = (least.as_primitive::<Int64Type>(), greatest.as_primitive::<Int64Type>());
                (0..parts).map(|part| least.value(part) <= wanted && wanted <= greatest.value(part)).collect()
            }),
            holds: Box::new(move |rows| Ok(cmp::eq(rows.column(0), &Int64Array::new_scalar(wanted))?)),
        };
        let columns = ["id".to_owned(), "n".to_owned()];
        let found: Vec<RecordBatch> = file.read(&columns, Some(condition), 20).unwrap().try_collect().await.unwrap();
        let rows: usize = found.iter().map(RecordBatch::num_rows).sum();
        assert_eq!((rows, found[0].column(0).as_primitive::<Int64Type>().value(0)), (1, wanted));
        let read = bytes.load(Ordering::Relaxed);
        assert!(read * 8 < size, "{read} of {size} bytes");
        let wrong = Condition {
            columns: vec!["id".into()],
            keeps: Box::new(|parts, _| vec![true; parts]),
            holds: Box::new(|_| Err(Error::user("R0101", "an expression failed"))),
        };
        let file = SelectiveFile::open(&location, "a.parquet").await.unwrap();
        let found: Result<Vec<RecordBatch>> = file.read(&columns, Some(wrong), 20).unwrap().try_collect().await;
        assert_eq!(found.unwrap_err().code(), "R0101", "the file is sound");
    }
}
