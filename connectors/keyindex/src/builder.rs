//! Builds a whole index from entries in any order, in bounded memory.

use std::sync::Arc;

use lakehead_core::Result;

use crate::blocks::Budget;
use crate::entry::{ENTRY_BYTES, Entry};
use crate::folder::Folder;
use crate::merge::{Cursor, Merge, Source};
use crate::run::Run;
use crate::writer::{Passing, RunWriter};
use crate::{KeyHash, Place};

/// Sorted parts on disk at most; more are merged into one. It bounds the open files and the memory of the last merge.
const PARTS_MAX: usize = 64;

/// A sorted part of a rebuild; its file goes away with it.
struct Part {
    run: Run,
    _passing: Passing,
}

impl Part {
    fn new(run: Run) -> Self {
        Self { _passing: Passing::new(run.path.clone()), run }
    }
}

/// Collects the entries of a rebuild: made by [`KeyIndex::builder`](crate::KeyIndex::builder), given back to
/// [`KeyIndex::insert_built`](crate::KeyIndex::insert_built).
///
/// It holds a bounded number of entries and puts sorted parts on disk beyond it. Several may be filled at once by
/// several threads. What is not given back leaves no file.
pub struct Builder {
    folder: Arc<Folder>,
    entries: Vec<Entry>,
    entries_max: usize,
    parts: Vec<Part>,
}

impl Builder {
    pub(crate) fn new(folder: Arc<Folder>, memory_bytes: usize) -> Self {
        let entries_max = (memory_bytes / ENTRY_BYTES).max(1);
        Self { folder, entries: Vec::new(), entries_max, parts: Vec::new() }
    }

    /// Adds the place of a key. A rebuild gives each key's live row once; of several places of one hash, which is
    /// the newest is not said.
    pub fn push(&mut self, hash: KeyHash, place: Place) -> Result<()> {
        if self.entries.len() == self.entries_max {
            self.spill()?;
        }
        self.entries.push(Entry::new(hash, place));
        Ok(())
    }

    fn spill(&mut self) -> Result<()> {
        if self.parts.len() >= PARTS_MAX {
            let parts = std::mem::take(&mut self.parts);
            let sources = parts.iter().map(|part| Source::Run(Cursor::new(&part.run))).collect();
            let run = merge_all(sources, self.part_writer()?, &self.folder.budget)?;
            self.add_part(run);
        }
        self.entries.sort_unstable_by(Entry::cmp_in_batch);
        let mut writer = self.part_writer()?;
        for entry in self.entries.drain(..) {
            writer.push(entry)?;
        }
        let run = writer.finish(&self.folder.budget)?;
        self.add_part(run);
        Ok(())
    }

    /// Begins a part, which needs no filter.
    fn part_writer(&self) -> Result<RunWriter> {
        RunWriter::create(self.folder.next_part(), 0)
    }

    fn add_part(&mut self, run: Option<Run>) {
        self.parts.extend(run.map(Part::new));
    }

    /// Returns how many entries it was given, an exact repeat at times counted once.
    pub(crate) fn count(&self) -> u64 {
        self.entries.len() as u64 + self.parts.iter().map(|part| part.run.head.count).sum::<u64>()
    }

    /// Returns the sorted sources and the guards of their files.
    fn sources(mut self) -> (Vec<Source>, Vec<Part>) {
        self.entries.sort_unstable_by(Entry::cmp_in_batch);
        let mut sources = vec![Source::Memory(self.entries.into_iter())];
        sources.extend(self.parts.iter().map(|part| Source::Run(Cursor::new(&part.run))));
        (sources, self.parts)
    }
}

/// Merges everything that some builders were given into one run.
pub(crate) fn merge_builders(builders: Vec<Builder>, writer: RunWriter, budget: &Arc<Budget>) -> Result<Option<Run>> {
    let (mut sources, mut parts) = (Vec::new(), Vec::new());
    for builder in builders {
        let (of_builder, with_files) = builder.sources();
        sources.extend(of_builder);
        parts.extend(with_files);
    }
    merge_all(sources, writer, budget)
}

fn merge_all(sources: Vec<Source>, writer: RunWriter, budget: &Arc<Budget>) -> Result<Option<Run>> {
    let mut merge = Merge::new(sources, writer)?;
    while !merge.step(usize::MAX, &mut Some)? {}
    merge.finish(budget)
}
