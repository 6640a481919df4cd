//! The streams of a stripe, opened by column.

use lakehead_core::Result;

use super::integer::{IntegerRuns, Version};
use super::source::Source;
use super::stream::{BitRuns, ByteRuns, Plain};
use super::tail::{StripeFooter, Tail};
use crate::fault::damaged;
use crate::run::integer::Sign;
use crate::write::StreamKind;

/// What to open streams from.
pub(super) struct Streams<'a> {
    pub(super) source: &'a Source,
    pub(super) tail: &'a Tail,
    pub(super) footer: &'a StripeFooter,
}

impl Streams<'_> {
    /// Returns a column's stream; a stream that is not there is empty, as some writers leave such out.
    pub(super) fn plain(&self, column: u64, kind: StreamKind) -> Result<Plain> {
        let found = self.find(column, kind);
        let bytes = found.map(|(offset, length)| self.source.read(offset, length)).transpose()?.unwrap_or_default();
        Ok(Plain::new(self.tail.compression, self.tail.chunk_bytes, bytes))
    }

    fn find(&self, column: u64, wanted: StreamKind) -> Option<(u64, u64)> {
        self.footer.streams.get(&(wanted as u64, column)).copied()
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
