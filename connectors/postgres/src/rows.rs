//! The rows of one table while they are collected into a batch.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringBuilder, TimestampMicrosecondBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use lakehead_core::{COMMITTED_AT, Error, Micros, OP, Op, POSITION, Result, UNCHANGED, reserved_field};

use crate::column::Column;

/// What a row takes beside its values: validity, offsets, and the reserved columns.
const ROW_OVERHEAD_BYTES: usize = 48;

/// What happened to a row, where and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change<'a> {
    pub(crate) op: Op,
    pub(crate) position: &'a str,
    pub(crate) committed_at: Micros,
    /// The names of the columns that were not sent, joined by commas; empty where all were.
    pub(crate) unchanged: &'a str,
}

#[derive(Debug)]
struct Reserved {
    op: StringBuilder,
    position: StringBuilder,
    committed_at: TimestampMicrosecondBuilder,
    unchanged: StringBuilder,
}

/// Collects rows of one schema.
#[derive(Debug)]
pub(crate) struct Rows {
    data: SchemaRef,
    batch: SchemaRef,
    pub(crate) columns: Vec<Column>,
    reserved: Option<Reserved>,
    count: usize,
    bytes: usize,
}

impl Rows {
    /// Creates a collector of plain rows.
    pub(crate) fn plain(data: &Schema) -> Result<Self> {
        Self::new(data, None)
    }

    /// Creates a collector of changes: the reserved columns stand behind the data.
    pub(crate) fn changes(data: &Schema) -> Result<Self> {
        let zone = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let reserved = Reserved {
            op: StringBuilder::new(),
            position: StringBuilder::new(),
            committed_at: TimestampMicrosecondBuilder::new().with_data_type(zone),
            unchanged: StringBuilder::new(),
        };
        Self::new(data, Some(reserved))
    }

    /// Every column of a batch may be null: a delete carries only its key.
    fn new(data: &Schema, reserved: Option<Reserved>) -> Result<Self> {
        let mut fields: Vec<Field> =
            data.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        let columns = fields
            .iter()
            .map(|field| {
                Column::new(field.data_type()).ok_or_else(|| {
                    Error::bug("a column has a type that PostgreSQL has not")
                        .with("column", field.name())
                        .with("type", field.data_type())
                })
            })
            .collect::<Result<_>>()?;
        let data = Arc::new(Schema::new(fields.clone()));
        if reserved.is_some() {
            fields.extend([OP, POSITION, COMMITTED_AT, UNCHANGED].map(reserved_field));
        }
        Ok(Self { data, batch: Arc::new(Schema::new(fields)), columns, reserved, count: 0, bytes: 0 })
    }

    /// Returns the data columns.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.data
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Ends a row whose columns have all been appended; `bytes` is what its values took on the wire. Returns what the
    /// row takes in memory, roughly.
    pub(crate) fn end_row(&mut self, bytes: usize, change: Option<Change<'_>>) -> usize {
        let bytes = bytes + ROW_OVERHEAD_BYTES;
        self.count += 1;
        self.bytes += bytes;
        let (Some(reserved), Some(change)) = (&mut self.reserved, change) else {
            return bytes;
        };
        reserved.op.append_value(change.op.letter());
        reserved.position.append_value(change.position);
        reserved.committed_at.append_value(change.committed_at);
        reserved.unchanged.append_option((!change.unchanged.is_empty()).then_some(change.unchanged));
        bytes
    }

    /// Returns the rows as a batch and starts the next; `None` where there are none.
    pub(crate) fn finish(&mut self) -> Result<Option<RecordBatch>> {
        if self.count == 0 {
            return Ok(None);
        }
        let mut arrays: Vec<ArrayRef> = self.columns.iter_mut().map(Column::finish).collect::<Result<_>>()?;
        if let Some(reserved) = &mut self.reserved {
            arrays.push(Arc::new(reserved.op.finish()));
            arrays.push(Arc::new(reserved.position.finish()));
            arrays.push(Arc::new(reserved.committed_at.finish()));
            arrays.push(Arc::new(reserved.unchanged.finish()));
        }
        (self.count, self.bytes) = (0, 0);
        Ok(Some(RecordBatch::try_new(Arc::clone(&self.batch), arrays)?))
    }
}
