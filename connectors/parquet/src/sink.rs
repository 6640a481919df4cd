//! One plain Parquet table as a sink.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use lakehead_core::{
    Created, Error, LIFECYCLE_TAG, Listing, Mark, Outcome, Patience, Prepared, Result, Retention, Sink, SinkPosition,
    SinkSpec, TableFigures, WriteMode, failpoint, format_micros,
};
use lakehead_lakefile::{FileKind, Location};
use uuid::Uuid;

mod colder;
mod expire;
mod tend;

pub(crate) use expire::expired_in;

use crate::compact::Policy;
use crate::layout::{Buckets, TableLayout};
use crate::listing;
use crate::manifest::{Manifest, ManifestFile, ManifestLog};
use crate::publish::{final_files, publish, remove, sweep, sweep_staging};
use crate::schema::{is_dead_letters, manifest_columns, merge_schemas, parse_columns, table_schema, to_lake};
use crate::stage::{StageWriters, Staged, discard, fence_of, refuse_changes};

/// Writes one table.
pub(crate) struct ParquetSink {
    spec: SinkSpec,
    location: Location,
    staging: Location,
    schema: SchemaRef,
    layout: TableLayout,
    log: ManifestLog,
    fence: u64,
    identity: String,
    writers: Option<StageWriters>,
    staged: Staged,
    rows: u64,
    /// Whether staged files of earlier daemons may still lie around.
    unswept: bool,
    upkeep: tend::Upkeep,
    /// What the table's lifecycle asks for.
    retention: Retention,
    /// What catalogs must know of the newest manifest.
    listed: Option<Arc<Listing>>,
}

impl ParquetSink {
    /// Builds the sink; reads and writes nothing.
    pub(crate) fn new(spec: SinkSpec, kind: FileKind) -> Result<Self> {
        if let Some(format) = spec.settings.text("format").filter(|format| *format != kind.extension()) {
            return Err(Error::user("R0703", "the connection writes no other format")
                .with("format", format)
                .help("leave `format` out, or use a connection of that kind"));
        }
        let lake = Location::open(spec.connection.required_text("path")?, &spec.root, &spec.connection)?;
        let prefix = spec.connection.text("prefix").unwrap_or("");
        let location = lake.table(prefix, &spec.table)?;
        let mut staging = lake.child(&format!("_staging/{}", spec.pipeline))?.table(prefix, &spec.table)?;
        if let Some(lifecycle) = spec.settings.text("lifecycle") {
            // A copy carries the tags of what it is copied from.
            staging = staging.tagged(LIFECYCLE_TAG, lifecycle);
        }
        let schema = table_schema(&spec.schema, kind)?;
        let log = ManifestLog::new(&location);
        let layout = TableLayout::of(&spec, kind)?;
        let upkeep = tend::Upkeep::new(Policy::from_settings(&spec.settings)?);
        let retention = Retention::told(&spec.settings);
        Ok(Self {
            spec,
            location,
            staging,
            schema,
            layout,
            log,
            fence: 0,
            identity: String::new(),
            writers: None,
            staged: Staged::default(),
            rows: 0,
            unswept: true,
            upkeep,
            retention,
            listed: None,
        })
    }

    fn now(&self) -> String {
        format_micros(self.spec.clock.now())
    }

    fn first_manifest(&self, fence: u64) -> Manifest {
        Manifest {
            version: 1,
            identity: Uuid::new_v4().to_string(),
            uuid: Uuid::new_v4().to_string(),
            written_at: self.now(),
            pipeline: self.spec.pipeline.clone(),
            columns: manifest_columns(&self.schema),
            partition_by: self.spec.partition_by.clone(),
            buckets: self.layout.buckets.clone(),
            format: self.format(),
            marks: BTreeMap::from([(self.spec.pipeline.clone(), Mark { fence, ..Mark::default() })]),
            files: Vec::new(),
            removed: Vec::new(),
            expired: Vec::new(),
        }
    }

    /// Returns the manifest that makes `fence` known, the first of a table or the next, and the mark before it.
    async fn fencing(&mut self, fence: u64) -> Result<(Manifest, Mark)> {
        let Some(newest) = self.log.refresh().await? else {
            if self.log.holds_files().await? {
                return Err(Error::user("R0704", "the folder holds Parquet files that no manifest names")
                    .with("table", self.location.url())
                    .help("write into a new table; these files would be in the folder and not in the table"));
            }
            return Ok((self.first_manifest(fence), Mark::default()));
        };
        if newest.partition_by != self.spec.partition_by {
            return Err(Error::user("R0214", "the table is partitioned in another way")
                .with("table", &self.spec.table)
                .with("table_partitions", newest.partition_by.join(","))
                .with("file_partitions", self.spec.partition_by.join(","))
                .help("write into a new table, or say `partition_by` as the table has it"));
        }
        self.check_buckets(&newest)?;
        self.check_format(&newest)?;
        self.schema = merge_schemas(&parse_columns(&newest.columns)?, &self.schema, &self.spec.table)?;
        let mark = newest.mark(&self.spec.pipeline);
        if mark.fence > fence {
            return Err(Error::incident("R0201", "another daemon has taken this pipeline over")
                .with("table", &self.spec.table)
                .with("fence", mark.fence)
                .help("nothing to do: the other one goes on. To move back, stop it first"));
        }
        let mut next = newest.next(&self.spec.pipeline, self.now());
        next.marks.insert(self.spec.pipeline.clone(), Mark { fence, ..mark });
        next.removed = newest.removed;
        Ok((next, mark))
    }

    fn format(&self) -> Option<String> {
        (self.layout.kind != FileKind::Parquet).then(|| self.layout.kind.extension().to_owned())
    }

    /// Refuses files of another kind than the table has: a catalog knows one for all of them.
    fn check_format(&self, newest: &Manifest) -> Result<()> {
        if newest.format == self.format() {
            return Ok(());
        }
        Err(Error::user("R0238", "the table has files of another format")
            .with("table", &self.spec.table)
            .with("table_format", newest.format.as_deref().unwrap_or("parquet"))
            .with("connection_format", self.layout.kind.extension())
            .help("write into a new table, or through a connection of the table's format"))
    }

    /// Refuses other buckets than the table has: a reader that prunes would miss every row of one kind of file.
    fn check_buckets(&self, newest: &Manifest) -> Result<()> {
        if newest.buckets == self.layout.buckets {
            return Ok(());
        }
        Err(Error::user("R0236", "the table has other buckets")
            .with("table", &self.spec.table)
            .with("table_buckets", Buckets::text(newest.buckets.as_ref()))
            .with("file_buckets", Buckets::text(self.layout.buckets.as_ref()))
            .help("write into a new table, or say `bucket_by`, `bucket_count` and `bucket_hash` as the table has them"))
    }

    async fn newest(&mut self) -> Result<Manifest> {
        self.log.refresh().await?.ok_or_else(|| {
            Error::incident("R0212", "the table is gone").with("table", &self.spec.table).help(
                "it was dropped while the pipeline ran; lakehead resync PIPELINE   makes it anew with the next run",
            )
        })
    }

    /// Returns the manifest that a round makes of `newest`.
    fn derive(&self, staged: &Staged, added: &[ManifestFile], newest: &Manifest, mark: Mark) -> Result<Manifest> {
        let columns = parse_columns(&newest.columns)?;
        let columns = merge_schemas(&columns, &parse_columns(&staged.columns)?, &self.spec.table)?;
        let mut next = newest.next(&self.spec.pipeline, self.now());
        next.columns = manifest_columns(&columns);
        next.marks.insert(self.spec.pipeline.clone(), mark);
        let goes = self.replaced(staged);
        let (removed, kept): (Vec<_>, Vec<_>) = next.files.into_iter().partition(|file| goes(file));
        next.removed = removed.into_iter().map(|file| file.name).collect();
        next.files = kept;
        next.files.extend_from_slice(added);
        Ok(next)
    }

    /// Says which files a round replaces: all after a truncate; in `overwrite` those of the same run interval, of the
    /// partitions touched, or all.
    fn replaced<'a>(&self, staged: &'a Staged) -> Box<dyn Fn(&ManifestFile) -> bool + 'a> {
        if staged.truncate {
            return Box::new(|_| true);
        }
        if self.spec.mode != WriteMode::Overwrite {
            return Box::new(|_| false);
        }
        let by = self.spec.settings.texts("overwrite_by");
        if by == ["run_interval"] {
            return Box::new(|file| file.run.is_some() && file.run == staged.run);
        }
        if by.is_empty() {
            return Box::new(|_| true);
        }
        let of = move |partition: &[(String, Option<String>)]| -> Vec<(String, Option<String>)> {
            partition.iter().filter(|(column, _)| by.contains(column)).cloned().collect()
        };
        let touched: std::collections::HashSet<_> = staged.files.iter().map(|file| of(&file.partition)).collect();
        Box::new(move |file| touched.contains(&of(&file.partition)))
    }

    /// Notes what catalogs must know. A round into partitions that are listed costs as much as the round.
    fn list(&mut self, before: &Manifest, after: &Manifest, added: &[ManifestFile]) -> Result<()> {
        let same = before.columns == after.columns && after.removed.is_empty();
        let listed = self.listed.as_ref().filter(|listed| same && listing::covers(listed, added));
        if listed.is_none() {
            self.listed = Some(Arc::new(listing::of_manifest(after, &self.layout.sort_by)?));
        }
        Ok(())
    }

    /// What is done once a round is in the table; nothing of it can fail a commit.
    async fn clean_up(&mut self, staged: &Staged, manifest: &Manifest, mark: Mark) {
        self.log.tidy().await;
        remove(&self.location, &manifest.removed).await;
        let names: Vec<_> = staged.files.iter().map(|file| file.name.clone()).collect();
        discard(&self.staging, &names).await;
        let ours = |name: &str| fence_of(name) == Some(mark.fence);
        if self.unswept && staged.files.iter().any(|file| ours(&file.name)) {
            self.unswept = false;
            sweep_staging(&self.staging, mark.fence).await;
        }
    }
}

#[async_trait]
impl Sink for ParquetSink {
    async fn open(&mut self, fence: u64) -> Result<SinkPosition> {
        self.location.prove_create().await?;
        self.fence = fence;
        loop {
            let (next, mark) = self.fencing(fence).await?;
            let (identity, version) = (next.identity.clone(), next.version);
            let manifest = next.clone();
            failpoint::hit("parquet.fence").await?;
            if self.log.put(next).await? == Created::Ours {
                self.log.tidy().await;
                sweep(&self.location, &self.spec.pipeline, &manifest).await?;
                self.identity.clone_from(&identity);
                self.listed = Some(Arc::new(listing::of_manifest(&manifest, &self.layout.sort_by)?));
                return Ok(SinkPosition { identity, version, mark });
            }
        }
    }

    async fn evolve(&mut self, schema: &SchemaRef) -> Result<()> {
        let merged = merge_schemas(&self.schema, &table_schema(schema, self.layout.kind)?, &self.spec.table)?;
        if merged == self.schema {
            return Ok(());
        }
        if let Some(writers) = self.writers.take() {
            self.staged.files.extend(writers.finish().await?);
        }
        self.schema = merged;
        Ok(())
    }

    async fn stage(&mut self, rows: RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        if !is_dead_letters(&self.schema) {
            refuse_changes(&rows, &self.spec.table)?;
        }
        let rows = to_lake(&rows, &self.schema)?;
        let writers = match &mut self.writers {
            Some(writers) => writers,
            none => none.insert(StageWriters::new(&self.staging, &self.schema, &self.layout, &self.spec, self.fence)?),
        };
        writers.write(&rows).await?;
        self.rows += rows.num_rows() as u64;
        Ok(())
    }

    async fn truncate(&mut self) -> Result<()> {
        self.abort().await?;
        self.staged.truncate = true;
        Ok(())
    }

    async fn prepare(&mut self) -> Result<Option<Prepared>> {
        if let Some(writers) = self.writers.take() {
            self.staged.files.extend(writers.finish().await?);
        }
        let mut staged = std::mem::take(&mut self.staged);
        let rows = std::mem::take(&mut self.rows);
        let overwrites = self.spec.mode == WriteMode::Overwrite;
        if rows == 0 && !staged.truncate && !overwrites {
            return Ok(None);
        }
        staged.columns = manifest_columns(&self.schema);
        if overwrites {
            staged.run = Some(format!("{}/{}", self.spec.run.start, self.spec.run.end));
        }
        let bytes = staged.files.iter().map(|file| file.size).sum();
        failpoint::hit("parquet.prepared").await?;
        let payload =
            serde_json::to_value(&staged).map_err(|error| Error::bug("a staged round is not JSON").caused_by(error))?;
        Ok(Some(Prepared { table: self.spec.table.clone(), identity: self.identity.clone(), rows, bytes, payload }))
    }

    async fn commit(&mut self, prepared: &Prepared, mark: Mark) -> Result<Outcome> {
        let staged: Staged = serde_json::from_value(prepared.payload.clone())
            .map_err(|error| Error::bug("a prepared round does not read back").caused_by(error))?;
        let files = final_files(&staged, &self.spec.pipeline, mark, self.layout.buckets.as_ref());
        let mut published = false;
        loop {
            let newest = self.newest().await?;
            if newest.identity != prepared.identity {
                return Err(Error::incident(
                    "R0215",
                    "the table was dropped and made again since the round was staged",
                )
                .with("table", &prepared.table)
                .help("give the pipeline a new name to start anew, or bring the old table back"));
            }
            let found = newest.mark(&self.spec.pipeline);
            if found.fence > mark.fence {
                if published {
                    // The names hold our fence: nobody can have committed them, and nobody ever will.
                    let names: Vec<_> = files.iter().map(|file| file.name.clone()).collect();
                    remove(&self.location, &names).await;
                }
                return Ok(Outcome::Fenced(found.fence));
            }
            if found.seq >= mark.seq {
                return Ok(Outcome::AlreadyCommitted);
            }
            let next = self.derive(&staged, &files, &newest, mark)?;
            if !published {
                publish(&self.staging, &self.location, &staged, &files).await?;
                published = true;
            }
            let (version, manifest) = (next.version, next.clone());
            if self.log.put(next).await? == Created::Ours {
                failpoint::hit("parquet.committed").await?;
                self.list(&newest, &manifest, &files)?;
                self.clean_up(&staged, &manifest, mark).await;
                return Ok(Outcome::Committed(version));
            }
        }
    }

    async fn abort(&mut self) -> Result<()> {
        let mut names: Vec<_> = std::mem::take(&mut self.staged).files.into_iter().map(|file| file.name).collect();
        if let Some(writers) = self.writers.take() {
            names.extend(writers.give_up());
        }
        self.rows = 0;
        discard(&self.staging, &names).await;
        Ok(())
    }

    async fn tend(&mut self, patience: Patience) {
        self.look_after(patience).await;
    }

    fn figures(&self) -> Option<TableFigures> {
        self.table_figures()
    }

    fn listing(&self) -> Option<Arc<Listing>> {
        self.listed.clone()
    }
}
