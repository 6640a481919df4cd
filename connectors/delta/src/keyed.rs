//! Upserts that cost what changed: an index says where each key's row lies, and deletion vectors take old rows out. No
//! data file is rewritten.
//!
//! The index is a cache on this machine. What it must hold is the set of live files, each never changing under its name,
//! so that it is brought up to any version by comparing names: files it does not know are read (their key columns), files
//! that are gone are dropped. A foreign append, OPTIMIZE or RESTORE is followed in the same way.

mod merging;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::{StreamExt, TryStreamExt};
use lakehead_core::{DiskFault, Error, Result, failpoint};
use lakehead_keyindex::{Builder, FileId, KeyHash, KeyIndex, Limits, Opened, Place, Progress, means_rebuild};
use lakehead_lakefile::{Location, conform, read_file, read_rows};
use serde_json::Value;
use uuid::Uuid;

use self::merging::{merged_after, worn};
use crate::actions::{add_with_vector, remove};
use crate::hash::{KeyHasher, UNINDEXED};
use crate::live::{LiveFile, LiveTable};
use crate::merge::add_partition_columns;
use crate::sink::NewMark;
use crate::stage::StagedFile;
use crate::upkeep::merge::Merged;
use crate::vectors::{self, Descriptor, Vector};

/// Commits between two seals of the index: after a crash the files of so many commits are read again, a second's work.
const SEAL_EVERY: u32 = 32;
/// Keys of a new file that are put into the index at once: what that holds in memory is bounded by it.
const INSERTED_AT_ONCE: usize = 256 * 1024;

/// Says of what an index is one; another text means another index.
fn stamp(live: &LiveTable, hasher: &KeyHasher) -> Vec<u8> {
    let of = |column: &String| live.schema.field_with_name(column).map(|field| field.data_type().to_string());
    let columns: Vec<_> = hasher.stored().iter().map(|c| format!("{c} {}", of(c).unwrap_or_default())).collect();
    format!("1 {} {}", live.identity, columns.join(",")).into_bytes()
}

/// What a round does to the rows that are there.
#[derive(Default)]
pub(crate) struct Marked {
    pub(crate) actions: Vec<Value>,
    /// Files of which rows go, with the vector that says which from then on.
    vectors: Vec<(FileId, Descriptor, Vector)>,
    /// Files of which every row is gone.
    emptied: Vec<FileId>,
}

impl Marked {
    /// Bytes of the vectors that were written.
    pub(crate) fn bytes(&self) -> u64 {
        self.vectors.iter().map(|(_, descriptor, _)| descriptor.bytes()).sum()
    }

    /// Files that the vectors lie in.
    pub(crate) fn files(&self) -> u64 {
        let files: HashSet<_> = self.vectors.iter().filter_map(|(_, descriptor, _)| descriptor.file()).collect();
        files.len() as u64
    }
}

/// Puts the keys of a new file into the index.
fn insert(index: &mut KeyIndex, id: FileId, keys: &[KeyHash]) -> Result<()> {
    for (rows, keys) in (0_u32..).step_by(INSERTED_AT_ONCE).zip(keys.chunks(INSERTED_AT_ONCE)) {
        let places = (rows..).zip(keys).filter(|(_, key)| **key != UNINDEXED);
        index.insert(places.map(|(row, key)| (*key, Place { file: id, row })).collect())?;
    }
    Ok(())
}

/// The rows of a table by key.
pub(crate) struct KeyedTable {
    location: Location,
    folder: PathBuf,
    index: Option<OwnIndex>,
    vectors: HashMap<FileId, (Descriptor, Vector)>,
    /// The version that index and vectors stand for.
    synced: Option<u64>,
    /// Whether files are registered whose keys are not all there yet.
    building: bool,
    unsealed: u32,
}

/// An index that no other process writes.
struct OwnIndex {
    index: KeyIndex,
    stamp: Vec<u8>,
    /// Held while the index is; where another process has it, a folder of our own that goes with us.
    _claim: Claim,
}

enum Claim {
    Locked(#[allow(dead_code, reason = "the lock goes with the file")] File),
    Scratch(PathBuf),
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Self::Scratch(folder) = self {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Claims a folder, or another one where a process that was fenced off may still have it.
fn claim(folder: &Path) -> Result<(PathBuf, Claim)> {
    let refused = |error: std::io::Error| {
        let known = if DiskFault::of(&error) == Some(DiskFault::Full) {
            Error::incident("R1103", "the disk of the key index is full")
                .help("free space there, then start again: the table is whole, the index is only a cache of it")
        } else {
            Error::user("R0219", "the folder of the key index cannot be used").help(
                "give the user who runs lakehead the right to write there; it holds nothing that cannot be rebuilt",
            )
        };
        known.with("folder", folder.display()).caused_by(error)
    };
    std::fs::create_dir_all(folder).map_err(refused)?;
    let lock = File::create(folder.join("lock")).map_err(refused)?;
    match lock.try_lock() {
        Ok(()) => Ok((folder.join("index"), Claim::Locked(lock))),
        Err(TryLockError::WouldBlock) => {
            let scratch = folder.join(format!("scratch-{}", Uuid::new_v4()));
            Ok((scratch.clone(), Claim::Scratch(scratch)))
        }
        Err(TryLockError::Error(error)) => Err(refused(error)),
    }
}

impl KeyedTable {
    /// Prepares for the table at `location`; its index lies below `cache`. Reads and writes nothing.
    pub(crate) fn new(location: &Location, cache: &Path) -> Self {
        let name = twox_hash::XxHash3_128::oneshot(location.url().as_str().as_bytes());
        Self {
            location: location.clone(),
            folder: cache.join("keys").join(format!("{name:032x}")),
            index: None,
            vectors: HashMap::new(),
            synced: None,
            building: false,
            unsealed: 0,
        }
    }

    /// Brings index and vectors to the version that is held.
    pub(crate) async fn sync(&mut self, live: &LiveTable, hasher: &KeyHasher) -> Result<()> {
        if self.synced == Some(live.version) && self.index.is_some() {
            return Ok(());
        }
        if std::mem::replace(&mut self.building, true) {
            self.forget();
        }
        self.synced = None;
        let done = self.sync_files(live, hasher).await;
        if done.is_err() {
            // Half of a file's keys are worse than none.
            self.forget();
        }
        self.building = false;
        done?;
        self.sync_vectors(live).await?;
        self.synced = Some(live.version);
        Ok(())
    }

    fn forget(&mut self) {
        if let Some(own) = &mut self.index {
            let _ = own.index.clear();
        }
        (self.index, self.synced) = (None, None);
        self.vectors.clear();
    }

    async fn sync_files(&mut self, live: &LiveTable, hasher: &KeyHasher) -> Result<()> {
        let own = match self.index.take() {
            Some(own) => own,
            None => self.open(stamp(live, hasher))?,
        };
        let OwnIndex { index, .. } = &mut self.index.insert(own);
        let gone: Vec<FileId> =
            index.files().filter(|(_, name)| !live.files.contains_key(*name)).map(|(id, _)| id).collect();
        for id in gone {
            index.drop_file(id);
            self.vectors.remove(&id);
        }
        let unknown: Vec<&LiveFile> = live.files.values().filter(|file| index.file_id(&file.name).is_none()).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        tracing::info!(table = %self.location.url(), files = unknown.len(), "reading keys into the index");
        let mut builder = index.builder();
        for file in unknown {
            let id = index.register(&file.name)?;
            let hashes = file_keys(&self.location, &file.name, &file.partition, &live.schema, hasher).await?;
            build_all(&mut builder, id, hashes).await?;
        }
        index.insert_built(vec![builder])
    }

    fn open(&self, stamp: Vec<u8>) -> Result<OwnIndex> {
        let (folder, claim) = claim(&self.folder)?;
        let index = match KeyIndex::open(&folder, Limits::default())? {
            Opened::Ready(mut index) => {
                if index.stamp() != Some(stamp.as_slice()) {
                    index.clear()?;
                }
                index
            }
            Opened::Rebuild(index, reason) => {
                tracing::info!(table = %self.location.url(), %reason, "the key index is built from the table");
                index
            }
        };
        Ok(OwnIndex { index, stamp, _claim: claim })
    }

    async fn sync_vectors(&mut self, live: &LiveTable) -> Result<()> {
        let Some(OwnIndex { index, .. }) = &self.index else { return Ok(()) };
        let mut unread = Vec::new();
        for file in live.files.values() {
            let Some(id) = index.file_id(&file.name) else { continue };
            let known = self.vectors.get(&id).map(|(descriptor, _)| descriptor);
            match &file.vector {
                None => drop(self.vectors.remove(&id)),
                Some(descriptor) if known == Some(descriptor) => {}
                Some(descriptor) => unread.push((id, descriptor.clone())),
            }
        }
        let descriptors: Vec<&Descriptor> = unread.iter().map(|(_, descriptor)| descriptor).collect();
        let read = vectors::read_all(&self.location, &descriptors).await?;
        let read = unread.into_iter().zip(read).map(|((id, descriptor), vector)| (id, (descriptor, vector)));
        self.vectors.extend(read);
        Ok(())
    }

    /// Finds the live row of each key.
    pub(crate) fn find(&self, keys: &[KeyHash]) -> Result<Vec<Option<Place>>> {
        let own = self.index.as_ref().ok_or_else(|| Error::bug("the key index was not synchronised"))?;
        let is_live = |place: Place| !self.is_gone(place);
        let mut places = Vec::with_capacity(keys.len());
        own.index.lookup(keys, is_live, &mut places)?;
        Ok(places)
    }

    fn is_gone(&self, place: Place) -> bool {
        self.vectors.get(&place.file).is_some_and(|(_, vector)| vector.contains(u64::from(place.row)))
    }

    /// Takes an error of the index: one that means that it is damaged is no error, it is built anew and `true` comes back.
    pub(crate) fn recover(&mut self, error: Error) -> Result<()> {
        if !means_rebuild(&error) {
            return Err(error);
        }
        tracing::warn!(table = %self.location.url(), %error, "the key index is built anew");
        self.forget();
        Ok(())
    }

    fn name(&self, id: FileId) -> Result<&str> {
        let name = self.index.as_ref().and_then(|own| own.index.file_name(id));
        name.ok_or_else(|| Error::bug("the key index names a file that it does not know"))
    }

    fn file<'a>(&self, live: &'a LiveTable, id: FileId) -> Result<&'a LiveFile> {
        let name = self.name(id)?;
        live.files.get(name).ok_or_else(|| Error::bug("the key index names a file that is not live").with("file", name))
    }

    /// Returns the rows at `places`, in the columns of the table; their order is another one.
    pub(crate) async fn rows(&self, live: &LiveTable, places: &[Place]) -> Result<Vec<RecordBatch>> {
        let mut by_file: BTreeMap<FileId, Vec<u32>> = BTreeMap::new();
        for place in places {
            by_file.entry(place.file).or_default().push(place.row);
        }
        let mut found = Vec::with_capacity(by_file.len());
        for (id, mut rows) in by_file {
            rows.sort_unstable();
            rows.dedup();
            let file = self.file(live, id)?;
            for batch in read_rows(&self.location, &file.name, &rows).await? {
                let whole = add_partition_columns(&batch, &file.partition, &live.schema)?;
                found.push(conform(&whole, &live.schema)?);
            }
        }
        Ok(found)
    }

    /// Takes the rows at `places` out, by vectors that are on the store when this returns.
    pub(crate) async fn mark(&self, live: &LiveTable, places: &[Place], millis: i64) -> Result<Marked> {
        let mut touched: BTreeMap<FileId, Vector> = BTreeMap::new();
        for place in places {
            let old = || self.vectors.get(&place.file).map(|(_, vector)| vector.clone()).unwrap_or_default();
            touched.entry(place.file).or_insert_with(old).insert(u64::from(place.row));
        }
        let mut marked = Marked::default();
        let mut kept = Vec::with_capacity(touched.len());
        for (id, vector) in touched {
            let file = self.file(live, id)?;
            let rows = match file.rows() {
                Some(rows) => rows,
                None => count_rows(&self.location, file).await?,
            };
            marked.actions.push(remove(file, millis));
            if vector.len() == rows {
                marked.emptied.push(id);
            } else {
                kept.push((id, file, rows, vector));
            }
        }
        let descriptors =
            vectors::write(&self.location, &kept.iter().map(|(.., vector)| vector).collect::<Vec<_>>()).await?;
        failpoint::hit("delta.vectors.put").await?;
        for ((id, file, rows, vector), descriptor) in kept.into_iter().zip(descriptors) {
            marked.actions.push(add_with_vector(file, &descriptor, rows));
            marked.vectors.push((id, descriptor, vector));
        }
        Ok(marked)
    }

    /// Takes over what was committed as `version`: marks, and the files with the hashes of their keys.
    ///
    /// The table is safe; a failure of the index here is told, and the index is built anew by the next round.
    pub(crate) fn committed(&mut self, version: u64, marked: Marked, added: &[StagedFile]) {
        let done = self.take_over(version, marked, added);
        self.carried_on(done);
    }

    /// Takes over that a merge became `version`: `marks` say which rows of its new files went meanwhile, and are none for a
    /// file that no version names, since no row of it is left.
    pub(crate) fn replaced(&mut self, version: u64, merged: &Merged, marks: Vec<Option<NewMark>>) {
        let done = self.move_rows(version, merged, marks);
        self.carried_on(done);
    }

    /// Takes over that `version` removed some files.
    pub(crate) fn removed(&mut self, version: u64, files: &[LiveFile]) {
        let emptied = files.iter().filter_map(|file| self.index.as_ref()?.index.file_id(&file.name)).collect();
        self.committed(version, Marked { emptied, ..Marked::default() }, &[]);
    }

    fn carried_on(&mut self, done: Result<()>) {
        if let Err(error) = done {
            tracing::warn!(table = %self.location.url(), %error, "the key index could not be carried on");
            self.forget();
        }
    }

    /// Returns the bytes of the vectors that a round wrote, by file.
    pub(crate) fn vectors_of(&self, marked: &Marked) -> Vec<(String, u64)> {
        let of = |id: FileId| self.index.as_ref()?.index.file_name(id).map(str::to_owned);
        marked.vectors.iter().filter_map(|(id, descriptor, _)| Some((of(*id)?, descriptor.bytes()))).collect()
    }

    /// Returns which rows of a live file are gone, where that was read.
    pub(crate) fn vector(&self, file: &LiveFile) -> Option<&Vector> {
        let id = self.index.as_ref()?.index.file_id(&file.name)?;
        let (descriptor, vector) = self.vectors.get(&id)?;
        (Some(descriptor) == file.vector.as_ref()).then_some(vector)
    }

    /// Returns the index where it stands for the version before, and stands for none from here on: where it does not (a
    /// table was emptied, say), the next round brings it up by names.
    fn index_before(&mut self, version: u64) -> Option<&mut KeyIndex> {
        let stood = self.synced.take() == Some(version - 1);
        self.index.as_mut().filter(|_| stood).map(|own| &mut own.index)
    }

    fn take_over(&mut self, version: u64, marked: Marked, added: &[StagedFile]) -> Result<()> {
        let Some(index) = self.index_before(version) else { return Ok(()) };
        for id in &marked.emptied {
            index.drop_file(*id);
        }
        // A file whose keys are not at hand is read by the next round.
        let mut complete = true;
        for StagedFile { file, keys, .. } in added {
            match keys {
                Some(keys) => {
                    let id = index.register(&file.name)?;
                    insert(index, id, keys)?;
                }
                None => complete = false,
            }
        }
        for id in &marked.emptied {
            self.vectors.remove(id);
        }
        self.vectors.extend(marked.vectors.into_iter().map(|(id, descriptor, vector)| (id, (descriptor, vector))));
        self.synced = complete.then_some(version);
        self.maintain(added.iter().map(|file| file.file.statistics.rows).sum())
    }

    fn move_rows(&mut self, version: u64, merged: &Merged, marks: Vec<Option<NewMark>>) -> Result<()> {
        let Some(index) = self.index_before(version) else { return Ok(()) };
        let (mut old, mut new) = (Vec::with_capacity(merged.old.len()), Vec::with_capacity(merged.new.len()));
        for file in &merged.old {
            let id = index.file_id(file.name());
            let id = id.ok_or_else(|| Error::bug("the key index lacks a file").with("file", file.name()))?;
            old.push((id, file.left_out()?));
        }
        for StagedFile { file, .. } in &merged.new {
            new.push((index.register(&file.name)?, row_number(file.statistics.rows)?));
        }
        let moved: Vec<FileId> = old.iter().map(|(id, _)| *id).collect();
        index.move_rows(old, &new)?;
        let marked: Vec<_> = new.into_iter().zip(marks).map(|((id, _), mark)| (id, mark)).collect();
        for (id, _) in marked.iter().filter(|(_, mark)| mark.is_none()) {
            index.drop_file(*id);
        }
        for id in &moved {
            self.vectors.remove(id);
        }
        self.vectors.extend(marked.into_iter().filter_map(|(id, mark)| Some((id, mark??))));
        self.synced = Some(version);
        self.maintain(0)
    }

    /// Lets the index merge its runs after a commit of so many rows, and keeps it from time to time.
    fn maintain(&mut self, rows: u64) -> Result<()> {
        let Some(OwnIndex { index, stamp, .. }) = &mut self.index else { return Ok(()) };
        let worn = worn(&self.vectors);
        let is_live = |place: Place| {
            let vector = worn.binary_search_by_key(&place.file, |(file, _)| *file);
            !vector.is_ok_and(|at| worn[at].1.contains(u64::from(place.row)))
        };
        if index.maintain(merged_after(rows), is_live)? == Progress::More {
            tracing::debug!("the key index goes on merging with the next commit");
        }
        self.unsealed += 1;
        if self.unsealed >= SEAL_EVERY {
            index.seal(stamp)?;
            self.unsealed = 0;
        }
        Ok(())
    }
}

/// Returns a count of rows, or the number of one, as the index has them.
pub(crate) fn row_number(row: u64) -> Result<u32> {
    u32::try_from(row).map_err(|_| Error::bug("a data file has more rows than the index can name"))
}

impl Drop for KeyedTable {
    fn drop(&mut self) {
        if let Some(OwnIndex { index, stamp, .. }) = &mut self.index
            && self.unsealed > 0
            && !self.building
            && let Err(error) = index.seal(stamp)
        {
            tracing::debug!(%error, "the key index was not sealed");
        }
    }
}

async fn count_rows(location: &Location, file: &LiveFile) -> Result<u64> {
    let mut batches = Box::pin(read_file(location, &file.name, Some(&[])).await?);
    let mut rows = 0;
    while let Some(batch) = batches.try_next().await? {
        rows += batch.num_rows() as u64;
    }
    Ok(rows)
}

/// Adds the keys of all rows of a file.
pub(crate) async fn build_all(
    builder: &mut Builder,
    file: FileId,
    hashes: impl futures::Stream<Item = Result<Vec<KeyHash>>> + Send,
) -> Result<()> {
    let (mut hashes, mut row) = (Box::pin(hashes), 0);
    while let Some(batch) = hashes.try_next().await? {
        for (row, hash) in (row..).zip(&batch).filter(|(_, hash)| **hash != UNINDEXED) {
            builder.push(*hash, Place { file, row })?;
        }
        row += batch.len() as u32;
        // Rounds come first.
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Returns the hashes of the keys of a file's rows, those that are gone included.
pub(crate) async fn file_keys<'a>(
    location: &'a Location,
    name: &'a str,
    partition: &'a [(String, Option<String>)],
    schema: &'a SchemaRef,
    hasher: &'a KeyHasher,
) -> Result<impl futures::Stream<Item = Result<Vec<KeyHash>>> + Send + use<'a>> {
    let stored: Vec<String> =
        hasher.stored().iter().filter(|column| partition.iter().all(|(name, _)| name != *column)).cloned().collect();
    let batches = read_file(location, name, Some(&stored)).await?;
    Ok(batches.map(move |batch| hasher.stored_hashes(&add_partition_columns(&batch?, partition, schema)?)))
}
