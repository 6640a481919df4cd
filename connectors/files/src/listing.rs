//! The files that are there, and those that were read: the ledger in the checkpoint.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use lakehead_core::{Checkpoint, Error, Micros, Result, Settings};
use lakehead_lakefile::{Location, storage_error};
use object_store::ObjectStore as _;
use serde::{Deserialize, Serialize};

use crate::pattern::Pattern;

/// Files that a ledger may name: it is part of every position, so that it must stay small enough to write.
const FILES_MAX: usize = 1_000_000;
/// The ledger's partition in a checkpoint.
const PARTITION: &str = "files";
/// Folders at the connection's root that are ours and no input.
const OURS: [&str; 2] = ["_lakehead", "_staging"];

/// A file of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The path relative to the connection.
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) etag: Option<String>,
    /// The etag, or the time it was last written, with the size.
    pub(crate) identity: String,
    /// What the stars of the pattern matched.
    pub(crate) stars: Vec<String>,
}

/// Returns the folders that hold no inputs: ours, and those that inputs are moved or copied to.
pub(crate) fn excluded(settings: &Settings) -> Vec<String> {
    let set = ["done_prefix", "error_prefix"].into_iter().filter_map(|name| settings.text(name));
    OURS.into_iter().chain(set).map(|folder| format!("{}/", folder.trim_matches('/'))).collect()
}

/// Lists the files that match, by name.
pub(crate) async fn list(location: &Location, pattern: &Pattern, excluded: &[String]) -> Result<Vec<Entry>> {
    let mut entries = BTreeMap::new();
    for folder in pattern.folders() {
        let prefix = if folder.is_empty() { location.prefix().clone() } else { location.path(folder) };
        let mut listed = location.store().list(Some(&prefix));
        loop {
            let meta = match listed.try_next().await {
                Ok(Some(meta)) => meta,
                Ok(None) | Err(object_store::Error::NotFound { .. }) => break,
                Err(error) => return Err(storage_error(error, location.url().as_str())),
            };
            let Some(path) = location.name_of(&meta.location) else { continue };
            if excluded.iter().any(|folder| path.starts_with(folder)) {
                continue;
            }
            let Some(stars) = pattern.matches(&path) else { continue };
            let version = meta.e_tag.clone().unwrap_or_else(|| meta.last_modified.timestamp_micros().to_string());
            let identity = format!("{}/{}", version.trim_matches('"'), meta.size);
            entries.insert(path.clone(), Entry { path, size: meta.size, etag: meta.e_tag, identity, stars });
        }
    }
    Ok(entries.into_values().collect())
}

/// The files that were read, each with what it was then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    /// The run whose files these are; empty where the ledger is that of all runs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) run: String,
    pub(crate) seen: BTreeMap<String, String>,
    /// Files that could not be read: they stay where they are, and are read once they are others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) rejected: BTreeMap<String, String>,
    /// The run's interval, where what it read is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interval: Option<(Micros, Micros)>,
    /// Objects that came after their interval was closed, and that this run tells of.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) late: BTreeMap<String, String>,
}

impl Ledger {
    /// Reads the ledger of a checkpoint; empty where nothing was read yet.
    pub(crate) fn read(checkpoint: &Checkpoint) -> Result<Self> {
        let Some(text) = checkpoint.get(PARTITION) else { return Ok(Self::default()) };
        serde_json::from_str(text)
            .map_err(|error| Error::incident("R0605", "the position is not one of a files source").caused_by(error))
    }

    /// Returns the checkpoint that holds this ledger.
    pub(crate) fn checkpoint(&self) -> Result<Checkpoint> {
        if self.seen.len() + self.rejected.len() > FILES_MAX {
            return Err(Error::incident("R0606", "more files were read than a position can name")
                .with("files", self.seen.len())
                .help("read each run's own files with `interval = run`, or split the folder between pipelines"));
        }
        let text =
            serde_json::to_string(self).map_err(|error| Error::bug("a position is not JSON").caused_by(error))?;
        let mut checkpoint = Checkpoint::default();
        checkpoint.set(PARTITION, text);
        Ok(checkpoint)
    }

    /// Returns the files that were not read yet. One that was read as something else is an error, unless `versions`
    /// says that it is a new file.
    pub(crate) fn unread(&self, entries: Vec<Entry>, versions: bool) -> Result<Vec<Entry>> {
        let mut unread = Vec::new();
        for entry in entries {
            if self.rejected.get(&entry.path) == Some(&entry.identity) {
                continue;
            }
            match self.seen.get(&entry.path) {
                None => unread.push(entry),
                Some(identity) if *identity == entry.identity => {}
                Some(_) if versions => unread.push(entry),
                Some(_) => {
                    return Err(Error::incident("R0607", "a file that was read has changed")
                        .with("file", &entry.path)
                        .help("bring the old file back, write the new one under another name, or set `on_changed = version`, which reads it again beside the old rows"));
                }
            }
        }
        Ok(unread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, identity: &str) -> Entry {
        Entry { path: path.into(), size: 1, etag: None, identity: identity.into(), stars: vec![] }
    }

    #[test]
    fn a_file_is_read_once_and_a_changed_one_is_an_incident() {
        let mut ledger = Ledger::default();
        ledger.seen.insert("a".into(), "1/1".into());
        let mut ledger = Ledger::read(&ledger.checkpoint().unwrap()).unwrap();
        let paths = |entries: Vec<Entry>| entries.into_iter().map(|entry| entry.path).collect::<Vec<_>>();
        let listed = vec![entry("a", "1/1"), entry("b", "1/1")];
        assert_eq!(paths(ledger.unread(listed, false).unwrap()), ["b"]);
        let changed = vec![entry("a", "2/1")];
        assert_eq!(ledger.unread(changed.clone(), false).unwrap_err().code(), "R0607");
        assert_eq!(paths(ledger.unread(changed, true).unwrap()), ["a"]);
        ledger.rejected.insert("b".into(), "1/1".into());
        let listed = vec![entry("a", "1/1"), entry("b", "1/1")];
        assert!(ledger.unread(listed, false).unwrap().is_empty(), "it could not be read");
        assert_eq!(paths(ledger.unread(vec![entry("b", "2/1")], false).unwrap()), ["b"], "mended under its name");
        let mut foreign = Checkpoint::default();
        foreign.set("files", "0/16B3748");
        assert_eq!(Ledger::read(&foreign).unwrap_err().code(), "R0605");
    }
}
