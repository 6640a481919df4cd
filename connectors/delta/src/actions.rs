//! `add` and `remove` actions.

use lakehead_lakefile::WrittenFile;
use serde_json::{Map, Value, json};

use crate::log::LiveFile;

/// Percent-encodes a file's name for the log: our names hold nothing but `%` that a URI reads otherwise.
fn uri(name: &str) -> String {
    name.replace('%', "%25")
}

fn partition_json(values: &[(String, Option<String>)]) -> Value {
    let pairs: Map<_, _> = values.iter().map(|(column, value)| (column.clone(), json!(value))).collect();
    Value::Object(pairs)
}

/// Returns the action that makes a written file live.
pub(crate) fn add(file: &WrittenFile, partition: &[(String, Option<String>)], run: Option<&str>, millis: i64) -> Value {
    let mut action = json!({
        "path": uri(&file.name),
        "partitionValues": partition_json(partition),
        "size": file.size,
        "modificationTime": millis,
        "dataChange": true,
        "stats": file.statistics.to_delta(),
    });
    if let Some(run) = run {
        action["tags"] = json!({ "lakehead.run": run });
    }
    json!({ "add": action })
}

/// Returns the action that takes a file out.
pub(crate) fn remove(file: &LiveFile, millis: i64) -> Value {
    json!({ "remove": {
        "path": uri(&file.name),
        "deletionTimestamp": millis,
        "dataChange": true,
        "extendedFileMetadata": true,
        "partitionValues": partition_json(&file.partition),
        "size": file.size,
    }})
}
