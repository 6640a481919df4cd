//! One file, from batches to a durable object.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use lakehead_core::{Error, Result, Settings};
use object_store::buffered::BufWriter;
use parquet::arrow::ArrowSchemaConverter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use serde::{Deserialize, Serialize};

use crate::body::ParquetBody;
use crate::chunk::UNPACKED_BYTES;
use crate::encoding::{incompressible, without_dictionary};
use crate::groups::RowGroups;
use crate::orc::OrcBody;
use crate::{FileStatistics, Location, parquet_error};

/// Rows of a row group: a few hundred kilobytes to some megabytes a column, and a bounded writer.
const ROW_GROUP_ROWS: usize = 256 * 1024;
/// Bytes of a row group, encoded, where wide rows would make fewer of them large: what a writer holds in memory.
const ROW_GROUP_BYTES: usize = 64 << 20;
/// How often a bloom filter may say "perhaps" of a value that is not there: one row group in a hundred is read in vain.
const BLOOM_FALSE_POSITIVES: f64 = 0.01;

/// What kind of file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileKind {
    /// Apache Parquet.
    #[default]
    Parquet,
    /// Apache ORC.
    Orc,
}

impl FileKind {
    /// Returns what the names of such files end with, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Orc => "orc",
        }
    }

    /// Returns the kind that a file's name tells; Parquet where it ends with no other's word.
    pub fn of_name(name: &str) -> Self {
        if name.ends_with(".orc") { Self::Orc } else { Self::Parquet }
    }
}

/// How a file is encoded.
#[derive(Clone, Copy, Debug)]
pub struct FileFormat {
    kind: FileKind,
    compression: Compression,
    /// Whether the sink says which compression.
    told: bool,
}

impl FileFormat {
    /// Reads `compression` from a sink's settings; zstd level 1 where it says nothing (measured best for its CPU).
    pub fn from_settings(settings: &Settings) -> Self {
        let compression = match settings.text("compression") {
            Some("none") => Compression::UNCOMPRESSED,
            Some("snappy") => Compression::SNAPPY,
            Some("gzip") => Compression::GZIP(Default::default()),
            Some("lz4") => Compression::LZ4_RAW,
            _ => Compression::ZSTD(ZstdLevel::try_new(1).unwrap_or_default()),
        };
        Self { kind: FileKind::Parquet, compression, told: settings.text("compression").is_some() }
    }

    /// Returns the same for files that are soon written anew: packed with less work, where the sink says nothing.
    ///
    /// Snappy takes a third of the CPU of zstd 1 and is what every reader knows; a merge packs the rows tighter.
    pub fn for_a_while(self) -> Self {
        Self { compression: if self.told { self.compression } else { Compression::SNAPPY }, ..self }
    }

    /// Returns the same for files of `kind`.
    pub fn of(self, kind: FileKind) -> Self {
        Self { kind, ..self }
    }

    /// Returns the kind of file.
    pub fn kind(self) -> FileKind {
        self.kind
    }

    fn properties(self) -> WriterPropertiesBuilder {
        WriterProperties::builder()
            .set_compression(self.compression)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_statistics_truncate_length(Some(128))
            .set_created_by(concat!("lakehead ", env!("CARGO_PKG_VERSION")).to_owned())
    }
}

/// What a file tells its readers beside the rows, so that they read less: always the least and greatest value of every
/// page (the page index), and what this says.
#[derive(Clone, Debug, Default)]
pub struct FileIndexes {
    /// Columns that get a bloom filter: those that a reader asks for one value. Names that the file does not have, and
    /// types that have no filter, are passed over.
    pub keys: Vec<String>,
    /// Columns by which the rows rise, NULL first; the writer is told, it does not sort.
    pub sorted_by: Vec<String>,
}

impl FileIndexes {
    fn apply(&self, mut properties: WriterPropertiesBuilder, schema: &SchemaRef) -> WriterPropertiesBuilder {
        for key in self.filtered(schema) {
            let path = ColumnPath::new(vec![key.clone()]);
            properties = properties
                .set_column_bloom_filter_enabled(path.clone(), true)
                .set_column_bloom_filter_fpp(path, BLOOM_FALSE_POSITIVES);
        }
        properties
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
            .set_sorting_columns(self.sorting_columns(schema))
    }

    /// Returns the keys that get a bloom filter in a file of these columns.
    pub(crate) fn filtered<'a>(&'a self, schema: &'a SchemaRef) -> impl Iterator<Item = &'a String> {
        let has_filter = |field: &arrow::datatypes::Field| {
            !field.data_type().is_nested() && *field.data_type() != arrow::datatypes::DataType::Boolean
        };
        self.keys.iter().filter(move |key| schema.field_with_name(key).is_ok_and(has_filter))
    }

    /// Returns the order as the file's footer says it; `None` where a column in front of the order is not in the file.
    fn sorting_columns(&self, schema: &SchemaRef) -> Option<Vec<SortingColumn>> {
        // Columns count by leaves there. A list has one, so that places agree as long as there is no struct.
        let places: Option<Vec<usize>> = self.sorted_by.iter().map(|name| schema.index_of(name).ok()).collect();
        let one_leaf_each =
            !schema.fields().iter().any(|field| matches!(field.data_type(), arrow::datatypes::DataType::Struct(_)));
        let column = |place: usize| {
            let column_idx = i32::try_from(place).ok()?;
            Some(SortingColumn { column_idx, descending: false, nulls_first: true })
        };
        let columns: Vec<_> = places.filter(|_| one_leaf_each)?.into_iter().map(column).collect::<Option<_>>()?;
        (!columns.is_empty()).then_some(columns)
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

/// Writes one file.
pub struct FileWriter {
    location: Location,
    name: String,
    schema: SchemaRef,
    body: Body,
    rows: u64,
    format: FileFormat,
}

enum Body {
    /// Before the first rows: they say how the columns are encoded.
    Begun(Box<(BufWriter, WriterPropertiesBuilder)>),
    Parquet(Box<ParquetBody>),
    Orc(Box<OrcBody>),
    /// Between two of the others.
    None,
}

impl FileWriter {
    /// Begins the file `name` in `location`. Nothing is visible before [`FileWriter::finish`].
    pub fn create(location: &Location, name: &str, schema: &SchemaRef, format: FileFormat) -> Result<Self> {
        Self::begin(location, name, schema, format, &FileIndexes::default(), format.properties())
    }

    /// Begins a file as [`FileWriter::create`] does, with indexes for readers that look for few of its rows.
    pub fn create_indexed(
        location: &Location,
        name: &str,
        schema: &SchemaRef,
        format: FileFormat,
        indexes: &FileIndexes,
    ) -> Result<Self> {
        Self::begin(location, name, schema, format, indexes, indexes.apply(format.properties(), schema))
    }

    fn begin(
        location: &Location,
        name: &str,
        schema: &SchemaRef,
        format: FileFormat,
        indexes: &FileIndexes,
        properties: WriterPropertiesBuilder,
    ) -> Result<Self> {
        let buffer = location.begin(name);
        let body = match format.kind {
            FileKind::Orc => {
                Body::Orc(Box::new(OrcBody::new((buffer, location.place(name)), schema, format.compression, indexes)?))
            }
            FileKind::Parquet => Body::Begun(Box::new((buffer, properties))),
        };
        let (location, name, schema) = (location.clone(), name.to_owned(), Arc::clone(schema));
        Ok(Self { location, name, schema, body, rows: 0, format })
    }

    /// Adds rows; the batch has the file's schema.
    pub async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.rows += rows.num_rows() as u64;
        self.choose_encodings(rows)?;
        match &mut self.body {
            Body::Parquet(writer) => {
                writer.write(rows).await.map_err(|error| parquet_error(error, &self.location.place(&self.name)))
            }
            Body::Orc(writer) => writer.write(rows).await,
            Body::Begun(_) | Body::None => Err(Error::bug("a file is written to that was not begun")),
        }
    }

    /// Begins the body of a Parquet file, by its first rows.
    fn choose_encodings(&mut self, rows: &RecordBatch) -> Result<()> {
        self.body = match std::mem::replace(&mut self.body, Body::None) {
            Body::Begun(begun) => {
                let (buffer, mut properties) = *begun;
                let without = without_dictionary(rows)?;
                if matches!(self.format.compression, Compression::ZSTD(_)) {
                    for column in incompressible(rows, &without) {
                        properties = properties.set_column_compression(column, Compression::UNCOMPRESSED);
                    }
                }
                for column in without {
                    properties = properties.set_column_dictionary_enabled(column, false);
                }
                // What the author asks for is what readers see.
                let unpacked_bytes = if self.format.told { 0 } else { UNPACKED_BYTES };
                let writer = ParquetBody::begin(buffer, Arc::clone(&self.schema), properties.build(), unpacked_bytes);
                Body::Parquet(Box::new(writer.map_err(|error| parquet_error(error, &self.location.place(&self.name)))?))
            }
            body => body,
        };
        Ok(())
    }

    /// Returns the rows written so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns about how many bytes the file has so far, encoded.
    pub fn bytes(&self) -> u64 {
        match &self.body {
            Body::Parquet(writer) => writer.bytes() as u64,
            Body::Orc(writer) => writer.bytes(),
            Body::Begun(_) | Body::None => 0,
        }
    }

    /// Returns about how many bytes of memory the unfinished row group or stripe takes.
    pub fn memory(&self) -> usize {
        match &self.body {
            Body::Parquet(writer) => writer.memory(),
            Body::Orc(writer) => writer.memory(),
            Body::Begun(_) | Body::None => 0,
        }
    }

    /// Ends the row group or stripe, which frees its memory.
    pub async fn flush(&mut self) -> Result<()> {
        match &mut self.body {
            Body::Parquet(writer) => {
                writer.flush().await.map_err(|error| parquet_error(error, &self.location.place(&self.name)))
            }
            Body::Orc(writer) => writer.flush().await,
            Body::Begun(_) | Body::None => Ok(()),
        }
    }

    /// Returns whether the row groups of another file can be copied into this one: both are Parquet, and have the same columns in the
    /// same form.
    pub fn can_copy(&self, from: &RowGroups) -> bool {
        let is_parquet = matches!(self.body, Body::Begun(_) | Body::Parquet(_));
        // A file tells of all its pages where they are, or of none.
        let found = from.head().offset_index().map(|_| from.head().file_metadata().schema_descr());
        let own = ArrowSchemaConverter::new().convert(&self.schema).ok();
        is_parquet && own.zip(found).is_some_and(|(own, found)| own.root_schema() == found.root_schema())
    }

    /// Copies a row group of another file, as it is, behind what was written, whose row group ends.
    pub async fn copy(&mut self, from: &RowGroups, group: usize) -> Result<()> {
        self.choose_encodings(&RecordBatch::new_empty(Arc::clone(&self.schema)))?;
        let Body::Parquet(writer) = &mut self.body else {
            return Err(Error::bug("a row group is copied into a file that cannot take it"));
        };
        let bytes = from.window(group).await?;
        let copied = writer.copy(from.head(), group, &bytes).await;
        copied.map_err(|error| parquet_error(error, &self.location.place(&self.name)))?;
        self.rows += from.rows(group);
        Ok(())
    }

    /// Closes the file and reads its size back: a store that says yes to half an object is not believed.
    pub async fn finish(mut self) -> Result<WrittenFile> {
        self.choose_encodings(&RecordBatch::new_empty(Arc::clone(&self.schema)))?;
        let (written, statistics) = match self.body {
            Body::Parquet(writer) => {
                let (metadata, written) =
                    writer.finish().await.map_err(|error| parquet_error(error, &self.location.place(&self.name)))?;
                (written, FileStatistics::of(&metadata, &self.schema))
            }
            Body::Orc(writer) => writer.finish().await?,
            Body::Begun(_) | Body::None => return Err(Error::bug("a file is closed that was not begun")),
        };
        let size = self.location.size_of(&self.name).await?;
        if size != written {
            return Err(Error::external("R0408", "the store holds another size than was written")
                .with("file", &self.name)
                .with("written", written)
                .with("found", size));
        }
        Ok(WrittenFile { name: self.name, size, statistics })
    }
}
