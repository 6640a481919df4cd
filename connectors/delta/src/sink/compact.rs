//! Compaction: small files of about one size are merged into one, and files of which much is gone are written anew.
//!
//! It follows a commit of ours, in a commit of its own that changes no row, at the very next version or not at all: a
//! writer that was faster wins. It never fails a round. Each step is bounded, so that the next round waits for a moment
//! only; a row is rewritten once per tier, some four times in a table's life.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use lakehead_core::{Result, WriteMode, failpoint};
use lakehead_lakefile::{PartitionValues, read_file};
use object_store::ObjectStoreExt;

use super::DeltaSink;
use crate::actions::{add, kept_rows, remove};
use crate::hash::KeyHasher;
use crate::live::{LiveFile, LiveTable};
use crate::log::Put;
use crate::merge::add_partition_columns;
use crate::schema::to_lake;
use crate::stage::{DataWriters, StagedFile};
use crate::vectors::{self, live_rows};

/// Files of one tier and partition that are merged into one.
const FAN_IN: usize = 8;
/// Files below this size are one tier; each further tier is `FAN_IN` times as large.
const TIER_BYTES: u64 = 256 * 1024;
/// Bytes that one step reads at most.
const STEP_BYTES_MAX: u64 = 64 << 20;
/// A file is written anew where one row of so many is gone.
const GONE_SHARE: u64 = 3;

/// Returns the tier of a size.
fn tier(size: u64) -> u32 {
    (size / TIER_BYTES).checked_ilog(FAN_IN as u64).map_or(0, |tier| tier + 1)
}

/// Chooses what one step merges: the smallest full tier first, then the file of which most is gone.
fn choose(live: &LiveTable) -> Vec<&LiveFile> {
    let mut tiers: BTreeMap<(u32, &PartitionValues), Vec<&LiveFile>> = BTreeMap::new();
    // What stands for the interval of a run is replaced by its name: it stays as it is.
    for file in live.files.values().filter(|file| file.run.is_none()) {
        tiers.entry((tier(bytes(file)), &file.partition)).or_default().push(file);
    }
    for files in tiers.values_mut().filter(|files| files.len() >= FAN_IN) {
        files.sort_by(|a, b| (a.modified, &a.name).cmp(&(b.modified, &b.name)));
        let mut read = 0;
        let fitting = files.iter().take_while(|file| {
            read += bytes(file);
            read <= STEP_BYTES_MAX
        });
        let chosen: Vec<_> = fitting.take(2 * FAN_IN).copied().collect();
        if chosen.len() > 1 {
            return chosen;
        }
    }
    let much_is_gone = |file: &&LiveFile| {
        let gone = file.vector.as_ref().map_or(0, |vector| vector.cardinality);
        gone > 0 && gone * GONE_SHARE >= file.rows().unwrap_or(u64::MAX) && bytes(file) <= STEP_BYTES_MAX
    };
    let share = |file: &LiveFile| {
        let gone = file.vector.as_ref().map_or(0, |vector| vector.cardinality);
        gone * 1000 / file.rows().unwrap_or(1).max(1)
    };
    let worn = live.files.values().filter(|file| file.run.is_none()).filter(much_is_gone);
    worn.max_by(|a, b| (share(a), &a.name).cmp(&(share(b), &b.name))).into_iter().collect()
}

fn bytes(file: &LiveFile) -> u64 {
    u64::try_from(file.size).unwrap_or(0)
}

impl DeltaSink {
    /// Takes one step behind the commit `version`, where one is worth it.
    pub(super) async fn compact(&mut self, version: u64) {
        if self.spec.mode == WriteMode::Overwrite {
            return;
        }
        match self.compact_step(version).await {
            Ok(Some((files, into))) => {
                tracing::debug!(table = %self.location.url(), files, into, "small files were merged");
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(table = %self.location.url(), %error, "small files could not be merged"),
        }
    }

    async fn compact_step(&mut self, version: u64) -> Result<Option<(usize, usize)>> {
        let live = self.log.live()?;
        let chosen: Vec<LiveFile> = choose(live).into_iter().cloned().collect();
        if live.version != version || chosen.is_empty() {
            return Ok(None);
        }
        let schema = std::sync::Arc::clone(&live.schema);
        let mut writers = DataWriters::new(
            &self.location,
            &schema,
            &self.spec.partition_by,
            self.format(),
            self.file_bytes(),
            self.fence,
        );
        if self.wants_vectors() {
            writers.keep_keys(KeyHasher::new(&schema, &self.spec.key)?);
        }
        for file in &chosen {
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
                if left.num_rows() > 0 {
                    let whole = add_partition_columns(&left, &file.partition, &schema)?;
                    writers.write(&to_lake(&whole, &schema)?).await?;
                }
            }
        }
        let written = writers.finish().await?;
        failpoint::hit("delta.compact").await?;
        self.replace_files(version, &chosen, written).await
    }

    async fn replace_files(
        &mut self,
        version: u64,
        old: &[LiveFile],
        new: Vec<StagedFile>,
    ) -> Result<Option<(usize, usize)>> {
        let millis = self.millis();
        let removed = old.iter().map(|file| remove(file, millis));
        let added = new.iter().map(|file| add(&file.file, &file.partition, None, millis));
        let actions: Vec<_> = removed.chain(added).map(kept_rows).collect();
        if self.log.put(version + 1, "OPTIMIZE", &actions).await? == Put::Lost {
            for StagedFile { file, .. } in &new {
                // Nobody knows the file; a sweep would find it too.
                let _ = self.location.store().delete(&self.location.path(&file.name)).await;
            }
            return Ok(None);
        }
        let counts = (old.len(), new.len());
        self.rows_by_key.replaced(version + 1, old, &new);
        Ok(Some(counts))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use arrow::datatypes::Schema;
    use serde_json::json;

    use super::*;

    fn file(name: &str, size: i64, gone: u64) -> LiveFile {
        let vector = json!({ "storageType": "u", "pathOrInlineDv": "x", "sizeInBytes": 1, "cardinality": gone });
        LiveFile {
            name: name.into(),
            size,
            partition: Vec::new(),
            run: None,
            stats: Some(json!({ "numRecords": 300 })),
            modified: 0,
            tags: BTreeMap::new(),
            vector: (gone > 0).then(|| serde_json::from_value(vector).unwrap()),
        }
    }

    fn chosen(files: Vec<LiveFile>) -> Vec<String> {
        let live = LiveTable {
            version: 1,
            identity: String::new(),
            schema: Arc::new(Schema::empty()),
            partition_by: Vec::new(),
            configuration: BTreeMap::new(),
            protocol: json!({}),
            files: files.into_iter().map(|file| (file.name.clone(), file)).collect(),
            numbers: HashMap::new(),
        };
        choose(&live).into_iter().map(|file| file.name.clone()).collect()
    }

    #[test]
    fn tiers_grow_by_the_fan_in() {
        let sizes = [0, TIER_BYTES - 1, TIER_BYTES, 8 * TIER_BYTES - 1, 8 * TIER_BYTES, 64 * TIER_BYTES];
        assert_eq!(sizes.map(tier), [0, 0, 1, 1, 2, 3]);
    }

    #[test]
    fn a_full_tier_is_merged_and_a_worn_file_is_written_anew() {
        let small = |count: usize| (0..count).map(|n| file(&format!("s{n}"), 1000, 0)).collect::<Vec<_>>();
        assert!(chosen(small(7)).is_empty());
        assert_eq!(chosen(small(8)).len(), 8);
        assert_eq!(chosen(small(40)).len(), 16, "a step is bounded");
        let large: Vec<_> = (0..9).map(|n| file(&format!("l{n}"), 20 << 20, 0)).collect();
        assert_eq!(chosen(large).len(), 3, "by its bytes too");
        let worn = vec![file("a", 1000, 99), file("b", 1000, 100), file("c", 1000, 150), file("d", 100 << 20, 290)];
        assert_eq!(chosen(worn), ["c"]);
        let mut of_runs = small(8);
        of_runs.iter_mut().for_each(|file| file.run = Some("1/2".into()));
        assert!(chosen(of_runs).is_empty());
    }
}
