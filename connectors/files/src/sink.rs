//! A folder of files as a sink: one file per round, more where columns are added within one.
//!
//! Who lists the folder sees whole files only, each from shortly after its round's commit on, under a name that comes
//! from the round: `part-<pipeline>-<seq>-<n>.json.gz`. An `overwrite` shows the new file shortly before the old ones go.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch, StringArray};
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use lakehead_core::{
    Created, Error, Mark, OP, Outcome, Prepared, Result, Sink, SinkPosition, SinkSpec, UNCHANGED, WriteMode,
    data_fields, failpoint,
};
use lakehead_lakefile::{Location, conform};
use object_store::ObjectStoreExt;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::chain::{Chain, Link, Move, OwnFile};
use crate::encode::{Encoding, FileEncoder};

/// The payload of a `Prepared`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Staged {
    /// The staged files, relative to the connection, with their sizes; none where an `overwrite` run has no rows.
    files: Vec<(String, u64)>,
    extension: String,
    /// The interval that the run stands for.
    run: String,
    truncate: bool,
}

/// Writes one folder.
pub(crate) struct FilesSink {
    spec: SinkSpec,
    location: Location,
    folder: String,
    schema: SchemaRef,
    encoding: Encoding,
    chain: Chain,
    fence: u64,
    identity: String,
    open: Option<(String, FileEncoder)>,
    /// Files of the round that are closed.
    closed: Vec<(String, u64)>,
    rows: u64,
    truncate: bool,
}

impl FilesSink {
    /// Builds the sink; reads and writes nothing.
    pub(crate) fn new(spec: SinkSpec) -> Result<Self> {
        if !spec.partition_by.is_empty() {
            return Err(Error::user("R0615", "a files sink has no partitions")
                .help("put `${run.start:%Y/%m/%d}` into its `path`, or use a `parquet` connection"));
        }
        let by = spec.settings.texts("overwrite_by");
        if spec.mode == WriteMode::Overwrite && !by.is_empty() && by != ["run_interval"] {
            return Err(Error::user("R0615", "a files sink overwrites whole runs or the whole folder")
                .help("`overwrite_by = run_interval`, or leave it out"));
        }
        let location = Location::open(spec.connection.required_text("path")?, &spec.root, &spec.connection)?;
        let prefix = spec.connection.text("prefix").unwrap_or("");
        // The table's name is the path with everything filled in, `${table}` too.
        let folder = format!("{prefix}{}", spec.table.trim_matches('/'));
        if folder.split('/').any(|part| part == ".." || part == ".") {
            return Err(Error::user("R0407", "a table's path may not climb out of its connection").with("path", folder));
        }
        let chain = Chain::new(&location, &spec.pipeline, &spec.node, &folder)?;
        let encoding = Encoding::from_settings(&spec.settings)?;
        let schema = file_columns(&spec.schema);
        Ok(Self {
            spec,
            location,
            folder,
            schema,
            encoding,
            chain,
            fence: 0,
            identity: String::new(),
            open: None,
            closed: Vec::new(),
            rows: 0,
            truncate: false,
        })
    }

    fn interval(&self) -> String {
        format!("{}/{}", self.spec.run.start, self.spec.run.end)
    }

    /// Returns the name of a round's file: a retry of the round has the same, so that it can only take its own place.
    fn final_name(&self, extension: &str, seq: u64, n: usize) -> String {
        let owner = format!("{}/{}", self.spec.pipeline, self.spec.node);
        let owner = Uuid::new_v5(&Uuid::NAMESPACE_OID, owner.as_bytes()).simple().to_string();
        format!("{}/part-{}-{seq:010}-{n:02}.{extension}", self.folder, &owner[..12])
    }

    fn derive(&self, staged: &Staged, newest: &Link, mark: Mark) -> Link {
        let mut link = newest.next(mark);
        let overwrites = self.spec.mode == WriteMode::Overwrite;
        let by_run = self.spec.settings.texts("overwrite_by") == ["run_interval"];
        if staged.truncate || overwrites {
            let goes = |file: &OwnFile| staged.truncate || !by_run || file.run == staged.run;
            let (removed, kept): (Vec<_>, Vec<_>) = link.files.into_iter().partition(goes);
            link.removed = removed.into_iter().map(|file| file.name).collect();
            link.files = kept;
        }
        for (n, (from, size)) in staged.files.iter().enumerate() {
            let to = self.final_name(&staged.extension, mark.seq, n);
            if overwrites {
                link.files.push(OwnFile { name: to.clone(), run: staged.run.clone() });
            }
            link.publish.push(Move { from: from.clone(), to, size: *size });
        }
        link
    }

    async fn close_file(&mut self) -> Result<()> {
        if let Some((name, encoder)) = self.open.take() {
            let size = encoder.finish().await?;
            self.closed.push((name, size));
        }
        Ok(())
    }
}

#[async_trait]
impl Sink for FilesSink {
    async fn open(&mut self, fence: u64) -> Result<SinkPosition> {
        self.fence = fence;
        loop {
            let newest = self.chain.refresh().await?;
            let before = newest.as_ref().map(|link| link.mark).unwrap_or_default();
            if before.fence > fence {
                return Err(Error::incident("R0201", "another daemon has taken this pipeline over")
                    .with("table", &self.spec.table)
                    .with("fence", before.fence)
                    .help("nothing to do: the other one goes on. To move back, stop it first"));
            }
            let mark = Mark { fence, ..before };
            let link = match &newest {
                // What the last commit left undone is done before its record is no longer the newest.
                Some(newest) => {
                    self.chain.carry_out(newest).await?;
                    newest.next(mark)
                }
                None => Link::first(&self.folder, mark),
            };
            if self.chain.put(&link).await? == Created::Ours {
                self.identity.clone_from(&link.identity);
                return Ok(SinkPosition { identity: link.identity, version: link.version, mark: before });
            }
        }
    }

    async fn evolve(&mut self, schema: &SchemaRef) -> Result<()> {
        let mut fields: Vec<_> = self.schema.fields().iter().cloned().collect();
        for field in file_columns(schema).fields() {
            match self.schema.field_with_name(field.name()) {
                Err(_) => fields.push(Arc::clone(field)),
                Ok(found) if found.data_type() != field.data_type() => {
                    return Err(Error::incident("R0202", "a column changed its type, and the table keeps the old one")
                        .with("table", &self.spec.table)
                        .with("column", field.name())
                        .help("cast it back in a `derive`, or write into a new folder"));
                }
                Ok(_) => {}
            }
        }
        if fields.len() > self.schema.fields().len() {
            self.close_file().await?;
            self.schema = Arc::new(Schema::new(fields));
        }
        Ok(())
    }

    async fn stage(&mut self, rows: RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        if !is_dead_letters(&self.schema) {
            refuse_changes(&rows, &self.spec.table)?;
        }
        let rows = conform(&rows, &self.schema)?;
        if self.open.is_none() {
            let name = format!("_staging/{}/{:020}-{}", self.spec.pipeline, self.fence, Uuid::new_v4());
            let encoder = FileEncoder::create(&self.location, &name, &self.schema, self.encoding)?;
            self.open = Some((name, encoder));
        }
        let Some((_, encoder)) = self.open.as_mut() else { return Ok(()) };
        encoder.write(&rows).await?;
        self.rows += rows.num_rows() as u64;
        Ok(())
    }

    async fn truncate(&mut self) -> Result<()> {
        if self.spec.mode != WriteMode::Overwrite {
            return Err(Error::user("R0616", "files that are only added to cannot be emptied")
                .with("table", &self.spec.table)
                .help("`on_truncate = ignore` or `fail`, or `mode = overwrite`"));
        }
        self.abort().await?;
        self.truncate = true;
        Ok(())
    }

    async fn prepare(&mut self) -> Result<Option<Prepared>> {
        self.close_file().await?;
        let files = std::mem::take(&mut self.closed);
        let rows = std::mem::take(&mut self.rows);
        let truncate = std::mem::take(&mut self.truncate);
        if files.is_empty() && !truncate && self.spec.mode != WriteMode::Overwrite {
            return Ok(None);
        }
        let bytes = files.iter().map(|(_, size)| *size).sum();
        let staged = Staged { files, extension: self.encoding.extension().to_owned(), run: self.interval(), truncate };
        failpoint::hit("files.prepared").await?;
        let payload =
            serde_json::to_value(&staged).map_err(|error| Error::bug("a staged round is not JSON").caused_by(error))?;
        Ok(Some(Prepared { table: self.spec.table.clone(), identity: self.identity.clone(), rows, bytes, payload }))
    }

    async fn commit(&mut self, prepared: &Prepared, mark: Mark) -> Result<Outcome> {
        let staged: Staged = serde_json::from_value(prepared.payload.clone())
            .map_err(|error| Error::bug("a prepared round does not read back").caused_by(error))?;
        loop {
            let newest = self.chain.refresh().await?.ok_or_else(|| {
                Error::incident("R0212", "the table is gone")
                    .with("table", &self.spec.table)
                    .help("its records were removed while the pipeline ran; start again to make them anew")
            })?;
            if newest.identity != prepared.identity {
                return Err(Error::incident(
                    "R0215",
                    "the table was dropped and made again since the round was staged",
                )
                .with("table", &prepared.table)
                .help("give the pipeline a new name to start anew, or bring the old records back"));
            }
            if newest.mark.fence > mark.fence {
                return Ok(Outcome::Fenced(newest.mark.fence));
            }
            // The file of the round before may not be in its place yet, and its record is about to be followed.
            self.chain.carry_out(&newest).await?;
            if newest.mark.seq >= mark.seq {
                return Ok(Outcome::AlreadyCommitted);
            }
            let link = self.derive(&staged, &newest, mark);
            if self.chain.put(&link).await? == Created::Ours {
                self.chain.carry_out(&link).await?;
                return Ok(Outcome::Committed(link.version));
            }
        }
    }

    async fn abort(&mut self) -> Result<()> {
        // A file that was never closed is no object; those that were go. What stays costs room and nothing else.
        self.open = None;
        for (name, _) in std::mem::take(&mut self.closed) {
            let _ = self.location.store().delete(&self.location.path(&name)).await;
        }
        self.rows = 0;
        self.truncate = false;
        Ok(())
    }
}

/// Returns the columns of the files. Reserved columns are left out, except in dead letters, whose own columns bear
/// those names.
fn file_columns(schema: &SchemaRef) -> SchemaRef {
    let data = if is_dead_letters(schema) { schema.as_ref().clone() } else { data_fields(schema) };
    let fields: Vec<_> = data.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}

fn is_dead_letters(schema: &Schema) -> bool {
    ["_raw", "_reason", "_node"].iter().all(|name| schema.field_with_name(name).is_ok())
}

fn refuse_changes(rows: &RecordBatch, table: &str) -> Result<()> {
    let texts = |name: &str| rows.column_by_name(name).and_then(|c| c.as_any().downcast_ref::<StringArray>());
    let changed = texts(OP).is_some_and(|ops| ops.iter().flatten().any(|op| op == "u" || op == "d"));
    if changed || texts(UNCHANGED).is_some_and(|names| names.null_count() < names.len()) {
        return Err(Error::incident("R0211", "a row changed in a table that is only appended to")
            .with("table", table)
            .help("write changes into a Delta table with `mode = upsert` or `mode = changelog`"));
    }
    Ok(())
}
