//! Rows of the open round, written to files that no version names yet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray, Decimal128Array, RecordBatch};
use arrow::datatypes::{Decimal128Type, Field, Schema, SchemaRef};
use lakehead_core::{Error, OP, Op, Result, Settings, UNCHANGED, failpoint};
use lakehead_keyindex::KeyHash;
use lakehead_lakefile::{
    FileFormat, FileWriter, Location, PartitionValues, WrittenFile, file_schema, partition_path, split_by_partition,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::changes::Changes;
use crate::hash::KeyHasher;
use crate::history::{self, History};
use crate::net::{NetChanges, Netted, text_column};
use crate::schema::to_lake;
use crate::spill::{Folder, Netting, Part, Spill};

/// Bytes after which a data file is closed and the next one begun, where the sink says nothing.
const FILE_BYTES: u64 = 128 << 20;
/// Files open at once; the one that was written to least recently is closed for the next partition.
const OPEN_FILES_MAX: usize = 64;
/// Bytes of changes held in memory, where the sink says nothing.
const NET_BYTES_MAX: u64 = 64 << 20;

/// The column of key hashes, between hashing and writing.
const HASH: &str = "_key_hash";

/// A staged file with its partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StagedFile {
    pub(crate) file: WrittenFile,
    pub(crate) partition: PartitionValues,
    /// The hashes of its rows' keys, for the index, where this process wrote the file and kept them.
    #[serde(skip)]
    pub(crate) keys: Option<Vec<KeyHash>>,
}

/// A file that is being written.
struct OpenFile {
    writer: FileWriter,
    /// When it was written to last, counted in writes.
    used: u64,
    /// The hashes of its rows' keys.
    keys: Option<Vec<KeyHash>>,
}

/// The payload of a `Prepared`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Staged {
    /// Whether the table is emptied first.
    pub(crate) truncate: bool,
    /// Data files, added as they are. In `upsert` they replace the rows of their keys.
    pub(crate) data: Vec<StagedFile>,
    /// Rows with unsent columns.
    pub(crate) patches: Vec<Changes>,
    /// Keys whose rows go.
    pub(crate) deletes: Vec<Changes>,
    /// The table's columns when the files were written, as a Delta `schemaString`.
    pub(crate) schema: String,
    /// The interval that an `overwrite` run stands for.
    pub(crate) run: Option<String>,
    /// The changes of a table of versions.
    #[serde(default)]
    pub(crate) history: History,
}

impl Staged {
    /// What is not rows of the table.
    pub(crate) fn changes(&self) -> impl Iterator<Item = &Changes> {
        self.patches.iter().chain(&self.deletes)
    }

    /// Bytes that were written or travel with the round.
    pub(crate) fn bytes(&self) -> u64 {
        let files =
            self.data.iter().map(|file| &file.file).chain(self.history.parts.iter().filter_map(history::Part::file));
        files.map(|file| file.size).chain(self.changes().map(Changes::bytes)).sum()
    }

    /// All files, in the table and beside it.
    pub(crate) fn files(&self) -> impl Iterator<Item = &WrittenFile> {
        self.data.iter().map(|file| &file.file).chain(self.beside())
    }

    /// Change files: those outside the table.
    pub(crate) fn beside(&self) -> impl Iterator<Item = &WrittenFile> {
        self.changes().filter_map(Changes::file).chain(self.history.parts.iter().filter_map(history::Part::file))
    }
}

/// Writes data files, one at a time per partition.
pub(crate) struct DataWriters {
    location: Location,
    partition_by: Vec<String>,
    schema: SchemaRef,
    format: FileFormat,
    file_bytes: u64,
    owner: Owner,
    /// What hashes the keys that are kept.
    keys: Option<KeyHasher>,
    open: BTreeMap<PartitionValues, OpenFile>,
    clock: u64,
    done: Vec<StagedFile>,
}

impl DataWriters {
    pub(crate) fn new(
        location: &Location,
        schema: &SchemaRef,
        partition_by: &[String],
        format: FileFormat,
        file_bytes: Option<u64>,
        owner: &Owner,
    ) -> Self {
        Self {
            location: location.named_later(),
            partition_by: partition_by.to_vec(),
            schema: file_schema(schema, partition_by),
            format,
            file_bytes: file_bytes.unwrap_or(FILE_BYTES),
            owner: owner.clone(),
            keys: None,
            open: BTreeMap::new(),
            clock: 0,
            done: Vec::new(),
        }
    }

    /// Keeps the hashes of the keys from here on: 16 bytes a row.
    pub(crate) fn keep_keys(&mut self, hasher: KeyHasher) {
        self.keys = Some(hasher);
    }

    pub(crate) async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let hashed = self.keys.as_ref().map(|hasher| with_hashes(rows, hasher)).transpose()?;
        for (partition, rows) in split_by_partition(hashed.as_ref().unwrap_or(rows), &self.partition_by)? {
            let (rows, keys) = if hashed.is_some() { without_hashes(&rows)? } else { (rows, Vec::new()) };
            self.clock += 1;
            if !self.open.contains_key(&partition) {
                self.make_room().await?;
                let name = self.new_name(&partition);
                let writer = FileWriter::create(&self.location, &name, &self.schema, self.format)?;
                let keys = self.keys.as_ref().map(|_| Vec::new());
                self.open.insert(partition.clone(), OpenFile { writer, used: 0, keys });
            }
            let Some(open) = self.open.get_mut(&partition) else { continue };
            open.used = self.clock;
            if let Some(kept) = &mut open.keys {
                kept.extend(keys);
            }
            open.writer.write(&rows).await?;
            if open.writer.bytes() >= self.file_bytes {
                self.close(&partition).await?;
            }
        }
        Ok(())
    }

    /// Returns the name of a new file in a partition.
    pub(crate) fn new_name(&self, partition: &PartitionValues) -> String {
        format!("{}{}", plain_folder(partition), self.owner.part_name())
    }

    async fn make_room(&mut self) -> Result<()> {
        if self.open.len() < OPEN_FILES_MAX {
            return Ok(());
        }
        let oldest = self.open.iter().min_by_key(|(_, open)| open.used).map(|(partition, _)| partition.clone());
        match oldest {
            Some(partition) => self.close(&partition).await,
            None => Ok(()),
        }
    }

    async fn close(&mut self, partition: &PartitionValues) -> Result<()> {
        if let Some(open) = self.open.remove(partition) {
            failpoint::hit("delta.stage.close").await?;
            let file = open.writer.finish().await?;
            self.done.push(StagedFile { file, partition: partition.clone(), keys: open.keys });
        }
        Ok(())
    }

    /// Returns about how many bytes of memory unfinished row groups take.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.open.values().map(|open| open.writer.memory() as u64).sum()
    }

    /// Ends the row groups that are open.
    pub(crate) async fn let_go(&mut self) -> Result<()> {
        for open in self.open.values_mut() {
            open.writer.flush().await?;
        }
        Ok(())
    }

    /// Closes every file and returns all that were written.
    pub(crate) async fn finish(mut self) -> Result<Vec<StagedFile>> {
        let partitions: Vec<_> = self.open.keys().cloned().collect();
        for partition in partitions {
            self.close(&partition).await?;
        }
        Ok(self.done)
    }
}

/// Puts each row's key hash beside it, so that it follows its row into its partition.
fn with_hashes(rows: &RecordBatch, hasher: &KeyHasher) -> Result<RecordBatch> {
    let hashes = hasher.stored_hashes(rows)?.into_iter().map(u128::cast_signed);
    let column = Decimal128Array::from_iter_values(hashes);
    let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(HASH, column.data_type().clone(), false)));
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(column));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

fn without_hashes(rows: &RecordBatch) -> Result<(RecordBatch, Vec<KeyHash>)> {
    let last = rows.num_columns() - 1;
    let hashes = rows.column(last).as_primitive::<Decimal128Type>().values().iter().map(|hash| hash.cast_unsigned());
    let keys = hashes.collect();
    Ok((rows.project(&(0..last).collect::<Vec<_>>())?, keys))
}

/// Returns the folder of a partition, for people to find: what would have to be escaped is left out. The log names the
/// values, and a file's name is unique anyhow. Polars 1.x takes no row out of a file whose path is escaped.
fn plain_folder(partition: &PartitionValues) -> String {
    let path = partition_path(partition);
    let mut plain = String::with_capacity(path.len());
    let mut letters = path.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '%' => {
                letters.nth(1);
                plain.push('-');
            }
            _ if letter.is_ascii_alphanumeric() || "=/_.-".contains(letter) => plain.push(letter),
            _ => plain.push('-'),
        }
    }
    plain
}

/// Who writes a file: the file's name says it, so that a sweep can tell whose it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The pipeline, in eight digits.
    pipeline: String,
    fence: u64,
}

impl Owner {
    pub(crate) fn new(pipeline: &str, fence: u64) -> Self {
        let hash = twox_hash::XxHash3_128::oneshot(pipeline.as_bytes());
        Self { pipeline: format!("{:08x}", hash >> 96), fence }
    }

    /// Returns a name that no other process and no other round uses.
    pub(crate) fn part_name(&self) -> String {
        format!("part-{:05}-{}-{}.parquet", self.fence, self.pipeline, Uuid::new_v4())
    }

    /// Returns whether a file was written by this owner or one before it of the same pipeline.
    pub(crate) fn may_remove(&self, name: &str) -> bool {
        let Some(name) = name.strip_prefix("part-").and_then(|name| name.strip_suffix(".parquet")) else {
            return false;
        };
        let mut parts = name.splitn(3, '-');
        let fence = parts.next().and_then(|fence| fence.parse::<u64>().ok());
        let pipeline = parts.next();
        let uuid = parts.next().and_then(|uuid| Uuid::try_parse(uuid).ok());
        fence.is_some_and(|fence| fence <= self.fence) && pipeline == Some(self.pipeline.as_str()) && uuid.is_some()
    }
}

/// The open round of an `upsert`.
pub(crate) struct KeyedStage {
    nets: NetChanges,
    straight: bool,
    /// Where they go that do not fit in memory.
    spill: Option<Spill>,
    netting: Netting,
    folder: PathBuf,
    /// Whether its own bound alone counts: the file says how much it may hold, or what it holds cannot leave the memory.
    stays: bool,
}

/// What a round of an `upsert` comes to.
pub(crate) enum Round {
    /// It was netted in memory.
    Whole(Netted),
    /// It is netted part by part, in files of a folder.
    Parts(Folder, Vec<Part>),
}

/// What became of the rows handed to a [`KeyedStage`].
pub(crate) enum Taken {
    /// They are netted in memory.
    Netted,
    /// They come from a snapshot, each key once: to be written as they are.
    Straight(RecordBatch),
}

impl KeyedStage {
    /// Begins a round of changes; what does not fit in memory goes to files below `folder`.
    pub(crate) fn new(schema: &SchemaRef, key: &[String], settings: &Settings, folder: &Path) -> Result<Self> {
        let netting = Netting {
            key: key.to_vec(),
            keeps_deleted: settings.text("on_delete") == Some("soft"),
            bytes_max: usize::try_from(settings.size_or("memory", NET_BYTES_MAX)).unwrap_or(usize::MAX),
        };
        let (nets, folder) = (netting.nets(schema)?, folder.to_path_buf());
        let stays = settings.get("memory").is_some();
        Ok(Self { nets, straight: false, spill: None, netting, folder, stays })
    }

    /// Takes over added columns.
    pub(crate) fn evolve(&mut self, schema: &SchemaRef) -> Result<()> {
        match &mut self.spill {
            Some(spill) => spill.evolve(schema),
            None => self.nets.evolve(schema),
        }
    }

    /// Returns about how many bytes of changes it holds.
    pub(crate) fn held_bytes(&self) -> u64 {
        if self.spill.is_some() || self.stays { 0 } else { self.nets.bytes() as u64 }
    }

    /// Puts the changes that it holds into files, where it can.
    pub(crate) fn let_go(&mut self, schema: &SchemaRef) -> Result<()> {
        if self.spill.is_none() && !self.stays && !self.nets.is_empty() {
            self.nets.compact()?;
            self.spill = self.netting.spill(&mut self.nets, schema, &self.folder, 0)?;
            self.stays = self.spill.is_none();
        }
        Ok(())
    }

    /// Returns how its changes are netted.
    pub(crate) fn netting(&self) -> &Netting {
        &self.netting
    }

    /// Returns what was taken, and forgets it; none where nothing was.
    pub(crate) fn finish(&mut self) -> Result<Option<Round>> {
        if let Some(spill) = self.spill.take() {
            let (folder, parts) = spill.finish()?;
            return Ok(Some(Round::Parts(folder, parts)));
        }
        if self.nets.is_empty() { Ok(None) } else { Ok(Some(Round::Whole(self.nets.take()?))) }
    }

    /// Takes rows. A snapshot's rows go straight to a file: no key comes twice in one, and nothing precedes it.
    pub(crate) fn take(&mut self, rows: &RecordBatch, schema: &SchemaRef) -> Result<Taken> {
        if let Some(spill) = &mut self.spill {
            spill.add(rows)?;
            return Ok(Taken::Netted);
        }
        if only_read(rows)? && self.nets.is_empty() {
            self.straight = true;
            return Ok(Taken::Straight(to_lake(rows, schema)?));
        }
        if self.straight {
            return Err(Error::bug("a round holds a snapshot's rows and changes behind it"));
        }
        self.nets.add(rows)?;
        self.spill = self.netting.overflow(&mut self.nets, schema, &self.folder, 0)?;
        Ok(Taken::Netted)
    }
}

/// Returns whether a snapshot read every row.
pub(crate) fn only_read(rows: &RecordBatch) -> Result<bool> {
    Ok(match text_column(rows, OP)? {
        Some(ops) => (0..ops.len()).all(|row| ops.is_valid(row) && ops.value(row) == Op::Read.letter()),
        None => false,
    })
}

/// Refuses a change that `append` cannot hold: only new rows may come (a table without a key).
pub(crate) fn refuse_changes(rows: &RecordBatch, table: &str) -> Result<()> {
    let Some(ops) = text_column(rows, OP)? else { return Ok(()) };
    let changes = ops.iter().flatten().any(|op| op == "u" || op == "d");
    if changes || text_column(rows, UNCHANGED)?.is_some_and(|names| names.null_count() < names.len()) {
        return Err(Error::incident("R0211", "a row changed in a table that is only appended to")
            .with("table", table)
            .help("use `mode = changelog`, which keeps every change, or `mode = upsert` with a key"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_needs_no_escapes() {
        let folder = |value: &str| plain_folder(&vec![("day".into(), Some(value.into())), ("n".into(), None)]);
        assert_eq!(folder("2026-01-01"), "day=2026-01-01/n=__HIVE_DEFAULT_PARTITION__/");
        assert_eq!(folder("a b/c:ü%"), "day=a-b-c----/n=__HIVE_DEFAULT_PARTITION__/");
    }

    #[test]
    fn a_file_is_known_by_its_name() {
        let earlier = Owner::new("p", 7);
        let name = earlier.part_name();
        assert!(earlier.may_remove(&name) && Owner::new("p", 8).may_remove(&name), "{name}");
        assert!(!Owner::new("p", 6).may_remove(&name), "a later owner's file");
        assert!(!Owner::new("q", 9).may_remove(&name), "another pipeline's file");
        let foreign =
            ["part-00001-5c1f5d5e-0b7f-4d7a-8f4e-111111111111-c000.snappy.parquet", "part-7.parquet", "a.parquet"];
        assert!(foreign.iter().all(|name| !earlier.may_remove(name)));
    }
}
