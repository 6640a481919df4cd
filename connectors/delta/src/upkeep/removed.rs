//! What a table's log says was taken out lately, deletion vectors with it: what a reader of an older version may need.

use std::collections::HashSet;

use arrow::array::{Array, AsArray, RecordBatch, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use futures::TryStreamExt;
use lakehead_core::{Error, Result};
use lakehead_lakefile::{Location, read_file, storage_error};
use object_store::ObjectStoreExt;
use serde_json::Value;

use crate::actions::decoded;
use crate::vectors;

/// Returns the names of data files and files of vectors that were taken out at `since` (milliseconds) or later, up to
/// `version`; `None` where the checkpoint has a form that is not read here.
pub(crate) async fn since(location: &Location, version: u64, since: i64) -> Result<Option<HashSet<String>>> {
    let mut names = HashSet::new();
    let log = list(location).await?;
    let newest = log.iter().filter_map(|name| checkpoint_version(name)).filter(|at| *at <= version).max();
    let parts: Vec<&String> =
        log.iter().filter(|name| newest.is_some() && checkpoint_version(name) == newest).collect();
    // `<version>.checkpoint.parquet`, or `<version>.checkpoint.<part>.<parts>.parquet`: any other keeps its actions aside.
    if parts.iter().any(|name| !(name.ends_with(".checkpoint.parquet") || name.split('.').count() == 5)) {
        return Ok(None);
    }
    for part in parts {
        let columns = ["remove".to_owned(), "sidecar".to_owned()];
        let mut batches = Box::pin(read_file(location, &format!("_delta_log/{part}"), Some(&columns)).await?);
        while let Some(batch) = batches.try_next().await? {
            if has_sidecars(&batch) {
                return Ok(None);
            }
            of_checkpoint(&batch, since, &mut names)?;
        }
    }
    for at in newest.map_or(0, |newest| newest + 1)..=version {
        let name = format!("_delta_log/{at:020}.json");
        let body = location.store().get(&location.path(&name)).await.map_err(|error| storage_error(error, &name))?;
        let body = body.bytes().await.map_err(|error| storage_error(error, &name))?;
        of_entry(&body, since, &mut names)?;
    }
    Ok(Some(names))
}

async fn list(location: &Location) -> Result<Vec<String>> {
    let prefix = location.path("_delta_log");
    let objects = location.store().list(Some(&prefix)).map_err(|error| storage_error(error, location.url().as_str()));
    objects.try_filter_map(|meta| async move { Ok(meta.location.filename().map(str::to_owned)) }).try_collect().await
}

fn checkpoint_version(name: &str) -> Option<u64> {
    let (version, rest) = name.split_once('.')?;
    (rest.starts_with("checkpoint") && name.ends_with(".parquet")).then(|| version.parse().ok())?
}

fn of_entry(body: &[u8], since: i64, names: &mut HashSet<String>) -> Result<()> {
    for line in body.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{\"remove\"")) {
        let action: Value = serde_json::from_slice(line)
            .map_err(|error| Error::incident("R0218", "an entry of the table's log cannot be read").caused_by(error))?;
        let removed = &action["remove"];
        if removed["deletionTimestamp"].as_i64().is_some_and(|at| at < since) {
            continue;
        }
        names.extend(removed["path"].as_str().map(decoded));
        let vector = &removed["deletionVector"];
        take_vector(vector["storageType"].as_str(), vector["pathOrInlineDv"].as_str(), names);
    }
    Ok(())
}

/// Returns whether a checkpoint keeps its actions in files of their own (version 2 under a classic name).
fn has_sidecars(batch: &RecordBatch) -> bool {
    batch.column_by_name("sidecar").is_some_and(|column| column.null_count() < column.len())
}

fn of_checkpoint(batch: &RecordBatch, since: i64, names: &mut HashSet<String>) -> Result<()> {
    let Some(removed) = batch.column_by_name("remove").and_then(|column| column.as_struct_opt()) else { return Ok(()) };
    let text = |of: &StructArray, name: &str| -> Result<Option<arrow::array::StringArray>> {
        let Some(column) = of.column_by_name(name) else { return Ok(None) };
        Ok(cast(column, &DataType::Utf8)?.as_string_opt::<i32>().cloned())
    };
    let paths = text(removed, "path")?;
    let times = removed.column_by_name("deletionTimestamp").and_then(|column| column.as_primitive_opt::<Int64Type>());
    let vectors = removed.column_by_name("deletionVector").and_then(|column| column.as_struct_opt());
    let kinds = vectors.map(|vectors| text(vectors, "storageType")).transpose()?.flatten();
    let texts = vectors.map(|vectors| text(vectors, "pathOrInlineDv")).transpose()?.flatten();
    let at = |column: &Option<arrow::array::StringArray>, row: usize| {
        column.as_ref().filter(|column| column.is_valid(row)).map(|column| column.value(row).to_owned())
    };
    for row in (0..removed.len()).filter(|row| removed.is_valid(*row)) {
        if times.is_some_and(|times| times.is_valid(row) && times.value(row) < since) {
            continue;
        }
        names.extend(at(&paths, row).as_deref().map(decoded));
        take_vector(at(&kinds, row).as_deref(), at(&texts, row).as_deref(), names);
    }
    Ok(())
}

fn take_vector(kind: Option<&str>, text: Option<&str>, names: &mut HashSet<String>) {
    if let (Some("u"), Some(text)) = (kind, text) {
        names.extend(vectors::file_name(text));
    }
}
