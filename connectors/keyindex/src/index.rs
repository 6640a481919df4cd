//! The index as its caller sees it.

use std::path::PathBuf;
use std::sync::Arc;

use lakehead_core::{Error, Result};

use crate::builder::{Builder, merge_builders};
use crate::entry::Entry;
use crate::files::Files;
use crate::folder::Folder;
use crate::manifest::Manifest;
use crate::memory::{Memory, Tail};
use crate::merge::{Cursor, Merge, Source};
use crate::moves::{Moves, MovesFile};
use crate::run::{Run, Wanted};
use crate::tiers::{Size, choose};
use crate::writer::RunWriter;
use crate::{FileId, KeyHash, Place, bloom};

/// Bytes of a stamp at most: it is written at every seal.
const STAMP_BYTES_MAX: usize = 64 * 1024;
/// Hashes looked up at once; a longer batch is cut, which bounds the memory of a lookup to some 100 MB.
const BATCH_MAX: usize = 4 << 20;

/// What an index may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries held in memory until they become a run: 24 bytes each, twice that before a seal.
    pub memory_entries: usize,
    /// Bytes of bloom filters in memory, 1.25 a key; where they do not fit, the largest stay on disk and an absent key
    /// costs a read there.
    pub bloom_bytes: u64,
    /// Bytes of blocks in memory, 24 a key. A block that is there saves the read that makes up three quarters
    /// of a lookup, cached or not; zero leaves them all to the page cache.
    pub block_bytes: u64,
    /// Runs of about one size that are merged into one.
    pub fan_in: usize,
    /// Bytes that a [`Builder`] sorts in memory.
    pub builder_bytes: usize,
}

impl Default for Limits {
    /// Returns limits for up to some 200 million keys in 440 MB; all blocks of four million keys are held.
    fn default() -> Self {
        Self {
            memory_entries: 128 * 1024,
            bloom_bytes: 256 << 20,
            block_bytes: 96 << 20,
            fan_in: 8,
            builder_bytes: 64 << 20,
        }
    }
}

/// What [`KeyIndex::maintain`] leaves to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is worth merging.
    Idle,
    /// A merge is under way, or another may be: call again.
    More,
}

/// What an index takes and holds, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Entries, those of dropped files and dead rows included.
    pub entries: u64,
    /// Runs on disk.
    pub runs: usize,
    /// Runs whose bloom filter did not fit into the budget.
    pub runs_without_bloom: usize,
    /// Registered files.
    pub files: usize,
    /// Bytes of the runs.
    pub disk_bytes: u64,
    /// Bytes of filters, fences and entries in memory.
    pub memory_bytes: u64,
}

/// An index from key hashes to places. See the crate's page.
pub struct KeyIndex {
    pub(crate) folder: Arc<Folder>,
    pub(crate) limits: Limits,
    pub(crate) files: Files,
    pub(crate) moves: Moves,
    /// The files that keep them, and those whose moves no file keeps yet.
    pub(crate) moves_files: Vec<MovesFile>,
    pub(crate) unsealed_moves: Vec<FileId>,
    /// The oldest first.
    pub(crate) runs: Vec<Run>,
    pub(crate) memory: Memory,
    pub(crate) tail: Option<Tail>,
    pub(crate) merging: Option<Merging>,
    /// Whether runs and files are those that gave nothing to merge when that was looked at.
    pub(crate) settled: bool,
    /// The last manifest: its files stay until the next.
    pub(crate) sealed: Option<Manifest>,
    /// Files that the last manifest names and the index needs no more.
    pub(crate) left: Vec<PathBuf>,
}

/// A merge under way and the numbers of its inputs, which stay neighbours: runs are only added at the end.
pub(crate) struct Merging {
    merge: Merge,
    inputs: Vec<u64>,
}

impl KeyIndex {
    pub(crate) fn empty(folder: Arc<Folder>, limits: Limits) -> Self {
        Self {
            folder,
            limits,
            files: Files::default(),
            moves: Moves::default(),
            moves_files: Vec::new(),
            unsealed_moves: Vec::new(),
            runs: Vec::new(),
            memory: Memory::default(),
            tail: None,
            merging: None,
            settled: false,
            sealed: None,
            left: Vec::new(),
        }
    }

    /// Returns what the caller gave to the last [`KeyIndex::seal`]; what came since is not in it.
    pub fn stamp(&self) -> Option<&[u8]> {
        self.sealed.as_ref().map(|manifest| manifest.stamp.as_slice())
    }

    /// Gives a data file its id, the one it has where it is registered already. A name that was dropped gets another.
    pub fn register(&mut self, name: &str) -> Result<FileId> {
        self.files.register(name)
    }

    /// Returns the name of a registered file; `None` once it is dropped.
    pub fn file_name(&self, file: FileId) -> Option<&str> {
        self.files.name(file)
    }

    /// Returns the id of a registered file.
    pub fn file_id(&self, name: &str) -> Option<FileId> {
        self.files.id(name)
    }

    /// Returns the registered files in the order of their ids.
    pub fn files(&self) -> impl Iterator<Item = (FileId, &str)> {
        self.files.iter()
    }

    /// Forgets a file: its entries count no more from now on and go away as runs merge. False says that it was not
    /// registered.
    pub fn drop_file(&mut self, file: FileId) -> bool {
        self.settled = false;
        self.files.drop_file(file)
    }

    /// Adds a batch, newer than all before it; in the batch itself the later file and row of a hash is the newer one.
    ///
    /// The files must be registered. After an error of the disk the entries are in memory all the same: adding them
    /// again does no harm, an exact repeat counts once.
    pub fn insert(&mut self, entries: Vec<(KeyHash, Place)>) -> Result<()> {
        if let Some((_, place)) = entries.iter().find(|(_, place)| !self.files.is_live(place.file)) {
            return Err(Error::bug("an entry names a file that is not registered").with("file", place.file.0));
        }
        let mut batch: Vec<_> = entries.into_iter().map(|(hash, place)| Entry::new(hash, place)).collect();
        batch.sort_unstable_by(Entry::cmp_in_batch);
        batch.dedup();
        self.memory.add(&batch);
        if self.memory.len() >= self.limits.memory_entries { self.spill() } else { Ok(()) }
    }

    /// Turns the memory into a run.
    fn spill(&mut self) -> Result<()> {
        let entries = self.memory.entries().to_vec().into_iter();
        let kept: Vec<Entry> =
            entries.filter_map(|entry| Some(Entry::new(entry.hash(), self.resolve(entry.place())?))).collect();
        let mut writer = RunWriter::create(self.folder.next_run(), bloom::lines_for(kept.len() as u64))?;
        for entry in kept {
            writer.push(entry)?;
        }
        self.runs.extend(writer.finish(&self.folder.budget)?);
        self.memory = Memory::default();
        if let Some(tail) = self.tail.take() {
            let is_sealed = self.sealed.as_ref().is_some_and(|sealed| sealed.tail.is_some_and(|t| t.0 == tail.number));
            self.leave(tail.path, is_sealed);
        }
        self.fit_blooms()
    }

    /// Removes a file, at once or when the next manifest does not name it.
    pub(crate) fn leave(&mut self, path: PathBuf, is_sealed: bool) {
        if is_sealed {
            self.left.push(path);
        } else {
            // What stays behind is swept at the next open.
            let _ = std::fs::remove_file(path);
        }
    }

    fn leave_run(&mut self, run: Run) {
        let number = run.head.number;
        let is_sealed = self.sealed.as_ref().is_some_and(|sealed| sealed.runs.iter().any(|run| run.0 == number));
        self.leave(run.path, is_sealed);
    }

    /// Notes that the runs are others, and holds the filters of as many as the budget allows, those of the smallest.
    pub(crate) fn fit_blooms(&mut self) -> Result<()> {
        self.settled = false;
        let mut runs: Vec<_> = self.runs.iter_mut().collect();
        runs.sort_by_key(|run| run.head.bloom_lines);
        let mut bytes = 0;
        let mut held = Vec::with_capacity(runs.len());
        for run in runs {
            bytes += run.head.bloom_bytes();
            if bytes > self.limits.bloom_bytes {
                run.hold_bloom(false)?;
            } else {
                held.push(run);
            }
        }
        held.into_iter().try_for_each(|run| run.hold_bloom(true))
    }

    /// Finds for each hash its newest place in a registered file for which `is_live` holds: `out` has as many places
    /// as there are hashes, in their order, in which they may be any.
    ///
    /// `is_live` is asked for each candidate, newest first, until it holds. Damage is an error of code
    /// [`DAMAGED`](crate::DAMAGED) and leaves `out` empty.
    pub fn lookup(
        &self,
        hashes: &[KeyHash],
        mut is_live: impl FnMut(Place) -> bool,
        out: &mut Vec<Option<Place>>,
    ) -> Result<()> {
        out.clear();
        out.resize(hashes.len(), None);
        for (hashes, places) in hashes.chunks(BATCH_MAX).zip(out.chunks_mut(BATCH_MAX)) {
            if let Err(error) = self.find(hashes, &mut is_live, places) {
                out.clear();
                return Err(error);
            }
        }
        Ok(())
    }

    fn find(
        &self,
        hashes: &[KeyHash],
        is_live: &mut dyn FnMut(Place) -> bool,
        places: &mut [Option<Place>],
    ) -> Result<()> {
        let mut wanted: Vec<_> = hashes.iter().enumerate().map(|(at, hash)| Wanted::new(*hash, at)).collect();
        wanted.sort_unstable_by_key(|wanted| wanted.high);
        self.memory.find(&wanted, &mut |index, place| self.take(index, place, is_live, places));
        for run in self.runs.iter().rev() {
            wanted.retain(|wanted| places[wanted.index as usize].is_none());
            run.find(&wanted, &mut |index, place| self.take(index, place, is_live, places))?;
        }
        Ok(())
    }

    /// Takes a candidate if it counts.
    fn take(
        &self,
        index: u32,
        place: Place,
        is_live: &mut dyn FnMut(Place) -> bool,
        places: &mut [Option<Place>],
    ) -> bool {
        let place = self.resolve(place).filter(|place| is_live(*place));
        if place.is_some() {
            places[index as usize] = place;
        }
        place.is_some()
    }

    /// Keeps the index on disk as it is now, with the caller's stamp: it is what the next open finds.
    ///
    /// It costs what was added since the last seal and the list of the files. Nothing is synced: a disk that loses
    /// power may lose the seal, which the next open sees.
    pub fn seal(&mut self, stamp: &[u8]) -> Result<()> {
        if stamp.len() > STAMP_BYTES_MAX {
            return Err(Error::bug("a stamp is too long").with("bytes", stamp.len()));
        }
        self.seal_moves()?;
        if self.tail.is_none() && self.memory.len() > 0 {
            let (number, path) = self.folder.next_tail();
            self.tail = Some(Tail::create(path, number)?);
        }
        let tail = match &self.tail {
            Some(tail) => Some((tail.number, tail.append(&mut self.memory)?)),
            None => None,
        };
        let manifest = Manifest {
            stamp: stamp.to_vec(),
            next_number: self.folder.next_number(),
            runs: self.runs.iter().map(|run| (run.head.number, run.head_check)).collect(),
            tail,
            moves: self.moves_files.iter().map(|file| (file.number, file.check)).collect(),
            next_file: self.files.next(),
            files: self.files.iter().map(|(id, name)| (id.0, name.to_owned())).collect(),
        };
        manifest.write(self.folder.path())?;
        if let (Some(tail), Some((_, bytes))) = (&mut self.tail, manifest.tail) {
            tail.keep(bytes, &mut self.memory);
        }
        self.sealed = Some(manifest);
        let left = std::mem::take(&mut self.left);
        left.into_iter().for_each(|path| self.leave(path, false));
        Ok(())
    }

    /// Moves at most `entries_max` entries towards fewer runs. To be called between commits, until [`Progress::Idle`].
    ///
    /// Entries of dropped files go, and those for which `is_live` is false: it may say so only of rows that are dead
    /// in a committed version, and an entry is gone then for good once the index is sealed. `|_| true` keeps all.
    /// What a merge replaces stays on disk until the next seal.
    pub fn maintain(&mut self, entries_max: usize, mut is_live: impl FnMut(Place) -> bool) -> Result<Progress> {
        let begun = match self.merging.take() {
            None if self.settled => None,
            None => self.begin_merge()?,
            merging => merging,
        };
        self.settled = begun.is_none();
        let Some(mut merging) = begun else { return Ok(Progress::Idle) };
        let done =
            merging.merge.step(entries_max.max(1), &mut |place| self.resolve(place).filter(|place| is_live(*place)))?;
        if done {
            self.end_merge(merging)?;
        } else {
            self.merging = Some(merging);
        }
        Ok(Progress::More)
    }

    fn begin_merge(&mut self) -> Result<Option<Merging>> {
        let is_live = |file| self.files.is_live(file);
        let live = |run: &Run| run.live_count(|file, count| self.moves.live_count(file, count, &is_live));
        let mut counts: Vec<_> = self.runs.iter().map(live).collect();
        let mut of_run = counts.iter();
        let is_dead = |_: &mut Run| of_run.next().is_some_and(|count| count.all == 0);
        let dead: Vec<_> = self.runs.extract_if(.., is_dead).collect();
        dead.into_iter().for_each(|run| self.leave_run(run));
        counts.retain(|count| count.all > 0);
        let sizes = self.runs.iter().zip(&counts).map(|(run, live)| Size { count: run.head.count, live: live.near });
        let sizes: Vec<_> = sizes.collect();
        let smallest = self.limits.memory_entries.max(1) as u64;
        let Some(range) = choose(&sizes, smallest, self.limits.fan_in.max(2)) else { return Ok(None) };
        let keys = counts[range.clone()].iter().map(|count| count.all).sum();
        let runs = &self.runs[range];
        let writer = RunWriter::create(self.folder.next_run(), bloom::lines_for(keys))?;
        let newest_first = runs.iter().rev().map(|run| Source::Run(Cursor::new(run))).collect();
        let inputs = runs.iter().map(|run| run.head.number).collect();
        Ok(Some(Merging { merge: Merge::new(newest_first, writer)?, inputs }))
    }

    fn end_merge(&mut self, merging: Merging) -> Result<()> {
        let merged = merging.merge.finish(&self.folder.budget)?;
        let first = self.runs.iter().position(|run| run.head.number == merging.inputs[0]);
        let first = first.ok_or_else(|| Error::bug("the inputs of a merge are gone"))?;
        let replaced: Vec<_> = self.runs.splice(first..first + merging.inputs.len(), merged).collect();
        replaced.into_iter().for_each(|run| self.leave_run(run));
        self.fit_blooms()
    }

    /// Returns a builder that puts its sorted parts in this index's folder.
    pub fn builder(&self) -> Builder {
        Builder::new(Arc::clone(&self.folder), self.limits.builder_bytes)
    }

    /// Adds all that some builders were given as one run, newer than all before it.
    pub fn insert_built(&mut self, builders: Vec<Builder>) -> Result<()> {
        if self.memory.len() > 0 {
            self.spill()?;
        }
        let keys = builders.iter().map(Builder::count).sum();
        let run = merge_builders(
            builders,
            RunWriter::create(self.folder.next_run(), bloom::lines_for(keys))?,
            &self.folder.budget,
        )?;
        self.runs.extend(run);
        self.fit_blooms()
    }

    /// Forgets everything, on disk too: the start of a rebuild.
    pub fn clear(&mut self) -> Result<()> {
        self.merging = None;
        self.folder.clear()?;
        *self = Self::empty(Arc::clone(&self.folder), self.limits);
        Ok(())
    }

    /// Returns what it takes and holds.
    pub fn figures(&self) -> Figures {
        let in_memory = self.memory.len() as u64;
        Figures {
            entries: in_memory + self.runs.iter().map(|run| run.head.count).sum::<u64>(),
            runs: self.runs.len(),
            runs_without_bloom: self.runs.iter().filter(|run| !run.holds_bloom()).count(),
            files: self.files.len(),
            disk_bytes: self.runs.iter().map(|run| run.head.bytes()).sum(),
            memory_bytes: self.memory.bytes()
                + self.moves.bytes()
                + self.runs.iter().map(Run::memory_bytes).sum::<u64>(),
        }
    }
}
