//! How a run lies on disk.
//!
//! ```text
//! 0      head      what follows, with checksums; written last, so a run that was not finished has none
//! 4096   bloom     lines of 64 bytes, then filler up to a multiple of 2048
//!        blocks    2048 bytes each: 85 entries, filler, checksum
//!        fences    8 bytes a block: the high half of its first hash
//!        files     12 bytes a data file: its id and how many entries lie in it
//! ```
//!
//! All numbers are little-endian. The bloom comes before the blocks because its size is known from the start and it is
//! written as the blocks are: a merge holds neither in memory.

use std::path::Path;

use lakehead_core::Result;

use crate::bloom::LINE_BYTES;
use crate::checksum::checksum;
use crate::entry::{ENTRY_BYTES, read_u32, read_u64};
use crate::failure::{damaged, other_format};

/// Bytes of a block: what a lookup copies and checks for a key, so that half a page costs less than a whole one.
pub(crate) const BLOCK_BYTES: usize = 2048;
/// Entries of a full block.
pub(crate) const BLOCK_ENTRIES: usize = (BLOCK_BYTES - CHECK_BYTES) / ENTRY_BYTES;
/// Where the bloom filter begins.
pub(crate) const BLOOM_AT: u64 = 4096;
/// Bytes of the head that mean something.
pub(crate) const HEAD_BYTES: usize = 80;
/// Bytes of one data file's count.
pub(crate) const FILE_COUNT_BYTES: usize = 12;
/// The one format that is read and written; any other means a rebuild, so there is no migration.
pub(crate) const FORMAT: u32 = 3;

const CHECK_BYTES: usize = 8;
const MAGIC: [u8; 8] = *b"LHKEYRUN";

/// What a run says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) number: u64,
    pub(crate) count: u64,
    pub(crate) bloom_lines: u64,
    pub(crate) bloom_check: u64,
    pub(crate) fences_check: u64,
    pub(crate) file_count: u64,
    pub(crate) files_check: u64,
}

impl Head {
    pub(crate) fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        let fields = [
            self.number,
            self.count,
            self.bloom_lines,
            self.bloom_check,
            self.fences_check,
            self.file_count,
            self.files_check,
        ];
        for (field, place) in fields.iter().zip(bytes[16..].chunks_exact_mut(8)) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        let check = checksum(&bytes[..HEAD_BYTES - CHECK_BYTES], self.number, 0);
        bytes[HEAD_BYTES - CHECK_BYTES..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Reads the head of run `number`.
    pub(crate) fn decode(bytes: &[u8; HEAD_BYTES], number: u64, path: &Path) -> Result<Self> {
        if bytes[..8] != MAGIC {
            return Err(damaged(path, "a run has no head"));
        }
        if read_u32(bytes, 8) != FORMAT {
            return Err(other_format(path, read_u32(bytes, 8), FORMAT));
        }
        if checksum(&bytes[..HEAD_BYTES - CHECK_BYTES], number, 0) != Self::check_of(bytes) {
            return Err(damaged(path, "the checksum of a head does not hold"));
        }
        let field = |at: usize| read_u64(bytes, 16 + at * 8);
        Ok(Self {
            number: field(0),
            count: field(1),
            bloom_lines: field(2),
            bloom_check: field(3),
            fences_check: field(4),
            file_count: field(5),
            files_check: field(6),
        })
    }

    /// Returns the checksum at the end of an encoded head; as it covers the others, it stands for the whole run.
    pub(crate) fn check_of(bytes: &[u8; HEAD_BYTES]) -> u64 {
        read_u64(bytes, HEAD_BYTES - CHECK_BYTES)
    }

    pub(crate) fn bloom_bytes(&self) -> u64 {
        self.bloom_lines * LINE_BYTES as u64
    }

    pub(crate) fn blocks(&self) -> u64 {
        self.count.div_ceil(BLOCK_ENTRIES as u64)
    }

    pub(crate) fn blocks_at(&self) -> u64 {
        blocks_at(self.bloom_lines)
    }

    pub(crate) fn fences_at(&self) -> u64 {
        self.blocks_at() + self.blocks() * BLOCK_BYTES as u64
    }

    pub(crate) fn files_at(&self) -> u64 {
        self.fences_at() + self.blocks() * 8
    }

    /// Returns the length of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.files_at() + self.file_count * FILE_COUNT_BYTES as u64
    }

    /// Returns how many entries block `block` has.
    pub(crate) fn entries_of(&self, block: u64) -> usize {
        (self.count - block * BLOCK_ENTRIES as u64).min(BLOCK_ENTRIES as u64) as usize
    }
}

/// Returns where the blocks begin behind a bloom filter of so many lines.
pub(crate) fn blocks_at(bloom_lines: u64) -> u64 {
    BLOOM_AT + (bloom_lines * LINE_BYTES as u64).next_multiple_of(BLOCK_BYTES as u64)
}

/// Puts the checksum at the end of a block.
pub(crate) fn close_block(block: &mut [u8], number: u64, position: u64) {
    let (body, check) = block.split_at_mut(BLOCK_BYTES - CHECK_BYTES);
    check.copy_from_slice(&checksum(body, number, position).to_le_bytes());
}

/// Refuses a block whose checksum does not hold.
pub(crate) fn check_block(block: &[u8], number: u64, position: u64, path: &Path) -> Result<()> {
    let (body, check) = block.split_at(BLOCK_BYTES - CHECK_BYTES);
    if checksum(body, number, position) == read_u64(check, 0) {
        return Ok(());
    }
    Err(damaged(path, "the checksum of a block does not hold").with("block", position))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_survives_its_encoding_and_no_flipped_byte() {
        let head = Head {
            number: 5,
            count: 1_000,
            bloom_lines: 20,
            bloom_check: 1,
            fences_check: 2,
            file_count: 3,
            files_check: 4,
        };
        let path = Path::new("run");
        assert_eq!(Head::decode(&head.encode(), 5, path).unwrap(), head);
        Head::decode(&head.encode(), 6, path).unwrap_err();
        for at in 0..HEAD_BYTES {
            let mut bytes = head.encode();
            bytes[at] ^= 0x10;
            Head::decode(&bytes, 5, path).unwrap_err();
        }
    }
}
