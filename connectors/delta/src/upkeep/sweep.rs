//! Removing what no version of a table needs: files that were taken out longer ago than the table keeps them, and files
//! that a crash left behind.
//!
//! Only files under names of our own go, and only where two listings, hours apart, found them needless: a version that was
//! restored between the two costs nothing then. Nor does a listing that lags, for what is needed is read from the version that
//! none follows. What a reader of an older version
//! may need stays for `delta.deletedFileRetentionDuration`, what a round may yet name for a day.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use deltalake::DeltaTable;
use deltalake::logstore::LogStoreRef;
use futures::{StreamExt, TryStreamExt};
use lakehead_core::{Clock, Error, Result, failpoint};
use lakehead_lakefile::{Location, storage_error};
use object_store::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::live::LiveFile;
use crate::stage::Owner;
use crate::upkeep::removed;
use crate::vectors;

/// Pause between two sweeps.
const SWEEP_EVERY: Duration = Duration::from_secs(6 * 3600);
/// Age below which a file that no version names may belong to a round under way.
const YOUNG: Duration = Duration::from_secs(24 * 3600);
/// Files that one sweep remembers, and removes, at most.
const NAMES_MAX: usize = 100_000;

/// What one sweep needs to know of its table.
pub(crate) struct Sweep {
    pub(crate) location: Location,
    /// Where change files of this pipeline lie.
    pub(crate) staging: Location,
    /// The file that remembers what the last sweep found.
    pub(crate) memory: PathBuf,
    /// How long the table keeps files that were taken out.
    pub(crate) retention: Duration,
    /// How long the table keeps its log.
    pub(crate) log_retention: Duration,
    pub(crate) own: Owner,
    /// Files of rounds that are not committed yet.
    pub(crate) pending: HashSet<String>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Swept {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// What the last sweep found needless.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Memory {
    /// Microseconds since the epoch.
    at: i64,
    names: HashSet<String>,
}

/// Returns the file that remembers the sweeps of a table.
pub(crate) fn memory(cache: &Path, location: &Location) -> PathBuf {
    let name = twox_hash::XxHash3_128::oneshot(location.url().as_str().as_bytes());
    cache.join("sweeps").join(format!("{name:032x}.json"))
}

/// Returns when the sweep behind one at `last` is due.
pub(crate) fn after(last: i64) -> i64 {
    last.saturating_add(micros(SWEEP_EVERY))
}

impl Memory {
    fn read(file: &Path) -> Self {
        let found = std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        found.unwrap_or_default()
    }

    /// A memory that cannot be kept makes the next sweep a first one.
    fn write(&self, file: &Path) {
        let written = file
            .parent()
            .map(std::fs::create_dir_all)
            .transpose()
            .and_then(|_| std::fs::write(file, serde_json::to_vec(self).unwrap_or_default()));
        if let Err(error) = written {
            tracing::debug!(file = %file.display(), %error, "what a sweep found was not kept");
        }
    }
}

impl Sweep {
    /// Returns when the next sweep is due; a clock that went back makes it due now.
    pub(crate) fn due_at(&self) -> i64 {
        let last = Memory::read(&self.memory).at;
        if last > self.clock.now() { 0 } else { after(last) }
    }

    /// Lists, compares and removes.
    pub(crate) async fn run(self, log: LogStoreRef) -> Result<Swept> {
        let before = Memory::read(&self.memory);
        let began = self.clock.now();
        let mut table = DeltaTable::new(Arc::clone(&log));
        table.load().await.map_err(|error| self.failed(error))?;
        if !self.is_newest(&table, &log).await? {
            return Ok(Swept::default());
        }
        let needed = self.needed(&table).await?;
        let needless = match &needed {
            Some(needed) => self.needless(needed).await?,
            None => Vec::new(),
        };
        let mut swept = Swept::default();
        // A first sweep, or one whose memory is gone, only remembers.
        let twice: Vec<_> = needless.iter().filter(|(name, _)| before.names.contains(name)).collect();
        failpoint::hit("delta.sweep").await?;
        for (name, meta) in twice.iter().take(NAMES_MAX) {
            match self
                .location
                .store()
                .delete_stream(futures::stream::iter([Ok(meta.location.clone())]).boxed())
                .next()
                .await
            {
                Some(Err(error)) if !matches!(error, object_store::Error::NotFound { .. }) => {
                    return Err(storage_error(error, name));
                }
                _ => {}
            }
            swept.files += 1;
            swept.bytes += meta.size;
        }
        let gone: HashSet<&String> = twice.iter().map(|(name, _)| name).collect();
        let names = needless.iter().map(|(name, _)| name).filter(|name| !gone.contains(name)).take(NAMES_MAX).cloned();
        Memory { at: began, names: names.collect() }.write(&self.memory);
        self.shorten_log(&table, &log).await?;
        Ok(swept)
    }

    /// Returns whether no version follows the one that was found by listing: a listing that lags has an older one, to which
    /// files of newer versions would seem needless. The next entry is asked for by its name.
    async fn is_newest(&self, table: &DeltaTable, log: &LogStoreRef) -> Result<bool> {
        let version = table.snapshot().map_err(|error| self.failed(error))?.version();
        let next = log.read_commit_entry(version + 1).await.map_err(|error| self.failed(error))?;
        Ok(next.is_none())
    }

    /// The files that the newest version names, and those that one within the retention may; `None` where that cannot be
    /// told.
    async fn needed(&self, table: &DeltaTable) -> Result<Option<HashSet<String>>> {
        let snapshot = table.snapshot().map_err(|error| self.failed(error))?;
        let mut needed = HashSet::new();
        for view in snapshot.log_data().iter() {
            #[allow(deprecated, reason = "the only public way to a file's deletion vector")]
            let file = LiveFile::of(view.add_action())?;
            needed.extend(file.vector.as_ref().and_then(vectors::Descriptor::file));
            needed.insert(file.name);
        }
        let since = (self.clock.now() - micros(self.retention)).div_euclid(1000);
        let Some(removed) = removed::since(&self.location, snapshot.version(), since).await? else { return Ok(None) };
        needed.extend(removed);
        Ok(Some(needed))
    }

    /// Files under names of our own that nothing needs.
    async fn needless(&self, needed: &HashSet<String>) -> Result<Vec<(String, ObjectMeta)>> {
        let mut found = Vec::new();
        let now = self.clock.now();
        let is_old = |meta: &ObjectMeta, age: Duration| now - meta.last_modified.timestamp_micros() >= micros(age);
        let mut objects = self.location.store().list(Some(self.location.prefix()));
        while let Some(meta) =
            objects.try_next().await.map_err(|error| storage_error(error, self.location.url().as_str()))?
        {
            let Some(name) = self.location.name_of(&meta.location) else { continue };
            let hidden = name.split('/').rev().skip(1).any(|folder| folder.starts_with(['_', '.']));
            let last = name.rsplit('/').next().unwrap_or_default();
            let ours = self.own.may_remove(last) || vectors::is_file_of_vectors(last);
            // A vector names no owner: it stays as long as anybody's might.
            let age = if vectors::is_file_of_vectors(last) { YOUNG.max(self.retention) } else { YOUNG };
            if !hidden && ours && is_old(&meta, age) && !needed.contains(&name) && !self.pending.contains(last) {
                found.push((name, meta));
            }
        }
        let mut objects = self.staging.store().list(Some(self.staging.prefix()));
        while let Some(meta) =
            objects.try_next().await.map_err(|error| storage_error(error, self.staging.url().as_str()))?
        {
            let last = meta.location.filename().unwrap_or_default().to_owned();
            let name = self.location.name_of(&meta.location).unwrap_or_else(|| last.clone());
            if self.own.may_remove(&last) && is_old(&meta, YOUNG) && !self.pending.contains(&last) {
                found.push((name, meta));
            }
        }
        Ok(found)
    }

    /// Removes entries of the log that are older than the table keeps them and lie behind a checkpoint.
    async fn shorten_log(&self, table: &DeltaTable, log: &LogStoreRef) -> Result<()> {
        let snapshot = table.snapshot().map_err(|error| self.failed(error))?;
        let before = (self.clock.now() - micros(self.log_retention)).div_euclid(1000);
        let version = snapshot.version();
        let cleaned = deltalake::checkpoints::cleanup_expired_logs_for(version, log.as_ref(), before, None).await;
        cleaned.map(|_| ()).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: deltalake::DeltaTableError) -> Error {
        Error::external("R0209", "the table's log could not be read")
            .with("table", self.location.url())
            .caused_by(error)
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}
