//! A run: one immutable file of sorted entries, and how a batch of hashes is looked up in it.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use lakehead_core::Result;

use crate::blocks::{Blocks, Budget};
use crate::bloom::Bloom;
use crate::checksum::checksum;
use crate::entry::{Entry, hash_at, high, low, read_u32, read_u64};
use crate::failure::{damaged, io_error, read_error};
use crate::layout::{BLOCK_BYTES, BLOCK_ENTRIES, FILE_COUNT_BYTES, HEAD_BYTES, Head};
use crate::moves::LiveCount;
use crate::{FileId, KeyHash, Place};

/// Blocks read at once at most: 128 KiB, where a larger read costs as much a byte.
const SPAN_BLOCKS: u32 = 64;
/// Blocks nobody asked for that are read along, because copying one costs less than another call of the system.
const GAP_BLOCKS: u32 = 2;

/// A hash of a batch that is not found yet, and its index in the batch. Batches are sorted by the high half.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) high: u64,
    pub(crate) low: u64,
    pub(crate) index: u32,
}

impl Wanted {
    pub(crate) fn new(hash: KeyHash, index: usize) -> Self {
        Self { high: high(hash), low: low(hash), index: index as u32 }
    }

    pub(crate) fn hash(&self) -> KeyHash {
        (KeyHash::from(self.high) << 64) | KeyHash::from(self.low)
    }
}

/// Tells what becomes of a candidate: true ends the search for that index of the batch.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(u32, Place) -> bool;

/// A hash that passed the bloom filter, and the first block that can hold it.
#[derive(Clone, Copy)]
struct Probe {
    hash: KeyHash,
    block: u32,
    index: u32,
}

/// An open run.
pub(crate) struct Run {
    pub(crate) head: Head,
    pub(crate) head_check: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<File>,
    /// The high half of the first hash of each block: 8 bytes for 85 entries.
    fences: Vec<u64>,
    /// How far the block of a hash lies from where even spacing puts it, but for one hash in ten thousand.
    drift: usize,
    counts: Vec<(FileId, u64)>,
    bloom: Option<Bloom>,
    blocks: Blocks,
}

impl Run {
    /// Opens run `number`; all but its blocks and its bloom filter is checked here, these when they are read.
    pub(crate) fn open(path: PathBuf, number: u64, budget: &Arc<Budget>) -> Result<Self> {
        let file = File::open(&path).map_err(|error| read_error(error, &path))?;
        let bytes = file.metadata().map_err(|error| io_error(error, &path))?.len();
        let mut head = [0; HEAD_BYTES];
        file.read_exact_at(&mut head, 0).map_err(|error| read_error(error, &path))?;
        let head_check = Head::check_of(&head);
        let head = Head::decode(&head, number, &path)?;
        if bytes != head.bytes() {
            return Err(damaged(&path, "a run has another length than it says"));
        }
        let read = |at: u64, bytes: u64, check: u64| -> Result<Vec<u8>> {
            let mut section = vec![0; bytes as usize];
            file.read_exact_at(&mut section, at).map_err(|error| read_error(error, &path))?;
            if checksum(&section, number, at) != check {
                return Err(damaged(&path, "the checksum of a run's tables does not hold"));
            }
            Ok(section)
        };
        let fences = read(head.fences_at(), head.blocks() * 8, head.fences_check)?;
        let fences: Vec<u64> = (0..fences.len() / 8).map(|block| read_u64(&fences, block * 8)).collect();
        let counts = read(head.files_at(), head.file_count * FILE_COUNT_BYTES as u64, head.files_check)?;
        let counts = counts.chunks_exact(FILE_COUNT_BYTES).map(|row| (FileId(read_u32(row, 0)), read_u64(row, 4)));
        let (counts, drift, file) = (counts.collect(), drift(head.count), Arc::new(file));
        let blocks = Blocks::new(Arc::clone(&file), head, path.clone(), Arc::clone(budget));
        Ok(Self { head, head_check, path, file, fences, drift, counts, bloom: None, blocks })
    }

    /// Reads the bloom filter into memory, or lets it go.
    pub(crate) fn hold_bloom(&mut self, held: bool) -> Result<()> {
        match (held, &self.bloom) {
            (true, None) => self.bloom = Some(Bloom::read(&self.file, &self.head, &self.path)?),
            (false, Some(_)) => self.bloom = None,
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn holds_bloom(&self) -> bool {
        self.bloom.is_some()
    }

    /// Returns the sum of what `live_count` makes of each data file's count of entries.
    pub(crate) fn live_count(&self, live_count: impl Fn(FileId, u64) -> LiveCount) -> LiveCount {
        self.counts.iter().map(|(file, count)| live_count(*file, *count)).sum()
    }

    /// Returns the data files that its entries name.
    pub(crate) fn files(&self) -> impl Iterator<Item = FileId> {
        self.counts.iter().map(|(file, _)| *file)
    }

    /// Returns the bytes of memory that it takes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let bloom = if self.holds_bloom() { self.head.bloom_bytes() } else { 0 };
        let blocks = self.blocks.held_count() * BLOCK_BYTES as u64 + self.head.blocks() * 16;
        bloom + blocks + self.fences.len() as u64 * 8 + self.counts.len() as u64 * 16
    }

    /// Shows every entry of the wanted hashes, newest first; `wanted` is sorted by the high half.
    pub(crate) fn find(&self, wanted: &[Wanted], visit: Visit<'_>) -> Result<()> {
        let probes = self.probes(wanted);
        let mut buffer = Vec::new();
        let mut rest = &probes[..];
        while let Some((first, later)) = rest.split_first() {
            if let Some(block) = self.blocks.held(first.block) {
                self.find_from(block, first, visit)?;
                rest = later;
                continue;
            }
            let (mut end, mut taken) = (first.block + 1, 1);
            while let Some(probe) = rest.get(taken)
                && probe.block <= end + GAP_BLOCKS
                && probe.block < first.block + SPAN_BLOCKS
            {
                end = end.max(probe.block + 1);
                taken += 1;
            }
            let (span, later) = rest.split_at(taken);
            self.find_in_span(span, first.block..end, &mut buffer, visit)?;
            rest = later;
        }
        Ok(())
    }

    /// Returns the blocks to read, in their order.
    fn probes(&self, wanted: &[Wanted]) -> Vec<Probe> {
        let passed = self.bloom.as_ref().map(|bloom| bloom.pass(wanted));
        let passed = passed.as_deref().unwrap_or(wanted).iter();
        passed
            .map(|wanted| Probe {
                hash: wanted.hash(),
                block: self.first_block(wanted.high) as u32,
                index: wanted.index,
            })
            .collect()
    }

    /// Returns the first block that can hold a hash with this high half.
    ///
    /// Even spacing alone misses by the square root of the count: nine blocks at ten million entries. So it only says
    /// where among the fences to search, and the fences say which block.
    fn first_block(&self, high: u64) -> usize {
        let blocks = self.fences.len();
        let even = ((u128::from(high) * blocks as u128) >> 64) as usize;
        let (from, to) = (even.saturating_sub(self.drift), (even + self.drift).min(blocks));
        let inside = (from == 0 || self.fences[from] < high) && self.fences.get(to).is_none_or(|fence| *fence >= high);
        let (from, to) = if inside { (from, to) } else { (0, blocks) };
        (from + self.fences[from..to].partition_point(|fence| *fence < high)).saturating_sub(1)
    }

    fn find_in_span(&self, probes: &[Probe], blocks: Range<u32>, buffer: &mut Vec<u8>, visit: Visit<'_>) -> Result<()> {
        buffer.resize(blocks.len() * BLOCK_BYTES, 0);
        self.blocks.read(blocks.start, buffer)?;
        let mut checked = None;
        for probe in probes {
            let start = (probe.block - blocks.start) as usize * BLOCK_BYTES;
            let block = &buffer[start..start + BLOCK_BYTES];
            if checked != Some(probe.block) {
                self.blocks.check(probe.block, block)?;
                checked = Some(probe.block);
            }
            self.find_from(block, probe, visit)?;
        }
        Ok(())
    }

    /// Shows the entries of a hash from its first block on: it may begin at the very start of the next, and it may
    /// have more entries than a block holds.
    fn find_from(&self, block: &[u8], probe: &Probe, visit: Visit<'_>) -> Result<()> {
        let Probe { hash, index, block: mut number } = *probe;
        let mut may_go_on = self.find_in_block(block, number, hash, index, visit);
        let mut buffer = Vec::new();
        while may_go_on {
            number += 1;
            may_go_on = if let Some(block) = self.blocks.held(number) {
                self.find_in_block(block, number, hash, index, visit)
            } else {
                buffer.resize(BLOCK_BYTES, 0);
                self.blocks.read(number, &mut buffer)?;
                self.blocks.check(number, &buffer)?;
                self.find_in_block(&buffer, number, hash, index, visit)
            };
        }
        Ok(())
    }

    /// Returns where even spacing between two fences puts a hash.
    fn guess(&self, block: usize, count: usize, hash: KeyHash) -> usize {
        let first = self.fences[block];
        let width = self.fences.get(block + 1).unwrap_or(&u64::MAX).saturating_sub(first);
        let offset = high(hash).saturating_sub(first).min(width);
        // Eight bits less, and the product with the count of a block does not overflow.
        let even = (offset >> 8) * count as u64 / (width >> 8).max(1);
        (even as usize).min(count - 1)
    }

    /// Shows the entries of a hash in a block and returns whether the next block may hold more of them.
    fn find_in_block(&self, block: &[u8], number: u32, hash: KeyHash, index: u32, visit: Visit<'_>) -> bool {
        let count = self.head.entries_of(u64::from(number));
        let mut at = lower_bound(block, count, hash, self.guess(number as usize, count, hash));
        while at < count && hash_at(block, at) == hash {
            if visit(index, Entry::decode(block, at).place()) {
                return false;
            }
            at += 1;
        }
        at == count && self.fences.get(number as usize + 1).is_some_and(|fence| *fence <= high(hash))
    }
}

/// Four standard deviations of the rank of a uniform hash, in blocks, and one more for the rounding.
fn drift(count: u64) -> usize {
    (2.0 * (count as f64).sqrt() / BLOCK_ENTRIES as f64) as usize + 1
}

/// Returns the first of `count` sorted entries whose hash is not less: from a guess in steps that double, so that of
/// the cache lines of a block mostly one or two are touched.
fn lower_bound(block: &[u8], count: usize, hash: KeyHash, guess: usize) -> usize {
    let (mut low, mut high, mut step) = (guess, guess, 2);
    if hash_at(block, guess) < hash {
        while high < count && hash_at(block, high) < hash {
            low = high + 1;
            high += step;
            step *= 2;
        }
        high = high.min(count);
    } else {
        while low > 0 && hash_at(block, low) >= hash {
            high = low;
            low = low.saturating_sub(step);
            step *= 2;
        }
        if low == 0 && hash_at(block, 0) >= hash {
            return 0;
        }
    }
    while low < high {
        let middle = low.midpoint(high);
        if hash_at(block, middle) < hash { low = middle + 1 } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_that_is_not_less_is_found_from_any_guess() {
        for count in 1..40_usize {
            let entries = (0..count).map(|at| Entry::new(at as KeyHash / 3 * 2, Place { file: FileId(0), row: 0 }));
            let block: Vec<u8> = entries.flat_map(|entry| entry.encode()).collect();
            for (hash, guess) in (0..30).flat_map(|hash| (0..count).map(move |guess| (hash, guess))) {
                let expected = (0..count).filter(|at| (*at as KeyHash / 3 * 2) < hash).count();
                assert_eq!(lower_bound(&block, count, hash, guess), expected, "{hash} of {count} from {guess}");
            }
        }
    }
}
