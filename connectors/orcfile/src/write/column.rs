//! One column of the tree: which values are there, the values, and what is known of them.

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::compute::filter;
use lakehead_core::Result;

use super::stream::{Booleans, StreamKind, StreamOut};
use super::values::Values;
use crate::bloom::Bloom;
use crate::codec::Codec;
use crate::stats::{Stats, row_index};
use crate::wire::Message;

/// What a stripe holds, column by column in the order of their numbers.
#[derive(Default)]
pub(super) struct StripeParts {
    pub(super) index: Vec<(u32, StreamOut)>,
    pub(super) data: Vec<(u32, StreamOut)>,
    pub(super) encodings: Vec<Message>,
    pub(super) stats: Vec<Message>,
}

/// A column under construction.
pub(super) struct Column {
    pub(super) number: u32,
    /// Where it is in the schema, with dots, for errors.
    pub(super) path: String,
    present: Booleans,
    pub(super) values: Values,
    group: Stats,
    groups: Vec<Stats>,
    /// Over all stripes that are closed.
    pub(super) file: Stats,
    bloom: Option<Bloom>,
    /// The filters of the row groups that are closed.
    blooms: Message,
}

impl Column {
    /// `stats` are those of no values; `bloom` an empty filter, for a column that has one.
    pub(super) fn new(number: u32, path: String, values: Values, stats: Stats, bloom: Option<Bloom>) -> Self {
        Self {
            number,
            path,
            present: Booleans::default(),
            values,
            group: stats.clone(),
            groups: Vec::new(),
            file: stats,
            bloom,
            blooms: Message::default(),
        }
    }

    /// Takes values; what lies under a null is not looked at.
    pub(super) fn write(&mut self, array: &ArrayRef, codec: &mut Codec) -> Result<()> {
        let Some(nulls) = array.nulls().filter(|nulls| nulls.null_count() > 0) else {
            return self.write_present(array, codec);
        };
        nulls.iter().for_each(|present| self.present.push(present));
        self.group.nulls += nulls.null_count() as u64;
        let present = BooleanArray::new(nulls.inner().clone(), None);
        let array = filter(array, &present)?;
        self.write_values(&array, codec)
    }

    fn write_present(&mut self, array: &ArrayRef, codec: &mut Codec) -> Result<()> {
        self.present.push_set(array.len());
        self.write_values(array, codec)
    }

    fn write_values(&mut self, array: &ArrayRef, codec: &mut Codec) -> Result<()> {
        self.group.count += array.len() as u64;
        self.present.settle(codec)?;
        self.values.write(array, &self.path, &mut self.group.values, &mut self.bloom, codec)
    }

    /// Takes rows of the table itself, which are never null.
    pub(super) fn write_rows(&mut self, columns: &[ArrayRef], rows: usize, codec: &mut Codec) -> Result<()> {
        self.present.push_set(rows);
        self.group.count += rows as u64;
        for (column, array) in self.values.children_mut().iter_mut().zip(columns) {
            column.write(array, codec)?;
        }
        Ok(())
    }

    /// Notes the position at which a row group begins.
    pub(super) fn start_group(&mut self, codec: &mut Codec) -> Result<()> {
        self.present.mark(codec)?;
        self.values.mark(codec)?;
        self.values.children_mut().iter_mut().try_for_each(|child| child.start_group(codec))
    }

    /// Closes a row group.
    pub(super) fn end_group(&mut self) {
        self.groups.push(self.group.take());
        if let Some(bloom) = &mut self.bloom {
            self.blooms.nested(1, bloom.take());
        }
        self.values.children_mut().iter_mut().for_each(Self::end_group);
    }

    /// Returns about how many bytes the stripe holds of this column and those below it.
    pub(super) fn len(&self) -> usize {
        let below: usize = self.values.children().iter().map(Self::len).sum();
        self.present.len() + self.values.len() + below
    }

    /// Ends the stripe.
    pub(super) fn finish(&mut self, codec: &mut Codec, parts: &mut StripeParts) -> Result<()> {
        let present = self.present.finish(StreamKind::Present, codec)?;
        let (encoding, mut streams) = self.values.finish(codec)?;
        let groups = std::mem::take(&mut self.groups);
        let mut stripe = self.file.emptied();
        groups.iter().for_each(|group| stripe.merge(group));
        self.file.merge(&stripe);
        // A column without nulls says so by having no such stream, and its positions have no place for one.
        if stripe.nulls > 0 {
            streams.insert(0, present);
        }
        let positions = |group: usize| -> Vec<u64> {
            streams.iter().filter_map(|stream| stream.starts.get(group)).flatten().copied().collect()
        };
        let entries = groups.iter().enumerate().map(|(at, stats)| (positions(at), stats));
        parts.index.push((self.number, index_stream(StreamKind::RowIndex, &row_index(entries), codec)?));
        let mut message = Message::default();
        message.uint(1, encoding.kind());
        if let Some(texts) = encoding.dictionary_len() {
            message.uint(2, texts as u64);
        }
        if self.bloom.is_some() {
            message.uint(3, 1);
            let blooms = std::mem::take(&mut self.blooms).into_bytes();
            parts.index.push((self.number, index_stream(StreamKind::BloomFilterUtf8, &blooms, codec)?));
        }
        parts.encodings.push(message);
        parts.stats.push(stripe.message());
        parts.data.extend(streams.into_iter().map(|stream| (self.number, stream)));
        self.values.children_mut().iter_mut().try_for_each(|child| child.finish(codec, parts))
    }

    /// Appends the statistics of the whole file, in the order of numbers.
    pub(super) fn file_stats(&self, into: &mut Vec<Message>) {
        into.push(self.file.message());
        self.values.children().iter().for_each(|child| child.file_stats(into));
    }
}

fn index_stream(kind: StreamKind, plain: &[u8], codec: &mut Codec) -> Result<StreamOut> {
    Ok(StreamOut { kind, bytes: codec.whole(plain)?, starts: Vec::new() })
}
