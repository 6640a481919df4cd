//! `add` and `remove` actions.

use lakehead_lakefile::WrittenFile;
use serde_json::{Map, Value, json};

use crate::live::LiveFile;
use crate::vectors::Descriptor;

/// Percent-encodes a file's name for the log (RFC 2396).
fn uri(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'-'
            | b'_'
            | b'.'
            | b'~'
            | b'/'
            | b'='
            | b':'
            | b'+'
            | b','
            | b'@' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
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
    let mut action = json!({
        "path": uri(&file.name),
        "deletionTimestamp": millis,
        "dataChange": true,
        "extendedFileMetadata": true,
        "partitionValues": partition_json(&file.partition),
        "size": file.size,
    });
    if let Some(vector) = &file.vector {
        action["deletionVector"] = json!(vector);
    }
    json!({ "remove": action })
}

/// Says of an `add` or a `remove` that it changes no row of the table: the same rows stand elsewhere.
pub(crate) fn kept_rows(mut action: Value) -> Value {
    for kind in ["add", "remove"] {
        if let Some(action) = action.get_mut(kind) {
            action["dataChange"] = false.into();
        }
    }
    action
}

/// Returns the action that names the rows of a live file that are gone; it stands beside a [`remove`] of the file as it
/// was. Its statistics still bound the rows that stay, no longer closely; `rows` counts those that are gone too.
pub(crate) fn add_with_vector(file: &LiveFile, vector: &Descriptor, rows: u64) -> Value {
    let mut stats = file.stats.clone().unwrap_or_else(|| json!({}));
    stats["numRecords"] = rows.into();
    stats["tightBounds"] = false.into();
    let mut action = json!({
        "path": uri(&file.name),
        "partitionValues": partition_json(&file.partition),
        "size": file.size,
        "modificationTime": file.modified,
        "dataChange": true,
        "stats": stats.to_string(),
        "deletionVector": vector,
    });
    if !file.tags.is_empty() {
        action["tags"] = json!(file.tags);
    }
    json!({ "add": action })
}
