//! Rows of the open round, written to files outside the table.

use std::collections::BTreeMap;

use arrow::array::{Array, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use lakehead_core::{Error, OP, Result, Settings, UNCHANGED, Value, failpoint};
use lakehead_lakefile::{FileFormat, FileWriter, Location, PartitionValues, file_schema, split_by_partition};
use object_store::ObjectStoreExt;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::schema::ManifestColumn;

/// Bytes after which a file is closed and the next one begun, where the sink says nothing.
const FILE_BYTES: u64 = 128 << 20;
/// Files open at once; the one that was written to least recently is closed for the next partition.
const OPEN_FILES_MAX: usize = 64;

/// A file in the staging folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StagedFile {
    /// The name relative to the staging folder.
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) rows: u64,
    pub(crate) partition: PartitionValues,
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

/// Writes files, one at a time per partition.
pub(crate) struct StageWriters {
    staging: Location,
    partition_by: Vec<String>,
    schema: SchemaRef,
    format: FileFormat,
    file_bytes: u64,
    fence: u64,
    open: BTreeMap<PartitionValues, (FileWriter, u64)>,
    turn: u64,
    done: Vec<StagedFile>,
}

impl StageWriters {
    pub(crate) fn new(
        staging: &Location,
        schema: &SchemaRef,
        partition_by: &[String],
        settings: &Settings,
        fence: u64,
    ) -> Self {
        let file_bytes = match settings.get("file_size") {
            Some(Value::Size(bytes)) => *bytes,
            _ => FILE_BYTES,
        };
        Self {
            staging: staging.clone(),
            partition_by: partition_by.to_vec(),
            schema: file_schema(schema, partition_by),
            format: FileFormat::from_settings(settings),
            file_bytes,
            fence,
            open: BTreeMap::new(),
            turn: 0,
            done: Vec::new(),
        }
    }

    /// Adds rows that have the table's columns.
    pub(crate) async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        for (partition, rows) in split_by_partition(rows, &self.partition_by)? {
            self.turn += 1;
            if !self.open.contains_key(&partition) {
                self.make_room().await?;
                let name = staged_name(self.fence);
                let writer = FileWriter::create(&self.staging, &name, &self.schema, self.format)?;
                self.open.insert(partition.clone(), (writer, 0));
            }
            let Some((writer, used)) = self.open.get_mut(&partition) else { continue };
            *used = self.turn;
            writer.write(&rows).await?;
            if writer.bytes() >= self.file_bytes {
                self.close(&partition).await?;
            }
        }
        Ok(())
    }

    async fn make_room(&mut self) -> Result<()> {
        if self.open.len() < OPEN_FILES_MAX {
            return Ok(());
        }
        let oldest = self.open.iter().min_by_key(|(_, (_, used))| *used).map(|(partition, _)| partition.clone());
        match oldest {
            Some(partition) => self.close(&partition).await,
            None => Ok(()),
        }
    }

    async fn close(&mut self, partition: &PartitionValues) -> Result<()> {
        if let Some((writer, _)) = self.open.remove(partition) {
            failpoint::hit("parquet.stage.close").await?;
            let rows = writer.rows();
            let file = writer.finish().await?;
            self.done.push(StagedFile { name: file.name, size: file.size, rows, partition: partition.clone() });
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

    /// Gives everything up; files that were closed already are handed back to be removed.
    pub(crate) fn give_up(self) -> Vec<StagedFile> {
        self.done
    }
}

/// Returns a name that no other round uses; it begins with the fence of its owner, so that a sweep can tell whose it
/// was.
fn staged_name(fence: u64) -> String {
    format!("{fence:020}-{}.parquet", Uuid::new_v4())
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
