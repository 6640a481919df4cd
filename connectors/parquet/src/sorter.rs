//! Rows brought into the order of their files, however many there are.
//!
//! ```text
//! push ─▶ waiting rows ──(full)──▶ sorted run in the staging folder ──(many)──▶ fewer, longer runs
//!              └───────────────────────────┴──▶ Merge: pieces of one slot each, slots and rows in order
//! ```
//!
//! Memory holds the waiting rows, their keys, and a piece of each run: none of it grows with the round.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{interleave_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type};
use arrow::row::{RowConverter, Rows, SortField};
use futures::StreamExt;
use lakehead_core::{Error, Result, failpoint};
use lakehead_lakefile::{FileFormat, FileKind, FileWriter, Location, read_file};
use std::sync::Arc;

use crate::merge::{Chunks, Merge};
use crate::stage::{discard, staged_name};

/// Bytes of rows that wait in memory. Their keys and one sorted chunk come on top: with everything else that a sink
/// holds it stays below 512 MiB.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Bytes of a chunk of a sorted run: what each run holds in memory while runs are merged.
const CHUNK_BYTES: usize = 1 << 20;
/// Rows of such a chunk, where rows are narrow.
const CHUNK_ROWS_MAX: usize = 8192;
/// Runs of one length that are merged into one: each row is written again once per sixteenfold growth of the round, and
/// a merge holds some dozens of chunks.
const FAN_IN: usize = 16;
/// The name of the column that holds a row's slot. Nothing that a user names can begin so.
const SLOT: &str = "\u{1}slot";

/// A sorted file in the staging folder.
#[derive(Clone, Debug)]
struct Run {
    name: String,
    /// How often its rows were merged.
    level: u32,
}

/// Takes rows in any order and gives them back by slot, and by the sort columns within it; equal rows keep the order
/// in which they came.
pub(crate) struct Sorter {
    staging: Location,
    format: FileFormat,
    fence: u64,
    order: Order,
    waiting: Vec<RecordBatch>,
    waiting_bytes: usize,
    waiting_bytes_max: usize,
    /// Older rows first.
    runs: Vec<Run>,
    begun: Vec<String>,
}

/// What rows are compared by.
pub(crate) struct Order {
    schema: SchemaRef,
    columns: Vec<usize>,
    converter: RowConverter,
}

impl Order {
    fn new(data: &Schema, sort_by: &[String]) -> Result<Self> {
        let mut fields: Vec<_> = data.fields().iter().cloned().collect();
        let mut columns = vec![fields.len()];
        fields.push(Arc::new(Field::new(SLOT, DataType::UInt32, false)));
        for name in sort_by {
            let place = data.index_of(name).map_err(|_| Error::bug("a sort column is missing").with("column", name))?;
            columns.push(place);
        }
        let types = columns.iter().map(|place| SortField::new(fields[*place].data_type().clone()));
        let converter = RowConverter::new(types.collect())?;
        Ok(Self { schema: Arc::new(Schema::new(fields)), columns, converter })
    }

    /// Returns the keys of rows, which compare as bytes.
    pub(crate) fn keys(&self, rows: &RecordBatch) -> Result<Rows> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|place| Arc::clone(rows.column(*place))).collect();
        Ok(self.converter.convert_columns(&columns)?)
    }
}

/// Returns the slot of a row.
pub(crate) fn slot_of(rows: &RecordBatch, row: usize) -> Result<u32> {
    let column = rows.columns().last().and_then(|column| column.as_primitive_opt::<UInt32Type>());
    column.map(|slots| slots.value(row)).ok_or_else(|| Error::bug("sorted rows have no slot"))
}

/// Returns the rows as the table has them.
pub(crate) fn without_slot(rows: &RecordBatch) -> Result<RecordBatch> {
    let data: Vec<usize> = (0..rows.num_columns().saturating_sub(1)).collect();
    Ok(rows.project(&data)?)
}

impl Sorter {
    pub(crate) fn new(
        staging: &Location,
        data: &Schema,
        sort_by: &[String],
        format: FileFormat,
        fence: u64,
    ) -> Result<Self> {
        let order = Order::new(data, sort_by)?;
        Ok(Self {
            staging: staging.clone(),
            format,
            fence,
            order,
            waiting: Vec::new(),
            waiting_bytes: 0,
            waiting_bytes_max: WAITING_BYTES_MAX,
            runs: Vec::new(),
            begun: Vec::new(),
        })
    }

    /// Takes rows and the slot of each.
    pub(crate) async fn push(&mut self, rows: &RecordBatch, slots: UInt32Array) -> Result<()> {
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(slots));
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.order.schema), columns, &options)?;
        let rows = owned(rows)?;
        self.waiting_bytes += rows.get_array_memory_size();
        self.waiting.push(rows);
        if self.waiting_bytes >= self.waiting_bytes_max {
            self.spill().await?;
        }
        Ok(())
    }

    /// Returns the names of the files that it began, which nobody needs once it is done or given up.
    pub(crate) fn begun(&self) -> &[String] {
        &self.begun
    }

    async fn spill(&mut self) -> Result<()> {
        failpoint::hit("parquet.stage.spill").await?;
        let mut chunks = self.take_waiting()?;
        let name = self.begin();
        let mut writer = FileWriter::create(&self.staging, &name, &self.order.schema, self.format)?;
        while let Some(chunk) = chunks.next().await {
            writer.write(&chunk?).await?;
            writer.flush().await?;
        }
        writer.finish().await?;
        self.runs.push(Run { name, level: 0 });
        self.shorten().await
    }

    fn begin(&mut self) -> String {
        let name = staged_name(self.fence, FileKind::Parquet);
        self.begun.push(name.clone());
        name
    }

    /// Merges the newest runs while there are many of one length.
    async fn shorten(&mut self) -> Result<()> {
        while let Some(level) = self.runs.last().map(|run| run.level) {
            let from = self.runs.iter().rposition(|run| run.level != level).map_or(0, |place| place + 1);
            if self.runs.len() - from < FAN_IN {
                return Ok(());
            }
            let merged: Vec<Run> = self.runs.drain(from..).collect();
            let name = self.begin();
            let mut writer = FileWriter::create(&self.staging, &name, &self.order.schema, self.format)?;
            let mut merge = Merge::open(self.open(&merged).await?, &self.order).await?;
            while let Some(piece) = merge.next(&self.order).await? {
                writer.write(&piece).await?;
                if writer.memory() >= CHUNK_BYTES {
                    writer.flush().await?;
                }
            }
            writer.finish().await?;
            let names: Vec<String> = merged.into_iter().map(|run| run.name).collect();
            discard(&self.staging, &names).await;
            self.runs.push(Run { name, level: level + 1 });
        }
        Ok(())
    }

    async fn open(&self, runs: &[Run]) -> Result<Vec<Chunks>> {
        let mut inputs: Vec<Chunks> = Vec::with_capacity(runs.len() + 1);
        for run in runs {
            inputs.push(read_file(&self.staging, &run.name, None).await?.boxed());
        }
        Ok(inputs)
    }

    /// Returns every row in order. The sorter takes no more rows.
    pub(crate) async fn merge(&mut self) -> Result<Merge> {
        let mut inputs = self.open(&self.runs).await?;
        if !self.waiting.is_empty() {
            inputs.push(self.take_waiting()?);
        }
        Merge::open(inputs, &self.order).await
    }

    /// Returns the order of what [`Sorter::merge`] gives.
    pub(crate) fn order(&self) -> &Order {
        &self.order
    }

    /// Sorts what waits; the chunks are made as they are asked for.
    fn take_waiting(&mut self) -> Result<Chunks> {
        let batches = std::mem::take(&mut self.waiting);
        let bytes = std::mem::take(&mut self.waiting_bytes);
        let keys = batches.iter().map(|batch| self.order.keys(batch)).collect::<Result<Vec<Rows>>>()?;
        let places = batches.iter().enumerate().flat_map(|(n, batch)| (0..batch.num_rows()).map(move |row| (n, row)));
        let mut places: Vec<(usize, usize)> = places.collect();
        places.sort_by(|a, b| keys[a.0].row(a.1).cmp(&keys[b.0].row(b.1)));
        drop(keys);
        let chunk_rows = (places.len().saturating_mul(CHUNK_BYTES) / bytes.max(1)).clamp(1, CHUNK_ROWS_MAX);
        let mut from = 0;
        let chunks = std::iter::from_fn(move || {
            let to = places.len().min(from + chunk_rows);
            let chunk = (from < to).then(|| {
                let batches: Vec<&RecordBatch> = batches.iter().collect();
                interleave_record_batch(&batches, &places[from..to]).map_err(Error::from)
            });
            from = to;
            chunk
        });
        Ok(futures::stream::iter(chunks).boxed())
    }
}

/// Copies rows that are a small part of a large buffer, which they would keep in memory whole.
fn owned(rows: RecordBatch) -> Result<RecordBatch> {
    let size = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or(usize::MAX / 1024);
    let used: usize = rows.columns().iter().map(size).sum();
    if rows.get_array_memory_size() / 2 <= used {
        return Ok(rows);
    }
    let all: UInt32Array = (0..u32::try_from(rows.num_rows()).unwrap_or(u32::MAX)).collect();
    Ok(take_record_batch(&rows, &all)?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::Int64Type;
    use lakehead_core::Settings;

    use super::*;

    fn rows(ids: &[i64], names: &[Option<&str>]) -> RecordBatch {
        let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
        let names: ArrayRef = Arc::new(StringArray::from(names.to_vec()));
        RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("name", names, true)]).unwrap()
    }

    /// Some hundred runs of a few rows each, merged over two levels.
    #[tokio::test]
    async fn rows_come_back_by_slot_and_order_through_many_runs() {
        let folder = tempfile::tempdir().unwrap();
        let staging = Location::open("t", folder.path(), &Settings::default()).unwrap();
        let format = FileFormat::from_settings(&Settings::default());
        let schema = rows(&[], &[]).schema();
        let mut sorter = Sorter::new(&staging, &schema, &["name".to_owned()], format, 1).unwrap();
        sorter.waiting_bytes_max = 1;
        let names = [Some("b"), None, Some("é"), Some("a"), Some("")];
        let mut expected: Vec<(u32, Option<&str>, i64)> = Vec::new();
        for push in 0..300_i64 {
            let ids = [push * 2, push * 2 + 1];
            let slots = [u32::try_from(push * 7 % 11).unwrap(), u32::try_from(push * 5 % 11).unwrap()];
            let named: Vec<_> = (0..2).map(|n| names[usize::try_from(push * 3 + n).unwrap() % 5]).collect();
            expected.extend((0..2).map(|n| (slots[n], named[n], ids[n])));
            sorter.push(&rows(&ids, &named), UInt32Array::from(slots.to_vec())).await.unwrap();
        }
        // Ids rise, so that rows that are equal otherwise must keep them in order.
        expected.sort();
        assert!(sorter.runs.iter().any(|run| run.level == 2), "{:?}", sorter.runs);
        assert!(sorter.runs.len() < 3 * FAN_IN);
        let mut merge = sorter.merge().await.unwrap();
        let mut found = Vec::new();
        while let Some(piece) = merge.next(sorter.order()).await.unwrap() {
            let slot = slot_of(&piece, 0).unwrap();
            let ids = piece.column(0).as_primitive::<Int64Type>();
            let names = piece.column(1).as_string::<i32>();
            for row in 0..piece.num_rows() {
                assert_eq!(slot_of(&piece, row).unwrap(), slot);
                found.push((slot, names.is_valid(row).then(|| names.value(row).to_owned()), ids.value(row)));
            }
        }
        let expected: Vec<_> =
            expected.into_iter().map(|(slot, name, id)| (slot, name.map(str::to_owned), id)).collect();
        assert_eq!(found, expected);
        discard(&staging, sorter.begun()).await;
        assert_eq!(std::fs::read_dir(folder.path().join("t")).unwrap().count(), 0);
    }

    #[test]
    fn a_small_part_of_a_large_buffer_does_not_keep_it() {
        let all = rows(&(0..100_000).collect::<Vec<_>>(), &vec![Some("name"); 100_000]);
        let small = owned(all.slice(5, 10)).unwrap();
        assert!(small.get_array_memory_size() < 10_000, "{}", small.get_array_memory_size());
        assert_eq!(small, all.slice(5, 10));
    }
}
