//! The streams of a stripe, opened by column.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use lakehead_core::Result;

use super::integer::{IntegerRuns, Version};
use super::packed::Packed;
use super::source::Source;
use super::stream::{BitRuns, ByteRuns, Plain};
use super::tail::{StripeFooter, Tail};
use crate::fault::damaged;
use crate::run::integer::Sign;
use crate::schema::OrcType;
use crate::write::StreamKind;

/// Bytes that are fetched first of a stream that is not fetched whole: the first chunk of most.
const PIECE_BYTES: u64 = 64 << 10;

/// Streams that are no columns' values: indexes and filters.
const INDEX_KINDS: [u64; 3] = [StreamKind::RowIndex as u64, 7, StreamKind::BloomFilterUtf8 as u64];

/// What to open streams from.
pub(super) struct Streams<'a> {
    pub(super) source: &'a Arc<Source>,
    pub(super) tail: &'a Tail,
    pub(super) footer: &'a StripeFooter,
    /// Streams that were fetched whole, by where they begin.
    held: HashMap<u64, Bytes>,
}

impl<'a> Streams<'a> {
    pub(super) fn new(source: &'a Arc<Source>, tail: &'a Tail, footer: &'a StripeFooter) -> Self {
        Self { source, tail, footer, held: HashMap::new() }
    }

    /// Fetches all values of these columns and those below them at once.
    pub(super) fn hold_values(&mut self, columns: &[u64]) -> Result<()> {
        let columns = below(&self.tail.types, columns);
        self.hold(|kind, column| columns.contains(&column) && !INDEX_KINDS.contains(&kind))
    }

    /// Fetches the indexes of these columns and those below them at once.
    pub(super) fn hold_indexes(&mut self, columns: &[u64]) -> Result<HashSet<u64>> {
        let columns = below(&self.tail.types, columns);
        self.hold(|kind, column| columns.contains(&column) && kind == StreamKind::RowIndex as u64)?;
        Ok(columns)
    }

    fn hold(&mut self, wanted: impl Fn(u64, u64) -> bool) -> Result<()> {
        let streams = self.footer.streams.iter().filter(|((kind, column), _)| wanted(*kind, *column));
        let mut ranges: Vec<Range<u64>> = streams.map(|(_, (offset, length))| *offset..offset + length).collect();
        ranges.retain(|range| !range.is_empty());
        ranges.sort_by_key(|range| range.start);
        let found = self.source.read_all(&ranges)?;
        self.held = ranges.iter().map(|range| range.start).zip(found).collect();
        Ok(())
    }

    /// Returns a column's stream; a stream that is not there is empty, as some writers leave such out.
    pub(super) fn plain(&self, column: u64, kind: StreamKind) -> Result<Plain> {
        let packed = match self.find(column, kind) {
            None | Some((_, 0)) => Packed::whole(Bytes::new()),
            Some((offset, length)) => match self.held.get(&offset) {
                Some(bytes) => Packed::whole(bytes.clone()),
                None => Packed::pieces(Arc::clone(self.source), offset..offset + length, PIECE_BYTES),
            },
        };
        Ok(Plain::packed(self.tail.compression, self.tail.chunk_bytes, packed))
    }

    fn find(&self, column: u64, wanted: StreamKind) -> Option<(u64, u64)> {
        self.footer.streams.get(&(wanted as u64, column)).copied()
    }

    pub(super) fn has(&self, column: u64, kind: StreamKind) -> bool {
        self.find(column, kind).is_some()
    }

    pub(super) fn present(&self, column: u64) -> Result<Option<BitRuns>> {
        if self.find(column, StreamKind::Present).is_none() {
            return Ok(None);
        }
        Ok(Some(BitRuns::new(self.plain(column, StreamKind::Present)?)))
    }

    pub(super) fn bits(&self, column: u64) -> Result<BitRuns> {
        Ok(BitRuns::new(self.plain(column, StreamKind::Data)?))
    }

    pub(super) fn bytes(&self, column: u64) -> Result<ByteRuns> {
        Ok(ByteRuns::new(self.plain(column, StreamKind::Data)?))
    }

    pub(super) fn integers(&self, column: u64, kind: StreamKind, sign: Sign) -> Result<IntegerRuns> {
        let (version, _) = self.encoding(column)?;
        Ok(IntegerRuns::new(self.plain(column, kind)?, sign, version))
    }

    pub(super) fn lengths(&self, column: u64) -> Result<IntegerRuns> {
        self.integers(column, StreamKind::Length, Sign::Unsigned)
    }

    /// Returns the version of a column's runs, and how many texts its dictionary has if it has one.
    pub(super) fn encoding(&self, column: u64) -> Result<(Version, Option<u64>)> {
        let encoding = usize::try_from(column).ok().and_then(|column| self.footer.encodings.get(column));
        match encoding {
            Some((0, _)) => Ok((Version::One, None)),
            Some((1, texts)) => Ok((Version::One, Some(*texts))),
            Some((2, _)) => Ok((Version::Two, None)),
            Some((3, texts)) => Ok((Version::Two, Some(*texts))),
            _ => Err(damaged("a column without an encoding")),
        }
    }
}

/// Returns these columns and those below them. `types` were checked to be a tree.
fn below(types: &[OrcType], columns: &[u64]) -> HashSet<u64> {
    let mut found = HashSet::new();
    let mut left = columns.to_vec();
    while let Some(column) = left.pop() {
        if found.insert(column) {
            let orc_type = usize::try_from(column).ok().and_then(|column| types.get(column));
            left.extend(orc_type.iter().flat_map(|orc_type| &orc_type.children));
        }
    }
    found
}
