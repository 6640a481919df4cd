//! `mode = compact`: the same rows in fewer files, in a table that nobody else of ours writes at the time.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use lakehead_core::{
    Error, LIFECYCLE_TAG, Mark, MovedBy, Outcome, Patience, Prepared, Result, Retention, Sink, SinkPosition, SinkSpec,
    TableFigures, Value, WriteMode,
};
use lakehead_lakefile::{FileKind, FileOrder, Location, ObjectRecords, read_head};

use crate::compact::Policy;
use crate::foreign::Folder;
use crate::manifest::{Manifest, ManifestLog};
use crate::replicate::unnamed;
use crate::schema::parse_columns;
use crate::sink::ParquetSink;

/// Compacts one table, as its `prepare` is called; it takes no rows.
pub(crate) struct Compactor {
    spec: SinkSpec,
    kind: FileKind,
    location: Location,
    table: Option<Table>,
}

enum Table {
    /// One with manifests.
    Own(Box<ParquetSink>),
    /// A folder that others write.
    Foreign(Box<Folder>),
}

impl Compactor {
    /// Builds the sink; reads and writes nothing.
    pub(crate) fn new(spec: SinkSpec, kind: FileKind) -> Result<Self> {
        let lake = Location::open(spec.connection.required_text("path")?, &spec.root, &spec.connection)?;
        let location = lake.table(spec.connection.text("prefix").unwrap_or(""), &spec.table)?;
        Policy::from_settings(&spec.settings)?;
        Ok(Self { spec, kind, location, table: None })
    }

    /// Returns the sink of a table with manifests, laid out as they say.
    async fn own(&mut self, manifest: &Manifest) -> Result<ParquetSink> {
        let mut spec = SinkSpec {
            mode: WriteMode::Append,
            partition_by: manifest.partition_by.clone(),
            schema: parse_columns(&manifest.columns)?,
            ..self.spec.clone()
        };
        if let Some(buckets) = &manifest.buckets {
            let columns = buckets.columns.iter().map(|column| Value::Name(column.clone())).collect();
            spec.settings.set("bucket_by", Value::List(columns));
            spec.settings.set("bucket_count", Value::Int(i64::from(buckets.count.get())));
            spec.settings.set("bucket_hash", Value::Name(buckets.hash.clone()));
        }
        if spec.settings.get("sort_by").is_none()
            && let Some(first) = manifest.files.first()
            && let FileOrder::Rising(columns) = read_head(&self.location, &first.name).await?.order
        {
            spec.settings.set("sort_by", Value::List(columns.into_iter().map(Value::Name).collect()));
        }
        let partitions = manifest.files.iter().flat_map(|file| &file.partition);
        let partitions = partitions.map(|(column, value)| (column.as_str(), value.as_deref()));
        // A table without files has its columns, too.
        let partitions = manifest.partition_by.iter().map(|column| (column.as_str(), None)).chain(partitions);
        Retention::told(&spec.settings).of_table(&spec.schema, partitions, self.moved_by())?.tell(&mut spec.settings);
        ParquetSink::new(spec, self.kind)
    }

    fn moved_by(&self) -> MovedBy {
        if self.location.url().scheme().starts_with("s3") { MovedBy::Bucket } else { MovedBy::Writer }
    }

    async fn foreign(&mut self, fence: u64) -> Result<Folder> {
        let lake = Location::open(self.spec.connection.required_text("path")?, &self.spec.root, &self.spec.connection)?;
        let prefix = self.spec.connection.text("prefix").unwrap_or("");
        let mut staging = lake.child(&format!("_staging/{}", self.spec.pipeline))?.table(prefix, &self.spec.table)?;
        if let Some(lifecycle) = self.spec.settings.text("lifecycle") {
            // A copy carries the tags of what it is copied from.
            staging = staging.tagged(LIFECYCLE_TAG, lifecycle);
        }
        let mut folder = Folder {
            staging,
            retention: Retention::told(&self.spec.settings),
            records: ObjectRecords::new(lake.child(&format!("_lakehead/{}", self.spec.pipeline))?),
            policy: Policy::from_settings(&self.spec.settings)?,
            // A bloom filter is for the keys of a pipeline that writes; nothing is known of keys here.
            spec: SinkSpec { key: Vec::new(), mode: WriteMode::Append, ..self.spec.clone() },
            kind: self.kind,
            location: self.location.clone(),
            fence,
        };
        folder.know_ages(self.moved_by()).await?;
        Ok(folder)
    }
}

#[async_trait]
impl Sink for Compactor {
    async fn open(&mut self, fence: u64) -> Result<SinkPosition> {
        let mut log = ManifestLog::new(&self.location);
        if let Some(manifest) = log.refresh().await? {
            let mut sink = self.own(&manifest).await?;
            let position = sink.open(fence).await?;
            self.table = Some(Table::Own(Box::new(sink)));
            return Ok(position);
        }
        if !log.holds_files().await? {
            return Err(Error::user("R0216", "there is no Parquet or ORC table at this place")
                .with("table", self.location.url())
                .help("correct `table`, or wait until somebody has written it"));
        }
        if Retention::told(&self.spec.settings).copied {
            return Err(unnamed(&self.location));
        }
        self.table = Some(Table::Foreign(Box::new(self.foreign(fence).await?)));
        Ok(SinkPosition { identity: String::new(), version: 0, mark: Mark::default() })
    }

    async fn evolve(&mut self, _schema: &SchemaRef) -> Result<()> {
        Ok(())
    }

    async fn stage(&mut self, _rows: RecordBatch) -> Result<()> {
        Err(Error::bug("a table that is compacted was given rows"))
    }

    async fn truncate(&mut self) -> Result<()> {
        Err(Error::bug("a table that is compacted was to be emptied"))
    }

    async fn prepare(&mut self) -> Result<Option<Prepared>> {
        match &mut self.table {
            Some(Table::Own(sink)) => sink.tend_all().await?,
            Some(Table::Foreign(folder)) => folder.tend().await?,
            None => return Err(Error::bug("a table was compacted before it was opened")),
        }
        Ok(None)
    }

    async fn commit(&mut self, _prepared: &Prepared, _mark: Mark) -> Result<Outcome> {
        Ok(Outcome::AlreadyCommitted)
    }

    async fn abort(&mut self) -> Result<()> {
        Ok(())
    }

    async fn tend(&mut self, _patience: Patience) {}

    fn figures(&self) -> Option<TableFigures> {
        match &self.table {
            Some(Table::Own(sink)) => sink.figures(),
            _ => None,
        }
    }
}
