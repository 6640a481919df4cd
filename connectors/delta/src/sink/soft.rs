//! `on_delete = soft`: a row that its source has deleted stays with its last values, and says so.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use lakehead_core::{IS_DELETED, Result, WriteMode};
use lakehead_keyindex::{KeyHash, Place};
use lakehead_lakefile::{KeyEncoder, KeySet, Location, read_file};

use super::DeltaSink;
use crate::changes::Changes;
use crate::hash::KeyHasher;
use crate::keyed::{KeyedTable, file_keys};
use crate::live::LiveTable;
use crate::merge::add_partition_columns;
use crate::schema::to_lake;
use crate::stage::{Staged, StagedFile};
use crate::vectors::{self, live_rows};

/// Says of every row whether its source has deleted it.
pub(super) fn with_deleted(rows: &RecordBatch, deleted: bool) -> Result<RecordBatch> {
    let schema = rows.schema();
    let mut columns = rows.columns().to_vec();
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![deleted; rows.num_rows()]));
    columns[schema.index_of(IS_DELETED)?] = flags;
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// Leaves out the rows that say so already.
pub(super) fn not_yet_deleted(rows: &RecordBatch) -> Result<RecordBatch> {
    let Some(flags) = rows.column_by_name(IS_DELETED).and_then(|flags| flags.as_boolean_opt()) else {
        return Ok(rows.clone());
    };
    let stands: BooleanArray = flags.iter().map(|deleted| Some(deleted != Some(true))).collect();
    Ok(filter_record_batch(rows, &stands)?)
}

/// Returns the rows of deleted keys, saying so; `rows` are in the columns of the table.
pub(super) fn deleted_among(rows: &[RecordBatch], keys: &KeyEncoder, deleted: &KeySet) -> Result<Vec<RecordBatch>> {
    let mut found = Vec::new();
    for rows in rows.iter().filter(|_| !deleted.is_empty()) {
        let is_deleted: BooleanArray =
            keys.encode(rows)?.iter().map(|key| Some(deleted.contains(&key.owned()))).collect();
        let gone = filter_record_batch(rows, &is_deleted)?;
        if gone.num_rows() > 0 {
            found.push(with_deleted(&gone, true)?);
        }
    }
    Ok(found)
}

/// Finds the rows of deleted keys that do not say so yet, and where they stand.
pub(super) async fn rows_of(
    staging: &Location,
    deletes: &[Changes],
    rows_by_key: &KeyedTable,
    live: &LiveTable,
    hasher: &KeyHasher,
) -> Result<(Vec<RecordBatch>, Vec<Place>)> {
    let (mut rows, mut places) = (Vec::new(), Vec::new());
    for deletes in deletes {
        let mut batches = deletes.read(staging).await?;
        while let Some(keys) = batches.try_next().await? {
            let found: Vec<Place> = rows_by_key.find(&hasher.hashes(&keys)?)?.into_iter().flatten().collect();
            for old in rows_by_key.rows(live, &found).await? {
                let old = not_yet_deleted(&old)?;
                places.extend(rows_by_key.find(&hasher.hashes(&old)?)?.into_iter().flatten());
                if old.num_rows() > 0 {
                    rows.push(old);
                }
            }
        }
    }
    Ok((rows, places))
}

impl DeltaSink {
    /// Returns whether rows that their source has deleted stay.
    pub(super) fn keeps_deleted(&self) -> bool {
        self.spec.mode == WriteMode::Upsert && self.spec.settings.text("on_delete") == Some("soft")
    }

    /// Brings staged rows to the form of the table: what comes was not deleted.
    pub(super) fn undeleted(&self, rows: RecordBatch) -> Result<RecordBatch> {
        if self.keeps_deleted() { with_deleted(&rows, false) } else { Ok(rows) }
    }

    /// Writes the rows of a table that its source has emptied anew, but for those that come again: all are deleted.
    pub(super) async fn emptied(&mut self, staged: &Staged, schema: &SchemaRef) -> Result<Vec<StagedFile>> {
        let hasher = self.hasher(schema)?;
        let mut writers = self.writers_of(schema);
        let live = self.log.live()?;
        let mut come: HashSet<KeyHash> = HashSet::new();
        for StagedFile { file, partition, .. } in &staged.data {
            let mut keys = Box::pin(file_keys(&self.location, &file.name, partition, schema, &hasher).await?);
            while let Some(keys) = keys.try_next().await? {
                come.extend(keys);
            }
        }
        for file in live.files.values() {
            let gone = match &file.vector {
                Some(descriptor) => Some(vectors::read(&self.location, descriptor).await?),
                None => None,
            };
            let mut start = 0;
            let mut batches = Box::pin(read_file(&self.location, &file.name, None).await?);
            while let Some(batch) = batches.try_next().await? {
                let rows = batch.num_rows() as u64;
                let left = live_rows(batch, start, gone.as_ref())?;
                start += rows;
                let whole = to_lake(&add_partition_columns(&left, &file.partition, schema)?, schema)?;
                let stays: BooleanArray =
                    hasher.hashes(&whole)?.iter().map(|hash| Some(!come.contains(hash))).collect();
                let whole = filter_record_batch(&whole, &stays)?;
                if whole.num_rows() > 0 {
                    writers.write(&with_deleted(&whole, true)?).await?;
                }
            }
        }
        writers.finish().await
    }
}
