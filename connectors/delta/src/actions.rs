//! `add` and `remove` actions.

use lakehead_lakefile::WrittenFile;
use serde_json::{Map, Value, json};

use crate::live::LiveFile;
use crate::stats::Stats;
use crate::vectors::Descriptor;

/// Percent-encodes a file's name for the log (RFC 2396).
pub(crate) fn uri(name: &str) -> String {
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

/// Decodes a file's name as the log has it.
pub(crate) fn decoded(name: &str) -> String {
    let bytes = name.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| name.get(at + 1..at + 3)).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 3;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
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
        "path": file.path,
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

/// Says of an `add` of a new file which of its rows are gone already.
pub(crate) fn with_vector(mut action: Value, vector: &Descriptor) -> Value {
    let added = &mut action["add"];
    let stats: Option<Value> = added["stats"].as_str().and_then(|stats| serde_json::from_str(stats).ok());
    if let Some(mut stats) = stats {
        stats["tightBounds"] = false.into();
        added["stats"] = stats.to_string().into();
    }
    added["deletionVector"] = json!(vector);
    action
}

/// Returns the action that names the rows of a live file that are gone; it stands beside a [`remove`] of the file as it
/// was. Its statistics still bound the rows that stay, no longer closely; `rows` counts those that are gone too.
pub(crate) fn add_with_vector(file: &LiveFile, vector: &Descriptor, rows: u64) -> Value {
    let mut action = json!({
        "path": file.path,
        "partitionValues": partition_json(&file.partition),
        "size": file.size,
        "modificationTime": file.modified,
        "dataChange": true,
        "stats": Stats::loosened(file.stats.as_ref(), rows),
        "deletionVector": vector,
    });
    if !file.tags.is_empty() {
        action["tags"] = json!(file.tags);
    }
    json!({ "add": action })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_back_from_the_log() {
        for name in ["part-1.parquet", "day=2026-01-01/a b%20c.parquet", "ü=1/ü.parquet", "100%", "%4"] {
            assert_eq!(decoded(&uri(name)), name);
        }
        assert_eq!(decoded("a%2"), "a%2", "what is no code stays");
    }
}
