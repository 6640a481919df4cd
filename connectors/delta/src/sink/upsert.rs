//! Upserts: the rows of changed keys go, by deletion vectors or by rewriting their files, and the new ones come.

use std::collections::{HashMap, HashSet};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use lakehead_core::{Result, failpoint};
use lakehead_keyindex::{KeyHash, Place};
use lakehead_lakefile::{KeyEncoder, KeySet, Location, read_file};
use serde_json::Value;

use super::DeltaSink;
use super::soft::{deleted_among, rows_of, with_deleted};
use crate::actions::{add, remove};
use crate::changes::Changes;
use crate::hash::KeyHasher;
use crate::keyed::{KeyedTable, Marked, file_keys};
use crate::live::{LiveFile, LiveTable};
use crate::merge::{KeyBounds, Merge, add_partition_columns, looked_up};
use crate::schema::to_lake;
use crate::stage::{DataWriters, Staged, StagedFile};

/// Rows whose unsent values are read at once: the values may be large.
const FILLED_AT_ONCE: usize = 4096;

/// What an upsert by deletion vectors comes to.
#[derive(Default)]
pub(super) struct Keyed {
    pub(super) marks: Marked,
    /// Files of rows that were filled from the table's old ones.
    pub(super) filled: Vec<StagedFile>,
    /// Staged data files, by name, that others take the place of.
    pub(super) dropped: HashSet<String>,
}

impl DeltaSink {
    /// Takes the rows of the changed keys out of the live files by deletion vectors, and fills what the source left
    /// unsent from them.
    pub(super) async fn marked(&mut self, staged: &Staged, schema: &SchemaRef) -> Result<Keyed> {
        let mut marked = Keyed::default();
        if self.log.live()?.files.is_empty() && staged.patches.is_empty() {
            return Ok(marked);
        }
        failpoint::hit("delta.merge").await?;
        let hasher = KeyHasher::new(schema, &self.spec.key)?;
        let keeps_deleted = self.keeps_deleted();
        let (places, deleted) = loop {
            self.rows_by_key.sync(self.log.live()?, &hasher).await?;
            let changed = Changed {
                location: &self.location,
                staging: &self.staging,
                hashes: &self.hashes,
                rows_by_key: &self.rows_by_key,
                live: self.log.live()?,
                hasher: &hasher,
                keeps_deleted,
            };
            match changed.places(staged).await {
                Ok(places) => break places,
                Err(error) => self.rows_by_key.recover(error)?,
            }
        };
        let live = self.log.live()?;
        marked.marks = self.rows_by_key.mark(live, &places, self.spec.clock.now().div_euclid(1000)).await?;
        if staged.patches.is_empty() && deleted.is_empty() {
            return Ok(marked);
        }
        let merge = self.merge(schema)?;
        let (location, by) = (&self.location, &self.spec.partition_by);
        let mut writers = DataWriters::new(location, schema, by, self.format(), None, &self.own());
        writers.keep_keys(hasher);
        let hasher = KeyHasher::new(schema, &self.spec.key)?;
        for changes in &staged.patches {
            let mut batches = changes.read(&self.staging).await?;
            while let Some(batch) = batches.try_next().await? {
                for from in (0..batch.num_rows()).step_by(FILLED_AT_ONCE) {
                    let patch = batch.slice(from, FILLED_AT_ONCE.min(batch.num_rows() - from));
                    let keys = hasher.hashes(&looked_up(&patch, hasher.columns())?)?;
                    let wanted: Vec<Place> = self.rows_by_key.find(&keys)?.into_iter().flatten().collect();
                    let old_rows = self.rows_by_key.rows(live, &wanted).await?;
                    let old_rows = old_rows.iter().map(|rows| to_lake(rows, schema)).collect::<Result<Vec<_>>>()?;
                    writers.write(&merge.fill(&patch, &old_rows)?).await?;
                }
            }
        }
        for rows in &deleted {
            writers.write(&with_deleted(&to_lake(rows, schema)?, true)?).await?;
        }
        marked.filled = writers.finish().await?;
        Ok(marked)
    }

    fn merge<'a>(&'a self, schema: &'a SchemaRef) -> Result<Merge<'a>> {
        Ok(Merge {
            location: &self.location,
            schema,
            partition_by: &self.spec.partition_by,
            keys: KeyEncoder::new(schema, &self.spec.key)?,
            format: self.format(),
            expiry: self.retention.expiry.as_ref().map(|expiry| (expiry, self.spec.clock.now())),
        })
    }

    /// Keeps the hashes of staged files beside the round: they are not part of its record.
    pub(super) fn keep_hashes(&mut self, staged: &mut Staged) {
        for StagedFile { file, keys, .. } in &mut staged.data {
            let hashes = keys.take();
            self.hashes.extend(hashes.map(|keys| (file.name.clone(), keys)));
        }
    }

    /// Carries the index on to what was committed.
    pub(super) fn index_committed(&mut self, version: u64, mut staged: Staged, keyed: Option<Keyed>) {
        let mut hashes = std::mem::take(&mut self.hashes);
        let Some(keyed) = keyed else { return };
        staged.data.retain(|staged| !keyed.dropped.contains(&staged.file.name));
        for StagedFile { file, keys, .. } in &mut staged.data {
            *keys = hashes.remove(&file.name);
        }
        staged.data.extend(keyed.filled);
        self.rows_by_key.committed(version, keyed.marks, &staged.data);
    }

    pub(super) async fn merged(
        &mut self,
        staged: &Staged,
        files: &[LiveFile],
        schema: &SchemaRef,
    ) -> Result<Vec<Value>> {
        let millis = self.millis();
        if files.is_empty() && staged.patches.is_empty() {
            return Ok(Vec::new());
        }
        let own = self.own();
        let merge = self.merge(schema)?;
        let mut changed = KeySet::default();
        let mut wanted = KeySet::default();
        let mut bounds = KeyBounds::default();
        let first_key = self.spec.key.first().cloned().unwrap_or_default();
        for StagedFile { file, partition, .. } in &staged.data {
            let mut batches = Box::pin(read_file(&self.location, &file.name, None).await?);
            while let Some(batch) = batches.try_next().await? {
                let batch = add_partition_columns(&batch, partition, schema)?;
                bounds.add(&batch, &first_key);
                changed.add(&merge.keys.encode(&batch)?);
            }
        }
        let keeps_deleted = self.keeps_deleted();
        let mut deleted = KeySet::default();
        for deletes in &staged.deletes {
            let mut batches = deletes.read(&self.staging).await?;
            while let Some(batch) = batches.try_next().await? {
                bounds.add(&batch, &first_key);
                let keys = merge.keys.encode(&batch)?;
                changed.add(&keys);
                if keeps_deleted {
                    wanted.add(&keys);
                    deleted.add(&keys);
                }
            }
        }
        let mut patches = Vec::new();
        for changes in &staged.patches {
            let mut batches = changes.read(&self.staging).await?;
            while let Some(batch) = batches.try_next().await? {
                bounds.add(&batch, &first_key);
                changed.add(&merge.keys.encode(&batch)?);
                let looked_up = looked_up(&batch, merge.keys.columns())?;
                bounds.add(&looked_up, &first_key);
                let old = merge.keys.encode(&looked_up)?;
                if !keeps_deleted {
                    changed.add(&old);
                }
                wanted.add(&old);
                patches.push(batch);
            }
        }
        failpoint::hit("delta.merge").await?;
        let (rewritten, old_rows) = merge.rewrite(files, &changed, &wanted, &bounds, || own.part_name()).await?;
        let mut actions: Vec<Value> = rewritten.removed.iter().map(|file| remove(file, millis)).collect();
        actions.extend(rewritten.added.iter().map(|(file, partition)| add(file, partition, None, millis)));
        if !patches.is_empty() || !deleted.is_empty() {
            let mut writers =
                DataWriters::new(&self.location, schema, &self.spec.partition_by, self.format(), None, &own);
            for patch in &patches {
                writers.write(&merge.fill(patch, &old_rows)?).await?;
            }
            for rows in deleted_among(&old_rows, &merge.keys, &deleted)? {
                writers.write(&to_lake(&rows, schema)?).await?;
            }
            let filled = writers.finish().await?;
            actions.extend(filled.iter().map(|file| add(&file.file, &file.partition, None, millis)));
        }
        Ok(actions)
    }
}

/// What the rows of changed keys are found with.
struct Changed<'a> {
    location: &'a Location,
    staging: &'a Location,
    hashes: &'a HashMap<String, Vec<KeyHash>>,
    rows_by_key: &'a KeyedTable,
    live: &'a LiveTable,
    hasher: &'a KeyHasher,
    keeps_deleted: bool,
}

impl Changed<'_> {
    /// Finds the live row of every key that the round changes; and the rows of deleted keys, where they stay.
    async fn places(&self, staged: &Staged) -> Result<(Vec<Place>, Vec<RecordBatch>)> {
        let (deletes, kept): (&[Changes], &[Changes]) =
            if self.keeps_deleted { (&[], &staged.deletes) } else { (&staged.deletes, &[]) };
        let (deleted, mut places) = rows_of(self.staging, kept, self.rows_by_key, self.live, self.hasher).await?;
        let mut find = |keys: &[KeyHash]| -> Result<()> {
            places.extend(self.rows_by_key.find(keys)?.into_iter().flatten());
            Ok(())
        };
        for StagedFile { file, partition, .. } in &staged.data {
            if let Some(keys) = self.hashes.get(&file.name) {
                find(keys)?;
                continue;
            }
            let keys = file_keys(self.location, &file.name, partition, &self.live.schema, self.hasher).await?;
            let mut batches = Box::pin(keys);
            while let Some(keys) = batches.try_next().await? {
                find(&keys)?;
            }
        }
        for deletes in deletes {
            let mut batches = deletes.read(self.staging).await?;
            while let Some(batch) = batches.try_next().await? {
                find(&self.hasher.hashes(&batch)?)?;
            }
        }
        for patches in &staged.patches {
            let mut batches = patches.read(self.staging).await?;
            while let Some(patch) = batches.try_next().await? {
                find(&self.hasher.hashes(&patch)?)?;
                // Under a key that was changed, the row goes by the delete of that key.
                if !self.keeps_deleted {
                    find(&self.hasher.hashes(&looked_up(&patch, self.hasher.columns())?)?)?;
                }
            }
        }
        places.sort_unstable();
        places.dedup();
        Ok((places, deleted))
    }
}
