//! The chain of records beside a folder of files: which rounds are in it, and who may add the next.
//!
//! A folder of files has no version of its own, so the commit is a record, `_lakehead/<pipeline>/files/<node>-<hash of
//! the path>/<n:020>.json`, created if absent. It names the staged file and its final place; moving the file there
//! comes after, and is done again by whoever finds it undone. A daemon that was taken over can therefore make nothing
//! visible, and a round is moved once, however often it is committed.

use lakehead_core::{Created, Error, Mark, RecordStore, Result, failpoint};
use lakehead_lakefile::{Location, ObjectRecords, storage_error};
use object_store::ObjectStoreExt;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A file of the folder, as far as an `overwrite` must know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OwnFile {
    pub(crate) name: String,
    pub(crate) run: String,
}

/// A staged file on its way to its place; both are relative to the connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Move {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) size: u64,
}

/// One state of the folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Link {
    pub(crate) version: u64,
    pub(crate) identity: String,
    pub(crate) uuid: String,
    /// The folder, for people.
    pub(crate) path: String,
    pub(crate) mark: Mark,
    /// What this commit makes visible.
    pub(crate) publish: Vec<Move>,
    /// Files that this commit takes out.
    pub(crate) removed: Vec<String>,
    /// The files of the folder; kept only where they are overwritten.
    pub(crate) files: Vec<OwnFile>,
}

impl Link {
    /// Returns the first state of a folder.
    pub(crate) fn first(path: &str, mark: Mark) -> Self {
        Self {
            version: 1,
            identity: Uuid::new_v4().to_string(),
            uuid: Uuid::new_v4().to_string(),
            path: path.to_owned(),
            mark,
            publish: Vec::new(),
            removed: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Returns the next state, still without what it changes.
    pub(crate) fn next(&self, mark: Mark) -> Self {
        Self {
            version: self.version + 1,
            uuid: Uuid::new_v4().to_string(),
            mark,
            publish: Vec::new(),
            removed: Vec::new(),
            ..self.clone()
        }
    }
}

/// Reads and extends the chain.
pub(crate) struct Chain {
    location: Location,
    records: ObjectRecords,
    folder: String,
    newest: Option<Link>,
}

impl Chain {
    /// Opens the chain of one folder; reads nothing.
    pub(crate) fn new(location: &Location, pipeline: &str, node: &str, path: &str) -> Result<Self> {
        let records = ObjectRecords::new(location.child(&format!("_lakehead/{pipeline}"))?);
        let hash = Uuid::new_v5(&Uuid::NAMESPACE_URL, path.as_bytes()).simple().to_string();
        let folder = format!("files/{node}-{}", &hash[..16]);
        Ok(Self { location: location.clone(), records, folder, newest: None })
    }

    fn name(&self, version: u64) -> String {
        format!("{}/{version:020}.json", self.folder)
    }

    /// Returns the newest state; `None` where nothing was ever written.
    pub(crate) async fn refresh(&mut self) -> Result<Option<Link>> {
        if self.newest.is_none() {
            let names = self.records.list(&self.folder).await?;
            let Some(name) = names.last() else { return Ok(None) };
            self.newest = self.read(name).await?;
        }
        while let Some(newest) = &self.newest {
            match self.read(&self.name(newest.version + 1)).await? {
                Some(next) => self.newest = Some(next),
                None => break,
            }
        }
        Ok(self.newest.clone())
    }

    async fn read(&self, name: &str) -> Result<Option<Link>> {
        let Some(body) = self.records.get(name).await? else { return Ok(None) };
        let link = serde_json::from_slice(&body).map_err(|error| {
            Error::incident("R0614", "a record of the sink cannot be read").with("record", name).caused_by(error)
        })?;
        Ok(Some(link))
    }

    /// Writes `link` unless its number is taken.
    pub(crate) async fn put(&mut self, link: &Link) -> Result<Created> {
        let body = serde_json::to_vec(link).map_err(|error| Error::bug("a record is not JSON").caused_by(error))?;
        failpoint::hit("files.put").await?;
        let created = self.records.create(&self.name(link.version), body).await?;
        if created == Created::Ours {
            self.newest = Some(link.clone());
        }
        failpoint::hit("files.committed").await?;
        Ok(created)
    }

    /// Moves the file of a committed state to its place and takes out what it replaces. A staged file that is gone was
    /// moved before: perhaps its readers have taken it away since, so that it is not missed.
    pub(crate) async fn carry_out(&self, link: &Link) -> Result<()> {
        for publish in &link.publish {
            let (from, to) = (self.location.path(&publish.from), self.location.path(&publish.to));
            match self.location.store().rename(&from, &to).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(storage_error(error, &publish.to)),
            }
        }
        for name in &link.removed {
            match self.location.store().delete(&self.location.path(name)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(storage_error(error, name)),
            }
        }
        Ok(())
    }
}
