//! Rows past the age that a lifecycle asks for: whole partitions leave the manifest in one version of its own, which touches
//! no data file; the files go when their time is over.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lakehead_core::{Created, Expired, Expiry, Patience, Result, failpoint};

use super::ParquetSink;
use crate::listing;
use crate::manifest::{ExpiredFile, Manifest, ManifestFile};
use crate::publish::remove;

/// How long files stay whose rows have expired, where the lifecycle says nothing, and at least: readers of the version
/// before still open them.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Times that a version is tried against writers that were faster.
const ATTEMPTS_MAX: u32 = 4;

/// Sums up files that expire.
pub(crate) fn expired_in<'a>(files: impl Iterator<Item = &'a ManifestFile>) -> Expired {
    let (mut expired, mut partitions) = (Expired::default(), BTreeSet::new());
    for file in files {
        partitions.insert(&file.partition);
        expired.files += 1;
        expired.rows += file.rows;
        expired.bytes += file.size;
    }
    expired.partitions = partitions.len() as u64;
    expired
}

impl ParquetSink {
    /// Takes out what has expired, where it is time to look. A failure is told, and looked at again an hour later.
    pub(super) async fn expire(&mut self, patience: Patience) {
        if let Err(error) = self.expire_due(patience).await {
            tracing::warn!(table = %self.location.url(), %error, "old partitions could not be taken out");
        }
    }

    /// Takes out what has expired, and removes files whose time is over, where it is time to look.
    pub(super) async fn expire_due(&mut self, patience: Patience) -> Result<()> {
        let keeps = self.log.known().is_some_and(|newest| !newest.expired.is_empty());
        if (self.retention.expiry.is_none() && !keeps) || !self.upkeep.may_expire(self.spec.clock.monotonic(), patience)
        {
            return Ok(());
        }
        let Expired { partitions, files, rows, bytes } = self.take_out().await?;
        if files > 0 {
            tracing::info!(table = %self.location.url(), partitions, files, rows, bytes, "old partitions have expired");
        }
        Ok(())
    }

    /// Writes the version without expired rows over the table as it is by then; a writer that was faster is followed.
    /// Nothing is taken out of a table that is another daemon's by now.
    async fn take_out(&mut self) -> Result<Expired> {
        for _ in 0..ATTEMPTS_MAX {
            let newest = self.newest().await?;
            if newest.identity != self.identity || newest.mark(&self.spec.pipeline).fence > self.fence {
                break;
            }
            let Some((next, expired)) = self.without_expired(&newest) else { break };
            failpoint::hit("parquet.expire").await?;
            let listed =
                if expired.files > 0 { Some(listing::of_manifest(&next, &self.layout.sort_by)?) } else { None };
            let gone = next.removed.clone();
            if self.log.put(next).await? == Created::Ours {
                self.log.tidy().await;
                if let Some(listed) = listed {
                    self.listed = Some(Arc::new(listed));
                }
                failpoint::hit("parquet.expired").await?;
                // What is left over goes when the table is opened the next time.
                remove(&self.location, &gone).await;
                return Ok(expired);
            }
        }
        Ok(Expired::default())
    }

    /// Returns the next version without rows that have expired, and without the names of files whose time is over; `None`
    /// where it would be the same.
    fn without_expired(&self, newest: &Manifest) -> Option<(Manifest, Expired)> {
        let now = self.spec.clock.now();
        let has_expired = |expiry: &Expiry, file: &ManifestFile| file.has_expired(expiry, now);
        let mut next = newest.next(&self.spec.pipeline, self.now());
        let goes = |file: &ManifestFile| self.retention.expiry.as_ref().is_some_and(|expiry| has_expired(expiry, file));
        let (old, live): (Vec<_>, Vec<_>) = next.files.into_iter().partition(goes);
        next.files = live;
        let kept = self.retention.vacuum_after.unwrap_or(KEPT).max(KEPT);
        let kept = i64::try_from(kept.as_micros()).unwrap_or(i64::MAX);
        let is_over = |file: &ExpiredFile| file.at.saturating_add(kept) <= now;
        let (gone, kept): (Vec<_>, Vec<_>) = next.expired.into_iter().partition(is_over);
        next.expired = kept;
        next.expired.extend(old.iter().map(|file| ExpiredFile { name: file.name.clone(), at: now }));
        // An earlier version's leftovers are this one's, too.
        next.removed = newest.removed.iter().cloned().chain(gone.into_iter().map(|file| file.name)).collect();
        let changed = !old.is_empty() || next.expired.len() != newest.expired.len();
        changed.then(|| (next, expired_in(old.iter())))
    }
}
