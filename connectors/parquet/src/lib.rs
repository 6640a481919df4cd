//! Plain directories of Parquet or ORC files whose manifests make every commit atomic.
//!
//! ```text
//! <connection>/<prefix><table>/_manifest/<n:020>.json    every live file, the columns, the marks of each pipeline
//!                              _manifest/_latest         the number of a recent manifest: a hint, never trusted
//!                              <column=value>/part-….parquet            000003_0_part-….parquet in a Hive bucket,
//!                                                                         part-…_00003.c000.parquet in one of Spark
//! <connection>/_staging/<pipeline>/<table>/              files of rounds that are not committed
//! <connection>/_lakehead/<pipeline>/                     the pipeline's records
//! ```
//!
//! Who reads manifests sees one commit or the next. Who lists the folder sees whole files only, a round's files from
//! shortly before its commit on, files that a commit took out until shortly after it, and files whose rows have expired until
//! `vacuum` of their lifecycle is over: a day, where it says nothing.

mod compact;
mod compactor;
mod files;
mod foreign;
mod layout;
mod listing;
mod manifest;
mod merge;
mod publish;
mod replicate;
mod schema;
mod sink;
mod sorter;
mod source;
mod stage;

use std::sync::Arc;

use lakehead_core::{
    Connector, Expired, Listing, OptionKind, OptionSpec, RecordStore, Result, Retention, Settings, Sink, SinkRole,
    SinkSpec, SourceRole, WriteMode,
};
use lakehead_lakefile::{FileKind, Location, ObjectRecords, STORE_OPTIONS, with_store_options};

/// The `parquet` connector.
pub static CONNECTOR: Connector = Connector {
    name: "parquet",
    summary: "plain Parquet directories in a folder or bucket",
    built_in: false,
    connection: &CONNECTION,
    source: Some(SourceRole {
        options: &SOURCE,
        endless: |_| false,
        changes: |_| false,
        build: |spec| Ok(Box::new(source::ParquetSource::new(spec)?)),
        discover: |discovery| Box::pin(source::discover(discovery)),
        arrivals: None,
        column_rule: |_| None,
        makes: |_| Vec::new(),
        comparable: true,
    }),
    sink: Some(SinkRole {
        options: &SINK,
        modes: &[WriteMode::Append, WriteMode::Overwrite, WriteMode::Compact],
        build: |spec| build(spec, FileKind::Parquet),
        records,
        exists: Some(|spec| Box::pin(exists(spec))),
        describe: Some(|spec| Box::pin(describe(spec, FileKind::Parquet))),
        data_files: Some(|spec| Box::pin(data_files(spec))),
        past_age: Some(|spec| Box::pin(past_age(spec))),
        replicate: Some(replicate::copy),
        holds_copies: false,
        query: |location| {
            Some(format!(
                "duckdb -c \"from read_parquet('{location}/**/[!_]*.parquet', hive_partitioning=true) limit 5\""
            ))
        },
        readers,
    }),
    alert: None,
};

/// The `orc` connector: the same tables, of ORC files.
pub static ORC: Connector = Connector {
    name: "orc",
    summary: "plain ORC directories in a folder or bucket",
    built_in: false,
    connection: &CONNECTION,
    source: CONNECTOR.source,
    sink: Some(SinkRole {
        options: &SINK,
        modes: &[WriteMode::Append, WriteMode::Overwrite, WriteMode::Compact],
        build: |spec| build(spec, FileKind::Orc),
        records,
        exists: Some(|spec| Box::pin(exists(spec))),
        describe: Some(|spec| Box::pin(describe(spec, FileKind::Orc))),
        data_files: Some(|spec| Box::pin(data_files(spec))),
        past_age: Some(|spec| Box::pin(past_age(spec))),
        replicate: Some(replicate::copy),
        holds_copies: false,
        query: |location| {
            Some(format!(
                "python -c \"import pyarrow.dataset as d; print(d.dataset('{location}', format='orc', \
                 partitioning='hive').head(5).to_pandas())\""
            ))
        },
        readers,
    }),
    alert: None,
};

/// What the layout can promise to whom (docs/buckets.md, and the top of this file).
fn readers(_: WriteMode, _: &Settings) -> Option<&'static str> {
    Some(
        "a commit is atomic to readers of the manifest in `_manifest`; who lists the folder sees whole files only, those of a \
         round from shortly before its commit on",
    )
}

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

static SOURCE: [OptionSpec; 1] =
    [OptionSpec::new("table", OptionKind::Text, "table to read, `schema.name`").required()];

static COMPACT: [OptionSpec; 3] = [
    OptionSpec::new("every", OptionKind::Duration, "pause between two looks at the table"),
    OptionSpec::new("file_size", OptionKind::Size, "size at which a merged file is closed"),
    OptionSpec::new("enabled", OptionKind::Bool, "whether small files are merged").default("true"),
];

static SINK: [OptionSpec; 10] = [
    OptionSpec::new("catalog", OptionKind::References, "catalogs that list the table, instead of the connection's"),
    OptionSpec::new("table", OptionKind::Text, "table to write, `schema.name`; `${table}` is the source's").required(),
    OptionSpec::new(
        "compression",
        OptionKind::Word(&["zstd", "snappy", "gzip", "lz4", "none"]),
        "how pages are packed",
    )
    .default("zstd"),
    OptionSpec::new("file_size", OptionKind::Size, "size at which a file is closed").default("128MB"),
    OptionSpec::new("bucket_by", OptionKind::Columns, "columns whose hash says in which bucket's file a row lies"),
    OptionSpec::new("bucket_count", OptionKind::Int, "number of buckets, 1 to 100000"),
    OptionSpec::new("bucket_hash", OptionKind::Word(&["hive2", "hive1", "spark"]), "engine whose buckets they are")
        .default("hive2"),
    OptionSpec::new("compact", OptionKind::Settings(&COMPACT), "small files merged beside the rounds"),
    OptionSpec::new("lifecycle", OptionKind::Reference, "storage rules of the table"),
    OptionSpec::new("sort_by", OptionKind::Columns, "order of the rows in a file, rising, NULL first"),
];

fn build(spec: SinkSpec, kind: FileKind) -> Result<Box<dyn Sink>> {
    match spec.mode {
        WriteMode::Compact => Ok(Box::new(compactor::Compactor::new(spec, kind)?)),
        _ => Ok(Box::new(sink::ParquetSink::new(spec, kind)?)),
    }
}

/// Returns where a sink's table lies.
fn table_of(spec: &SinkSpec) -> Result<Location> {
    let lake = Location::open(spec.connection.required_text("path")?, &spec.root, &spec.connection)?;
    lake.table(spec.connection.text("prefix").unwrap_or(""), &spec.table)
}

async fn exists(spec: &SinkSpec) -> Result<bool> {
    let table = table_of(spec)?;
    table.holds("_manifest").await
}

/// Tables of others have no manifest: what lies in the folder is the table.
async fn describe(spec: &SinkSpec, kind: FileKind) -> Result<Option<Listing>> {
    let table = table_of(spec)?;
    match manifest::ManifestLog::new(&table).refresh().await? {
        Some(manifest) if manifest.format.as_deref().unwrap_or("parquet") == kind.extension() => {
            listing::of_manifest(&manifest, &spec.settings.texts("sort_by")).map(Some)
        }
        Some(_) => Ok(None),
        None => source::describe_folder(&table, kind).await,
    }
}

async fn data_files(spec: &SinkSpec) -> Result<Option<Vec<(String, u64)>>> {
    let table = table_of(spec)?;
    let found = manifest::ManifestLog::new(&table).refresh().await?;
    Ok(found.map(|found| found.files.iter().map(|file| (file.name.clone(), file.size)).collect()))
}

async fn past_age(spec: &SinkSpec) -> Result<Option<Expired>> {
    let Some(expiry) = Retention::told(&spec.settings).expiry else { return Ok(None) };
    let table = table_of(spec)?;
    let now = spec.clock.now();
    let found = manifest::ManifestLog::new(&table).refresh().await?;
    Ok(found.map(|found| sink::expired_in(found.files.iter().filter(|file| file.has_expired(&expiry, now)))))
}

fn records(spec: &SinkSpec) -> Result<Option<Arc<dyn RecordStore>>> {
    let lake = Location::open(spec.connection.required_text("path")?, &spec.root, &spec.connection)?;
    let folder = lake.child(&format!("_lakehead/{}", spec.pipeline))?;
    Ok(Some(Arc::new(ObjectRecords::new(folder))))
}
