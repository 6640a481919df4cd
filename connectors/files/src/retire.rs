//! What becomes of inputs once their rows are in the lake: moved, or removed after a while.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use lakehead_core::{Created, Error, Micros, RecordStore, Result, Settings};
use lakehead_lakefile::{Location, ObjectRecords, storage_error};
use object_store::ObjectStoreExt;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::listing::Entry;

/// How long inputs stay after the commit, where `keep_inputs` says nothing: a late object can re-open its interval.
const KEEP_INPUTS: Duration = Duration::from_secs(24 * 60 * 60);

/// What is done with inputs that were read.
#[derive(Clone, Debug)]
enum Fate {
    Stay,
    Move(String),
    Remove(Duration, ObjectRecords),
}

/// Files that go at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Due {
    at: Micros,
    /// Path to identity: a file that was written anew since stays.
    files: BTreeMap<String, String>,
}

/// Does it.
#[derive(Debug)]
pub(crate) struct Retirement {
    location: Location,
    fate: Fate,
    handled: HashSet<String>,
}

impl Retirement {
    pub(crate) fn new(location: &Location, settings: &Settings, pipeline: &str, node: &str) -> Result<Self> {
        let removes = settings.text("after_success") == Some("delete");
        for name in ["done_prefix", "error_prefix"] {
            if settings.text(name).is_some_and(|prefix| prefix.trim_matches('/').is_empty()) {
                return Err(Error::user("R0617", "a folder for files must be another than the one they lie in")
                    .with("setting", name)
                    .help(format!("{name} = \"{}\"", if name == "done_prefix" { "done/" } else { "failed/" })));
            }
        }
        let fate = match settings.text("done_prefix") {
            Some(_) if removes => {
                return Err(Error::user("R0609", "inputs can be moved or removed, not both")
                    .help("leave out `done_prefix` or `after_success = delete`"));
            }
            Some(prefix) => Fate::Move(prefix.trim_matches('/').to_owned()),
            // What an interval was made of is recorded, and goes when the interval is closed.
            None if removes && settings.bool_or(lakehead_core::RECORDED, false) => Fate::Stay,
            None if removes => {
                let folder = location.child(&format!("_lakehead/{pipeline}/inputs/{node}"))?;
                Fate::Remove(keep_inputs(settings), ObjectRecords::new(folder))
            }
            None => Fate::Stay,
        };
        Ok(Self { location: location.clone(), fate, handled: HashSet::new() })
    }

    /// Takes files whose rows are durable; those it knows already are passed over.
    pub(crate) async fn retire(&mut self, files: Vec<Entry>, now: Micros) -> Result<()> {
        let files: Vec<Entry> = files.into_iter().filter(|file| !self.handled.contains(&file.path)).collect();
        match self.fate.clone() {
            Fate::Stay => return Ok(()),
            Fate::Move(prefix) => {
                for file in &files {
                    self.relocate(file, &prefix).await?;
                }
            }
            Fate::Remove(keep, _) if keep.is_zero() => {
                for file in &files {
                    remove(&self.location, &file.path, &file.identity).await?;
                }
            }
            Fate::Remove(keep, records) => {
                let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
                let due = Due {
                    at: now.saturating_add(keep),
                    files: files.iter().map(|file| (file.path.clone(), file.identity.clone())).collect(),
                };
                write_down(&records, &due).await?;
            }
        }
        self.handled.extend(files.into_iter().map(|file| file.path));
        Ok(())
    }

    /// Removes what is due, and remembers what is not yet.
    pub(crate) async fn remove_due(&mut self, now: Micros) -> Result<()> {
        let Fate::Remove(_, records) = self.fate.clone() else { return Ok(()) };
        for name in records.list("").await? {
            let Some(body) = records.get(&name).await? else { continue };
            let Ok(due) = serde_json::from_slice::<Due>(&body) else { continue };
            if due.at > now {
                self.handled.extend(due.files.into_keys());
                continue;
            }
            for (path, identity) in &due.files {
                remove(&self.location, path, identity).await?;
            }
            records.delete(&name).await?;
        }
        Ok(())
    }

    async fn relocate(&self, file: &Entry, prefix: &str) -> Result<()> {
        if !is_still(&self.location, &file.path, &file.identity).await? {
            return Ok(());
        }
        copy_below(&self.location, &file.path, prefix).await?;
        remove(&self.location, &file.path, &file.identity).await
    }
}

/// Returns how long inputs stay after the commit.
pub(crate) fn keep_inputs(settings: &Settings) -> Duration {
    settings.duration("keep_inputs").unwrap_or(KEEP_INPUTS)
}

/// Removes a file that is still what was read.
pub(crate) async fn remove(location: &Location, path: &str, identity: &str) -> Result<()> {
    if !is_still(location, path, identity).await? {
        return Ok(());
    }
    match location.store().delete(&location.path(path)).await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(storage_error(error, path)),
    }
}

async fn is_still(location: &Location, path: &str, identity: &str) -> Result<bool> {
    match location.store().head(&location.path(path)).await {
        Ok(meta) => {
            let version = meta.e_tag.unwrap_or_else(|| meta.last_modified.timestamp_micros().to_string());
            Ok(format!("{}/{}", version.trim_matches('"'), meta.size) == identity)
        }
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(storage_error(error, path)),
    }
}

async fn write_down(records: &ObjectRecords, due: &Due) -> Result<()> {
    if due.files.is_empty() {
        return Ok(());
    }
    let body = serde_json::to_vec(due).map_err(|error| Error::bug("a list is not JSON").caused_by(error))?;
    let name = format!("{:020}-{}.json", due.at, Uuid::new_v4());
    match records.create(&name, body).await? {
        Created::Ours => Ok(()),
        Created::Exists => Err(Error::bug("two lists of inputs have one name").with("name", name)),
    }
}

/// Copies a file below another folder, under its own path.
pub(crate) async fn copy_below(location: &Location, path: &str, prefix: &str) -> Result<()> {
    let to = location.path(&format!("{}/{path}", prefix.trim_matches('/')));
    match location.store().head(&to).await {
        Ok(_) => location.store().delete(&to).await.map_err(|error| storage_error(error, path))?,
        Err(object_store::Error::NotFound { .. }) => {}
        Err(error) => return Err(storage_error(error, path)),
    }
    location.store().copy(&location.path(path), &to).await.map_err(|error| storage_error(error, path))
}
