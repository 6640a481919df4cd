//! An ORC file to Arrow batches.

mod column;
mod fields;
mod integer;
mod leaf;
mod source;
mod stream;
mod stripe;
mod tail;
mod zone;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use lakehead_core::{Error, Result};

use crate::fault::{damaged, option, unreadable};
use column::Column;
use source::Source;
use stripe::Streams;
use tail::Tail;

/// Settings of an [`OrcReader`].
#[derive(Clone, Debug, PartialEq)]
pub struct OrcReadOptions {
    /// Columns of the top to read, in this order; all when not said.
    pub columns: Option<Vec<String>>,
    /// The most rows of a batch, at least one.
    pub batch_rows: usize,
    /// The unit of times. ORC counts nanoseconds; what is finer than the unit is cut off, towards the past.
    pub time_unit: TimeUnit,
}

impl Default for OrcReadOptions {
    fn default() -> Self {
        Self { columns: None, batch_rows: 8192, time_unit: TimeUnit::Microsecond }
    }
}

/// Reads the batches of one ORC file, in the file's order, as an iterator; after an error there is nothing more.
///
/// Files of other writers are read too: both versions of run-length coding, all compressions but LZO, `CHAR` and
/// `VARCHAR` as texts, TIMESTAMPs of a writer in any zone. Not read, and said so with `R1503`: unions and encryption.
///
/// Bytes are never trusted: whatever they are, a call returns batches or an error and does not panic, and allocates
/// according to what the streams hold rather than to what they claim. A batch's lists and texts are bounded (67,108,864
/// elements, 2 GiB) because few bytes can honestly unpack to very many.
pub struct OrcReader {
    source: Source,
    tail: Tail,
    schema: SchemaRef,
    /// The numbers of the columns to read.
    columns: Vec<u64>,
    batch_rows: usize,
    stripe: usize,
    open: Vec<Column>,
    /// Rows of the open stripe that are left.
    left: u64,
    failed: bool,
}

impl OrcReader {
    /// Reads a file that is in memory.
    ///
    /// # Errors
    ///
    /// `R1502` for a damaged file, `R1503` for one that uses what is not read, `R1504` for an option out of bounds or a
    /// column that the file does not have.
    pub fn from_bytes(bytes: Bytes, options: &OrcReadOptions) -> Result<Self> {
        Self::new(Source::Bytes(bytes), options)
    }

    /// Reads a file on disk, stripe by stripe.
    ///
    /// # Errors
    ///
    /// As [`OrcReader::from_bytes`], and `R1509` when the disk fails.
    pub fn open(path: &Path, options: &OrcReadOptions) -> Result<Self> {
        let file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        Self::new(Source::File(file, length), options)
    }

    fn new(source: Source, options: &OrcReadOptions) -> Result<Self> {
        if options.batch_rows == 0 {
            return Err(option("batch_rows", "at least one row"));
        }
        let tail = tail::read(&source)?;
        let root = fields::field(&tail.types, 0, "", options.time_unit)?;
        let DataType::Struct(all) = root.data_type() else { return Err(damaged("rows that are no struct")) };
        let numbers = tail.types.first().map(|root| root.children.clone()).unwrap_or_default();
        let mut fields: Vec<FieldRef> = Vec::new();
        let mut columns = Vec::new();
        match &options.columns {
            None => (fields, columns) = (all.to_vec(), numbers),
            Some(wanted) => {
                for name in wanted {
                    let found = all.iter().zip(&numbers).find(|(field, _)| field.name() == name);
                    let (field, number) = found.ok_or_else(|| unknown(name))?;
                    fields.push(field.clone());
                    columns.push(*number);
                }
            }
        }
        let schema = Arc::new(Schema::new(fields));
        let batch_rows = options.batch_rows;
        Ok(Self { source, tail, schema, columns, batch_rows, stripe: 0, open: Vec::new(), left: 0, failed: false })
    }

    /// Returns the columns of the batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns how many rows the file has.
    pub fn rows(&self) -> u64 {
        self.tail.rows
    }

    /// Returns the names and values that the file's footer carries.
    pub fn metadata(&self) -> &[(String, Vec<u8>)] {
        &self.tail.metadata
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        while self.left == 0 {
            let Some(stripe) = self.tail.stripes.get(self.stripe) else { return Ok(None) };
            self.stripe += 1;
            let footer = tail::stripe_footer(&self.source, stripe, &self.tail)?;
            let mut streams = Streams { source: &self.source, tail: &self.tail, footer: &footer };
            let columns = self.columns.iter().zip(self.schema.fields());
            let columns = columns.map(|(number, field)| Column::open(&self.tail.types, *number, field, &mut streams));
            self.open = columns.collect::<Result<_>>()?;
            self.left = stripe.rows;
        }
        let rows = usize::try_from(self.left).unwrap_or(usize::MAX).min(self.batch_rows);
        let arrays = self.open.iter_mut().map(|column| column.read(rows)).collect::<Result<_>>()?;
        self.left -= rows as u64;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(Some(RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)?))
    }
}

fn unknown(column: &str) -> Error {
    option("columns", "columns that the file has").with("column", column)
}

impl Iterator for OrcReader {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_batch().transpose();
        self.failed = !matches!(next, Some(Ok(_)));
        next
    }
}
