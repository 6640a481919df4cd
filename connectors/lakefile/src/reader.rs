//! Reading our own files back, in the schema the table has today.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use lakehead_core::{Error, Result, column_type_name};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::basic::Type as PhysicalType;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;

use crate::wary::{calm, calm_stream, calmly, check_pages, read_footer};
use crate::{FileKind, Location, parquet_error, storage_error};

/// Rows of one batch read back.
pub(crate) const BATCH_ROWS: usize = 65_536;

/// Reads the columns `columns` of a file (all where `None`), in the order of the file.
pub async fn read_file(
    location: &Location,
    name: &str,
    columns: Option<&[String]>,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    read_batches(location, name, columns, BATCH_ROWS).await
}

/// Reads a file as [`read_file`] does, at most `rows` of it at once: what it takes of memory, where rows are wide.
pub async fn read_batches(
    location: &Location,
    name: &str,
    columns: Option<&[String]>,
    rows: usize,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    if FileKind::of_name(name) == FileKind::Orc {
        let reader = crate::orc::read_orc(location, name, columns, rows).await?;
        return Ok(crate::orc::orc_batches(reader, location.place(name)));
    }
    let place = location.place(name);
    let mut builder = open(location, name).await.map_err(|error| parquet_error(error, &place))?;
    builder = builder.with_batch_size(rows);
    if let Some(columns) = columns {
        let names = columns.iter().map(String::as_str);
        let mask = ProjectionMask::columns(builder.parquet_schema(), names);
        builder = builder.with_projection(mask);
    }
    let stream = calmly(|| builder.build()).and_then(|built| built).map_err(|error| parquet_error(error, &place))?;
    Ok(calm_stream(stream).map_err(move |error| parquet_error(error, &place)).boxed())
}

/// Reads the rows of a file whose numbers, from zero, are `rows`: each once, in rising order.
pub async fn read_rows(location: &Location, name: &str, rows: &[u32]) -> Result<Vec<RecordBatch>> {
    let place = location.place(name);
    let failed = |error| parquet_error(error, &place);
    let builder = open(location, name).await.map_err(failed)?;
    let all = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    let ranges = rows.iter().map(|row| *row as usize..*row as usize + 1);
    let selection = RowSelection::from_consecutive_ranges(ranges, all);
    let stream = builder.with_batch_size(BATCH_ROWS).with_row_selection(selection).build().map_err(failed)?;
    calm_stream(stream).try_collect().await.map_err(failed)
}

/// Reads the schema of a file.
pub async fn read_schema(location: &Location, name: &str) -> Result<SchemaRef> {
    if FileKind::of_name(name) == FileKind::Orc {
        return Ok(Arc::clone(crate::orc::read_orc(location, name, None, BATCH_ROWS).await?.schema()));
    }
    let builder = open(location, name).await.map_err(|error| parquet_error(error, &location.place(name)))?;
    Ok(Arc::clone(builder.schema()))
}

pub(crate) async fn open(
    location: &Location,
    name: &str,
) -> parquet::errors::Result<ParquetRecordBatchStreamBuilder<ObjectReader>> {
    let mut reader = ObjectReader::new(location, name);
    let metadata = calm(ArrowReaderMetadata::load_async(&mut reader, ArrowReaderOptions::new())).await??;
    Ok(ParquetRecordBatchStreamBuilder::new_with_metadata(reader, whole_times(metadata)?))
}

/// Has times of 96 bits (Spark's form) read in microseconds: in nanoseconds, what lies before 1678 or behind 2262 would
/// come back as another time.
pub fn whole_times(metadata: ArrowReaderMetadata) -> parquet::errors::Result<ArrowReaderMetadata> {
    let columns = metadata.parquet_schema().columns();
    if columns.iter().all(|column| column.physical_type() != PhysicalType::INT96) {
        return Ok(metadata);
    }
    let mut leaves = columns.iter().map(|column| column.physical_type());
    let fields: Vec<_> = metadata.schema().fields().iter().map(|field| in_micros(field, &mut leaves)).collect();
    let schema = Schema::new_with_metadata(fields, metadata.schema().metadata().clone());
    let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
    ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options)
}

/// Walks a column; `leaves` are the physical columns from its first one on.
fn in_micros(field: &FieldRef, leaves: &mut impl Iterator<Item = PhysicalType>) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::List(item) => DataType::List(in_micros(item, leaves)),
        DataType::Map(entries, sorted) => DataType::Map(in_micros(entries, leaves), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| in_micros(field, leaves)).collect()),
        leaf => match (leaves.next(), leaf) {
            (Some(PhysicalType::INT96), DataType::Timestamp(_, zone)) => {
                DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
            }
            _ => leaf.clone(),
        },
    };
    Arc::new(field.as_ref().clone().with_data_type(data_type))
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

    pub(crate) async fn size(&self) -> parquet::errors::Result<u64> {
        Ok(self.store.head(&self.path).await.map_err(external)?.size)
    }
}

/// Returns the bytes of an object; `None` where there is none.
pub async fn object_size(location: &Location, name: &str) -> Result<Option<u64>> {
    match location.store().head(&location.path(name)).await {
        Ok(found) => Ok(Some(found.size)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(storage_error(error, name)),
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
        async move {
            let found = self.store.get_ranges(&self.path, &ranges).await.map_err(external)?;
            found.iter().try_for_each(|pages| check_pages(pages).map(drop))?;
            Ok(found)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move {
            let size = self.size().await?;
            Ok(Arc::new(read_footer(self, size, 0).await?))
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

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::TimestampMicrosecondType;
    use lakehead_core::Settings;
    use parquet::data_type::{Int64Type, Int96, Int96Type};
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    /// A day as Julius counted it, and nanoseconds of the day.
    fn int96(day: u32, nanos: u64) -> Int96 {
        Int96::from(vec![(nanos & 0xffff_ffff) as u32, (nanos >> 32) as u32, day])
    }

    #[tokio::test]
    async fn times_of_96_bits_are_whole_near_and_far() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::open("t", folder.path(), &Settings::default()).unwrap();
        std::fs::create_dir_all(folder.path().join("t")).unwrap();
        let file = std::fs::File::create(folder.path().join("t/a.parquet")).unwrap();
        let columns = "message m { required int64 id; optional int96 at;
            optional group times (LIST) { repeated group list { optional int96 element; } } }";
        let schema = Arc::new(parse_message_type(columns).unwrap());
        let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&[1, 2, 3], None, None).unwrap();
        column.close().unwrap();
        let times = [int96(1_721_426, 0), int96(5_373_484, 86_399_999_999_000)];
        for (defined, repeated) in [([1_i16, 1, 0], None), ([3, 3, 0], Some([0_i16, 1, 0].as_slice()))] {
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<Int96Type>().write_batch(&times, Some(&defined), repeated).unwrap();
            if repeated.is_some() {
                // A third row.
                column.typed::<Int96Type>().write_batch(&[], Some(&[0]), Some(&[0])).unwrap();
            }
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();

        let batches: Vec<_> = read_file(&location, "a.parquet", None).await.unwrap().try_collect().await.unwrap();
        let micros = |array: &ArrayRef| array.as_primitive::<TimestampMicrosecondType>().iter().collect::<Vec<_>>();
        let far = [Some(-62_135_596_800_000_000), Some(253_402_300_799_999_999)];
        assert_eq!(micros(batches[0].column(1)), [far[0], far[1], None]);
        assert_eq!(micros(batches[0].column(2).as_list::<i32>().values()), far);
        let twice = ["a.parquet".to_owned(), "a.parquet".to_owned()];
        assert_eq!(crate::read_gathered(&location, &twice).await.unwrap(), [batches.clone(), batches]);
        let rows = read_rows(&location, "a.parquet", &[1]).await.unwrap();
        assert_eq!(micros(rows[0].column(1)), [far[1]]);
    }
}
