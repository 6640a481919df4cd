//! The changes of a round for a table of versions: written down in their order, outside the table.
//!
//! Nothing is netted: each change may open a version. What becomes of them depends on the rows that are there, and is
//! derived anew at every attempt to commit.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::is_not_null;
use arrow::compute::kernels::zip::zip;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use lakehead_core::{COMMITTED_AT, Error, Micros, OP, Result, Settings, UNCHANGED, VERSION_COLUMNS, reserved_field};
use lakehead_lakefile::{FileFormat, FileWriter, Location, WrittenFile};
use serde::{Deserialize, Serialize};

use crate::schema::to_lake;
use crate::stage::Owner;

/// Bytes of changes that one round may bring: they are held in memory when they are committed.
const ROUND_BYTES_MAX: usize = 256 << 20;

/// What a round brings, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    /// Changes.
    Changes(WrittenFile),
    /// Rows that a snapshot read: each key once, and no change of the same round behind them.
    Snapshot(WrittenFile),
    /// The source's table was emptied.
    Emptied,
}

impl Part {
    pub(crate) fn file(&self) -> Option<&WrittenFile> {
        match self {
            Self::Changes(file) | Self::Snapshot(file) => Some(file),
            Self::Emptied => None,
        }
    }
}

/// The payload of a round for a table of versions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct History {
    /// When the round's first row came: the time of changes that do not say when they were made.
    pub(crate) at: Micros,
    pub(crate) parts: Vec<Part>,
}

/// The open round.
pub(crate) struct HistoryStage {
    history: History,
    open: Option<(bool, FileWriter)>,
    bytes: usize,
}

impl HistoryStage {
    pub(crate) fn new(at: Micros) -> Self {
        Self { history: History { at, parts: Vec::new() }, open: None, bytes: 0 }
    }

    pub(crate) fn at(&self) -> Micros {
        self.history.at
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.history.parts.is_empty() && self.open.is_none()
    }

    /// Writes changes down; `table` is the schema of the table.
    pub(crate) async fn add(
        &mut self,
        folder: &Location,
        owner: &Owner,
        table: &Schema,
        rows: &RecordBatch,
        snapshot: bool,
    ) -> Result<()> {
        if !snapshot {
            self.bytes += rows.get_array_memory_size();
            if self.bytes > ROUND_BYTES_MAX {
                return Err(Error::user("R0213", "one source transaction changes more rows than fit in memory")
                    .help("split the transaction at the source"));
            }
        }
        if self.open.as_ref().is_some_and(|(of_snapshot, _)| *of_snapshot != snapshot) {
            self.close().await?;
        }
        let schema = change_schema(table);
        if self.open.is_none() {
            let format = FileFormat::from_settings(&Settings::default());
            let writer = FileWriter::create(folder, &owner.part_name(), &schema, format)?;
            self.open = Some((snapshot, writer));
        }
        match &mut self.open {
            Some((_, writer)) => writer.write(&to_lake(rows, &schema)?).await,
            None => Ok(()),
        }
    }

    /// Closes the open file: the next rows have other columns, or something happens between.
    pub(crate) async fn close(&mut self) -> Result<()> {
        if let Some((snapshot, writer)) = self.open.take() {
            let file = writer.finish().await?;
            self.history.parts.push(if snapshot { Part::Snapshot(file) } else { Part::Changes(file) });
        }
        Ok(())
    }

    /// Takes over that the source's table was emptied.
    pub(crate) async fn empty(&mut self) -> Result<()> {
        self.close().await?;
        self.history.parts.push(Part::Emptied);
        Ok(())
    }

    pub(crate) async fn finish(mut self) -> Result<History> {
        self.close().await?;
        Ok(self.history)
    }
}

/// Returns the columns of the source among those of a table of versions.
pub(crate) fn source_columns(table: &Schema) -> SchemaRef {
    let is_own = |field: &&Arc<Field>| !VERSION_COLUMNS.contains(&field.name().as_str());
    Arc::new(Schema::new(table.fields().iter().filter(is_own).cloned().collect::<Vec<_>>()))
}

fn change_schema(table: &Schema) -> SchemaRef {
    let mut fields: Vec<_> = source_columns(table).fields().iter().cloned().collect();
    fields.extend([OP, COMMITTED_AT, UNCHANGED].map(|name| Arc::new(reserved_field(name))));
    Arc::new(Schema::new(fields))
}

/// Makes first versions of a snapshot's rows.
pub(crate) fn first_versions(rows: &RecordBatch, table: &SchemaRef, at: Micros) -> Result<RecordBatch> {
    let data = to_lake(rows, table)?;
    let count = rows.num_rows();
    let round: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![at; count]).with_timezone("UTC"));
    let from = match rows.column_by_name(COMMITTED_AT) {
        Some(times) => zip(&is_not_null(times)?, times, &round)?,
        None => round,
    };
    let never = arrow::array::new_null_array(from.data_type(), count);
    let all = |value: bool| -> ArrayRef { Arc::new(BooleanArray::from(vec![value; count])) };
    let mut columns = data.columns().to_vec();
    for (name, column) in VERSION_COLUMNS.iter().zip([from, never, all(true), all(false)]) {
        columns[table.index_of(name)?] = column;
    }
    Ok(RecordBatch::try_new(Arc::clone(table), columns)?)
}

/// Makes changes of first versions again, for a table that was found to hold rows.
pub(crate) fn as_changes(versions: &RecordBatch) -> Result<RecordBatch> {
    let fields: Vec<_> = versions.schema().fields().iter().map(|field| renamed(field)).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), versions.columns().to_vec())?)
}

fn renamed(field: &Field) -> Field {
    let is_start = field.name() == lakehead_core::VALID_FROM && matches!(field.data_type(), DataType::Timestamp(..));
    if is_start { field.clone().with_name(COMMITTED_AT) } else { field.clone() }
}
