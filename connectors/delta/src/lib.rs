//! Delta Lake tables: as sinks with the position in the same commit as the rows, and as bounded sources.

mod actions;
mod changes;
mod checkpoint;
mod features;
mod hash;
mod history;
mod keyed;
mod live;
mod log;
mod merge;
mod net;
mod replicate;
mod schema;
mod sink;
mod source;
mod spill;
mod stage;
mod stats;
mod upkeep;
mod vectors;
mod versions;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use lakehead_core::{
    Connector, Expired, Listing, OptionKind, OptionSpec, RecordStore, Result, Retention, Settings, SinkRole, SinkSpec,
    SourceRole, WriteMode,
};
use lakehead_lakefile::{Location, ObjectRecords, STORE_OPTIONS, with_store_options};

/// The `delta` connector.
pub static CONNECTOR: Connector = Connector {
    name: "delta",
    summary: "Delta Lake tables in a folder or bucket",
    built_in: false,
    connection: &CONNECTION,
    source: Some(SourceRole {
        options: &SOURCE,
        endless: |_| false,
        changes: |_| false,
        build: |spec| Ok(Box::new(source::DeltaSource::new(spec)?)),
        discover: |discovery| Box::pin(source::discover(discovery)),
        arrivals: None,
        column_rule: |_| None,
        makes: |_| Vec::new(),
        comparable: true,
    }),
    sink: Some(SinkRole {
        options: &SINK,
        modes: &[
            WriteMode::Append,
            WriteMode::Upsert,
            WriteMode::Overwrite,
            WriteMode::Changelog,
            WriteMode::Scd2,
            WriteMode::Compact,
        ],
        build: |spec| Ok(Box::new(sink::DeltaSink::new(spec)?)),
        records,
        exists: Some(|spec| Box::pin(exists(spec))),
        describe: Some(|spec| Box::pin(describe(spec))),
        data_files: Some(|spec| Box::pin(data_files(spec))),
        past_age: Some(|spec| Box::pin(past_age(spec))),
        replicate: Some(|spec| Ok(Box::new(replicate::DeltaCopy::new(spec)?))),
        holds_copies: false,
        query: |location| Some(format!("duckdb -c \"from delta_scan('{location}') limit 5\"")),
        readers,
    }),
    alert: None,
};

static CONNECTION: [OptionSpec; 4 + STORE_OPTIONS] = with_store_options([
    OptionSpec::new("path", OptionKind::Text, "folder or URL that holds the tables").required(),
    OptionSpec::new("prefix", OptionKind::Text, "put before every table's name").default("\"\""),
    OptionSpec::new(
        "cold",
        OptionKind::Text,
        "folder, perhaps on another disk, for files that a lifecycle moves there",
    ),
    OptionSpec::new("catalog", OptionKind::References, "catalogs that list the tables"),
]);

static SOURCE: [OptionSpec; 2] = [
    OptionSpec::new("table", OptionKind::Text, "table to read, `schema.name`").required(),
    OptionSpec::new("refresh", OptionKind::Duration, "read a reference table again after this long"),
];

static COMPACT: [OptionSpec; 4] = [
    OptionSpec::new("every", OptionKind::Duration, "pause between two looks at the table"),
    OptionSpec::new("file_size", OptionKind::Size, "size at which a merged file is closed"),
    OptionSpec::new("per_hour", OptionKind::Size, "bytes that may be read for merging in an hour"),
    OptionSpec::new("enabled", OptionKind::Bool, "whether small files are merged").default("true"),
];

static SINK: [OptionSpec; 9] = [
    OptionSpec::new("catalog", OptionKind::References, "catalogs that list the table, instead of the connection's"),
    OptionSpec::new("table", OptionKind::Text, "table to write, `schema.name`; `${table}` is the source's").required(),
    OptionSpec::new(
        "compression",
        OptionKind::Word(&["zstd", "snappy", "gzip", "lz4", "none"]),
        "how pages are packed; where nothing is said, those of an upsert's small rounds by snappy until they are merged",
    )
    .default("zstd"),
    OptionSpec::new("file_size", OptionKind::Size, "size at which a file is closed").default("128MB"),
    OptionSpec::new(
        "deletes",
        OptionKind::Word(&["vectors", "rewrite"]),
        "how an upsert takes old rows out: by deletion vectors, which cost what changed, or by rewriting the files, for \
         readers that know no vectors",
    )
    .default("vectors"),
    OptionSpec::new(
        "compact",
        OptionKind::Settings(&COMPACT),
        "how small files are merged beside the rounds: `every` pauses, `file_size` of the merged, bytes `per_hour`, `enabled`",
    ),
    OptionSpec::new("lifecycle", OptionKind::Reference, "storage rules of the table"),
    OptionSpec::new(
        "memory",
        OptionKind::Size,
        "changes of one round of an upsert that are held; what goes beyond is netted by way of files on this machine",
    )
    .default("64MB"),
    OptionSpec::new(
        "requests_per_hour",
        OptionKind::Int,
        "objects that rounds may write and look at in an hour: they get as old as that asks for, up to an hour",
    ),
];

/// Readers that know no vectors would see rows that are gone, or refuse the table (docs/readers.md).
fn readers(mode: WriteMode, settings: &Settings) -> Option<&'static str> {
    let vectors = mode == WriteMode::Scd2 || (mode == WriteMode::Upsert && settings.text("deletes") != Some("rewrite"));
    vectors.then_some(
        "rows go by deletion vectors: read by DuckDB, Polars, Spark, ClickHouse and delta-rs through DataFusion; not by \
         delta-rs's `to_pyarrow_table`, by Delta readers of version 1, or by whatever lists the folder. For those, where a \
         table is upserted: `deletes = rewrite`",
    )
}

/// Returns where a sink's table lies.
fn table_of(spec: &SinkSpec) -> Result<Location> {
    let lake = Location::open(spec.connection.required_text("path")?, &spec.root, &spec.connection)?;
    lake.table(spec.connection.text("prefix").unwrap_or(""), &spec.table)
}

async fn exists(spec: &SinkSpec) -> Result<bool> {
    let table = table_of(spec)?;
    table.holds("_delta_log").await
}

async fn describe(spec: &SinkSpec) -> Result<Option<Listing>> {
    let table = table_of(spec)?;
    let found = log::TableLog::new(&table, Arc::clone(&spec.clock)).refresh().await?;
    Ok(found.map(|state| listing(&state.schema, &state.partition_by)))
}

async fn data_files(spec: &SinkSpec) -> Result<Option<Vec<(String, u64)>>> {
    let table = table_of(spec)?;
    let mut log = log::TableLog::new(&table, Arc::clone(&spec.clock));
    if log.refresh().await?.is_none() {
        return Ok(None);
    }
    let files = log.live()?.files.values().map(|file| (file.name.clone(), u64::try_from(file.size).unwrap_or(0)));
    Ok(Some(files.collect()))
}

async fn past_age(spec: &SinkSpec) -> Result<Option<Expired>> {
    let Some(expiry) = Retention::told(&spec.settings).expiry else { return Ok(None) };
    let table = table_of(spec)?;
    let mut log = log::TableLog::new(&table, Arc::clone(&spec.clock));
    if log.refresh().await?.is_none() {
        return Ok(None);
    }
    let now = spec.clock.now();
    Ok(Some(sink::expired_in(log.live()?.files.values().filter(|file| file.has_expired(&expiry, now)))))
}

/// Readers learn the partitions from the log.
fn listing(schema: &SchemaRef, partition_by: &[String]) -> Listing {
    let (schema, partition_by) = (Arc::clone(schema), partition_by.to_vec());
    Listing { schema, partition_by, partitions: BTreeSet::new(), buckets: None, sort_by: Vec::new() }
}

fn records(spec: &SinkSpec) -> Result<Option<Arc<dyn RecordStore>>> {
    let lake = Location::open(spec.connection.required_text("path")?, &spec.root, &spec.connection)?;
    let folder = lake.child(&format!("_lakehead/{}", spec.pipeline))?;
    Ok(Some(Arc::new(ObjectRecords::new(folder))))
}
