//! Between rounds: what tasks beside them have finished is taken over, and what is worth it is begun.

use lakehead_core::{Error, Patience, Result, TableFigures, WriteMode, failpoint};
use object_store::ObjectStoreExt;

use super::upsert::Keyed;
use super::{DeltaSink, last_part};
use crate::actions::{add, kept_rows, remove, with_vector};
use crate::live::LiveFile;
use crate::log::Put;
use crate::stage::{DataWriters, Staged, StagedFile};
use crate::upkeep::choose::{bytes, choose, is_soon_merged_again};
use crate::upkeep::merge::{Merge, Merged};
use crate::upkeep::sweep::{self, Sweep};
use crate::vectors::{self, Descriptor, Vector};

/// Merges that the end of a run waits for at most: a table with more to merge goes on with its next run.
const STEPS_AT_END: usize = 16;
/// Times that a merge, or an expiry, is tried against writers that were faster.
pub(super) const ATTEMPTS_MAX: u32 = 4;

impl DeltaSink {
    pub(super) async fn look_after(&mut self, patience: Patience) {
        if self.fence == 0 {
            return;
        }
        self.expire(patience).await;
        self.take_moved(Patience::Between).await;
        self.begin_move(patience);
        for _ in 0..STEPS_AT_END {
            self.take_finished(patience).await;
            self.begin_checkpoint();
            let begun = self.begin_merge(patience);
            if !(begun && patience == Patience::ToEnd) {
                break;
            }
        }
        self.begin_sweep();
        if patience == Patience::ToEnd {
            self.take_finished(patience).await;
            self.take_checkpoints(patience).await;
            self.take_moved(patience).await;
            while self.upkeep.chores.join_next().await.is_some() {}
        }
    }

    /// Looks after the table because that is what the pipeline is for, and fails where it could not.
    pub(super) async fn compact(&mut self) -> Result<()> {
        self.look_after(Patience::ToEnd).await;
        self.upkeep.trouble.take().map_or(Ok(()), Err)
    }

    /// Tells of a trouble that delays no round; the first is kept for who has asked for nothing else.
    pub(super) fn note_trouble(&mut self, what: &'static str, error: Error) {
        tracing::warn!(table = %self.location.url(), %error, "{what}");
        self.upkeep.trouble.get_or_insert(error);
    }

    async fn take_finished(&mut self, patience: Patience) {
        self.take_checkpoints(patience).await;
        loop {
            let merging = &mut self.upkeep.merging;
            let joined = if patience == Patience::ToEnd { merging.join_next().await } else { merging.try_join_next() };
            let Some(joined) = joined else { break };
            let taken = match joined {
                Ok(Ok(merged)) => self.take_over(merged).await,
                Ok(Err(error)) => Err(error),
                Err(error) => Err(Error::bug("a merge of files ended early").caused_by(error)),
            };
            if let Err(error) = taken {
                self.note_trouble("small files could not be merged", error);
                self.upkeep.rest(self.log.live().map_or(0, |live| live.version), self.spec.clock.monotonic());
            }
        }
        self.take_swept(patience).await;
    }

    async fn take_swept(&mut self, patience: Patience) {
        let sweeping = &mut self.upkeep.sweeping;
        let joined = if patience == Patience::ToEnd { sweeping.join_next().await } else { sweeping.try_join_next() };
        match joined {
            None => {}
            Some(Ok(Ok(swept))) if swept.files == 0 => {}
            Some(Ok(Ok(swept))) => {
                tracing::info!(
                    table = %self.location.url(), files = swept.files, bytes = swept.bytes,
                    "files that no version needs were removed"
                );
            }
            Some(Ok(Err(error))) => self.note_trouble("old files could not be removed", error),
            Some(Err(error)) => {
                let error = Error::bug("a sweep of files ended early").caused_by(error);
                self.note_trouble("old files could not be removed", error);
            }
        }
    }

    async fn take_checkpoints(&mut self, patience: Patience) {
        let writing = &mut self.upkeep.checkpointing;
        while let Some(written) =
            if patience == Patience::ToEnd { writing.join_next().await } else { writing.try_join_next() }
        {
            self.upkeep.checkpoints.bytes = written.unwrap_or(0);
        }
    }

    fn begin_checkpoint(&mut self) {
        let Ok(version) = self.log.live().map(|live| live.version) else { return };
        let due = self.upkeep.checkpoints.are_due(version, self.log.written);
        if due
            && self.upkeep.checkpointing.is_empty()
            && let Ok(checkpoint) = self.log.checkpoint()
        {
            self.upkeep.checkpointing.spawn(checkpoint);
            self.upkeep.checkpoints.began(version, self.log.written);
        }
    }

    /// Where rounds outrun the checkpoints twice over, the next round waits for one.
    pub(super) async fn keep_log_short(&mut self, version: u64) {
        if self.upkeep.checkpoints.are_late(version) {
            self.take_checkpoints(Patience::ToEnd).await;
            self.begin_checkpoint();
        }
    }

    /// Begins a merge where one is worth it.
    fn begin_merge(&mut self, patience: Patience) -> bool {
        let now = self.spec.clock.monotonic();
        let Ok(live) = self.log.live() else { return false };
        if self.spec.mode == WriteMode::Overwrite || !self.upkeep.may_look(live.version, now, patience) {
            return false;
        }
        let (version, schema) = (live.version, std::sync::Arc::clone(&live.schema));
        self.upkeep.vectors.retain(|name, _| live.files.contains_key(name));
        let (table_bytes, partitioned) = (live.totals.bytes, !live.partition_by.is_empty());
        let (time, file_bytes) = (self.spec.clock.now(), self.upkeep.policy.file_bytes);
        let is_readable = |file: &LiveFile| !self.is_archived(file, time);
        let files: Vec<LiveFile> =
            choose(live, file_bytes, &self.upkeep.vectors, is_readable).into_iter().cloned().collect();
        let merged: u64 = files.iter().map(bytes).sum();
        if files.is_empty() || !self.upkeep.spend(merged, now) {
            self.upkeep.rest(version, now);
            return false;
        }
        // A file of a partition may be its last.
        let format = match is_soon_merged_again(merged, table_bytes, file_bytes) && !partitioned {
            true => self.format().for_a_while(),
            false => self.format(),
        };
        let writers =
            DataWriters::new(&self.location, &schema, &self.spec.partition_by, format, Some(file_bytes), &self.own());
        let merge = Merge { location: self.location.clone(), schema, files, writers };
        self.upkeep.merging.spawn(merge.run());
        true
    }

    /// Makes the new files of a merge live in place of the old ones, with whatever went from these meanwhile; drops it
    /// where an old file is gone, or the table is another daemon's by now.
    async fn take_over(&mut self, merged: Merged) -> Result<()> {
        failpoint::hit("delta.compact").await?;
        for _ in 0..ATTEMPTS_MAX {
            let state = self.state().await?;
            self.log.check_protocol()?;
            let mark = self.log.mark(&self.spec.pipeline, &state.identity).await?;
            let old: Option<Vec<LiveFile>> = {
                let live = self.log.live()?;
                merged.old.iter().map(|old| live.files.get(&old.file.name).cloned()).collect()
            };
            let Some(old) = old.filter(|_| mark.fence <= self.fence && state.identity == self.identity) else { break };
            let gone = self.gone(&old).await?;
            let marks = self.marked_anew(&merged, &gone).await?;
            let millis = self.millis();
            let removed = old.iter().map(|file| remove(file, millis));
            let added = merged.new.iter().zip(&marks).filter_map(|(file, mark)| {
                let added = add(&file.file, &file.partition, None, millis);
                let marked = |(descriptor, _): &(Descriptor, Vector)| with_vector(added.clone(), descriptor);
                mark.as_ref().map(|mark| mark.as_ref().map_or_else(|| added.clone(), marked))
            });
            let actions: Vec<_> = removed.chain(added).map(kept_rows).collect();
            let version = state.version + 1;
            if self.log.put(version, "OPTIMIZE", &actions).await? == Put::Ours {
                self.upkeep.merged_bytes += merged.bytes();
                tracing::debug!(table = %self.location.url(), files = old.len(), into = marks.len(), "files were merged");
                self.rows_by_key.replaced(version, &merged, marks);
                return Ok(());
            }
        }
        for StagedFile { file, .. } in &merged.new {
            // No version names it, and none ever will; a sweep would find it too.
            let _ = self.location.store().delete(&self.location.path(&file.name)).await;
        }
        Ok(())
    }

    /// The rows of live files that are gone.
    async fn gone(&mut self, files: &[LiveFile]) -> Result<Vec<Vector>> {
        let known: Vec<Option<Vector>> = files
            .iter()
            .map(
                |file| if file.vector.is_none() { Some(Vector::new()) } else { self.rows_by_key.vector(file).cloned() },
            )
            .collect();
        let unread = files.iter().zip(&known).filter(|(_, known)| known.is_none());
        let unread: Vec<&Descriptor> = unread.filter_map(|(file, _)| file.vector.as_ref()).collect();
        let mut read = vectors::read_all(&self.location, &unread).await?.into_iter();
        Ok(known.into_iter().map(|known| known.or_else(|| read.next()).unwrap_or_default()).collect())
    }

    /// Per new file the vector of the rows that went meanwhile; none for a file that holds no row any more.
    async fn marked_anew(&mut self, merged: &Merged, gone: &[Vector]) -> Result<Vec<Option<NewMark>>> {
        let carried = merged.carried(gone);
        let holds_rows = |(gone, file): &(&Vector, &StagedFile)| gone.len() < file.file.statistics.rows;
        let written = carried.iter().zip(&merged.new).filter(holds_rows).map(|(gone, _)| gone);
        let written: Vec<&Vector> = written.filter(|gone| !gone.is_empty()).collect();
        let mut descriptors = vectors::write(&self.location, &written).await?.into_iter();
        let marks = carried.into_iter().zip(&merged.new).map(|(gone, file)| {
            holds_rows(&(&gone, file)).then(|| {
                let descriptor = if gone.is_empty() { None } else { descriptors.next() };
                descriptor.map(|descriptor| (descriptor, gone))
            })
        });
        Ok(marks.collect())
    }

    fn begin_sweep(&mut self) {
        let Ok(live) = self.log.live() else { return };
        let waits = self.upkeep.sweep_at.is_some_and(|at| at > self.spec.clock.now());
        if waits || !self.upkeep.sweeping.is_empty() {
            return;
        }
        let sweep = Sweep {
            location: self.location.clone(),
            staging: self.staging.clone(),
            memory: sweep::memory(&self.spec.cache, &self.location),
            retention: live.retention(),
            log_retention: live.log_retention(),
            own: self.own(),
            pending: self.pending.clone(),
            clock: std::sync::Arc::clone(&self.spec.clock),
        };
        let due = sweep.due_at();
        let now = self.spec.clock.now();
        if due <= now {
            self.upkeep.sweeping.spawn(sweep.run(self.log.reader()));
        }
        self.upkeep.sweep_at = Some(if due <= now { sweep::after(now) } else { due });
    }

    /// Counts what a round wrote for the vectors of each file.
    pub(super) fn note_vectors(&mut self, keyed: Option<&Keyed>) {
        for (file, bytes) in keyed.into_iter().flat_map(|keyed| self.rows_by_key.vectors_of(&keyed.marks)) {
            self.upkeep.vectors.entry(file).or_default().add(bytes);
        }
    }

    /// The round is committed: its change files have done their work.
    pub(super) fn leave_round(&mut self, staged: &Staged) {
        for file in staged.files() {
            self.pending.remove(&last_part(&file.name));
        }
        let done: Vec<_> = staged.beside().map(|file| self.staging.path(&file.name)).collect();
        while self.upkeep.chores.try_join_next().is_some() {}
        if !done.is_empty() {
            let store = std::sync::Arc::clone(self.staging.store());
            self.upkeep.chores.spawn(async move {
                for path in done {
                    // A sweep finds what stays.
                    let _ = store.delete(&path).await;
                }
            });
        }
    }

    pub(super) fn table_figures(&self) -> Option<TableFigures> {
        let live = self.log.live().ok()?;
        let totals = live.totals;
        Some(TableFigures {
            files: live.files.len() as u64,
            bytes: totals.bytes,
            rows: totals.rows.saturating_sub(totals.gone),
            rows_gone: totals.gone,
            payload_bytes: self.payload_bytes,
            requests: self.requests,
            overhead_bytes: self.overhead_bytes,
            merged_bytes: self.upkeep.merged_bytes,
            sweep_at: self.upkeep.sweep_at,
        })
    }
}

/// The vector of a new file and where it lies; none where all its rows are live.
pub(crate) type NewMark = Option<(Descriptor, Vector)>;
