//! The blocks of a run: read from its file, and held in memory while a budget lasts.
//!
//! A call of the system costs more than all the rest of a lookup, even where the page is cached. So a block that was
//! read and checked stays, until the budget of the index is used up; none is put out for another. Under uniform hashes
//! one block is worth as much as another, and a merge replaces the runs, so that what is held does not grow old.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use lakehead_core::Result;

use crate::failure::read_error;
use crate::layout::{BLOCK_BYTES, Head, check_block};

/// How many more blocks an index may hold.
pub(crate) struct Budget(AtomicU64);

impl Budget {
    pub(crate) fn new(bytes: u64) -> Self {
        Self(AtomicU64::new(bytes / BLOCK_BYTES as u64))
    }

    fn take(&self) -> bool {
        self.0.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    fn give_back(&self, blocks: u64) {
        self.0.fetch_add(blocks, Ordering::Relaxed);
    }
}

/// The blocks of one run.
pub(crate) struct Blocks {
    file: Arc<File>,
    head: Head,
    path: PathBuf,
    held: Vec<OnceLock<Box<[u8; BLOCK_BYTES]>>>,
    budget: Arc<Budget>,
}

impl Blocks {
    pub(crate) fn new(file: Arc<File>, head: Head, path: PathBuf, budget: Arc<Budget>) -> Self {
        let held = (0..head.blocks()).map(|_| OnceLock::new()).collect();
        Self { file, head, path, held, budget }
    }

    /// Returns a block that is in memory.
    pub(crate) fn held(&self, block: u32) -> Option<&[u8]> {
        self.held[block as usize].get().map(|bytes| &bytes[..])
    }

    /// Reads neighbouring blocks, the first of them `first`; what of them is used is to be checked.
    pub(crate) fn read(&self, first: u32, buffer: &mut [u8]) -> Result<()> {
        let at = self.head.blocks_at() + u64::from(first) * BLOCK_BYTES as u64;
        self.file.read_exact_at(buffer, at).map_err(|error| read_error(error, &self.path))
    }

    /// Refuses a block that is damaged and holds one that is not while the budget lasts.
    pub(crate) fn check(&self, block: u32, bytes: &[u8]) -> Result<()> {
        check_block(bytes, self.head.number, u64::from(block), &self.path)?;
        let slot = &self.held[block as usize];
        if slot.get().is_none()
            && self.budget.take()
            && let Ok(bytes) = Box::<[u8; BLOCK_BYTES]>::try_from(Box::<[u8]>::from(bytes))
            && slot.set(bytes).is_err()
        {
            self.budget.give_back(1);
        }
        Ok(())
    }

    pub(crate) fn held_count(&self) -> u64 {
        self.held.iter().filter(|slot| slot.get().is_some()).count() as u64
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        self.budget.give_back(self.held_count());
    }
}
