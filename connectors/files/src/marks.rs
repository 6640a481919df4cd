//! The places of some bytes in a text, found by looking at many bytes at once.

use wide::u8x16;

/// Bytes of text that are looked through at once: with their places they stay close to the core while each column is read.
pub(crate) const WINDOW_BYTES: usize = 16 << 10;
/// Bytes of one look: a bit for each of them is a word.
const CHUNK_BYTES: usize = 64;

/// Which bytes are marked.
pub(crate) trait Kind {
    /// Returns all ones for each byte that is.
    fn of(&self, bytes: u8x16) -> u8x16;
}

/// What may end a CSV cell with this delimiter, or begin a quoted one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell(pub(crate) u8);

impl Kind for Cell {
    #[inline]
    fn of(&self, bytes: u8x16) -> u8x16 {
        let equal = |byte: u8| bytes.simd_eq(u8x16::splat(byte));
        equal(self.0) | equal(b'\n') | equal(b'\r') | equal(b'"')
    }
}

/// What may begin or end a string of JSON, or is not plain in one: quotes, escapes, control characters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member;

impl Member {
    /// Returns whether a byte is marked.
    pub(crate) fn is(byte: u8) -> bool {
        byte < 0x20 || byte == b'"' || byte == b'\\'
    }
}

impl Kind for Member {
    #[inline]
    fn of(&self, bytes: u8x16) -> u8x16 {
        let equal = |byte: u8| bytes.simd_eq(u8x16::splat(byte));
        equal(b'"') | equal(b'\\') | bytes.min(u8x16::splat(0x1F)).simd_eq(bytes)
    }
}

/// Notes the places of marked bytes between two others.
pub(crate) fn look(kind: impl Kind, bytes: &[u8], at: usize, to: usize, marks: &mut Vec<u32>) {
    marks.clear();
    let (chunks, rest) = bytes[at..to].as_chunks::<CHUNK_BYTES>();
    let mut base = at;
    for chunk in chunks {
        note(base, bits(&kind, chunk), marks);
        base += CHUNK_BYTES;
    }
    let mut last = [0; CHUNK_BYTES];
    last[..rest.len()].copy_from_slice(rest);
    note(base, bits(&kind, &last) & ((1 << rest.len()) - 1), marks);
}

/// Returns a bit for each byte that is marked.
#[inline]
fn bits(kind: &impl Kind, chunk: &[u8; CHUNK_BYTES]) -> u64 {
    let (parts, _) = chunk.as_chunks::<16>();
    let of = |part: &[u8; 16]| u64::from(kind.of(u8x16::new(*part)).to_bitmask());
    parts.iter().rev().fold(0, |all, part| (all << 16) | of(part))
}

/// Notes the places of bits: always eight at once, for a branch for each would often be guessed wrong.
#[inline]
fn note(base: usize, mut bits: u64, marks: &mut Vec<u32>) {
    let (base, end) = (place(base), marks.len() + bits.count_ones() as usize);
    while bits != 0 {
        let mut eight = [0; 8];
        for mark in &mut eight {
            // The highest bit spares the question whether there is one at all.
            *mark = base + (bits | (1 << 63)).trailing_zeros();
            bits &= bits.wrapping_sub(1);
        }
        marks.extend_from_slice(&eight);
    }
    marks.truncate(end);
}

/// A place in a block, which is never as long as this counts.
pub(crate) fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_those_of_a_look_at_every_byte() {
        let text: Vec<u8> = (0..700_u32).map(|n| (n * n / 3 % 256) as u8).collect();
        let check = |kind: &dyn Fn(u8) -> bool, found: Vec<u32>, from: usize, to: usize| {
            let expected: Vec<u32> = (from..to).filter(|at| kind(text[*at])).map(place).collect();
            assert_eq!(found, expected, "{from} {to}");
        };
        for (from, to) in [(0, 0), (0, 1), (0, 64), (3, 130), (1, 65), (0, 700), (699, 700), (63, 127)] {
            let mut marks = vec![7];
            look(Member, &text, from, to, &mut marks);
            check(&Member::is, marks, from, to);
            for delimiter in [b',', b'\t', 0, 0xFF] {
                let mut marks = Vec::new();
                look(Cell(delimiter), &text, from, to, &mut marks);
                check(&|byte| [delimiter, b'\n', b'\r', b'"'].contains(&byte), marks, from, to);
            }
        }
    }
}
