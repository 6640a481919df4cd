//! The row index of a stripe: where its groups of rows begin, and what they hold.

use std::collections::HashMap;

use lakehead_core::Result;

use super::stripe::Streams;
use super::tail::{FOOTER_BYTES_MAX, add};
use crate::wire::Fields;
use crate::write::StreamKind;

/// The groups of columns, by the columns' numbers.
pub(super) type Indexes = HashMap<u64, Vec<Entry>>;

/// One group of one column.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// The numbers of the place where it begins in the column's streams.
    pub(super) position: Vec<u64>,
    /// The message of its statistics.
    pub(super) stats: Option<Vec<u8>>,
}

/// Reads the indexes of these columns and those below them, as far as there are any.
pub(super) fn read(streams: &mut Streams<'_>, columns: &[u64]) -> Result<Indexes> {
    let columns = streams.hold_indexes(columns)?;
    let mut indexes = Indexes::new();
    for column in columns.into_iter().filter(|column| streams.has(*column, StreamKind::RowIndex)) {
        let mut bytes = Vec::new();
        streams.plain(column, StreamKind::RowIndex)?.take_rest(FOOTER_BYTES_MAX, &mut bytes)?;
        indexes.insert(column, entries(&bytes)?);
    }
    Ok(indexes)
}

fn entries(bytes: &[u8]) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut fields = Fields(bytes);
    while let Some((field, value)) = fields.next()? {
        if field == 1 {
            add(&mut entries, entry(value.bytes()?)?)?;
        }
    }
    Ok(entries)
}

fn entry(bytes: &[u8]) -> Result<Entry> {
    let mut entry = Entry::default();
    let mut fields = Fields(bytes);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => value.numbers(&mut entry.position)?,
            2 => entry.stats = Some(value.bytes()?.to_vec()),
            _ => {}
        }
    }
    Ok(entry)
}
