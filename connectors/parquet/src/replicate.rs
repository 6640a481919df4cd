//! A copy of a plain table elsewhere: the files of the newest manifest, then that manifest, then the hint that names it.
//!
//! A manifest names every live file, so the copy goes from the version it has to the newest at once: files of versions
//! between may be gone. Readers of the manifest find one whole version at every moment. Who lists the folder of a copy
//! sees files from shortly before their commit on; what was replaced goes only where `delete = true` asks for it.

use std::collections::{BTreeSet, HashSet};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use lakehead_core::{Copied, CopySpec, Created, Error, RecordStore, Result, TableCopy, failpoint};
use lakehead_lakefile::{Carried, Carrier, Location, ObjectRecords, storage_error};

use crate::manifest::{FOLDER, Manifest, ManifestLog, WHOLE_MANIFESTS, cut, is_data_file, name_of, version_of};
use crate::publish::{is_written_by, remove, sweep};

/// Files that are copied at once: parts of each are held.
const FILES_AT_ONCE: usize = 4;
/// Versions that are begun before a table that moves on faster than it is copied is left for the next look.
const ATTEMPTS_MAX: usize = 4;

/// Keeps one copy of one plain table.
pub(crate) struct ParquetCopy {
    spec: CopySpec,
    from: Location,
    to: Location,
    carrier: Carrier,
    here: ManifestLog,
    there: ObjectRecords,
    /// What the copy holds; none before the first look.
    known: Option<Known>,
}

/// What a copy holds.
struct Known {
    newest: Option<Manifest>,
    /// Versions whose manifests are whole.
    whole: BTreeSet<u64>,
    /// Whether files of earlier attempts may lie around.
    unswept: bool,
}

impl ParquetCopy {
    /// Builds it; reads and writes nothing.
    pub(crate) fn new(spec: CopySpec) -> Result<Self> {
        let (from, to, carrier) = Carrier::of(&spec)?;
        let (here, there) = (ManifestLog::new(&from), ObjectRecords::new(to.clone()));
        Ok(Self { spec, from, to, carrier, here, there, known: None })
    }

    async fn advance(&mut self, known: &mut Known) -> Result<Option<Copied>> {
        let mut done = Copied::default();
        for _ in 0..ATTEMPTS_MAX {
            let Some(newest) = self.here.refresh().await? else {
                return if self.here.holds_files().await? { Err(unnamed(&self.from)) } else { Ok(None) };
            };
            self.check(known, &newest).await?;
            done.version = newest.version;
            if known.newest.as_ref().is_some_and(|there| there.version == newest.version) {
                self.clean_up(known, &[], &mut done).await?;
                return Ok(Some(done));
            }
            if self.carry(&newest, &mut done).await? {
                let before = self.take(known, newest).await?;
                self.clean_up(known, &before, &mut done).await?;
            }
        }
        Err(Error::external("R0571", "the table moves on faster than it is copied")
            .with("table", self.from.url())
            .help("the next look goes on: files that are there are not copied again"))
    }

    /// Looks what the copy holds.
    async fn look(&self) -> Result<Known> {
        let newest = ManifestLog::new(&self.to).refresh().await?;
        let whole = self.there.list(FOLDER).await?.iter().filter_map(|name| version_of(name)).collect();
        Ok(Known { newest, whole, unswept: true })
    }

    /// Refuses a copy that is none of this table.
    async fn check(&self, known: &Known, newest: &Manifest) -> Result<()> {
        let conflict = |why: &'static str| Err(self.conflict(why));
        let Some(there) = &known.newest else {
            return if known.unswept { self.refuse_foreign_files(newest).await } else { Ok(()) };
        };
        if there.identity != newest.identity {
            return conflict("it is a copy of another table");
        }
        if there.version > newest.version {
            return conflict("it has a version that the table does not have");
        }
        let same =
            if there.version == newest.version { Some(newest.clone()) } else { self.here.at(there.version).await? };
        match same {
            Some(ours) if ours.uuid != there.uuid => conflict("its version is not the table's"),
            _ => Ok(()),
        }
    }

    /// A folder without a manifest may hold what an earlier attempt copied, and nothing else.
    async fn refuse_foreign_files(&self, newest: &Manifest) -> Result<()> {
        let mut found = self.to.store().list(Some(self.to.prefix()));
        while let Some(meta) = found.next().await {
            let meta = match meta {
                Ok(meta) => meta,
                Err(object_store::Error::NotFound { .. }) => return Ok(()),
                Err(error) => return Err(storage_error(error, self.to.url().as_str())),
            };
            let file = meta.location.filename().unwrap_or_default();
            let is_ours = newest.marks.keys().any(|pipeline| is_written_by(file, pipeline));
            if is_data_file(file) && !is_ours {
                return Err(self.conflict("its folder holds files that are not the table's"));
            }
        }
        Ok(())
    }

    fn conflict(&self, why: &'static str) -> Error {
        Error::incident("R0564", "the copy was written by others, and is left as it is")
            .with("copy", self.to.url())
            .with("reason", why)
            .help("move it away, and the next look makes a new one; or replicate to another place")
    }

    /// Copies the files of a manifest; false where one is gone, since a newer manifest does without it.
    async fn carry(&self, manifest: &Manifest, done: &mut Copied) -> Result<bool> {
        let names: Vec<String> = manifest.files.iter().map(|file| file.name.clone()).collect();
        let one = |name: String| async move {
            failpoint::hit("replicate.file").await?;
            self.carrier.carry(&name).await
        };
        let mut carried = futures::stream::iter(names.into_iter().map(one)).buffer_unordered(FILES_AT_ONCE);
        let mut whole = true;
        while let Some(outcome) = carried.try_next().await? {
            match outcome {
                Carried::Copied(bytes) => (done.files, done.bytes) = (done.files + 1, done.bytes + bytes),
                Carried::There => {}
                Carried::Gone => whole = false,
            }
        }
        Ok(whole)
    }

    /// Makes a version the copy's newest; returns the files of the version before that it does without.
    async fn take(&self, known: &mut Known, newest: Manifest) -> Result<Vec<String>> {
        let name = name_of(newest.version);
        let gone = || Error::external("R0403", "an object that must be there is gone").with("manifest", newest.version);
        let body = ObjectRecords::new(self.from.clone()).get(&name).await?.ok_or_else(gone)?;
        failpoint::hit("replicate.entry").await?;
        if self.there.create(&name, body).await? == Created::Exists {
            return Err(self.conflict("somebody else wrote its next version"));
        }
        failpoint::hit("replicate.pointer").await?;
        self.carrier.point(&format!("{FOLDER}/_latest"), newest.version.to_string().into_bytes()).await?;
        known.whole.insert(newest.version);
        while known.whole.len() as u64 > WHOLE_MANIFESTS
            && let Some(old) = known.whole.pop_first()
        {
            self.carrier.point(&name_of(old), cut(newest.version).into_bytes()).await?;
        }
        let live: HashSet<&str> = newest.names().collect();
        let before = known.newest.take();
        let replaced = before.iter().flat_map(Manifest::names).filter(|name| !live.contains(name));
        let replaced: Vec<String> = replaced.map(str::to_owned).collect();
        known.newest = Some(newest);
        Ok(replaced)
    }

    /// Removes what the newest version does without, where that was asked for.
    async fn clean_up(&self, known: &mut Known, replaced: &[String], done: &mut Copied) -> Result<()> {
        let Some(newest) = known.newest.as_ref().filter(|_| self.spec.deletes) else { return Ok(()) };
        remove(&self.to, replaced).await;
        done.removed += replaced.len() as u64;
        if std::mem::take(&mut known.unswept) {
            for pipeline in newest.marks.keys() {
                sweep(&self.to, pipeline, newest).await?;
            }
        }
        Ok(())
    }
}

/// A folder that others write is not copied: what is on its way cannot be told from what is the table.
pub(crate) fn unnamed(folder: &Location) -> Error {
    Error::user("R0572", "the folder has no manifest: nothing says which of its files are the table")
        .with("table", folder.url())
        .help("leave `replicate` out: a folder that others write is copied with the tools of its store")
}

#[async_trait]
impl TableCopy for ParquetCopy {
    async fn catch_up(&mut self) -> Result<Option<Copied>> {
        let mut known = match self.known.take() {
            Some(known) => known,
            None => self.look().await?,
        };
        let outcome = self.advance(&mut known).await;
        // Behind a failure, or a call that was dropped, the copy is looked at again.
        if outcome.is_ok() {
            self.known = Some(known);
        }
        outcome
    }
}

/// Builds a copy; used by both kinds of files.
pub(crate) fn copy(spec: CopySpec) -> Result<Box<dyn TableCopy>> {
    Ok(Box::new(ParquetCopy::new(spec)?))
}
