//! Merges sorted runs into one, a bounded number of entries at a time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use lakehead_core::Result;

use crate::blocks::Budget;
use crate::entry::Entry;
use crate::failure::read_error;
use crate::layout::{BLOCK_BYTES, Head, check_block};
use crate::run::Run;
use crate::writer::RunWriter;
use crate::{KeyHash, Place};

/// Blocks that a merge holds of each of its inputs: 64 KiB, so that even a hundred inputs hold a few megabytes.
const PIECE_BLOCKS: u64 = 16;

/// Reads a run from its first entry to its last.
pub(crate) struct Cursor {
    file: Arc<File>,
    head: Head,
    path: PathBuf,
    next_block: u64,
    piece: Vec<Entry>,
    at: usize,
}

impl Cursor {
    pub(crate) fn new(run: &Run) -> Self {
        let (file, path) = (Arc::clone(&run.file), run.path.clone());
        Self { file, head: run.head, path, next_block: 0, piece: Vec::new(), at: 0 }
    }

    fn next(&mut self) -> Result<Option<Entry>> {
        if self.at == self.piece.len() {
            self.read()?;
        }
        let entry = self.piece.get(self.at).copied();
        self.at += 1;
        Ok(entry)
    }

    fn read(&mut self) -> Result<()> {
        self.piece.clear();
        self.at = 0;
        let blocks = PIECE_BLOCKS.min(self.head.blocks() - self.next_block);
        let mut bytes = vec![0; blocks as usize * BLOCK_BYTES];
        let at = self.head.blocks_at() + self.next_block * BLOCK_BYTES as u64;
        self.file.read_exact_at(&mut bytes, at).map_err(|error| read_error(error, &self.path))?;
        for block in bytes.chunks_exact(BLOCK_BYTES) {
            check_block(block, self.head.number, self.next_block, &self.path)?;
            let count = self.head.entries_of(self.next_block);
            self.piece.extend((0..count).map(|at| Entry::decode(block, at)));
            self.next_block += 1;
        }
        Ok(())
    }
}

/// Sorted entries that are merged.
pub(crate) enum Source {
    Run(Cursor),
    Memory(std::vec::IntoIter<Entry>),
}

impl Source {
    fn next(&mut self) -> Result<Option<Entry>> {
        match self {
            Self::Run(cursor) => cursor.next(),
            Self::Memory(entries) => Ok(entries.next()),
        }
    }
}

/// The next entry of a source; the source's rank decides between entries of one hash.
struct Front(KeyHash, usize, Entry);

impl Ord for Front {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

impl PartialOrd for Front {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Front {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Front {}

/// A merge under way; letting it go removes what it has written.
pub(crate) struct Merge {
    sources: Vec<Source>,
    fronts: BinaryHeap<Reverse<Front>>,
    writer: RunWriter,
}

impl Merge {
    /// Begins a merge of sources, the newest first.
    pub(crate) fn new(mut sources: Vec<Source>, writer: RunWriter) -> Result<Self> {
        let mut fronts = BinaryHeap::with_capacity(sources.len());
        for (rank, source) in sources.iter_mut().enumerate() {
            if let Some(entry) = source.next()? {
                fronts.push(Reverse(Front(entry.hash(), rank, entry)));
            }
        }
        Ok(Self { sources, fronts, writer })
    }

    /// Moves at most `entries_max` entries to the places that `place_of` gives them, leaving out those without one; true
    /// says that none is left.
    pub(crate) fn step(
        &mut self,
        entries_max: usize,
        place_of: &mut dyn FnMut(Place) -> Option<Place>,
    ) -> Result<bool> {
        for _ in 0..entries_max {
            let Some(mut front) = self.fronts.peek_mut() else { return Ok(true) };
            let Reverse(Front(_, rank, entry)) = &mut *front;
            let (rank, entry) = (*rank, *entry);
            match self.sources[rank].next()? {
                Some(next) => *front = Reverse(Front(next.hash(), rank, next)),
                None => drop(PeekMut::pop(front)),
            }
            if let Some(place) = place_of(entry.place()) {
                self.writer.push(Entry::new(entry.hash(), place))?;
            }
        }
        Ok(self.fronts.is_empty())
    }

    /// Finishes the run; there is none where no entry was kept.
    pub(crate) fn finish(self, budget: &Arc<Budget>) -> Result<Option<Run>> {
        self.writer.finish(budget)
    }
}
