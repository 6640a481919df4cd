//! Sorted inputs merged into one order.

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::row::{Row, Rows};
use futures::StreamExt;
use futures::stream::BoxStream;
use lakehead_core::Result;

use crate::sorter::{Order, slot_of};

/// Sorted rows, chunk by chunk.
pub(crate) type Chunks = BoxStream<'static, Result<RecordBatch>>;

/// Rows of one piece.
const PIECE_ROWS_MAX: usize = 8192;

/// One input and the chunk of it that is being read.
struct Cursor {
    chunks: Chunks,
    rows: RecordBatch,
    keys: Rows,
    next: usize,
}

impl Cursor {
    fn key(&self) -> Row<'_> {
        self.keys.row(self.next)
    }

    fn is_used_up(&self) -> bool {
        self.next >= self.rows.num_rows()
    }
}

/// Reads several sorted inputs as one; of equal rows, those of an earlier input come first.
pub(crate) struct Merge {
    cursors: Vec<Cursor>,
}

impl Merge {
    pub(crate) async fn open(inputs: Vec<Chunks>, order: &Order) -> Result<Self> {
        let mut cursors = Vec::with_capacity(inputs.len());
        for mut chunks in inputs {
            if let Some((rows, keys)) = next_chunk(&mut chunks, order).await? {
                cursors.push(Cursor { chunks, rows, keys, next: 0 });
            }
        }
        Ok(Self { cursors })
    }

    /// Returns the next rows, all of one slot; `None` at the end.
    pub(crate) async fn next(&mut self, order: &Order) -> Result<Option<RecordBatch>> {
        self.refill(order).await?;
        let Some(first) = self.least() else { return Ok(None) };
        let slot = slot_of(&self.cursors[first].rows, self.cursors[first].next)?;
        let mut places: Vec<(usize, usize)> = Vec::new();
        let mut from = Some(first);
        while let Some(number) = from {
            let cursor = &self.cursors[number];
            if slot_of(&cursor.rows, cursor.next)? != slot || places.len() >= PIECE_ROWS_MAX {
                break;
            }
            let taken = self.take_from(number, slot, PIECE_ROWS_MAX - places.len())?;
            places.extend(taken.map(|row| (number, row)));
            // A chunk that is used up must be handed out before the next one takes its place.
            from = if self.cursors[number].is_used_up() { None } else { self.least() };
        }
        let batches: Vec<&RecordBatch> = self.cursors.iter().map(|cursor| &cursor.rows).collect();
        Ok(Some(interleave_record_batch(&batches, &places)?))
    }

    /// Takes the rows of a cursor that come before every other cursor's next one, at least one.
    fn take_from(&mut self, number: usize, slot: u32, rows_max: usize) -> Result<std::ops::Range<usize>> {
        let cursor = &self.cursors[number];
        let others = self.cursors.iter().enumerate().filter(|(other, _)| *other != number);
        let bound = others.map(|(other, cursor)| (cursor.key(), other)).min();
        let start = cursor.next;
        let end = cursor.rows.num_rows().min(start + rows_max);
        let mut next = start + 1;
        while next < end
            && slot_of(&cursor.rows, next)? == slot
            && bound.is_none_or(|bound| (cursor.keys.row(next), number) < bound)
        {
            next += 1;
        }
        self.cursors[number].next = next;
        Ok(start..next)
    }

    /// Returns the cursor whose row comes next.
    fn least(&self) -> Option<usize> {
        let keyed = self.cursors.iter().enumerate().map(|(number, cursor)| (cursor.key(), number));
        keyed.min().map(|(_, number)| number)
    }

    async fn refill(&mut self, order: &Order) -> Result<()> {
        let mut number = 0;
        while number < self.cursors.len() {
            if self.cursors[number].is_used_up() {
                match next_chunk(&mut self.cursors[number].chunks, order).await? {
                    Some((rows, keys)) => {
                        let cursor = &mut self.cursors[number];
                        (cursor.rows, cursor.keys, cursor.next) = (rows, keys, 0);
                    }
                    None => {
                        self.cursors.remove(number);
                        continue;
                    }
                }
            }
            number += 1;
        }
        Ok(())
    }
}

async fn next_chunk(chunks: &mut Chunks, order: &Order) -> Result<Option<(RecordBatch, Rows)>> {
    while let Some(rows) = chunks.next().await {
        let rows = rows?;
        if rows.num_rows() > 0 {
            let keys = order.keys(&rows)?;
            return Ok(Some((rows, keys)));
        }
    }
    Ok(None)
}
