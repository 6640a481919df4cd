//! Checkpoints: a table's log up to one version, in one file.
//!
//! A checkpoint is carried on from the one before it: its rows stay in the form of Arrow and only those go that entries
//! since have overtaken, or whose time to be kept is over; what is left of files that were taken out long ago is copied as it
//! is. It so costs the files that a table has and no replay of it, and no more memory than the entries since (Delta protocol,
//! "Checkpoints" and "Action Reconciliation").

use std::collections::HashMap;

use arrow::array::Array;
use bytes::Bytes;
use deltalake::logstore::LogStoreRef;
use futures::{StreamExt, TryStreamExt};
use lakehead_core::{Error, Result, failpoint};
use lakehead_lakefile::{Location, RowGroups, storage_error};
use object_store::{ObjectStoreExt, PutPayload};
use serde::Deserialize;
use serde_json::{Value, json};

mod file;
mod form;
mod newest;

#[cfg(test)]
mod carried;

use file::File;
use newest::Newest;

pub(crate) use file::Written;

/// Entries that are read at once.
const ENTRIES_AT_ONCE: usize = 8;
/// Bytes of actions that become rows at once.
const TEXT_AT_ONCE: usize = 1 << 20;
/// Rows that are held at once, in the form of Arrow: a row of every kind of action takes some two kilobytes while it passes.
const ROWS_AT_ONCE: usize = 4096;

/// What `_last_checkpoint` says.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Hint {
    pub(crate) version: u64,
    #[serde(default)]
    pub(crate) size_in_bytes: Option<u64>,
    #[serde(default)]
    parts: Option<u64>,
    #[serde(default)]
    v2_checkpoint: Option<Value>,
}

impl Hint {
    /// Reads which checkpoint of the table is the newest, where the table says so.
    pub(crate) async fn read(location: &Location) -> Option<Self> {
        let found = location.store().get(&location.path(LAST)).await.ok()?;
        serde_json::from_slice(&found.bytes().await.ok()?).ok()
    }

    /// Returns whether the checkpoint is one file that holds all actions.
    pub(crate) fn is_one_file(&self) -> bool {
        self.parts.is_none() && self.v2_checkpoint.is_none()
    }
}

/// A checkpoint that is to be written.
pub(crate) struct Checkpoint {
    pub(crate) location: Location,
    /// Where it is written: the same folder, or a copy of the table.
    pub(crate) into: Location,
    pub(crate) log: LogStoreRef,
    pub(crate) version: u64,
    /// Files that were taken out before this time are forgotten, milliseconds since the epoch.
    pub(crate) since: i64,
    /// Entries that need not be read, by version.
    pub(crate) known: HashMap<u64, Bytes>,
}

impl Checkpoint {
    /// Writes it and points to it; returns its bytes, or `None` where the log has a form that is not carried on here.
    pub(crate) async fn write(&self) -> Result<Option<u64>> {
        let Some(written) = self.write_file().await? else { return Ok(None) };
        self.point_to(&written).await?;
        Ok(Some(written.bytes))
    }

    /// Writes the file alone: readers that list the log find it.
    pub(crate) async fn write_file(&self) -> Result<Option<Written>> {
        let base = match Hint::read(&self.location).await {
            None => None,
            Some(hint) if !hint.is_one_file() || hint.version > self.version => {
                return Ok(None);
            }
            Some(hint) => Some(hint.version),
        };
        let Some(newest) = self.entries(base).await? else { return Ok(None) };
        let mut file = File::begin(&self.into, self.version)?;
        for text in newest.texts(TEXT_AT_ONCE) {
            for rows in form::decode(&text)? {
                file.put(&rows).await?;
            }
        }
        if let Some(base) = base {
            let base = RowGroups::open(&self.location, &name(base)).await?;
            let kept = file.kept(&base, self.since, newest.may_bring_back());
            let mut batches = base.read(kept.others, ROWS_AT_ONCE)?;
            while let Some(batch) = batches.try_next().await? {
                if batch.column_by_name("sidecar").is_some_and(|column| column.null_count() < column.len()) {
                    return Ok(None);
                }
                for rows in form::conform(&newest.without_overtaken(&batch, self.since)?)? {
                    file.put(&rows).await?;
                }
            }
            file.copy(&base, &kept.tombstones).await?;
        }
        failpoint::hit("delta.checkpoint").await?;
        Ok(Some(file.finish().await?))
    }

    /// Reads the entries behind the checkpoint `base`; `None` where one of them is gone.
    async fn entries(&self, base: Option<u64>) -> Result<Option<Newest>> {
        let read = |version| {
            let (log, known) = (&self.log, self.known.get(&version).cloned());
            async move {
                if known.is_some() {
                    return Ok(known);
                }
                log.read_commit_entry(version)
                    .await
                    .map_err(|error| Error::external("R0209", "the table's log could not be read").caused_by(error))
            }
        };
        let versions = base.map_or(0, |base| base + 1)..=self.version;
        let mut entries = futures::stream::iter(versions.map(read)).buffered(ENTRIES_AT_ONCE);
        let mut newest = Newest::new(self.since);
        while let Some(entry) = entries.try_next().await? {
            let Some(entry) = entry else { return Ok(None) };
            newest.take(&entry)?;
        }
        Ok(if newest.wants_another_form() { None } else { Some(newest) })
    }

    /// Has `_last_checkpoint` point to it, unless it points to a newer one.
    pub(crate) async fn point_to(&self, written: &Written) -> Result<()> {
        if Hint::read(&self.into).await.is_some_and(|hint| hint.version > self.version) {
            return Ok(());
        }
        let Written { rows, files, bytes } = written;
        let hint = json!({ "version": self.version, "size": rows, "sizeInBytes": bytes, "numOfAddFiles": files });
        let path = self.into.path(LAST);
        let put = self.into.store().put(&path, PutPayload::from(hint.to_string())).await;
        put.map(drop).map_err(|error| storage_error(error, path.as_ref()))
    }
}

/// Where the newest checkpoint is named.
pub(crate) const LAST: &str = "_delta_log/_last_checkpoint";

/// Returns the name of the checkpoint of a version.
pub(crate) fn name(version: u64) -> String {
    format!("_delta_log/{version:020}.checkpoint.parquet")
}
