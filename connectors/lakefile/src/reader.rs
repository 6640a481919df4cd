//! Reading our own files back, in the schema the table has today.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use lakehead_core::{Error, Result, column_type_name};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, RowSelection};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use crate::{Location, parquet_error};

/// Rows of one batch read back.
const BATCH_ROWS: usize = 65_536;

/// Reads the columns `columns` of a file (all where `None`), in the order of the file.
pub async fn read_file(
    location: &Location,
    name: &str,
    columns: Option<&[String]>,
) -> Result<impl futures::Stream<Item = Result<RecordBatch>> + Send + use<>> {
    let reader = ObjectReader::new(location, name);
    let mut builder = ParquetRecordBatchStreamBuilder::new(reader)
        .await
        .map_err(|error| parquet_error(error, name))?
        .with_batch_size(BATCH_ROWS);
    if let Some(columns) = columns {
        let names = columns.iter().map(String::as_str);
        let mask = ProjectionMask::columns(builder.parquet_schema(), names);
        builder = builder.with_projection(mask);
    }
    let name = name.to_owned();
    let stream = builder.build().map_err(|error| parquet_error(error, &name))?;
    Ok(stream.map_err(move |error| parquet_error(error, &name)))
}

/// Reads the rows of a file whose numbers, from zero, are `rows`: each once, in rising order.
pub async fn read_rows(location: &Location, name: &str, rows: &[u32]) -> Result<Vec<RecordBatch>> {
    let failed = |error| parquet_error(error, name);
    let builder = ParquetRecordBatchStreamBuilder::new(ObjectReader::new(location, name)).await.map_err(failed)?;
    let all = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    let ranges = rows.iter().map(|row| *row as usize..*row as usize + 1);
    let selection = RowSelection::from_consecutive_ranges(ranges, all);
    let stream = builder.with_batch_size(BATCH_ROWS).with_row_selection(selection).build().map_err(failed)?;
    stream.try_collect().await.map_err(failed)
}

/// Reads the schema of a file.
pub async fn read_schema(location: &Location, name: &str) -> Result<SchemaRef> {
    let reader = ObjectReader::new(location, name);
    let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(|error| parquet_error(error, name))?;
    Ok(Arc::clone(builder.schema()))
}

/// Byte ranges of one object, for the Parquet reader.
pub(crate) struct ObjectReader {
    store: Arc<dyn ObjectStore>,
    path: Path,
}

impl ObjectReader {
    pub(crate) fn new(location: &Location, name: &str) -> Self {
        Self { store: Arc::clone(location.store()), path: location.path(name) }
    }
}

fn external(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl AsyncFileReader for ObjectReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move { self.store.get_range(&self.path, range).await.map_err(external) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        async move { self.store.get_ranges(&self.path, &ranges).await.map_err(external) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move {
            let size = self.store.head(&self.path).await.map_err(external)?.size;
            let metadata = ParquetMetaDataReader::new().load_and_finish(self, size).await?;
            Ok(Arc::new(metadata))
        }
        .boxed()
    }
}

/// Casts a column without changing a value: one that the other type cannot hold is an error, never NULL and never rounded.
pub fn cast_exactly(column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let from = column.data_type();
    if from == to {
        return Ok(Arc::clone(column));
    }
    let inexact = || {
        Error::incident("R0411", "a value does not fit the type it is read as")
            .with("holds", column_type_name(from))
            .with("read as", column_type_name(to))
            .help("declare the column as wide as the file holds it")
    };
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let cast = cast_with_options(column, to, &options).map_err(|error| inexact().caused_by(error))?;
    let may_round = from.is_numeric() || from.is_temporal();
    if may_round && (to.is_numeric() || to.is_temporal()) {
        let back = cast_with_options(&cast, from, &options).map_err(|error| inexact().caused_by(error))?;
        if distinct(&back, column)?.true_count() > 0 {
            return Err(inexact());
        }
    }
    Ok(cast)
}

/// Brings rows to `schema`: columns by name, nulls for a column that the file does not have yet, casts only where the
/// file's physical form differs (a wider type after an evolution).
pub fn conform(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if rows.schema_ref() == schema {
        return Ok(rows.clone());
    }
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let column = match rows.column_by_name(field.name()) {
            None => new_null_array(field.data_type(), rows.num_rows()),
            Some(column) if column.data_type() == field.data_type() => Arc::clone(column),
            Some(column) => {
                cast_exactly(column, field.data_type()).map_err(|error| error.with("column", field.name()))?
            }
        };
        columns.push(column);
    }
    let nullable: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(nullable)), columns, &options)
        .map_err(|error| Error::bug("rows do not fit their own schema").caused_by(error))
}
