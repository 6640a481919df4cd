//! Rows past the age that a lifecycle asks for: whole partitions are taken out, in one commit of its own that touches no
//! data file.

use std::collections::BTreeSet;

use lakehead_core::{Expired, Expiry, Patience, Result, failpoint};

use super::DeltaSink;
use super::tend::ATTEMPTS_MAX;
use crate::actions::remove;
use crate::live::LiveFile;
use crate::log::Put;

/// Sums up files that expire.
pub(crate) fn expired_in<'a>(files: impl Iterator<Item = &'a LiveFile>) -> Expired {
    let (mut expired, mut partitions) = (Expired::default(), BTreeSet::new());
    for file in files {
        partitions.insert(&file.partition);
        let totals = file.totals();
        expired.files += 1;
        expired.rows += totals.rows.saturating_sub(totals.gone);
        expired.bytes += totals.bytes;
    }
    expired.partitions = partitions.len() as u64;
    expired
}

impl DeltaSink {
    /// Takes out what has expired, where it is time to look. A failure is told, and looked at again an hour later.
    pub(super) async fn expire(&mut self, patience: Patience) {
        let Some(expiry) = self.retention.expiry.clone() else { return };
        if !self.upkeep.may_expire(self.spec.clock.monotonic(), patience) {
            return;
        }
        match self.take_out(&expiry).await {
            Ok(Expired { files: 0, .. }) => {}
            Ok(Expired { partitions, files, rows, bytes }) => {
                tracing::info!(table = %self.location.url(), partitions, files, rows, bytes, "old partitions have expired");
            }
            Err(error) => self.note_trouble("old partitions could not be taken out", error),
        }
    }

    /// Removes the files of expired partitions from the table as it is by then; a writer that was faster is followed.
    /// Nothing is taken out of a table that is another daemon's by now.
    async fn take_out(&mut self, expiry: &Expiry) -> Result<Expired> {
        for _ in 0..ATTEMPTS_MAX {
            let state = self.state().await?;
            self.log.check_protocol()?;
            let mark = self.log.mark(&self.spec.pipeline, &state.identity).await?;
            if mark.fence > self.fence || state.identity != self.identity {
                break;
            }
            let now = self.spec.clock.now();
            let live = self.log.live()?.files.values();
            let old: Vec<LiveFile> = live.filter(|file| file.has_expired(expiry, now)).cloned().collect();
            if old.is_empty() {
                break;
            }
            let millis = self.millis();
            let actions: Vec<_> = old.iter().map(|file| remove(file, millis)).collect();
            self.log.check_round(&actions)?;
            failpoint::hit("delta.expire").await?;
            let version = state.version + 1;
            if self.log.put(version, "DELETE", &actions).await? == Put::Ours {
                self.rows_by_key.removed(version, &old);
                return Ok(expired_in(old.iter()));
            }
        }
        Ok(Expired::default())
    }
}
