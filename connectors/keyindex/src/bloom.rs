//! The bloom filter of a run: lines of 512 bits, one cache line a key.
//!
//! A key's line follows from the high bits of its hash, so lines are in the order of the hashes: a writer of sorted
//! keys fills them from the first to the last and holds one, and a lookup of sorted keys walks memory forwards.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use lakehead_core::Result;

use crate::KeyHash;
use crate::checksum::Checksum;
use crate::entry::{high, low, read_u64};
use crate::failure::{damaged, io_error, read_error};
use crate::layout::{BLOOM_AT, Head};
use crate::run::Wanted;

/// Bits a key: one absent key in a hundred costs a read.
const BITS_PER_KEY: u64 = 10;
/// Bits set a key. Seven times nine bits of the low half choose them; ten bits a key times ln 2 is seven.
const PROBES: u32 = 7;
/// Bytes of a line.
pub(crate) const LINE_BYTES: usize = 64;
/// Bytes written or read at once.
const PIECE_BYTES: usize = 64 * 1024;

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u64; 8]);

const EMPTY: Line = Line([0; 8]);

impl Line {
    fn set(&mut self, low: u64) {
        for probe in 0..PROBES {
            let bit = (low >> (9 * probe)) & 511;
            self.0[(bit >> 6) as usize] |= 1 << (bit & 63);
        }
    }

    /// All probes are read before one branch: the reads of the next key need not wait for a guess to be settled.
    fn has(&self, low: u64) -> bool {
        let mut all = 1;
        for probe in 0..PROBES {
            let bit = (low >> (9 * probe)) & 511;
            all &= self.0[(bit >> 6) as usize] >> (bit & 63);
        }
        all & 1 == 1
    }
}

/// Returns how many lines a filter over `keys` keys has.
pub(crate) fn lines_for(keys: u64) -> u64 {
    keys.saturating_mul(BITS_PER_KEY).div_ceil(512).max(1)
}

fn line_of(high: u64, lines: u64) -> u64 {
    ((u128::from(high) * u128::from(lines)) >> 64) as u64
}

/// A filter in memory.
pub(crate) struct Bloom(Vec<Line>);

impl Bloom {
    /// Reads the filter of a run; a filter with a flipped bit would hide keys, so the checksum must hold.
    pub(crate) fn read(file: &File, head: &Head, path: &Path) -> Result<Self> {
        let mut lines = Vec::with_capacity(usize::try_from(head.bloom_lines).unwrap_or(usize::MAX));
        let mut check = Checksum::new(head.number, BLOOM_AT);
        let mut piece = vec![0; PIECE_BYTES];
        let (mut at, mut left) = (BLOOM_AT, head.bloom_bytes());
        while left > 0 {
            let bytes = usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            file.read_exact_at(&mut piece[..bytes], at).map_err(|error| read_error(error, path))?;
            check.add(&piece[..bytes]);
            lines.extend(piece[..bytes].chunks_exact(LINE_BYTES).map(|line| {
                let mut words = EMPTY;
                words.0.iter_mut().enumerate().for_each(|(i, word)| *word = read_u64(line, i * 8));
                words
            }));
            at += bytes as u64;
            left -= bytes as u64;
        }
        if check.finish() != head.bloom_check {
            return Err(damaged(path, "the checksum of a bloom filter does not hold"));
        }
        Ok(Self(lines))
    }

    /// Returns those of the wanted hashes that the run may hold, never without one that it holds.
    ///
    /// No branch depends on an answer: the memory of one line is waited for while the next are asked for already.
    pub(crate) fn pass(&self, wanted: &[Wanted]) -> Vec<Wanted> {
        let mut passed = wanted.to_vec();
        let mut count = 0;
        for wanted in wanted {
            passed[count] = *wanted;
            let line = line_of(wanted.high, self.0.len() as u64);
            count += usize::from(self.0[line as usize].has(wanted.low));
        }
        passed.truncate(count);
        passed
    }
}

/// Writes the filter of a run while its sorted entries pass.
pub(crate) struct BloomWriter {
    lines: u64,
    line: Line,
    at: u64,
    written: u64,
    piece: Vec<u8>,
    check: Checksum,
}

impl BloomWriter {
    pub(crate) fn new(number: u64, lines: u64) -> Self {
        let piece = Vec::with_capacity(PIECE_BYTES);
        Self { lines, line: EMPTY, at: 0, written: 0, piece, check: Checksum::new(number, BLOOM_AT) }
    }

    /// Adds a hash that is not less than any before; a filter of no lines takes none.
    pub(crate) fn add(&mut self, hash: KeyHash, file: &File, path: &Path) -> Result<()> {
        if self.lines == 0 {
            return Ok(());
        }
        let line = line_of(high(hash), self.lines);
        while self.at < line {
            self.end_line(file, path)?;
        }
        self.line.set(low(hash));
        Ok(())
    }

    fn end_line(&mut self, file: &File, path: &Path) -> Result<()> {
        self.line.0.iter().for_each(|word| self.piece.extend_from_slice(&word.to_le_bytes()));
        self.line = EMPTY;
        self.at += 1;
        if self.piece.len() >= PIECE_BYTES { self.flush(file, path) } else { Ok(()) }
    }

    fn flush(&mut self, file: &File, path: &Path) -> Result<()> {
        file.write_all_at(&self.piece, BLOOM_AT + self.written).map_err(|error| io_error(error, path))?;
        self.check.add(&self.piece);
        self.written += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }

    /// Writes what is left and returns the checksum.
    pub(crate) fn finish(&mut self, file: &File, path: &Path) -> Result<u64> {
        while self.at < self.lines {
            self.end_line(file, path)?;
        }
        self.flush(file, path)?;
        Ok(self.check.finish())
    }
}
