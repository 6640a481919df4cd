//! Between rounds: small files are merged beside them, and taken over when no round is under way.

use std::time::Duration;

use lakehead_core::{Created, Error, Patience, Result, TableFigures, Value, failpoint};
use lakehead_lakefile::Moving;
use tokio::task::JoinSet;

use super::ParquetSink;
use crate::compact::{FAN_IN, Merge, Merged, Policy, choose};
use crate::foreign::STEPS_MAX;
use crate::manifest::{Manifest, ManifestFile};
use crate::publish::{merged_files, publish, remove};
use crate::schema::parse_columns;
use crate::stage::discard;

/// Merges that the end of a run waits for at most: a table with more to merge goes on with its next run.
const STEPS_AT_END: usize = 64;

/// The work beside the rounds of one table.
pub(crate) struct Upkeep {
    pub(crate) policy: Policy,
    merging: JoinSet<Result<Merged>>,
    /// The version in which there was nothing to merge, and when that was looked at.
    quiet: Option<(u64, Duration)>,
    pub(super) moving: Moving,
    /// When it was looked for rows that expire.
    expiry_looked: Option<Duration>,
    merged_bytes: u64,
}

/// Pause between two looks for rows that expire.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

impl Upkeep {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            policy,
            merging: JoinSet::new(),
            quiet: None,
            moving: Moving::default(),
            expiry_looked: None,
            merged_bytes: 0,
        }
    }

    /// Returns whether it is time to look for rows that expire, and notes the look: each hour, and at the end of a run.
    pub(super) fn may_expire(&mut self, now: Duration, patience: Patience) -> bool {
        let rested = self.expiry_looked.is_none_or(|looked| now.saturating_sub(looked) >= LOOK_EVERY);
        let may = rested || patience == Patience::ToEnd;
        if may {
            self.expiry_looked = Some(now);
        }
        may
    }
}

impl ParquetSink {
    pub(super) async fn look_after(&mut self, patience: Patience) {
        if self.identity.is_empty() {
            return;
        }
        self.expire(patience).await;
        self.take_moved(Patience::Between).await;
        self.begin_move(patience);
        self.merge_some(patience).await;
        if patience == Patience::ToEnd {
            self.take_moved(patience).await;
        }
    }

    async fn merge_some(&mut self, patience: Patience) {
        if !self.upkeep.policy.enabled {
            return;
        }
        for _ in 0..STEPS_AT_END {
            self.take_finished(patience).await;
            let begun = self.begin_merge().await;
            if !(begun && patience == Patience::ToEnd) {
                break;
            }
        }
        if patience == Patience::ToEnd {
            self.take_finished(patience).await;
        }
    }

    async fn take_finished(&mut self, patience: Patience) {
        loop {
            let merging = &mut self.upkeep.merging;
            let joined = if patience == Patience::ToEnd { merging.join_next().await } else { merging.try_join_next() };
            let Some(joined) = joined else { return };
            let taken = match joined {
                Ok(Ok(merged)) => self.take_over(merged).await,
                Ok(Err(error)) => Err(error),
                Err(error) => Err(Error::bug("a merge of files ended early").caused_by(error)),
            };
            if let Err(error) = taken {
                tracing::warn!(table = %self.location.url(), %error, "small files could not be merged");
                let version = self.log.known().map_or(0, |manifest| manifest.version);
                self.upkeep.quiet = Some((version, self.spec.clock.monotonic()));
            }
        }
    }

    /// Begins a merge where one is worth it.
    async fn begin_merge(&mut self) -> bool {
        let now = self.spec.clock.monotonic();
        let Some(newest) = self.log.known().cloned() else { return false };
        let waits = self.upkeep.quiet.is_some_and(|(version, looked)| {
            version == newest.version || now.saturating_sub(looked) < self.upkeep.policy.every
        });
        if waits || !self.upkeep.merging.is_empty() {
            return false;
        }
        let chosen = choose(&self.readable(&newest.files), self.upkeep.policy.file_bytes, FAN_IN);
        let merge = if chosen.is_empty() { Ok(None) } else { self.merge_of(chosen, &newest).map(Some) };
        match merge {
            Ok(Some(merge)) => {
                self.upkeep.merging.spawn(merge.run());
                true
            }
            Ok(None) => {
                self.upkeep.quiet = Some((newest.version, now));
                false
            }
            Err(error) => {
                tracing::warn!(table = %self.location.url(), %error, "small files could not be merged");
                self.upkeep.quiet = Some((newest.version, now));
                false
            }
        }
    }

    /// Merges whatever is small until nothing is, and fails where it cannot: a person has asked for it. What is old is moved
    /// behind that, so that nothing is moved that is merged.
    pub(crate) async fn tend_all(&mut self) -> Result<()> {
        self.expire_due(Patience::ToEnd).await?;
        self.merge_all().await?;
        self.begin_move(Patience::ToEnd);
        self.take_moved(Patience::ToEnd).await;
        Ok(())
    }

    async fn merge_all(&mut self) -> Result<()> {
        for _ in 0..STEPS_MAX {
            let newest = self.newest().await?;
            let chosen = choose(&self.readable(&newest.files), self.upkeep.policy.file_bytes, 2);
            if chosen.is_empty() {
                return Ok(());
            }
            let merged = self.merge_of(chosen, &newest)?.run().await?;
            if merged.new.files.len() >= merged.old.len() {
                discard(&self.staging, &merged.new.files.iter().map(|file| file.name.clone()).collect::<Vec<_>>())
                    .await;
                return Ok(());
            }
            self.take_over(merged).await?;
        }
        Ok(())
    }

    fn merge_of(&self, files: Vec<ManifestFile>, newest: &Manifest) -> Result<Merge> {
        let mut spec = self.spec.clone();
        spec.settings.set("file_size", Value::Size(self.upkeep.policy.file_bytes));
        Ok(Merge {
            location: self.location.clone(),
            staging: self.staging.clone(),
            schema: parse_columns(&newest.columns)?,
            layout: self.layout.clone(),
            spec,
            fence: self.fence,
            files,
        })
    }

    /// Makes the new files live in place of the old ones; drops them where an old one is gone, or the pipeline is another
    /// daemon's by now. Who lists the folder sees both between the copy and the removal, as with an overwrite.
    async fn take_over(&mut self, merged: Merged) -> Result<()> {
        let Merged { old, new } = merged;
        let files = merged_files(&new, &self.spec.pipeline, self.fence, self.layout.buckets.as_ref());
        let staged: Vec<String> = new.files.iter().map(|file| file.name.clone()).collect();
        let mut published = false;
        loop {
            let newest = self.newest().await?;
            let live = old.iter().all(|file| newest.files.contains(file));
            let ours = newest.identity == self.identity && newest.mark(&self.spec.pipeline).fence <= self.fence;
            if !live || !ours {
                break;
            }
            if !published {
                if let Err(error) = publish(&self.staging, &self.location, &new, &files).await {
                    // No manifest was tried that names them.
                    remove(&self.location, &files.iter().map(|file| file.name.clone()).collect::<Vec<_>>()).await;
                    return Err(error);
                }
                published = true;
            }
            let mut next = newest.next(&self.spec.pipeline, self.now());
            next.files.retain(|file| !old.contains(file));
            next.files.extend_from_slice(&files);
            next.removed = old.iter().map(|file| file.name.clone()).collect();
            let removed = next.removed.clone();
            let put = match self.log.put(next).await {
                Ok(put) => put,
                // The answer is not clear: the table says whether it was written.
                Err(error) => match files.first() {
                    Some(first) if self.newest().await?.files.contains(first) => Created::Ours,
                    _ => return Err(error),
                },
            };
            if put == Created::Ours {
                failpoint::hit("parquet.compact.committed").await?;
                self.log.tidy().await;
                remove(&self.location, &removed).await;
                discard(&self.staging, &staged).await;
                self.upkeep.merged_bytes += files.iter().map(|file| file.size).sum::<u64>();
                self.upkeep.quiet = None;
                tracing::debug!(table = %self.location.url(), files = removed.len(), into = files.len(), "files were merged");
                return Ok(());
            }
        }
        if published {
            // The names hold our fence: nobody can have committed them, and nobody ever will.
            remove(&self.location, &files.into_iter().map(|file| file.name).collect::<Vec<_>>()).await;
        }
        discard(&self.staging, &staged).await;
        Ok(())
    }

    pub(super) fn table_figures(&self) -> Option<TableFigures> {
        let newest = self.log.known()?;
        Some(TableFigures {
            files: newest.files.len() as u64,
            bytes: newest.files.iter().map(|file| file.size).sum(),
            rows: newest.files.iter().map(|file| file.rows).sum(),
            merged_bytes: self.upkeep.merged_bytes,
            ..TableFigures::default()
        })
    }
}
