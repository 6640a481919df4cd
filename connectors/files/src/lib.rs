//! Files in a folder or bucket: CSV, JSON and Parquet, each read once; and files written for others to read.

mod blocks;
mod cell;
mod chain;
mod columns;
mod encode;
mod feed;
mod grid;
mod infer;
mod json;
mod listing;
mod load;
mod marks;
mod members;
mod object;
mod pattern;
mod plain;
#[cfg(test)]
mod property;
mod records;
mod retire;
mod rows;
mod runs;
mod scan;
mod shape;
mod sink;
mod source;
mod text;
mod values;
mod windows;

use std::sync::Arc;

pub use object::TextObject;

use arrow::datatypes::DataType;
use lakehead_core::{
    Connector, OptionKind, OptionSpec, RecordStore, Result, SinkRole, SinkSpec, SourceRole, Value, WriteMode,
};
use lakehead_lakefile::{Location, ObjectRecords, STORE_OPTIONS, with_store_options};

/// The `files` connector.
pub static CONNECTOR: Connector = Connector {
    name: "files",
    summary: "CSV, JSON and Parquet files in a folder or bucket",
    built_in: false,
    connection: &CONNECTION,
    source: Some(SourceRole {
        options: &SOURCE,
        endless: |_| false,
        changes: |_| false,
        build: |spec| Ok(Box::new(source::FilesSource::new(spec)?)),
        discover: |discovery| Box::pin(source::discover(discovery)),
        arrivals: Some(|spec| Box::pin(source::arrivals(spec))),
        column_rule: |value| matches!(value, Value::Call(name, _) if name == "path").then_some(DataType::Utf8),
        makes: |_| Vec::new(),
        comparable: true,
    }),
    sink: Some(SinkRole {
        options: &SINK,
        modes: &[WriteMode::Append, WriteMode::Overwrite],
        build: |spec| Ok(Box::new(sink::FilesSink::new(spec)?)),
        records,
        exists: None,
        describe: None,
        data_files: None,
        past_age: None,
        replicate: None,
        holds_copies: true,
        query: |_| None,
        readers: |_, _| None,
    }),
    alert: None,
};

static CONNECTION: [OptionSpec; 2 + STORE_OPTIONS] = with_store_options([
    OptionSpec::new("path", OptionKind::Text, "folder or URL that holds the files").required(),
    OptionSpec::new("prefix", OptionKind::Text, "put before every path").default("\"\""),
]);

static SOURCE: [OptionSpec; 11] = [
    OptionSpec::new("path", OptionKind::Text, "files to read: *, **, ?, {a,b}, %Y %m %d %H %M").required(),
    OptionSpec::new(
        "format",
        OptionKind::Word(&["auto", "csv", "tsv", "ndjson", "json", "parquet"]),
        "what the files hold; `auto` goes by their names",
    )
    .default("auto"),
    OptionSpec::new("header", OptionKind::Bool, "whether a CSV file begins with the names of its columns")
        .default("true"),
    OptionSpec::new("delimiter", OptionKind::Text, "character between the cells of a CSV file").default("\",\""),
    OptionSpec::new("null", OptionKind::Text, "cell of a CSV file that means NULL").default("\"\""),
    OptionSpec::new("interval", OptionKind::Word(&["run"]), "read only files whose %Y…%M lie in the run"),
    OptionSpec::new("done_prefix", OptionKind::Text, "folder that files move to once their rows are in the lake"),
    OptionSpec::new("error_prefix", OptionKind::Text, "folder that files which cannot be read are copied to"),
    OptionSpec::new("after_success", OptionKind::Word(&["keep", "delete"]), "what becomes of files that were read")
        .default("keep"),
    OptionSpec::new("keep_inputs", OptionKind::Duration, "how long `delete` waits after the commit").default("1d"),
    OptionSpec::new("on_changed", OptionKind::Word(&["error", "version"]), "a file that changes after it was read")
        .default("error"),
];

static SINK: [OptionSpec; 3] = [
    OptionSpec::new("path", OptionKind::Text, "folder to write, below the connection").required(),
    OptionSpec::new(
        "format",
        OptionKind::Word(&["json", "csv", "parquet"]),
        "form of the files; json is one row a line",
    )
    .default("json"),
    OptionSpec::new(
        "compression",
        OptionKind::Word(&["none", "gzip", "zstd", "snappy", "lz4"]),
        "how files are packed; snappy and lz4 for parquet alone",
    )
    .default("none"),
];

fn records(spec: &SinkSpec) -> Result<Option<Arc<dyn RecordStore>>> {
    let folder = Location::open(spec.connection.required_text("path")?, &spec.root, &spec.connection)?;
    Ok(Some(Arc::new(ObjectRecords::new(folder.child(&format!("_lakehead/{}", spec.pipeline))?))))
}
