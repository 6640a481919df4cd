//! Rows of the open round, written to files outside the table.

use std::collections::HashMap;

use arrow::array::{Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use lakehead_core::{Error, OP, Result, SinkSpec, UNCHANGED};
use lakehead_lakefile::{FileFormat, FileKind, FileWriter, Location, PartitionValues, file_schema};
use object_store::ObjectStoreExt;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::files::Files;
use crate::layout::{Slots, TableLayout};
use crate::schema::ManifestColumn;
use crate::sorter::{Sorter, slot_of, without_slot};

/// Files open at once. Rows of further partitions and buckets are sorted first and written one file after another.
const OPEN_FILES_MAX: usize = 16;
/// Bytes that unfinished row groups of open files may hold; the largest is written out first.
const OPEN_BYTES_MAX: usize = 128 << 20;

/// A file in the staging folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StagedFile {
    /// The name relative to the staging folder.
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) rows: u64,
    pub(crate) partition: PartitionValues,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bucket: Option<u32>,
}

/// The payload of a `Prepared`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Staged {
    /// Whether the table is emptied first.
    pub(crate) truncate: bool,
    pub(crate) files: Vec<StagedFile>,
    /// The table's columns when the files were written.
    pub(crate) columns: Vec<ManifestColumn>,
    /// The interval that an `overwrite` run stands for.
    pub(crate) run: Option<String>,
}

/// Writes a round: one file per partition and bucket, and a further one where a file grew to `file_size`.
///
/// Without an order, the first slots of a round get open files, and their rows are written as they come. All other rows
/// go through the [`Sorter`], so that memory does not grow with the number of partitions and buckets.
pub(crate) struct StageWriters {
    slots: Slots,
    partition_by: Vec<String>,
    ordered: bool,
    files: Files,
    open: HashMap<u32, FileWriter>,
    sorter: Sorter,
}

impl StageWriters {
    pub(crate) fn new(
        staging: &Location,
        schema: &SchemaRef,
        layout: &TableLayout,
        spec: &SinkSpec,
        fence: u64,
    ) -> Result<Self> {
        let data = file_schema(schema, &layout.partition_by);
        let format = FileFormat::from_settings(&spec.settings);
        Ok(Self {
            slots: Slots::new(layout)?,
            partition_by: layout.partition_by.clone(),
            ordered: !layout.sort_by.is_empty(),
            sorter: Sorter::new(staging, &data, &layout.sort_by, format, fence)?,
            files: Files::new(staging, data, layout, spec, fence),
            open: HashMap::new(),
        })
    }

    /// Adds rows that have the table's columns.
    pub(crate) async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        if !self.ordered
            && let Some(slot) = self.slots.only()
            && self.is_open(slot)?
        {
            return self.write_open(slot, rows).await;
        }
        let slots = self.slots.number(rows)?;
        let data = self.without_partition_columns(rows)?;
        if self.ordered {
            return self.sorter.push(&data, slots).await;
        }
        let mut direct: HashMap<u32, Vec<u32>> = HashMap::new();
        let mut others = Vec::new();
        for (row, slot) in slots.values().iter().enumerate() {
            let row = u32::try_from(row).unwrap_or(u32::MAX);
            if self.is_open(*slot)? { direct.entry(*slot).or_default().push(row) } else { others.push(row) }
        }
        for (slot, rows) in direct {
            self.write_open(slot, &picked(&data, rows)?).await?;
        }
        if !others.is_empty() {
            let slots = arrow::compute::take(&slots, &UInt32Array::from(others.clone()), None)?;
            let slots = slots.as_any().downcast_ref::<UInt32Array>().cloned();
            let slots = slots.ok_or_else(|| Error::bug("slots are no numbers"))?;
            self.sorter.push(&picked(&data, others)?, slots).await?;
        }
        Ok(())
    }

    fn without_partition_columns(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let keep = |n: &usize| !self.partition_by.contains(rows.schema_ref().field(*n).name());
        let keep: Vec<usize> = (0..rows.num_columns()).filter(keep).collect();
        Ok(rows.project(&keep)?)
    }

    /// Returns whether the slot has an open file, and opens one while there is room: the first slots of a round keep
    /// theirs, so that no slot is in a file and in the sorter.
    fn is_open(&mut self, slot: u32) -> Result<bool> {
        if self.open.contains_key(&slot) {
            return Ok(true);
        }
        if slot as usize >= OPEN_FILES_MAX {
            return Ok(false);
        }
        let writer = self.files.begin()?;
        self.open.insert(slot, writer);
        Ok(true)
    }

    async fn write_open(&mut self, slot: u32, rows: &RecordBatch) -> Result<()> {
        let Some(writer) = self.open.get_mut(&slot) else { return Ok(()) };
        writer.write(rows).await?;
        if self.files.is_full(writer) {
            self.close(slot).await?;
        }
        let held: usize = self.open.values().map(FileWriter::memory).sum();
        if held > OPEN_BYTES_MAX
            && let Some(largest) = self.open.values_mut().max_by_key(|writer| writer.memory())
        {
            largest.flush().await?;
        }
        Ok(())
    }

    async fn close(&mut self, slot: u32) -> Result<()> {
        let (Some(writer), Some(place)) = (self.open.remove(&slot), self.slots.get(slot).cloned()) else {
            return Ok(());
        };
        self.files.close(writer, place).await
    }

    /// Closes every file and returns all that were written.
    pub(crate) async fn finish(mut self) -> Result<Vec<StagedFile>> {
        let mut open: Vec<u32> = self.open.keys().copied().collect();
        open.sort_unstable();
        for slot in open {
            self.close(slot).await?;
        }
        self.write_sorted().await?;
        let files = self.files.finish().await?;
        discard(self.files.staging(), self.sorter.begun()).await;
        Ok(files)
    }

    /// Writes what was sorted, one file after another.
    async fn write_sorted(&mut self) -> Result<()> {
        let mut merge = self.sorter.merge().await?;
        let mut at: Option<(u32, FileWriter)> = None;
        while let Some(piece) = merge.next(self.sorter.order()).await? {
            let slot = slot_of(&piece, 0)?;
            let (_, mut writer) = match at.take() {
                Some((open, writer)) if open == slot && !self.files.is_full(&writer) => (open, writer),
                Some((open, writer)) => {
                    self.close_sorted(open, writer).await?;
                    (slot, self.files.begin()?)
                }
                None => (slot, self.files.begin()?),
            };
            writer.write(&without_slot(&piece)?).await?;
            at = Some((slot, writer));
        }
        match at {
            Some((slot, writer)) => self.close_sorted(slot, writer).await,
            None => Ok(()),
        }
    }

    async fn close_sorted(&mut self, slot: u32, writer: FileWriter) -> Result<()> {
        let place = self.slots.get(slot).cloned().ok_or_else(|| Error::bug("a slot is not known"))?;
        self.files.close(writer, place).await
    }

    /// Gives everything up; returns the names of all files that were begun, to be removed.
    pub(crate) fn give_up(self) -> Vec<String> {
        let mut names = self.files.begun().to_vec();
        names.extend_from_slice(self.sorter.begun());
        names
    }
}

fn picked(data: &RecordBatch, rows: Vec<u32>) -> Result<RecordBatch> {
    if rows.len() == data.num_rows() {
        return Ok(data.clone());
    }
    Ok(take_record_batch(data, &UInt32Array::from(rows))?)
}

/// Returns a name that no other round uses; it begins with the fence of its owner, so that a sweep can tell whose it
/// was.
pub(crate) fn staged_name(fence: u64, kind: FileKind) -> String {
    format!("{fence:020}-{}.{}", Uuid::new_v4(), kind.extension())
}

/// Returns the fence in a staged file's name.
pub(crate) fn fence_of(name: &str) -> Option<u64> {
    name.split_once('-')?.0.parse().ok()
}

/// Removes staged files that nothing will commit; what cannot be removed costs room and nothing else.
pub(crate) async fn discard(staging: &Location, names: &[String]) {
    for name in names {
        let _ = staging.store().delete(&staging.path(name)).await;
    }
}

/// Refuses a change that a table without keys cannot hold: only new rows may come.
pub(crate) fn refuse_changes(rows: &RecordBatch, table: &str) -> Result<()> {
    let texts = |name: &str| rows.column_by_name(name).and_then(|c| c.as_any().downcast_ref::<StringArray>());
    let changed = texts(OP).is_some_and(|ops| ops.iter().flatten().any(|op| op == "u" || op == "d"));
    if changed || texts(UNCHANGED).is_some_and(|names| names.null_count() < names.len()) {
        return Err(Error::incident("R0211", "a row changed in a table that is only appended to")
            .with("table", table)
            .help("write changes into a Delta table with `mode = upsert` or `mode = changelog`"));
    }
    Ok(())
}
