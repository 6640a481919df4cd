//! Streams under construction: numbers become runs, runs become bytes, and whole chunks are compressed as they fill.
//!
//! A row group's position in a stream is where its first run begins. Runs are closed at the end of every row group, so
//! a reader that seeks never skips values inside a run; the cost is one short run per stream and 10,000 rows.

use lakehead_core::Result;

use crate::codec::{CHUNK_BYTES, Codec};
use crate::run::boolean::Bits;
use crate::run::integer::{RUN_MAX, Sign};
use crate::run::{byte, integer};

/// Bytes and booleans that wait for the byte coder; it loses at most a run's header at each border.
const BYTES_WAITING_MAX: usize = 4096;

/// What a stream is for, by its number in the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamKind {
    Present = 0,
    Data = 1,
    Length = 2,
    DictionaryData = 3,
    Secondary = 5,
    RowIndex = 6,
    BloomFilterUtf8 = 8,
}

/// A finished stream of a stripe.
pub(crate) struct StreamOut {
    pub(crate) kind: StreamKind,
    pub(crate) bytes: Vec<u8>,
    /// For each row group, the numbers of its position; empty for streams that are not sought.
    pub(crate) starts: Vec<Vec<u64>>,
}

/// Bytes, compressed as they come.
#[derive(Default)]
pub(crate) struct Chunks {
    done: Vec<u8>,
    pub(crate) open: Vec<u8>,
    starts: Vec<Vec<u64>>,
}

impl Chunks {
    pub(crate) fn len(&self) -> usize {
        self.done.len() + self.open.len()
    }

    /// Compresses the chunks that are full.
    pub(crate) fn settle(&mut self, codec: &mut Codec) -> Result<()> {
        if self.open.len() < CHUNK_BYTES || codec.is_none() {
            return Ok(());
        }
        let (full, rest) = self.open.as_chunks::<CHUNK_BYTES>();
        for chunk in full {
            codec.chunk(chunk, &mut self.done)?;
        }
        let rest = rest.len();
        self.open.drain(..self.open.len() - rest);
        Ok(())
    }

    /// Notes that a row group begins here, `inside` whatever run the next bytes begin.
    pub(crate) fn mark(&mut self, codec: &mut Codec, inside: &[u64]) -> Result<()> {
        self.settle(codec)?;
        let mut start = Vec::with_capacity(4);
        if !codec.is_none() {
            start.push(self.done.len() as u64);
        }
        start.push(self.open.len() as u64);
        start.extend_from_slice(inside);
        self.starts.push(start);
        Ok(())
    }

    /// Ends the stream and leaves an empty one.
    pub(crate) fn finish(&mut self, kind: StreamKind, codec: &mut Codec) -> Result<StreamOut> {
        let mut whole = std::mem::take(self);
        whole.settle(codec)?;
        if codec.is_none() {
            return Ok(StreamOut { kind, bytes: whole.open, starts: whole.starts });
        }
        if !whole.open.is_empty() {
            codec.chunk(&whole.open, &mut whole.done)?;
        }
        Ok(StreamOut { kind, bytes: whole.done, starts: whole.starts })
    }
}

/// A stream of whole numbers.
pub(crate) struct Integers {
    sign: Sign,
    waiting: Vec<i64>,
    chunks: Chunks,
}

impl Integers {
    pub(crate) fn new(sign: Sign) -> Self {
        Self { sign, waiting: Vec::with_capacity(RUN_MAX), chunks: Chunks::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len() * 8 + self.chunks.len()
    }

    pub(crate) fn push(&mut self, value: i64) {
        self.waiting.push(value);
        if self.waiting.len() == RUN_MAX {
            self.flush();
        }
    }

    fn flush(&mut self) {
        integer::encode(&self.waiting, self.sign, &mut self.chunks.open);
        self.waiting.clear();
    }

    pub(crate) fn settle(&mut self, codec: &mut Codec) -> Result<()> {
        self.chunks.settle(codec)
    }

    pub(crate) fn mark(&mut self, codec: &mut Codec) -> Result<()> {
        self.flush();
        self.chunks.mark(codec, &[0])
    }

    pub(crate) fn finish(&mut self, kind: StreamKind, codec: &mut Codec) -> Result<StreamOut> {
        self.flush();
        self.chunks.finish(kind, codec)
    }
}

/// A stream of single bytes.
#[derive(Default)]
pub(crate) struct Bytes {
    waiting: Vec<u8>,
    chunks: Chunks,
}

impl Bytes {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.chunks.len()
    }

    pub(crate) fn push(&mut self, value: u8) {
        self.waiting.push(value);
    }

    fn flush(&mut self) {
        byte::encode(&self.waiting, &mut self.chunks.open);
        self.waiting.clear();
    }

    pub(crate) fn settle(&mut self, codec: &mut Codec) -> Result<()> {
        if self.waiting.len() >= BYTES_WAITING_MAX {
            self.flush();
        }
        self.chunks.settle(codec)
    }

    pub(crate) fn mark(&mut self, codec: &mut Codec) -> Result<()> {
        self.flush();
        self.chunks.mark(codec, &[0])
    }

    pub(crate) fn finish(&mut self, kind: StreamKind, codec: &mut Codec) -> Result<StreamOut> {
        self.flush();
        self.chunks.finish(kind, codec)
    }
}

/// A stream of booleans. A row group may begin inside a byte, as a position can say so.
#[derive(Default)]
pub(crate) struct Booleans {
    bits: Bits,
    chunks: Chunks,
}

impl Booleans {
    pub(crate) fn len(&self) -> usize {
        self.bits.bytes.len() + self.chunks.len()
    }

    pub(crate) fn push(&mut self, value: bool) {
        self.bits.push(value);
    }

    pub(crate) fn push_set(&mut self, count: usize) {
        self.bits.push_set(count);
    }

    fn flush(&mut self) {
        byte::encode(&self.bits.bytes, &mut self.chunks.open);
        self.bits.bytes.clear();
    }

    pub(crate) fn settle(&mut self, codec: &mut Codec) -> Result<()> {
        if self.bits.bytes.len() >= BYTES_WAITING_MAX {
            self.flush();
        }
        self.chunks.settle(codec)
    }

    pub(crate) fn mark(&mut self, codec: &mut Codec) -> Result<()> {
        self.flush();
        self.chunks.mark(codec, &[0, u64::from(self.bits.waiting())])
    }

    pub(crate) fn finish(&mut self, kind: StreamKind, codec: &mut Codec) -> Result<StreamOut> {
        self.bits.pad();
        self.flush();
        self.chunks.finish(kind, codec)
    }
}
