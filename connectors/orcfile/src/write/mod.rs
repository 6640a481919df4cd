//! Arrow batches to an ORC file.

mod column;
mod dictionary;
mod leaf;
mod options;
mod stream;
mod summary;
mod tail;
mod text;
pub(crate) mod time;
mod tree;
mod values;

use std::io::Write;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use lakehead_core::Result;

use crate::codec::Codec;
use crate::fault::{foreign, spent, unwritten};
use crate::schema::{OrcType, same_type, types_of};
use crate::wire::Message;
use column::{Column, StripeParts};
pub use options::OrcOptions;
pub(crate) use stream::StreamKind;
pub use summary::{Bound, ColumnSummary, OrcSummary};
pub(crate) use tail::WRITER;
use tail::{MAGIC, Stripe};

/// Rows between two looks at the stripe's size: few enough that long texts cannot pass the budget by much, and enough
/// that the look costs nothing.
const PIECE_ROWS: usize = 1000;

/// Writes Arrow batches to one ORC file.
///
/// Memory is about one stripe ([`OrcOptions::stripe_bytes`], compressed as it comes) beside the batch at hand. Bytes
/// reach the sink stripe by stripe, from first to last and never twice; the file is whole only after
/// [`OrcWriter::finish`]. After an error the writer refuses every call, and what the sink holds is no ORC file.
pub struct OrcWriter<W: Write> {
    sink: W,
    /// Bytes given to the sink.
    offset: u64,
    schema: SchemaRef,
    types: Vec<OrcType>,
    options: OrcOptions,
    codec: Codec,
    root: Column,
    stripes: Vec<Stripe>,
    stripe_stats: Message,
    group_rows: usize,
    stripe_rows: u64,
    rows: u64,
    failed: bool,
}

impl<W: Write> OrcWriter<W> {
    /// Opens a file of the given columns and writes its first three bytes.
    ///
    /// # Errors
    ///
    /// `R1501` names a column and a type that ORC has no place for, `R1504` an option out of bounds; neither has
    /// written a byte. `R1505` when the sink fails.
    pub fn try_new(sink: W, schema: SchemaRef, options: OrcOptions) -> Result<Self> {
        let types = types_of(&schema)?;
        options.check()?;
        let codec = Codec::new(options.compression, options.compression_level)?;
        let root = tree::columns(&schema, &options)?;
        let mut writer = Self {
            sink,
            offset: 0,
            schema,
            types,
            options,
            codec,
            root,
            stripes: Vec::new(),
            stripe_stats: Message::default(),
            group_rows: 0,
            stripe_rows: 0,
            rows: 0,
            failed: false,
        };
        writer.put(MAGIC)?;
        Ok(writer)
    }

    /// Adds the rows of a batch, and writes each stripe that becomes full.
    ///
    /// # Errors
    ///
    /// `R1506` when a column's type differs from the schema's, `R1507` for a time and `R1511` for a decimal that does
    /// not fit, `R1505` when the sink fails, `R1508` after any of them but the first.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if self.failed {
            return Err(spent());
        }
        self.check(batch)?;
        self.failed = true;
        let mut from = 0;
        while from < batch.num_rows() {
            let room = self.options.row_group_rows - self.group_rows;
            let rows = PIECE_ROWS.min(room).min(batch.num_rows() - from);
            self.write_piece(&batch.slice(from, rows))?;
            from += rows;
        }
        self.failed = false;
        Ok(())
    }

    /// Writes what is left and the file's tail, and flushes the sink. A file of no rows is a whole file.
    ///
    /// # Errors
    ///
    /// `R1505` when the sink fails, `R1508` when an earlier call failed.
    pub fn finish(mut self) -> Result<OrcSummary> {
        if self.failed {
            return Err(spent());
        }
        self.close_stripe()?;
        let tail = tail::bytes(&mut self)?;
        self.put(&tail)?;
        self.sink.flush().map_err(unwritten)?;
        Ok(summary::of(&self.schema, &self.root, (self.rows, self.offset, self.stripes.len())))
    }

    /// Ends the stripe, which frees its memory. Small stripes cost readers more than they save here.
    ///
    /// # Errors
    ///
    /// As [`OrcWriter::write`].
    pub fn flush(&mut self) -> Result<()> {
        if self.failed {
            return Err(spent());
        }
        self.failed = true;
        self.close_stripe()?;
        self.failed = false;
        Ok(())
    }

    /// Returns the rows taken so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns about how many bytes the file would have if it ended now: those given to the sink and those that wait.
    pub fn bytes(&self) -> u64 {
        self.offset + self.root.len() as u64
    }

    fn check(&self, batch: &RecordBatch) -> Result<()> {
        let fields = self.schema.fields();
        if batch.num_columns() != fields.len() {
            return Err(foreign("*").with("columns", batch.num_columns()).with("expected", fields.len()));
        }
        for (field, column) in fields.iter().zip(batch.columns()) {
            if !same_type(field.data_type(), column.data_type()) {
                return Err(foreign(field.name()).with("type", column.data_type()).with("expected", field.data_type()));
            }
        }
        Ok(())
    }

    fn write_piece(&mut self, piece: &RecordBatch) -> Result<()> {
        if self.group_rows == 0 {
            self.root.start_group(&mut self.codec)?;
        }
        self.root.write_rows(piece.columns(), piece.num_rows(), &mut self.codec)?;
        self.group_rows += piece.num_rows();
        self.stripe_rows += piece.num_rows() as u64;
        self.rows += piece.num_rows() as u64;
        if self.group_rows == self.options.row_group_rows {
            self.end_group();
        }
        if self.root.len() >= self.options.stripe_bytes {
            self.close_stripe()?;
        }
        Ok(())
    }

    fn end_group(&mut self) {
        self.root.end_group();
        self.group_rows = 0;
    }

    fn close_stripe(&mut self) -> Result<()> {
        if self.group_rows > 0 {
            self.end_group();
        }
        if self.stripe_rows == 0 {
            return Ok(());
        }
        let mut parts = StripeParts::default();
        self.root.finish(&mut self.codec, &mut parts)?;
        let footer = tail::stripe_footer(&parts);
        let footer = self.codec.whole(&footer)?;
        let offset = self.offset;
        for (_, stream) in &parts.index {
            self.put(&stream.bytes)?;
        }
        let index_len = self.offset - offset;
        for (_, stream) in &parts.data {
            self.put(&stream.bytes)?;
        }
        let data_len = self.offset - offset - index_len;
        self.put(&footer)?;
        let rows = std::mem::take(&mut self.stripe_rows);
        self.stripes.push(Stripe { offset, index_len, data_len, footer_len: footer.len() as u64, rows });
        let mut stats = Message::default();
        parts.stats.into_iter().for_each(|column| {
            stats.nested(1, column);
        });
        self.stripe_stats.nested(1, stats);
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.sink.write_all(bytes).map_err(unwritten)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}
