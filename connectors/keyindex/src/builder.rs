//! Builds a whole index from entries in any order, in bounded memory.

use std::sync::Arc;

use lakehead_core::Result;

use crate::blocks::Budget;
use crate::entry::{ENTRY_BYTES, Entry};
use crate::files::Numbers;
use crate::folder::Folder;
use crate::merge::{Cursor, Merge, Source};
use crate::run::Run;
use crate::writer::{Passing, RunWriter};
use crate::{FileId, KeyHash, Place, bloom};

/// Sorted parts on disk at most; more are merged into one. It bounds the open files and the memory of the last merge.
const PARTS_MAX: usize = 64;

/// A sorted part of a rebuild; its file goes away with it.
struct Part {
    run: Run,
    passing: Passing,
}

impl Part {
    fn new(run: Run) -> Self {
        Self { passing: Passing::new(run.path.clone()), run }
    }
}

/// All that a builder was given, written; it waits to be taken over by
/// [`KeyIndex::adopt`](crate::KeyIndex::adopt). What is not leaves no file.
pub struct Built {
    run: Option<Part>,
    numbers: Arc<Numbers>,
}

impl Built {
    /// Returns the run, unless the index whose numbers it has is another one by now.
    pub(crate) fn take(self, numbers: &Arc<Numbers>) -> Option<Option<Run>> {
        Arc::ptr_eq(&self.numbers, numbers).then(|| {
            self.run.map(|part| {
                part.passing.keep();
                part.run
            })
        })
    }
}

/// Collects the entries of a rebuild: made by [`KeyIndex::builder`](crate::KeyIndex::builder), given back to
/// [`KeyIndex::insert_built`](crate::KeyIndex::insert_built).
///
/// It holds a bounded number of entries and puts sorted parts on disk beyond it. Several may be filled at once by
/// several threads. What is not given back leaves no file.
pub struct Builder {
    folder: Arc<Folder>,
    numbers: Arc<Numbers>,
    entries: Vec<Entry>,
    entries_max: usize,
    parts: Vec<Part>,
}

impl Builder {
    pub(crate) fn new(folder: Arc<Folder>, numbers: Arc<Numbers>, memory_bytes: usize) -> Self {
        let entries_max = (memory_bytes / ENTRY_BYTES).max(1);
        Self { folder, numbers, entries: Vec::new(), entries_max, parts: Vec::new() }
    }

    /// Takes a number for a file that becomes live later, if at all.
    pub fn reserve(&self) -> Result<FileId> {
        self.numbers.take()
    }

    /// Sorts and writes what it was given: the long part of adding it to the index, for a thread beside.
    pub fn finish(mut self) -> Result<Built> {
        let (folder, numbers) = (Arc::clone(&self.folder), Arc::clone(&self.numbers));
        self.entries.shrink_to_fit();
        let writer = RunWriter::create(folder.next_run(), bloom::lines_for(self.count()))?;
        let mut run = merge_builders(vec![self], writer, &folder.budget)?;
        if let Some(run) = &mut run {
            run.hold_bloom(true)?;
        }
        Ok(Built { run: run.map(Part::new), numbers })
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
    while !merge.step(usize::MAX, &mut |_| true)? {}
    merge.finish(budget)
}
