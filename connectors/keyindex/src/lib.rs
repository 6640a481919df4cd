//! An index on disk from the hash of a key to the place of its live row in a table: which data file, which row.
//!
//! It is a cache. Whatever is wrong with it, it is built anew from the table, so it syncs nothing, repairs nothing and
//! keeps one format. What it promises is never to give a wrong place: all that is read is checked.
//!
//! # Shape
//!
//! A log of immutable sorted runs, as in an LSM tree, after a memory of the newest entries. Hashes are taken to be
//! uniform (XXH3 of the key is), and 128 bits wide, so that no two keys share one: at a billion keys the chance is one
//! in 10^21, and nobody has to compare keys.
//!
//! ```text
//! insert ──> memory ──(full)──> run ──(maintain: 8 of a tier)──> run
//!              │                 │
//!              └─(seal)─> tail   └─(seal)─> manifest: stamp, runs, tail, files
//! ```
//!
//! - A **run** is blocks of 85 entries with a checksum each, a blocked bloom filter and *fences*, the high half of
//!   each block's first hash. Interpolation alone would miss the block by the square root of the count (nine blocks at
//!   ten million entries); it says where among the fences to look, and the fences, 0.05 bytes a key in memory, say
//!   which block. So a hit costs one read, and none where the block is held: reading it is three quarters of a lookup
//!   even where its page is cached, so blocks that were read stay in memory while their budget lasts.
//! - The **bloom filter**'s line follows from the high bits of the hash: lines are in the order of the keys. A merge
//!   writes them as it goes and a sorted batch reads memory forwards.
//! - The **memory** keeps small batches from becoming small files; a sketch of it answers for most keys that it lacks. A
//!   seal appends what is new in it to the **tail**, so it costs as much as was added, whatever the memory holds.
//! - The **manifest** is replaced by a rename. It names runs by the checksum of their heads, so an older manifest that
//!   returns after a loss of power does not take a newer file for its own. Files that the last manifest names stay
//!   until the next.
//! - **Files** are dropped by forgetting their id, which is never given again; a run counts its entries by file, so one
//!   of which most are dropped is found without reading it.
//! - **Moves** say where the rows of a file stand that was written anew: a bit for each row that was left out. Entries
//!   keep the place that they have, and take the new one on when their runs merge.
//!
//! # Who is live
//!
//! A key may have several entries: its rows of the past. The index knows which files are dropped; which rows of a file
//! are deleted only the caller knows, so a lookup asks for each candidate, newest first. A merge keeps all entries of
//! a hash unless the caller says that the row is dead.
//!
//! # Absent, on purpose
//!
//! No locks: one process has the folder, and the pipeline's lease sees to it. No threads: the caller says when merging
//! costs least. No maps of files into memory: reads of a cached page cost a copy, and a disk that fails is an error
//! instead of a signal.

mod blocks;
mod bloom;
mod builder;
mod checksum;
mod entry;
mod failure;
mod fields;
mod files;
mod folder;
mod index;
mod layout;
mod manifest;
mod memory;
mod merge;
mod moves;
mod moving;
mod open;
mod run;
mod sketch;
mod tiers;
mod writer;

pub use builder::Builder;
pub use failure::{DAMAGED, OTHER_FORMAT, means_rebuild};
pub use index::{Figures, KeyIndex, Limits, Progress};
pub use moves::LeftOut;
pub use open::{Opened, Reason};

/// The uniform hash of a key.
pub type KeyHash = u128;

/// The number of a data file, given by [`KeyIndex::register`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(u32);

impl FileId {
    /// Returns the number, which no other file of the index has had since it was built.
    pub fn number(self) -> u32 {
        self.0
    }
}

/// Where a row lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The data file.
    pub file: FileId,
    /// The row in the file, from zero.
    pub row: u32,
}
