//! Changes of a round that do not fit in memory: written to files on this machine, apart by key, and netted part by part.
//!
//! All changes of a key go to the same part, in their order; parts share no key. What the parts come to is what the round
//! comes to, whatever its size, and no more than one part is held at a time.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, UInt32Array, new_null_array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use lakehead_core::{DiskFault, Error, OP, Op, Result, UNCHANGED, reserved_field};
use uuid::Uuid;

use crate::hash::KeyHasher;
use crate::net::{NetChanges, Netted, refuse_null_keys, text_column};
use crate::schema::to_lake;

/// Parts that one step makes, as a power of two.
const FAN_OUT_BITS: u32 = 5;
/// Steps at most: behind them a part holds one change in a milliard, and one key is held netted.
const DEPTH_MAX: u32 = 6;

/// What the names of our folders begin with.
const NAME: &str = "spill-";
/// Age of a folder that nobody writes to any more: no transaction is open for so long.
const FORGOTTEN: Duration = Duration::from_secs(7 * 24 * 3600);

/// A part of the changes: files on this machine.
#[derive(Debug, Default)]
pub(crate) struct Part {
    files: Vec<PathBuf>,
    depth: u32,
}

/// What netting a part came to.
pub(crate) enum Outcome {
    Netted(Netted),
    /// It did not fit in memory either.
    Parts(Vec<Part>),
}

/// How changes are netted.
pub(crate) struct Netting {
    pub(crate) key: Vec<String>,
    /// Whether rows that are deleted stay.
    pub(crate) keeps_deleted: bool,
    /// Bytes that may be held.
    pub(crate) bytes_max: usize,
}

impl Netting {
    /// Begins to net.
    pub(crate) fn nets(&self, schema: &SchemaRef) -> Result<NetChanges> {
        let mut nets = NetChanges::new(schema, &self.key)?;
        if self.keeps_deleted {
            nets.keep_deleted();
        }
        Ok(nets)
    }

    /// Nets the changes of a part, and removes its files.
    pub(crate) fn net(&self, schema: &SchemaRef, folder: &Path, part: Part) -> Result<Outcome> {
        let mut nets = self.nets(schema)?;
        let mut spill: Option<Spill> = None;
        for file in &part.files {
            let opened = File::open(file).map_err(|error| failed(error, folder))?;
            let reader = StreamReader::try_new(BufReader::new(opened), None).map_err(|error| failed(error, folder))?;
            for rows in reader {
                let rows = rows.map_err(|error| failed(error, folder))?;
                match &mut spill {
                    Some(spill) => spill.add(&rows)?,
                    None => {
                        nets.add(&rows)?;
                        if part.depth < DEPTH_MAX {
                            spill = self.overflow(&mut nets, schema, folder, part.depth)?;
                        }
                    }
                }
            }
        }
        for file in &part.files {
            std::fs::remove_file(file).map_err(|error| failed(error, folder))?;
        }
        match spill {
            Some(spill) => Ok(Outcome::Parts(spill.finish()?.1)),
            None => Ok(Outcome::Netted(nets.take()?)),
        }
    }

    /// Begins to spill where `nets` hold more than they may, even without what later changes have overtaken.
    pub(crate) fn overflow(
        &self,
        nets: &mut NetChanges,
        schema: &SchemaRef,
        folder: &Path,
        depth: u32,
    ) -> Result<Option<Spill>> {
        if nets.bytes() <= self.bytes_max {
            return Ok(None);
        }
        nets.compact()?;
        if nets.bytes() <= self.bytes_max / 2 {
            return Ok(None);
        }
        self.spill(nets, schema, folder, depth)?.map(Some).ok_or_else(moved_in_part)
    }

    /// Begins to spill what `nets` hold; none where a changed key holds an unsent value, which only memory can follow.
    pub(crate) fn spill(
        &self,
        nets: &mut NetChanges,
        schema: &SchemaRef,
        folder: &Path,
        depth: u32,
    ) -> Result<Option<Spill>> {
        let Some(held) = nets.take_as_changes()? else { return Ok(None) };
        let mut spill = Spill::new(folder, schema, &self.key, depth)?;
        for changes in held {
            spill.add(&changes)?;
        }
        Ok(Some(spill))
    }
}

/// Changes on their way to parts.
pub(crate) struct Spill {
    folder: Folder,
    schema: SchemaRef,
    hasher: KeyHasher,
    writers: Vec<Option<StreamWriter<BufWriter<File>>>>,
    parts: Vec<Part>,
    depth: u32,
}

/// The folder of a spill; it goes with its owner, at the first depth.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    owned: bool,
}

impl Folder {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.owned {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

impl Spill {
    /// Begins in a folder of its own below `folder`, or, behind a first step, in `folder`.
    fn new(folder: &Path, schema: &SchemaRef, key: &[String], depth: u32) -> Result<Self> {
        let owned = depth == 0;
        let path = if owned { folder.join(format!("{NAME}{}", Uuid::new_v4())) } else { folder.to_path_buf() };
        if owned {
            remove_forgotten(folder);
        }
        std::fs::create_dir_all(&path).map_err(|error| failed(error, &path))?;
        let parts = 1 << FAN_OUT_BITS;
        Ok(Self {
            folder: Folder { path, owned },
            schema: Arc::clone(schema),
            hasher: KeyHasher::new(schema, key)?,
            writers: (0..parts).map(|_| None).collect(),
            parts: (0..parts).map(|_| Part { files: Vec::new(), depth: depth + 1 }).collect(),
            depth,
        })
    }

    /// Takes over added columns.
    pub(crate) fn evolve(&mut self, schema: &SchemaRef) -> Result<()> {
        self.close()?;
        self.schema = Arc::clone(schema);
        Ok(())
    }

    /// Writes changes down.
    pub(crate) fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        let rows = self.as_changes(rows)?;
        let mut of_part: Vec<Vec<u32>> = vec![Vec::new(); self.parts.len()];
        for (row, hash) in (0..).zip(self.hasher.hashes(&rows)?) {
            // Each step looks at other bits.
            let bits = hash >> (self.depth * FAN_OUT_BITS);
            let part = usize::try_from(bits & ((1 << FAN_OUT_BITS) - 1)).unwrap_or(0);
            if let Some(of_part) = of_part.get_mut(part) {
                of_part.push(row);
            }
        }
        for (part, of_part) in of_part.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
            let rows = take_record_batch(&rows, &UInt32Array::from(of_part))?;
            let written = self.writer(part, rows.schema_ref())?.write(&rows);
            written.map_err(|error| failed(error, &self.folder.path))?;
        }
        Ok(())
    }

    /// Brings changes to one form: the table's columns, what happened, and what was not sent.
    fn as_changes(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let data = to_lake(rows, &self.schema)?;
        refuse_null_keys(self.hasher.columns(), &data)?;
        let ops = text_column(rows, OP)?.ok_or_else(|| Error::bug("a change does not say what it is"))?;
        let unchanged: ArrayRef = match text_column(rows, UNCHANGED)? {
            Some(names) => Arc::new(names),
            None => new_null_array(&DataType::Utf8, rows.num_rows()),
        };
        if has_moved_in_part(&ops, &unchanged) {
            return Err(moved_in_part());
        }
        let mut fields: Vec<_> = self.schema.fields().iter().cloned().collect();
        fields.extend([OP, UNCHANGED].map(|name| Arc::new(reserved_field(name))));
        let mut columns = data.columns().to_vec();
        columns.extend([Arc::new(ops) as ArrayRef, unchanged]);
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    fn writer(&mut self, part: usize, schema: &SchemaRef) -> Result<&mut StreamWriter<BufWriter<File>>> {
        let (Some(slot), Some(files)) = (self.writers.get_mut(part), self.parts.get_mut(part)) else {
            return Err(Error::bug("a change belongs to no part"));
        };
        match slot {
            Some(writer) => Ok(writer),
            None => {
                let file = self.folder.path.join(format!("{}.arrow", Uuid::new_v4()));
                let folder = &self.folder.path;
                let created = File::create(&file).map_err(|error| failed(error, folder))?;
                let writer =
                    StreamWriter::try_new(BufWriter::new(created), schema).map_err(|error| failed(error, folder))?;
                files.files.push(file);
                Ok(slot.insert(writer))
            }
        }
    }

    fn close(&mut self) -> Result<()> {
        for writer in self.writers.iter_mut().filter_map(Option::take) {
            let mut writer = writer;
            writer.finish().map_err(|error| failed(error, &self.folder.path))?;
        }
        Ok(())
    }

    /// Returns the parts, and the folder that they lie in as long as it is held.
    pub(crate) fn finish(mut self) -> Result<(Folder, Vec<Part>)> {
        self.close()?;
        let parts = self.parts.into_iter().filter(|part| !part.files.is_empty()).collect();
        Ok((self.folder, parts))
    }
}

/// Removes what processes left behind that died.
fn remove_forgotten(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_spill = entry.file_name().to_str().is_some_and(|name| name.starts_with(NAME));
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|modified| modified.elapsed().ok());
        if is_spill && age.is_some_and(|age| age > FORGOTTEN) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Returns whether a key changed while a column of its row was left unsent: its value stands under the old key, which may be
/// in another part.
fn has_moved_in_part(ops: &StringArray, unchanged: &ArrayRef) -> bool {
    let names = unchanged.as_any().downcast_ref::<StringArray>();
    let is_partial = |row: usize| names.is_some_and(|names| names.is_valid(row) && !names.value(row).is_empty());
    (0..ops.len()).any(|row| ops.is_valid(row) && ops.value(row) == Op::Create.letter() && is_partial(row))
}

fn moved_in_part() -> Error {
    Error::user("R0213", "a source transaction that does not fit in memory changes keys of rows with unsent values")
        .help("alter table … replica identity full, then: lakehead resync PIPELINE; or more `memory` of the sink")
}

/// Says which folder it was; `error` is the system's, or Arrow's around it.
fn failed(error: impl std::error::Error + Send + Sync + 'static, folder: &Path) -> Error {
    let known = match DiskFault::of(&error) {
        Some(DiskFault::Full) => Error::incident("R0237", "the disk for changes that do not fit in memory is full"),
        Some(fault @ (DiskFault::Limited | DiskFault::Broken)) => {
            fault.common().unwrap_or_else(|| Error::bug("a fault of a disk has no words"))
        }
        _ => Error::external("R0237", "the folder for changes that do not fit in memory cannot be used"),
    };
    known
        .with("folder", folder.display())
        .help("free space there, change `state` in lakehead.toml, or give the sink more `memory`; nothing was committed in part")
        .caused_by(error)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{Field, Int64Type};
    use lakehead_core::IS_DELETED;

    use super::*;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("a", DataType::Utf8, true),
            Field::new("b", DataType::Utf8, true),
            Field::new(IS_DELETED, DataType::Boolean, true),
        ]))
    }

    /// One change: what happened, to which key, two values, and what was not sent.
    type Change = (&'static str, i64, Option<String>, Option<String>, &'static str);

    fn batch(rows: &[Change]) -> RecordBatch {
        let mut fields: Vec<_> = schema().fields().iter().take(3).cloned().collect();
        fields.extend([OP, UNCHANGED].map(|name| Arc::new(reserved_field(name))));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| row.2.clone()).collect::<StringArray>()),
            Arc::new(rows.iter().map(|row| row.3.clone()).collect::<StringArray>()),
            Arc::new(rows.iter().map(|row| Some(row.0)).collect::<StringArray>()),
            Arc::new(rows.iter().map(|row| Some(row.4)).collect::<StringArray>()),
        ];
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
    }

    /// Changes as a source sends them: nothing is created twice, what is unsent belongs to a row that stands.
    fn made_up(count: usize, keys: i64) -> Vec<Vec<Change>> {
        let mut seed = 7_u64;
        let mut next = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let mut stands: Vec<bool> = (0..keys).map(|id| id % 2 == 0).collect();
        let mut changes = Vec::new();
        for n in 0..count {
            let id = next(keys.unsigned_abs()) as usize;
            let text = |column: &str| Some(format!("{column} of change {n}"));
            let change: Change = match (stands[id], next(6)) {
                (false, _) => ("c", id as i64, text("a"), text("b"), ""),
                (true, 0) => ("d", id as i64, None, None, ""),
                (true, 1 | 2) => ("u", id as i64, text("a"), None, "b"),
                (true, _) => ("u", id as i64, text("a"), text("b"), ""),
            };
            stands[id] = change.0 != "d";
            changes.push(change);
        }
        changes.chunks(97).map(<[Change]>::to_vec).collect()
    }

    /// What a key comes to: a row, the rest of a row, or nothing.
    type Nets = BTreeMap<i64, String>;

    fn nets_of(netted: &Netted, nets: &mut Nets) {
        for (kind, batches) in [("row", &netted.rows), ("patch", &netted.patches), ("gone", &netted.deletes)] {
            for batch in batches {
                let ids = batch.column_by_name("id").unwrap().as_primitive::<Int64Type>();
                for row in 0..batch.num_rows() {
                    let text = |name: &str| match batch.column_by_name(name).map(|column| column.as_string::<i32>()) {
                        Some(column) if column.is_valid(row) => column.value(row).to_owned(),
                        _ => "-".to_owned(),
                    };
                    let flags = batch.column_by_name(IS_DELETED).map(|flags| flags.as_boolean().value(row));
                    let line = format!("{kind} {} {} {} {flags:?}", text("a"), text("b"), text(UNCHANGED));
                    assert_eq!(nets.insert(ids.value(row), line), None, "a key came twice");
                }
            }
        }
    }

    #[test]
    fn parts_come_to_what_the_whole_comes_to() {
        parts_come_to_the_whole(false);
    }

    #[test]
    fn parts_keep_deleted_rows_as_the_whole_does() {
        parts_come_to_the_whole(true);
    }

    fn parts_come_to_the_whole(keeps_deleted: bool) {
        let changes = made_up(20_000, 3_000);
        let schema = schema();
        // So little that parts are parted again.
        let netting = Netting { key: vec!["id".to_owned()], keeps_deleted, bytes_max: 20_000 };
        let (mut whole, mut packed) = (netting.nets(&schema).unwrap(), netting.nets(&schema).unwrap());
        for rows in &changes {
            whole.add(&batch(rows)).unwrap();
            packed.add(&batch(rows)).unwrap();
            packed.compact().unwrap();
        }
        let mut expected = Nets::new();
        nets_of(&whole.take().unwrap(), &mut expected);
        assert!(expected.values().any(|line| line.starts_with("patch")) && expected.len() > 2_500);
        let mut found = Nets::new();
        nets_of(&packed.take().unwrap(), &mut found);
        assert_eq!(found, expected, "packed");

        let folder = tempfile::tempdir().unwrap();
        let mut nets = netting.nets(&schema).unwrap();
        let mut spill = None;
        for rows in &changes {
            match &mut spill {
                None => {
                    nets.add(&batch(rows)).unwrap();
                    spill = netting.overflow(&mut nets, &schema, folder.path(), 0).unwrap();
                }
                Some(spill) => spill.add(&batch(rows)).unwrap(),
            }
        }
        let (held, mut parts) = spill.unwrap().finish().unwrap();
        let (mut found, mut parted) = (Nets::new(), 0);
        while let Some(part) = parts.pop() {
            match netting.net(&schema, held.path(), part).unwrap() {
                Outcome::Netted(netted) => nets_of(&netted, &mut found),
                Outcome::Parts(more) => {
                    parted += 1;
                    parts.extend(more);
                }
            }
        }
        assert_eq!(found, expected);
        assert!(parted > 0, "no part was parted again");
        drop(held);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "files were left");
    }

    #[test]
    fn a_key_that_changed_without_its_values_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut spill = Spill::new(folder.path(), &schema(), &["id".to_owned()], 0).unwrap();
        let moved = [("d", 1, None, None, ""), ("c", 2, Some("x".to_owned()), None, "b")];
        assert_eq!(spill.add(&batch(&moved)).unwrap_err().code(), "R0213");
    }
}
