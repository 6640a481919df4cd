//! The bytes of one stream as they lie in the file, fetched piece by piece as they are needed.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use lakehead_core::Result;

use super::source::Source;
use crate::fault::damaged;

/// Bytes of a piece at most: what is fetched of a stream and not needed is a part of what was needed before.
const PIECE_BYTES_MAX: u64 = 1 << 20;

/// Bytes that are at hand, and where the others lie.
pub(crate) struct Packed {
    /// Bytes of the stream before `held`.
    at: u64,
    held: Bytes,
    source: Option<Arc<Source>>,
    /// Where the stream lies in the file.
    range: Range<u64>,
    /// Bytes of the next piece.
    piece: u64,
}

impl Packed {
    /// Takes a stream that is at hand whole.
    pub(crate) fn whole(held: Bytes) -> Self {
        let length = held.len() as u64;
        Self { at: 0, held, source: None, range: 0..length, piece: 0 }
    }

    /// Takes a stream that lies at `range`; the first piece has `piece` bytes, each other twice those of the one before.
    pub(super) fn pieces(source: Arc<Source>, range: Range<u64>, piece: u64) -> Self {
        Self { at: 0, held: Bytes::new(), source: Some(source), range, piece: piece.max(1) }
    }

    /// Returns how many bytes of the stream are gone.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Returns the next bytes: `count` of them at least, fewer where the stream ends.
    pub(crate) fn ready(&mut self, count: usize) -> Result<&Bytes> {
        if self.held.len() < count
            && let Some(source) = &self.source
        {
            let from = self.range.start + self.at + self.held.len() as u64;
            let wanted = self.piece.max((count - self.held.len()) as u64);
            let length = wanted.min(self.range.end.saturating_sub(from));
            let piece = source.read(from, length)?;
            self.piece = self.piece.saturating_mul(2).min(PIECE_BYTES_MAX.max(self.piece));
            self.held = if self.held.is_empty() { piece } else { joined(&self.held, &piece) };
        }
        Ok(&self.held)
    }

    /// Takes bytes that are ready.
    pub(crate) fn take(&mut self, count: usize) -> Bytes {
        let taken = self.held.split_to(count.min(self.held.len()));
        self.at += taken.len() as u64;
        taken
    }

    /// Goes to a place of the stream. What is passed over is not fetched.
    pub(crate) fn go_to(&mut self, at: u64) -> Result<()> {
        let ahead = at.checked_sub(self.at).and_then(|ahead| usize::try_from(ahead).ok());
        match ahead.filter(|ahead| *ahead <= self.held.len()) {
            Some(ahead) => drop(self.take(ahead)),
            None if self.source.is_some() && at <= self.range.end - self.range.start => {
                (self.at, self.held) = (at, Bytes::new());
            }
            None => return Err(damaged("an index points beyond its stream")),
        }
        Ok(())
    }
}

fn joined(first: &Bytes, second: &Bytes) -> Bytes {
    let mut both = BytesMut::with_capacity(first.len() + second.len());
    both.extend_from_slice(first);
    both.extend_from_slice(second);
    both.freeze()
}
