//! `sequence_by`: a row that is older than the one that stands in the table for its key does not replace it.
//!
//! The engine puts a round's rows in order; here they meet the rows of earlier rounds. A staged file of which rows are
//! older is written again without them, which is rare; the others are added as they are.

use std::collections::{HashMap, HashSet};

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::row::{OwnedRow, RowConverter, Rows, SortField};
use futures::TryStreamExt;
use lakehead_core::{Error, Result};
use lakehead_keyindex::Place;
use lakehead_lakefile::{KeyEncoder, Location, read_file};

use super::DeltaSink;
use crate::hash::KeyHasher;
use crate::keyed::KeyedTable;
use crate::live::LiveTable;
use crate::merge::add_partition_columns;
use crate::schema::to_lake;
use crate::stage::{DataWriters, Staged, StagedFile};

/// A round without the rows that are older than the table's.
#[derive(Default)]
pub(super) struct Newest {
    /// What takes the place of staged files.
    pub(super) rewritten: Vec<StagedFile>,
    /// Staged files, by name, that others take the place of.
    pub(super) dropped: HashSet<String>,
}

impl Newest {
    /// Returns the round as it is to be merged.
    pub(super) fn round(&self, staged: &Staged) -> Staged {
        let mut round = staged.clone();
        round.data.retain(|file| !self.dropped.contains(&file.file.name));
        round.data.extend(self.rewritten.iter().cloned());
        round
    }
}

impl DeltaSink {
    /// Leaves out the rows of a round that are older than those of their keys. Old rows are read only where the sink says
    /// `sequence_by`.
    pub(super) async fn newest(&mut self, staged: &Staged, schema: &SchemaRef) -> Result<Newest> {
        let Some(column) = self.spec.settings.text("sequence_by").map(str::to_owned) else {
            return Ok(Newest::default());
        };
        if self.log.live()?.files.is_empty() {
            return Ok(Newest::default());
        }
        let hasher = self.hasher(schema)?;
        loop {
            self.rows_by_key.sync(self.log.live()?, &hasher).await?;
            let ages = Ages {
                location: &self.location,
                rows_by_key: &self.rows_by_key,
                live: self.log.live()?,
                hasher: &hasher,
                schema,
                keys: KeyEncoder::new(schema, &self.spec.key)?,
                values: RowConverter::new(vec![SortField::new(schema.field_with_name(&column)?.data_type().clone())])?,
                column: &column,
            };
            let mut writers = self.writers_of(schema);
            writers.keep_keys(self.hasher(schema)?);
            match ages.without_older(staged, &mut writers).await {
                Ok(dropped) => return Ok(Newest { rewritten: writers.finish().await?, dropped }),
                Err(error) => self.rows_by_key.recover(error)?,
            }
        }
    }
}

/// What tells how old a row is.
struct Ages<'a> {
    location: &'a Location,
    rows_by_key: &'a KeyedTable,
    live: &'a LiveTable,
    hasher: &'a KeyHasher,
    schema: &'a SchemaRef,
    keys: KeyEncoder,
    /// Orders the values of the column; none comes before any.
    values: RowConverter,
    column: &'a str,
}

impl Ages<'_> {
    /// Writes the files that hold older rows anew without them, and returns their names.
    async fn without_older(&self, staged: &Staged, writers: &mut DataWriters) -> Result<HashSet<String>> {
        let mut dropped = HashSet::new();
        for file in &staged.data {
            let mut masks = Vec::new();
            let mut batches = Box::pin(self.batches(file).await?);
            while let Some(batch) = batches.try_next().await? {
                masks.push(self.stays(&self.whole(&batch, file)?).await?);
            }
            if masks.iter().all(|mask| mask.false_count() == 0) {
                continue;
            }
            dropped.insert(file.file.name.clone());
            let mut masks = masks.into_iter();
            let mut batches = Box::pin(self.batches(file).await?);
            while let (Some(batch), Some(mask)) = (batches.try_next().await?, masks.next()) {
                let newer = filter_record_batch(&self.whole(&batch, file)?, &mask)?;
                if newer.num_rows() > 0 {
                    writers.write(&newer).await?;
                }
            }
        }
        Ok(dropped)
    }

    async fn batches(
        &self,
        file: &StagedFile,
    ) -> Result<impl futures::Stream<Item = Result<RecordBatch>> + Send + use<>> {
        read_file(self.location, &file.file.name, None).await
    }

    fn whole(&self, batch: &RecordBatch, file: &StagedFile) -> Result<RecordBatch> {
        to_lake(&add_partition_columns(batch, &file.partition, self.schema)?, self.schema)
    }

    /// Returns which rows are not older than the table's row of their key.
    async fn stays(&self, rows: &RecordBatch) -> Result<BooleanArray> {
        let places = self.rows_by_key.find(&self.hasher.hashes(rows)?)?;
        let found: Vec<Place> = places.into_iter().flatten().collect();
        if found.is_empty() {
            return Ok(BooleanArray::from(vec![true; rows.num_rows()]));
        }
        let old = self.rows_by_key.rows(self.live, &found).await?;
        let old = old.iter().map(|old| to_lake(old, self.schema)).collect::<Result<Vec<_>>>()?;
        let old = concat_batches(self.schema, &old)?;
        let old_values = self.values_of(&old)?;
        let place_of: HashMap<OwnedRow, usize> =
            self.keys.encode(&old)?.iter().enumerate().map(|(row, key)| (key.owned(), row)).collect();
        let new_values = self.values_of(rows)?;
        let is_older = |row: usize, key: &OwnedRow| {
            place_of.get(key).is_some_and(|old| new_values.row(row) < old_values.row(*old))
        };
        let keys = self.keys.encode(rows)?;
        Ok(keys.iter().enumerate().map(|(row, key)| Some(!is_older(row, &key.owned()))).collect())
    }

    fn values_of(&self, rows: &RecordBatch) -> Result<Rows> {
        let column = rows
            .column_by_name(self.column)
            .ok_or_else(|| Error::bug("the sequence column is missing").with("column", self.column))?;
        Ok(self.values.convert_columns(std::slice::from_ref(column))?)
    }
}
