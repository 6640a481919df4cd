//! What entries of a log say last: each action stands under a key, and the newest of a key is the one that holds.

use std::collections::HashMap;
use std::fmt::Write;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, StructArray};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use lakehead_core::{Error, Result};
use serde_json::Value;

/// How the `engineInfo` of our entries begins.
const WRITER: &str = "lakehead/";

/// Properties of a table that ask for checkpoints of another form than ours.
const OTHER_FORMS: [(&str, &str); 3] = [
    ("delta.checkpointPolicy", "v2"),
    ("delta.checkpoint.writeStatsAsStruct", "true"),
    ("delta.checkpoint.writeStatsAsJson", "false"),
];

/// The newest actions of some entries.
pub(super) struct Newest {
    /// Files that were taken out before are forgotten.
    since: i64,
    /// By key: the action as a line, or none where nothing of it stays.
    lines: HashMap<String, Option<String>>,
    other_form: bool,
    /// Whether somebody else wrote an entry of them.
    foreign: bool,
}

impl Newest {
    pub(super) fn new(since: i64) -> Self {
        Self { since, lines: HashMap::new(), other_form: false, foreign: false }
    }

    /// Takes an entry over that is newer than all before it.
    pub(super) fn take(&mut self, entry: &[u8]) -> Result<()> {
        let mut ours = false;
        for line in entry.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
            let action: Value = serde_json::from_slice(line).map_err(|error| {
                Error::incident("R0218", "an entry of the table's log cannot be read").caused_by(error)
            })?;
            let Value::Object(action) = action else { continue };
            if let Some((kind, body)) = action.into_iter().next() {
                ours |= kind == "commitInfo" && body["engineInfo"].as_str().is_some_and(|by| by.starts_with(WRITER));
                self.take_action(&kind, body);
            }
        }
        self.foreign |= !ours;
        Ok(())
    }

    fn take_action(&mut self, kind: &str, mut body: Value) {
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let key = match kind {
            "add" | "remove" => file_key(&body),
            "txn" => format!("txn {}", text("appId")),
            "domainMetadata" => format!("domain {}", text("domain")),
            "metaData" | "protocol" => kind.to_owned(),
            // What was done, and by whom, is not part of a table's state.
            _ => return,
        };
        let stays = match kind {
            "remove" => body["deletionTimestamp"].as_i64().is_none_or(|at| at >= self.since),
            "domainMetadata" => body["removed"] != Value::Bool(true),
            _ => true,
        };
        match kind {
            "add" | "remove" => body["dataChange"] = Value::Bool(false),
            "metaData" => {
                let property = |name: &str| body["configuration"][name].as_str();
                self.other_form |= OTHER_FORMS.iter().any(|(name, value)| property(name) == Some(value));
            }
            _ => {}
        }
        self.lines.insert(key, stays.then(|| format!("{{\"{kind}\":{body}}}")));
    }

    /// Returns whether files that were taken out may be in the table again: we give each file and each vector a name of its own, but
    /// others restore older versions.
    pub(super) fn may_bring_back(&self) -> bool {
        self.foreign
    }

    /// Returns whether the table asks for checkpoints that are not ours to write.
    pub(super) fn wants_another_form(&self) -> bool {
        self.other_form
    }

    /// Returns the actions that stay, in texts of about `size` bytes.
    pub(super) fn texts(&self, size: usize) -> impl Iterator<Item = Vec<u8>> {
        let mut lines = self.lines.values().flatten();
        std::iter::from_fn(move || {
            let mut text = Vec::new();
            while text.len() < size {
                let Some(line) = lines.next() else { break };
                text.extend_from_slice(line.as_bytes());
                text.push(b'\n');
            }
            (!text.is_empty()).then_some(text)
        })
    }

    /// Takes the rows of an older checkpoint out that newer actions have overtaken, or whose time is over.
    pub(super) fn without_overtaken(&self, rows: &RecordBatch, since: i64) -> Result<RecordBatch> {
        let old = Old::of(rows)?;
        let mut key = String::new();
        let mut stays = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            key.clear();
            let known = old.key(row, &mut key);
            stays.push(known && !old.is_over(row, since) && !self.lines.contains_key(&key));
        }
        Ok(filter_record_batch(rows, &BooleanArray::from(stays))?)
    }
}

/// The key of a file's action: its path and its vector's name (Delta protocol, "Action Reconciliation").
fn file_key(body: &Value) -> String {
    let mut key = String::from("file ");
    key.push_str(body["path"].as_str().unwrap_or_default());
    let vector = &body["deletionVector"];
    if let (Some(kind), Some(place)) = (vector["storageType"].as_str(), vector["pathOrInlineDv"].as_str()) {
        push_vector(&mut key, kind, place, vector["offset"].as_i64());
    }
    key
}

fn push_vector(key: &mut String, kind: &str, place: &str, offset: Option<i64>) {
    let _ = write!(key, "\n{kind}{place}");
    if let Some(offset) = offset {
        let _ = write!(key, "@{offset}");
    }
}

/// The files of one kind of action in a checkpoint.
struct OldFiles {
    actions: StructArray,
    paths: StringArray,
    times: Option<ArrayRef>,
    vectors: Option<OldVectors>,
}

struct OldVectors {
    vectors: StructArray,
    kinds: StringArray,
    places: StringArray,
    offsets: Option<ArrayRef>,
}

/// Rows of an older checkpoint.
struct Old {
    files: Vec<OldFiles>,
    /// What a name stands for: `txn` by its application, `domain` by its name.
    named: Vec<(&'static str, StructArray, StringArray)>,
    single: Vec<(&'static str, StructArray)>,
}

impl Old {
    fn of(rows: &RecordBatch) -> Result<Self> {
        let column = |name: &str| rows.column_by_name(name).and_then(|column| column.as_struct_opt()).cloned();
        let mut files = Vec::new();
        for kind in ["add", "remove"] {
            let Some(actions) = column(kind) else { continue };
            let Some(paths) = text(&actions, "path")? else { continue };
            let times = if kind == "remove" { actions.column_by_name("deletionTimestamp").cloned() } else { None };
            let vectors = actions.column_by_name("deletionVector").and_then(|column| column.as_struct_opt()).cloned();
            let vectors = vectors.map(OldVectors::of).transpose()?.flatten();
            files.push(OldFiles { actions, paths, times, vectors });
        }
        let mut named = Vec::new();
        for (kind, word, name) in [("txn", "txn", "appId"), ("domainMetadata", "domain", "domain")] {
            let Some(actions) = column(kind) else { continue };
            let Some(names) = text(&actions, name)? else { continue };
            named.push((word, actions, names));
        }
        let single = ["metaData", "protocol"].into_iter().filter_map(|kind| Some((kind, column(kind)?))).collect();
        Ok(Self { files, named, single })
    }

    /// Appends the key of a row; returns whether it is an action at all.
    fn key(&self, row: usize, key: &mut String) -> bool {
        if let Some(file) = self.files.iter().find(|file| file.actions.is_valid(row)) {
            key.push_str("file ");
            key.push_str(file.paths.value(row));
            if let Some(vectors) = file.vectors.as_ref().filter(|vectors| vectors.vectors.is_valid(row)) {
                let offset = vectors.offsets.as_ref().filter(|offsets| offsets.is_valid(row));
                push_vector(
                    key,
                    vectors.kinds.value(row),
                    vectors.places.value(row),
                    offset.and_then(|offsets| number(offsets, row)),
                );
            }
            return true;
        }
        if let Some((word, _, names)) = self.named.iter().find(|(_, actions, _)| actions.is_valid(row)) {
            let _ = write!(key, "{word} {}", names.value(row));
            return true;
        }
        let single = self.single.iter().find(|(_, actions)| actions.is_valid(row));
        key.push_str(single.map_or("", |(kind, _)| kind));
        single.is_some()
    }

    fn is_over(&self, row: usize, since: i64) -> bool {
        self.files.iter().filter(|file| file.actions.is_valid(row)).any(|file| {
            file.times
                .as_ref()
                .filter(|times| times.is_valid(row))
                .and_then(|times| number(times, row))
                .is_some_and(|at| at < since)
        })
    }
}

impl OldVectors {
    fn of(vectors: StructArray) -> Result<Option<Self>> {
        let (Some(kinds), Some(places)) = (text(&vectors, "storageType")?, text(&vectors, "pathOrInlineDv")?) else {
            return Ok(None);
        };
        let offsets = vectors.column_by_name("offset").cloned();
        Ok(Some(Self { vectors, kinds, places, offsets }))
    }
}

fn text(of: &StructArray, name: &str) -> Result<Option<StringArray>> {
    let Some(column) = of.column_by_name(name) else { return Ok(None) };
    Ok(cast(column, &DataType::Utf8)?.as_string_opt::<i32>().cloned())
}

fn number(column: &ArrayRef, row: usize) -> Option<i64> {
    let short = column.as_primitive_opt::<Int32Type>().map(|column| i64::from(column.value(row)));
    short.or_else(|| column.as_primitive_opt::<Int64Type>().map(|column| column.value(row)))
}
