//! The file of a checkpoint while it is written: tombstones stand in row groups of their own, for most of them are in the next one, too.

use arrow::array::{Array, RecordBatch};
use arrow::compute::{filter_record_batch, is_null, not};
use lakehead_core::{Result, Settings};
use lakehead_lakefile::{FileFormat, FileWriter, Location, RowGroups};

use super::{form, name};

/// Rows of one row group.
const GROUP_ROWS: u64 = 32 * 1024;
/// Tombstones of a row group that is copied from one checkpoint to the next, until all of them have been kept long enough: more make
/// fewer groups, which each reader of the table reads the head of; fewer are soon enough together.
const TOMBSTONES: usize = 4096;

/// Which row groups of an older checkpoint stay as they are.
#[derive(Default)]
pub(super) struct Kept {
    /// Those that do, all of them tombstones.
    pub(super) tombstones: Vec<usize>,
    /// Those that have to be read.
    pub(super) others: Vec<usize>,
}

/// What a checkpoint's file holds.
pub(crate) struct Written {
    pub(super) rows: u64,
    pub(super) files: usize,
    pub(super) bytes: u64,
}

/// A checkpoint that is being written.
pub(super) struct File {
    writer: FileWriter,
    /// Live files.
    files: usize,
    /// Rows that stand in groups that have ended.
    grouped: u64,
    /// Tombstones that are not written yet.
    tombstones: Vec<RecordBatch>,
}

impl File {
    pub(super) fn begin(into: &Location, version: u64) -> Result<Self> {
        let format = FileFormat::from_settings(&Settings::default());
        let writer = FileWriter::create(into, &name(version), &form::schema(), format)?;
        Ok(Self { writer, files: 0, grouped: 0, tombstones: Vec::new() })
    }

    /// Adds rows of our form.
    pub(super) async fn put(&mut self, rows: &RecordBatch) -> Result<()> {
        self.files += rows.column_by_name("add").map_or(0, |added| added.len() - added.null_count());
        let Some(removed) = rows.column_by_name("remove") else { return self.write(rows).await };
        let others = is_null(removed)?;
        if others.true_count() > 0 {
            self.write(&filter_record_batch(rows, &others)?).await?;
        }
        if others.true_count() < rows.num_rows() {
            self.put_tombstones(filter_record_batch(rows, &not(&others)?)?).await?;
        }
        Ok(())
    }

    async fn put_tombstones(&mut self, mut rows: RecordBatch) -> Result<()> {
        loop {
            let room = TOMBSTONES - self.tombstones.iter().map(RecordBatch::num_rows).sum::<usize>();
            if rows.num_rows() < room {
                self.tombstones.push(rows);
                return Ok(());
            }
            self.tombstones.push(rows.slice(0, room));
            rows = rows.slice(room, rows.num_rows() - room);
            self.end_tombstones().await?;
        }
    }

    /// Writes the tombstones that wait as a row group.
    async fn end_tombstones(&mut self) -> Result<()> {
        self.end_group().await?;
        for rows in std::mem::take(&mut self.tombstones) {
            self.writer.write(&rows).await?;
        }
        self.end_group().await
    }

    async fn end_group(&mut self) -> Result<()> {
        self.grouped = self.writer.rows();
        self.writer.flush().await
    }

    async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.writer.write(rows).await?;
        if self.writer.rows() - self.grouped >= GROUP_ROWS { self.end_group().await } else { Ok(()) }
    }

    /// Returns what can be copied of an older checkpoint, and what cannot: nothing where some of its tombstones may have been
    /// overtaken. Tombstones from before `since` are forgotten: where all of a group are, it is in neither.
    pub(super) fn kept(&self, base: &RowGroups, since: i64, overtaken: bool) -> Kept {
        let mut kept = Kept::default();
        let can_copy = !overtaken && self.writer.can_copy(base);
        for group in 0..base.count() {
            let is_full = base.rows(group) >= TOMBSTONES as u64 && base.is_whole(group, "remove.path");
            match base.greatest(group, "remove.deletionTimestamp") {
                Some(last) if can_copy && is_full && base.is_whole(group, "remove.deletionTimestamp") => {
                    if last >= since {
                        kept.tombstones.push(group);
                    }
                }
                _ => kept.others.push(group),
            }
        }
        kept
    }

    /// Copies row groups of an older checkpoint.
    pub(super) async fn copy(&mut self, base: &RowGroups, groups: &[usize]) -> Result<()> {
        self.end_tombstones().await?;
        for group in groups {
            self.writer.copy(base, *group).await?;
        }
        Ok(())
    }

    pub(super) async fn finish(mut self) -> Result<Written> {
        self.end_tombstones().await?;
        let rows = self.writer.rows();
        let written = self.writer.finish().await?;
        Ok(Written { rows, files: self.files, bytes: written.size })
    }
}
