//! An ORC file to Arrow batches.

mod column;
mod extremes;
mod fields;
mod index;
mod integer;
mod leaf;
mod packed;
mod parts;
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
pub use parts::{OrcColumn, OrcFile, OrcStripe, PartExtremes};
pub use source::FetchRanges;
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

/// Columns of the top.
struct Columns {
    schema: SchemaRef,
    numbers: Vec<u64>,
}

impl Columns {
    fn all(tail: &Tail, time_unit: TimeUnit) -> Result<Self> {
        let root = fields::field(&tail.types, 0, "", time_unit)?;
        let DataType::Struct(all) = root.data_type() else { return Err(damaged("rows that are no struct")) };
        let numbers = tail.types.first().map(|root| root.children.clone()).unwrap_or_default();
        Ok(Self { schema: Arc::new(Schema::new(all.clone())), numbers })
    }

    fn find(&self, name: &str) -> Option<(u64, &FieldRef)> {
        let mut all = self.numbers.iter().zip(self.schema.fields());
        all.find(|(_, field)| field.name() == name).map(|(number, field)| (*number, field))
    }

    /// Returns those with these names, in the order of the names.
    fn named(&self, names: &[String]) -> Result<Self> {
        let found = names.iter().map(|name| self.find(name).ok_or_else(|| unknown(name)));
        let found = found.collect::<Result<Vec<_>>>()?.into_iter();
        let (numbers, fields): (_, Vec<FieldRef>) = found.map(|(number, field)| (number, Arc::clone(field))).unzip();
        Ok(Self { schema: Arc::new(Schema::new(fields)), numbers })
    }

    /// Returns those whose names are among these, in the order of the file.
    fn among(&self, names: &[String]) -> Self {
        let all = self.numbers.iter().zip(self.schema.fields());
        let kept = all.filter(|(_, field)| names.contains(field.name()));
        let (numbers, fields): (_, Vec<FieldRef>) = kept.map(|(number, field)| (*number, Arc::clone(field))).unzip();
        Self { schema: Arc::new(Schema::new(fields)), numbers }
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
    source: Arc<Source>,
    tail: Tail,
    columns: Columns,
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
        Self::new(Source::bytes(bytes), options)
    }

    /// Reads a file on disk, stripe by stripe.
    ///
    /// # Errors
    ///
    /// As [`OrcReader::from_bytes`], and `R1509` when the disk fails.
    pub fn open(path: &Path, options: &OrcReadOptions) -> Result<Self> {
        let file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        Self::new(Source::file(file, length), options)
    }

    /// Reads a file of `length` bytes that lies elsewhere, stripe by stripe: of each the wanted columns at once.
    ///
    /// # Errors
    ///
    /// As [`OrcReader::from_bytes`], and what `ranges` answers.
    pub fn fetched(length: u64, ranges: Box<dyn FetchRanges>, options: &OrcReadOptions) -> Result<Self> {
        Self::new(Source::fetched(length, ranges), options)
    }

    /// Leaves out the columns that are not among `names`; to be said before the first batch is read.
    #[must_use]
    pub fn only(mut self, names: &[String]) -> Self {
        self.columns = self.columns.among(names);
        self
    }

    fn new(mut source: Source, options: &OrcReadOptions) -> Result<Self> {
        if options.batch_rows == 0 {
            return Err(option("batch_rows", "at least one row"));
        }
        let tail = tail::read(&mut source)?;
        let mut columns = Columns::all(&tail, options.time_unit)?;
        if let Some(wanted) = &options.columns {
            columns = columns.named(wanted)?;
        }
        let (source, batch_rows) = (Arc::new(source), options.batch_rows);
        Ok(Self { source, tail, columns, batch_rows, stripe: 0, open: Vec::new(), left: 0, failed: false })
    }

    /// Returns the columns of the batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.columns.schema
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
            // The stripe before makes room.
            self.open.clear();
            let mut streams = Streams::new(&self.source, &self.tail, &footer);
            streams.hold_values(&self.columns.numbers)?;
            let columns = self.columns.numbers.iter().zip(self.columns.schema.fields());
            let columns = columns.map(|(number, field)| Column::open(&self.tail.types, *number, field, &mut streams));
            self.open = columns.collect::<Result<_>>()?;
            self.left = stripe.rows;
        }
        let rows = usize::try_from(self.left).unwrap_or(usize::MAX).min(self.batch_rows);
        let arrays = self.open.iter_mut().map(|column| column.read(rows)).collect::<Result<_>>()?;
        self.left -= rows as u64;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(Some(RecordBatch::try_new_with_options(self.columns.schema.clone(), arrays, &options)?))
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
