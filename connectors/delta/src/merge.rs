//! The rewriting merge: files that hold a changed key are written anew without its row.
//!
//! Its cost follows the files touched, not the rows changed; it stands until the keyed sink with deletion vectors.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch, interleave};
use arrow::datatypes::SchemaRef;
use arrow::row::OwnedRow;
use futures::TryStreamExt;
use lakehead_core::{Error, Expiry, Micros, Result, UNCHANGED, is_unchanged};
use lakehead_lakefile::{
    FileFormat, FileWriter, KeyEncoder, KeySet, Location, PartitionValues, WrittenFile, conform,
    decode_partition_value, expired_rows, file_schema, read_file,
};

use crate::live::LiveFile;
use crate::net::{FROM, text_column};
use crate::schema::to_lake;
use crate::stats::Stats;
use crate::vectors::{self, Vector, live_rows};

/// What rewriting the live files came to.
#[derive(Default)]
pub(crate) struct Rewritten {
    /// Files that go.
    pub(crate) removed: Vec<LiveFile>,
    /// Files that take their place, with their partitions.
    pub(crate) added: Vec<(WrittenFile, PartitionValues)>,
}

/// The least and greatest value of the first key column among changed keys, where it is a whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyRange {
    min: i64,
    max: i64,
}

/// What a file must hold to be looked into.
#[derive(Debug, Default)]
pub(crate) enum KeyBounds {
    /// Nothing was added yet.
    #[default]
    Empty,
    /// Keys within this range.
    Within(KeyRange),
    /// Keys of another type: every file is looked into.
    Anywhere,
}

impl KeyBounds {
    /// Widens the bounds by the keys of `rows`.
    pub(crate) fn add(&mut self, rows: &RecordBatch, column: &str) {
        let Some(array) = rows.column_by_name(column).filter(|array| array.data_type().is_integer()) else {
            *self = Self::Anywhere;
            return;
        };
        let wide = arrow::compute::cast(array, &arrow::datatypes::DataType::Int64).ok();
        let wide = wide.as_ref().and_then(|array| array.as_any().downcast_ref::<arrow::array::Int64Array>());
        let found = wide.and_then(|array| Some((arrow::compute::min(array)?, arrow::compute::max(array)?)));
        match (&mut *self, found) {
            (Self::Anywhere, _) => {}
            (_, None) if rows.num_rows() == 0 => {}
            (_, None) => *self = Self::Anywhere,
            (Self::Empty, Some((min, max))) => *self = Self::Within(KeyRange { min, max }),
            (Self::Within(range), Some((min, max))) => {
                (range.min, range.max) = (range.min.min(min), range.max.max(max));
            }
        }
    }

    /// Returns whether a file's statistics leave room for one of the keys; a file without them may hold any.
    pub(crate) fn may_be_in(&self, file: &LiveFile, column: &str) -> bool {
        let Self::Within(range) = self else { return true };
        let stats = file.stats.as_ref().map(Stats::value).unwrap_or_default();
        let bound = |side: &str| stats[side][column].as_i64();
        match (bound("minValues"), bound("maxValues")) {
            (Some(min), Some(max)) => min <= range.max && max >= range.min,
            _ => true,
        }
    }
}

/// A table in one version, as far as a merge needs it.
pub(crate) struct Merge<'a> {
    pub(crate) location: &'a Location,
    pub(crate) schema: &'a SchemaRef,
    pub(crate) partition_by: &'a [String],
    pub(crate) keys: KeyEncoder,
    pub(crate) format: FileFormat,
    /// When rows expire, and the time.
    pub(crate) expiry: Option<(&'a Expiry, Micros)>,
}

impl Merge<'_> {
    /// Takes the rows of `changed` out of the live files; rows of keys in `wanted` are handed back for their values.
    pub(crate) async fn rewrite(
        &self,
        files: &[LiveFile],
        changed: &KeySet,
        wanted: &KeySet,
        bounds: &KeyBounds,
        name: impl Fn() -> String,
    ) -> Result<(Rewritten, Vec<RecordBatch>)> {
        let mut rewritten = Rewritten::default();
        let mut old_rows = Vec::new();
        let first_key = self.keys.columns().first().map_or("", String::as_str);
        for file in files.iter().filter(|file| bounds.may_be_in(file, first_key)) {
            if !self.holds_any(file, changed).await? {
                continue;
            }
            let written = self.rewrite_one(file, changed, wanted, &name(), &mut old_rows).await?;
            rewritten.removed.push(file.clone());
            rewritten.added.extend(written.map(|written| (written, file.partition.clone())));
        }
        Ok((rewritten, old_rows))
    }

    /// Reads which rows of a file are gone already.
    async fn gone(&self, file: &LiveFile) -> Result<Option<Vector>> {
        match &file.vector {
            Some(descriptor) => Ok(Some(vectors::read(self.location, descriptor).await?)),
            None => Ok(None),
        }
    }

    /// Reads the key columns alone.
    async fn holds_any(&self, file: &LiveFile, changed: &KeySet) -> Result<bool> {
        let gone = self.gone(file).await?;
        let mut start = 0;
        let mut batches = Box::pin(read_file(self.location, &file.name, Some(self.keys.columns())).await?);
        while let Some(batch) = batches.try_next().await? {
            let rows = batch.num_rows() as u64;
            let batch = self.with_partition(&live_rows(batch, start, gone.as_ref())?, file)?;
            start += rows;
            let keys = self.keys.encode(&batch)?;
            if keys.iter().any(|key| changed.contains(&key.owned())) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn rewrite_one(
        &self,
        file: &LiveFile,
        changed: &KeySet,
        wanted: &KeySet,
        name: &str,
        old_rows: &mut Vec<RecordBatch>,
    ) -> Result<Option<WrittenFile>> {
        let schema = file_schema(self.schema, self.partition_by);
        let mut writer: Option<FileWriter> = None;
        let gone = self.gone(file).await?;
        let mut start = 0;
        let mut batches = Box::pin(read_file(self.location, &file.name, None).await?);
        while let Some(batch) = batches.try_next().await? {
            let rows = batch.num_rows() as u64;
            let batch = live_rows(batch, start, gone.as_ref())?;
            start += rows;
            let whole = self.with_partition(&batch, file)?;
            let keys: Vec<OwnedRow> = self.keys.encode(&whole)?.iter().map(|key| key.owned()).collect();
            if !wanted.is_empty() {
                let is_wanted: BooleanArray = keys.iter().map(|key| Some(wanted.contains(key))).collect();
                let found = filter_record_batch(&whole, &is_wanted)?;
                if found.num_rows() > 0 {
                    old_rows.push(conform(&found, self.schema)?);
                }
            }
            let stays: BooleanArray = keys.iter().map(|key| Some(!changed.contains(key))).collect();
            let kept = to_lake(&filter_record_batch(&batch, &stays)?, &schema)?;
            if kept.num_rows() == 0 {
                continue;
            }
            if writer.is_none() {
                let folder = file.name.rsplit_once('/').map_or("", |(folder, _)| folder);
                let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
                writer = Some(FileWriter::create(self.location, &path, &schema, self.format)?);
            }
            if let Some(writer) = writer.as_mut() {
                writer.write(&kept).await?;
            }
        }
        match writer {
            None => Ok(None),
            Some(writer) => Ok(Some(writer.finish().await?)),
        }
    }

    /// Adds the partition's columns, which a file does not hold.
    pub(crate) fn with_partition(&self, batch: &RecordBatch, file: &LiveFile) -> Result<RecordBatch> {
        add_partition_columns(batch, &file.partition, self.schema)
    }

    /// Fills the unsent columns of `patches` from the table's old rows (case 33). A row that would expire at once is left
    /// out where its old one has: its unsent values are gone for good, and nobody misses them.
    pub(crate) fn fill(&self, patches: &RecordBatch, old_rows: &[RecordBatch]) -> Result<RecordBatch> {
        let names = text_column(patches, UNCHANGED)?
            .ok_or_else(|| Error::bug("a patch does not say what it leaves unchanged"))?;
        let new = to_lake(patches, self.schema)?;
        let old = concat_batches(self.schema, old_rows.iter())?;
        let mut places: HashMap<OwnedRow, usize> = HashMap::new();
        for (row, key) in self.keys.encode(&old)?.iter().enumerate() {
            places.insert(key.owned(), row);
        }
        let keys = self.keys.encode(&looked_up(patches, self.keys.columns())?)?;
        let mut found = Vec::with_capacity(new.num_rows());
        let expired = self.expiry.map(|(expiry, now)| expired_rows(&new, expiry, now)).transpose()?;
        for row in 0..new.num_rows() {
            let place = match places.get(&keys.row(row).owned()) {
                Some(place) => *place,
                None if expired.as_ref().is_some_and(|expired| expired.value(row)) => continue,
                None => {
                    return Err(Error::incident(
                        "R0203",
                        "a row that the table does not hold was changed in part by the source",
                    )
                    .help("read the table anew: the lake lost a row, or the table was written by somebody else"));
                }
            };
            found.push((row, place));
        }
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for (n, field) in self.schema.fields().iter().enumerate() {
            let sides: [&dyn Array; 2] = [new.column(n).as_ref(), old.column(n).as_ref()];
            let pick = |(row, place): &(usize, usize)| {
                if is_unchanged(Some(names.value(*row)), field.name()) { (1, *place) } else { (0, *row) }
            };
            let at: Vec<(usize, usize)> = found.iter().map(pick).collect();
            columns.push(interleave(&sides, &at)?);
        }
        Ok(RecordBatch::try_new(Arc::clone(self.schema), columns)?)
    }
}

/// Returns the key under which the table knows a patch's unsent values, as columns of the key's own names.
pub(crate) fn looked_up(patches: &RecordBatch, key: &[String]) -> Result<RecordBatch> {
    let mut fields = Vec::with_capacity(key.len());
    let mut columns = Vec::with_capacity(key.len());
    for name in key {
        let column = patches
            .column_by_name(&format!("{FROM}{name}"))
            .ok_or_else(|| Error::bug("a patch does not say where its unsent values are").with("column", name))?;
        fields.push(arrow::datatypes::Field::new(name, column.data_type().clone(), true));
        columns.push(Arc::clone(column));
    }
    Ok(RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), columns)?)
}

/// Adds the columns that a partitioned file leaves out, in the order of `schema`; columns that neither has stay out.
pub(crate) fn add_partition_columns(
    batch: &RecordBatch,
    partition: &[(String, Option<String>)],
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    if partition.is_empty() {
        return Ok(batch.clone());
    }
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for field in schema.fields() {
        if let Some((_, value)) = partition.iter().find(|(column, _)| column == field.name()) {
            columns.push(decode_partition_value(value.as_deref(), field.data_type(), batch.num_rows())?);
        } else if let Some(column) = batch.column_by_name(field.name()) {
            columns.push(Arc::clone(column));
        } else {
            continue;
        }
        let data_type = columns.last().map_or(field.data_type(), |column| column.data_type()).clone();
        fields.push(field.as_ref().clone().with_data_type(data_type));
    }
    Ok(RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), columns)?)
}
