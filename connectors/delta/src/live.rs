//! A table as it is in one version, carried on from entry to entry of its log: a commit costs what it changes, however
//! long the history and however many files.

use std::collections::{BTreeMap, HashMap};

use arrow::datatypes::SchemaRef;
use deltalake::kernel::{Add, Remove};
use lakehead_core::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::schema::parse_schema_string;
use crate::vectors::Descriptor;

/// A live file of the table.
#[derive(Clone, Debug)]
pub(crate) struct LiveFile {
    /// The name relative to the table, decoded.
    pub(crate) name: String,
    pub(crate) size: i64,
    pub(crate) partition: Vec<(String, Option<String>)>,
    pub(crate) run: Option<String>,
    pub(crate) stats: Option<Value>,
    /// Milliseconds since the epoch.
    pub(crate) modified: i64,
    pub(crate) tags: BTreeMap<String, Option<String>>,
    /// The rows that are gone.
    pub(crate) vector: Option<Descriptor>,
}

impl LiveFile {
    /// Reads the action that made the file live.
    pub(crate) fn of(add: Add) -> Result<Self> {
        let vector = add.deletion_vector.map(serde_json::to_value).transpose();
        let vector = vector.and_then(|vector| vector.map(serde_json::from_value).transpose());
        let mut partition: Vec<_> = add.partition_values.into_iter().collect();
        partition.sort();
        let tags: BTreeMap<_, _> = add.tags.unwrap_or_default().into_iter().collect();
        Ok(Self {
            name: add.path,
            size: add.size,
            partition,
            run: tags.get("lakehead.run").cloned().flatten(),
            stats: add.stats.and_then(|stats| serde_json::from_str(&stats).ok()),
            modified: add.modification_time,
            tags,
            vector: vector.map_err(unreadable)?,
        })
    }

    /// Returns the rows of the file, those that are gone included, where its statistics say.
    pub(crate) fn rows(&self) -> Option<u64> {
        self.stats.as_ref()?.get("numRecords")?.as_u64()
    }
}

/// A table in one version.
#[derive(Clone, Debug)]
pub(crate) struct LiveTable {
    pub(crate) version: u64,
    pub(crate) identity: String,
    pub(crate) schema: SchemaRef,
    pub(crate) partition_by: Vec<String>,
    pub(crate) configuration: BTreeMap<String, String>,
    pub(crate) protocol: Value,
    pub(crate) files: HashMap<String, LiveFile>,
    /// Numbers of applications that were seen since the table was loaded.
    pub(crate) numbers: HashMap<String, u64>,
}

impl LiveTable {
    /// Returns whether rows may be taken out by deletion vectors.
    pub(crate) fn allows_vectors(&self) -> bool {
        let features = self.protocol["writerFeatures"].as_array();
        let declared = features.is_some_and(|features| features.iter().any(|feature| feature == "deletionVectors"));
        declared && self.configuration.get("delta.enableDeletionVectors").is_some_and(|value| value == "true")
    }

    /// Takes over the `metaData` action.
    pub(crate) fn take_metadata(&mut self, metadata: &Value) -> Result<()> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        self.identity = text(&metadata["id"]).unwrap_or_default();
        self.schema = parse_schema_string(metadata["schemaString"].as_str().unwrap_or_default())?;
        self.partition_by = metadata["partitionColumns"].as_array().into_iter().flatten().filter_map(text).collect();
        let pairs = metadata["configuration"].as_object().into_iter().flatten();
        self.configuration = pairs.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect();
        Ok(())
    }

    /// Carries the table on to `version`, whose entry is `body`.
    pub(crate) fn apply(&mut self, version: u64, body: &[u8]) -> Result<()> {
        let text = std::str::from_utf8(body).map_err(unreadable)?;
        let mut added = Vec::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let Value::Object(actions) = serde_json::from_str(line).map_err(unreadable)? else { continue };
            for (kind, action) in actions {
                match kind.as_str() {
                    "add" => added.push(LiveFile::of(parsed::<Add>(action)?)?),
                    // A file whose vector changed is removed and added by one entry, in any order.
                    "remove" => drop(self.files.remove(&parsed::<Remove>(action)?.path)),
                    "metaData" => self.take_metadata(&action)?,
                    "protocol" => self.protocol = action,
                    "txn" => {
                        let number = action["version"].as_i64().unwrap_or_default().cast_unsigned();
                        self.numbers.insert(action["appId"].as_str().unwrap_or_default().to_owned(), number);
                    }
                    _ => {}
                }
            }
        }
        self.files.extend(added.into_iter().map(|file| (file.name.clone(), file)));
        self.version = version;
        Ok(())
    }
}

fn parsed<T: DeserializeOwned>(action: Value) -> Result<T> {
    serde_json::from_value(action).map_err(unreadable)
}

fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::incident("R0218", "an entry of the table's log cannot be read")
        .help("the table was damaged, or written in a form that is not known here; restore it, or write a new one")
        .caused_by(error)
}
