//! The chain of manifests: each names every live file; the newest is the table.

use std::collections::BTreeMap;

use lakehead_core::{Created, Error, Expiry, Mark, Micros, RecordStore, Result, failpoint};
use lakehead_lakefile::{FileKind, Location, ObjectRecords, PartitionValues, storage_error};
use object_store::{ObjectStore as _, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::layout::Buckets;
use crate::schema::ManifestColumn;

/// The folder of the manifests.
pub(crate) const FOLDER: &str = "_manifest";
/// Manifests that keep their list of files, for readers that are under way. Older ones keep their name alone, so that
/// nobody can take it again, and no table grows with the square of its commits.
pub(crate) const WHOLE_MANIFESTS: u64 = 100;
/// Looks at a chain that moves on while it is read.
const READ_ATTEMPTS_MAX: u32 = 8;

/// A live file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ManifestFile {
    /// The name relative to the table's folder.
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) rows: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) partition: PartitionValues,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bucket: Option<u32>,
    /// The interval of the run that wrote it, `start/end` in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) run: Option<String>,
}

impl ManifestFile {
    /// Returns whether its partition is past the age at which rows expire.
    pub(crate) fn has_expired(&self, expiry: &Expiry, now: Micros) -> bool {
        let value = |name: &str| self.partition.iter().find(|(column, _)| column == name)?.1.as_deref();
        expiry.has_expired(value, now)
    }
}

/// One state of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) version: u64,
    /// The table's identity, from its first manifest on.
    pub(crate) identity: String,
    /// Another one in every attempt: equal bytes mean that a manifest is ours.
    pub(crate) uuid: String,
    pub(crate) written_at: String,
    /// The pipeline that wrote this manifest.
    pub(crate) pipeline: String,
    pub(crate) columns: Vec<ManifestColumn>,
    pub(crate) partition_by: Vec<String>,
    /// The buckets of every file, the same from the first manifest on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) buckets: Option<Buckets>,
    /// What the names of its files end with, where that is not `parquet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) format: Option<String>,
    /// What the last commit of each pipeline carried.
    pub(crate) marks: BTreeMap<String, Mark>,
    pub(crate) files: Vec<ManifestFile>,
    /// Files that this manifest took out: still in the folder, perhaps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) removed: Vec<String>,
    /// Files whose rows have expired: no rows of the table any more, and in the folder until their time is over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) expired: Vec<ExpiredFile>,
}

/// A file that was taken out for its age.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ExpiredFile {
    /// The name relative to the table's folder.
    pub(crate) name: String,
    /// When it was taken out, microseconds since the epoch.
    pub(crate) at: Micros,
}

impl Manifest {
    /// Returns what the last commit of `pipeline` carried.
    pub(crate) fn mark(&self, pipeline: &str) -> Mark {
        self.marks.get(pipeline).copied().unwrap_or_default()
    }

    /// Returns the files that are to be in the folder: those of rows, and those that have expired and not gone yet.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.name.as_str()).chain(self.expired.iter().map(|file| file.name.as_str()))
    }

    /// Returns a copy to be changed and written as the next version.
    pub(crate) fn next(&self, pipeline: &str, written_at: String) -> Self {
        Self {
            version: self.version + 1,
            uuid: Uuid::new_v4().to_string(),
            written_at,
            pipeline: pipeline.to_owned(),
            removed: Vec::new(),
            ..self.clone()
        }
    }
}

/// What stands under one number.
enum Entry {
    Whole(Box<Manifest>),
    /// Only its name is kept.
    Superseded,
    Missing,
}

/// Reads and extends the chain.
pub(crate) struct ManifestLog {
    location: Location,
    records: ObjectRecords,
    newest: Option<Manifest>,
}

impl ManifestLog {
    /// Opens the chain of the table at `location`; reads nothing.
    pub(crate) fn new(location: &Location) -> Self {
        Self { location: location.clone(), records: ObjectRecords::new(location.clone()), newest: None }
    }

    /// Returns the newest manifest that was read or written.
    pub(crate) fn known(&self) -> Option<&Manifest> {
        self.newest.as_ref()
    }

    /// Returns the newest manifest; `None` where there is no table.
    pub(crate) async fn refresh(&mut self) -> Result<Option<Manifest>> {
        for _ in 0..READ_ATTEMPTS_MAX {
            if self.newest.is_none() {
                self.newest = self.find().await?;
            }
            let Some(found) = self.newest.as_ref() else { return Ok(None) };
            match self.entry(found.version + 1).await? {
                Entry::Missing => return Ok(Some(found.clone())),
                Entry::Whole(next) => self.newest = self.run_on(*next).await?,
                Entry::Superseded => self.newest = None,
            }
        }
        Err(self.moves_on())
    }

    fn moves_on(&self) -> Error {
        Error::external("R0701", "the manifests of a table move on faster than they can be read")
            .with("table", self.location.url())
    }

    /// Follows the chain from `manifest` to its end.
    async fn run_on(&self, mut manifest: Manifest) -> Result<Option<Manifest>> {
        for _ in 0..WHOLE_MANIFESTS {
            match self.entry(manifest.version + 1).await? {
                Entry::Missing => return Ok(Some(manifest)),
                Entry::Whole(next) => manifest = *next,
                Entry::Superseded => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Finds a manifest near the end: by the hint, or by listing.
    async fn find(&self) -> Result<Option<Manifest>> {
        let hint = self.records.get(&format!("{FOLDER}/_latest")).await?;
        let hint = hint.and_then(|text| String::from_utf8(text).ok()).and_then(|text| text.trim().parse().ok());
        if let Some(version) = hint
            && let Entry::Whole(found) = self.entry(version).await?
        {
            return Ok(Some(*found));
        }
        let mut listed = None;
        for _ in 0..READ_ATTEMPTS_MAX {
            let names = self.records.list(FOLDER).await?;
            listed = names.iter().filter_map(|name| version_of(name)).max();
            // The first manifest keeps its name for ever: a table is not made anew because a listing lags.
            match self.entry(listed.unwrap_or(1)).await? {
                Entry::Whole(found) => return Ok(Some(*found)),
                Entry::Missing if listed.is_none() => return Ok(None),
                // It was made, or moved on, between the two looks: the next listing has it.
                Entry::Missing | Entry::Superseded => {}
            }
        }
        if listed.is_some() {
            return Err(self.moves_on());
        }
        Err(Error::external("R0642", "the store's listing does not know a table that is there")
            .with("table", self.location.url())
            .help("nothing to do: it is tried again, and by then the store lists what it holds"))
    }

    async fn entry(&self, version: u64) -> Result<Entry> {
        let Some(body) = self.records.get(&name_of(version)).await? else { return Ok(Entry::Missing) };
        let foreign = |error: serde_json::Error| {
            Error::incident("R0702", "a manifest of the table cannot be read")
                .with("table", self.location.url())
                .with("manifest", version)
                .help("manifests are written by lakehead alone; bring the file back from a backup")
                .caused_by(error)
        };
        let value: serde_json::Value = serde_json::from_slice(&body).map_err(foreign)?;
        if value.get("superseded_by").is_some() {
            return Ok(Entry::Superseded);
        }
        Ok(Entry::Whole(Box::new(serde_json::from_value(value).map_err(foreign)?)))
    }

    /// Returns the manifest of one version, where it is kept whole.
    pub(crate) async fn at(&self, version: u64) -> Result<Option<Manifest>> {
        Ok(match self.entry(version).await? {
            Entry::Whole(found) => Some(*found),
            Entry::Superseded | Entry::Missing => None,
        })
    }

    /// Writes `manifest` unless its number is taken.
    pub(crate) async fn put(&mut self, manifest: Manifest) -> Result<Created> {
        let body = serde_json::to_vec_pretty(&manifest)
            .map_err(|error| Error::bug("a manifest is not JSON").caused_by(error))?;
        failpoint::hit("parquet.put").await?;
        let created = self.records.create(&name_of(manifest.version), body).await?;
        failpoint::hit("parquet.put.answer").await?;
        if created == Created::Ours {
            self.newest = Some(manifest);
        }
        Ok(created)
    }

    /// Moves the hint on and cuts the manifest that is old enough. Neither is needed by anybody, so that a failure is
    /// no failed commit.
    pub(crate) async fn tidy(&self) {
        let Some(newest) = &self.newest else { return };
        let hint = self.location.path(&format!("{FOLDER}/_latest"));
        let _ = self.location.store().put(&hint, newest.version.to_string().into()).await;
        if let Some(old) = newest.version.checked_sub(WHOLE_MANIFESTS).filter(|old| *old > 0) {
            let _ = self.location.store().put(&self.location.path(&name_of(old)), cut(newest.version).into()).await;
        }
    }

    /// Returns whether the folder holds files of rows at all; asked only where there is no manifest.
    pub(crate) async fn holds_files(&self) -> Result<bool> {
        use futures::StreamExt;
        let mut found = self.location.store().list(Some(self.location.prefix()));
        while let Some(meta) = found.next().await {
            match meta {
                Ok(meta) if is_data_file(meta.location.as_ref()) => return Ok(true),
                Ok(_) => {}
                Err(object_store::Error::NotFound { .. }) => return Ok(false),
                Err(error) => return Err(storage_error(error, self.location.url().as_str())),
            }
        }
        Ok(false)
    }
}

/// Returns the name of a version's manifest.
pub(crate) fn name_of(version: u64) -> String {
    format!("{FOLDER}/{version:020}.json")
}

/// Returns the version that a manifest's name tells.
pub(crate) fn version_of(name: &str) -> Option<u64> {
    name.strip_prefix(FOLDER)?.strip_prefix('/')?.strip_suffix(".json")?.parse().ok()
}

/// Returns what is left of a manifest that is old enough.
pub(crate) fn cut(newest: u64) -> String {
    json!({ "superseded_by": newest }).to_string()
}

/// Returns whether a file holds rows, by its name.
pub(crate) fn is_data_file(name: &str) -> bool {
    [FileKind::Parquet, FileKind::Orc].iter().any(|kind| name.ends_with(&format!(".{}", kind.extension())))
}

#[cfg(test)]
mod tests {
    use lakehead_core::Settings;

    use super::*;

    fn first() -> Manifest {
        Manifest {
            version: 1,
            identity: "t".into(),
            uuid: "u".into(),
            written_at: String::new(),
            pipeline: "p".into(),
            columns: vec![],
            partition_by: vec![],
            buckets: None,
            format: None,
            marks: BTreeMap::new(),
            files: vec![],
            removed: vec![],
            expired: vec![],
        }
    }

    #[tokio::test]
    async fn the_newest_manifest_is_found_however_wrong_the_hint_is() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::open("t", folder.path(), &Settings::default()).unwrap();
        let mut log = ManifestLog::new(&location);
        assert_eq!(log.refresh().await.unwrap(), None);
        let mut manifest = first();
        for _ in 0..WHOLE_MANIFESTS + 5 {
            assert_eq!(log.put(manifest.clone()).await.unwrap(), Created::Ours);
            log.tidy().await;
            manifest = manifest.next("p", String::new());
        }
        let newest = WHOLE_MANIFESTS + 5;
        for hint in ["1", "3", "104", "105", "9999", "not a number"] {
            std::fs::write(folder.path().join("t/_manifest/_latest"), hint).unwrap();
            let found = ManifestLog::new(&location).refresh().await.unwrap().unwrap();
            assert_eq!(found.version, newest, "hint {hint}");
        }
        assert_eq!(log.put(first()).await.unwrap(), Created::Exists);
    }

    #[tokio::test]
    async fn of_two_writers_of_one_number_one_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::open("t", folder.path(), &Settings::default()).unwrap();
        let (mut a, mut b) = (ManifestLog::new(&location), ManifestLog::new(&location));
        a.put(first()).await.unwrap();
        let seen = b.refresh().await.unwrap().unwrap();
        assert_eq!(a.put(seen.next("a", String::new())).await.unwrap(), Created::Ours);
        assert_eq!(b.put(seen.next("b", String::new())).await.unwrap(), Created::Exists);
        assert_eq!(b.refresh().await.unwrap().unwrap().pipeline, "a");
    }

    #[tokio::test]
    async fn a_broken_manifest_is_an_incident_and_never_an_empty_table() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::open("t", folder.path(), &Settings::default()).unwrap();
        std::fs::create_dir_all(folder.path().join("t/_manifest")).unwrap();
        std::fs::write(folder.path().join("t/_manifest/00000000000000000001.json"), "{").unwrap();
        let error = ManifestLog::new(&location).refresh().await.unwrap_err();
        assert_eq!(error.code(), "R0702");
    }
}
