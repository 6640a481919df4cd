//! One Delta table as a sink.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use lakehead_core::{
    Error, LIFECYCLE_TAG, Listing, Mark, Outcome, Patience, Prepared, Result, Retention, Sink, SinkPosition, SinkSpec,
    TableFigures, WriteMode, failpoint,
};
use lakehead_keyindex::KeyHash;
use lakehead_lakefile::{FileFormat, Location};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::actions::{add, remove};
use crate::history::HistoryStage;
use crate::keyed::KeyedTable;
use crate::live::{FILE_RETENTION, LOG_KEPT, LiveFile};
use crate::log::{Put, TableLog, TableState, mark_actions};
use crate::schema::{lake_schema, merge_schemas, parse_schema_string, protocol_for, schema_string, to_lake};
use crate::stage::{DataWriters, KeyedStage, Owner, Staged, Taken, refuse_changes};
use crate::upkeep::{Policy, Upkeep};

mod colder;
mod expire;
mod netted;
mod scd2;
mod sequence;
mod soft;
mod tend;
mod upsert;

pub(crate) use expire::expired_in;
pub(crate) use tend::NewMark;
use upsert::Keyed;

/// Writes one Delta table.
pub(crate) struct DeltaSink {
    spec: SinkSpec,
    location: Location,
    staging: Location,
    schema: SchemaRef,
    log: TableLog,
    fence: u64,
    identity: String,
    writers: Option<DataWriters>,
    keyed: Option<KeyedStage>,
    history: Option<HistoryStage>,
    spilled: Staged,
    /// The key hashes of files that this process staged, by their names.
    hashes: HashMap<String, Vec<KeyHash>>,
    /// Where each key's row lies, for upserts by deletion vectors.
    rows_by_key: KeyedTable,
    /// Work beside the rounds.
    upkeep: Upkeep,
    /// What the table's lifecycle asks for.
    retention: Retention,
    /// Whether this process has prepared a round: until then it finishes those of an earlier one.
    prepares: bool,
    /// Files of rounds that were prepared and not committed.
    pending: HashSet<String>,
    /// Bytes of data, and of log and vectors, that rounds wrote.
    payload_bytes: u64,
    requests: u64,
    overhead_bytes: u64,
    rows: u64,
}

impl DeltaSink {
    /// Builds the sink; reads and writes nothing.
    pub(crate) fn new(spec: SinkSpec) -> Result<Self> {
        let lake = Location::open(spec.connection.required_text("path")?, &spec.root, &spec.connection)?;
        let mut location = lake.table(spec.connection.text("prefix").unwrap_or(""), &spec.table)?;
        if let Some(lifecycle) = spec.settings.text("lifecycle") {
            location = location.tagged(LIFECYCLE_TAG, lifecycle);
        }
        let staging = location.child(&format!("_lakehead/{}", spec.pipeline))?;
        let schema = table_schema(&spec)?;
        let log = TableLog::new(&location, Arc::clone(&spec.clock));
        let rows_by_key = KeyedTable::new(&location, &spec.cache);
        let upkeep = Upkeep::new(Policy::from_settings(&spec.settings));
        let retention = Retention::told(&spec.settings);
        Ok(Self {
            spec,
            location,
            staging,
            schema,
            log,
            fence: 0,
            identity: String::new(),
            writers: None,
            keyed: None,
            history: None,
            spilled: Staged::default(),
            hashes: HashMap::new(),
            rows_by_key,
            upkeep,
            retention,
            prepares: false,
            pending: HashSet::new(),
            payload_bytes: 0,
            requests: 0,
            overhead_bytes: 0,
            rows: 0,
        })
    }

    fn millis(&self) -> i64 {
        self.spec.clock.now().div_euclid(1000)
    }

    /// Whose files these are.
    fn own(&self) -> Owner {
        Owner::new(&self.spec.pipeline, self.fence)
    }

    fn format(&self) -> FileFormat {
        FileFormat::from_settings(&self.spec.settings)
    }

    /// A table that others made without deletion vectors is not changed under its readers.
    fn say_how_rows_go(&self) {
        if self.wants_vectors() && self.log.live().is_ok_and(|live| !live.allows_vectors()) {
            tracing::warn!(
                table = %self.location.url(),
                "the table was made without deletion vectors: upserts rewrite its files. Readers that know them allow \
                 for `alter table … set tblproperties (delta.enableDeletionVectors = true)`"
            );
        }
    }

    async fn create(&mut self) -> Result<()> {
        let identity = Uuid::new_v4().to_string();
        let mut configuration = BTreeMap::new();
        if self.wants_vectors() {
            configuration.insert("delta.enableDeletionVectors".to_owned(), "true".to_owned());
            // Each changed vector leaves a tombstone of the one before: a week of them outweighs the table's own log.
            configuration.insert(FILE_RETENTION.to_owned(), "interval 1 days".to_owned());
            // An entry each few seconds: a month of them is a quarter of a million objects.
            configuration.insert(LOG_KEPT.to_owned(), "interval 7 days".to_owned());
        }
        let metadata = self.metadata(&identity, &self.schema, self.millis(), &configuration)?;
        let actions = [protocol_for(&self.schema, self.wants_vectors()), metadata];
        // Losing this race is no error: the winner's table is read next.
        self.log.put(0, "CREATE TABLE", &actions).await?;
        Ok(())
    }

    fn wants_vectors(&self) -> bool {
        let upserts = self.spec.mode == WriteMode::Upsert && self.spec.settings.text("deletes") != Some("rewrite");
        upserts || self.spec.mode == WriteMode::Scd2
    }

    fn metadata(
        &self,
        identity: &str,
        schema: &SchemaRef,
        created: i64,
        configuration: &BTreeMap<String, String>,
    ) -> Result<Value> {
        Ok(json!({ "metaData": {
            "id": identity,
            "format": { "provider": "parquet", "options": {} },
            "schemaString": schema_string(schema)?,
            "partitionColumns": self.spec.partition_by,
            "configuration": configuration,
            "createdTime": created,
        }}))
    }

    async fn state(&mut self) -> Result<TableState> {
        self.log.refresh().await?.ok_or_else(|| {
            Error::incident("R0212", "the table is gone").with("table", &self.spec.table).help(
                "it was dropped while the pipeline ran; lakehead resync PIPELINE   makes it anew with the next run",
            )
        })
    }

    fn check_partitions(&self, state: &TableState) -> Result<()> {
        if state.partition_by == self.spec.partition_by {
            return Ok(());
        }
        Err(Error::user("R0214", "the table is partitioned in another way")
            .with("table", &self.spec.table)
            .with("table_partitions", state.partition_by.join(","))
            .with("file_partitions", self.spec.partition_by.join(","))
            .help("write into a new table, or say `partition_by` as the table has it"))
    }

    fn file_bytes(&self) -> Option<u64> {
        match self.spec.settings.get("file_size") {
            Some(lakehead_core::Value::Size(bytes)) => Some(*bytes),
            _ => None,
        }
    }

    fn writers(&mut self) -> &mut DataWriters {
        self.begin_writers(self.format())
    }

    /// Returns the round's writers, begun with `format` where they are not.
    fn begin_writers(&mut self, format: FileFormat) -> &mut DataWriters {
        let (file_bytes, own) = (self.file_bytes(), self.own());
        self.writers.get_or_insert_with(|| {
            DataWriters::new(&self.location, &self.schema, &self.spec.partition_by, format, file_bytes, &own)
        })
    }

    /// Returns writers of rows in the columns of `schema`, for what a commit derives.
    fn writers_of(&self, schema: &SchemaRef) -> DataWriters {
        let by = &self.spec.partition_by;
        DataWriters::new(&self.location, schema, by, self.format(), self.file_bytes(), &self.own())
    }

    async fn derive(
        &mut self,
        staged: &Staged,
        prepared: &Prepared,
        state: &TableState,
    ) -> Result<(Vec<Value>, Option<Keyed>)> {
        let millis = self.millis();
        let staged_schema = parse_schema_string(&staged.schema)?;
        let schema = merge_schemas(&state.schema, &staged_schema, &prepared.table)?;
        let mut actions = Vec::new();
        if schema != state.schema {
            actions.extend(self.log.live()?.with_columns(&schema)?);
        }
        let (mut keyed, mut dropped) = (None, HashSet::new());
        if self.spec.mode == WriteMode::Upsert && !staged.truncate {
            let newest = self.newest(staged, &schema).await?;
            let round = newest.round(staged);
            dropped.clone_from(&newest.dropped);
            if self.wants_vectors() && self.log.live()?.allows_vectors() {
                let mut marked = self.marked(&round, &schema).await?;
                marked.filled.extend(newest.rewritten);
                marked.dropped = newest.dropped;
                actions.extend(marked.marks.actions.iter().cloned());
                actions.extend(marked.filled.iter().map(|file| add(&file.file, &file.partition, None, millis)));
                keyed = Some(marked);
            } else {
                let files: Vec<LiveFile> = self.log.live()?.files.values().cloned().collect();
                actions.extend(self.merged(&round, &files, &schema).await?);
                actions.extend(newest.rewritten.iter().map(|file| add(&file.file, &file.partition, None, millis)));
            }
        }
        if self.spec.mode == WriteMode::Scd2 {
            let versioned = self.versioned(staged, &schema).await?;
            actions.extend(versioned.marks.actions.iter().cloned());
            actions.extend(versioned.filled.iter().map(|file| add(&file.file, &file.partition, None, millis)));
            dropped.clone_from(&versioned.dropped);
            keyed = Some(versioned);
        }
        if staged.truncate && self.keeps_deleted() {
            let kept = self.emptied(staged, &schema).await?;
            actions.extend(kept.iter().map(|file| add(&file.file, &file.partition, None, millis)));
        }
        let files = &self.log.live()?.files;
        let removed: Vec<&LiveFile> = match self.spec.mode {
            _ if staged.truncate => files.values().collect(),
            WriteMode::Overwrite => self.overwritten(staged, files.values()),
            _ => Vec::new(),
        };
        actions.extend(removed.into_iter().map(|file| remove(file, millis)));
        for staged_file in staged.data.iter().filter(|file| !dropped.contains(&file.file.name)) {
            actions.push(add(&staged_file.file, &staged_file.partition, staged.run.as_deref(), millis));
        }
        Ok((actions, keyed))
    }

    /// The files whose rows an `overwrite` replaces: those of the same run interval, of the partitions touched, or all.
    fn overwritten<'a>(&self, staged: &Staged, files: impl Iterator<Item = &'a LiveFile>) -> Vec<&'a LiveFile> {
        let by = self.spec.settings.texts("overwrite_by");
        if by == ["run_interval"] {
            return files.filter(|file| file.run.is_some() && file.run == staged.run).collect();
        }
        let of = |partition: &[(String, Option<String>)]| -> Vec<(String, Option<String>)> {
            partition.iter().filter(|(column, _)| by.contains(column)).cloned().collect()
        };
        let mut touched: Vec<_> = staged.data.iter().map(|file| of(&file.partition)).collect();
        for values in &mut touched {
            values.sort();
        }
        files.filter(|file| by.is_empty() || touched.contains(&of(&file.partition))).collect()
    }

    fn forget(&mut self) {
        self.writers = None;
        (self.keyed, self.history) = (None, None);
        self.spilled = Staged::default();
        self.hashes.clear();
        self.rows = 0;
    }
}

/// The name of a file without its folders.
fn last_part(name: &str) -> String {
    name.rsplit('/').next().unwrap_or(name).to_owned()
}

fn table_schema(spec: &SinkSpec) -> Result<SchemaRef> {
    lake_schema(&spec.schema)
}

#[async_trait]
impl Sink for DeltaSink {
    async fn open(&mut self, fence: u64) -> Result<SinkPosition> {
        self.location.prove_create().await?;
        self.fence = fence;
        loop {
            if self.log.refresh().await?.is_none() {
                if self.spec.mode == WriteMode::Compact {
                    return Err(Error::user("R0216", "there is no Delta table at this place")
                        .with("table", self.location.url())
                        .help("correct `table`, or wait until somebody has written it"));
                }
                self.create().await?;
            }
            let state = self.state().await?;
            if self.spec.mode == WriteMode::Compact {
                self.spec.partition_by.clone_from(&state.partition_by);
                self.schema = Arc::clone(&state.schema);
                self.know_ages()?;
            }
            self.log.check_protocol()?;
            self.check_partitions(&state)?;
            self.refuse_other_rows(&state.schema)?;
            self.schema = merge_schemas(&state.schema, &self.schema, &self.spec.table)?;
            self.identity.clone_from(&state.identity);
            let mark = self.log.mark(&self.spec.pipeline, &state.identity).await?;
            if mark.fence > fence {
                return Err(fenced(&self.spec.table, mark.fence));
            }
            self.log.look_for_restore(&self.spec.pipeline).await?;
            let marks = mark_actions(&self.spec.pipeline, &state.identity, Mark { fence, ..mark }, self.millis());
            let mut actions = marks[1..2].to_vec();
            actions.extend(self.log.live()?.kept_for(self.retention.vacuum_after));
            failpoint::hit("delta.fence").await?;
            if self.log.put(state.version + 1, "FENCE", &actions).await? == Put::Ours {
                (self.upkeep.checkpoints.version, self.upkeep.checkpoints.bytes) = self.log.checkpointed().await;
                self.say_how_rows_go();
                return Ok(SinkPosition { identity: state.identity, version: state.version + 1, mark });
            }
        }
    }

    async fn evolve(&mut self, schema: &SchemaRef) -> Result<()> {
        let added = table_schema(&SinkSpec { schema: Arc::clone(schema), ..self.spec.clone() })?;
        let merged = merge_schemas(&self.schema, &added, &self.spec.table)?;
        if merged == self.schema {
            return Ok(());
        }
        if let Some(writers) = self.writers.take() {
            self.spilled.data.extend(writers.finish().await?);
        }
        if let Some(keyed) = &mut self.keyed {
            keyed.evolve(&merged)?;
        }
        if let Some(history) = &mut self.history {
            history.close().await?;
        }
        self.schema = merged;
        Ok(())
    }

    async fn stage(&mut self, rows: RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.rows += rows.num_rows() as u64;
        if self.spec.mode == WriteMode::Scd2 {
            return self.stage_history(&rows).await;
        }
        if self.spec.mode != WriteMode::Upsert {
            // Where `_op` is a column of the table (dead letters), it says what happened elsewhere.
            let own_op = self.schema.field_with_name(lakehead_core::OP).is_ok();
            if self.spec.mode == WriteMode::Append && !own_op {
                refuse_changes(&rows, &self.spec.table)?;
            }
            let rows = to_lake(&rows, &self.schema)?;
            return self.writers().write(&rows).await;
        }
        if self.keyed.is_none() {
            let SinkSpec { key, settings, cache, .. } = &self.spec;
            self.keyed = Some(KeyedStage::new(&self.schema, key, settings, cache)?);
        }
        let Some(keyed) = self.keyed.as_mut() else { return Ok(()) };
        if let Taken::Straight(rows) = keyed.take(&rows, &self.schema)? {
            let rows = self.undeleted(rows)?;
            self.writers().write(&rows).await?;
        }
        Ok(())
    }

    async fn truncate(&mut self) -> Result<()> {
        if self.spec.mode == WriteMode::Scd2 {
            return self.empty_history().await;
        }
        self.forget();
        self.spilled.truncate = true;
        Ok(())
    }

    async fn prepare(&mut self) -> Result<Option<Prepared>> {
        if self.spec.mode == WriteMode::Compact {
            self.compact().await?;
            return Ok(None);
        }
        self.write_netted().await?;
        let mut staged = std::mem::take(&mut self.spilled);
        if let Some(history) = self.history.take() {
            staged.history = history.finish().await?;
        }
        if let Some(writers) = self.writers.take() {
            staged.data.extend(writers.finish().await?);
        }
        let rows = self.rows;
        let mut hashes = std::mem::take(&mut self.hashes);
        self.forget();
        std::mem::swap(&mut self.hashes, &mut hashes);
        self.keep_hashes(&mut staged);
        let overwrites = self.spec.mode == WriteMode::Overwrite;
        if rows == 0 && !staged.truncate && !overwrites && staged.history.parts.is_empty() {
            return Ok(None);
        }
        staged.schema = schema_string(&self.schema)?;
        if overwrites {
            staged.run = Some(format!("{}/{}", self.spec.run.start, self.spec.run.end));
        }
        let bytes = staged.bytes();
        self.prepares = true;
        self.pending.extend(staged.files().map(|file| last_part(&file.name)));
        failpoint::hit("delta.prepared").await?;
        let payload =
            serde_json::to_value(&staged).map_err(|error| Error::bug("a staged round is not JSON").caused_by(error))?;
        Ok(Some(Prepared { table: self.spec.table.clone(), identity: self.identity.clone(), rows, bytes, payload }))
    }

    async fn commit(&mut self, prepared: &Prepared, mark: Mark) -> Result<Outcome> {
        let staged: Staged = serde_json::from_value(prepared.payload.clone())
            .map_err(|error| Error::bug("a prepared round does not read back").caused_by(error))?;
        loop {
            let state = self.state().await?;
            if state.identity != prepared.identity {
                return Err(Error::incident(
                    "R0215",
                    "the table was dropped and made again since the round was staged",
                )
                .with("table", &prepared.table)
                .help("give the pipeline a new name to start anew, or bring the old table back"));
            }
            let found = self.log.mark(&self.spec.pipeline, &state.identity).await?;
            if found.fence > mark.fence {
                return Ok(Outcome::Fenced(found.fence));
            }
            if found.seq >= mark.seq {
                return Ok(Outcome::AlreadyCommitted);
            }
            if self.log.restored && self.prepares && !staged.truncate {
                return Err(restored(&prepared.table));
            }
            // A foreign writer may have changed what the table asks for since it was opened.
            self.log.check_protocol()?;
            self.check_partitions(&state)?;
            let (mut actions, keyed) = self.derive(&staged, prepared, &state).await?;
            self.log.check_round(&actions)?;
            let logged = self.log.written;
            actions.extend(mark_actions(&self.spec.pipeline, &state.identity, mark, self.millis()));
            let version = state.version + 1;
            if self.log.put(version, operation(self.spec.mode), &actions).await? == Put::Ours {
                self.log.restored &= !staged.truncate;
                self.payload_bytes += prepared.bytes;
                self.requests += requests(&staged, keyed.as_ref());
                self.overhead_bytes +=
                    self.log.written - logged + keyed.as_ref().map_or(0, |keyed| keyed.marks.bytes());
                self.note_vectors(keyed.as_ref());
                self.leave_round(&staged);
                self.index_committed(version, staged, keyed);
                self.keep_log_short(version).await;
                return Ok(Outcome::Committed(version));
            }
        }
    }

    async fn abort(&mut self) -> Result<()> {
        self.forget();
        Ok(())
    }

    async fn tend(&mut self, patience: Patience) {
        if self.spec.mode == WriteMode::Compact {
            return;
        }
        self.look_after(patience).await;
    }

    fn held_bytes(&self) -> u64 {
        let writers = self.writers.as_ref().map_or(0, DataWriters::held_bytes);
        writers + self.keyed.as_ref().map_or(0, KeyedStage::held_bytes)
    }

    async fn let_go(&mut self) -> Result<()> {
        if let Some(writers) = &mut self.writers {
            writers.let_go().await?;
        }
        match &mut self.keyed {
            Some(keyed) => keyed.let_go(&self.schema),
            None => Ok(()),
        }
    }

    fn figures(&self) -> Option<TableFigures> {
        self.table_figures()
    }

    fn listing(&self) -> Option<Arc<Listing>> {
        if self.spec.mode == WriteMode::Compact {
            // It is listed by whoever writes it.
            return None;
        }
        let live = self.log.live().ok()?;
        Some(Arc::new(crate::listing(&live.schema, &live.partition_by)))
    }
}

/// Objects that a round of one attempt writes and looks at: each file and its size read back, files of vectors, the log's
/// end and its entry.
fn requests(staged: &Staged, keyed: Option<&Keyed>) -> u64 {
    let filled = keyed.map_or(0, |keyed| 2 * keyed.filled.len() as u64 + keyed.marks.files());
    2 * staged.files().count() as u64 + filled + 2
}

fn fenced(table: &str, fence: u64) -> Error {
    Error::incident("R0201", "another daemon has taken this pipeline over")
        .with("table", table)
        .with("fence", fence)
        .help("nothing to do: the other one goes on. To move back, stop it first")
}

/// What a RESTORE took back is not in the source's log any more: to go on would leave source and lake unequal for good.
fn restored(table: &str) -> Error {
    Error::incident("R0235", "somebody took the table back to an older version: rows of committed rounds are gone")
        .with("table", table)
        .help("lakehead resync PIPELINE   has the next run read everything anew and replace the table in one commit")
}

fn operation(mode: WriteMode) -> &'static str {
    match mode {
        WriteMode::Upsert | WriteMode::Scd2 => "MERGE",
        WriteMode::Append | WriteMode::Changelog => "STREAMING UPDATE",
        WriteMode::Overwrite => "WRITE",
        WriteMode::Compact => "OPTIMIZE",
    }
}
