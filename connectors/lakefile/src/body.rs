//! A Parquet file while it is written: row group after row group, each column by whoever writes its kind.

use std::io::Write;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{FieldRef, SchemaRef};
use bytes::Bytes;
use object_store::buffered::BufWriter;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use tokio::io::AsyncWriteExt;

use crate::chunk::{ChunkWriter, Packer};
use crate::splice::{Window, append};

/// Bytes of a piece on its way to the store.
const PIECE_BYTES: usize = 1 << 20;

/// Writes one file.
pub(crate) struct ParquetBody {
    object: BufWriter,
    file: SerializedFileWriter<Pieces>,
    factory: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    unpacked_bytes: usize,
    group: Option<Group>,
}

/// The row group under way.
struct Group {
    columns: Vec<Column>,
    rows: usize,
}

enum Column {
    Plain(Box<ChunkWriter>),
    /// Any other kind: as many chunks as it has leaves.
    Other(Vec<ArrowColumnWriter>),
}

impl Column {
    fn write(&mut self, field: &FieldRef, array: &ArrayRef, packer: &mut Packer) -> Result<()> {
        match self {
            Self::Plain(writer) => writer.write(array, packer),
            Self::Other(writers) => {
                let leaves = compute_leaves(field, array)?;
                writers.iter_mut().zip(&leaves).try_for_each(|(writer, leaf)| writer.write(leaf))
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Plain(writer) => writer.bytes(),
            Self::Other(writers) => writers.iter().map(ArrowColumnWriter::get_estimated_total_bytes).sum(),
        }
    }

    fn memory(&self) -> usize {
        match self {
            Self::Plain(writer) => writer.memory(),
            Self::Other(writers) => writers.iter().map(ArrowColumnWriter::memory_size).sum(),
        }
    }

    fn close(self, group: &mut SerializedRowGroupWriter<'_, Pieces>, packer: &mut Packer) -> Result<()> {
        match self {
            Self::Plain(writer) => {
                let close = writer.close(packer)?;
                group.append_column(&packer.laid(), close)
            }
            Self::Other(writers) => {
                writers.into_iter().try_for_each(|writer| writer.close()?.append_to_row_group(group))
            }
        }
    }
}

impl ParquetBody {
    /// Begins a file; chunks of less than `unpacked_bytes` need not be packed.
    pub(crate) fn begin(
        object: BufWriter,
        schema: SchemaRef,
        properties: WriterProperties,
        unpacked_bytes: usize,
    ) -> Result<Self> {
        let writer = ArrowWriter::try_new(Pieces::default(), schema.clone(), Some(properties))?;
        let (file, factory) = writer.into_serialized_writer()?;
        Ok(Self { object, file, factory, schema, unpacked_bytes, group: None })
    }

    /// Adds rows.
    pub(crate) async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        if rows.num_columns() != self.schema.fields().len() {
            return Err(ParquetError::General("a batch has other columns than its file".into()));
        }
        let mut row = 0;
        while row < rows.num_rows() {
            let room = self.room().min(rows.num_rows() - row);
            if room == 0 {
                self.flush().await?;
                continue;
            }
            self.put(&rows.slice(row, room))?;
            row += room;
            if self.room() == 0 {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Returns how many rows the group may still take, by how wide they were.
    fn room(&self) -> usize {
        let properties = self.file.properties();
        let rows_max = properties.max_row_group_row_count().unwrap_or(usize::MAX).max(1);
        let Some(Group { rows, columns }) = &self.group else { return rows_max };
        let by_rows = rows_max.saturating_sub(*rows);
        let Some(bytes_max) = properties.max_row_group_bytes() else { return by_rows };
        let bytes: usize = columns.iter().map(Column::bytes).sum();
        match bytes.checked_div(*rows) {
            Some(row_bytes) if row_bytes > 0 => by_rows.min(bytes_max.saturating_sub(bytes) / row_bytes),
            _ => by_rows,
        }
    }

    fn put(&mut self, rows: &RecordBatch) -> Result<()> {
        let mut group = match self.group.take() {
            Some(group) => group,
            None => Group { columns: self.columns()?, rows: 0 },
        };
        let columns = group.columns.iter_mut().zip(self.schema.fields()).zip(rows.columns());
        Packer::of_thread(|packer| {
            columns.into_iter().try_for_each(|((column, field), array)| column.write(field, array, packer))
        })?;
        group.rows += rows.num_rows();
        self.group = Some(group);
        Ok(())
    }

    /// Begins the columns of a row group.
    fn columns(&self) -> Result<Vec<Column>> {
        let Self { file, factory, schema, .. } = self;
        let (descriptors, properties) = (file.schema_descr(), file.properties());
        let mut leaves = (0..descriptors.num_columns()).peekable();
        let mut columns = Vec::with_capacity(schema.fields().len());
        // The crate begins the writers of all columns at once, and each of them with memory of its own to pack with.
        let mut others: Option<Vec<Option<ArrowColumnWriter>>> = None;
        for (place, field) in schema.fields().iter().enumerate() {
            let mut own = Vec::new();
            while let Some(leaf) = leaves.next_if(|leaf| descriptors.get_column_root_idx(*leaf) == place) {
                own.push(leaf);
            }
            let plain = match &own[..] {
                [leaf] => {
                    ChunkWriter::of(field.data_type(), &descriptors.column(*leaf), properties, self.unpacked_bytes)
                }
                _ => None,
            };
            if let Some(writer) = plain {
                columns.push(Column::Plain(Box::new(writer)));
                continue;
            }
            let others = match &mut others {
                Some(others) => others,
                none => none.insert(
                    factory.create_column_writers(file.flushed_row_groups().len())?.into_iter().map(Some).collect(),
                ),
            };
            columns.push(Column::Other(own.into_iter().filter_map(|leaf| others.get_mut(leaf)?.take()).collect()));
        }
        Ok(columns)
    }

    /// Returns about how many bytes the file has so far.
    pub(crate) fn bytes(&self) -> usize {
        self.file.bytes_written() + self.group.iter().flat_map(|group| &group.columns).map(Column::bytes).sum::<usize>()
    }

    /// Returns about how many bytes of memory the row group under way takes.
    pub(crate) fn memory(&self) -> usize {
        self.group.iter().flat_map(|group| &group.columns).map(Column::memory).sum()
    }

    /// Ends the row group.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        let Some(group) = self.group.take() else { return Ok(()) };
        let bytes: usize = group.columns.iter().map(Column::bytes).sum();
        self.file.inner_mut().last.reserve(bytes.min(PIECE_BYTES));
        let mut writer = self.file.next_row_group()?;
        Packer::of_thread(|packer| group.columns.into_iter().try_for_each(|column| column.close(&mut writer, packer)))?;
        writer.close()?;
        self.hand_on().await
    }

    /// Ends the row group and puts one of another file behind it, as it is.
    pub(crate) async fn copy(&mut self, from: &ParquetMetaData, group: usize, bytes: &Window) -> Result<()> {
        self.flush().await?;
        append(&mut self.file, from, group, bytes)?;
        self.hand_on().await
    }

    /// Ends the file; returns what its head says, and its bytes.
    pub(crate) async fn finish(mut self) -> Result<(ParquetMetaData, u64)> {
        self.flush().await?;
        let metadata = self.file.finish()?;
        self.hand_on().await?;
        self.object.shutdown().await?;
        Ok((metadata, self.file.bytes_written() as u64))
    }

    /// Gives the store what was written.
    async fn hand_on(&mut self) -> Result<()> {
        self.file.flush()?;
        for piece in self.file.inner_mut().take() {
            self.object.put(piece).await.map_err(|error| ParquetError::External(Box::new(error)))?;
        }
        Ok(())
    }
}

/// What was written and the store was not given: pieces of one size, so that the memory of one serves another. One buffer would be copied
/// each time it grew, and memory that was not touched before is dear.
#[derive(Default)]
struct Pieces {
    whole: Vec<Bytes>,
    last: Vec<u8>,
}

impl Pieces {
    fn take(&mut self) -> Vec<Bytes> {
        let mut pieces = std::mem::take(&mut self.whole);
        pieces.push(std::mem::take(&mut self.last).into());
        pieces
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let length = bytes.len().min(PIECE_BYTES - self.last.len());
        self.last.extend_from_slice(&bytes[..length]);
        if self.last.len() == PIECE_BYTES {
            let next = Vec::with_capacity(PIECE_BYTES);
            self.whole.push(std::mem::replace(&mut self.last, next).into());
        }
        Ok(length)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
