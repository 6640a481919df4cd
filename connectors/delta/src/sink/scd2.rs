//! `mode = scd2`: every version of a row stands in the table, each with the interval in which it held.
//!
//! A round's changes are staged as they came. At the commit the key index says where the current versions of their keys
//! stand; those that are closed, or take new values of ignored columns, go by deletion vectors and come again beside the
//! new versions. The index knows current versions alone.

use std::collections::{HashMap, HashSet};

use arrow::array::{Array, AsArray, RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Schema, SchemaRef, TimestampMicrosecondType};
use arrow::row::OwnedRow;
use futures::TryStreamExt;
use lakehead_core::{Error, Micros, Result, SinkSpec, VALID_TO, VERSION_COLUMNS, WriteMode, failpoint, parse_micros};
use lakehead_keyindex::Place;
use lakehead_lakefile::{KeyEncoder, Location, PartitionValues, read_file};

use super::DeltaSink;
use super::upsert::Keyed;
use crate::hash::{KeyHasher, UNINDEXED};
use crate::history::{HistoryStage, Part, as_changes, first_versions};
use crate::keyed::{KeyedTable, file_keys};
use crate::live::{LiveFile, LiveTable};
use crate::merge::add_partition_columns;
use crate::net::refuse_null_keys;
use crate::schema::to_lake;
use crate::stage::{DataWriters, Staged, only_read};
use crate::stats::Stats;
use crate::versions::{Round, Rules};

/// What the statistics of a file may fall short of a time, in microseconds: other writers cut to milliseconds.
const STATISTICS_MICROS: Micros = 1000;

impl DeltaSink {
    /// Returns what hashes the keys of the table's rows.
    pub(super) fn hasher(&self, schema: &Schema) -> Result<KeyHasher> {
        match self.spec.mode {
            WriteMode::Scd2 => KeyHasher::of_current_rows(schema, &self.spec.key),
            _ => KeyHasher::new(schema, &self.spec.key),
        }
    }

    /// A table is one of versions or it is not: rows without their validity are current for nobody, and an upsert would
    /// take the history of a key for its row.
    pub(super) fn refuse_other_rows(&self, table: &Schema) -> Result<()> {
        if self.log.live()?.files.is_empty() {
            return Ok(());
        }
        let holds_versions = VERSION_COLUMNS.iter().all(|name| table.field_with_name(name).is_ok());
        match (self.spec.mode, holds_versions) {
            (WriteMode::Scd2, false) => Err(Error::user("R0227", "the table holds rows without their validity")
                .with("table", &self.spec.table)
                .with("mode", self.spec.mode.word())
                .help("let `scd2` write a table of its own")),
            (WriteMode::Upsert, true) => Err(Error::user("R0228", "the table holds every version of its rows")
                .with("table", &self.spec.table)
                .with("mode", self.spec.mode.word())
                .help("let `upsert` write a table of its own; `is_current` tells the newest rows of this one")),
            _ => Ok(()),
        }
    }

    /// Stages changes. A snapshot into an empty table goes straight to data files: nothing can precede it.
    pub(super) async fn stage_history(&mut self, rows: &RecordBatch) -> Result<()> {
        refuse_null_keys(&self.spec.key, rows)?;
        let (now, own) = (self.spec.clock.now(), self.own());
        let snapshot = only_read(rows)?;
        let history = self.history.get_or_insert_with(|| HistoryStage::new(now));
        if snapshot && history.is_empty() && self.log.live()?.files.is_empty() {
            let rows = first_versions(rows, &self.schema, history.at())?;
            return self.writers().write(&rows).await;
        }
        history.add(&self.staging, &own, &self.schema, rows, snapshot).await
    }

    /// Notes that the source's table was emptied.
    pub(super) async fn empty_history(&mut self) -> Result<()> {
        let now = self.spec.clock.now();
        self.history.get_or_insert_with(|| HistoryStage::new(now)).empty().await
    }

    /// Makes versions of a round's changes.
    pub(super) async fn versioned(&mut self, staged: &Staged, schema: &SchemaRef) -> Result<Keyed> {
        let live = self.log.live()?;
        if staged.history.parts.is_empty() && live.files.is_empty() {
            return Ok(Keyed::default());
        }
        if !live.allows_vectors() {
            return Err(Error::user("R0229", "the table was made without deletion vectors, and versions need them")
                .with("table", &self.spec.table)
                .help("alter table … set tblproperties (delta.enableDeletionVectors = true); or write a new table"));
        }
        failpoint::hit("delta.merge").await?;
        let hasher = self.hasher(schema)?;
        loop {
            self.rows_by_key.sync(self.log.live()?, &hasher).await?;
            let versioning = Versioning {
                spec: &self.spec,
                location: &self.location,
                staging: &self.staging,
                rows_by_key: &self.rows_by_key,
                live: self.log.live()?,
                schema,
                hasher: &hasher,
            };
            let mut writers = self.writers_of(schema);
            writers.keep_keys(self.hasher(schema)?);
            let mut derived = Derived { writers, replaced: Vec::new(), met: HashSet::new() };
            if let Err(error) = versioning.derive(staged, &mut derived).await {
                self.rows_by_key.recover(error)?;
                continue;
            }
            let marks = self.rows_by_key.mark(self.log.live()?, &derived.replaced, self.millis()).await?;
            let dropped = staged.data.iter().map(|file| file.file.name.clone()).collect();
            return Ok(Keyed { marks, filled: derived.writers.finish().await?, dropped });
        }
    }
}

/// What a round of versions comes to.
struct Derived {
    writers: DataWriters,
    /// Rows of the table that others take the place of.
    replaced: Vec<Place>,
    /// Rows of the table that the round has looked at, where the rest matters.
    met: HashSet<Place>,
}

/// The table as a round of versions finds it.
struct Versioning<'a> {
    spec: &'a SinkSpec,
    location: &'a Location,
    staging: &'a Location,
    rows_by_key: &'a KeyedTable,
    live: &'a LiveTable,
    schema: &'a SchemaRef,
    hasher: &'a KeyHasher,
}

impl Versioning<'_> {
    async fn derive(&self, staged: &Staged, derived: &mut Derived) -> Result<()> {
        let rules = Rules::of(&self.spec.settings);
        let history = &staged.history;
        let mut round = Round::new(self.schema, &self.spec.key, &rules, history.at)?;
        // Of a snapshot each key comes once, so that its rows need not be held.
        let by_batch = !history.parts.iter().any(|part| matches!(part, Part::Changes(_)));
        for file in &staged.data {
            let mut batches = Box::pin(read_file(self.location, &file.file.name, None).await?);
            while let Some(batch) = batches.try_next().await? {
                let whole = add_partition_columns(&batch, &file.partition, self.schema)?;
                self.take(&mut round, &as_changes(&whole)?, by_batch, derived).await?;
            }
        }
        for part in &history.parts {
            let Some(file) = part.file() else {
                round.empty();
                continue;
            };
            let mut batches = Box::pin(read_file(self.staging, &file.name, None).await?);
            while let Some(batch) = batches.try_next().await? {
                self.take(&mut round, &batch, by_batch, derived).await?;
            }
        }
        self.write(&mut round, derived).await?;
        if round.deletes_the_rest() { self.close_the_rest(&mut round, derived).await } else { Ok(()) }
    }

    async fn take(&self, round: &mut Round, rows: &RecordBatch, by_batch: bool, derived: &mut Derived) -> Result<()> {
        let (keys, numbers) = round.unknown(rows)?;
        if !keys.is_empty() {
            let asked = take_record_batch(rows, &UInt64Array::from(numbers))?;
            let places = self.rows_by_key.find(&self.hasher.hashes(&asked)?)?;
            let found: Vec<Place> = places.iter().flatten().copied().collect();
            let old = self.rows_by_key.rows(self.live, &found).await?;
            round.know(keys, places, &old)?;
        }
        round.add(rows)?;
        if by_batch { self.write(round, derived).await } else { Ok(()) }
    }

    /// Writes what the round has come to, and has it forget it.
    async fn write(&self, round: &mut Round, derived: &mut Derived) -> Result<()> {
        let openings = round.openings();
        if !openings.is_empty() {
            round.raise(&self.ends(&openings).await?);
        }
        let taken = round.take()?;
        for rows in &taken.rows {
            derived.writers.write(rows).await?;
        }
        derived.replaced.extend(taken.replaced);
        if round.deletes_the_rest() {
            derived.met.extend(taken.met);
        }
        Ok(())
    }

    /// Closes every current version that the round has not met: its key was there when the source's table was emptied.
    async fn close_the_rest(&self, round: &mut Round, derived: &mut Derived) -> Result<()> {
        for file in self.live.files.values() {
            let keys = file_keys(self.location, &file.name, &file.partition, self.schema, self.hasher).await?;
            let mut keys = Box::pin(keys);
            while let Some(mut hashes) = keys.try_next().await? {
                hashes.retain(|hash| *hash != UNINDEXED);
                let found = self.rows_by_key.find(&hashes)?;
                let rest: Vec<Place> = found.into_iter().flatten().filter(|place| derived.met.insert(*place)).collect();
                for old in self.rows_by_key.rows(self.live, &rest).await? {
                    let places = self.rows_by_key.find(&self.hasher.hashes(&old)?)?;
                    round.know(round.keys(&old)?, places, &[old])?;
                }
                self.write(round, derived).await?;
            }
        }
        Ok(())
    }

    /// Finds when the table closed the last version of keys that it holds no current one of, as far as that is behind
    /// the time at which they open: a clock went back. Files whose statistics say that nothing ends so late are not read.
    async fn ends(&self, openings: &HashMap<OwnedRow, Micros>) -> Result<HashMap<OwnedRow, Micros>> {
        let mut ends: HashMap<OwnedRow, Micros> = HashMap::new();
        let Some(first) = openings.values().min() else { return Ok(ends) };
        let encoder = KeyEncoder::new(self.schema, &self.spec.key)?;
        for file in self.live.files.values().filter(|file| may_end_behind(file, *first)) {
            let stored = stored_columns(&self.spec.key, &file.partition);
            let mut batches = Box::pin(read_file(self.location, &file.name, Some(&stored)).await?);
            while let Some(batch) = batches.try_next().await? {
                let rows = to_lake(&add_partition_columns(&batch, &file.partition, self.schema)?, self.schema)?;
                let times =
                    rows.column_by_name(VALID_TO).and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
                let Some(times) = times else { continue };
                for (row, key) in encoder.encode(&rows)?.iter().enumerate().filter(|(row, _)| times.is_valid(*row)) {
                    let key = key.owned();
                    if openings.get(&key).is_some_and(|opening| times.value(row) > *opening) {
                        let end = ends.entry(key).or_insert(Micros::MIN);
                        *end = times.value(row).max(*end);
                    }
                }
            }
        }
        Ok(ends)
    }
}

fn stored_columns(key: &[String], partition: &PartitionValues) -> Vec<String> {
    let is_stored = |name: &&str| partition.iter().all(|(column, _)| column != *name);
    key.iter().map(String::as_str).chain([VALID_TO]).filter(is_stored).map(str::to_owned).collect()
}

/// Returns whether a file may hold a version that ended behind `time`, by its statistics.
fn may_end_behind(file: &LiveFile, time: Micros) -> bool {
    let Some(stats) = file.stats.as_ref().map(Stats::value) else { return true };
    if stats["nullCount"][VALID_TO].as_u64().is_some_and(|nulls| Some(nulls) == file.rows()) {
        return false;
    }
    match stats["maxValues"][VALID_TO].as_str().and_then(parse_micros) {
        Some(last) => last.saturating_add(STATISTICS_MICROS) > time,
        None => true,
    }
}
