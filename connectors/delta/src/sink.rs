//! One Delta table as a sink.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::TryStreamExt;
use lakehead_core::{Error, Mark, Outcome, Prepared, Result, Sink, SinkPosition, SinkSpec, WriteMode, failpoint};
use lakehead_lakefile::{FileFormat, KeyEncoder, KeySet, Location, read_file};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::actions::{add, remove};
use crate::log::{LiveFile, Put, TableLog, TableState, mark_actions};
use crate::merge::{KeyBounds, Merge, add_partition_columns, looked_up};
use crate::schema::{has_ntz, lake_schema, merge_schemas, parse_schema_string, protocol_for, schema_string, to_lake};
use crate::stage::{DataWriters, KeyedStage, Staged, StagedFile, Taken, part_name, refuse_changes, write_changes};

/// Versions between two checkpoints.
const CHECKPOINT_EVERY: u64 = 50;

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
    spilled: Staged,
    /// Whether netted changes of the open round went to files already.
    flushed: bool,
    rows: u64,
}

impl DeltaSink {
    /// Builds the sink; reads and writes nothing.
    pub(crate) fn new(spec: SinkSpec) -> Result<Self> {
        let lake = Location::open(spec.connection.required_text("path")?, &spec.root, &spec.connection)?;
        let location = lake.table(spec.connection.text("prefix").unwrap_or(""), &spec.table)?;
        let staging = location.child(&format!("_lakehead/{}", spec.pipeline))?;
        let schema = table_schema(&spec)?;
        let log = TableLog::new(&location, Arc::clone(&spec.clock));
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
            spilled: Staged::default(),
            flushed: false,
            rows: 0,
        })
    }

    fn millis(&self) -> i64 {
        self.spec.clock.now().div_euclid(1000)
    }

    fn format(&self) -> FileFormat {
        FileFormat::from_settings(&self.spec.settings)
    }

    async fn create(&mut self) -> Result<()> {
        let identity = Uuid::new_v4().to_string();
        let metadata = self.metadata(&identity, &self.schema, self.millis())?;
        let actions = [protocol_for(&self.schema), metadata];
        // Losing this race is no error: the winner's table is read next.
        self.log.put(0, "CREATE TABLE", &actions).await?;
        Ok(())
    }

    fn metadata(&self, identity: &str, schema: &SchemaRef, created: i64) -> Result<Value> {
        Ok(json!({ "metaData": {
            "id": identity,
            "format": { "provider": "parquet", "options": {} },
            "schemaString": schema_string(schema)?,
            "partitionColumns": self.spec.partition_by,
            "configuration": {},
            "createdTime": created,
        }}))
    }

    async fn state(&mut self) -> Result<TableState> {
        self.log.refresh().await?.ok_or_else(|| {
            Error::incident("R0212", "the table is gone").with("table", &self.spec.table).help(
                "it was dropped while the pipeline ran; start again to make it anew, under a new pipeline name or after `resync`",
            )
        })
    }

    fn writers(&mut self) -> &mut DataWriters {
        let format = self.format();
        let file_bytes = match self.spec.settings.get("file_size") {
            Some(lakehead_core::Value::Size(bytes)) => Some(*bytes),
            _ => None,
        };
        self.writers.get_or_insert_with(|| {
            DataWriters::new(&self.location, &self.schema, &self.spec.partition_by, format, file_bytes, self.fence)
        })
    }

    async fn flush_keyed(&mut self) -> Result<()> {
        let Some(keyed) = self.keyed.as_mut() else { return Ok(()) };
        if keyed.nets.is_empty() {
            return Ok(());
        }
        if self.flushed {
            // Rows of a second flush would stand beside rows of the same key from the first.
            return Err(Error::user("R0213", "one source transaction changes more keys than fit in memory")
                .with("table", &self.spec.table)
                .help("raise the memory of the process, or split the transaction at the source"));
        }
        let netted = keyed.nets.take()?;
        self.flushed = true;
        for batch in &netted.rows {
            self.writers().write(batch).await?;
        }
        self.spilled.patches.extend(write_changes(&self.staging, self.fence, &netted.patches).await?);
        self.spilled.deletes.extend(write_changes(&self.staging, self.fence, &netted.deletes).await?);
        Ok(())
    }

    async fn derive(&mut self, staged: &Staged, prepared: &Prepared, state: &TableState) -> Result<Vec<Value>> {
        let millis = self.millis();
        let files = self.log.files()?;
        let staged_schema = parse_schema_string(&staged.schema)?;
        let schema = merge_schemas(&state.schema, &staged_schema, &prepared.table)?;
        let mut actions = Vec::new();
        if schema != state.schema {
            let adds_ntz = |schema: &SchemaRef| schema.fields().iter().any(|f| has_ntz(f.data_type()));
            if adds_ntz(&schema) && !adds_ntz(&state.schema) {
                actions.push(protocol_for(&schema));
            }
            actions.push(self.metadata(&state.identity, &schema, millis)?);
        }
        let removed: Vec<&LiveFile> = match self.spec.mode {
            _ if staged.truncate => files.iter().collect(),
            WriteMode::Overwrite => self.overwritten(staged, &files),
            WriteMode::Upsert => {
                actions.extend(self.merged(staged, &files, &schema).await?);
                Vec::new()
            }
            _ => Vec::new(),
        };
        actions.extend(removed.into_iter().map(|file| remove(file, millis)));
        for staged_file in &staged.data {
            actions.push(add(&staged_file.file, &staged_file.partition, staged.run.as_deref(), millis));
        }
        Ok(actions)
    }

    /// The files whose rows an `overwrite` replaces: those of the same run interval, of the partitions touched, or all.
    fn overwritten<'a>(&self, staged: &Staged, files: &'a [LiveFile]) -> Vec<&'a LiveFile> {
        let by = self.spec.settings.texts("overwrite_by");
        if by == ["run_interval"] {
            return files.iter().filter(|file| file.run.is_some() && file.run == staged.run).collect();
        }
        let of = |partition: &[(String, Option<String>)]| -> Vec<(String, Option<String>)> {
            partition.iter().filter(|(column, _)| by.contains(column)).cloned().collect()
        };
        let mut touched: Vec<_> = staged.data.iter().map(|file| of(&file.partition)).collect();
        for values in &mut touched {
            values.sort();
        }
        files.iter().filter(|file| by.is_empty() || touched.contains(&of(&file.partition))).collect()
    }

    async fn merged(&mut self, staged: &Staged, files: &[LiveFile], schema: &SchemaRef) -> Result<Vec<Value>> {
        let millis = self.millis();
        if files.is_empty() && staged.patches.is_empty() {
            return Ok(Vec::new());
        }
        let fence = self.fence;
        let merge = Merge {
            location: &self.location,
            schema,
            partition_by: &self.spec.partition_by,
            keys: KeyEncoder::new(schema, &self.spec.key)?,
            format: self.format(),
        };
        let mut changed = KeySet::default();
        let mut wanted = KeySet::default();
        let mut bounds = KeyBounds::default();
        let first_key = self.spec.key.first().cloned().unwrap_or_default();
        for StagedFile { file, partition } in &staged.data {
            let mut batches = Box::pin(read_file(&self.location, &file.name, None).await?);
            while let Some(batch) = batches.try_next().await? {
                let batch = add_partition_columns(&batch, partition, schema)?;
                bounds.add(&batch, &first_key);
                changed.add(&merge.keys.encode(&batch)?);
            }
        }
        for file in &staged.deletes {
            let mut batches = Box::pin(read_file(&self.staging, &file.name, None).await?);
            while let Some(batch) = batches.try_next().await? {
                bounds.add(&batch, &first_key);
                changed.add(&merge.keys.encode(&batch)?);
            }
        }
        let mut patches = Vec::new();
        for file in &staged.patches {
            let mut batches = Box::pin(read_file(&self.staging, &file.name, None).await?);
            while let Some(batch) = batches.try_next().await? {
                bounds.add(&batch, &first_key);
                changed.add(&merge.keys.encode(&batch)?);
                let looked_up = looked_up(&batch, merge.keys.columns())?;
                bounds.add(&looked_up, &first_key);
                let old = merge.keys.encode(&looked_up)?;
                changed.add(&old);
                wanted.add(&old);
                patches.push(batch);
            }
        }
        failpoint::hit("delta.merge").await?;
        let (rewritten, old_rows) = merge.rewrite(files, &changed, &wanted, &bounds, || part_name(fence)).await?;
        let mut actions: Vec<Value> = rewritten.removed.iter().map(|file| remove(file, millis)).collect();
        actions.extend(rewritten.added.iter().map(|(file, partition)| add(file, partition, None, millis)));
        if !patches.is_empty() {
            let mut writers =
                DataWriters::new(&self.location, schema, &self.spec.partition_by, self.format(), None, self.fence);
            for patch in &patches {
                writers.write(&merge.fill(patch, &old_rows)?).await?;
            }
            let filled = writers.finish().await?;
            actions.extend(filled.iter().map(|file| add(&file.file, &file.partition, None, millis)));
        }
        Ok(actions)
    }

    fn forget(&mut self) {
        self.writers = None;
        self.keyed = None;
        self.spilled = Staged::default();
        self.flushed = false;
        self.rows = 0;
    }
}

fn table_schema(spec: &SinkSpec) -> Result<SchemaRef> {
    lake_schema(&spec.schema)
}

#[async_trait]
impl Sink for DeltaSink {
    async fn open(&mut self, fence: u64) -> Result<SinkPosition> {
        self.fence = fence;
        loop {
            if self.log.refresh().await?.is_none() {
                self.create().await?;
            }
            let state = self.state().await?;
            self.log.check_protocol()?;
            if state.partition_by != self.spec.partition_by {
                return Err(Error::user("R0214", "the table is partitioned in another way")
                    .with("table", &self.spec.table)
                    .with("table_partitions", state.partition_by.join(","))
                    .with("file_partitions", self.spec.partition_by.join(","))
                    .help("write into a new table, or say `partition_by` as the table has it"));
            }
            self.schema = merge_schemas(&state.schema, &self.schema, &self.spec.table)?;
            self.identity.clone_from(&state.identity);
            let mark = self.log.mark(&self.spec.pipeline, &state.identity).await?;
            if mark.fence > fence {
                return Err(fenced(&self.spec.table, mark.fence));
            }
            let actions = mark_actions(&self.spec.pipeline, &state.identity, Mark { fence, ..mark });
            failpoint::hit("delta.fence").await?;
            if self.log.put(state.version + 1, "FENCE", &actions[1..2]).await? == Put::Ours {
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
            keyed.nets.evolve(&merged)?;
        }
        self.schema = merged;
        Ok(())
    }

    async fn stage(&mut self, rows: RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.rows += rows.num_rows() as u64;
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
            self.keyed = Some(KeyedStage::new(&self.schema, &self.spec.key)?);
        }
        let Some(keyed) = self.keyed.as_mut() else { return Ok(()) };
        let taken = keyed.take(&rows, &self.schema)?;
        let full = keyed.is_full();
        if let Taken::Straight(rows) = taken {
            self.writers().write(&rows).await?;
        }
        if full { self.flush_keyed().await } else { Ok(()) }
    }

    async fn truncate(&mut self) -> Result<()> {
        self.forget();
        self.spilled.truncate = true;
        Ok(())
    }

    async fn prepare(&mut self) -> Result<Option<Prepared>> {
        self.flush_keyed().await?;
        let mut staged = std::mem::take(&mut self.spilled);
        if let Some(writers) = self.writers.take() {
            staged.data.extend(writers.finish().await?);
        }
        let rows = self.rows;
        self.forget();
        let overwrites = self.spec.mode == WriteMode::Overwrite;
        if rows == 0 && !staged.truncate && !overwrites {
            return Ok(None);
        }
        staged.schema = schema_string(&self.schema)?;
        if overwrites {
            staged.run = Some(format!("{}/{}", self.spec.run.start, self.spec.run.end));
        }
        let files = staged.data.iter().map(|f| &f.file).chain(&staged.patches).chain(&staged.deletes);
        let bytes = files.map(|file| file.size).sum();
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
            let mut actions = self.derive(&staged, prepared, &state).await?;
            actions.extend(mark_actions(&self.spec.pipeline, &state.identity, mark));
            let version = state.version + 1;
            if self.log.put(version, operation(self.spec.mode), &actions).await? == Put::Ours {
                if version.is_multiple_of(CHECKPOINT_EVERY) {
                    self.log.checkpoint().await;
                }
                return Ok(Outcome::Committed(version));
            }
        }
    }

    async fn abort(&mut self) -> Result<()> {
        self.forget();
        Ok(())
    }
}

fn fenced(table: &str, fence: u64) -> Error {
    Error::incident("R0201", "another daemon has taken this pipeline over")
        .with("table", table)
        .with("fence", fence)
        .help("nothing to do: the other one goes on. To move back, stop it first")
}

fn operation(mode: WriteMode) -> &'static str {
    match mode {
        WriteMode::Upsert | WriteMode::Scd2 => "MERGE",
        WriteMode::Append | WriteMode::Changelog => "STREAMING UPDATE",
        WriteMode::Overwrite => "WRITE",
        WriteMode::Compact => "OPTIMIZE",
    }
}
