//! The newest entries, held in memory until they are worth a run, and the tail: the file that keeps them at a seal.
//!
//! A tail is appended to, one segment a seal: 8 bytes of count, 8 of checksum, then the entries. The manifest says how
//! much of it counts, so what an interrupted seal appended is written over by the next.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use lakehead_core::Result;

use crate::checksum::checksum;
use crate::entry::{ENTRY_BYTES, Entry, add_newer, read_u64};
use crate::failure::{damaged, io_error, read_error};
use crate::run::{Visit, Wanted};
use crate::sketch::Sketch;

const SEGMENT_HEAD_BYTES: usize = 16;

/// Entries that are kept apart from the older ones, in which each batch is put in its place: 200 KB are moved for a small
/// batch instead of three megabytes.
const RECENT_MAX: usize = 8 * 1024;

/// The entries that are in no run yet.
#[derive(Default)]
pub(crate) struct Memory {
    /// Of all entries.
    sketch: Sketch,
    /// The newest.
    recent: Vec<Entry>,
    /// All others.
    settled: Vec<Entry>,
    /// Those of the settled ones that no seal has kept yet.
    unsealed: Vec<Entry>,
}

impl Memory {
    /// Adds a batch that is sorted.
    pub(crate) fn add(&mut self, batch: &[Entry]) {
        self.sketch.add(batch);
        add_newer(&mut self.recent, batch);
        if self.recent.len() >= RECENT_MAX {
            self.settle();
        }
    }

    fn settle(&mut self) {
        let recent = std::mem::take(&mut self.recent);
        add_newer(&mut self.settled, &recent);
        add_newer(&mut self.unsealed, &recent);
    }

    /// Returns all entries in their order.
    pub(crate) fn entries(&mut self) -> &[Entry] {
        self.settle();
        &self.settled
    }

    pub(crate) fn len(&self) -> usize {
        self.recent.len() + self.settled.len()
    }

    /// Returns the bytes that it takes.
    pub(crate) fn bytes(&self) -> u64 {
        (self.len() * ENTRY_BYTES + Sketch::BYTES) as u64
    }

    /// Shows every entry of the wanted hashes, newest first; `wanted` is sorted by the high half.
    pub(crate) fn find(&self, wanted: &[Wanted], visit: Visit<'_>) {
        let (mut in_recent, mut in_settled) = (0, 0);
        for wanted in wanted.iter().filter(|wanted| self.sketch.may_hold(wanted.high)) {
            let taken = show(&self.recent, &mut in_recent, wanted, visit);
            let _ = taken || show(&self.settled, &mut in_settled, wanted, visit);
        }
    }
}

/// Shows the entries of one hash from `from` on, which moves to them; returns whether one was taken.
fn show(entries: &[Entry], from: &mut usize, wanted: &Wanted, visit: Visit<'_>) -> bool {
    *from = gallop(entries, *from, wanted.high);
    let of_high = entries[*from..].iter().take_while(|entry| entry.high() == wanted.high);
    of_high.filter(|entry| entry.hash() == wanted.hash()).any(|entry| visit(wanted.index, entry.place()))
}

/// Returns the first entry at or behind `from` whose high half is not less, in steps that double.
fn gallop(entries: &[Entry], from: usize, high: u64) -> usize {
    let (mut low, mut step) = (from, 1);
    while entries.get(low + step - 1).is_some_and(|entry| entry.high() < high) {
        low += step;
        step *= 2;
    }
    let end = (low + step - 1).min(entries.len());
    low + entries[low..end].partition_point(|entry| entry.high() < high)
}

/// The file that keeps the memory at a seal.
pub(crate) struct Tail {
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
    file: File,
    /// How much of it the last seal counts.
    bytes: u64,
}

impl Tail {
    pub(crate) fn create(path: PathBuf, number: u64) -> Result<Self> {
        let file = File::create(&path).map_err(|error| io_error(error, &path))?;
        Ok(Self { number, path, file, bytes: 0 })
    }

    /// Opens a tail of which so many bytes count, and returns the memory that it keeps.
    pub(crate) fn open(path: PathBuf, number: u64, bytes: u64) -> Result<(Self, Memory)> {
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(|error| read_error(error, &path))?;
        let found = file.metadata().map_err(|error| io_error(error, &path))?.len();
        if found < bytes {
            return Err(damaged(&path, "the tail is shorter than the manifest says"));
        }
        let mut kept = vec![0; bytes as usize];
        file.read_exact_at(&mut kept, 0).map_err(|error| read_error(error, &path))?;
        let settled = segments(&kept, number, &path)?;
        let mut memory = Memory::default();
        memory.sketch.add(&settled);
        memory.settled = settled;
        Ok((Self { number, path, file, bytes }, memory))
    }

    /// Appends what no seal has kept yet and returns how many bytes count then; until [`Tail::keep`] it can be done
    /// again.
    pub(crate) fn append(&self, memory: &mut Memory) -> Result<u64> {
        memory.settle();
        if memory.unsealed.is_empty() {
            return Ok(self.bytes);
        }
        let body: Vec<u8> = memory.unsealed.iter().flat_map(Entry::encode).collect();
        let count = memory.unsealed.len() as u64;
        let check = checksum(&body, self.number, self.bytes);
        let segment = [&count.to_le_bytes()[..], &check.to_le_bytes(), &body].concat();
        self.file.write_all_at(&segment, self.bytes).map_err(|error| io_error(error, &self.path))?;
        Ok(self.bytes + segment.len() as u64)
    }

    /// Notes that a manifest counts so many bytes.
    pub(crate) fn keep(&mut self, bytes: u64, memory: &mut Memory) {
        self.bytes = bytes;
        memory.unsealed.clear();
    }
}

fn segments(mut bytes: &[u8], number: u64, path: &Path) -> Result<Vec<Entry>> {
    let (mut entries, mut at) = (Vec::new(), 0);
    while !bytes.is_empty() {
        let (segment, rest) = segment(bytes, number, at).ok_or_else(|| damaged(path, "the tail cannot be read"))?;
        add_newer(&mut entries, &segment);
        at += (bytes.len() - rest.len()) as u64;
        bytes = rest;
    }
    Ok(entries)
}

/// Takes one segment off the front.
fn segment(bytes: &[u8], number: u64, at: u64) -> Option<(Vec<Entry>, &[u8])> {
    let (head, rest) = bytes.split_at_checked(SEGMENT_HEAD_BYTES)?;
    let count = usize::try_from(read_u64(head, 0)).ok()?;
    let (body, rest) = rest.split_at_checked(count.checked_mul(ENTRY_BYTES)?)?;
    let sound = count > 0 && checksum(body, number, at) == read_u64(head, 8);
    sound.then(|| ((0..count).map(|at| Entry::decode(body, at)).collect(), rest))
}
