//! A directory of Parquet or ORC files as a bounded source: one manifest, whole, or every file where there is no manifest.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use lakehead_core::{
    BatchBudget, ChangeBatch, Checkpoint, Discovery, Error, ListedPartition, Listing, Result, Settings, Source,
    SourceEvent, SourceSpec, TableSpec,
};
use lakehead_lakefile::{FileKind, Location, PartitionValues, conform, read_file, read_schema, storage_error};
use object_store::ObjectStore as _;

use crate::manifest::{ManifestLog, is_data_file};
use crate::schema::{add_partition_columns, merge_schemas, parse_columns, table_schema};

/// Footers that are read for the columns of a folder without a manifest: files of one table agree, so that more would
/// cost and tell nothing.
const FOOTERS_MAX: usize = 100;
/// What Hive writes for NULL.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// One file to read.
#[derive(Clone, Debug)]
struct Input {
    name: String,
    partition: PartitionValues,
}

/// What a table consists of.
struct Table {
    schema: SchemaRef,
    files: VecDeque<Input>,
    /// What the position says: identity and version, or the number of files.
    state: String,
}

/// Reads one table.
pub(crate) struct ParquetSource {
    spec: SourceSpec,
    location: Location,
    table: Option<Table>,
    open: Option<(Input, BoxStream<'static, Result<RecordBatch>>)>,
    waiting: Option<RecordBatch>,
    done: bool,
}

impl ParquetSource {
    /// Builds the source.
    pub(crate) fn new(spec: SourceSpec) -> Result<Self> {
        let location = location(&spec.connection, &spec.settings, &spec.root)?;
        Ok(Self { spec, location, table: None, open: None, waiting: None, done: false })
    }

    async fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let table = self.table.as_mut().ok_or_else(|| Error::bug("a source was read before it was opened"))?;
        loop {
            if let Some((input, batches)) = self.open.as_mut() {
                if let Some(batch) = batches.next().await {
                    let batch = add_partition_columns(&batch?, &input.partition, &table.schema)?;
                    return Ok(Some(conform(&batch, &table.schema)?));
                }
                self.open = None;
            }
            let Some(input) = table.files.front().cloned() else { return Ok(None) };
            let batches = read_file(&self.location, &input.name, None).await?.boxed();
            table.files.pop_front();
            self.open = Some((input, batches));
        }
    }
}

#[async_trait]
impl Source for ParquetSource {
    async fn open(&mut self, _from: &Checkpoint) -> Result<()> {
        let declared = self.spec.tables.first().map(|table| Arc::clone(&table.schema));
        self.table = Some(read_table(&self.location, declared).await?);
        Ok(())
    }

    async fn next(&mut self, budget: BatchBudget) -> Result<SourceEvent> {
        if self.waiting.is_none() {
            self.waiting = self.next_batch().await?;
        }
        if let Some(rows) = budget.take_from(&mut self.waiting) {
            let table = self.spec.tables.first().map_or_else(|| self.spec.node.clone(), |table| table.name.clone());
            return Ok(SourceEvent::Changes(ChangeBatch { table, rows }));
        }
        if self.done {
            return Ok(SourceEvent::End);
        }
        self.done = true;
        let mut checkpoint = Checkpoint::default();
        if let Some(table) = &self.table {
            checkpoint.set(&self.spec.node, &table.state);
        }
        Ok(SourceEvent::Progress(checkpoint))
    }

    async fn acknowledge(&mut self, _durable: &Checkpoint) -> Result<()> {
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

fn location(connection: &Settings, settings: &Settings, root: &std::path::Path) -> Result<Location> {
    let lake = Location::open(connection.required_text("path")?, root, connection)?;
    lake.table(connection.text("prefix").unwrap_or(""), settings.required_text("table")?)
}

async fn read_table(location: &Location, declared: Option<SchemaRef>) -> Result<Table> {
    if let Some(manifest) = ManifestLog::new(location).refresh().await? {
        let schema = parse_columns(&manifest.columns)?;
        let state = format!("{}@{}", manifest.identity, manifest.version);
        let input = |file: crate::manifest::ManifestFile| Input { name: file.name, partition: file.partition };
        return Ok(Table { schema, files: manifest.files.into_iter().map(input).collect(), state });
    }
    let files = list_files(location).await?;
    if files.is_empty() {
        return Err(Error::user("R0216", "there is no Parquet table at this place")
            .with("table", location.url())
            .help("run the pipeline that writes it first, or correct `table`"));
    }
    let schema = match declared.filter(|schema| !schema.fields().is_empty()) {
        Some(schema) => schema,
        None => infer_schema(location, &files).await?,
    };
    let state = format!("{} files", files.len());
    Ok(Table { schema, files: files.into(), state })
}

/// Lists the data files of a folder without a manifest, by name; names that begin with `_` or `.` are nobody's data.
async fn list_files(location: &Location) -> Result<Vec<Input>> {
    let found: Vec<_> = match location.store().list(Some(location.prefix())).try_collect().await {
        Ok(found) => found,
        Err(object_store::Error::NotFound { .. }) => Vec::new(),
        Err(error) => return Err(storage_error(error, location.url().as_str())),
    };
    let mut names: Vec<_> = found.iter().filter_map(|meta| location.name_of(&meta.location)).collect();
    names.retain(|name| {
        let data = |part: &str| !part.starts_with('_') && !part.starts_with('.');
        is_data_file(name) && name.split('/').all(data)
    });
    names.sort();
    Ok(names.into_iter().map(|name| Input { partition: hive_partition(&name), name }).collect())
}

/// Returns what catalogs must know of a folder without a manifest; `None` where it holds no file of this kind.
pub(crate) async fn describe_folder(location: &Location, kind: FileKind) -> Result<Option<Listing>> {
    let mut files = list_files(location).await?;
    files.retain(|file| FileKind::of_name(&file.name) == kind);
    let columns = |file: &Input| file.partition.iter().map(|(column, _)| column.clone()).collect::<Vec<_>>();
    let Some(partition_by) = files.first().map(columns) else { return Ok(None) };
    if let Some(other) = files.iter().find(|file| columns(file) != partition_by) {
        return Err(Error::user("R0217", "the files of the folder are partitioned in more ways than one")
            .with("table", location.url())
            .with("file", &other.name)
            .help("name a folder whose files all lie below the same columns"));
    }
    let partition = |file: &Input| ListedPartition {
        values: file.partition.iter().map(|(_, value)| value.clone()).collect(),
        folder: file.name.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned(),
    };
    let partitions = if partition_by.is_empty() { BTreeSet::new() } else { files.iter().map(partition).collect() };
    let schema = infer_schema(location, &files).await?;
    Ok(Some(Listing { schema, partition_by, partitions, buckets: None, sort_by: Vec::new() }))
}

/// Reads `column=value` folders.
pub(crate) fn hive_partition(name: &str) -> PartitionValues {
    let folders = name.rsplit_once('/').map_or("", |(folders, _)| folders);
    let pairs = folders.split('/').filter_map(|folder| folder.split_once('='));
    pairs.map(|(column, value)| (unescape(column), (value != HIVE_NULL).then(|| unescape(value)))).collect()
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let code = others.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &others[2..];
            }
            _ => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn infer_schema(location: &Location, files: &[Input]) -> Result<SchemaRef> {
    let mut schema: SchemaRef = Arc::new(Schema::empty());
    for file in files.iter().take(FOOTERS_MAX) {
        let found = table_schema(&read_schema(location, &file.name).await?, FileKind::of_name(&file.name))?;
        schema = merge_schemas(&schema, &found, location.url().as_str())?;
    }
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    for (column, _) in files.iter().flat_map(|file| &file.partition) {
        if !fields.iter().any(|field| field.name() == column) {
            fields.push(Arc::new(Field::new(column, DataType::Utf8, true)));
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Reads the columns of the table that a source names.
pub(crate) async fn discover(discovery: &Discovery) -> Result<Vec<TableSpec>> {
    let location = location(&discovery.connection, &discovery.settings, &discovery.root)?;
    let table = read_table(&location, None).await?;
    Ok(vec![TableSpec { name: discovery.node.clone(), schema: table.schema, key: Vec::new() }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_hive_are_columns() {
        let found = hive_partition("day=2026-05-01/city=S%C3%A3o%2FX/other/part.parquet");
        assert_eq!(
            found,
            [("day".to_owned(), Some("2026-05-01".to_owned())), ("city".to_owned(), Some("São/X".to_owned()))]
        );
        assert_eq!(hive_partition("d=__HIVE_DEFAULT_PARTITION__/x.parquet"), [("d".to_owned(), None)]);
        assert_eq!(hive_partition("x=1.parquet"), []);
    }
}
