//! The columns of a checkpoint (Delta protocol, "Checkpoint Schema").

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::json::{LineDelimitedWriter, ReaderBuilder};
use lakehead_core::Result;

/// Rows of one batch that is decoded.
const BATCH_ROWS: usize = 8192;

fn text(name: &str) -> FieldRef {
    Arc::new(Field::new(name, DataType::Utf8, true))
}

fn long(name: &str) -> FieldRef {
    Arc::new(Field::new(name, DataType::Int64, true))
}

fn int(name: &str) -> FieldRef {
    Arc::new(Field::new(name, DataType::Int32, true))
}

fn truth(name: &str) -> FieldRef {
    Arc::new(Field::new(name, DataType::Boolean, true))
}

fn texts(name: &str) -> FieldRef {
    Arc::new(Field::new_list(name, Field::new("element", DataType::Utf8, true), true))
}

fn map(name: &str) -> FieldRef {
    let (key, value) = (Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true));
    Arc::new(Field::new_map(name, "key_value", key, value, false, true))
}

fn group<const N: usize>(name: &str, fields: [FieldRef; N]) -> FieldRef {
    Arc::new(Field::new_struct(name, Fields::from(fields.to_vec()), true))
}

fn vector() -> FieldRef {
    let fields = [text("storageType"), text("pathOrInlineDv"), int("offset"), int("sizeInBytes"), long("cardinality")];
    group("deletionVector", fields)
}

/// Returns the columns, one for each kind of action.
pub(super) fn schema() -> SchemaRef {
    let format = group("format", [text("provider"), map("options")]);
    let kinds = [
        group("txn", [text("appId"), long("version"), long("lastUpdated")]),
        group(
            "add",
            [
                text("path"),
                map("partitionValues"),
                long("size"),
                long("modificationTime"),
                truth("dataChange"),
                text("stats"),
                map("tags"),
                vector(),
                long("baseRowId"),
                long("defaultRowCommitVersion"),
                text("clusteringProvider"),
            ],
        ),
        group(
            "remove",
            [
                text("path"),
                long("deletionTimestamp"),
                truth("dataChange"),
                truth("extendedFileMetadata"),
                map("partitionValues"),
                long("size"),
                map("tags"),
                vector(),
                long("baseRowId"),
                long("defaultRowCommitVersion"),
            ],
        ),
        group(
            "metaData",
            [
                text("id"),
                text("name"),
                text("description"),
                format,
                text("schemaString"),
                texts("partitionColumns"),
                map("configuration"),
                long("createdTime"),
            ],
        ),
        group(
            "protocol",
            [int("minReaderVersion"), int("minWriterVersion"), texts("readerFeatures"), texts("writerFeatures")],
        ),
        group("domainMetadata", [text("domain"), text("configuration"), truth("removed")]),
    ];
    Arc::new(Schema::new(kinds.to_vec()))
}

/// Reads actions, one a line, as rows.
pub(super) fn decode(lines: &[u8]) -> Result<Vec<RecordBatch>> {
    let reader = ReaderBuilder::new(schema()).with_batch_size(BATCH_ROWS).build(Cursor::new(lines))?;
    Ok(reader.collect::<std::result::Result<_, _>>()?)
}

/// Brings rows of a checkpoint that others wrote into our form; ours stay as they are.
pub(super) fn conform(rows: &RecordBatch) -> Result<Vec<RecordBatch>> {
    let own = schema();
    if rows.schema().fields() == own.fields() {
        return Ok(vec![rows.clone()]);
    }
    let known: Vec<usize> =
        own.fields().iter().filter_map(|field| rows.schema_ref().index_of(field.name()).ok()).collect();
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write(&rows.project(&known)?)?;
    writer.finish()?;
    decode(&writer.into_inner())
}
